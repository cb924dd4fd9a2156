"""A parent without its child, and a child without its parent: bold text in list items, and bold text elsewhere.

    python benchmarks/structure.py DATA --work WORK_OF_SELECTIVITY [--stages sft dpo] [--seeds 1]

The concepts are the audit's own: bold text and lists lean together in alpaca-eval pairs, and much bold text begins list
items. Data, settings, plain training and held-out prompts are those of selectivity.py (its WORK; what is lacking there
is made). Two wishes, each token filtering by the library's rule for bold text (marks and the words between them):

child     no bold text in list items (`on_lines_with` the pattern of a list item); bold text elsewhere and lists held
parent    no bold text elsewhere (`on_lines_without`); bold text in list items and lists held

Beside them `whole`, bold text masked everywhere, and the two nulls of selectivity.py. Measured without sampling, in the
held-out chosen answer and in the starting model's own: how likely a model would begin bold text in a list item (prompts
without one in either text are left out), how likely elsewhere in the answer, how likely it would begin a list; each up
to and with the first that the text itself has (`tiltscope evaluate --openings`). With --sampled also rates: answers
with bold text in an item, and elsewhere. Closed: 1 - (arm - start) / (plain - start), of the target's gap, and of what
is held (which should stay open); 95 % bootstrap over prompts. Goals: target >= 80 % closed, each of what is held
<= 20 %, either way, by value. Settings are those of selectivity.py; nothing was tried out but the code, on its draw 1
with 24 pairs. Resumable. Writes benchmarks/results/structure.json.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from forced import answers, ratio
from selectivity import AGAIN, MAX_LENGTH, TRAINING, WORDS, _cut, _fit, _percent, add_settings, closed_of, held_out
from steps import RESULTS, commit, gaps_of, machine, one_code, trained, verb

from tiltscope.artifact import read_json, write_json
from tiltscope.detectors import text_marks
from tiltscope.evaluation import read_evaluation
from tiltscope.forced import OPENINGS, beginners, first_chance, places
from tiltscope.lm import Policy, load_policy, next_token_mass
from tiltscope.pairs import Pair
from tiltscope.plan import DetectorSpec

MARKER = r"[ \t]*(?:[-*+•‣◦▪●]|\d+[.)])"
ITEM = rf"^{MARKER}[ \t]"
LINES = {"child": "on_lines_with", "parent": "on_lines_without"}
TARGET = {"child": "in items", "parent": "elsewhere", "whole": "anywhere"}
HELD = {"child": ("elsewhere", "list"), "parent": ("in items", "list"), "whole": ("list",)}
ARMS = ("child", "parent", "whole", "words", "again")
CLOSED, KEPT = 0.8, 0.2  # the goals


def main() -> None:
    """Train and measure every arm of every stage, write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True, help="of selectivity.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--stages", nargs="+", choices=list(TRAINING), default=list(TRAINING))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--sampled", action="store_true", help="rates, too")
    parser.add_argument("--result", type=Path, default=RESULTS / "structure.json")
    add_settings(parser)
    args = parser.parse_args()
    made_by = one_code(args.work, across=args.across_code)
    verb(*("read", args.data, "--out", args.work / "study", "--sample", args.pairs), *_cut(), "--seed", args.draw)
    held = held_out(args)
    stages: dict[str, Any] = {}
    for stage in args.stages:
        stages[stage] = []
        for arm in ("plain", *args.arms):
            print(f"{stage}: {arm}", flush=True)
            stages[stage].append(_told(args, stage, arm, held))
            _write(args, stages, made_by, len(held))


# --- one arm ----------------------------------------------------------------------------------------------------------


def model_of(args: argparse.Namespace, stage: str, arm: str, seed: int) -> Path | None:
    """Train an arm, unless it was, under the names of selectivity.py; None is the embedded model."""
    if arm == "start":
        return None
    name = {"again": "plain", "whole": "spans-bold"}.get(arm, arm if arm in ("plain", "words") else f"bold-{arm}")
    seed = AGAIN + seed if arm == "again" else seed
    decisions = [] if name == "plain" else [decision(stage, arm)]
    run = args.work / f"{stage}-{name}-{seed}"
    return trained(args.work / "study", run, TRAINING[stage], seed, objective=stage, decisions=decisions)


