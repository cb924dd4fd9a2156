"""Kinds of pairs and kinds of prompts, found without ever seeing a label.

In:  sparse features of unordered pairs (sums and absolute differences of the two answers, and the prompt).
Out: activity regions (pairs in which like concepts are active), prompt clusters with nested prompt regions, and
     response-shift clusters (latents that move together from one answer to the other).
Refuses: centring the differences, which would make clusters depend on the labels. Swapping chosen and rejected in any
     pairs leaves every output identical to the bit (a test holds us to that).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiltscope.concepts import Concept, indicator

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "SHARES",
    "KindOfPair",
    "activity_regions",
    "prompt_clusters",
    "prompt_regions",
    "prompt_scores",
    "scaled_difference",
    "shift_clusters",
    "spherical_kmeans",
]

SHARES = (0.025, 0.05, 0.1, 0.2)
"""A prompt region is the share of pairs whose prompts express a prompt cluster most; the nested sizes tried."""

_RANK = 128


@dataclass(frozen=True)
class KindOfPair:
    """A region: `id`, the concept ids it was made from, and a boolean mask over all pairs."""

    id: str
    made_from: str
    inside: np.ndarray


def spherical_kmeans(rows: np.ndarray, n_clusters: int, *, seed: int = 0, n_rounds: int = 50) -> np.ndarray:
    """Return the cluster of each unit-norm row, by cosine similarity (n_rows,) int; k-means++ start, seeded.

    Source: Dhillon and Modha 2001.
    """
    from sklearn.cluster import kmeans_plusplus

    centres, _ = kmeans_plusplus(rows, n_clusters, random_state=seed)
    labels = np.full(len(rows), -1)
    for _ in range(n_rounds):
        nearest = np.argmax(rows @ centres.T, axis=1)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, rows)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 0, sums / np.where(norms > 0, norms, 1.0), centres)
    return labels


def activity_regions(
    both: sparse.csr_array, clusters: Sequence[Concept], *, seed: int = 0, silent_share: float = 0.05
) -> tuple[KindOfPair, ...]:
    """Return regions K0, K1, … of pairs in which like concepts are active.

    both: (n_pairs, n_latents) freq of chosen plus freq of rejected. s[i, m] sums it over the concept's latents; the
    lowest `silent_share` of rows by norm are left out; the rest, at unit norm, go to spherical k-means with
    clip(round(sqrt n), 8, 512) regions. Empty when there are fewer than two clusters or 16 pairs.
    Source: arXiv:2606.12360, feature-conditioned hypotheses.
    """
    n = both.shape[0]
    if len(clusters) < 2 or n < 16:
        return ()
    members = indicator(clusters, both.shape[1])
    members.data[:] = 1.0
    activity = np.asarray((both @ members).todense(), np.float64)
    norms = np.linalg.norm(activity, axis=1)
    heard = np.flatnonzero((norms > np.quantile(norms, silent_share)) & (norms > 0))
    n_regions = min(int(np.clip(round(np.sqrt(n)), 8, 512)), len(heard))
    if n_regions < 2:
        return ()
    labels = np.full(n, -1)
    labels[heard] = spherical_kmeans(activity[heard] / norms[heard, None], n_regions, seed=seed)
    return tuple(
        KindOfPair(f"K{number}", _most_active(activity, clusters, labels == number), labels == number)
        for number in range(n_regions)
        if (labels == number).any()
    )


def _most_active(activity: np.ndarray, clusters: Sequence[Concept], inside: np.ndarray) -> str:
    """The cluster most active inside against outside, relative to its own mean."""
    outside = activity[~inside].mean(axis=0) if not inside.all() else np.zeros(activity.shape[1])
    lift = (activity[inside].mean(axis=0) - outside) / (activity.std(axis=0) + 1e-12)
    return clusters[int(np.argmax(lift))].id


def scaled_difference(chosen: sparse.csr_array, rejected: sparse.csr_array, latents: np.ndarray) -> sparse.csr_array:
    """Return D = chosen - rejected of the kept latents, each column divided by its root mean square, never centred."""
    difference = (chosen[:, latents] - rejected[:, latents]).tocsr().astype(np.float64)
    squares = np.asarray(difference.multiply(difference).mean(axis=0)).ravel()
    scale = 1.0 / np.sqrt(np.where(squares > 0, squares, 1.0))
    difference.data *= scale[difference.indices]
    return difference


def shift_clusters(
    chosen: sparse.csr_array, rejected: sparse.csr_array, *, seed: int = 0, n_rows: int = 30_000
) -> tuple[Concept, ...]:
    """Return clusters R0, R1, … of latents whose chosen-minus-rejected differences move together (or against).

    Kept: latents seen in at least clip(n / 10, 20, 200) pairs with RMS(D) >= 1e-3 and mean|D| >= 1e-4.
    Source: arXiv:2606.12360, prompt-conditioned hypotheses; the uncentred Gram matrix is ours.
    """
    rows = _sample_rows(chosen.shape[0], n_rows, seed)
    chosen, rejected = chosen[rows], rejected[rows]
    difference = (chosen - rejected).tocsr()
    seen = np.asarray(((chosen + rejected) > 0).sum(axis=0)).ravel()
    size = np.asarray(abs(difference).mean(axis=0)).ravel()
    rms = np.sqrt(np.asarray(difference.multiply(difference).mean(axis=0)).ravel())
    kept = np.flatnonzero((seen >= _enough(len(rows))) & (rms >= 1e-3) & (size >= 1e-4))
    return _latent_clusters("R", kept, scaled_difference(chosen, rejected, kept), seed)


def prompt_clusters(prompt: sparse.csr_array, *, seed: int = 0, n_rows: int = 30_000) -> tuple[Concept, ...]:
    """Return clusters P0, P1, … of latents that are active in the same prompts; prompt is (n_pairs, n_latents) freq."""
    rows = _sample_rows(prompt.shape[0], n_rows, seed)
    sampled = prompt[rows]
    seen = np.asarray((sampled > 0).sum(axis=0)).ravel()
    kept = np.flatnonzero((seen >= _enough(len(rows))) & (seen <= 0.9 * len(rows)))
    return _latent_clusters("P", kept, scaled_difference(sampled, sampled * 0, kept), seed)


def _enough(n_pairs: int) -> float:
    """The paper's "seen in at least 200 pairs", scaled with n for small data."""
    return float(np.clip(n_pairs / 50, 10, 200))


