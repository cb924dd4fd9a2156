"""Does the data gate stop what leans anew, let pass what does not, and name the right rows? Traits in real pairs.

    python benchmarks/gate.py DATA --work WORK --first 200 [--seeds 40]

DATA is audited once with the embedded model (one autoencoder, one reading): the approved study. Its answers are cut
to what was read of them, since no audit sees more. Only planted answers are read again. A seed makes two candidates:

bad    5 % of the pairs carry a trait on the chosen side;
clean  the same, but in half of those pairs chosen and rejected change places: the trait is as new and leans nowhere.

Seeds go through eleven traits; in every second round of eleven the pairs are those after one kind of prompt (drawn by
the seed; everywhere where no kind has enough pairs that can carry the trait). In both candidates as many other pairs
carry another trait evenly (one of eleven such edits, each made once): innocent, so that knowing which rows changed
does not tell which are wrong. The background leans by itself (bold text), as approved data may: only what it did not
lean towards counts.

The gate is one line, `data: no new lean`, against the approved study. Beside it `fresh`: the approved pairs are split
by prompts into two halves, 40 times; one half is the candidate of the other, with no pair in common (the splits are of
one sample, so their interval is too narrow).

Said before looking at a reported seed: a bad set counts as *blocked with the right rows named* when the verdict fails,
at least 9 of the first 10 rows it names are planted, and of all it names at least 75 % are planted, and they are at
least half of the planted ones. Intervals are Wilson's. Everything was tried out on seeds from 100 to 118; seeds 0 to 39
were a first run, after which the order of rows was made better; 200 to 239 were a second. Then the library's behaviours
were counted by rule too, rows were scored by what they add to the row they replaced, and leaving rows were no lean any
more (tried out on 100 to 118 and 400 to 443); 300 to 339 were the third. Then words and phrases became columns too
(tried out on 100 to 118 and 400 to 407); 500 to 539 are reported of that. `said by name`: the first three leans of the
verdict hold the behaviour that is nearest to the trait (`NEAREST`).

Tracing: average precision for the planted rows (5 % of all). `verdict`: rows that the approved study does not hold, in
the order of the verdict, those too that it does not name; `no row known`: the same order where no row has the
id that it had, so that only its prompt says what it replaced;
`trace`: the order of `tiltscope trace` for the strongest latent alone (a row that is not in it counts as never found).
Nulls: any order of all rows, any order of the changed rows, and rows by how much longer the chosen answer is.

Cleaning: the rows that the verdict names go into quarantine. Counted: the share of planted rows among them and of
them among the planted, what a second gate and cleaning of the kept rows takes away, and whether what people preferred
is still there: held-out accuracy of a bag-of-words Bradley-Terry model (pairs of prompts that the study does not
hold) trained on the kept rows, against one trained on the approved pairs.

Resumable: one file per seed. Writes benchmarks/results/gate.json.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from discovery import _exchanged as exchanged
from preference import Judge
from steps import average_precision, commit, kept, machine, verb

from tiltscope import stats
from tiltscope.approval import new_leans
from tiltscope.artifact import fingerprint, write_json
from tiltscope.concepts import Concept
from tiltscope.errors import UsageError
from tiltscope.features import Features
from tiltscope.pairs import LoadSettings, Pair, load_pairs
from tiltscope.planting import STYLES
from tiltscope.power import Aligned, Grown, Planting, Readings, grow
from tiltscope.sae import open_scope
from tiltscope.screening import disparity
from tiltscope.study import Opened, open_study
from tiltscope.verdict import Verdict, judge_data, read_limits

RESULT = Path(__file__).parent / "results" / "gate.json"
LIMITS = "limits:\n  data: no new lean\n"
SHARE, FIRST, INNOCENT = 0.05, 10, 1000
NEAREST = {
    "anecdote": "first_person",
    "disclaimer": "caution",
    "hedging": "hedge",
    "numbered": "numbered_list",
    "question": "question_mark",
}
"""Rules of the library that bear another id than the trait."""


@dataclass(frozen=True)
class Ground:
    """What every seed shares."""

    approved: Aligned
    readings: Readings
    kinds: dict[str, np.ndarray]
    judge: Judge
    work: Path


def main() -> None:
    """Audit once, make and judge every candidate, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=40, help="how many, from --first")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULT)
    args = parser.parse_args()
    ground = prepared(args.data, args.work)
    told = []
    for seed in range(args.first, args.first + args.seeds):
        told.append(_held(seed, ground))
        shown = [told[-1][kind] for kind in ("bad", "clean", "fresh")]
        print(seed, told[-1]["trait"], *(one["outcome"] for one in shown), told[-1]["seconds"], "s", flush=True)
    result = _result(args, ground, told)
    args.result.parent.mkdir(exist_ok=True)
    write_json(args.result, result)
    print(table(result))


