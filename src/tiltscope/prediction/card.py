"""How good a forecast was: squared correlation with interval, ceiling, nulls; whether there was anything to predict.

In:  forecasts per unit (or per kind of prompt and unit), values of answers before and after per prompt, training seeds.
Out: `Card`.
Refuses: to score where training did not move the model, or where repeats do not agree: `verdict` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import spearmanr  # type: ignore[import-untyped,unused-ignore]

__all__ = ["Card", "Observed", "Scored", "prediction_card", "squared"]

_DRAWS, _FLIPS, _SPLITS = 400, 999, 40
_LEVERAGE = 5


@dataclass(frozen=True)
class Observed:
    """before (n_prompts, n_answers, m) of the starting model; after (n_seeds, n_prompts, n_answers, m); same prompts.

    sd (m,): of the starting model's own answers, sampled apart from `before`. inside (n_kinds, n_prompts) bool: the
    change on the prompts of a kind minus that on the rest is scored; without it, the change on all prompts.
    """

    before: np.ndarray
    after: np.ndarray
    sd: np.ndarray
    inside: np.ndarray | None = None

    @property
    def change(self) -> np.ndarray:
        """(n_kinds * m,) or (m,): after - before in sd, seeds averaged."""
        return self.over(self.after.mean(axis=(0, 2)) - self.before.mean(axis=1))

    def over(self, change: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
        """Return what is scored of a change per prompt (n_prompts, m); counts (n_prompts,): how often each counts."""
        weights = self.weights(np.ones(len(change)) if counts is None else counts)
        return np.asarray(weights @ (change / self.sd)).ravel()

    def weights(self, counts: np.ndarray) -> np.ndarray:
        """(n_kinds, n_prompts): the mean over a kind minus that over the rest, or one row, the mean over all."""
        if self.inside is None:
            return np.asarray(counts[None, :] / counts.sum())
        of_kind, rest = self.inside * counts, ~self.inside * counts
        sums = [np.maximum(part.sum(axis=1, keepdims=True), 1.0) for part in (of_kind, rest)]
        return np.asarray(of_kind / sums[0] - rest / sums[1])


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
    """What a forecast was worth.

    ceiling: share of the variance of the observed change that repeats with other seeds and other answers: no forecast
    can score more. ceiling_elsewhere: the share that repeats on other prompts: what data can say without seeing these.
    """

    verdict: Literal["scored", "nothing to predict"]
    why: str
    n_units: int
    n_effective: float
    n_prompts: int
    n_seeds: int
    repeat: float  # correlation of the change between independent repeats of one training
    ceiling: float
    ceiling_elsewhere: float
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
    """Score forecasts, each (m,), or (n_kinds * m,) where kinds of prompts are told apart.

    nulls: forecasts that know nothing, of that length or (n_draws, length); of the latter the 95th percentile counts.
    line: slope of the observed change on the primary forecast in other datasets.
    """
    rng = np.random.default_rng(seed)
    y = observed.change
    repeat, ceiling = _repeat(observed)
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
        len(observed.after),
        repeat,
        ceiling,
        _elsewhere(observed, rng),
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
    """r2 over redrawn prompts, seeds, kinds and units."""
    before, after = observed.before.mean(axis=1), observed.after.mean(axis=2)
    n_seeds, n_prompts, m = after.shape
    n_kinds = 1 if observed.inside is None else len(observed.inside)
    drawn: dict[str, list[float]] = {name: [] for name in forecasts}
    for _ in range(_DRAWS):
        seeds, prompts, kinds, units = (rng.integers(0, n, n) for n in (n_seeds, n_prompts, n_kinds, m))
        cells = (kinds[:, None] * m + units).ravel()
        counts = np.bincount(prompts, minlength=n_prompts)
        y = observed.over(after[seeds].mean(axis=0) - before, counts)[cells]
        for name, x in forecasts.items():
            drawn[name].append(squared(x[cells], y))
    return {name: np.array(values) for name, values in drawn.items()}


def _repeat(observed: Observed) -> tuple[float, float]:
    """Correlation of the change between two repeats: other seeds (with one seed, answers) and other before-answers;
    and their covariance as a share of the variance of the change.
    """
    before, after = observed.before, observed.after
    ones = [one.mean(axis=1) for one in after]
    if len(ones) == 1:
        ones = [after[0][:, half::2].mean(axis=1) for half in (0, 1)] if after.shape[2] > 1 else []
    if before.shape[1] < 2 or len(ones) < 2:
        return 0.0, 0.0
    halves = [before[:, half::2].mean(axis=1) for half in (0, 1)]
    pairs = [
        np.cov(observed.over(a - halves[0]), observed.over(b - halves[1]))
        for i, a in enumerate(ones)
        for j, b in enumerate(ones)
        if i != j
    ]
    repeat = np.mean([one[0, 1] / max(np.sqrt(one[0, 0] * one[1, 1]), 1e-300) for one in pairs])
    return float(repeat), _share([one[0, 1] for one in pairs], observed)


def _elsewhere(observed: Observed, rng: np.random.Generator) -> float:
    """Covariance of the change between halves of the prompts, as a share of its variance; seeds differ where they can.

    A half that lacks a kind of prompt altogether says 0 of it.
    """
    change = observed.after.mean(axis=2) - observed.before.mean(axis=1)
    n_seeds, n_prompts, _ = change.shape
    found = []
    for _ in range(_SPLITS):
        half = np.zeros(n_prompts)
        half[rng.permutation(n_prompts)[: n_prompts // 2]] = 1
        i, j = rng.permutation(n_seeds)[:2] if n_seeds > 1 else (0, 0)
        found.append(np.cov(observed.over(change[i], half), observed.over(change[j], 1 - half))[0, 1])
    return _share(found, observed)


def _share(covariances: Sequence[float], observed: Observed) -> float:
    return float(np.clip(np.mean(covariances) / max(observed.change.var(ddof=1), 1e-300), 0, 1))


def _p_moved(observed: Observed, rng: np.random.Generator) -> float:
    """Permutation p of the size of the change: before and after are exchanged prompt by prompt."""
    d = observed.after.mean(axis=(0, 2)) - observed.before.mean(axis=1)
    size = float((observed.over(d) ** 2).sum())
    flips = rng.choice([-1.0, 1.0], (_FLIPS, len(d), 1))
    null = np.array([(observed.over(flip * d) ** 2).sum() for flip in flips])
    return float((1 + (null >= size).sum()) / (1 + _FLIPS))


def _n_effective(observed: Observed) -> float:
    """(tr C)^2 / tr C^2 of the units over answers before training, times that of the kinds over prompts."""
    flat = observed.before.reshape(-1, observed.before.shape[-1]) / observed.sd
    kinds = observed.weights(np.ones(len(observed.before)))
    found = 1.0
    for part in (flat - flat.mean(axis=0), kinds):
        gram = part @ part.T  # the same traces, from the smaller side
        found *= float(np.trace(gram) ** 2 / max((gram**2).sum(), 1e-300))
    return found
