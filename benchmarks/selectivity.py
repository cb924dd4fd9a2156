"""Can one style be suppressed without its siblings? Styles that real pairs teach together, each suppressed in turn.

    python benchmarks/selectivity.py DATA --work WORK [--seeds 1] [--targets bold bulleted_list] [--methods flat held]

WORK is that of suppress_bold.py: its study, its plain trainings and their answers are taken as they are, and so is its
`planned` arm, which is flat suppression of bold text. The styles are the layout rules of the library that plain
training moved by at least 5 points (the five that moved most). Each target is suppressed back to its rate before
training, by

    flat      reward shaping, aim_rate: start, nothing held
    held      the same, with the other styles held where the pairs' labels would have them (a balance over pairs)
    tilt      aim_rate as a number: the minimum-KL tilt of the starting model's own answers, the other styles held
    partial   reward shaping by the target's coefficient in one Bradley-Terry fit of all styles
    masked    token filtering of the target alone

Closed: 1 - (arm - start) / (plain - start), of the target's gap, and of each sibling's own gap (which should stay
open); 95 % bootstrap over prompts. Every step resumes. Writes benchmarks/results/selectivity.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from steps import RESULTS, commit, gaps_of, machine, one_code, trained, verb
from suppress_bold import BEHAVIOURS, MAX_LENGTH, TRAINING

from tiltscope.artifact import write_json
from tiltscope.behaviours import rule
from tiltscope.evaluation import read_evaluation
from tiltscope.pairs import read_pairs

LAYOUT = (
    *("bold", "italic", "emoji", "heading", "bulleted_list", "numbered_list", "table", "horizontal_rule"),
    *("exclamation", "paragraph_break", "colon", "parentheses", "quotation", "code_block", "em_dash"),
)
MOVED, MOST = 0.05, 5
METHODS = ("flat", "held", "tilt", "partial", "masked")


def main() -> None:
    """Choose the styles, train and ask every arm, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--targets", nargs="+", default=[])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["flat", "held"])
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--answers", type=int, default=2)
    parser.add_argument("--result", type=Path, default=RESULTS / "selectivity.json")
    parser.add_argument(
        "--across-code", action="store_true", help="go on with what other code left; the result says so"
    )
    args = parser.parse_args()
    made_by = one_code(args.work, across=args.across_code)
    start = args.work / "eval-base-n8"
    plain = [args.work / f"eval-plain-{seed}" for seed in (1, 2, 3) if (args.work / f"eval-plain-{seed}").exists()]
    rates = {name: _rates(folders) for name, folders in (("start", [start]), ("plain", plain))}
    moved = {id: float((rates["plain"][id] - rates["start"][id]).mean()) for id in LAYOUT}
    styles = [id for id in sorted(LAYOUT, key=lambda id: -abs(moved[id]))[:MOST] if abs(moved[id]) >= MOVED]
    told = []
    for target in args.targets or styles:
        for method in args.methods:
            arm = [_arm(args, target, method, styles, seed) for seed in args.seeds]
            mine = {"start": rates["start"], "plain": _rates([plain[s - 1] for s in args.seeds]), "arm": _rates(arm)}
            told.append({"target": target, "method": method, "styles": gaps_of(mine, styles)})
    result = {
        "command": f"python benchmarks/selectivity.py DATA --work WORK --seeds {' '.join(map(str, args.seeds))} "
        f"--targets {' '.join(args.targets or styles)} --methods {' '.join(args.methods)}",
        "machine": machine(),
        "commit": commit(),
        "made_by": made_by,
        "settings": {"training": TRAINING, "seeds": args.seeds, "pairs": args.pairs, "max_length": MAX_LENGTH},
        "moved": moved,
        "styles": styles,
        "arms": told,
    }
    write_json(args.result, result)
    print(table(result))


def _rates(folders: Sequence[Path]) -> dict[str, np.ndarray]:
    """{rule: (n_prompts,) share of answers that show it}, seeds averaged; the same prompts in every folder."""
    tables = []
    for folder in folders:
        evaluation = read_evaluation(folder)
        shown: dict[str, list[list[bool]]] = {one.id: [] for one in evaluation.prompts}
        for answer in evaluation.answers:
            shown[answer.prompt_id].append([bool(rule(id).marks(answer.text or "")) for id in LAYOUT])
        tables.append([np.mean(rows, axis=0) for rows in shown.values()])
    return dict(zip(LAYOUT, np.mean(tables, axis=0).T, strict=True))


def _arm(args: argparse.Namespace, target: str, method: str, styles: Sequence[str], seed: int) -> Path:
    if (target, method) == ("bold", "flat"):
        return Path(args.work / f"eval-planned-{seed}")
    run = args.work / f"{method}-{target}-{seed}"
    study = args.work / "study"
    decision = _decision(args, target, method, [one for one in styles if one != target])
    model = trained(study, run, TRAINING, seed, objective="dpo", decisions=[decision], n_pairs=args.pairs)
    out: Path = args.work / f"eval-{run.name}"
    asked = [model, "--out", out, "--data", args.data, "--not-in", study, "--behaviours", BEHAVIOURS]
    asked += ["--prompts", args.prompts, "-n", args.answers, "--seed", seed, "--max-new-tokens", 128]
    verb("evaluate", *asked, "--max-length", MAX_LENGTH)
    return out


def _decision(args: argparse.Namespace, target: str, method: str, others: Sequence[str]) -> dict[str, Any]:
    detector = {"kind": "rule", "rule": target, "by": "present"}
    whole: dict[str, Any] = {"detector": detector, "action": "suppress", "reason": f"{target} is not what we want"}
    if method == "masked":
        return {**whole, "detector": {"kind": "rule", "rule": target}, "method": "token_filtering", "side": "both"}
    if method == "partial":
        return {**whole, "method": "reward_shaping", "strength": _partial(args, target, [target, *others])}
    aim: Any = "start"
    if method == "tilt":
        aim = round(float(_rates([args.work / "eval-base-n8"])[target].mean()), 3)
    return {**whole, "method": "reward_shaping", "aim_rate": aim, "hold": list(others) if method != "flat" else []}


def _partial(args: argparse.Namespace, target: str, styles: Sequence[str]) -> float:
    """Nats per sd of the target in one Bradley-Terry fit of all styles (present or not, chosen minus rejected)."""
    from sklearn.linear_model import LogisticRegression

    rows = read_pairs(args.work / "study").rows
    shown = {
        side: np.array([[bool(rule(id).marks(getattr(pair, side))) for id in styles] for pair in rows], float)
        for side in ("chosen", "rejected")
    }
    d = shown["chosen"] - shown["rejected"]
    fit = LogisticRegression(C=1e3, fit_intercept=False).fit(np.vstack([d, -d]), np.repeat([1, 0], len(d)))
    sd = np.concatenate([shown["chosen"], shown["rejected"]])[:, 0].std()
    return round(max(0.0, float(fit.coef_[0, 0] * sd)), 3)


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: closed share of the target's gap, and of every sibling's own."""
    styles = result["styles"]
    lines = [f"| suppressed | method | {' | '.join(styles)} |", "|" + "---|" * (len(styles) + 2)]
    for arm in result["arms"]:
        cells = []
        for id in styles:
            value, low, high = arm["styles"][id]["closed"]
            told = f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
            cells.append(f"**{told}**" if id == arm["target"] else told)
        lines.append(f"| {arm['target']} | {arm['method']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
