"""Can one style be suppressed without its siblings? Styles that real pairs teach together, each suppressed in turn.

    python benchmarks/selectivity.py DATA --work WORK [--stages sft dpo] [--seeds 1] [--methods masked flat]

DATA are real pairs (alpaca-eval). One seeded sample is trained on plainly, by SFT on its chosen side and by DPO, both
from the embedded model, and then once for each style and method, with the same pairs in the same order. The styles of
a stage are those layout rules whose rate plain training of the first seed moves by at least 5 points, at most the five
that move most. Each of which there is more is a target, suppressed back to where it was before training, by

    masked    token filtering of what begins or marks the target and nothing else (MARKS)
    flat      reward shaping, aim_rate: start, nothing held
    held      the same, with the other styles held where the pairs' labels would have them
    tilt      aim_rate as a number: the minimum-KL tilt of the starting model's own answers, the other styles held
    partial   reward shaping by the target's coefficient in one Bradley-Terry fit of all styles
    spans     token filtering of all that the library's rule marks: of bold text and parentheses also the words between
              the marks and the closing mark; of other styles the same as `masked`
    together  `spans` and `flat` in one plan (these two were added after `masked` left a quarter of bold text in DPO)

    without   no training at all: the probabilities of the plainly trained model with the target's taken away and all
              others raised in proportion, place by place; added after masks of bold text were seen to raise lists

Two nulls say what a share of a gap is worth: `again`, plain training with another seed (another order of the pairs),
and `words`, token filtering of two words that are no style, in the same order as every other arm.

Measured on prompts of which no pair was trained on, without sampling: how likely a model would begin a style
(`tiltscope evaluate --openings`) in the held-out chosen answer and in the starting model's own answer, the same texts
for every arm. With --sampled also rates: what a model answers to those prompts. Closed: 1 - (arm - start) / (plain -
start), of the target's gap, and of each sibling's own gap (which should stay open); 95 % bootstrap over prompts. Kept:
what plain training gained in NLL (SFT) or margin (DPO) of held-out pairs. The goals: target >= 90 % closed, every
sibling <= 10 %, either way, by value. Fixed before any arm was trained, but for two things that plain training showed:
the measure, which was the expected number of openings at first and hardly moved with plain SFT (a text with a list goes
on with a list under every model), and the null `words`, because `again` alone moved siblings by two fifths of their
gaps. The bench was tried out on draw 1 with 24 pairs. Resumable: one file per arm.
Writes benchmarks/results/selectivity.json.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from forced import answers, ratio
from poison import DPO, SFT
from steps import RESULTS, commit, gaps_of, machine, one_code, trained, verb, write_lines

from tiltscope.artifact import read_json, write_json
from tiltscope.behaviours import rule
from tiltscope.evaluation import read_evaluation
from tiltscope.forced import OPENINGS, STYLES, beginners, first_chance, openings, places
from tiltscope.lm import Policy, load_policy, next_token_mass, response_logps
from tiltscope.pairs import Pair, load_pairs
from tiltscope.study import open_study

TRAINING = {"sft": SFT, "dpo": DPO}
MAX_LENGTH, LONGEST_PROMPT = 192, 80  # tokens trained on; words of a held-out prompt
MOVED, MOST = 0.05, 5
TARGET, SIBLING = 0.9, 0.1  # the goals
AGAIN = 100  # added to the seed of the null
METHODS = ("masked", "flat", "held", "tilt", "partial", "spans", "together")
NULLS, UNTRAINED = ("again", "words"), "without"
WORDS = r"(?i)\b(?:the|of)\b"
MARKS = {"bold": r"(?<![^\s(\"'“])(?:\*\*|__)(?=[^\s*_])", "parentheses": r"\("}
"""What a mask of a style takes where the library's rule takes the words between the marks, too."""


