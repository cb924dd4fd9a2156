"""Which leans have few witnesses, and which are seen mostly in one kind of pairs. No label is looked at.

In:  measures, regions, the bench.
Out: `witnesses` (groups at stake), and `OwnPlace`s: a concept and the kind of pairs that holds most of it.
Refuses: kinds of pairs outside of which there are witnesses enough: what is said of those is a comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiltscope.cells import Bench, ContrastSettings, Half
from tiltscope.regions import KindOfPair
from tiltscope.screening import Measures

__all__ = ["HELD", "OwnPlace", "are_few", "own_places", "witnesses"]

HELD = 0.5
"""A concept is seen "mostly" in a kind of pairs that holds at least this share of the pairs it is at stake in."""


@dataclass(frozen=True)
class OwnPlace:
    """A concept (a column of measures) that is seen mostly in `region`, there by `few` groups or by many."""

    measures: Measures
    column: int
    region: KindOfPair
    few: bool


def witnesses(measures: Measures, half: Half) -> np.ndarray:
    """Count the groups that have a pair in which each concept is at stake: (n_concepts,) int."""
    from scipy import sparse

    at_stake = (measures.a > 0).astype(np.float32).tocsr()
    n = len(half.rows)
    shape = (half.clusters.n_groups, n)
    member = sparse.csr_array((np.ones(n, np.float32), (half.clusters.codes, np.arange(n))), shape=shape)
    return np.asarray(((member @ at_stake[half.rows]) > 0).sum(axis=0)).ravel().astype(np.int64)


def are_few(n_groups: np.ndarray, settings: ContrastSettings) -> np.ndarray:
    """Say where witnesses are enough for an exact test only."""
    return np.asarray((n_groups >= settings.few_groups) & (n_groups < 2 * settings.min_groups))


def own_places(measures: Measures, regions: Sequence[KindOfPair], bench: Bench) -> list[OwnPlace]:
    """Return for each concept the kind of pairs that sets it apart best, if that holds at least `HELD` of it.

    Best: the share it holds of the pairs at stake exceeds its share of all pairs the most. Left out are kinds outside
    of which the explore half has `min_groups` witnesses (there the lean can be compared with that of other pairs), and
    concepts with fewer than `few_groups` witnesses inside.
    """
    if not regions or not measures.concepts:
        return []
    masks = np.column_stack([region.inside for region in regions])
    at_stake = (measures.a > 0).astype(np.float64)
    held = np.asarray(at_stake.T @ masks.astype(np.float64))
    held = held / np.maximum(np.asarray(at_stake.sum(axis=0)).ravel(), 1)[:, None]
    apart = np.where(held >= HELD, held - masks.mean(axis=0), -np.inf)
    places = []
    for column in np.flatnonzero(np.isfinite(apart).any(axis=1)).tolist():
        region = regions[int(np.argmax(apart[column]))]
        stake = at_stake[:, [column]].toarray()[:, 0] > 0
        inside = _n_groups(stake & region.inside, bench.whole)
        outside = _n_groups((stake & ~region.inside)[bench.explore.rows], bench.explore)
        if inside >= bench.settings.few_groups and outside < bench.settings.min_groups:
            places.append(OwnPlace(measures, column, region, bool(are_few(np.asarray(inside), bench.settings))))
    return places


def _n_groups(at_stake: np.ndarray, half: Half) -> int:
    return int((half.clusters.group_sums(at_stake) > 0).sum())
