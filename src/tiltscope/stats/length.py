"""Length as a spline difference that does not see which side was chosen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tiltscope.stats.groups import FloatArray


def spline_basis_difference(log_chosen: npt.ArrayLike, log_rejected: npt.ArrayLike, n_knots: int = 7) -> FloatArray:
    """Return the columns B_j(log_chosen) - B_j(log_rejected) of a linear spline, shape (n, k), k <= n_knots - 1.

    Knots are quantiles 0 … 1 of both sides pooled, so they do not see which side was chosen: swapping the arguments
    negates the result exactly. Equal quantiles are merged; columns that are 0 in every row are dropped; the first hat
    is left out, since hats add up to 1. `k` is 0 when no pair differs in length.

    Raises: ValueError for lengths that are not finite, shapes that differ, or n_knots < 2.
    """
    left, right = np.asarray(log_chosen, dtype=np.float64), np.asarray(log_rejected, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1 or n_knots < 2:
        raise ValueError("two vectors of equal length and at least two knots are needed")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError("log lengths must be finite: an empty response has none")
    if not left.size:
        return np.zeros((0, 0))
    knots = np.unique(np.quantile(np.concatenate([left, right]), np.linspace(0, 1, n_knots)))
    hats = np.eye(len(knots))[1:]
    columns = [np.interp(left, knots, hat) - np.interp(right, knots, hat) for hat in hats]
    kept = [column for column in columns if np.any(column != 0)]
    return np.column_stack(kept) if kept else np.zeros((len(left), 0))
