"""How strong a suppression must be to explain a concept away: the coefficient the labels themselves give its score.

In:  standardised scores of chosen and rejected answers. Out: a strength in nats per sd.
Refuses: labels that the score separates completely, where no finite strength explains them.
"""

from __future__ import annotations

import numpy as np

from tiltscope.interventions.wishes import Scored, Wish, refusal
from tiltscope.recipe import sign

__all__ = ["explaining_strength"]

_LIMIT = 20.0


def explaining_strength(wish: Wish, scored: Scored) -> float:
    """Return the strength at which the offset is the concept's whole log-odds of winning: an aim of `start`.

    Maximises sum log sigmoid(lambda (s(y+) - s(y-))) over the pairs inside (Bradley and Terry 1952, without
    intercept). With that offset the labels say nothing more about the concept at the starting model, so its marginal
    push is gone. 0 where the data already lean the way the wish asks for.

    Raises `UsageError` where the score separates chosen from rejected completely.
    """
    both = np.concatenate([scored.chosen, scored.rejected])
    spread = float(both[np.isfinite(both)].std())
    if not spread:
        raise refusal(wish, "the score is the same for every answer", hint="choose another detector")
    d = (scored.chosen - scored.rejected)[scored.inside] / spread
    coefficient = _bradley_terry(d)
    if abs(coefficient) >= _LIMIT:
        raise refusal(
            wish,
            "the score separates chosen from rejected completely: no strength explains that",
            found=f"more than {_LIMIT:g} nats per sd",
            hint="give a strength, or filter examples",
        )
    return max(0.0, sign(wish.action) * coefficient)


def _bradley_terry(d: np.ndarray) -> float:
    """Newton's method on the concave log-likelihood; ends at +-_LIMIT where it has no maximum."""
    value = 0.0
    for _ in range(100):
        p = 1 / (1 + np.exp(-value * d))
        gradient, curvature = float(((1 - p) * d).sum()), float((p * (1 - p) * d**2).sum())
        if curvature <= 1e-12 or abs(value) >= _LIMIT:
            break
        step = float(np.clip(gradient / curvature, -1, 1))
        value += step
        if abs(step) < 1e-10:
            return value
    return float(np.clip(value, -_LIMIT, _LIMIT)) if d.any() else 0.0
