"""How strong a suppression must be to explain a concept away: the coefficient the labels themselves give its score.

In:  standardised scores of chosen and rejected answers. Out: a strength in nats per sd.
Refuses: labels that the score separates completely, where no finite strength explains them.
"""

from __future__ import annotations

import numpy as np

from tiltscope.interventions.wishes import Scored, Wish, refusal
from tiltscope.recipe import sign

__all__ = ["explaining_strength"]


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
    d = d[d != 0]
    if len(d) and (d.min() > 0 or d.max() < 0):
        raise refusal(
            wish,
            "the score separates chosen from rejected completely: no finite strength explains that",
            found=f"all {len(d)} pairs that differ in it lean one way",
            hint="give a strength, or filter examples",
        )
    return max(0.0, sign(wish.action) * _bradley_terry(d))


def _bradley_terry(d: np.ndarray) -> float:
    """Newton's method with steps of at most 1 on the strictly concave log-likelihood; 0 without any difference."""
    value = 0.0
    for _ in range(1000 if len(d) else 0):
        p = 1 / (1 + np.exp(-value * d))
        step = float(np.clip(((1 - p) * d).sum() / (p * (1 - p) * d**2).sum(), -1, 1))
        value += step
        if abs(step) < 1e-10:
            break
    return value