def main() -> None:
    """Make the data, choose the styles of every stage, train and measure every arm, write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--stages", nargs="+", choices=list(TRAINING), default=list(TRAINING))
    parser.add_argument(
        "--methods", nargs="+", choices=[*NULLS, UNTRAINED, *METHODS], default=[*NULLS, "masked", "flat"]
    )
    parser.add_argument("--targets", nargs="+", choices=STYLES, default=[], help="of the styles that move (all)")
    parser.add_argument("--sampled", action="store_true", help="rates of every arm, too; else of start and plain")
    parser.add_argument("--result", type=Path, default=RESULTS / "selectivity.json")
    add_settings(parser)
    args = parser.parse_args()
    made_by = one_code(args.work, across=args.across_code)
    verb(*("read", args.data, "--out", args.work / "study", "--sample", args.pairs), *_cut(), "--seed", args.draw)
    held = held_out(args)
    stages: dict[str, Any] = {}
    for stage in args.stages:
        rates = {arm: _rates(_asked(args, stage, arm, args.seeds[0])) for arm in ("start", "plain")}
        styles = moved(rates)
        stages[stage] = {"styles": styles, "rates": {id: [float(rates[a][id].mean()) for a in rates] for id in STYLES}}
        stages[stage]["arms"] = []
        more = [id for id in styles if rates["plain"][id].mean() > rates["start"][id].mean()]
        targets = [id for id in more if id in (args.targets or more)]
        arms = [(method, id) for method in args.methods for id in ([None] if method in NULLS else targets)]
        for method, target in [("plain", None), *arms]:
            stages[stage]["arms"].append(_told(args, stage, method, target, styles, held))
            _write(args, stages, made_by, len(held))


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options that say which pairs and prompts, which all arms in one WORK share."""
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--prompts", type=int, default=96, help="held out")
    parser.add_argument("--answers", type=int, default=2)
    parser.add_argument("--draw", type=int, default=31, help="of the pairs")
    parser.add_argument(
        "--across-code", action="store_true", help="go on with what other code left; the result says so"
    )


def _cut() -> tuple[object, ...]:
    return ("--max-length", MAX_LENGTH)


def held_out(args: argparse.Namespace) -> list[Pair]:
    """One pair of each prompt that the study has no pair of, in a seeded order; also as a file."""
    known = {pair.group for pair in open_study(args.work / "study").rows}
    rng = random.Random(f"held out {args.draw}")
    by_group: dict[str, list[Pair]] = {}
    for pair in load_pairs(args.data).rows:
        if pair.group not in known and len(pair.prompt_text.split()) <= LONGEST_PROMPT:
            by_group.setdefault(pair.group, []).append(pair)
    drawn = [rng.choice(by_group[group]) for group in sorted(by_group)]
    rng.shuffle(drawn)
    held = drawn[: args.prompts]
    rows = [{"prompt": pair.prompt_text, "chosen": pair.chosen, "rejected": pair.rejected} for pair in held]
    write_lines(args.work / "held.jsonl", rows)
    return held


