"""Numbers for display and for many tests at once: q values, Welch, split halves, shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiltscope.stats.estimates import ratio, t_quantile
from tiltscope.stats.groups import BoolArray, FloatArray


def benjamini_hochberg(p: npt.ArrayLike) -> FloatArray:
    """Return the Benjamini-Hochberg q value of each p value; nan stays nan and is not counted as a test.

    `p` has shape (m,) with values in [0, 1] or nan; q has the same shape and is in [p, 1].

    Raises: ValueError for a p outside [0, 1].
    Source: Benjamini and Hochberg (1995).

    >>> benjamini_hochberg([0.01, 0.04, float("nan"), 0.03]).round(3).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    p = np.asarray(p, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    counted = ~np.isnan(p)
    values = p[counted]
    if values.size and (values.min() < 0 or values.max() > 1):
        raise ValueError("p values must lie in [0, 1]")
    order = np.argsort(values, kind="stable")[::-1]
    ranks = np.arange(values.size, 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum.accumulate(values[order] * values.size / ranks)
    q[counted] = np.minimum(adjusted, 1.0)
    return q


@dataclass(frozen=True)
class Welch:
    """Difference of means inside and outside, Welch's z, and Cohen's d (pooled sd); shapes as the columns given."""

    delta: FloatArray
    z: FloatArray
    d: FloatArray


def welch(inside: npt.ArrayLike, outside: npt.ArrayLike) -> Welch:
    """Compare the rows of `inside` (n_in,) or (n_in, m) with those of `outside`, column by column.

    For display only: it assumes independent rows, and on regions it mixes preference with prevalence.
    nan where a side has fewer than two rows; z and d are nan where neither side varies.
    """
    a, b = np.asarray(inside, dtype=np.float64), np.asarray(outside, dtype=np.float64)
    if min(len(a), len(b)) < 2:
        nothing = np.full(a.shape[1:], np.nan)
        return Welch(nothing, nothing, nothing)
    delta = a.mean(axis=0) - b.mean(axis=0)
    var_a, var_b = a.var(axis=0, ddof=1), b.var(axis=0, ddof=1)
    pooled = ((len(a) - 1) * var_a + (len(b) - 1) * var_b) / (len(a) + len(b) - 2)
    return Welch(delta, ratio(delta, np.sqrt(var_a / len(a) + var_b / len(b))), ratio(delta, np.sqrt(pooled)))


@dataclass(frozen=True)
class SplitHalf:
    """The smaller of two halves' effects in absolute value, and whether both have one sign."""

    delta_min: FloatArray
    agree: BoolArray


def split_half(effect_a: npt.ArrayLike, effect_b: npt.ArrayLike) -> SplitHalf:
    """Compare the effects of two halves, numbers or arrays of one shape. A half without effect agrees with nothing."""
    a, b = np.asarray(effect_a, dtype=np.float64), np.asarray(effect_b, dtype=np.float64)
    return SplitHalf(np.minimum(np.abs(a), np.abs(b)), np.asarray(a * b > 0))


@dataclass(frozen=True)
class Share:
    """A share with its interval, all in [0, 1], and the number of independent trials it is worth."""

    share: float
    low: float
    high: float
    n_effective: float


def share_with_interval(successes: npt.ArrayLike, trials: npt.ArrayLike, *, level: float = 0.95) -> Share:
    """Estimate a share from successes and trials per group (n_groups,); groups without trials are left out.

    Wilson's interval with the effective number of trials p(1 - p) / variance between groups, kept between the number
    if each group were one witness, (Σ n_g)² / Σ n_g², and Σ n_g; Student's t with G - 1 degrees of freedom. At shares
    of 0 and 1, where groups show no variance, each group counts as one witness. One group: [0, 1]. No trial: nan.

    Raises: ValueError for successes outside 0 … trials.
    Source: Wilson (1927); Korn and Graubard (1998) for the effective number.
    """
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if k.shape != n.shape or (k < 0).any() or (k > n).any():
        raise ValueError("each group's successes must lie between 0 and its trials")
    k, n = k[n > 0], n[n > 0]
    if not n.size:
        return Share(np.nan, 0.0, 1.0, 0.0)
    share = float(k.sum() / n.sum())
    kish = float(n.sum() ** 2 / (n**2).sum())
    if n.size < 2:
        return Share(share, 0.0, 1.0, kish)
    variance = n.size / (n.size - 1) * float(((k - share * n) ** 2).sum()) / n.sum() ** 2
    worth = kish if share in (0.0, 1.0) else float(np.clip(ratio(share * (1 - share), variance), kish, n.sum()))
    t2 = float(t_quantile((1 + level) / 2, n.size - 1)) ** 2
    centre, spread = share + t2 / (2 * worth), np.sqrt(t2 * (share * (1 - share) + t2 / (4 * worth)) / worth)
    low, high = (centre - spread) / (1 + t2 / worth), (centre + spread) / (1 + t2 / worth)
    return Share(share, float(np.clip(low, 0, share)), float(np.clip(high, share, 1)), worth)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of independent trials; without trials all of [0, 1].

    Source: Wilson (1927).

    >>> [round(end, 2) for end in wilson(3, 3)]
    [0.44, 1.0]
    """
    z2 = 1.959964**2
    centre, worth = successes + z2 / 2, trials + z2
    spread = np.sqrt(z2 * (successes * (trials - successes) / max(trials, 1) + z2 / 4))
    return max(0.0, float((centre - spread) / worth)), min(1.0, float((centre + spread) / worth))
