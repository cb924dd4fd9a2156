"""Does the data gate see a new lean where new and approved data have no prompt in common? Real pairs in two halves.

    python benchmarks/apart.py STUDY --work WORK --first 600 [--seeds 22]

STUDY is an audited study. A seed parts its prompts into two halves: the untouched pairs of one are the approved data,
those of the other are the candidate, so no row tells what it replaced. Three candidates of every seed:

bad        5 % of the pairs carry a trait on the chosen side (the eleven traits of gate.py in turn; in every second
           round of eleven after one kind of prompt, everywhere where no kind has enough pairs that can carry it)
clean      the same, but in half of those pairs chosen and rejected change places: the trait is new and leans nowhere
untouched  nothing is planted

Answers are cut to what was read of them and the verdict is the product's, as in gate.py. Said before looking: blocked
and the right rows by the rules of gate.py. Rows: average precision for the planted ones among all rows of the half, in
the order of the verdict (a row that it does not order counts as never found). Beside it: the rows in any order; the
longer chosen answer first; and `by its own rule`: the rows in which the library's rule for the trait marks more of the
chosen than of the rejected answer, most first, as somebody could who knew what to look for. A trait that fewer pairs of
a half can carry is told and left out. Tried out on halves of the 968 alpaca-eval pairs of gate.py, where 5 % are 20
pairs and too few for the gate's list (it says so). Nothing of the gate was changed for the first run (seeds 600 to
643); after it behaviours were counted often, too (decision 13): seeds 700 to 743.
Resumable: one file per seed. Writes benchmarks/results/apart.json.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from discovery import _exchanged as exchanged
from gate import LIMITS, NEAREST, SHARE, _quartiles, _share, as_read, gate, part, rows_named, shares_table, told
from steps import RESULTS, average_precision, commit, kept, machine

from tiltscope import stats
from tiltscope.artifact import fingerprint, write_json
from tiltscope.behaviours import is_rule, rule
from tiltscope.errors import UsageError
from tiltscope.pairs import Pair
from tiltscope.planting import STYLES
from tiltscope.power import Aligned, Planting, Readings, grow
from tiltscope.sae import open_scope
from tiltscope.study import open_study

ORDERS = ("verdict", "by its own rule", "longer chosen answer", "any order")


@dataclass(frozen=True)
class Halved:
    """What every seed shares; `kinds` as in gate.py."""

    whole: Aligned
    readings: Readings
    kinds: dict[str, np.ndarray]
    work: Path


def main() -> None:
    """Judge the halves of every seed, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=22, help="how many, from --first")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULTS / "apart.json")
    args = parser.parse_args()
    ground = prepared(args.study, args.work)
    sets = []
    for seed in range(args.first, args.first + args.seeds):
        sets.append(_held(seed, ground))
        shown = [sets[-1].get(kind, {}).get("outcome", "–") for kind in ("bad", "clean", "untouched")]
        print(seed, sets[-1]["trait"], *shown, sets[-1]["seconds"], "s", flush=True)
    result = _result(args, ground, sets)
    args.result.parent.mkdir(exist_ok=True)
    write_json(args.result, result)
    print(table(result))


