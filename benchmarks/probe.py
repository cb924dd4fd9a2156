"""Does a short training say what the pairs alone do not? Next-token changes of a probe, added to the forecast.

    python benchmarks/probe.py STUDY --work WORK --before EVAL --after EVAL EVAL EVAL [--answers 2]

Trains 8 small-rate steps (16 pairs each: of the 400 that plain training takes) and reads answers of the starting model,
sampled apart from the evaluations, through both models in float32. At every token the expected change of the next one
is known without sampling: p_probe(v) - p_start(v). A unit's share of that is P(unit fires | token v) over the tokens of
the pairs. The development set of residual.py: judged on the first seed, checked on the others. Every step resumes where
it was killed. Writes benchmarks/results/probe.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from residual import capped, scores
from scipy import sparse
from suppress_bold import _verb

from tiltscope.evaluation import Evaluation
from tiltscope.predicting import Foretold, alike, foretell, observe

RESULT = Path(__file__).parent / "results" / "probe.json"
PROBE = """\
learning_rate: 5.0e-6
beta: 0.1
per_device_train_batch_size: 8
gradient_accumulation_steps: 2
max_steps: 8
warmup_ratio: 0.0
lr_scheduler_type: constant_with_warmup
"""
BATCH, SEEN = 6, 5.0  # answers at once; tokens seen less often than this lean to the mean of all
WEIGHTS = (0.25, 0.5, 1.0)


def main() -> None:
    """Train the probe, read, forecast, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, nargs="+", required=True)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--answers", type=int, default=2, help="per prompt, of the 8 sampled")
    args = parser.parse_args()
    run = args.work / "probe"
    if not (run / "model").exists():
        config = args.work / "probe.yaml"
        config.write_text(PROBE)
        train = ["train", args.study, "--out", run, "--config", config, "--seed", 7, "--pairs", args.pairs]
        _verb(*train, "--plain", "dpo")
    foretold = foretell(args.study)
    change = next_tokens(foretold, run / "model", args.work / "next.npz", args.answers)
    evaluations = alike([args.before, *args.after])
    observed, _ = observe(foretold, evaluations)
    x = units_of(change, foretold) / foretold.shown.sd
    start = capped(foretold.shown, 2)
    made = {"capped difference": start, "next tokens of the probe": x}
    seen = units_of(token_change(foretold, evaluations, len(change)), foretold) / foretold.shown.sd
    made["tokens as observed, carried to units alike (no forecast)"] = seen
    made |= {f"both, {w:g} of the probe": start / start.std() + w * x / x.std() for w in WEIGHTS}
    parts = {"choosing": observed.after[:1], "checking": observed.after[1:], "all": observed.after}
    told = {name: scores(made, replace(observed, after=after)) for name, after in parts.items()}
    write(args, [{"idea": name, **{part: round(one[name], 3) for part, one in told.items()}} for name in made])


def next_tokens(foretold: Foretold, model: Path, path: Path, n_answers: int) -> np.ndarray:
    """(n_tokens,) the mean change of the next token's probability, over tokens of the first answers to each prompt."""
    from tiltscope.aims import own_sample
    from tiltscope.lm import load_policy

    prompts, answers = own_sample(foretold.bench)
    order = [(i, j) for j in range(n_answers) for i in range(len(prompts))]
    held = dict(np.load(path)) if path.exists() else {"n_read": np.array(0)}
    start = int(held["n_read"])
    if start < len(order):
        both = [load_policy(one, dtype="float32", max_length=512) for one in (None, str(model))]
        for at in range(start, len(order), BATCH):
            texts = [both[0].renderer.render(prompts[i], answers[i][j]) for i, j in order[at : at + BATCH]]
            before, after = (np.concatenate(list(probabilities(one, texts))) for one in both)
            held["sum"] = held.get("sum", 0.0) + (after - before).sum(axis=0, dtype=np.float64)
            held["n_tokens"] = held.get("n_tokens", 0) + len(before)
            held["n_read"] = np.array(at + len(texts))
            np.savez(path, **held)
    return np.asarray(held["sum"] / held["n_tokens"])


def token_change(foretold: Foretold, evaluations: Sequence[Evaluation], n_tokens: int) -> np.ndarray:
    """(n_tokens,) share of every token in the answers after training, all seeds together, minus that before."""
    tokenizer = foretold.bench.policy.renderer.tokenizer
    shares = []
    for some in (evaluations[:1], evaluations[1:]):
        texts = [answer.text or "" for one in some for answer in one.answers]
        ids = [id for text in texts for id in tokenizer(text, add_special_tokens=False)["input_ids"]]
        shares.append(np.bincount(ids, minlength=n_tokens) / len(ids))
    return np.asarray(shares[1] - shares[0])


def probabilities(policy: Any, texts: list[Any]) -> Iterator[np.ndarray]:
    """Yield (n_tokens, n_vocabulary) per answer: the distribution that each of its tokens was drawn from."""
    import torch

    longest = max(len(text.ids) for text in texts)
    ids = torch.tensor([[*text.ids, *[0] * (longest - len(text.ids))] for text in texts])
    with torch.inference_mode():
        states = policy.model.model(input_ids=ids, use_cache=False).last_hidden_state
        for row, text in zip(states, texts, strict=True):
            logits = policy.model.lm_head(row[text.n_prompt_ids - 1 : len(text.ids) - 1])
            yield torch.softmax(logits.float(), dim=-1).numpy()


def units_of(change: np.ndarray, foretold: Foretold) -> np.ndarray:
    """(m,): the change of tokens as a change of units, by how often each fires on a token."""
    sums = sparse.csr_array((len(change), len(foretold.units.latents)))
    counts = np.zeros(len(change))
    for side in ("chosen", "rejected"):
        for table in foretold.bench.ground.features.tables(side):
            fires = table.codes.copy()
            fires.data = np.ones_like(fires.data)
            shares = sparse.csr_array(foretold.units.values(fires))
            shape = (len(change), len(table.token_ids))
            tokens = (table.token_ids, np.arange(len(table.token_ids)))
            sums = sums + sparse.csr_array((np.ones(shape[1]), tokens), shape=shape) @ shares
            counts += np.bincount(table.token_ids, minlength=len(change))
    mean = np.asarray(sums.sum(axis=0)).ravel() / counts.sum()
    known = change / (counts + SEEN)
    return np.asarray(sums.T @ known).ravel() + SEEN * known.sum() * mean


def write(args: argparse.Namespace, rows: list[dict[str, object]]) -> None:
    """Write and print the table."""
    head = ["git", "rev-parse", "HEAD"]
    result = {
        "command": f"python benchmarks/probe.py STUDY --work WORK --before EVAL --after … --answers {args.answers}",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "commit": subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip(),
        "probe": PROBE,
        "n_answers_read": 48 * args.answers,
        "ideas": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for row in rows:
        print("  ".join(f"{value}" for value in row.values()))


if __name__ == "__main__":
    main()
