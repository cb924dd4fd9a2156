"""Are the p-values honest on these data? Two nulls, computed on the confirm half.

In:  the bench and the views (what is measured, and in which regions).
Out: per null and view: share of p < .05, and share of draws in which Benjamini-Hochberg at q rejects anything.
Refuses: to hide how many cells and draws it used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiltscope import stats
from tiltscope.cells import Bench, design
from tiltscope.regions import KindOfPair
from tiltscope.screening import Measures
from tiltscope.stats.score import cautious_p, flip_scores, tau_score_flips, wild_scores

__all__ = ["adjusted_null", "calibrate", "sample_cells", "sharp_null", "summary"]

View = tuple[str, Measures, tuple[KindOfPair, ...]]
_Cell = tuple[Measures, int, KindOfPair | None]


def calibrate(views: Sequence[View], bench: Bench) -> list[dict[str, Any]]:
    """Return one entry per null and view: null, view, n_cells, n_draws, share_p05, any_rejection, mc_se.

    sharp: labels flip by group, everything is computed again. adjusted: the fitted values without the tested term plus
    group-signed residuals, lengths as observed. Tests are one-sided in a direction fixed beforehand by the seed.
    """
    entries = []
    for name in dict.fromkeys(view[0] for view in views):
        mine = [view for view in views if view[0] == name]
        for null, run, limit in (
            ("sharp", sharp_null, bench.settings.n_null_cells if name == "global" else bench.settings.n_flip_cells),
            ("adjusted", adjusted_null, bench.settings.n_null_cells),
        ):
            cells = sample_cells(mine, bench, limit)
            if cells:
                entries.append({"null": null, "view": name, **summary(run(cells, bench), bench)})
    return entries


def sample_cells(views: Sequence[View], bench: Bench, limit: int) -> list[_Cell]:
    """Return a seeded sample of at most `limit` cells with enough witnesses on the confirm half."""
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
        if (regions or views[which][0] == "global") and _seen(cell, bench):
            cells.append(cell)
    return cells


def _seen(cell: _Cell, bench: Bench) -> bool:
    measures, column, region = cell
    _, a = measures.columns([column])
    stake = (a[bench.confirm.rows, 0] > 0) * 1.0
    inside = np.ones(len(stake)) if region is None else region.inside[bench.confirm.rows] * 1.0
    sides = [stake * inside] if region is None else [stake * inside, stake * (1 - inside)]
    least = min(int((bench.confirm.clusters.group_sums(side) > 0).sum()) for side in sides)
    return least >= bench.settings.min_groups


def sharp_null(cells: Sequence[_Cell], bench: Bench) -> np.ndarray:
    """Return p (n_cells, n_draws) with labels flipped by group."""
    half = bench.confirm
    signs = stats.rademacher(half.clusters.n_groups, bench.settings.n_draws, bench.settings.seed)
    return np.array([_sharp(cell, bench, signs) for cell in cells])


def _sharp(cell: _Cell, bench: Bench, signs: np.ndarray) -> np.ndarray:
    measures, column, region = cell
    half = bench.confirm
    u, a = (x[half.rows, 0] for x in measures.columns([column]))
    if region is None:
        t, score = stats.tau_flips(u, half.clusters, signs), tau_score_flips(u, half.clusters, signs)
        df: Any = stats.tau_test(u, half.clusters).df
    else:
        unsigned = np.column_stack([a, a * region.inside[half.rows]])
        flipped = stats.flip_regression(u, half.spline, unsigned, 1, half.clusters, signs)
        t, df = flipped.t, flipped.df
        score = flip_scores(u, half.spline, unsigned, 1, half.clusters, signs)
    return cautious_p(t, df, score, _direction(cell, bench))


def adjusted_null(cells: Sequence[_Cell], bench: Bench) -> np.ndarray:
    """Return p (n_cells, n_draws) of u* = fit without the tested term + w_g x residual."""
    half = bench.confirm
    signs = stats.rademacher(half.clusters.n_groups, bench.settings.n_draws, bench.settings.seed + 1)
    return np.array([_adjusted(cell, bench, signs) for cell in cells])


def _adjusted(cell: _Cell, bench: Bench, signs: np.ndarray) -> np.ndarray:
    measures, column, region = cell
    half = bench.confirm
    u, a = measures.columns([column])
    if region is None:  # the equal-length lean: intercept beside the spline
        columns = np.column_stack([half.spline, np.ones(len(half.rows))])
    else:
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
    return {
        "n_cells": p.shape[0],
        "n_draws": n,
        "n_undefined": int((~defined).sum()),
        "share_p05": float((p[defined] < 0.05).mean()) if defined.any() else float("nan"),
        "any_rejection": share,
        "mc_se": float(np.sqrt(bench.settings.q * (1 - bench.settings.q) / n)),
    }


def _any_rejection(p: np.ndarray, q: float) -> bool:
    return bool(np.nanmin(stats.benjamini_hochberg(p), initial=1.0) <= q)
