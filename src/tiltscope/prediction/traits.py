"""Rates of behaviours after training, said beforehand.

In:  which answers show them, by rule: chosen, those that training moves away from, and the starting model's own.
Out: `TraitForecast` per behaviour: the rate now and after, with its 90 % interval.
Refuses: to be sure: how far training follows the labels, and the width of the interval, were set on one training of
alpaca-eval pairs (docs/prediction.md) and are declared, not fitted to the data at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["FOLLOWS", "INTERVAL_SD", "SPREAD_LOGITS", "TraitForecast", "forecast_traits"]

FOLLOWS = 0.6
"""Share of the log odds between chosen and rejected answers by which training moves the model's own."""
SPREAD_LOGITS = 0.6
"""sd of a forecast's error, in logits, beyond sampling."""
INTERVAL_SD = 1.645
"""Half of a 90 % interval."""


@dataclass(frozen=True)
class TraitForecast:
    """Shares of answers, 0 to 1. push: log odds in chosen answers minus that in those left behind, nats."""

    id: str
    now: float
    after: float
    low: float
    high: float
    push: float


def forecast_traits(ids: list[str], chosen: np.ndarray, left: np.ndarray, own: np.ndarray) -> list[TraitForecast]:
    """Return the forecast of every behaviour, each by itself; rates move on the logit scale, so that they saturate.

    chosen (n_pairs, m), own (n_prompts, n_answers, m), left (n_answers, m): 0 or 1; `left` are the answers that
    training moves away from, the rejected ones under DPO, own ones under SFT.
    """
    now = _share(own.reshape(-1, own.shape[-1]))
    push = _logit(_share(chosen)) - _logit(_share(left))
    error = INTERVAL_SD * np.sqrt(SPREAD_LOGITS**2 + _variance_logits(own, now))
    after, low, high = (1 / (1 + np.exp(-(_logit(now) + FOLLOWS * push + side * error))) for side in (0, -1, 1))
    columns = (ids, now, after, low, high, push)
    return [TraitForecast(id, *map(float, numbers)) for id, *numbers in zip(*columns, strict=True)]


def _variance_logits(own: np.ndarray, now: np.ndarray) -> np.ndarray:
    """(m,) squared error of the logit of a rate: answers to one prompt are alike, so prompts are the witnesses."""
    n_prompts, n_answers, _ = own.shape
    spread = now * (1 - now)
    by_prompt = own.mean(axis=1).var(axis=0, ddof=1) / n_prompts if n_prompts > 1 else np.zeros_like(now)
    least = np.maximum(n_prompts * n_answers * spread, 0.5)
    return np.asarray(np.maximum(by_prompt / spread**2, 1 / least))


def _share(shown: np.ndarray) -> np.ndarray:
    """(m,) never 0 or 1: what was not seen is not impossible."""
    return np.asarray((np.sum(shown, axis=0) + 0.5) / (len(shown) + 1))


def _logit(p: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(p / (1 - p)))
