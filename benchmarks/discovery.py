"""Which method finds what was planted, and how much else does it claim? Traits planted into real pairs, known truth.

    python benchmarks/discovery.py DATA --work WORK [--seeds 0 1 2] [--sample 1000] [--shares 0.1 0.5 1 2 5 20]

DATA is audited once with the embedded model (one autoencoder, one reading); planted answers alone are read again.

Background: chosen and rejected are exchanged by a coin per group of prompts. So nothing leans but what is planted, and
every finding that planting did not cause is false. Each seed draws other coins, other traits (six of eleven
planted on the chosen side, three controls planted evenly on both), and other pairs. A cell plants all six at a share of
the pairs, everywhere or after one kind of prompt (drawn by the seed from the study's kinds).

One rule for every method. A finding claims that some score (chosen minus rejected, as the method defines it) is above
or below 0 over all pairs, or in some pairs against the rest (ours in kinds of pairs: as displayed). Both states of
every planted row are known, so it is known how much of that number the planting put there. The finding is true when
that is at least half of it, on the claimed side; else it is false. A true finding speaks of the planted trait with
which its score has the highest r over the planted rows, before and after, if r >= .3 and no |r| with a control is
higher. (The rule and its two numbers were set on seed 100, which is not reported.) Per cell and method: recall (share
of planted traits spoken of; conditional: also "placed", by a finding whose pairs match the kind at F1 >= .5),
precision@20 (true among the first 20 listed, or among all where fewer are listed; none listed: no value) and the false
share of all that is listed (0 where nothing is). Strictly, a null is a lean that planting did not move at all, or moved
the other way: the share of those is given too (its mean is the FDR); the false share also counts leans that are real
and mostly luck. Methods without a cut list 20. A cell per seed plants nothing: there every finding is false. Beside
them stands a ceiling: each trait by its own rule, in its own place, tested once (p <= .05) on all pairs; no search that
tests thousands can be expected to pass it.

Confounds, each in a cell of its own at 5 %: `length` (of 30 % of the pairs the rejected answer keeps its first half;
what this causes is neither true nor false, and counted apart), `sibling` (a control goes along with the first trait
in 70 % of its pairs, and is on the rejected side as often elsewhere), `duplicates` (of 5 % of the groups every pair
stands ten times), `source` (in 15 % of the groups labels are coins after planting).
Resumable: one file per cell. Writes benchmarks/results/discovery.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from comparators import METHODS, Claim
from judging import ceiling, judged

from tiltscope.artifact import fingerprint, read_json, write_json
from tiltscope.cells import ContrastSettings
from tiltscope.contrast import contrast
from tiltscope.errors import ProductError, UsageError
from tiltscope.planting import STYLES
from tiltscope.power import SPEAKS_FROM, Aligned, Grown, Planting, Readings, grow, read_again
from tiltscope.sae import open_scope
from tiltscope.stats import wilson
from tiltscope.study import open_study

RESULT = Path(__file__).parent / "results" / "discovery.json"
VERB = [sys.executable, "-c", "from tiltscope.cli import run; run()"]
CONFOUNDS = ("length", "sibling", "duplicates", "source")
N_PLANTED, N_CONTROLS = 6, 3
SPLIT = 11  # seed of the audit, and so of its two halves
METHODS_TOLD = ("tiltscope", *METHODS)
CEILING = "each trait's own rule, known beforehand"


@dataclass(frozen=True)
class Cell:
    """One planting: a share of all pairs, everywhere or after a kind of prompt, with a confound or none."""

    seed: int
    share: float
    place: str  # global | conditional
    confound: str = "none"


def main() -> None:
    """Audit once, plant every cell, ask every method, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sample", type=int, default=1000)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.5, 1, 2, 5, 20], help="percent of pairs")
    parser.add_argument("--no-confounds", action="store_true")
    parser.add_argument("--result", type=Path, default=RESULT)
    args = parser.parse_args()
    study = args.work / "study"
    if not (study / "report.html").exists():
        options = ["--sample", args.sample, "--seed", SPLIT, "--max-length", args.max_length, "--draws", 20]
        subprocess.run([*VERB, "audit", args.data, "--out", study, *map(str, options)], check=True)
    opened = open_study(study)
    ground = Aligned.of(opened.pairs, opened.features)
    readings = Readings(open_scope(study), opened.features, args.work / "readings")
    kinds = {r["id"]: set(r["pair_ids"]) for r in json.loads((study / "concepts.json").read_text())["regions"]}
    cells = [one for seed in args.seeds for one in _grid(seed, args.shares, not args.no_confounds)]
    told = []
    for number, cell in enumerate(cells, 1):
        told.append(_held(cell, ground, readings, kinds, args.work / "cells"))
        print(f"{number}/{len(cells)} {cell} {told[-1]['seconds']} s", file=sys.stderr, flush=True)
    result = _result(args, ground, told)
    args.result.parent.mkdir(exist_ok=True)
    write_json(args.result, result)
    print(table(result))


