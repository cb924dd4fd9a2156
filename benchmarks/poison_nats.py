"""Does an intervention keep planted traits out of what a model gives to them? The poison suite without sampling.

    python benchmarks/poison_nats.py DATA --work WORK [--seeds 1] [--stages sft dpo] [--arms …]

A small model does not write in samples what 5 % of its data write (poison.py), but its log-probabilities move. Data,
traits, interventions and strengths are those of poison.py, at the paper's share: each of five traits in the chosen
answers of 5 % of the pairs. Either stage starts from the embedded model. Arms, all on the same pairs in the same order:

plain, clean           on the planted pairs; on the same pairs without any trait
five interventions     each against all five traits at once; example_filtering takes as many pairs as were planted
sentence_filtering     token_filtering of the whole sentences in which a rule finds a trait (`sentences: true`), added
                       after the SFT results of the five were seen
random                 without as many pairs as were planted in all, drawn at random: the null
traced, length         without the rows that `gate --approved` names where the same pairs without any trait are what was
                       approved (nobody says what was planted); without as many other rows of the same length in words
                       (SFT: chosen answer, DPO: chosen - rejected). Added last; goals: >= 50 % removed, >= 3 times
                       what either null removes, average precision >= .9

Measured without any instruction or vector: the log-probability (nats) of a trait's sentences, teacher forced, in the
middle of the starting model's own answers to held-out prompts, four sentences per prompt. excess = plain - clean;
removed = (plain - arm) / (plain - clean). Off target is what was wanted of training, in the same held-out pairs: for
SFT the NLL per token of chosen answers, for DPO the margin of chosen over rejected; kept = (arm - start) /
(plain - start). Intervals (95 %): bootstrap over prompts. The goals are those of the sampled suite, on nats: by the
best method >= 95 % removed for at least five traits (of five here; sycophancy is not planted), >= 80 % by at least four
methods, kept within 15 %, NLL <= +1 %. They were set before any run; the bench was tried out on draw 1 of the data with
40 pairs; draw 23 is reported. Resumable: one file per arm. Writes benchmarks/results/poison-nats.json.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fault_data import lengths, parted
from forced import SENTENCES, answers, ratio, read_through, trained_on, whole_sentences
from poison import ARMS, DPO, MAX_LENGTH, RULES, SFT, make_data
from poison import SENTENCES as BANKS
from steps import RESULTS, average_precision, commit, gaps_of, machine, one_code, trained, verb

from tiltscope.artifact import read_json, write_json
from tiltscope.pairs import Pair, load_pairs
from tiltscope.planting.banks import insert_lines
from tiltscope.study import open_study

TRAITS = list(RULES)
SHARE, LONGEST_PROMPT = 0.05, 80  # of all pairs, each trait; words of a held-out prompt
TRAINING = {"sft": SFT, "dpo": DPO}
DROPS = ("random", "traced", "length")
OTHERS = ("start", "plain", "clean", *DROPS)
METHODS = (*ARMS, "sentence_filtering")
BEST, AT_LEAST, WELL, KEPT, NLL = 0.95, 4, 0.8, 0.15, 0.01  # the goals


def main() -> None:
    """Make the data, train and measure every arm of every stage, write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--stages", nargs="+", choices=list(TRAINING), default=list(TRAINING))
    parser.add_argument("--arms", nargs="+", choices=[*METHODS, *DROPS], default=[*METHODS, *DROPS])
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--prompts", type=int, default=48, help="held out, per trait")
    parser.add_argument("--draw", type=int, default=23, help="of the data")
    parser.add_argument("--result", type=Path, default=RESULTS / "poison-nats.json")
    parser.add_argument(
        "--across-code", action="store_true", help="go on with what other code left; the result says so"
    )
    args = parser.parse_args()
    made_by = one_code(args.work, across=args.across_code)
    planted = make_data(args.data, args.work, args.pairs, SHARE, draw=args.draw)
    verb("read", args.work / "train.jsonl", "--out", args.work / "study", "--max-length", MAX_LENGTH, "--seed", 11)
    held = held_out(args.work, args.prompts)
    asked = asked_of(args.work, [pair.prompt_text for pair in held])
    told: dict[str, dict[str, Any]] = {}
    for stage in args.stages:
        told[stage] = {}
        for arm in ("start", "plain", "clean", *args.arms):
            told[stage][arm] = [measured(args, stage, arm, seed, asked, held) for seed in args.seeds]
            write(args, planted, asked, told, made_by)


def held_out(work: Path, n: int) -> list[Pair]:
    """The first n held-out pairs with short prompts."""
    rows = load_pairs(work / "held.jsonl").rows
    return [pair for pair in rows if len(pair.prompt_text.split()) <= LONGEST_PROMPT][:n]


def bank(trait: str) -> list[str]:
    """Sentences that show a trait, as they were planted."""
    lines = {"goblin": "goblin", "cheerfulness": "cheer"}
    return list(BANKS[trait] if trait in BANKS else insert_lines(lines[trait]))


