"""The lean of a few groups, exactly: every way their labels could have fallen is counted.

A group that leans by s pairs would have leaned by -s, had its labels fallen the other way; under the sharp null both
are as likely, whatever the sizes of the groups. So the sum over groups has a known distribution, and p is a count, not
a limit. Let a group be won with chance pi instead of one half and the same count gives the interval: all pi that the
data do not refute. With groups of one size these are the sign test and Clopper and Pearson's interval.

Source: Fisher (1935), The Design of Experiments, section 21; Clopper and Pearson (1934).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiltscope.stats.estimates import Bounds
from tiltscope.stats.groups import FloatArray, IntArray

_TOLERANCE = 1e-10  # of pi


@dataclass(frozen=True)
class FewGroups:
    """Groups that lean, in whole units: `sizes` (n_groups,) how far each leans, `won` the sum of those that lean up."""

    sizes: IntArray
    won: int

    @classmethod
    def of(cls, sums: npt.ArrayLike, unit: float) -> FewGroups:
        """Build from the groups' sums (n_groups,), each a whole multiple of `unit`; groups at 0 say nothing.

        Raises: ValueError where a sum is no multiple of the unit.
        """
        exact = np.asarray(sums, np.float64) / unit
        units = np.rint(exact).astype(np.int64)
        if np.abs(exact - units).max(initial=0.0) > 1e-6:
            raise ValueError("every group's sum must be a whole multiple of the unit")
        units = units[units != 0]
        return cls(np.abs(units), int(units[units > 0].sum()))

    @property
    def total(self) -> int:
        """The largest sum the groups could have had."""
        return int(self.sizes.sum())

    def chances(self, pi: float = 0.5) -> FloatArray:
        """Return the chance of each possible `won`, 0 … total, when a group leans up with chance pi."""
        chance = np.zeros(self.total + 1)
        chance[0] = 1.0
        top = 0
        for size in self.sizes.tolist():
            up = pi * chance[: top + 1]
            chance[: top + 1] *= 1 - pi
            top += size
            chance[size : top + 1] += up
        return chance

    def p_one(self, direction: int) -> float:
        """One-sided p of "it leans this way" (+1 or -1); 1 where no group leans."""
        chance = self.chances()
        tail = chance[self.won :] if direction > 0 else chance[: self.won + 1]
        return min(float(tail.sum()), 1.0)

    def p_two(self) -> float:
        """Twice the smaller one-sided p, at most 1."""
        return min(2 * min(self.p_one(1), self.p_one(-1)), 1.0)

    def interval(self, level: float = 0.95) -> Bounds:
        """Return the interval of the sum over groups, in units: (2 pi - 1) total for every pi not refuted at `level`.

        It takes the groups and their sizes as given: it speaks of which way they lean, not of how many there are.
        """
        spare = (1 - level) / 2
        low = 0.0 if self.won == 0 else self._solve(slice(self.won, None), spare)
        high = 1.0 if self.won == self.total else self._solve(slice(0, self.won + 1), spare)
        return Bounds(np.asarray((2 * low - 1) * self.total), np.asarray((2 * high - 1) * self.total))

    def _solve(self, tail: slice, chance: float) -> float:
        """The pi at which the tail has this chance; tails are monotone in pi."""
        from scipy.optimize import brentq

        return float(brentq(lambda pi: self.chances(pi)[tail].sum() - chance, 0.0, 1.0, xtol=_TOLERANCE))


def flip_p(few: FewGroups, totals: npt.ArrayLike, direction: int) -> FloatArray:
    """Return the one-sided p of other draws of the same groups: `totals` (n_draws,) are their sums in units."""
    won = (np.rint(np.asarray(totals)).astype(np.int64) + few.total) // 2
    chance = few.chances()
    tail = np.cumsum(chance[::-1])[::-1] if direction > 0 else np.cumsum(chance)
    return np.asarray(np.minimum(tail[won], 1.0))
