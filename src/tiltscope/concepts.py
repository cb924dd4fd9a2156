"""Latents become concepts: communities of latents that fire in the same responses.

In:  which latents fire in which responses (labels are never seen: responses come in any order).
Out: `Concept`s: clusters of at least four latents, and single latents that are seen often enough.
Refuses: a dense latents x latents matrix; co-firing is counted in sparse blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "FIRES_ABOVE",
    "Concept",
    "cluster_latents",
    "fires",
    "indicator",
    "normalised_mutual_information",
    "single_latents",
]

FIRES_ABOVE = 0.01
"""A latent is said to fire in a span when it fires on more than this share of its tokens (method, section 4)."""

Edge = tuple[int, int, float]

_BLOCK = 1024
_BINS = 4096
_SPLITS_ABOVE = 0.3  # modularity of clear community structure, Newman and Girvan 2004
_SPLITS_FROM = 8  # a community of fewer latents cannot make two concepts of four


@dataclass(frozen=True)
class Concept:
    """Latents that act as one idea. `id` is L<latent> for a single latent, C<number> for a cluster (response side),
    P<number> for a prompt-side cluster, R<number> for a response-shift cluster. Three kinds have no latents and are
    counted in the text by their `rule`: B-<rule>, a behaviour of the library, N-<rule>-<number>, one that is shown so
    many times or more, and W-<words>, a phrase.

    name_score is the held-out balanced accuracy of the name, .5 = chance; named_by says who wrote the name.
    """

    id: str
    latents: tuple[int, ...]
    name: str = ""
    named_by: str = "nobody"
    name_score: float | None = None
    top_tokens: tuple[str, ...] = ()
    rule: str = ""

    @property
    def is_phrase(self) -> bool:
        """Whether it is words that answers say, and no behaviour of the library."""
        return self.id.startswith("W-")

    @property
    def is_often(self) -> bool:
        """Whether it is a behaviour of the library that is shown many times."""
        return self.id.startswith("N-")

    @property
    def listed(self) -> str:
        """The list of leans everywhere that it stands in: latents, behaviours, often or words."""
        by_rule = "often" if self.is_often else "words" if self.is_phrase else "behaviours"
        return by_rule if self.rule else "latents"

    @property
    def grows_with_length(self) -> bool:
        """Whether a longer answer shows it more likely by that alone."""
        return self.is_phrase or self.is_often


def fires(freq: sparse.csr_array) -> sparse.csr_array:
    """Return 1 where a latent fires on more than 1 % of a span's tokens: (n_spans, n_latents) CSR float32."""
    from scipy import sparse

    above = freq.data > FIRES_ABOVE
    rows = np.repeat(np.arange(freq.shape[0]), np.diff(freq.indptr))[above]
    ones = np.ones(int(above.sum()), np.float32)
    firing: sparse.csr_array = sparse.csr_array((ones, (rows, freq.indices[above])), shape=freq.shape)
    return firing


def normalised_mutual_information(n_both: np.ndarray, n_f: np.ndarray, n_g: np.ndarray, n: int) -> np.ndarray:
    """Return MI / sqrt(H_f H_g) of two yes/no variables from their counts; 0 where one is constant.

    Source: Strehl and Ghosh 2002, the geometric normalisation; used on latents in arXiv:2606.12360.
    """
    n_both, n_f, n_g = (np.asarray(x, np.float64) for x in (n_both, n_f, n_g))
    information = np.zeros(np.broadcast_shapes(n_both.shape, n_f.shape, n_g.shape))
    for joint, p_f, p_g in (
        (n_both, n_f, n_g),
        (n_f - n_both, n_f, n - n_g),
        (n_g - n_both, n - n_f, n_g),
        (n - n_f - n_g + n_both, n - n_f, n - n_g),
    ):
        with np.errstate(divide="ignore", invalid="ignore"):
            term = joint / n * np.log(joint * n / (p_f * p_g))
        information += np.where(joint > 0, term, 0.0)
    scale = np.sqrt(_entropy(n_f / n) * _entropy(n_g / n))
    return np.asarray(np.divide(information, scale, out=np.zeros_like(information), where=scale > 0))


def _entropy(share: np.ndarray) -> np.ndarray:
    inside = np.clip(share, 1e-300, 1.0)
    outside = np.clip(1.0 - share, 1e-300, 1.0)
    return np.asarray(-(inside * np.log(inside) + outside * np.log(outside)))