def moved(rates: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
    """The styles that count: moved by MOVED or more, at most MOST, those that moved most first."""
    by = {id: abs(float((rates["plain"][id] - rates["start"][id]).mean())) for id in STYLES}
    return [id for id in sorted(STYLES, key=lambda id: -by[id]) if by[id] >= MOVED - 1e-12][:MOST]


# --- one arm ----------------------------------------------------------------------------------------------------------


def _name(stage: str, method: str, target: str | None, seed: int) -> str:
    return f"{stage}-{method}{f'-{target}' if target else ''}-{seed}"


def _model(args: argparse.Namespace, stage: str, method: str, target: str | None, seed: int) -> Path | None:
    """Train an arm, unless it was; None is the embedded model."""
    if method == "start":
        return None
    methods = {"plain": (), "together": ("spans", "flat")}.get(method, (method,))
    decisions = [_decision(args, stage, one, target or "words") for one in methods]
    run = args.work / _name(stage, method, target, seed)
    return trained(args.work / "study", run, TRAINING[stage], seed, objective=stage, decisions=decisions)


def _decision(args: argparse.Namespace, stage: str, method: str, target: str) -> dict[str, Any]:
    detector = {"kind": "rule", "rule": target, "by": "present"}
    whole: dict[str, Any] = {"detector": detector, "action": "suppress", "reason": f"{target} is not what we want"}
    if method in ("masked", "words", "spans"):
        pattern = {"words": WORDS, "masked": MARKS.get(target), "spans": None}[method]
        marks = {"kind": "regex", "pattern": pattern} if pattern else {"kind": "rule", "rule": target}
        side = {"side": "both"} if stage == "dpo" else {}
        return {**whole, "detector": marks, "method": "token_filtering", "concept": {"name": target}, **side}
    rates = {arm: _rates(_asked(args, stage, arm, args.seeds[0])) for arm in ("start", "plain")}
    others = [id for id in moved(rates) if id != target]
    if method == "partial":
        return {**whole, "method": "reward_shaping", "strength": _partial(args, target, [target, *others])}
    aim: Any = round(float(rates["start"][target].mean()), 3) if method == "tilt" else "start"
    return {**whole, "method": "reward_shaping", "aim_rate": aim, "hold": others if method != "flat" else []}


def _partial(args: argparse.Namespace, target: str, styles: Sequence[str]) -> float:
    """Nats per sd of the target in one Bradley-Terry fit of all styles (present or not, chosen minus rejected)."""
    from sklearn.linear_model import LogisticRegression

    rows = open_study(args.work / "study").rows
    shown = {
        side: np.array([[bool(rule(id).marks(getattr(pair, side))) for id in styles] for pair in rows], float)
        for side in ("chosen", "rejected")
    }
    d = shown["chosen"] - shown["rejected"]
    fit = LogisticRegression(C=1e3, fit_intercept=False).fit(np.vstack([d, -d]), np.repeat([1, 0], len(d)))
    sd = np.concatenate([shown["chosen"], shown["rejected"]])[:, 0].std()
    return round(max(0.0, float(fit.coef_[0, 0] * sd)), 3)


def _asked(args: argparse.Namespace, stage: str, method: str, seed: int, target: str | None = None) -> Path:
    """The folder of what an arm answers to the held-out prompts."""
    name = "start" if method == "start" else _name(stage, method, target, seed)
    out: Path = args.work / f"eval-{name}"
    model = _model(args, stage, method, target, seed)
    words = [*([model] if model else []), "--out", out, "--data", args.work / "held.jsonl", "--behaviours", "bold"]
    words += ["--prompts", args.prompts, "-n", args.answers, "--seed", 0 if model is None else seed]
    verb("evaluate", *words, "--max-new-tokens", 128, *_cut())
    return out


def _rates(folder: Path) -> dict[str, np.ndarray]:
    """{style: (n_prompts,) share of answers that show it}."""
    evaluation = read_evaluation(folder)
    shown: dict[str, list[list[bool]]] = {one.id: [] for one in evaluation.prompts}
    for answer in evaluation.answers:
        shown[answer.prompt_id].append([bool(rule(id).marks(answer.text or "")) for id in STYLES])
    return dict(zip(STYLES, np.array([np.mean(rows, axis=0) for rows in shown.values()]).T, strict=True))


def _arm(
    args: argparse.Namespace, stage: str, method: str, target: str | None, seed: int, held: Sequence[Pair]
) -> dict[str, np.ndarray]:
    """What is measured of an arm of one seed; it is trained first, unless it was."""
    if method != UNTRAINED:
        return _measured(args, _name(stage, method, target, seed), _model(args, stage, method, target, seed), held)
    plain = _name(stage, "plain", None, seed)
    path = args.work / f"measured-{plain}-without.json"
    if not path.exists():
        own = answers(args.work / "answers.json", None, [pair.prompt_text for pair in held])
        policy = load_policy(str(_model(args, stage, "plain", None, seed)), max_length=2 * MAX_LENGTH)
        texts = [(pair, text) for pair in held for text in (pair.chosen, own[pair.prompt_text][0])]
        write_json(path, without(policy, texts).tolist())
    tables = np.array(read_json(path, verb=""))[:, STYLES.index(str(target))]
    made = dict(zip(STYLES, tables.reshape(len(held), 2, -1).mean(axis=1).T, strict=True))
    whole = _measured(args, plain, None, held)
    return made | {key: whole[key] for key in ("nll", "margin")}


def without(policy: Policy, texts: Sequence[tuple[Pair, str]]) -> np.ndarray:
    """(n_texts, n_targets, n_styles) probability that a style begins if the target never did, others in proportion."""
    rendered = [policy.renderer.render(pair.prompt, text) for pair, text in texts]
    begins = beginners(policy)
    of = np.array([[one.style == style for style in STYLES] for one in OPENINGS], float)
    told = np.zeros((len(texts), len(STYLES), len(STYLES)))
    for i, mass in next_token_mass(policy, rendered, begins):
        can = places(texts[i][1], rendered[i].response.starts)
        p = np.minimum((mass * can) @ of, 1 - 1e-9)
        begun = ((begins[np.array(rendered[i].ids)[rendered[i].response.positions]] * can) @ of) > 0
        for target in range(len(STYLES)):
            left = np.minimum(p / (1 - p[:, [target]]), 1.0)
            left[:, target] = 0.0
            told[i, target] = [first_chance(left[:, k], begun[:, k]) for k in range(len(STYLES))]
    return told


def _measured(args: argparse.Namespace, name: str, model: Path | None, held: Sequence[Pair]) -> dict[str, np.ndarray]:
    """{style: (n_prompts,) probability of beginning it, mean of both texts; nll per token and margin}; kept in WORK."""
    path = args.work / f"measured-{name}.json"
    if not path.exists():
        own = answers(args.work / "answers.json", None, [pair.prompt_text for pair in held])
        policy = load_policy(str(model) if model else None, max_length=2 * MAX_LENGTH)
        rows = [replace(pair, rejected=own[pair.prompt_text][0]) for pair in held]
        told = openings(policy, rows)
        table = [[told[style][pair.id] for style in STYLES] for pair in held]
        write_json(path, {"openings": table, **_fit(policy, held)})
    found = read_json(path, verb="")
    return dict(zip(STYLES, np.array(found["openings"]).T, strict=True)) | {
        key: np.array(found[key]) for key in ("nll", "margin")
    }


def _fit(policy: Any, held: Sequence[Pair]) -> dict[str, list[float]]:
    """nll: per token of the chosen answers; margin: log-probability of chosen minus rejected, nats."""
    both = [
        [policy.renderer.render(pair.prompt, getattr(pair, side)) for pair in held] for side in ("chosen", "rejected")
    ]
    logps = [response_logps(policy, texts) for texts in both]
    n = [len(text.ids) - text.n_prompt_ids for text in both[0]]
    return {"nll": (-logps[0] / n).tolist(), "margin": (logps[0] - logps[1]).tolist()}


def _told(
    args: argparse.Namespace, stage: str, method: str, target: str | None, styles: Sequence[str], held: Sequence[Pair]
) -> dict[str, Any]:
    """One line of the table, seeds averaged."""
    print(f"{stage}: {method} {target or ''}", flush=True)
    start = _measured(args, "start", None, held)
    mine = [_seeded(method, seed) for seed in args.seeds]
    plain, arm = (
        _mean([_arm(args, stage, m, t, s, held) for m, s in of])
        for t, of in ((None, [("plain", seed) for seed in args.seeds]), (target, mine))
    )
    wanted = "nll" if stage == "sft" else "margin"
    gaps = gaps_of({"start": start, "plain": plain, "arm": arm}, STYLES)
    told = {
        "method": method,
        "target": target,
        "openings": gaps,
        "kept": ratio(arm[wanted] - start[wanted], plain[wanted] - start[wanted], paired=True),
        "nll, relative": round(float(arm["nll"].mean() / plain["nll"].mean() - 1), 4),
    }
    if method != UNTRAINED and (args.sampled or method == "plain"):
        rates = {
            name: _mean([_rates(_asked(args, stage, m, s, t)) for m, s in of])
            for name, t, of in (
                ("start", None, [("start", 0)]),
                ("plain", None, [("plain", seed) for seed in args.seeds]),
                ("arm", target, mine),
            )
        }
        told["rates"] = gaps_of(rates, STYLES)
    if target:
        told["selective"] = selective(gaps, target, styles)
    return told


def _seeded(method: str, seed: int) -> tuple[str, int]:
    """What an arm is trained as: `again` is plain training with a seed of its own."""
    return ("plain", AGAIN + seed) if method == "again" else (method, seed)


def _mean(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.mean([one[key] for one in tables], axis=0) for key in tables[0]}


def selective(gaps: Mapping[str, Any], target: str, styles: Sequence[str]) -> dict[str, Any]:
    """Whether an arm meets the goals, by its values alone; a sibling that cannot be said counts as moved."""
    moved = {id: closed_of(gaps[id])[0] for id in styles if id != target}
    closed = closed_of(gaps[target])[0]
    return {
        "target": closed is not None and closed >= TARGET,
        "siblings": sum(one is not None and abs(one) <= SIBLING for one in moved.values()),
        "of": len(moved),
    }


def closed_of(gap: Mapping[str, Any]) -> Sequence[float | None]:
    """The closed share of a gap with its interval; of a gap that may be none, no share can be said."""
    _, low, high = gap["added"]
    return [None, None, None] if low <= 0 <= high else gap["closed"]


# --- the table --------------------------------------------------------------------------------------------------------


def _write(args: argparse.Namespace, stages: Mapping[str, Any], made_by: list[str], n_held: int) -> None:
    result = {
        "command": f"python benchmarks/selectivity.py DATA --work WORK --seeds {' '.join(map(str, args.seeds))} "
        f"--stages {' '.join(args.stages)} --methods {' '.join(args.methods)}"
        + (f" --targets {' '.join(args.targets)}" if args.targets else "")
        + (" --sampled" if args.sampled else ""),
        "machine": machine(),
        "commit": commit(),
        "made_by": made_by,
        "settings": {**TRAINING, "max_length": MAX_LENGTH, "marks": MARKS}
        | {key: getattr(args, key) for key in ("seeds", "pairs", "prompts", "answers", "draw")},
        "n_held_out": n_held,
        "stages": stages,
    }
    args.result.parent.mkdir(exist_ok=True)
    write_json(args.result, result)
    print(table(result), flush=True)


def table(result: Mapping[str, Any]) -> str:
    """The result as Markdown: closed share of the target's gap, and of every sibling's own."""
    lines = []
    for stage, told in result["stages"].items():
        styles = told["styles"]
        lines += ["", f"| {stage.upper()} | method | {' | '.join(styles)} | kept |", "|" + "---|" * (len(styles) + 3)]
        for arm in told["arms"]:
            for measure in ("openings", "rates"):
                if measure in arm:
                    lines.append(_line(arm, measure, styles))
    return "\n".join(lines)


def _line(arm: Mapping[str, Any], measure: str, styles: Sequence[str]) -> str:
    cells = []
    for id in styles:
        one = arm[measure][id]
        if arm["method"] == "plain":
            cells.append(f"{100 * one['start']:.0f} to {100 * one['plain']:.0f} %")
        else:
            told = _percent(closed_of(one))
            cells.append(f"**{told}**" if id == arm["target"] else told)
    return f"| {arm['target'] or '–'}, {measure} | {arm['method']} | {' | '.join(cells)} | {_percent(arm['kept'])} |"


def _percent(values: Sequence[float | None]) -> str:
    if None in values:
        return "–"
    value, low, high = (f"{100 * one:.0f}" for one in values if one is not None)
    return f"{value} % [{low}, {high}]"


if __name__ == "__main__":
    main()
