"""SFT data become preference pairs: the rejected side is the starting model's own answer.

In:  pairs whose rejected side is empty (`pairs.load_sft`), how the model is asked, a file to write.
Out: that file, an ordinary preference JSONL; beside it FILE.answers/ with the answers as they came and answered.json.
Refuses: to write over a file it did not make, and a folder with answers to something else. What makes no pair is
     counted and left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltscope.artifact import claim, fingerprint, write_json, write_text
from tiltscope.behaviours.measured import Prompt
from tiltscope.errors import UsageError
from tiltscope.evaluation.answers import EvaluationSettings, collect_answers
from tiltscope.pairs import REASONS, Pair, Pairs, Turn

if TYPE_CHECKING:
    from tiltscope.lm import Policy

__all__ = ["LEFT_OUT", "Answering", "answer_sft"]

Progress = Callable[[str, int, int], None]

LEFT_OUT = {
    "prompt_too_long": "the prompt fills --max-length, or the chat template refuses it",
    "empty": "the model's own answer is empty",
    "same": "the model's own answer is the data's",
}


@dataclass(frozen=True)
class Answering:
    """How the starting model is asked."""

    model: str | None = None
    """Hub id or folder; None: the embedded model."""
    template: str | None = None
    device: str | None = None
    max_length: int = 1024
    """Tokens of a prompt, as reading and training have it."""
    max_new_tokens: int = 256
    """Where an answer is cut."""
    temperature: float = 0.7
    """0: the likeliest answer."""
    seed: int = 0


def answer_sft(pairs: Pairs, asked: Answering, out: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """Ask the model once per distinct prompt and write OUT: prompt, chosen (the data's), rejected (the model's).

    Other columns of the data are kept, so --group and --domain name the same columns as before; `sft_row` is the row
    of the data. Killed, the same call goes on where it stopped and writes the same bytes. Returns answered.json.

    Raises:
        UsageError: OUT is there and not ours, or no pair is left.
        ProductError: OUT.answers/ holds answers to other data, or by another model or other settings.
    """
    from tiltscope.lm import load_policy

    folder = out.with_name(f"{out.name}.answers")
    if out.exists() and not (folder / "asked.json").exists():
        raise UsageError("there is a file of this name already", where=str(out), hint="choose another --out")
    policy = load_policy(asked.model, device=asked.device, template=asked.template, max_length=asked.max_length)
    how = [asked.max_length, asked.max_new_tokens, asked.temperature, asked.seed]
    claim(
        folder,
        fingerprint(policy.fingerprint, pairs.fingerprint, how),
        what="set of answers",
        verb="answer",
        found="answers to other data (or another sample), by another model, or with other settings",
    )
    texts = _own_answers(policy, pairs.rows, asked, folder, progress)
    rows, left_out = _paired(pairs.rows, texts)
    if not rows:
        told = ", ".join(f"{n} × {LEFT_OUT[reason]}" for reason, n in left_out.items())
        raise UsageError("no pair is left", where=pairs.source, found=told, hint="another --model or --max-length")
    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    product = _product(pairs, asked, len(rows), left_out) | {"n_cut": _n_cut(policy, texts, asked.max_new_tokens)}
    write_json(folder / "answered.json", product)
    return product


def _key(prompt: Sequence[Turn]) -> str:
    return fingerprint([[turn.role, turn.content] for turn in prompt])


def _own_answers(
    policy: Policy, rows: Sequence[Pair], asked: Answering, folder: Path, progress: Progress | None
) -> dict[str, str]:
    """{key of a prompt: the model's answer}, without the prompts that do not fit; kept in FOLDER as they come."""
    from tiltscope.lm import Sampling, generate

    def answer(
        prompts: Sequence[tuple[Turn, ...]], *, n: int, seed: int, temperature: float, max_new_tokens: int
    ) -> list[list[str]]:
        return generate(policy, prompts, Sampling(n, seed, temperature, max_new_tokens))

    settings = EvaluationSettings(policy.fingerprint, 1, (asked.seed,), asked.temperature, asked.max_new_tokens)
    bar = None if progress is None else lambda done, total: progress("answers", done, total)
    said = collect_answers(answer, _prompts(policy, rows), settings, folder, progress=bar)
    return {one.prompt_id: one.text or "" for one in said}


def _prompts(policy: Policy, rows: Sequence[Pair]) -> list[Prompt]:
    """Every distinct prompt that fits, shortest first: a batch then is padded little."""
    from tiltscope.lm import Unreadable

    lengths: dict[str, int] = {}
    prompts = {_key(row.prompt): row.prompt for row in rows}
    for key, prompt in prompts.items():
        try:
            lengths[key] = policy.renderer.render(prompt, "").n_prompt_ids
        except Unreadable:
            continue
    return [Prompt(key, "sft", prompts[key]) for key in sorted(lengths, key=lambda key: (lengths[key], key))]


def _paired(rows: Sequence[Pair], texts: dict[str, str]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The rows of the preference file, in the order of the data, and how many fell out by reason."""
    made: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        own = texts.get(_key(row.prompt))
        reason = _reason(row.chosen, own)
        if reason:
            left_out[reason] += 1
            continue
        pair = {"prompt": [asdict(turn) for turn in row.prompt], "chosen": row.chosen, "rejected": own}
        made.append({**row.extra, **pair, "sft_row": row.row})
    return made, left_out


def _reason(chosen: str, own: str | None) -> str:
    if own is None:
        return "prompt_too_long"
    if not own.strip():
        return "empty"
    return "same" if own.strip() == chosen.strip() else ""


def _n_cut(policy: Policy, texts: dict[str, str], max_new_tokens: int) -> int:
    """How many answers reach the limit when tokenised again: about those that were cut."""
    tokenizer = policy.renderer.tokenizer
    return sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) >= max_new_tokens for text in texts.values())


def _product(pairs: Pairs, asked: Answering, n_pairs: int, left_out: Counter[str]) -> dict[str, Any]:
    """What answered.json holds."""
    refused = Counter(one.reason for one in pairs.refused)
    return {
        "source": pairs.source,
        "shape": pairs.shape,
        "n_records": pairs.n_records,
        "n_rows": len(pairs),
        "n_pairs": n_pairs,
        "refused": _counted(refused, REASONS),
        "left_out": _counted(left_out, LEFT_OUT),
        "settings": asdict(asked),
    }


def _counted(reasons: Counter[str], words: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"reason": one, "explanation": words[one], "n": n} for one, n in reasons.most_common()]