def cluster_latents(
    firing: sparse.csr_array, *, top_share: float = 0.01, min_latents: int = 4, min_responses: int = 20, seed: int = 0
) -> tuple[Concept, ...]:
    """Return communities of latents that fire together more than chance.

    firing: (n_responses, n_latents) CSR of ones. Of the latent pairs that co-fire more than chance, the top
    `top_share` by normalised mutual information become the edges of a graph; its Leiden communities (modularity,
    resolution 1, seeded; split further while clearly modular inside) of at least `min_latents` latents are concepts.
    Latents in fewer than `min_responses` responses are left out.
    Source: arXiv:2606.12360 (clusters); Traag, Waltman and van Eck 2019 (Leiden).
    """
    counts = np.asarray(firing.sum(axis=0)).ravel()
    kept = np.flatnonzero((counts >= min_responses) & (counts < firing.shape[0]))
    if len(kept) < min_latents:
        return ()
    edges = _strongest_edges(firing[:, kept], counts[kept], top_share)
    communities = _communities(edges, seed) if edges else []
    clusters = [tuple(sorted(int(kept[i]) for i in members)) for members in communities if len(members) >= min_latents]
    clusters.sort(key=lambda latents: (-len(latents), latents))
    return tuple(Concept(f"C{number}", latents, f"cluster {number}") for number, latents in enumerate(clusters))


def _strongest_edges(firing: sparse.csr_array, counts: np.ndarray, top_share: float) -> list[Edge]:
    """Two passes over the co-firing blocks: one finds the cut, one keeps what is above it."""
    histogram = np.zeros(_BINS, np.int64)
    for _, _, value in _blocks(firing, counts):
        histogram += np.bincount(_bin(value), minlength=_BINS)
    total = int(histogram.sum())
    if not total:
        return []
    from_top = np.cumsum(histogram[::-1])[::-1]
    cut = int(np.flatnonzero(from_top >= max(1, round(top_share * total)))[-1])
    edges: list[Edge] = []
    for left, right, value in _blocks(firing, counts):
        keep = _bin(value) >= cut
        edges += zip(left[keep].tolist(), right[keep].tolist(), value[keep].tolist(), strict=True)
    return edges


def _bin(value: np.ndarray) -> np.ndarray:
    return np.minimum((value * _BINS).astype(np.int64), _BINS - 1)


def _blocks(firing: sparse.csr_array, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (left, right, information) of the latent pairs left < right that co-fire more than chance."""
    n = firing.shape[0]
    by_latent = firing.T.tocsr()
    for start in range(0, firing.shape[1], _BLOCK):
        joint = (by_latent[start : start + _BLOCK] @ firing).tocoo()
        left, right = joint.row + start, joint.col
        keep = (left < right) & (joint.data * n > counts[left] * counts[right])
        left, right, both = left[keep], right[keep], joint.data[keep]
        order = np.lexsort((right, left))
        left, right, both = left[order], right[order], both[order]
        yield left, right, normalised_mutual_information(both, counts[left], counts[right], n)


def _communities(edges: list[Edge], seed: int, *, inner: bool = False) -> list[list[int]]:
    """Leiden communities, each split again while its own graph is modular above `_SPLITS_ABOVE`.

    One pass of modularity cannot tell small communities apart in a small graph (its resolution limit, Fortunato and
    Barthélemy 2007): on our demo data it joined exclamation with question marks and bold text with parentheses.
    """
    modularity, found = _leiden(edges, seed)
    if inner and (len(found) < 2 or modularity < _SPLITS_ABOVE):
        return [sorted({node for edge in edges for node in edge[:2]})]
    communities: list[list[int]] = []
    for members in found:
        own = set(members)
        within = [edge for edge in edges if edge[0] in own and edge[1] in own]
        small = len(members) < _SPLITS_FROM or not within
        communities += [sorted(members)] if small else _communities(within, seed, inner=True)
    return communities


def _leiden(edges: list[Edge], seed: int) -> tuple[float, list[list[int]]]:
    import graspologic_native

    native: Any = graspologic_native
    modularity, membership = native.leiden(
        edges=[(str(left), str(right), weight) for left, right, weight in edges],
        starting_communities=None,
        resolution=1.0,
        randomness=0.001,
        iterations=2,
        use_modularity=True,
        seed=seed,
        trials=1,
    )
    communities: dict[int, list[int]] = {}
    for latent, community in membership.items():
        communities.setdefault(community, []).append(int(latent))
    return float(modularity), [communities[number] for number in sorted(communities)]


def single_latents(at_stake_groups: np.ndarray, *, min_groups: int) -> tuple[Concept, ...]:
    """Return a concept for each latent at stake in at least `min_groups` witnesses; at_stake_groups is (n_latents,)."""
    return tuple(
        Concept(f"L{latent}", (int(latent),), f"latent {latent}")
        for latent in np.flatnonzero(at_stake_groups >= min_groups)
    )


def indicator(concepts: Sequence[Concept], n_latents: int) -> sparse.csr_array:
    """Return the (n_latents, n_concepts) CSR matrix with 1 / |T_m| where latent f belongs to concept m."""
    from scipy import sparse

    rows = np.concatenate([np.asarray(concept.latents, np.int64) for concept in concepts] or [np.zeros(0, np.int64)])
    columns = np.repeat(np.arange(len(concepts)), [len(concept.latents) for concept in concepts])
    values = np.concatenate([np.full(len(c.latents), 1.0 / max(len(c.latents), 1)) for c in concepts] or [np.zeros(0)])
    return sparse.csr_array((values, (rows, columns)), shape=(n_latents, len(concepts)))