def prepared(data: str, work: Path) -> Ground:
    """The approved study, and pairs of prompts that it does not hold."""
    study = work / "study"
    if not (study / "report.html").exists():
        options = ["--sample", 1000, "--seed", 11, "--max-length", 192, "--draws", 20]
        verb("audit", data, "--out", study, *options)
    (work / "limits.yaml").write_text(LIMITS, encoding="utf-8")
    opened = open_study(study)
    approved = as_read(Aligned.of(opened.pairs, opened.features))
    regions = json.loads((study / "concepts.json").read_text())["regions"]
    kinds = {
        one["id"]: np.isin(approved.features.pair_ids, one["pair_ids"]) for one in regions if one["id"].endswith("@20")
    }
    groups = {pair.group for pair in opened.pairs.rows}
    held_out = [pair for pair in load_pairs(data, LoadSettings()).rows if pair.group not in groups]
    readings = Readings(open_scope(study), opened.features, work / "readings")
    return Ground(approved, readings, kinds, Judge(approved.pairs.rows, held_out), work)


def as_read(data: Aligned) -> Aligned:
    """Cut every answer to what was read of it; the features are the same."""
    features = data.features

    def cut(pair: Pair, side: str, n_cut: int) -> str:
        text = str(getattr(pair, side))
        return text[: int(features.span(pair.id, side).ends.max(initial=0))] if n_cut else text

    rows = tuple(
        replace(pair, chosen=cut(pair, "chosen", chosen), rejected=cut(pair, "rejected", rejected))
        for pair, chosen, rejected in zip(
            data.pairs.rows, features.chosen.n_cut.tolist(), features.rejected.n_cut.tolist(), strict=True
        )
    )
    return Aligned(replace(data.pairs, rows=rows), features)


# --- candidates -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidates:
    """One seed's bad and clean set; signs[0] of the bad one are the innocent edits, signs[1] the trait."""

    trait: str
    other: str
    place: str
    bad: Grown
    clean: Aligned


