"""Does the data gate see a new lean where new and approved data have no prompt in common? The sets of gate.py, halved.

    python benchmarks/apart.py DATA --work WORK_OF_GATE --first 500 [--seeds 40]

The candidates are those of gate.py (a trait on the chosen side of 5 % of the pairs, as many innocent edits; the same
with the trait turned around in half of them), but only the half of the prompts that a seed draws; the approved data are
the untouched pairs of the other half. So no row tells what it replaced, and there is half as much of everything.

Said before looking: blocked and the right rows by the rules of gate.py; false blocks are sets whose trait leans nowhere
and halves that nobody touched. Rows: average precision for the planted ones among all rows of the half, in the order of
the verdict (a row that it does not order counts as never found). Beside it: the rows in any order, the longer chosen
answer first, and `by its own rule`: the rows in which the rule for the trait marks more of the chosen than of the
rejected answer, most first, as somebody could who knew what to look for. Nothing of the gate was changed for this bench
nor chosen on it. Resumable: one file per seed. Writes benchmarks/results/apart.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gate import NEAREST, Ground, _quartiles, _share, candidates, gate, part, prepared, rows_named, told
from steps import RESULTS, average_precision, commit, machine

from tiltscope import stats
from tiltscope.artifact import fingerprint, read_json, write_json
from tiltscope.behaviours import is_rule, rule
from tiltscope.errors import ProductError
from tiltscope.pairs import Pair
from tiltscope.power import Aligned

SPLIT = 2000  # added to a seed, to draw its halves
ORDERS = ("verdict", "by its own rule", "longer chosen answer", "any order")


def main() -> None:
    """Judge the halves of every seed, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True, help="of gate.py")
    parser.add_argument("--seeds", type=int, default=40, help="how many, from --first")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULTS / "apart.json")
    args = parser.parse_args()
    ground = prepared(args.data, args.work)
    sets = []
    for seed in range(args.first, args.first + args.seeds):
        sets.append(_held(seed, ground))
        shown = [sets[-1][kind]["outcome"] for kind in ("bad", "clean", "untouched")]
        print(seed, sets[-1]["trait"], *shown, sets[-1]["seconds"], "s", flush=True)
    result = _result(args, ground, sets)
    args.result.parent.mkdir(exist_ok=True)
    write_json(args.result, result)
    print(table(result))


def _held(seed: int, ground: Ground) -> dict[str, Any]:
    """One seed, read back where it was finished before with the same code of ours and the same features."""
    own = [(Path(__file__).parent / name).read_bytes() for name in ("apart.py", "gate.py")]
    path = ground.work / "apart" / f"{fingerprint(seed, ground.approved.features.fingerprint, commit(), *own)}.json"
    try:
        body: dict[str, Any] = read_json(path, verb="")
    except ProductError:
        body = _run(seed, ground)
        write_json(path, body)
    return body


def _run(seed: int, ground: Ground) -> dict[str, Any]:
    start = time.monotonic()
    made = candidates(seed, ground)
    first = stats.half_mask([pair.group for pair in ground.approved.pairs.rows], SPLIT + seed)
    here = np.flatnonzero(~first)
    approved = part(ground.approved, np.flatnonzero(first))
    bad, planted = part(made.bad.after, here), (made.bad.signs[1] != 0)[here]
    verdict, found = gate(approved, bad, ground)
    at = {pair.id: i for i, pair in enumerate(bad.pairs.rows)}
    order = [at[row["pair_id"]] for row in found["rows"]]
    return {
        "seed": seed,
        "trait": made.trait,
        "place": made.place,
        "n_pairs": len(here),
        "n_planted": int(planted.sum()),
        "bad": told(verdict, found) | rows_named(verdict, bad, planted)[0],
        "clean": told(*gate(approved, part(made.clean, here), ground)),
        "untouched": told(*gate(approved, part(ground.approved, here), ground)),
        "rows": _orders(order, bad, planted, made.trait),
        "seconds": round(time.monotonic() - start, 1),
    }


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


def _result(args: argparse.Namespace, ground: Ground, sets: list[dict[str, Any]]) -> dict[str, Any]:
    blocked = [one["bad"] for one in sets if one["bad"]["outcome"] == "fail"]
    return {
        "command": f"python benchmarks/apart.py DATA --work WORK_OF_GATE --seeds {args.seeds}"
        + (f" --first {args.first}" if args.first else ""),
        "machine": machine(),
        "commit": commit(),
        "n_pairs": len(ground.approved.pairs.rows),
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
        "sets": sets,
    }


def _mean(values: Sequence[float | None]) -> dict[str, float | None]:
    """The mean of what can be said, its standard error over seeds, and of how many; None of too few."""
    said = np.array([one for one in values if one is not None])
    mean = round(float(said.mean()), 3) if len(said) else None
    se = round(float(said.std(ddof=1) / len(said) ** 0.5), 3) if len(said) > 1 else None
    return {"mean": mean, "se": se, "n": len(said)}


def table(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    lines = ["| | n | share | [95 %] |", "|---|---|---|---|"]
    for name, one in result["shares"].items():
        share, low, high = (100 * value for value in (one["n"] / max(one["of"], 1), one["low"], one["high"]))
        lines.append(f"| {name} | {one['n']} of {one['of']} | {share:.0f} % | [{low:.0f}, {high:.0f}] |")
    lines += ["", "| order of rows | average precision, mean | se | seeds | where blocked |", "|---|---|---|---|---|"]
    for name, one in result["rows"].items():
        there = result["rows where blocked"][name]["mean"]
        cells = ["–" if value is None else f"{value:.2f}" for value in (one["mean"], one["se"], there)]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {one['n']} | {cells[2]} |")
    return "\n".join([*lines, "", f"rows named: {result['named']}"])


if __name__ == "__main__":
    main()
