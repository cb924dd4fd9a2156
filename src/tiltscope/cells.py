"""The bench every test stands on: halves of the data, designs, and the cells chosen on one half for the other.

In:  pairs, features, a seed.
Out: `Bench` (all pairs, and their explore and confirm halves, with groups and spline columns), `Found` cells.
Refuses: pairs and features that do not match by id, and data with too few witnesses to split.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tiltscope import stats
from tiltscope.baselines import baseline_differences
from tiltscope.concepts import Concept
from tiltscope.errors import DataError, InconclusiveError
from tiltscope.features import Features
from tiltscope.pairs import Pair, Pairs
from tiltscope.regions import KindOfPair
from tiltscope.screening import Measures

__all__ = ["BUDGET", "Bench", "ContrastSettings", "Found", "Half", "design", "set_up"]

BUDGET = {
    **{"latents": 0.2, "behaviours": 0.25, "often": 0.05, "words": 0.15},
    **{"own": 0.05, "own words": 0.05},
    **{"region": 0.1, "prompt": 0.15},
}
"""How the lists share the error rate: leans everywhere of latents, of the library's behaviours counted by rule, of the
same shown many times, and of words and phrases; leans seen mostly in one place, and those of words; comparisons of
either view."""

_SOURCE_COLUMNS = (("chosen_model", "rejected_model"), ("chosen-model", "rejected-model"), ("model_a", "model_b"))


@dataclass(frozen=True)
class ContrastSettings:
    """How findings are looked for and confirmed."""

    seed: int = 0
    q: float = 0.10
    """False discovery rate of each list of `BUDGET`, and of all of them together."""
    explore_q: float = 0.5
    """Comparisons go to the confirm half if they pass this Benjamini-Hochberg level on the explore half …"""
    explore_spare: int = 25
    """… or have a p there at which about so many empty ones are expected; singles and clusters apart."""
    min_groups: int = 20
    """Witnesses a comparison needs inside and outside, in either half. A lean with fewer than two halves' worth is
    tested exactly."""
    few_groups: int = 12
    """A lean with fewer witnesses is not tested: even if all agreed, p would be too large to stand out of thousands."""
    words_share: float = 0.004
    """A word or phrase needs `few_groups` witnesses, and this share of all groups."""
    min_pairs: int = 25
    """Regions smaller than this are not displayed, so not tested."""
    n_draws: int = 200
    """Draws of each null on these data."""
    n_null_cells: int = 500
    """At most so many cells of a view are drawn for the nulls, seeded."""
    n_flip_cells: int = 50
    """The same for region and prompt cells under label flips, where every draw is a new design."""
    max_places: int = 3
    """A concept brings at most its so many strongest places into a view: further ones overlap and say the same."""


@dataclass(frozen=True)
class Half:
    """Some of the pairs (a half, or all): row numbers, their groups, their spline columns."""

    rows: np.ndarray
    clusters: stats.Clusters
    spline: np.ndarray

    @staticmethod
    def of(rows: np.ndarray, groups: np.ndarray, spline: np.ndarray) -> Half:
        """Cut the half out of the whole."""
        return Half(rows, stats.Clusters.of(groups[rows]), spline[rows])

    @cached_property
    def equal_length(self) -> stats.RegressionCR2:
        """The regression u = alpha + splines, tested at alpha: one design for every concept."""
        columns = np.column_stack([self.spline, np.ones(len(self.rows))])
        return stats.RegressionCR2(columns, self.clusters, columns.shape[1] - 1)


@dataclass(frozen=True)
class Bench:
    """Everything the three views share; arrays are over all pairs, in the order of the features."""

    rows: tuple[Pair, ...]
    groups: np.ndarray  # (n_pairs,) int: which witness
    settings: ContrastSettings
    whole: Half
    explore: Half
    confirm: Half
    halves: tuple[np.ndarray, np.ndarray]  # row numbers of the two halves of explore
    spline: np.ndarray
    length_gap: np.ndarray  # chosen minus rejected, log tokens
    baselines: dict[str, np.ndarray]
    sources: tuple[np.ndarray, np.ndarray] | None


@dataclass(frozen=True)
class Found:
    """A cell to be told of: which concept, where, which direction, and how two halves of what showed it see it.

    few: its groups at stake are counted exactly. own: the lean in the region by itself, compared with nothing.
    """

    view: str
    measures: Measures
    column: int
    region: KindOfPair | None
    sign: int
    half_a: float
    half_b: float
    candidate: bool
    why_not: str = ""
    few: bool = False
    own: bool = False

    @property
    def listed(self) -> str:
        """The list it stands in, a key of `BUDGET`."""
        words = self.concept.is_phrase
        if self.region is None:
            return self.concept.listed
        return ("own words" if words else "own") if self.own else self.view

    @property
    def is_lean(self) -> bool:
        """Whether it speaks of a lean by itself, tested on all pairs, and not of one lean against another."""
        return self.region is None or self.own

    @property
    def concept(self) -> Concept:
        """The concept of the cell."""
        return self.measures.concepts[self.column]

    @property
    def id(self) -> str:
        """The id of the hypothesis this cell becomes."""
        place = "" if self.region is None else f"{self.region.id}-"
        return f"{self.view[0]}-{place}{self.concept.id}"


def set_up(pairs: Pairs, features: Features, settings: ContrastSettings) -> Bench:
    """Align pairs with features, split by group hash, and compute what every regression needs.

    Raises `DataError` when features hold pairs that `pairs` lacks, `InconclusiveError` under 2 x `min_groups` groups.
    """
    by_id = {pair.id: pair for pair in pairs.rows}
    missing = [pair_id for pair_id in features.pair_ids if pair_id not in by_id]
    if missing:
        raise DataError(
            "the features speak of pairs that are not in this dataset",
            where=str(features.folder),
            found=f"{len(missing)} unknown pair ids, the first is {missing[0]}",
            hint="read the dataset again: tiltscope read DATA --out STUDY",
        )
    rows = tuple(by_id[pair_id] for pair_id in features.pair_ids)
    groups = np.array([pair.group for pair in rows])
    codes = np.unique(groups, return_inverse=True)[1]
    n_groups = int(codes.max(initial=-1)) + 1
    if n_groups < 2 * settings.min_groups:
        raise InconclusiveError(
            "too few independent prompts to say anything",
            found=f"{n_groups} groups in {len(rows)} pairs; {2 * settings.min_groups} are needed for two halves",
            hint="bring more prompts; `tiltscope check` still describes the data",
        )
    explore = stats.explore_mask(groups, settings.seed)
    logs = [np.log(np.maximum(side.n_tokens, 1)) for side in (features.chosen, features.rejected)]
    spline = stats.spline_basis_difference(logs[0], logs[1])
    first = explore.copy()
    first[explore] = stats.half_mask(groups[explore], settings.seed)
    return Bench(
        rows,
        codes,
        settings,
        Half.of(np.arange(len(rows)), codes, spline),
        Half.of(np.flatnonzero(explore), codes, spline),
        Half.of(np.flatnonzero(~explore), codes, spline),
        (np.flatnonzero(first), np.flatnonzero(explore & ~first)),
        spline,
        logs[0] - logs[1],
        baseline_differences(rows, logs[0], logs[1], explore),
        _sources(rows),
    )


def _sources(rows: tuple[Pair, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """The columns that say who answered, where the dataset has both."""
    for chosen, rejected in _SOURCE_COLUMNS:
        if rows and all(chosen in pair.extra and rejected in pair.extra for pair in rows):
            return (
                np.array([str(pair.extra[chosen]) for pair in rows]),
                np.array([str(pair.extra[rejected]) for pair in rows]),
            )
    return None


def design(half: Half, a: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the columns [spline differences, a, a * 1{in}] of the region test, tested column last."""
    stake = a[half.rows]
    return np.column_stack([half.spline, stake, stake * inside[half.rows]])
