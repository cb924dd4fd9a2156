"""Forecasts of what changes after one kind of prompt and not after the rest.

In:  `Shown`, and which of its prompts are of which kind.
Out: (n_kinds * m,) per predictor, in sd of own answers: the change on a kind's prompts minus that on the rest.
Refuses: to take a cell at its word: a kind holds a fifth of the pairs, so each cell is shrunk towards what the global
effect says of it, by how much cells differ beyond their own noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tiltscope.prediction.predictors import Objective, lessons, random_signs
from tiltscope.prediction.units import Shown

__all__ = ["DECLARED_LOCAL", "LocalShown", "local_forecasts", "local_swapped"]

DECLARED_LOCAL = "cell_shrunk"


@dataclass(frozen=True)
class LocalShown:
    """pairs (n_kinds, n_pairs), own (n_kinds, n_prompts) bool: whose prompt is of a kind; neither is empty nor full."""

    shown: Shown
    objective: Objective
    pairs: np.ndarray
    own: np.ndarray

    @cached_property
    def lessons(self) -> np.ndarray:
        """(n_pairs, m) in sd."""
        return np.asarray(lessons(self.shown, self.objective) / self.shown.sd)

    @cached_property
    def weights(self) -> np.ndarray:
        """(n_kinds, n_pairs): the mean over a kind minus that over the rest."""
        return _contrast(self.pairs)

    @cached_property
    def own_contrast(self) -> np.ndarray:
        """(n_kinds, m) in sd: how own answers to a kind differ from the rest, where the lesson is about own answers."""
        own = self.shown.own.mean(axis=1) / self.shown.sd
        return np.asarray(_contrast(self.own) @ own * (self.objective == "sft"))

    @cached_property
    def at_stake(self) -> np.ndarray:
        """(n_kinds, m) in sd: how much larger lessons of either sign are on a kind than on the rest."""
        return np.asarray(self.weights @ np.abs(self.lessons))

    @cached_property
    def trust(self) -> np.ndarray:
        """(n_kinds, m) 0 to 1: B = s^2 / (s^2 + se^2), s^2 the variance between cells around the global effect."""
        variance = np.array([self._variance(k) for k in range(len(self.pairs))])
        apart = (self.weights @ self.lessons - self.own_contrast - _from_global(self, self.lessons)) ** 2
        between = max(float((apart - variance).mean()), 0.0)
        return np.asarray(between / np.maximum(between + variance, 1e-300))

    def _variance(self, kind: int) -> np.ndarray:
        """(m,) squared standard error of one kind's contrast; pairs of a group are one witness."""
        inside = self.pairs[kind]
        around = self.lessons - np.where(
            inside[:, None], self.lessons[inside].mean(axis=0), self.lessons[~inside].mean(axis=0)
        )
        _, groups = np.unique(self.shown.groups, return_inverse=True)
        sums = np.zeros((groups.max() + 1, around.shape[1]))
        np.add.at(sums, groups, self.weights[kind][:, None] * around)
        found = (sums**2).sum(axis=0)
        if self.objective == "sft":
            own = self.shown.own.mean(axis=1) / self.shown.sd
            found = found + sum(own[part].var(axis=0) / part.sum() for part in (self.own[kind], ~self.own[kind]))
        return np.asarray(found)


def _contrast(inside: np.ndarray) -> np.ndarray:
    return np.asarray(inside / inside.sum(axis=1, keepdims=True) - ~inside / (~inside).sum(axis=1, keepdims=True))


def _from_global(local: LocalShown, taught: np.ndarray) -> np.ndarray:
    """(n_kinds, m): the global effect per unit of what is at stake, times how much more of it is at stake there."""
    effect = taught.mean(axis=0) / np.maximum(np.abs(taught).mean(axis=0), 1e-300)
    return np.asarray(effect * local.at_stake)


def local_forecasts(local: LocalShown) -> dict[str, np.ndarray]:
    """Return (n_kinds * m,) per predictor; `cell_shrunk` is declared.

    Source: method of arXiv:2606.12360 for the cells; shrinkage of James and Stein 1961, Efron and Morris 1975.
    """
    alone = local.weights @ local.lessons - local.own_contrast
    prior = _from_global(local, local.lessons)
    made = {DECLARED_LOCAL: prior + local.trust * (alone - prior), "cell_alone": alone, "global_by_stake": prior}
    return {name: one.ravel() for name, one in made.items()}


def local_swapped(local: LocalShown, rng: np.random.Generator) -> np.ndarray:
    """Null: the declared forecast with the sides of every lesson exchanged at random, group by group."""
    taught = random_signs(local.shown.groups, rng)[:, None] * local.lessons
    prior = _from_global(local, taught)
    return np.asarray(prior + local.trust * (local.weights @ taught - prior)).ravel()
