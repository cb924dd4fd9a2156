"""How good a forecast was: squared correlation with interval, ceiling, nulls; whether there was anything to predict.

In:  forecasts (m,), values of answers before and after per prompt, seeds of training.
Out: `Card`.
Refuses: to score where training did not move the model, or where repeats do not agree: `verdict` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import spearmanr  # type: ignore[import-untyped,unused-ignore]

__all__ = ["Card", "Observed", "Scored", "prediction_card", "squared"]

_DRAWS, _FLIPS = 400, 999
_LEVERAGE = 5


@dataclass(frozen=True)
class Observed:
    """before (n_prompts, n_answers, m) of the starting model; after (n_seeds, n_prompts, n_answers, m); same prompts.

    sd (m,): of the starting model's own answers, sampled apart from `before`.
    """

    before: np.ndarray
    after: np.ndarray
    sd: np.ndarray

    @property
    def change(self) -> np.ndarray:
        """(m,) after - before in sd, seeds and prompts averaged."""
        return np.asarray((self.after.mean(axis=(0, 1, 2)) - self.before.mean(axis=(0, 1))) / self.sd)


@dataclass(frozen=True)
class Scored:
    """r2: squared correlation with the observed change, -1 times it where the correlation is below 0.

    low, high: 95 % bootstrap over prompts x seeds x units, centred at r2. r2_without: without the five units of highest
    leverage. r2_line: 1 - SSE / SST with `line` (slope of another dataset), None without.
    """

    r2: float
    low: float
    high: float
    spearman: float
    r2_without: float
    r2_line: float | None = None


@dataclass(frozen=True)
class Card:
    """What a forecast was worth. `ceiling` is the reliability of the observed change: no forecast can score more."""

    verdict: Literal["scored", "nothing to predict"]
    why: str
    n_units: int
    n_effective: float
    n_prompts: int
    n_seeds: int
    repeat: float  # correlation of the change between independent repeats of one training
    ceiling: float
    p_moved: float
    slope: float  # of the observed change on the primary forecast: the line for other datasets
    scores: Mapping[str, Scored]
    nulls: Mapping[str, float]  # 95th percentile of r2, or the value itself where there is one


def squared(x: np.ndarray, y: np.ndarray) -> float:
    """Return r squared with the sign of r; 0 where either does not vary."""
    x, y = x - x.mean(), y - y.mean()
    both = float(np.sqrt((x @ x) * (y @ y)))
    r = float(x @ y) / both if both > 0 else 0.0
    return r * abs(r)


def prediction_card(
    forecasts: Mapping[str, np.ndarray],
    observed: Observed,
    *,
    nulls: Mapping[str, np.ndarray],
    primary: str,
    seed: int = 0,
    line: float | None = None,
) -> Card:
    """Score forecasts, each (m,).

    nulls: forecasts that know nothing, (m,) or (n_draws, m); of the latter the 95th percentile counts. line: slope of
    the observed change on the primary forecast in other datasets.
    """
    rng = np.random.default_rng(seed)
    y = observed.change
    repeat = _repeat(observed)
    n_seeds = len(observed.after)
    times = max(n_seeds, 2)  # one seed is split into halves of its answers
    ceiling = max(0.0, times * repeat / (1 + (times - 1) * repeat)) if repeat > -1 else 0.0
    p_moved = _p_moved(observed, rng)
    moved = repeat >= 0.5 and p_moved < 0.01
    why = "" if moved else f"repeats agree at r = {repeat:.2f} (.50 is asked for), p of any change {p_moved:.3f}"
    drawn = _bootstrap(forecasts, observed, rng)
    scores = {name: _scored(x, y, drawn[name], line if name == primary else None) for name, x in forecasts.items()}
    x = forecasts[primary]
    return Card(
        "scored" if moved else "nothing to predict",
        why,
        len(y),
        _n_effective(observed),
        observed.before.shape[0],
        n_seeds,
        repeat,
        ceiling,
        p_moved,
        float(x @ y / max(x @ x, 1e-300)),
        scores,
        {
            name: float(np.quantile([squared(one, y) for one in np.atleast_2d(null)], 0.95))
            for name, null in nulls.items()
        },
    )


def _scored(x: np.ndarray, y: np.ndarray, drawn: np.ndarray, line: float | None) -> Scored:
    value = squared(x, y)
    # Redrawn prompts add noise, which lowers every draw: the spread is the draws', the place is that of the value.
    low, middle, high = np.quantile(drawn, [0.025, 0.5, 0.975])
    low, high = max(-1.0, value + low - middle), min(1.0, value + high - middle)
    far = np.argsort(-np.abs(x - x.mean()))[_LEVERAGE:]
    rank = float(spearmanr(x, y).statistic) if np.ptp(x) > 0 else 0.0
    sse = None if line is None else float(((y - line * x) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    return Scored(value, float(low), float(high), rank, squared(x[far], y[far]), None if sse is None else 1 - sse)


def _bootstrap(
    forecasts: Mapping[str, np.ndarray], observed: Observed, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """r2 over redrawn prompts, seeds and units."""
    before, after = observed.before.mean(axis=1), observed.after.mean(axis=2)
    n_seeds, n_prompts, m = after.shape
    drawn: dict[str, list[float]] = {name: [] for name in forecasts}
    for _ in range(_DRAWS):
        seeds, prompts, units = (rng.integers(0, n, n) for n in (n_seeds, n_prompts, m))
        weight = np.bincount(prompts, minlength=n_prompts) / n_prompts
        y = (weight @ (after[seeds].mean(axis=0) - before) / observed.sd)[units]
        for name, x in forecasts.items():
            drawn[name].append(squared(x[units], y))
    return {name: np.array(values) for name, values in drawn.items()}


def _repeat(observed: Observed) -> float:
    """Correlation of the change between two repeats: other seeds (with one seed, answers) and other before-answers."""
    before, after = observed.before, observed.after
    halves = [before[:, half::2].mean(axis=(0, 1)) for half in (0, 1)] if before.shape[1] > 1 else None
    if halves is None:
        return 0.0
    ones = [one.mean(axis=(0, 1)) for one in after]
    if len(ones) == 1:
        ones = [after[0][:, half::2].mean(axis=(0, 1)) for half in (0, 1)] if after.shape[2] > 1 else ones
    found = []
    for i, a in enumerate(ones):
        for j, b in enumerate(ones):
            if i != j:
                found.append(np.corrcoef((a - halves[0]) / observed.sd, (b - halves[1]) / observed.sd)[0, 1])
    return float(np.mean(found)) if found else 0.0


def _p_moved(observed: Observed, rng: np.random.Generator) -> float:
    """Permutation p of the size of the change: before and after are exchanged prompt by prompt."""
    d = (observed.after.mean(axis=(0, 2)) - observed.before.mean(axis=1)) / observed.sd
    size = float((d.mean(axis=0) ** 2).sum())
    flips = rng.choice([-1.0, 1.0], (_FLIPS, len(d)))
    null = ((flips @ d / len(d)) ** 2).sum(axis=1)
    return float((1 + (null >= size).sum()) / (1 + _FLIPS))


def _n_effective(observed: Observed) -> float:
    """(tr C)^2 / tr C^2 of the units over answers before training."""
    flat = observed.before.reshape(-1, observed.before.shape[-1]) / observed.sd
    gram = flat - flat.mean(axis=0)
    gram = gram @ gram.T  # the same traces, from the smaller side
    return float(np.trace(gram) ** 2 / max((gram**2).sum(), 1e-300))
