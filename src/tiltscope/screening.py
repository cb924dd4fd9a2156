"""What is measured in each pair, and a fast first look over every cell on the explore half.

In:  features, concepts, regions.
Out: `Measures` (the signed disparity u and how much is at stake, a), and explore statistics of all cells.
Refuses: to look at the confirm half. These numbers choose candidates and directions; they are never shown as q.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiltscope.concepts import Concept, fires, indicator
from tiltscope.features import Features
from tiltscope.regions import scaled_difference
from tiltscope.stats import Clusters

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["Measures", "Screen", "disparity", "screen_regions", "shift_disparity"]

_CHUNK = 64
_BORDER = 0.975
"""Of the pairs in which a shift concept is at stake, the share below which its size counts in full."""


@dataclass(frozen=True)
class Measures:
    """For m concepts over n pairs: `u` (n, m) CSC, the signed disparity, and `a` (n, m) CSC, |u| before latents cancel.

    a does not change when chosen and rejected are swapped; u changes sign.
    """

    concepts: tuple[Concept, ...]
    u: sparse.csc_array
    a: sparse.csc_array

    def columns(self, wanted: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return dense u and a of some concepts, each (n, len(wanted))."""
        return self.u[:, list(wanted)].toarray(), self.a[:, list(wanted)].toarray()

    def unit(self, column: int) -> float:
        """Return what every u of a disparity is a whole multiple of: one latent of the concept, or its rule, once."""
        return 1.0 / max(len(self.concepts[column].latents), 1)

    def only(self, wanted: Sequence[int]) -> Measures:
        """Return the measures of some concepts."""
        at = list(wanted)
        return Measures(tuple(self.concepts[m] for m in at), self.u[:, at], self.a[:, at])

    def joined(self, other: Measures) -> Measures:
        """Return the measures of both, over the same pairs."""
        from scipy import sparse

        u, a = (sparse.hstack(parts, format="csc") for parts in ((self.u, other.u), (self.a, other.a)))
        return Measures((*self.concepts, *other.concepts), u, a)


@dataclass(frozen=True)
class Screen:
    """Explore statistics of concept x region cells: effect and z (n_concepts, n_regions), nan where untested."""

    effect: np.ndarray
    z: np.ndarray


def disparity(features: Features, concepts: Sequence[Concept]) -> Measures:
    """Return u = mean over the concept's latents of 1{freq+ > .01} - 1{freq- > .01} and a = mean of its absolute value.

    u is in [-1, 1], a in [0, 1]. Source: arXiv:2606.12360 (u); a is ours: is the concept at stake in this pair.
    """
    difference = (fires(features.chosen.freq) - fires(features.rejected.freq)).tocsr()
    difference.eliminate_zeros()
    return _measures(difference, concepts)


def shift_disparity(features: Features, concepts: Sequence[Concept]) -> Measures:
    """Return u = mean over the latents of the scaled difference of freq, and a = mean of its absolute value.

    In units of the latent's root-mean-square difference. Source: arXiv:2606.12360, prompt-conditioned hypotheses. Ours:
    a pair in which a concept is at stake more than in 97.5 % of the pairs where it is at all counts as one at that
    border. A latent that few answers show may differ by a dozen units in one of them, and then that pair alone decides
    a test. The border depends on no label.
    """
    every = np.arange(features.n_latents)
    whole = _measures(scaled_difference(features.chosen.freq, features.rejected.freq, every), concepts)
    a = whole.a.tocsc().astype(np.float64)
    kept = a.copy()
    for start, end in zip(a.indptr[:-1], a.indptr[1:], strict=True):
        own = a.data[start:end]
        border = np.quantile(own, _BORDER) if len(own) else 1.0
        kept.data[start:end] = np.minimum(1.0, border / np.maximum(own, 1e-12))
    return Measures(whole.concepts, whole.u.multiply(kept).tocsc(), a.multiply(kept).tocsc())


def _measures(difference: sparse.csr_array, concepts: Sequence[Concept]) -> Measures:
    members = indicator(concepts, difference.shape[1])
    return Measures(tuple(concepts), (difference @ members).tocsc(), (abs(difference) @ members).tocsc())


def screen_regions(
    measures: Measures,
    masks: np.ndarray,
    spline: np.ndarray,
    clusters: Clusters,
    rows: np.ndarray,
    *,
    min_groups: int,
) -> Screen:
    """Return delta of u = X gamma + theta a + delta a 1{in} + e and its cluster-robust z for every concept and region.

    masks (n_pairs, n_regions) bool, spline (n_pairs, p), rows the explore pairs, clusters those rows' groups.
    A first look: z is the score with the null imposed, all regions of a concept at once by Frisch-Waugh-Lovell. Cells
    with fewer than `min_groups` groups at stake inside or outside are nan.
    """
    n_regions = masks.shape[1]
    effect = np.full((len(measures.concepts), n_regions), np.nan)
    z = effect.copy()
    inside = masks[rows].astype(np.float64)
    basis = np.linalg.qr(spline[rows])[0] if spline.shape[1] else np.zeros((len(rows), 0))
    for wanted, u, a in _dense_chunks(measures, rows):
        for column, concept in enumerate(wanted):
            effect[concept], z[concept] = _screen_one(u[:, column], a[:, column], inside, basis, clusters)
            z[concept][_witnesses(a[:, column], inside, clusters) < min_groups] = np.nan
    return Screen(effect, z)


def _dense_chunks(measures: Measures, rows: np.ndarray) -> Iterator[tuple[range, np.ndarray, np.ndarray]]:
    for start in range(0, len(measures.concepts), _CHUNK):
        wanted = range(start, min(start + _CHUNK, len(measures.concepts)))
        u, a = measures.columns(wanted)
        yield wanted, u[rows], a[rows]


def _witnesses(a: np.ndarray, inside: np.ndarray, clusters: Clusters) -> np.ndarray:
    """The smaller number of groups at stake inside and outside each region."""
    at_stake = (a > 0)[:, None]
    within = (clusters.group_sums(inside * at_stake) > 0).sum(axis=0)
    without = (clusters.group_sums((1 - inside) * at_stake) > 0).sum(axis=0)
    return np.asarray(np.minimum(within, without))


def _screen_one(
    u: np.ndarray, a: np.ndarray, inside: np.ndarray, basis: np.ndarray, clusters: Clusters
) -> tuple[np.ndarray, np.ndarray]:
    """Effect and score of a * 1{in} for one concept, all regions at once."""
    stake = a - basis @ (basis.T @ a)
    norm = np.linalg.norm(stake)
    full = np.column_stack([basis, stake / norm]) if norm > 1e-9 else basis
    treated = inside * a[:, None]
    treated = treated - full @ (full.T @ treated)
    left = u - full @ (full.T @ u)
    squares = (treated**2).sum(axis=0)
    known = squares > 1e-9
    effect = np.divide(treated.T @ left, squares, out=np.full(len(squares), np.nan), where=known)
    scores = clusters.group_sums(treated * left[:, None])
    spread = np.sqrt((scores**2).sum(axis=0))
    z = np.divide(scores.sum(axis=0), spread, out=np.full(len(squares), np.nan), where=known & (spread > 0))
    return effect, z
