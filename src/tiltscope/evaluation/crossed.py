"""The mean of a table of prompts by training seeds, with an interval that speaks of new prompts and new seeds.

In:  d (n_seeds, n_prompts): one number per seed and prompt, already averaged over answers.
Out: `Estimate`: mean, interval, degrees of freedom, p.
Refuses: to claim certainty from numbers that do not vary: see `witness`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Estimate", "crossed_mean", "nothing"]


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; nan where it cannot be said."""

    effect: float
    low: float
    high: float
    se: float
    df: float
    p: float
    n_prompts: int
    n_seeds: int


def nothing(n_prompts: int = 0, n_seeds: int = 0) -> Estimate:
    """Return the estimate of what cannot be said."""
    nan = math.nan
    return Estimate(nan, nan, nan, nan, nan, nan, n_prompts, n_seeds)


def crossed_mean(d: npt.ArrayLike, *, witness: float, level: float = 0.95) -> Estimate:
    """Estimate the mean of d (n_seeds, n_prompts) when both prompts and seeds are samples of many.

    With the mean squares of a two-way table without repeats, the variance of the mean is
    (MS_prompts + MS_seeds - MS_rest) / (n_seeds n_prompts), with Satterthwaite's degrees of freedom, never below the
    part of prompts alone or of seeds alone. With one seed it is MS_prompts / n_prompts: the interval then says nothing
    about other seeds.

    `witness` is the size of one event (1 for shares and counts, 0 for values of no known step). It keeps few events
    from passing for certainty: two prompts that lie above and below the mean by the size of the changes seen (root mean
    square of those that are not zero) are added to the prompts' part, and that part is never smaller than with two
    prompts of one witness among prompts without any change (then the half-width is about 2.8 / n_prompts, near the
    rule of three). nan under two prompts, and where witness is 0 and nothing varies.

    Source: Satterthwaite (1946); Cornfield and Tukey (1956) for the mean squares of crossed random factors; Bonett and
    Price (2012) for the two added observations.
    """
    from tiltscope.stats.estimates import t_quantile, t_tail

    d = np.asarray(d, dtype=np.float64)
    n_seeds, n_prompts = d.shape
    if n_prompts < 2 or n_seeds < 1 or not np.isfinite(d).all():
        return nothing(n_prompts, n_seeds)
    mean = float(d.mean())
    variance, df = _variance(d, witness)
    spread = float(np.abs(d).max())
    if math.sqrt(variance) <= 1e-12 * spread or variance == 0:
        return Estimate(mean, math.nan, math.nan, 0.0, df, math.nan, n_prompts, n_seeds)
    se = math.sqrt(variance)
    half = float(t_quantile((1 + level) / 2, df)) * se
    p = min(1.0, 2 * float(t_tail(abs(mean) / se, df)))
    return Estimate(mean, mean - half, mean + half, se, df, p, n_prompts, n_seeds)


def _variance(d: np.ndarray, witness: float) -> tuple[float, float]:
    """The variance of the mean and its degrees of freedom."""
    n_seeds, n_prompts = d.shape
    by_prompt, by_seed = d.mean(axis=0), d.mean(axis=1)
    prompts = _with_witnesses(by_prompt, witness)
    if n_seeds < 2:
        return prompts, n_prompts - 1.0
    seeds = float(by_seed.var(ddof=1)) / n_seeds
    rest = d - by_prompt - by_seed[:, None] + d.mean()
    n_rest = (n_seeds - 1) * (n_prompts - 1)
    overlap = float((rest**2).sum()) / n_rest / (n_seeds * n_prompts)
    total = prompts + seeds - overlap
    if total <= max(prompts, seeds):
        return (prompts, n_prompts - 1.0) if prompts >= seeds else (seeds, n_seeds - 1.0)
    parts = prompts**2 / (n_prompts - 1) + seeds**2 / (n_seeds - 1) + overlap**2 / n_rest
    return total, max(total**2 / parts, min(n_seeds, n_prompts) - 1.0)


def _with_witnesses(by_prompt: np.ndarray, witness: float) -> float:
    """Variance of the prompts' mean, with the added observations where they make it larger."""
    n, squares = len(by_prompt), float(((by_prompt - by_prompt.mean()) ** 2).sum())
    changed = by_prompt[by_prompt != 0]
    seen = min(float((changed**2).mean()), witness**2) if changed.size else 0.0
    floor = max(squares + 2 * seen, 2 * witness**2) if witness else squares
    return max(squares / (n - 1) / n, floor / ((n + 1) * (n + 2)))
