"""Decisions of one plan side by side: which pairs several of them touch, and where they pull against each other.

In:  every decision applied by itself. Out: `Overlap` per two decisions, `Conflict` where they contradict or add up.
Refuses: nothing; a conflict is told, and a person decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations

import numpy as np

from tiltscope.interventions.signs import turned
from tiltscope.interventions.wishes import Scored, Wish
from tiltscope.recipe import SIDES, Recipe, sign

__all__ = ["Alone", "Conflict", "Overlap", "conflicts", "overlaps"]

_ALIKE = 0.5  # correlation of two scores from which opposite wishes are called a conflict
_TAKEN = 0.1  # share of the pairs that teach a concept from which leaving them out is called a conflict


@dataclass(frozen=True)
class Alone:
    """One decision applied to the starting recipe by itself."""

    wish: Wish
    scored: Scored
    before: Recipe
    after: Recipe

    @cached_property
    def offsets_nats(self) -> np.ndarray:
        """(n,) the offsets this decision adds."""
        return np.asarray(self.after.offsets_nats - self.before.offsets_nats)

    @cached_property
    def lost(self) -> np.ndarray:
        """(n,) bool: rows this decision leaves out or turns round."""
        dropped = (self.after.weights == 0) & (self.before.weights > 0)
        return np.asarray(dropped | (self.after.flipped != self.before.flipped))

    @cached_property
    def touched(self) -> np.ndarray:
        """(n,) bool: rows that train differently through this decision."""
        rows = (self.offsets_nats != 0) | self.lost | (self.after.weights != self.before.weights)
        held = [f"{side}_{part}" for side in SIDES for part in ("masked", "instruction")]
        pairs = [(getattr(self.before, name), getattr(self.after, name)) for name in held]
        other = [any(old.get(one) != new.get(one) for old, new in pairs) for one in self.before.pair_ids]
        steered = self.scored.inside if len(self.after.steering) > len(self.before.steering) else False
        return np.asarray(rows | np.array(other, bool) | steered)


@dataclass(frozen=True)
class Overlap:
    """Two decisions: the pairs both touch, and how far their offsets agree."""

    first: str
    second: str
    n_pairs: int
    share: float  # of all pairs
    correlation: float | None  # of their offsets over the pairs both touch; None where one of them has none


@dataclass(frozen=True)
class Conflict:
    """Two decisions that pull against each other, and why."""

    first: str
    second: str
    reason: str


def overlaps(alone: Sequence[Alone]) -> tuple[Overlap, ...]:
    """Return one overlap per two decisions, in the order of the plan."""
    return tuple(_overlap(a, b) for a, b in combinations(alone, 2))


def _overlap(a: Alone, b: Alone) -> Overlap:
    both = a.touched & b.touched
    n = len(both)
    correlation = _correlation(a.offsets_nats[both], b.offsets_nats[both])
    return Overlap(a.wish.name, b.wish.name, int(both.sum()), float(both.sum() / n) if n else 0.0, correlation)


def _correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def conflicts(alone: Sequence[Alone]) -> tuple[Conflict, ...]:
    """Return the contradictions: opposite wishes on like scores, and pairs left out that another decision amplifies.

    Two decisions that wish the same of the same scores are told as well: what they do adds up.
    """
    found = [_opposite(a, b) or _twice(a, b) for a, b in combinations(alone, 2)]
    found += [_taken(a, b) for a, b in permutations(alone, 2)]
    return tuple(one for one in found if one is not None)


def _opposite(a: Alone, b: Alone) -> Conflict | None:
    both = a.scored.inside & b.scored.inside
    x, y = (np.concatenate([one.scored.chosen[both], one.scored.rejected[both]]) for one in (a, b))
    finite = np.isfinite(x) & np.isfinite(y)
    correlation = _correlation(x[finite], y[finite])
    if correlation is None or sign(a.wish.action) * sign(b.wish.action) * correlation > -_ALIKE:
        return None
    reason = f"{a.wish.action} and {b.wish.action} on scores that correlate {correlation:.2f}"
    return Conflict(a.wish.name, b.wish.name, reason)


def _twice(a: Alone, b: Alone) -> Conflict | None:
    same = all(np.array_equal(getattr(a.scored, side), getattr(b.scored, side), equal_nan=True) for side in SIDES)
    if a.wish.action != b.wish.action or not same or not (a.scored.inside & b.scored.inside).any():
        return None
    methods = " and ".join(one.wish.method.replace("_", " ") for one in (a, b))
    return Conflict(a.wish.name, b.wish.name, f"both {a.wish.action} the same scores, by {methods}: it adds up")


def _taken(a: Alone, b: Alone) -> Conflict | None:
    """Does `a` leave out or flip pairs that teach what `b` amplifies?"""
    if b.wish.action != "amplify" or not a.lost.any():
        return None
    if b.before.objective == "sft":
        lean = b.scored.chosen - b.scored.chosen.mean()
    else:
        lean = turned(b.before) * (b.scored.chosen - b.scored.rejected)
    teach = b.scored.inside & (lean > 0)
    n = int((a.lost & teach).sum())
    if n == 0 or n < _TAKEN * teach.sum():
        return None
    reason = f"the first leaves out or turns round {n} of the {int(teach.sum())} pairs that teach what is amplified"
    return Conflict(a.wish.name, b.wish.name, reason)
