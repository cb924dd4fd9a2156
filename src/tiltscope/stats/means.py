"""The mean with one witness per group, and its sharp null."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tiltscope.stats.estimates import Estimates, ratio, studentise, without_rounding
from tiltscope.stats.groups import Clusters, FloatArray


def tau_test(u: npt.ArrayLike, clusters: Clusters) -> Estimates:
    """Test the mean of u, (n,) or (n, m), against 0, with one witness per group.

    With only an intercept, H_gg = 11'/n, so the CR2 factor multiplies a group's residuals by 1/sqrt(1 - n_g/n), and
    with shares s = n_g/n the degrees of freedom are 1 / (Σ s²(1 - 2s)/(1 - s)² + (Σ s²/(1 - s))²): G - 1 when all
    groups are equally large. nan with a single group.

    Source: Bell and McCaffrey (2002); Pustejovsky and Tipton (2018), eq. 10-12 for this design.
    """
    u = np.asarray(u, dtype=np.float64)
    n, shares = clusters.n_rows, clusters.sizes / max(clusters.n_rows, 1)
    sums = clusters.group_sums(u)
    if clusters.n_groups < 2:
        nothing = np.full(u.shape[1:], np.nan)
        return studentise(nothing, nothing, np.nan, nothing)
    size = np.sqrt((u**2).mean(axis=0))
    effect = without_rounding(sums.sum(axis=0) / n, size)
    weights = (1 / (1 - shares)).reshape(-1, *[1] * (u.ndim - 1))
    spread = sums / n - shares.reshape(weights.shape) * effect
    variance = without_rounding(np.sqrt((weights * spread**2).sum(axis=0)), size) ** 2
    residual_sd = without_rounding(u.std(axis=0, ddof=1), size)
    return studentise(effect, variance, _tau_df(shares), residual_sd)


def _tau_df(shares: FloatArray) -> float:
    """tr(B)² / tr(B²) of the intercept-only design; tr(B) = 1/n cancels."""
    first = (shares**2 * (1 - 2 * shares) / (1 - shares) ** 2).sum()
    return float(1 / (first + (shares**2 / (1 - shares)).sum() ** 2))


def tau_flips(u: npt.ArrayLike, clusters: Clusters, signs: FloatArray) -> FloatArray:
    """Return the t statistics of `tau_test` when the labels of whole groups are flipped: the sharp null of the mean.

    u (n,) gives (n_draws,), u (n, m) gives (m, n_draws); `signs` (n_groups, n_draws) of -1 and +1. Degrees of freedom
    are those of `tau_test`. nan where u is 0 in every row.
    """
    u = np.asarray(u, dtype=np.float64)
    sums, shares = clusters.group_sums(u).T / max(clusters.n_rows, 1), clusters.sizes / max(clusters.n_rows, 1)
    if clusters.n_groups < 2:
        return np.full((*u.shape[1:], signs.shape[1]), np.nan)
    weights = 1 / (1 - shares)
    effect = sums @ signs
    cross = (sums * weights * shares) @ signs
    fixed = (weights * sums**2).sum(axis=-1, keepdims=u.ndim > 1)
    variance = fixed - 2 * effect * cross + effect**2 * (weights * shares**2).sum()
    return ratio(effect, np.sqrt(np.maximum(variance, 0.0)))