def _grid(seed: int, shares: Sequence[float], confounds: bool) -> list[Cell]:
    """A kind of prompts holds a fifth of the pairs: six traits at 20 % do not fit, and at .1 % nothing can be found."""
    cells = [Cell(seed, share / 100, "global") for share in (0.0, *shares)]
    cells += [Cell(seed, share / 100, "conditional") for share in shares if 0.5 <= share <= 5]
    return cells + [Cell(seed, 0.05, "global", one) for one in CONFOUNDS if confounds]


def _held(cell: Cell, ground: Aligned, readings: Readings, kinds: dict[str, set[str]], folder: Path) -> dict[str, Any]:
    """One cell, read back where it was finished before with the same code of ours and the same features."""
    source = [Path(__file__).with_name(name).read_bytes() for name in ("discovery.py", "comparators.py", "judging.py")]
    path = folder / f"{fingerprint(repr(cell), ground.features.fingerprint, _commit(), *source)}.json"
    try:
        body: dict[str, Any] = read_json(path, verb="")
    except ProductError:
        body = _run(cell, ground, readings, kinds)
        write_json(path, body)
    return body


def _run(cell: Cell, ground: Aligned, readings: Readings, kinds: dict[str, set[str]]) -> dict[str, Any]:
    start = time.monotonic()
    data = scrambled(ground, cell.seed)
    inside, kind = _place(data, kinds, cell)
    uncut = data
    if cell.confound == "length":
        data = _shortened(data, readings, cell.seed)
    traits, controls, grown = _planted(data, inside, readings, cell)
    grown = _confounded(grown, cell)
    if cell.confound != "length":
        uncut = grown.before
    planted_s = time.monotonic() - start
    facts = {
        **{"seed": cell.seed, "share": cell.share, "place": cell.place, "confound": cell.confound, "kind": kind},
        **{"n_pairs": len(grown.after.pairs.rows), "traits": traits, "controls": controls, "methods": {}},
        "ceiling": ceiling(traits, grown.after, inside),
    }
    for name, method in {"tiltscope": ours, **METHODS}.items():
        begun = time.monotonic()
        claims = method(grown.after, cell.seed)
        entry = judged(claims, grown, len(traits), inside if cell.place == "conditional" else None, uncut)
        facts["methods"][name] = {**entry, "seconds": round(time.monotonic() - begun, 2)}
    return {**facts, "planting_seconds": round(planted_s, 1), "seconds": round(time.monotonic() - start, 1)}


def ours(data: Aligned, seed: int) -> list[Claim]:
    """The confirmed families, each by its head, smallest p first; the study's contrast without its nulls."""
    settings = ContrastSettings(seed=SPLIT, n_null_cells=0, n_flip_cells=0)
    result = contrast(data.pairs, data.features, settings)
    inside = {kind.id: kind.inside for kind in result.regions}
    heads = sorted((h for h in result.hypotheses if h.confirmed and h.family == h.id), key=lambda h: (h.p, h.id))
    return [
        Claim(
            *(("rule", h.concept.rule) if h.concept.rule else ("disparity", h.concept.latents)),
            1 if h.direction == "more" else -1,
            inside[h.region.id] if h.region else None,
        )
        for h in heads
    ]


def scrambled(data: Aligned, seed: int) -> Aligned:
    """Exchange chosen and rejected by a coin per group: nothing leans any more."""
    groups, codes = np.unique([pair.group for pair in data.pairs.rows], return_inverse=True)
    return _exchanged(data, (np.random.default_rng([seed, 1]).random(len(groups)) < 0.5)[codes])


