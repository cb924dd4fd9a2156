"""The score of a coefficient with the null imposed: a second opinion on small p values.

A disparity is -1, 0 or +1, so with few witnesses at stake residuals can vanish by chance and t explodes: eighteen of
twenty signs alike have p = .0002 by counting and .00001 by t. The score divides by the spread that the null itself
leaves, Σ_g s_g / sqrt(Σ_g s_g²) with s_g the group's product of tested column and null residual, so it is at most
sqrt(G) and its normal tail is honest for signs (Efron 1969). A finding's p is the larger of the two.

Source: Efron, Student's t-test under symmetry conditions (1969); score tests with clustered data, Rotnitzky and
Jewell (1990).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tiltscope.stats.estimates import ratio, t_tail
from tiltscope.stats.groups import Clusters, FloatArray
from tiltscope.stats.regression import ALIASED, orthonormal_basis


def cautious_p(t: npt.ArrayLike, df: npt.ArrayLike, score: npt.ArrayLike, direction: npt.ArrayLike) -> FloatArray:
    """Return the larger one-sided p of CR2-t and score, in (0, 1]; nan where either is undefined."""
    from scipy.special import ndtr

    sign = np.sign(np.asarray(direction, np.float64))
    by_score = ndtr(-sign * np.asarray(score, np.float64))
    return np.asarray(np.maximum(t_tail(sign * np.asarray(t, np.float64), df), by_score))


def cautious_p_two(t: npt.ArrayLike, df: npt.ArrayLike, score: npt.ArrayLike) -> FloatArray:
    """Return the larger two-sided p of CR2-t and score, in (0, 1]; nan where either is undefined.

    Both have the sign of one and the same sum, so it is enough to look at their sizes.
    """
    return np.asarray(np.minimum(2 * cautious_p(np.abs(np.asarray(t)), df, np.abs(np.asarray(score)), 1), 1.0))


def tau_score(u: npt.ArrayLike, clusters: Clusters) -> FloatArray:
    """Return the score of mean(u) = 0, for u (n,) or (n, m)."""
    sums = clusters.group_sums(u)
    return ratio(sums.sum(axis=0), np.sqrt((sums**2).sum(axis=0)))


def tau_score_flips(u: npt.ArrayLike, clusters: Clusters, signs: FloatArray) -> FloatArray:
    """Return `tau_score` when labels of whole groups are flipped: u (n,), signs (n_groups, n_draws) give (n_draws,)."""
    sums = clusters.group_sums(u)
    return ratio(sums @ signs, np.sqrt((sums**2).sum()))


def regression_score(y: npt.ArrayLike, x: npt.ArrayLike, tested: int, clusters: Clusters) -> float:
    """Return the score of one coefficient of the regression of y (n,) on x (n, p); nan if the other columns span it."""
    scores, _ = _group_scores(np.asarray(y, np.float64), np.asarray(x, np.float64), tested, clusters)
    return float(ratio(scores.sum(), np.sqrt((scores**2).sum())))


def wild_scores(y: npt.ArrayLike, x: npt.ArrayLike, tested: int, clusters: Clusters, signs: FloatArray) -> FloatArray:
    """Return `regression_score` for each draw (n_draws,) of null fit + w_g x null residual, closed form."""
    y, x = np.asarray(y, np.float64), np.asarray(x, np.float64)
    scores, basis = _group_scores(y, x, tested, clusters)
    null = basis[:, :-1]
    residual = y - null @ (null.T @ y)
    total = clusters.group_sums(null * residual[:, None]).T @ signs
    cross = clusters.group_sums(null * basis[:, -1:])
    drawn = scores[:, None] * signs - cross @ total
    return ratio(drawn.sum(axis=0), np.sqrt((drawn**2).sum(axis=0)))


def _group_scores(y: FloatArray, x: FloatArray, tested: int, clusters: Clusters) -> tuple[FloatArray, FloatArray]:
    """Scores by group (n_groups,), nan where the tested column is spanned, and the basis with that column last."""
    tested %= x.shape[1]
    basis = orthonormal_basis(x, [j for j in range(x.shape[1]) if j != tested] + [tested])
    if basis.kept[-1:] != (tested,):
        return np.full(clusters.n_groups, np.nan), np.zeros((len(y), 1))
    null = basis.q[:, :-1]
    return clusters.group_sums(basis.q[:, -1] * (y - null @ (null.T @ y))), basis.q


def flip_scores(
    y: npt.ArrayLike, signed: npt.ArrayLike, unsigned: npt.ArrayLike, tested: int, clusters: Clusters, signs: FloatArray
) -> FloatArray:
    """Return the score of one `unsigned` column for each draw (n_draws,) of group-wise label flips.

    Shapes and meaning as in `flip_regression`.
    """
    y, signed, unsigned = (np.asarray(part, np.float64) for part in (y, signed, unsigned))
    tested %= unsigned.shape[1]
    fixed = orthonormal_basis(signed, list(range(signed.shape[1]))).q
    by_row = signs[clusters.codes]
    residual = np.repeat((y - fixed @ (fixed.T @ y))[:, None], signs.shape[1], axis=1)
    before: list[FloatArray] = []
    for j in [*(j for j in range(unsigned.shape[1]) if j != tested), tested]:
        column = unsigned[:, j, None] * by_row
        column -= fixed @ (fixed.T @ column)
        for earlier in before:
            column -= earlier * (earlier * column).sum(axis=0)
        length = np.sqrt((column**2).sum(axis=0))
        known = length > ALIASED * np.sqrt((unsigned[:, j] ** 2).sum())
        if j == tested:
            scores = clusters.group_sums(column * residual)
            return np.where(known, ratio(scores.sum(axis=0), np.sqrt((scores**2).sum(axis=0))), np.nan)
        column *= np.where(known, ratio(1.0, length, otherwise=0.0), 0.0)
        residual -= column * (column * residual).sum(axis=0)
        before.append(column)
    raise AssertionError("the tested column is one of the unsigned ones")