def decision(stage: str, arm: str) -> dict[str, Any]:
    """Token filtering of bold text where the wish says, or of the null's words."""
    detector: dict[str, Any] = {"kind": "rule", "rule": "bold"}
    if arm in LINES:
        detector[LINES[arm]] = {"pattern": ITEM}
    if arm == "words":
        detector = {"kind": "regex", "pattern": WORDS}
    side = {"side": "both"} if stage == "dpo" else {}
    reason = "bold text is not what we want here"
    name = "words" if arm == "words" else "bold"
    told = {"detector": detector, "action": "suppress", "reason": reason, "method": "token_filtering"}
    return told | {"concept": {"name": name}, **side}


def measured(policy: Policy, rows: Sequence[Pair]) -> dict[str, list[float]]:
    """{measure: (n_prompts,) probability, mean of both answers}; nan where neither has a list item."""
    texts = [(i, text) for i, row in enumerate(rows) for text in (row.chosen, row.rejected)]
    rendered = [policy.renderer.render(rows[i].prompt, text) for i, text in texts]
    begins = beginners(policy)
    told: dict[str, list[list[float]]] = {key: [[] for _ in rows] for key in ("in items", "elsewhere", "list")}
    for at, mass in next_token_mass(policy, rendered, begins):
        i, text = texts[at]
        starts, can = rendered[at].response.starts, places(text, rendered[at].response.starts)
        begun = begins[np.array(rendered[at].ids)[rendered[at].response.positions]] * can
        items = in_item(text, starts)
        for key, value in chances(mass * can, begun > 0, items).items():
            told[key][i].append(value)
    return {
        key: [float(np.nanmean(some)) if len(some) else float("nan") for some in rows] for key, rows in told.items()
    }


def chances(mass: np.ndarray, begun: np.ndarray, items: np.ndarray) -> dict[str, float]:
    """Of one answer: how likely bold text begins in an item (if there is one), elsewhere, and a list at all.

    mass, begun: (n_tokens, n_openings); items: (n_tokens,) bool, tokens in list items.
    """
    bold, lists = (
        [number for number, one in enumerate(OPENINGS) if one.style in styles]
        for styles in (("bold",), ("bulleted_list", "numbered_list"))
    )

    def chance(columns: Sequence[int], where: np.ndarray) -> float:
        return first_chance(mass[where][:, columns].sum(axis=1), begun[where][:, columns].any(axis=1))

    told = {"elsewhere": chance(bold, ~items), "list": chance(lists, ~items)}
    return told | ({"in items": chance(bold, items)} if items.any() else {})


def in_item(text: str, starts: np.ndarray) -> np.ndarray:
    """(n_tokens,) whether a token that starts at this character stands in a list item, after its marker."""
    lines = [text[text.rfind("\n", 0, start) + 1 : start] for start in starts.tolist()]
    return np.array([re.fullmatch(rf"{MARKER}(?:[ \t].*)?", line) is not None for line in lines], bool)


def _measured(args: argparse.Namespace, stage: str, arm: str, seed: int, held: Sequence[Pair]) -> dict[str, np.ndarray]:
    """What `measured` says of an arm, with its NLL and margin; kept in WORK."""
    name = "start" if arm == "start" else f"{stage}-{arm}-{seed}"
    path = args.work / f"structure-{name}.json"
    if not path.exists():
        own = answers(args.work / "answers.json", None, [pair.prompt_text for pair in held])
        model = model_of(args, stage, arm, seed)
        policy = load_policy(str(model) if model else None, max_length=2 * MAX_LENGTH)
        rows = [replace(pair, rejected=own[pair.prompt_text][0]) for pair in held]
        found: dict[str, list[Any]] = {**measured(policy, rows), **_fit(policy, held)}
        found["in items"] = [None if np.isnan(one) else one for one in found["in items"]]
        write_json(path, found)
    return {key: np.array(values, float) for key, values in read_json(path, verb="").items()}


def _rates(args: argparse.Namespace, stage: str, arm: str, seed: int) -> dict[str, np.ndarray]:
    """{measure: (n_prompts,) share of sampled answers with bold text there, or with a list}."""
    names = {"start": "start", "again": f"{stage}-plain-{AGAIN + seed}", "whole": f"{stage}-spans-bold-{seed}"}
    out = args.work / f"eval-{names.get(arm, f'{stage}-{arm}-{seed}')}"
    model = model_of(args, stage, arm, seed)
    words = [*([model] if model else []), "--out", out, "--data", args.work / "held.jsonl", "--behaviours", "bold"]
    words += ["--prompts", args.prompts, "-n", args.answers, "--seed", 0 if model is None else seed]
    verb("evaluate", *words, "--max-new-tokens", 128, *_cut())
    item, bold = DetectorSpec("regex", ITEM), DetectorSpec("rule", "bold")
    specs = {
        "in items": replace(bold, on_lines_with=item),
        "elsewhere": replace(bold, on_lines_without=item),
        "list": item,
    }
    evaluation = read_evaluation(out)
    shown: dict[str, dict[str, list[bool]]] = {key: {one.id: [] for one in evaluation.prompts} for key in specs}
    for answer in evaluation.answers:
        for key, spec in specs.items():
            shown[key][answer.prompt_id].append(bool(text_marks(spec, answer.text or "")))
    return {key: np.array([np.mean(some) for some in rows.values()]) for key, rows in shown.items()}


