"""How strong a plan must be to leave a concept no push, and what is held all of its own.

In:  differences of concept scores per pair (DPO), or scores of the answers trained on (SFT); which are targets.
Out: `Balance`: theta (m,) nats per unit of score; the offset of a pair is theta . d, the weight of an example
     exp(-theta . x); and what every pair is multiplied by.
Refuses: nothing; wishes that no finite theta meets give None (a target that is what is held, a separating score).

The first step of DPO pushes a concept by sum_i w_i sigma(-offset_i) d_i, since the margin is 0 at the starting model.
The push of a target is brought to 0, that of a held concept is kept. Siblings that are neither follow. An offset only
moves weights between 0 and 1, so what is held can need heavier pairs: `scale`. With one target and nothing held, theta
is the Bradley-Terry coefficient of the concept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["SCALES", "Balance", "balance_examples", "balance_pairs"]

SCALES = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
_WITHIN_NATS = 6.0  # beyond it a weight is 0 or 1 for all that matters: a heavier scale asks less of single pairs
_RIDGE = 1e-9  # per row: keeps a step finite where two concepts are one
_STEPS, _TOLERANCE = 200, 1e-3
_LIMIT_NATS = 12.0  # per sd of a score: beyond it the score separates the two sides, and no strength is the right one

Dual = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Balance:
    """theta (m,), and what all pairs weigh (1 or more; always 1 for SFT, whose weights have mean 1)."""

    theta: np.ndarray
    scale: float = 1.0


def balance_pairs(d: np.ndarray, targets: np.ndarray) -> Balance | None:
    """Return theta with sum scale sigma(-theta . d) d = 0 for targets and = sum d / 2 for the rest; None: no such.

    d (n, m): standardised score of the chosen minus that of the rejected answer; targets (m,) bool. The smallest of
    `SCALES` that keeps every offset within 6 nats, else the largest that has a solution. The minimum of the convex
    sum log(1 + exp(-theta . d)) + theta . c, c = 0 for targets and sum d / (2 scale) for the rest.
    Source: Bradley and Terry 1952 where nothing is held; the balance is that of Hainmueller 2012, for pairs.
    """
    found = None
    for scale in SCALES if not targets.all() else SCALES[:1]:
        theta = _solved(_pair_dual(d, np.where(targets, 0.0, 0.5 * d.sum(axis=0) / scale)), 0.5 * np.abs(d).sum(axis=0))
        if theta is not None:
            found = Balance(theta, scale)
            if np.abs(d @ theta).max(initial=0.0) <= _WITHIN_NATS:
                break
    return found


def _pair_dual(d: np.ndarray, goal: np.ndarray) -> Dual:
    def dual(theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        score = d @ theta
        p = 0.5 * (1 - np.tanh(score / 2))  # sigma(-score)
        value = float(np.logaddexp(0, -score).sum() + goal @ theta)
        return value, p @ d - goal, (d * (p * (1 - p))[:, None]).T @ d

    return dual


def balance_examples(x: np.ndarray, wanted: np.ndarray) -> Balance | None:
    """Return theta with which weights exp(-theta . x) give these mean scores; None where none does.

    x (n, m): standardised scores of the answers trained on; wanted (m,): what a target shows on the other side, what a
    held concept shows now. Source: entropy balancing (Hainmueller 2012).
    """
    centred = x - wanted

    def dual(theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        score = -centred @ theta
        raw = np.exp(score - score.max())
        share = raw / raw.sum()
        mean = share @ centred
        second = (centred * share[:, None]).T @ centred - np.outer(mean, mean)
        return len(x) * float(np.log(raw.sum()) + score.max()), len(x) * mean, len(x) * second

    theta = _solved(dual, np.abs(x - x.mean(axis=0)).sum(axis=0))
    return None if theta is None else Balance(theta)


def _solved(dual: Dual, spread: np.ndarray) -> np.ndarray | None:
    """Newton with backtracking on a convex dual; the gap that is left is judged by `spread` (m,)."""
    theta = np.zeros(len(spread))
    value, gap, curvature = dual(theta)
    for _ in range(_STEPS):
        ridge = _RIDGE * (1 + float(np.trace(curvature))) * np.eye(len(theta))
        step = np.linalg.solve(curvature + ridge, gap)
        size = min(1.0, 5.0 / max(float(np.abs(step).max(initial=0.0)), 1e-300))
        for _ in range(40):
            new = dual(theta + size * step)
            if new[0] <= value - 1e-4 * size * float(gap @ step) + 1e-12 * abs(value):
                break
            size /= 2
        theta = theta + size * step
        value, gap, curvature = new
        if np.abs(theta).max(initial=0.0) > _LIMIT_NATS or np.abs(size * step).max(initial=0.0) < 1e-10:
            break
    met = np.abs(gap) <= _TOLERANCE * spread
    return theta if met.all() and np.abs(theta).max(initial=0.0) <= _LIMIT_NATS else None
