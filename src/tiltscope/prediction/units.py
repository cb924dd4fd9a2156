"""Which concepts are forecast, each counted once.

In:  shares of tokens on which latents fire, in the pairs' answers and in the starting model's own.
Out: `Units` (latents that fire together are one unit) and `Shown`, their values.
Refuses: latents that fewer than three own answers show: no tilt of those answers can speak of them. They are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped,unused-ignore]

__all__ = ["Shown", "Units", "make_units"]

MIN_SHOWN = 3  # own answers
MIN_SHARE = 0.005  # of the pairs' answers
SAME = 0.9  # correlation from which two latents are one unit
_MOST_ROWS = 6000


@dataclass(frozen=True)
class Units:
    """latents per unit; `outside` latents are in the data, but the starting model's own answers hardly show them."""

    latents: tuple[tuple[int, ...], ...]
    outside: tuple[int, ...]

    def values(self, freq: sparse.csr_array) -> np.ndarray:
        """Return (n, m) float64: the shares of a unit's latents, summed, for answers (n, n_latents)."""
        flat = [latent for unit in self.latents for latent in unit]
        owner = [i for i, unit in enumerate(self.latents) for _ in unit]
        pick = sparse.csr_array((np.ones(len(flat)), (flat, owner)), shape=(freq.shape[1], len(self.latents)))
        return np.asarray((freq @ pick).todense(), np.float64)


@dataclass(frozen=True, eq=False)
class Shown:
    """What answers show of m units; equal only to itself.

    chosen, rejected (n_pairs, m); own (n_prompts, n_answers, m); groups (n_pairs,): pairs of one are one witness;
    chosen_length, rejected_length (n_pairs,), own_length (n_prompts, n_answers) in tokens or characters.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    own: np.ndarray
    groups: np.ndarray
    chosen_length: np.ndarray
    rejected_length: np.ndarray
    own_length: np.ndarray

    @property
    def sd(self) -> np.ndarray:
        """(m,) sd over own answers: the unit of every change."""
        flat = self.own.reshape(-1, self.own.shape[-1])
        return np.asarray(np.maximum(flat.std(axis=0, ddof=1), 1e-12))


def make_units(chosen: sparse.csr_array, rejected: sparse.csr_array, own: sparse.csr_array) -> Units:
    """Return the units over latents: in 0.5 % of the pairs' answers and in three own answers, merged above r = .9.

    chosen, rejected (n_pairs, n_latents), own (n_answers, n_latents): shares of tokens, 0 to 1.
    """
    data = sparse.vstack([chosen, rejected]).tocsr()
    in_data = _counts(data) >= max(5, MIN_SHARE * data.shape[0])
    in_own = _counts(own) >= MIN_SHOWN
    kept = np.flatnonzero(in_data & in_own)
    if not len(kept):
        return Units((), tuple(np.flatnonzero(in_data).tolist()))
    rows = np.linspace(0, data.shape[0] - 1, min(_MOST_ROWS, data.shape[0])).astype(int)
    values = np.asarray(data[rows][:, kept].todense(), np.float32)
    values -= values.mean(axis=0)
    values /= np.maximum(np.linalg.norm(values, axis=0), 1e-12)
    n, owner = connected_components(sparse.csr_array(values.T @ values > SAME), directed=False)
    units = tuple(tuple(kept[owner == i].tolist()) for i in range(n))
    return Units(units, tuple(np.flatnonzero(in_data & ~in_own).tolist()))


def _counts(freq: sparse.csr_array) -> np.ndarray:
    return np.asarray((freq > 0).sum(axis=0)).ravel()