def _sample_rows(n: int, most: int, seed: int) -> np.ndarray:
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def _latent_clusters(letter: str, kept: np.ndarray, scaled: sparse.csr_array, seed: int) -> tuple[Concept, ...]:
    from sklearn.cluster import MiniBatchKMeans

    if len(kept) < 8:
        return ()
    loadings = _right_loadings(scaled, min(_RANK, len(kept) - 1), seed)
    norms = np.linalg.norm(loadings, axis=1, keepdims=True)
    unit = loadings / np.where(norms > 0, norms, 1.0)
    n_clusters = min(int(np.clip(round(np.sqrt(len(kept))), 8, 256)), len(kept))
    means = MiniBatchKMeans(n_clusters, random_state=seed, n_init=4, batch_size=1024).fit(unit)
    groups = [tuple(int(f) for f in kept[means.labels_ == number]) for number in range(n_clusters)]
    groups = sorted((g for g in groups if g), key=lambda latents: (-len(latents), latents))
    return tuple(Concept(f"{letter}{i}", latents, f"cluster {letter}{i}") for i, latents in enumerate(groups))


def _right_loadings(matrix: sparse.csr_array, rank: int, seed: int) -> np.ndarray:
    """The columns of Sigma V' (n_columns, rank) by subspace iteration on the Gram operator.

    Only products M'(M x) are formed, in which a sign flip of any row cancels exactly.
    Source: Halko, Martinsson and Tropp 2011.
    """
    rng = np.random.default_rng(seed)
    transposed = matrix.T.tocsr()
    basis = rng.standard_normal((matrix.shape[1], min(rank + 10, matrix.shape[1])))
    for _ in range(4):
        basis, _ = np.linalg.qr(transposed @ (matrix @ basis))
    image = matrix @ basis
    values, vectors = np.linalg.eigh(image.T @ image)
    top = np.argsort(values)[::-1][:rank]
    return np.asarray(basis @ vectors[:, top] * np.sqrt(np.clip(values[top], 0, None)))


def prompt_regions(
    prompt: sparse.csr_array, clusters: Sequence[Concept], *, shares: Sequence[float] = SHARES
) -> tuple[KindOfPair, ...]:
    """Return for each prompt cluster the nested regions P<k>@<percent>: pairs whose prompts express it most.

    c[i, k] is the share of the cluster's latents that fire in the prompt; only c > 0 counts, and a region smaller than
    three quarters of its share is left out. Ties at the cut stay outside, so that a region never depends on row order.
    Source: arXiv:2606.12360, S(k).
    """
    if not clusters:
        return ()
    scores = prompt_scores(prompt, clusters)
    regions: list[KindOfPair] = []
    for column, cluster in enumerate(clusters):
        regions += _nested(cluster.id, scores[:, column], shares)
    return tuple(regions)


def prompt_scores(prompt: sparse.csr_array, clusters: Sequence[Concept]) -> np.ndarray:
    """Return c (n_prompts, n_clusters): the share of a cluster's latents that fire in a prompt."""
    firing = prompt.copy()
    firing.data = (firing.data > 0).astype(np.float64)
    return np.asarray((firing @ indicator(clusters, prompt.shape[1])).todense())


def _nested(name: str, score: np.ndarray, shares: Sequence[float]) -> list[KindOfPair]:
    n = len(score)
    found: list[KindOfPair] = []
    for share in shares:
        wanted = max(1, round(share * n))
        cut = np.partition(score, n - wanted)[n - wanted]
        inside = score >= cut if (score >= cut).sum() <= 1.25 * wanted else score > cut
        inside &= score > 0
        if inside.sum() >= 0.75 * wanted:
            found.append(KindOfPair(f"{name}@{share * 100:g}", name, inside))
    return found