def _exchanged(data: Aligned, flip: np.ndarray) -> Aligned:
    rows = tuple(
        replace(pair, chosen=pair.rejected, rejected=pair.chosen) if swap else pair
        for pair, swap in zip(data.pairs.rows, flip, strict=True)
    )
    n, at = len(flip), np.arange(len(flip))
    both = Aligned(data.pairs, data.features).take(np.concatenate([at, at]))
    stacked = replace(both, chosen=_joined(data, "chosen", "rejected"), rejected=_joined(data, "rejected", "chosen"))
    taken = Aligned(data.pairs, stacked).take(np.where(flip, at + n, at))
    return Aligned(replace(data.pairs, rows=rows), replace(taken, pair_ids=data.features.pair_ids))


def _joined(data: Aligned, first: str, second: str) -> Any:
    from scipy import sparse

    a, b = getattr(data.features, first), getattr(data.features, second)
    return replace(
        a,
        freq=sparse.csr_array(sparse.vstack([a.freq, b.freq])),
        max=sparse.csr_array(sparse.vstack([a.max, b.max])),
        **{name: np.concatenate([getattr(a, name), getattr(b, name)]) for name in ("n_tokens", "n_cut", "n_dropped")},
    )


def _place(data: Aligned, kinds: dict[str, set[str]], cell: Cell) -> tuple[np.ndarray, str]:
    """All pairs, or one of the study's kinds of prompts at 20 % of the pairs, drawn by the seed."""
    if cell.place == "global":
        return np.ones(len(data.pairs.rows), bool), ""
    known = sorted(name for name in kinds if name.endswith("@20")) or sorted(kinds)
    kind = random.Random(f"kind {cell.seed}").choice(known)
    return np.array([pair_id in kinds[kind] for pair_id in data.features.pair_ids]), kind


def _planted(data: Aligned, inside: np.ndarray, readings: Readings, cell: Cell) -> tuple[list[str], list[str], Grown]:
    """Plant six traits on the chosen side, three controls on both; those that too few pairs can carry are left out."""
    names = random.Random(f"traits {cell.seed}").sample(sorted(STYLES), len(STYLES))
    n = round(cell.share * len(inside))
    kept: dict[bool, list[str]] = {True: [], False: []}
    plantings: list[Planting] = []
    grown = Grown(data, data, ())
    for number, name in enumerate(names[: N_PLANTED + N_CONTROLS]):
        is_trait = number < N_PLANTED
        n_here, lean = (n, 1.0) if is_trait else (n + n % 2, 0.5)
        try:
            grown = grow(data, [*plantings, Planting(name, n_here, inside, cell.seed, lean)], readings)
        except UsageError:
            continue
        plantings.append(Planting(name, n_here, inside, cell.seed, lean))
        kept[is_trait].append(name)
    if cell.confound == "sibling" and kept[True]:
        grown, kept[False] = _with_sibling(data, plantings[: len(kept[True])], grown, readings)
    return kept[True], kept[False], grown


def _with_sibling(data: Aligned, traits: list[Planting], grown: Grown, readings: Readings) -> tuple[Grown, list[str]]:
    """One control that goes with the first trait in 70 % of its pairs, and against nothing as often elsewhere."""
    carrier = grown.signs[0] != 0
    n = round(0.7 * int(carrier.sum()))
    for name in sorted(set(STYLES) - {str(one.trait) for one in traits}):
        along = Planting(name, n, carrier, traits[0].seed)
        against = Planting(name, n, ~carrier, traits[0].seed, lean=0.0)
        try:
            both = grow(data, [*traits, along, against], readings)
        except UsageError:
            continue
        signs = (*both.signs[: len(traits)], both.signs[-2] + both.signs[-1])
        return replace(both, signs=signs), [name]
    return replace(grown, signs=grown.signs[: len(traits)]), []


def _shortened(data: Aligned, readings: Readings, seed: int) -> Aligned:
    """Of 30 % of the pairs the rejected answer keeps the first half of its sentences."""
    cut = np.random.default_rng([seed, 2]).random(len(data.pairs.rows)) < 0.3
    rows = []
    for pair, chosen in zip(data.pairs.rows, cut, strict=True):
        rows.append(replace(pair, rejected=_first_half(pair.rejected)) if chosen else pair)
    return read_again(data, replace(data.pairs, rows=tuple(rows)), readings)


