"""Which way does each concept lean, everywhere or in the one place it is seen in? Tested once, on all pairs.

In:  measures, places of their own, the bench.
Out: `Leans`: the cells worth telling, and the p of all others that were tested.
Refuses: to let labels choose what is tested. There is one such lean per concept, so no half has to be spent on looking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiltscope import stats
from tiltscope.cells import Bench, Found, Half
from tiltscope.few import OwnPlace, are_few, witnesses
from tiltscope.screening import Measures
from tiltscope.stats.score import cautious_p_two, tau_score

__all__ = ["Leans", "leans_everywhere", "leans_in_one_place", "p_at_equal_length"]

_CHUNK = 256


@dataclass(frozen=True)
class Leans:
    """The cells worth telling, and the p of the leans that were tested with them and are not told."""

    cells: list[Found]
    untold: np.ndarray

    @property
    def n_tested(self) -> int:
        """How many leans had witnesses enough."""
        return len(self.untold) + sum(cell.candidate for cell in self.cells)


def leans_everywhere(measures: Measures, bench: Bench) -> Leans:
    """Test the mean of u of every concept over all pairs; told are the strongest, clusters, and behaviours at stake."""
    if not measures.concepts:
        return Leans([], np.array([]))
    seen_by = witnesses(measures, bench.whole)
    few, seen = are_few(seen_by, bench.settings), seen_by >= bench.settings.few_groups
    sign, halves, p = _tested(measures, bench, few)
    p = np.where(seen, p, np.nan)
    told = _worth_telling(p, bench) | [one.id.startswith("C") for one in measures.concepts]
    told |= seen & [bool(one.rule) and not one.grows_with_length for one in measures.concepts]  # a limit may ask
    cells = [
        Found(
            *("global", measures, m, None, int(sign[m])),
            *(float(halves[0, m]), float(halves[1, m])),
            candidate=bool(seen[m]),
            why_not="" if seen[m] else "too few witnesses",
            few=bool(few[m]),
        )
        for m in np.flatnonzero(told).tolist()
    ]
    return Leans(cells, p[seen & ~told])


def _tested(measures: Measures, bench: Bench, few: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Direction (m,), effect in the explore and the confirm half (2, m), and two-sided p (m,)."""
    m = len(measures.concepts)
    sign, halves, p = np.ones(m), np.empty((2, m)), np.empty(m)
    clusters = bench.whole.clusters
    for start in range(0, m, _CHUNK):
        wanted = range(start, min(start + _CHUNK, m))
        u, _ = measures.columns(wanted)
        estimates, sums = stats.tau_test(u, clusters), clusters.group_sums(u)
        sign[wanted] = np.where(estimates.effect < 0, -1, 1)
        p[wanted] = cautious_p_two(estimates.t, estimates.df, tau_score(u, clusters))
        halves[:, wanted] = [u[half.rows].mean(axis=0) for half in (bench.explore, bench.confirm)]
        for column in np.flatnonzero(few[wanted]).tolist():
            p[start + column] = stats.FewGroups.of(sums[:, column], measures.unit(start + column)).p_two()
        longer = [m for m in wanted if measures.concepts[m].grows_with_length]
        p[longer] = np.maximum(p[longer], p_at_equal_length(u[:, [m - start for m in longer]], bench.whole))
    return sign, halves, p


def p_at_equal_length(u: np.ndarray, half: Half) -> np.ndarray:
    """Return the two-sided p of u (n_rows,) or (n_rows, m) in pairs of equal length; 1 where it leans the other way.

    A longer answer says more of everything, so a word, or what is shown often, has to lean at equal length too before
    it is told of.
    """
    found = half.equal_length.fit(u)
    alike = np.sign(found.effect) == np.sign(u.mean(axis=0))
    return np.where(alike, np.nan_to_num(np.asarray(found.p_two), nan=1.0), 1.0)


def leans_in_one_place(view: str, places: Sequence[OwnPlace], bench: Bench) -> Leans:
    """Test the leans that are seen mostly in one kind of pairs, each on the pairs in there."""
    if not places:
        return Leans([], np.array([]))
    each = [_in_there(place, bench) for place in places]
    p = np.array([p for _, _, p in each])
    told = _worth_telling(p, bench)
    cells = [
        Found(
            *(view, place.measures, place.column, place.region, sign, *halves, True),
            few=place.few,
            own=True,
        )
        for place, (sign, halves, _), keep in zip(places, each, told.tolist(), strict=True)
        if keep
    ]
    return Leans(cells, p[~told])


def _in_there(place: OwnPlace, bench: Bench) -> tuple[int, tuple[float, float], float]:
    """Direction, effect in the two halves, two-sided p."""
    column = place.measures.columns([place.column])[0][:, 0]
    inside = place.region.inside
    u, clusters = column[inside], stats.Clusters.of(bench.groups[inside])
    both = (column[half.rows[inside[half.rows]]] for half in (bench.explore, bench.confirm))
    first, second = (float(half.mean()) if len(half) else 0.0 for half in both)
    sums = clusters.group_sums(u)
    if place.few:
        p = stats.FewGroups.of(sums, place.measures.unit(place.column)).p_two()
    else:
        estimates = stats.tau_test(u, clusters)
        p = float(cautious_p_two(estimates.t, estimates.df, tau_score(u, clusters)))
    if place.measures.concepts[place.column].grows_with_length:
        p = max(p, float(p_at_equal_length(u, Half.of(np.flatnonzero(inside), bench.groups, bench.spline))))
    return -1 if sums.sum() < 0 else 1, (first, second), p


def _worth_telling(p: np.ndarray, bench: Bench) -> np.ndarray:
    """What a reader may want to see, confirmed or not; nan, untested, is not. It decides nothing."""
    settings = bench.settings
    spare = settings.explore_spare / max(int(np.isfinite(p).sum()), 1)
    return np.asarray((stats.benjamini_hochberg(p) <= settings.explore_q) | (p <= spare))