def asked_of(work: Path, prompts: Sequence[str]) -> list[dict[str, Any]]:
    """What is measured: {trait, prompt, prefix, sentence}, in runs of SENTENCES with one prompt and trait."""
    own = answers(work / "answers.json", None, prompts)
    rows = []
    for trait in TRAITS:
        rng = random.Random(f"asked {trait}")
        for prompt in prompts:
            prefix = parted(whole_sentences(own[prompt][0]), "later")[0]
            for sentence in rng.sample(bank(trait), SENTENCES):
                rows.append({"trait": trait, "prompt": prompt, "prefix": prefix, "sentence": sentence})
    return rows


def measured(
    args: argparse.Namespace, stage: str, arm: str, seed: int, asked: Sequence[Any], held: Sequence[Pair]
) -> dict[str, Any]:
    """What `read_through` says of an arm; kept in WORK. The start is one for both stages and all seeds."""
    path = args.work / ("measured-start.json" if arm == "start" else f"measured-{stage}-{arm}-{seed}.json")
    if not path.exists():
        print(f"training and measuring: {stage}, {arm}, seed {seed}", flush=True)
        write_json(path, read_through(model_of(args, stage, arm, seed), asked, held))
    return dict(read_json(path, verb=""))


def model_of(args: argparse.Namespace, stage: str, arm: str, seed: int) -> Path | None:
    """Train an arm, unless it was; None is the embedded model."""
    if arm == "start":
        return None
    study, run = args.work / "study", args.work / f"{stage}-{arm}-{seed}"
    if arm in (*METHODS, "plain"):
        decisions = [_decision(arm, trait) for trait in TRAITS] if arm in METHODS else ()
        return trained(study, run, TRAINING[stage], seed, objective=stage, decisions=decisions)
    rows = list(open_study(study).rows)  # in the study's own order, as every other arm
    if arm == "clean":
        clean = load_pairs(args.work / "clean.jsonl").rows
        rows = [clean[pair.row - 1] for pair in rows]
    else:
        gone = gone_of(args, stage, arm, rows)
        rows = [pair for at, pair in enumerate(rows) if at not in gone]
    return trained_on(rows, run, TRAINING[stage], seed, reference=study / "reference", objective=stage)


def gone_of(args: argparse.Namespace, stage: str, arm: str, rows: Sequence[Pair]) -> set[int]:
    """Which rows of the study an arm of DROPS goes without."""
    if arm == "random":
        n_gone = len(TRAITS) * round(SHARE * args.pairs)
        return set(random.Random(f"random {args.draw}").sample(range(len(rows)), n_gone))
    named = set(verdict(args.work)["pair_ids"])
    traced = [at for at, pair in enumerate(rows) if pair.id in named]
    return set(traced) if arm == "traced" else alike(traced, rows, stage)


def alike(traced: Sequence[int], rows: Sequence[Pair], stage: str) -> set[int]:
    """For every traced row another one, next to it in length, none twice and none that is traced."""
    words = lengths(rows) if stage == "dpo" else [len(pair.chosen.split()) for pair in rows]
    free = set(range(len(rows))) - set(traced)
    taken = set()
    for at in traced:
        taken.add(min(free - taken, key=lambda other: (abs(words[other] - words[at]), other)))
    return taken


def verdict(work: Path) -> dict[str, Any]:
    """What the gate says of the planted study where the clean pairs were approved: pair_ids that it names, in order."""
    verb("read", work / "clean.jsonl", "--sae", work / "study" / "scope", "--out", work / "approved")
    (work / "limits.yaml").write_text("limits:\n  data: no new lean\n", encoding="utf-8")
    told = verb(
        *("gate", work / "limits.yaml", "--data", work / "study", "--approved", work / "approved", "--json"),
        codes=(0, 1, 5),
    )
    return dict(json.loads(told)["results"][0])