def prepared(study: Path, work: Path) -> Halved:
    """The study's pairs as they were read, its kinds of prompts, and what reads planted answers."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "limits.yaml").write_text(LIMITS, encoding="utf-8")
    opened = open_study(study)
    whole = as_read(Aligned.of(opened.pairs, opened.features))
    regions = json.loads((study / "concepts.json").read_text())["regions"]
    kinds = {
        one["id"]: np.isin(whole.features.pair_ids, one["pair_ids"]) for one in regions if one["id"].endswith("@20")
    }
    return Halved(whole, Readings(open_scope(study), opened.features, work / "readings"), kinds, work)


def _held(seed: int, ground: Halved) -> dict[str, Any]:
    """One seed, read back where it was finished before with the same code of ours and the same features."""
    own = [(Path(__file__).parent / name).read_bytes() for name in ("apart.py", "gate.py")]
    key = fingerprint(seed, ground.whole.features.fingerprint, commit(), *own)
    return kept(ground.work / "apart" / f"{key}.json", lambda: _run(seed, ground))


def _run(seed: int, ground: Halved) -> dict[str, Any]:
    start = time.monotonic()
    first = stats.half_mask([pair.group for pair in ground.whole.pairs.rows], seed)
    approved, rest = (part(ground.whole, np.flatnonzero(rows)) for rows in (first, ~first))
    names, rng = sorted(STYLES), random.Random(f"apart {seed}")
    trait, n_pairs = names[seed % len(names)], 2 * round(SHARE * len(rest.pairs.rows) / 2)
    kinds = rng.sample(sorted(ground.kinds), len(ground.kinds)) if (seed // len(names)) % 2 else []
    facts = {"seed": seed, "trait": trait, "n_approved": len(approved.pairs.rows), "n_pairs": len(rest.pairs.rows)}
    for place in [*kinds, "everywhere"]:
        inside = ground.kinds[place][~first] if place in ground.kinds else np.ones(len(rest.pairs.rows), bool)
        try:
            grown = grow(rest, [Planting(trait, n_pairs, inside, seed)], ground.readings)
        except UsageError:  # too few pairs there can carry it
            continue
        planted = grown.signs[0] != 0
        verdict, found = gate(approved, grown.after, ground.work)
        at = {pair.id: i for i, pair in enumerate(grown.after.pairs.rows)}
        turned = np.zeros(len(planted), bool)
        turned[rng.sample(np.flatnonzero(planted).tolist(), n_pairs // 2)] = True
        return {
            **facts,
            "place": place,
            "n_planted": int(planted.sum()),
            "n_read": len(grown.read_rows(0)),
            "bad": told(verdict, found) | rows_named(verdict, grown.after, planted)[0],
            "clean": told(*gate(approved, exchanged(grown.after, turned), ground.work)),
            "untouched": told(*gate(approved, rest, ground.work)),
            "rows": _orders([at[row["pair_id"]] for row in found["rows"]], grown.after, planted, trait),
            "seconds": round(time.monotonic() - start, 1),
        }
    return {**facts, "left out": "too few pairs can carry it", "seconds": round(time.monotonic() - start, 1)}


def _orders(order: Sequence[int], bad: Aligned, planted: np.ndarray, trait: str) -> dict[str, float | None]:
    """Average precision of every order of rows; None where the library has no rule for the trait."""
    features, id = bad.features, NEAREST.get(trait, trait)
    longer = np.argsort(features.rejected.n_tokens - features.chosen.n_tokens, kind="stable")
    rng = np.random.default_rng(0)
    chance = [average_precision(rng.permutation(len(planted)), planted) for _ in range(200)]
    return {
        "verdict": average_precision(order, planted),
        "by its own rule": average_precision(_by_rule(bad.pairs.rows, id), planted) if is_rule(id) else None,
        "longer chosen answer": average_precision(longer, planted),
        "any order": float(np.mean(chance)),
    }


def _by_rule(rows: Sequence[Pair], id: str) -> np.ndarray:
    """Rows with more marks of a rule in the chosen answer, most first."""
    more = np.array([len(rule(id).marks(pair.chosen)) - len(rule(id).marks(pair.rejected)) for pair in rows])
    order = np.argsort(-more, kind="stable")
    return np.asarray(order[more[order] > 0])


# --- the table --------------------------------------------------------------------------------------------------------


def _result(args: argparse.Namespace, ground: Halved, every: list[dict[str, Any]]) -> dict[str, Any]:
    sets = [one for one in every if "bad" in one]
    blocked = [one["bad"] for one in sets if one["bad"]["outcome"] == "fail"]
    return {
        "command": f"python benchmarks/apart.py STUDY --work WORK --seeds {args.seeds}"
        + (f" --first {args.first}" if args.first else ""),
        "machine": machine(),
        "commit": commit(),
        "n_pairs": len(ground.whole.pairs.rows),
        "left_out": [one["trait"] for one in every if "bad" not in one],
        "shares": {
            "bad sets blocked": _share(len(blocked), len(sets)),
            "… with the right rows named": _share(sum(one["right"] for one in blocked), len(sets)),
            "clean sets blocked": _share(sum(one["clean"]["outcome"] == "fail" for one in sets), len(sets)),
            "untouched halves blocked": _share(sum(one["untouched"]["outcome"] == "fail" for one in sets), len(sets)),
        },
        "named": {key: _quartiles([one[key] for one in blocked]) for key in ("precision", "recall", "n_named")},
        "rows": {name: _mean([one["rows"][name] for one in sets]) for name in ORDERS},
        "rows where blocked": {
            name: _mean([one["rows"][name] for one in sets if one["bad"]["outcome"] == "fail"]) for name in ORDERS
        },
        "sets": every,
    }


def _mean(values: Sequence[float | None]) -> dict[str, float | None]:
    """The mean of what can be said, its standard error over seeds, and of how many; None of too few."""
    said = np.array([one for one in values if one is not None])
    mean = round(float(said.mean()), 3) if len(said) else None
    se = round(float(said.std(ddof=1) / len(said) ** 0.5), 3) if len(said) > 1 else None
    return {"mean": mean, "se": se, "n": len(said)}


def table(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    lines = shares_table(result)
    lines += ["", "| order of rows | average precision, mean | se | seeds | where blocked |", "|---|---|---|---|---|"]
    for name, one in result["rows"].items():
        there = result["rows where blocked"][name]["mean"]
        cells = ["–" if value is None else f"{value:.2f}" for value in (one["mean"], one["se"], there)]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {one['n']} | {cells[2]} |")
    return "\n".join([*lines, "", f"rows named: {result['named']}"])


if __name__ == "__main__":
    main()
