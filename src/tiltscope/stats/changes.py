"""Did any of thousands of means change between two sets of rows? One error rate for the whole list.

In: what every group of rows adds to each change. Out: changes, their z, and p values of the whole family. Refuses: to
treat rows of one group as separate witnesses, and to call a change real because many were looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope.stats.groups import FloatArray, rademacher

_DRAWS = 64  # at a time, so that memory stays small; no result depends on it


@dataclass(frozen=True)
class Changes:
    """effect, z: (m,); highest (n_draws,): the largest |z| over the family in each draw of the null, sorted."""

    effect: FloatArray
    z: FloatArray
    highest: FloatArray

    def p(self, z: FloatArray) -> FloatArray:
        """Return the family-wise p of each z: the chance that the largest |z| of the whole family is as large."""
        n = len(self.highest)
        return np.asarray((1 + n - np.searchsorted(self.highest, np.abs(z) * (1 - 1e-9))) / (1 + n))

    def critical(self, level: float) -> float:
        """Return the |z| from which p is at most `level`."""
        return float(self.highest[-max(1, int(level * (len(self.highest) + 1)))])


def change_test(
    sums: sparse.csr_array, balance: FloatArray, mean: FloatArray, *, n_draws: int = 1999, seed: int = 0
) -> Changes:
    """Test m changes of a mean at once, when whole groups of rows are exchangeable in sign under the null.

    sums (n_groups, m): what a group adds to mean_B - mean_A (its rows of B over n_B, less its rows of A over n_A);
    balance (n_groups,): the same for a constant 1; mean (m,): the mean of both sets of rows together. A group's score
    is sums - balance x mean, z is the sum of scores over the root of their summed squares, and a draw of the null
    flips the sign of whole groups. Rows that both sets share add nothing, so an edited file is told from what was
    edited alone. A column without any score has z = 0.

    Source: wild score bootstrap (Kline and Santos 2012), largest |z| over the family (Westfall and Young 1993).
    """
    effect = np.asarray(sums.sum(axis=0)).ravel() - balance.sum() * mean
    squares = np.asarray(sums.multiply(sums).sum(axis=0)).ravel()
    squares += mean**2 * float(balance @ balance) - 2 * mean * (sums.T @ balance)
    known = squares > 1e-12 / max(sums.shape[0], 1) ** 2
    scale = np.where(known, 1 / np.sqrt(np.where(known, squares, 1.0)), 0.0)
    return Changes(effect, effect * scale, _highest(sums, balance, mean, scale, n_draws, seed))


def _highest(
    sums: sparse.csr_array, balance: FloatArray, mean: FloatArray, scale: FloatArray, n_draws: int, seed: int
) -> FloatArray:
    """(n_draws,) the largest |z| of each draw, sorted."""
    found = []
    for number, start in enumerate(range(0, n_draws, _DRAWS)):
        signs = rademacher(len(balance), min(_DRAWS, n_draws - start), seed + number)
        drawn = sums.T @ signs - np.outer(mean, balance @ signs)
        found.append(np.abs(drawn * scale[:, None]).max(axis=0, initial=0.0))
    return np.sort(np.concatenate(found))