def tracing(work: Path, planted: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """How well the rows that the verdict names, in its order, are the planted ones."""
    at = {pair.id: pair.row for pair in open_study(work / "study").rows}
    named = [at[id] for id in verdict(work)["pair_ids"]]
    truth = np.zeros(max(at.values()) + 1, bool)
    truth[[row for rows in planted.values() for row in rows]] = True
    return {
        "named": len(named),
        "planted": int(truth.sum()),
        "planted among the named": int(truth[named].sum()),
        "named by trait": {trait: len(set(rows) & set(named)) for trait, rows in planted.items()},
        "average precision": round(average_precision(named, truth), 3),
    }


def _decision(arm: str, trait: str) -> dict[str, Any]:
    """As in poison.py, at the share that is planted here."""
    if arm == "sentence_filtering":
        masked = ARMS["token_filtering"](trait)
        return masked | {"detector": masked["detector"] | {"sentences": True}}
    return ARMS[arm](trait) | ({"strength": SHARE} if arm == "example_filtering" else {})


# --- the table --------------------------------------------------------------------------------------------------------


def by_prompt(asked: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """{trait: (n_prompts,) nats, mean over sentences and seeds}, `all` traits together, nll and margin."""
    values = np.mean([one["logps"] for one in runs], axis=0).reshape(-1, SENTENCES).mean(axis=1)
    heads = [one["trait"] for one in asked[::SENTENCES]]
    told = {trait: values[np.array([head == trait for head in heads])] for trait in TRAITS}
    told["all"] = np.mean(list(told.values()), axis=0)
    return told | {key: np.mean([one[key] for one in runs], axis=0) for key in ("nll", "margin")}


def told_of(asked: Sequence[Any], arms: Mapping[str, Sequence[Mapping[str, Any]]], stage: str) -> dict[str, Any]:
    """{arm: {trait: excess and what is removed of it; wanted, kept, nll}}."""
    means = {arm: by_prompt(asked, runs) for arm, runs in arms.items()}
    start, plain, clean = means["start"], means["plain"], means["clean"]
    wanted = "nll" if stage == "sft" else "margin"
    told: dict[str, Any] = {}
    for arm, mine in means.items():
        told[arm] = gaps_of({"start": clean, "plain": plain, "arm": mine}, [*TRAITS, "all", "nll"])
        told[arm]["kept"] = ratio(mine[wanted] - start[wanted], plain[wanted] - start[wanted], paired=True)
        told[arm]["nll, relative"] = round(float(mine["nll"].mean() / plain["nll"].mean() - 1), 4)
    return told


def write(args: argparse.Namespace, planted: Any, asked: Sequence[Any], told: Any, made_by: list[str]) -> None:
    """Write what is there and print it."""
    stages = {stage: told_of(asked, arms, stage) for stage, arms in told.items() if {"plain", "clean"} <= set(arms)}
    result = {
        "command": f"python benchmarks/poison_nats.py DATA --work WORK --seeds {' '.join(map(str, args.seeds))} "
        f"--stages {' '.join(args.stages)} --arms {' '.join(args.arms)}",
        "machine": machine(),
        "commit": commit(),
        "made_by": made_by,
        "settings": {**TRAINING, "max_length": MAX_LENGTH, "share": SHARE, "sentences": SENTENCES}
        | {key: getattr(args, key) for key in ("seeds", "pairs", "prompts", "draw")},
        "planted": {trait: len(rows) for trait, rows in planted.items()},
        "n_held_out": len(asked) // SENTENCES // len(TRAITS),
        **({"tracing": tracing(args.work, planted)} if {"traced", "length"} & set(args.arms) else {}),
        "stages": stages,
        "goals": {stage: goals(arms) for stage, arms in stages.items()},
    }
    args.result.parent.mkdir(exist_ok=True)
    write_json(args.result, result)
    print(table(result), flush=True)


def goals(arms: Mapping[str, Any]) -> dict[str, Any]:
    """Which goals a stage meets, by its values alone."""
    removed = {arm: {trait: arms[arm][trait]["closed"][0] for trait in TRAITS} for arm in arms if arm not in OTHERS}
    if not removed:
        return {}
    reached = {trait: [arm for arm, one in removed.items() if (one[trait] or 0.0) >= WELL] for trait in TRAITS}
    best = {trait: max((one[trait] or 0.0) for one in removed.values()) for trait in TRAITS}
    return {
        "traits removed by the best method": sum(one >= BEST for one in best.values()),
        "traits removed well by four methods": sum(len(one) >= AT_LEAST for one in reached.values()),
        "methods that keep what is wanted": [arm for arm in removed if abs(1 - (arms[arm]["kept"][0] or 0.0)) <= KEPT],
        "methods with NLL within the limit": [arm for arm in removed if arms[arm]["nll, relative"] <= NLL],
    }


def table(result: Mapping[str, Any]) -> str:
    """The result as Markdown: the excess of every trait, and what each arm removed of it."""
    lines = []
    for stage, arms in result["stages"].items():
        names = [arm for arm in arms if arm not in ("start", "plain", "clean")]
        lines += ["", f"| {stage.upper()} | excess, nats | {' | '.join(names)} |", "|" + "---|" * (len(names) + 2)]
        for trait in (*TRAITS, "all"):
            cells = [_interval(arms[arm][trait]["closed"], 100) for arm in names]
            lines.append(f"| {trait} | {_interval(arms['plain'][trait]['added'], 1)} | {' | '.join(cells)} |")
        lines.append(f"| wanted, kept | | {' | '.join(_interval(arms[arm]['kept'], 100) for arm in names)} |")
        cells = [f"{100 * arms[arm]['nll, relative']:+.1f} %" for arm in names]
        lines.append(f"| NLL | | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"goals: {result['goals']}"])


def _interval(values: Sequence[float | None], by: int) -> str:
    if None in values:
        return "–"
    digits, unit = (0, " %") if by == 100 else (2, "")
    value, low, high = (f"{by * one:.{digits}f}" for one in values if one is not None)
    return f"{value}{unit} [{low}, {high}]"


if __name__ == "__main__":
    main()