def _told(args: argparse.Namespace, stage: str, arm: str, held: Sequence[Pair]) -> dict[str, Any]:
    """One line of the table, seeds averaged."""
    start, plain, mine = (
        _mean([_measured(args, stage, one, seed, held) for seed in args.seeds]) for one in ("start", "plain", arm)
    )
    wanted = "nll" if stage == "sft" else "margin"
    asked = ~np.isnan(start["in items"])
    gaps = gaps_of({"start": start, "plain": plain, "arm": mine}, ["elsewhere", "list"])
    inside = {name: {"in items": one["in items"][asked]} for name, one in _named(start, plain, mine).items()}
    gaps |= gaps_of(inside, ["in items"])
    told: dict[str, Any] = {"arm": arm, "openings": gaps, "goals": goals(gaps, arm)}
    told["kept"] = ratio(mine[wanted] - start[wanted], plain[wanted] - start[wanted], paired=True)
    if args.sampled:
        rates = [_mean([_rates(args, stage, one, seed) for seed in args.seeds]) for one in ("start", "plain", arm)]
        told["rates"] = gaps_of(_named(*rates), list(rates[0]))
        told["goals of rates"] = goals(told["rates"], arm)
    return told


def _named(start: Any, plain: Any, arm: Any) -> dict[str, Any]:
    return {"start": start, "plain": plain, "arm": arm}


def _mean(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.mean([one[key] for one in tables], axis=0) for key in tables[0]}


def goals(gaps: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """Whether a wish is met, by values alone; what plain training did not move for certain cannot be said (None)."""
    if arm not in LINES:
        return {}
    closed = closed_of(gaps[TARGET[arm]])[0]
    held = {key: closed_of(gaps[key])[0] for key in HELD[arm]}
    return {
        "target": None if closed is None else closed >= CLOSED,
        "held": {key: None if one is None else abs(one) <= KEPT for key, one in held.items()},
    }


# --- the table --------------------------------------------------------------------------------------------------------


def _write(args: argparse.Namespace, stages: Mapping[str, Any], made_by: list[str], n_held: int) -> None:
    result = {
        "command": f"python benchmarks/structure.py DATA --work WORK --seeds {' '.join(map(str, args.seeds))} "
        f"--stages {' '.join(args.stages)} --arms {' '.join(args.arms)}" + (" --sampled" if args.sampled else ""),
        "machine": machine(),
        "commit": commit(),
        "made_by": made_by,
        "settings": {**TRAINING, "max_length": MAX_LENGTH, "item": ITEM}
        | {key: getattr(args, key) for key in ("seeds", "pairs", "prompts", "answers", "draw")},
        "n_held_out": n_held,
        "stages": stages,
    }
    args.result.parent.mkdir(exist_ok=True)
    write_json(args.result, result)
    print(table(result), flush=True)


def table(result: Mapping[str, Any]) -> str:
    """The result as Markdown: what plain training added, and the closed share of every gap."""
    lines, keys = [], ("in items", "elsewhere", "list")
    for stage, arms in result["stages"].items():
        lines += ["", f"| {stage.upper()} | measure | {' | '.join(keys)} | kept |", "|" + "---|" * (len(keys) + 3)]
        for arm in arms:
            for measure in ("openings", "rates"):
                if measure in arm:
                    lines.append(_line(arm, measure, keys))
    return "\n".join(lines)


def _line(arm: Mapping[str, Any], measure: str, keys: Sequence[str]) -> str:
    cells = []
    for key in keys:
        one = arm[measure][key]
        if arm["arm"] == "plain":
            cells.append(f"{100 * one['start']:.0f} to {100 * one['plain']:.0f} %")
        else:
            told = _percent(closed_of(one))
            cells.append(f"**{told}**" if key == TARGET.get(arm["arm"]) else told)
    return f"| {arm['arm']} | {measure} | {' | '.join(cells)} | {_percent(arm['kept'])} |"


if __name__ == "__main__":
    main()
