"""Which concept is part of which: what shows one nearly always shows the other, which is more common.

In:  which latents fire in which answers, the lengths of the answers, witnesses, concepts. Labels are never seen.
Out: `Edge`s from a child to its nearest parent: a forest; hierarchy.json.
Refuses: a parent that answers of that length show anyway, and a child with too few witnesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiltscope import stats
from tiltscope.concepts import Concept, fires

if TYPE_CHECKING:
    from scipy import sparse

    from tiltscope.features import Features

__all__ = ["Edge", "hierarchy", "learn", "shown_by"]

CONTAINED = 0.8
"""Share of a child's answers that show the parent: estimate at least this, 95 % interval above `CONTAINED_LOW`."""
CONTAINED_LOW = 0.7
COMMONER = 1.5
"""A parent is shown by so many times the answers that show the child."""
LIFT = 1.3
"""… and by so many times what answers of the child's lengths show of it."""
MIN_GROUPS = 20
_BINS = 10
_QUARTER = 0.25  # of a cluster's latents that must fire


@dataclass(frozen=True)
class Edge:
    """child and parent: ids of concepts. share: of the answers that show the child, those that show the parent.

    low, high: 95 %, one witness per group. expected: the same share among all answers of the child's lengths.
    n_child, n_parent: answers that show them.
    """

    child: str
    parent: str
    share: float
    low: float
    high: float
    expected: float
    n_child: int
    n_parent: int


def hierarchy(features: Features, groups: Sequence[str], concepts: Sequence[Concept]) -> tuple[Edge, ...]:
    """Return the forest over `concepts`, from both answers of every pair; groups (n_pairs,) are the witnesses."""
    from scipy import sparse

    sides = (features.chosen, features.rejected)
    firing = sparse.csr_array(sparse.vstack([fires(side.freq) for side in sides]))
    tokens = np.concatenate([side.n_tokens for side in sides])
    return learn(shown_by(firing, concepts), tokens, np.array([*groups, *groups]), concepts)


def shown_by(firing: sparse.csr_array, concepts: Sequence[Concept]) -> sparse.csr_array:
    """Return (n_answers, n_concepts) of 0 and 1: a concept is shown where a quarter of its latents fire.

    firing: (n_answers, n_latents) CSR of ones.
    """
    from scipy import sparse

    owner = np.repeat(np.arange(len(concepts)), [len(one.latents) for one in concepts])
    flat = np.array([latent for one in concepts for latent in one.latents], int)
    weight = np.array([1 / len(one.latents) for one in concepts for _ in one.latents], np.float64)
    pick = sparse.csr_array((weight, (flat, owner)), shape=(firing.shape[1], len(concepts)))
    shown = sparse.csr_array(firing @ pick)
    shown.data = (shown.data >= _QUARTER - 1e-9).astype(np.float64)
    shown.eliminate_zeros()
    return shown


def learn(
    shown: sparse.csr_array, tokens: np.ndarray, groups: np.ndarray, concepts: Sequence[Concept]
) -> tuple[Edge, ...]:
    """Return one edge per child, to the parent that the fewest answers show.

    shown: (n_answers, n_concepts) of 0 and 1; tokens, groups: (n_answers,). By construction there is no circle: every
    parent is `COMMONER` times as common as its child.
    """
    counts = np.asarray(shown.sum(axis=0)).ravel()
    both = np.asarray((shown.T @ shown).todense())
    expected = _expected(shown, tokens, counts)
    share = both / np.maximum(counts, 1)[:, None]
    fits = (share >= CONTAINED) & (share >= LIFT * expected) & (counts[None, :] >= COMMONER * counts[:, None])
    fits[counts == 0] = False
    columns = shown.tocsc()
    edges = []
    for child in np.flatnonzero(fits.any(axis=1)).tolist():
        rows = columns.indices[columns.indptr[child] : columns.indptr[child + 1]]
        witnesses = stats.Clusters.of(groups[rows])
        if witnesses.n_groups < MIN_GROUPS:
            continue
        for parent in sorted(np.flatnonzero(fits[child]).tolist(), key=lambda at: (counts[at], concepts[at].id)):
            there = np.zeros(shown.shape[0])
            there[columns.indices[columns.indptr[parent] : columns.indptr[parent + 1]]] = 1.0
            held = stats.share_with_interval(witnesses.group_sums(there[rows]), witnesses.sizes)
            if held.low > max(CONTAINED_LOW, expected[child, parent]):
                edges.append(
                    Edge(
                        concepts[child].id,
                        concepts[parent].id,
                        held.share,
                        held.low,
                        held.high,
                        float(expected[child, parent]),
                        int(counts[child]),
                        int(counts[parent]),
                    )
                )
                break
    return tuple(edges)


def _expected(shown: sparse.csr_array, tokens: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n, n): what share of all answers of row's lengths show the concept of the column (deciles of length)."""
    from scipy import sparse

    cuts = np.quantile(tokens, np.linspace(0, 1, _BINS + 1)[1:-1])
    bins = np.searchsorted(cuts, tokens, side="right")
    member = sparse.csr_array((np.ones(len(bins)), (bins, np.arange(len(bins)))), shape=(_BINS, len(bins)))
    by_bin = np.asarray((member @ shown).todense())
    rates = by_bin / np.maximum(np.bincount(bins, minlength=_BINS), 1)[:, None]
    return np.asarray(by_bin.T @ rates / np.maximum(counts, 1)[:, None])
