"""Rates of behaviours after training, said beforehand.

In:  which answers show them, by rule: chosen, rejected, and the starting model's own.
Out: `TraitForecast` per behaviour: the rate now and after, with its 90 % interval.
Refuses: to be sure: the interval's width is the error on other datasets, given as `spread` (logits), not a formula's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["SPREAD_LOGITS", "TraitForecast", "forecast_traits"]

SPREAD_LOGITS = 0.8
"""sd of a forecast's error, in logits, beyond sampling; declared: benchmarks/prediction.py tells the coverage."""
_RIDGE = 1.0


@dataclass(frozen=True)
class TraitForecast:
    """Shares of answers, 0 to 1. push: nats of log-odds that the labels give the behaviour, others held."""

    id: str
    now: float
    after: float
    low: float
    high: float
    push: float


def forecast_traits(
    ids: list[str], chosen: np.ndarray, rejected: np.ndarray, own: np.ndarray, *, times: float = 1.0
) -> list[TraitForecast]:
    """Return the forecast of every behaviour.

    chosen, rejected (n_pairs, m), own (n_prompts, n_answers, m): 0 or 1. The labels' joint ridge Bradley-Terry
    coefficients are a tilt of own answers within their prompt (eta / beta = 1, times `times`); rates move on the logit
    scale, so that they saturate.
    """
    from sklearn.linear_model import LogisticRegression

    d = np.asarray(chosen, float) - np.asarray(rejected, float)
    x, y = np.vstack([d, -d]), np.repeat([1, 0], len(d))
    theta = LogisticRegression(C=1 / _RIDGE, fit_intercept=False, max_iter=1000).fit(x, y).coef_[0]
    flat = own.reshape(-1, own.shape[-1]).astype(float)
    n = len(flat)
    now = (flat.sum(axis=0) + 0.5) / (n + 1)  # never 0 or 1: a rate that was not seen is not impossible
    centred = own - own.mean(axis=1, keepdims=True)
    each = own.shape[1]
    covariance = np.einsum("xjm,xjl->ml", centred, centred) / (len(own) * max(each - 1, 1))
    logit = np.log(now / (1 - now))
    # The tilt's first order, d rate = C theta, on the logit scale: what siblings bring along is in C.
    move = times * (covariance @ theta) / np.maximum(now * (1 - now), 1.0 / n)
    error = 1.645 * np.sqrt(SPREAD_LOGITS**2 + 1 / np.maximum(n * now * (1 - now), 0.5))
    ends = [1 / (1 + np.exp(-(logit + move + side * error))) for side in (0, -1, 1)]
    return [
        TraitForecast(id, float(now[i]), float(ends[0][i]), float(ends[1][i]), float(ends[2][i]), float(theta[i]))
        for i, id in enumerate(ids)
    ]