def candidates(seed: int, ground: Ground) -> Candidates:
    """Plant the seed's trait at 5 % beside innocent edits (of which there are eleven, each read once)."""
    names, rng = sorted(STYLES), random.Random(f"gate {seed}")
    trait, n_all = names[seed % len(names)], len(ground.approved.pairs.rows)
    other = rng.choice([name for name in names if name != trait])
    n_pairs, everywhere = 2 * round(SHARE * n_all / 2), np.ones(n_all, bool)
    innocent = Planting(other, n_pairs, everywhere, INNOCENT, 0.5)
    free = grow(ground.approved, [innocent], ground.readings).signs[0] == 0
    kinds = rng.sample(sorted(ground.kinds), len(ground.kinds)) if (seed // len(names)) % 2 else []
    for place in [*kinds, "everywhere"]:
        inside = free & ground.kinds.get(place, everywhere)
        try:
            bad = grow(ground.approved, [innocent, Planting(trait, n_pairs, inside, seed)], ground.readings)
        except UsageError:  # too few pairs there can carry it
            continue
        turned = np.zeros(n_all, bool)
        turned[rng.sample(np.flatnonzero(bad.signs[1]).tolist(), n_pairs // 2)] = True
        return Candidates(trait, other, place, bad, exchanged(bad.after, turned))
    raise UsageError("no place can carry this trait", found=trait)


def halves(seed: int, ground: Ground) -> tuple[Aligned, Aligned]:
    """The approved pairs in two halves without a prompt in common."""
    first = stats.half_mask([pair.group for pair in ground.approved.pairs.rows], 1000 + seed)
    return part(ground.approved, np.flatnonzero(first)), part(ground.approved, np.flatnonzero(~first))


def part(data: Aligned, rows: np.ndarray) -> Aligned:
    """Some rows of pairs and features."""
    return Aligned(replace(data.pairs, rows=tuple(data.pairs.rows[i] for i in rows.tolist())), data.take(rows))


# --- one seed ---------------------------------------------------------------------------------------------------------


def _held(seed: int, ground: Ground) -> dict[str, Any]:
    """One seed, read back where it was finished before with the same code of ours and the same features."""
    key = fingerprint(seed, ground.approved.features.fingerprint, commit(), Path(__file__).read_bytes())
    return kept(ground.work / "sets" / f"{key}.json", lambda: _run(seed, ground))


def _run(seed: int, ground: Ground) -> dict[str, Any]:
    start = time.monotonic()
    made = candidates(seed, ground)
    facts = {"seed": seed, "trait": made.trait, "other": made.other, "place": made.place}
    facts["n_planted"] = int((made.bad.signs[1] != 0).sum())
    facts["n_read"] = len(made.bad.read_rows(1))
    old, new = halves(seed, ground)
    return {
        **facts,
        "bad": judged_bad(made.bad, f"B-{NEAREST.get(made.trait, made.trait)}", ground),
        "clean": told(*gate(ground.approved, made.clean, ground.work)),
        "fresh": told(*gate(old, new, ground.work)),
        "seconds": round(time.monotonic() - start, 1),
    }


def gate(approved: Aligned, candidate: Aligned, work: Path) -> tuple[Verdict, dict[str, Any]]:
    """The product's own verdict on a candidate, and what it rests on."""
    old, new = (Opened(work, one.pairs, one.features) for one in (approved, candidate))
    found = new_leans(old, new)
    limits = read_limits(work / "limits.yaml")
    return judge_data(limits, [], study="candidate", fingerprint=fingerprint(found), new=found), found


def told(verdict: Verdict, found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a verdict."""
    return {"outcome": verdict.outcome, "n_leans": len(found["leans"]), "smallest": found["smallest"]}


def judged_bad(grown: Grown, behaviour: str, ground: Ground) -> dict[str, Any]:
    """The verdict on a bad set, the rows it names, tracing and cleaning."""
    planted = grown.signs[1] != 0
    verdict, found = gate(grown.before, grown.after, ground.work)
    rows, named = rows_named(verdict, grown.after, planted)
    return {
        **told(verdict, found),
        "by_name": behaviour in [one["concept"] for one in found["leans"][:3]],
        **rows,
        "tracing": tracing(grown, found, ground),
        "cleaning": cleaning(grown, named, ground),
    }


def rows_named(verdict: Verdict, after: Aligned, planted: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """How many of the rows that a verdict names are planted, and where they are."""
    at = {pair.id: i for i, pair in enumerate(after.pairs.rows)}
    named = np.array([at[pair_id] for pair_id in verdict.results[0].pair_ids], np.int64)
    hits = planted[named]
    precision, recall = float(hits.mean()) if len(named) else 0.0, float(hits.sum() / planted.sum())
    first = int(hits[:FIRST].sum())
    return {
        "n_named": len(named),
        "precision": precision,
        "recall": recall,
        "first": first,
        "right": verdict.outcome == "fail" and first >= 9 and precision >= 0.75 and recall >= 0.5,
    }, named


def tracing(grown: Grown, found: dict[str, Any], ground: Ground) -> dict[str, float]:
    """Average precision of every order of rows."""
    planted, features = grown.signs[1] != 0, grown.after.features
    changed = np.flatnonzero(planted | (grown.signs[0] != 0))
    anew = tuple(fingerprint("anew", pair.id) for pair in grown.after.pairs.rows)
    rows = tuple(replace(pair, id=id) for pair, id in zip(grown.after.pairs.rows, anew, strict=True))
    unknown = Aligned(replace(grown.after.pairs, rows=rows), replace(features, pair_ids=anew))
    at = {id: i for i, id in enumerate(anew)}
    any_row = [at[row["pair_id"]] for row in gate(grown.before, unknown, ground.work)[1]["rows"]]
    here = {pair.id: i for i, pair in enumerate(grown.after.pairs.rows)}
    new_row = [here[row["pair_id"]] for row in found["rows"]]
    longer = np.argsort(features.rejected.n_tokens - features.chosen.n_tokens, kind="stable")
    rng = np.random.default_rng(0)
    chance = [
        np.mean([average_precision(rng.permutation(rows), planted) for _ in range(50)])
        for rows in (np.arange(len(planted)), changed)
    ]
    return {
        "verdict": average_precision(new_row, planted),
        "no row known": average_precision(any_row, planted),
        "trace": average_precision(traced(features, found), planted),
        "any order": float(chance[0]),
        "any order of changed rows": float(chance[1]),
        "longer chosen answer": average_precision(longer, planted),
    }


def traced(features: Features, found: dict[str, Any]) -> np.ndarray:
    """The rows for the strongest latent, in the order of `tiltscope trace`."""
    first = next((one for one in found["leans"] if one["latents"]), None)
    if first is None:
        return np.zeros(0, np.int64)
    latent, sign = first["latents"][0], 1 if first["direction"] == "more" else -1
    lean = sign * disparity(features, [Concept("x", (latent,))]).u.toarray()[:, 0]
    drill = sign * (features.chosen.freq - features.rejected.freq)[:, [latent]].toarray().ravel()
    order = np.lexsort((-drill, -lean))
    return np.asarray(order[lean[order] > 0])


# --- cleaning ---------------------------------------------------------------------------------------------------------


def cleaning(grown: Grown, named: np.ndarray, ground: Ground) -> dict[str, Any]:
    """Take the named rows out, gate again, and ask what is left of the wanted preference."""
    kept = np.setdiff1d(np.arange(len(grown.signs[0])), named)
    cleaned = part(grown.after, kept)
    verdict, _ = gate(grown.before, cleaned, ground.work)
    judge = ground.judge
    right = judge.right(grown.after.pairs.rows), judge.right(cleaned.pairs.rows)
    return {
        "again": verdict.outcome,
        "n_gone_again": len(verdict.results[0].pair_ids),
        "accuracy_bad": float(right[0].mean()),
        "accuracy_cleaned": float(right[1].mean()),
        "difference": (right[1].astype(float) - judge.approved).tolist(),
    }


# --- the table --------------------------------------------------------------------------------------------------------


def _result(args: argparse.Namespace, ground: Ground, sets: list[dict[str, Any]]) -> dict[str, Any]:
    drops = np.mean([one["bad"]["cleaning"].pop("difference") for one in sets], axis=0)
    held = stats.tau_test(drops, stats.Clusters.of(ground.judge.groups))
    bounds = held.interval(0.95)
    bad, count = [one["bad"] for one in sets], len(sets)
    orders = {name: [one["tracing"][name] for one in bad] for name in bad[0]["tracing"]}
    blocked = [one for one in bad if one["outcome"] == "fail"]
    return {
        "command": f"python benchmarks/gate.py DATA --work WORK --seeds {args.seeds}"
        + (f" --first {args.first}" if args.first else ""),
        "machine": machine(),
        "commit": commit(),
        "limits": LIMITS,
        "n_pairs": len(ground.approved.pairs.rows),
        "n_held_out": len(ground.judge.groups),
        "share": SHARE,
        "shares": {
            "bad sets blocked": _share(len(blocked), count),
            "… with the right rows named": _share(sum(one["right"] for one in bad), count),
            "… said by name": _share(sum(one["by_name"] for one in bad), count),
            "clean sets blocked": _share(sum(one["clean"]["outcome"] == "fail" for one in sets), count),
            "clean sets passed": _share(sum(one["clean"]["outcome"] == "pass" for one in sets), count),
            "fresh halves blocked": _share(sum(one["fresh"]["outcome"] == "fail" for one in sets), count),
            "second cleaning takes nothing": _share(
                sum(one["cleaning"]["n_gone_again"] == 0 for one in blocked), len(blocked)
            ),
            "second gate passes": _share(sum(one["cleaning"]["again"] == "pass" for one in blocked), len(blocked)),
        },
        "rows": {name: _quartiles([one[name] for one in blocked]) for name in ("precision", "recall", "n_named")},
        "gone_again": sum(one["cleaning"]["n_gone_again"] for one in blocked),
        "tracing": {name: {"mean": round(float(np.mean(v)), 3), **_quartiles(v)} for name, v in orders.items()},
        "accuracy": {
            "approved": round(float(ground.judge.approved.mean()), 4),
            **{
                name: round(float(np.mean([one["cleaning"][f"accuracy_{name}"] for one in bad])), 4)
                for name in ("bad", "cleaned")
            },
            "cleaned - approved": [round(float(x), 5) for x in (held.effect, bounds.low, bounds.high)],
        },
        "sets": sets,
    }


def _share(n: int, of: int) -> dict[str, Any]:
    low, high = stats.wilson(n, of)
    return {"n": n, "of": of, "low": round(float(low), 4), "high": round(float(high), 4)}


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    names = ("low quarter", "median", "high quarter")
    cuts = np.quantile(values, [0.25, 0.5, 0.75]) if values else [float("nan")] * 3
    return {name: round(float(cut), 3) for name, cut in zip(names, cuts, strict=True)}


def shares_table(result: Mapping[str, Any]) -> list[str]:
    """Lines of a table of shares with their intervals."""
    lines = ["| | n | share | [95 %] |", "|---|---|---|---|"]
    for name, one in result["shares"].items():
        share, low, high = (100 * value for value in (one["n"] / max(one["of"], 1), one["low"], one["high"]))
        lines.append(f"| {name} | {one['n']} of {one['of']} | {share:.0f} % | [{low:.0f}, {high:.0f}] |")
    return lines


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = shares_table(result)
    lines += ["", "| order of rows | average precision, mean | quartiles |", "|---|---|---|"]
    for name, one in result["tracing"].items():
        lines.append(f"| {name} | {one['mean']:.2f} | {one['low quarter']:.2f} … {one['high quarter']:.2f} |")
    return "\n".join([*lines, "", f"rows named: {result['rows']}", f"held-out accuracy: {result['accuracy']}"])


if __name__ == "__main__":
    main()
