"""Are the p-values honest on these data? Two nulls, computed on the pairs that test: leans all, comparisons confirm.

In:  the bench, the views (what is measured, and in which regions), and the leans that are seen mostly in one place.
Out: per null and view: share of p < .05, and share of draws in which Benjamini-Hochberg at q rejects anything.
Refuses: to hide how many cells and draws it used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiltscope import stats
from tiltscope.cells import Bench, Half, design
from tiltscope.few import OwnPlace, are_few, witnesses
from tiltscope.regions import KindOfPair
from tiltscope.screening import Measures
from tiltscope.stats.score import cautious_p, cautious_p_two, flip_scores, tau_score_flips, wild_scores

__all__ = ["adjusted_null", "calibrate", "sample_cells", "sharp_null", "summary"]

_EVERYWHERE = ("global", "behaviours", "often", "words")

View = tuple[str, Measures, tuple[KindOfPair, ...]]
_Cell = tuple[Measures, int, KindOfPair | None]


def calibrate(views: Sequence[View], bench: Bench, own: Sequence[OwnPlace] = ()) -> list[dict[str, Any]]:
    """Return one entry per null and view: null, view, n_cells, n_draws, share_p05, its share_se, any_rejection, mc_se.

    sharp: labels flip by group, everything is computed again. adjusted: the fitted values without the tested term plus
    group-signed residuals, lengths as observed. Leans are tested two-sided, comparisons one-sided in a direction fixed
    beforehand by the seed.
    Leans that are tested exactly, everywhere ("few") or in the one place they are seen in ("own"), stand by themselves.
    """
    entries = [*_of_leans("few", _few_leans(views, bench), bench), *_of_leans("own", _own_leans(own, bench), bench)]
    for name in dict.fromkeys(view[0] for view in views):
        mine = [view for view in views if view[0] == name]
        for null, run, limit in (
            ("sharp", sharp_null, bench.settings.n_null_cells if name in _EVERYWHERE else bench.settings.n_flip_cells),
            ("adjusted", adjusted_null, bench.settings.n_null_cells),
        ):
            cells = sample_cells(mine, bench, limit)
            if cells:
                entries.append({"null": null, "view": name, **summary(run(cells, bench), bench)})
    return entries


def sample_cells(views: Sequence[View], bench: Bench, limit: int) -> list[_Cell]:
    """Return a seeded sample of at most `limit` cells with enough witnesses on the pairs that test them."""
    sizes = [len(measures.concepts) * max(len(regions), 1) for _, measures, regions in views]
    order = np.random.default_rng(bench.settings.seed).permutation(sum(sizes))
    cells: list[_Cell] = []
    for number in order.tolist():
        if len(cells) >= limit:
            break
        which = 0
        while number >= sizes[which]:
            number, which = number - sizes[which], which + 1
        _, measures, regions = views[which]
        column, place = divmod(number, max(len(regions), 1))
        cell = (measures, column, regions[place] if regions else None)
        if (regions or views[which][0] in _EVERYWHERE) and _seen(cell, bench):
            cells.append(cell)
    return cells


def _seen(cell: _Cell, bench: Bench) -> bool:
    measures, column, region = cell
    _, a = measures.columns([column])
    if region is None:
        return _n_groups(a[:, 0] > 0, bench.whole) >= 2 * bench.settings.min_groups
    stake, inside = a[bench.confirm.rows, 0] > 0, region.inside[bench.confirm.rows]
    least = min(_n_groups(stake & side, bench.confirm) for side in (inside, ~inside))
    return least >= bench.settings.min_groups


def _n_groups(at_stake: np.ndarray, half: Half) -> int:
    return int((half.clusters.group_sums(at_stake * 1.0) > 0).sum())


@dataclass(frozen=True)
class _Lean:
    """A lean by itself: its u on the rows it is tested on, those rows, and the unit of u where it is tested exactly."""

    u: np.ndarray
    half: Half
    unit: float | None


def _few_leans(views: Sequence[View], bench: Bench) -> list[_Lean]:
    """A seeded sample of the leans over all pairs that few groups are witnesses of."""
    leans: list[_Lean] = []
    rng = np.random.default_rng(bench.settings.seed)
    for name, measures, _ in views:
        if name in _EVERYWHERE and measures.concepts:
            few = rng.permutation(np.flatnonzero(are_few(witnesses(measures, bench.whole), bench.settings)))
            for column in few[: bench.settings.n_null_cells - len(leans)].tolist():
                leans.append(_Lean(_column(measures, column, bench.whole), bench.whole, measures.unit(column)))
    return leans


def _own_leans(own: Sequence[OwnPlace], bench: Bench) -> list[_Lean]:
    order = np.random.default_rng(bench.settings.seed).permutation(len(own))
    leans = []
    for place in (own[i] for i in order[: bench.settings.n_null_cells].tolist()):
        half = Half.of(np.flatnonzero(place.region.inside), bench.groups, bench.spline)
        unit = place.measures.unit(place.column) if place.few else None
        leans.append(_Lean(_column(place.measures, place.column, half), half, unit))
    return leans


def _column(measures: Measures, column: int, half: Half) -> np.ndarray:
    return np.asarray(measures.columns([column])[0][half.rows, 0])


def _of_leans(name: str, leans: Sequence[_Lean], bench: Bench) -> list[dict[str, Any]]:
    """Both nulls of some leans; one draw of signs for all of them, by group."""
    if not leans:
        return []
    entries = []
    for number, (null, run) in enumerate((("sharp", _sharp_lean), ("adjusted", _adjusted_lean))):
        drawn = stats.rademacher(int(bench.groups.max()) + 1, bench.settings.n_draws, bench.settings.seed + number)
        p = [run(one, drawn[np.unique(bench.groups[one.half.rows])]) for one in leans]
        entries.append({"null": null, "view": name, **summary(np.array(p), bench)})
    return entries


def _sharp_lean(lean: _Lean, signs: np.ndarray) -> np.ndarray:
    u, clusters = lean.u, lean.half.clusters
    if lean.unit is None:
        t, score = stats.tau_flips(u, clusters, signs), tau_score_flips(u, clusters, signs)
        return cautious_p_two(t, stats.tau_test(u, clusters).df, score)
    sums = clusters.group_sums(u)
    few, totals = stats.FewGroups.of(sums, lean.unit), sums @ signs / lean.unit
    return np.asarray(np.minimum(2 * np.minimum(*(stats.flip_p(few, totals, way) for way in (1, -1))), 1.0))


def _adjusted_lean(lean: _Lean, signs: np.ndarray) -> np.ndarray:
    """The equal-length lean: intercept beside the spline."""
    half, columns = lean.half, np.column_stack([lean.half.spline, np.ones(len(lean.u))])
    tested = columns.shape[1] - 1
    score = wild_scores(lean.u, columns, tested, half.clusters, signs)
    regression = half.equal_length
    return cautious_p_two(regression.wild(lean.u, signs), regression.df, score)


def sharp_null(cells: Sequence[_Cell], bench: Bench) -> np.ndarray:
    """Return p (n_cells, n_draws) with labels flipped by group."""
    signs = _signs(cells, bench, 0)
    return np.array([_sharp(cell, bench, signs[cell[2] is None]) for cell in cells])


def _tested_on(cell: _Cell, bench: Bench) -> Half:
    return bench.whole if cell[2] is None else bench.confirm


def _signs(cells: Sequence[_Cell], bench: Bench, more: int) -> dict[bool, np.ndarray]:
    """(n_groups, n_draws) for leans (True) and for comparisons (False), drawn once for all cells of a kind."""
    sizes = {cell[2] is None: _tested_on(cell, bench).clusters.n_groups for cell in cells}
    return {lean: stats.rademacher(n, bench.settings.n_draws, bench.settings.seed + more) for lean, n in sizes.items()}


def _sharp(cell: _Cell, bench: Bench, signs: np.ndarray) -> np.ndarray:
    measures, column, region = cell
    half = _tested_on(cell, bench)
    u, a = (x[half.rows, 0] for x in measures.columns([column]))
    if region is None:
        return _sharp_lean(_Lean(u, half, None), signs)
    unsigned = np.column_stack([a, a * region.inside[half.rows]])
    flipped = stats.flip_regression(u, half.spline, unsigned, 1, half.clusters, signs)
    score = flip_scores(u, half.spline, unsigned, 1, half.clusters, signs)
    return cautious_p(flipped.t, flipped.df, score, _direction(cell, bench))


def adjusted_null(cells: Sequence[_Cell], bench: Bench) -> np.ndarray:
    """Return p (n_cells, n_draws) of u* = fit without the tested term + w_g x residual."""
    signs = _signs(cells, bench, 1)
    return np.array([_adjusted(cell, bench, signs[cell[2] is None]) for cell in cells])


def _adjusted(cell: _Cell, bench: Bench, signs: np.ndarray) -> np.ndarray:
    measures, column, region = cell
    half = _tested_on(cell, bench)
    u, a = measures.columns([column])
    if region is None:
        return _adjusted_lean(_Lean(u[half.rows, 0], half, None), signs)
    columns = design(half, a[:, 0], region.inside)
    values, tested = u[half.rows, 0], columns.shape[1] - 1
    regression = stats.RegressionCR2(columns, half.clusters, tested)
    score = wild_scores(values, columns, tested, half.clusters, signs)
    return cautious_p(regression.wild(values, signs), regression.df, score, _direction(cell, bench))


def _direction(cell: _Cell, bench: Bench) -> int:
    """A direction fixed without the confirm half, as the explored direction is under the null."""
    measures, column, region = cell
    name = f"{measures.concepts[column].id}{'' if region is None else region.id}{bench.settings.seed}"
    return 1 if sum(name.encode()) % 2 else -1


def summary(p: np.ndarray, bench: Bench) -> dict[str, Any]:
    """Summarise p (n_cells, n_draws); cells whose statistic is undefined in a draw are counted apart."""
    defined = np.isfinite(p)
    rejected = np.array([_any_rejection(draw, bench.settings.q) for draw in p.T])
    share = float(rejected.mean())
    n = p.shape[1]
    by_draw = np.array([(draw[kept] < 0.05).mean() for draw, kept in zip(p.T, defined.T, strict=True) if kept.any()])
    return {
        "n_cells": p.shape[0],
        "n_draws": n,
        "n_undefined": int((~defined).sum()),
        "share_p05": float((p[defined] < 0.05).mean()) if defined.any() else float("nan"),
        "share_se": float(by_draw.std(ddof=1) / np.sqrt(len(by_draw))) if len(by_draw) > 1 else 0.0,
        "any_rejection": share,
        "mc_se": float(np.sqrt(bench.settings.q * (1 - bench.settings.q) / n)),
    }


def _any_rejection(p: np.ndarray, q: float) -> bool:
    return bool(np.nanmin(stats.benjamini_hochberg(p), initial=1.0) <= q)