def _first_half(text: str) -> str:
    sentences = text.split(". ")
    return ". ".join(sentences[: max(1, len(sentences) // 2)])


def _confounded(grown: Grown, cell: Cell) -> Grown:
    groups, codes = np.unique([pair.group for pair in grown.after.pairs.rows], return_inverse=True)
    rng = np.random.default_rng([cell.seed, 3])
    if cell.confound == "duplicates":
        copies = np.where(rng.random(len(groups)) < 0.05, 10, 1)[codes]
        rows = np.repeat(np.arange(len(codes)), copies)
        signs = tuple(sign[rows] for sign in grown.signs)
        return Grown(_repeated(grown.before, rows), _repeated(grown.after, rows), signs)
    if cell.confound == "source":
        flip = (rng.random(len(groups)) < 0.15)[codes] & (rng.random(len(groups)) < 0.5)[codes]
        signs = tuple(np.where(flip, -sign, sign) for sign in grown.signs)
        return Grown(_exchanged(grown.before, flip), _exchanged(grown.after, flip), signs)
    return grown


def _repeated(data: Aligned, rows: np.ndarray) -> Aligned:
    seen: dict[int, int] = {}
    pairs, ids = [], []
    for row in rows.tolist():
        seen[row] = seen.get(row, 0) + 1
        pair = data.pairs.rows[row]
        pairs.append(replace(pair, id=pair.id if seen[row] == 1 else f"{pair.id}-{seen[row]}"))
        ids.append(pairs[-1].id)
    return Aligned(replace(data.pairs, rows=tuple(pairs)), replace(data.take(rows), pair_ids=tuple(ids)))


def _commit() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def _result(args: argparse.Namespace, ground: Aligned, cells: list[dict[str, Any]]) -> dict[str, Any]:
    seeds, shares = (" ".join(f"{one:g}" for one in values) for values in (args.seeds, args.shares))
    return {
        "command": f"python benchmarks/discovery.py DATA --work WORK --seeds {seeds} --sample {args.sample} "
        f"--max-length {args.max_length} --shares {shares}" + (" --no-confounds" if args.no_confounds else ""),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "commit": _commit(),
        "speaks_from": SPEAKS_FROM,
        "n_pairs": len(ground.pairs.rows),
        "table": _rows(cells),
        "cells": cells,
    }


_COLUMNS = (
    *("recall", "recall_placed", "precision_20", "false_share", "null_share"),
    *("n_listed", "n_speaking", "n_of_cut", "seconds"),
)


def _rows(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per place, confound, share and method: means over seeds, recall with its interval over planted traits."""
    rows = []
    keys = sorted({(c["confound"] != "none", c["confound"], c["place"] != "global", c["share"]) for c in cells})
    for _, confound, conditional, share in keys:
        place = "conditional" if conditional else "global"
        mine = [c for c in cells if (c["confound"], c["place"], c["share"]) == (confound, place, share)]
        known = [{"recall": c["ceiling"], "n_traits": len(c["traits"])} for c in mine]
        told = {name: [{**c["methods"][name], "n_traits": len(c["traits"])} for c in mine] for name in METHODS_TOLD}
        for method, entries in [*told.items(), (CEILING, known)]:
            row = {"place": place, "confound": confound, "share": share, "method": method, "n_seeds": len(entries)}
            for name in _COLUMNS:
                values = [one[name] for one in entries if one.get(name) is not None]
                row[name] = round(float(np.mean(values)), 3) if values else None
            rows.append({**row, **_recall_interval(entries)})
    return rows


def _recall_interval(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Wilson over the planted traits of all seeds."""
    planted = [
        (round(one["recall"] * one["n_traits"]), one["n_traits"]) for one in entries if one["recall"] is not None
    ]
    found, n = (sum(counts) for counts in zip(*planted, strict=True)) if planted else (0, 0)
    low, high = wilson(found, n)
    return {"n_found": found, "n_planted": n, "recall_low": round(low, 3), "recall_high": round(high, 3)}


def table(result: dict[str, Any]) -> str:
    """The result as a Markdown table."""
    heads = ["planted", "share", "method", "recall [95 %]", "placed", "precision@20", "false", "null", "listed"]
    heads += ["speaking"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    names = ("recall_placed", "precision_20", "false_share", "null_share")
    for row in result["table"]:
        what = row["place"] + ("" if row["confound"] == "none" else f", {row['confound']}")
        numbers = ["–" if row[name] is None else f"{row[name]:.2f}" for name in names]
        share = f"{100 * row['share']:g} %"
        counts = ["–" if row[name] is None else f"{row[name]:g}" for name in ("n_listed", "n_speaking")]
        recall = f"{row['recall']:.2f} [{row['recall_low']:.2f}, {row['recall_high']:.2f}]" if row["n_planted"] else "–"
        lines.append(f"| {' | '.join([what, share, row['method'], recall, *numbers, *counts])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
