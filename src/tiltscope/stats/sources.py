"""Standard errors for new sources (say, answering models), each of which wrote many responses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiltscope.stats.groups import Clusters, FloatArray, IntArray


@dataclass(frozen=True)
class DyadicSE:
    """A standard error for new sources and how many sources it rests on."""

    se: float
    n_sources: int


def dyadic_se(
    u: npt.ArrayLike, source_a: npt.ArrayLike, source_b: npt.ArrayLike, clusters: Clusters | None = None
) -> DyadicSE:
    """Return the standard error of mean(u) when rows that share a source, on either side, may be dependent.

    `u` (n,); `source_a`, `source_b` (n,) name, say, the models that wrote the two responses. With `clusters`, rows of
    one group may be dependent too. The variance is the sum of e_i e_j over dependent rows, each once, divided by n²,
    times S / (S - 1) for S sources. That sum may be negative by chance; it is never taken below that of the rows or of
    the groups alone, so an interval for new sources is not narrower than one for new rows. Needs about ten sources;
    nan for fewer than two.

    Source: Fafchamps and Gubert (2007); Aronow, Samii and Assenova (2015), eq. 3.
    """
    u = np.asarray(u, dtype=np.float64)
    labels, codes = np.unique(np.concatenate([np.asarray(source_a), np.asarray(source_b)]), return_inverse=True)
    if len(labels) < 2 or len(u) < 2:
        return DyadicSE(np.nan, len(labels))
    ends = np.sort(np.stack([codes[: len(u)], codes[len(u) :]]), axis=0)
    e = u - u.mean()
    whole = np.zeros(len(u), dtype=np.int64)
    groups = clusters.codes if clusters is not None else np.arange(len(u))
    by_group = float((np.bincount(groups, e) ** 2).sum())
    union = _dependent(e, ends, whole) + by_group - _dependent(e, ends, groups)
    total = max(union, by_group, float((e**2).sum()))
    return DyadicSE(float(np.sqrt(total * len(labels) / (len(labels) - 1)) / len(u)), len(labels))


def _dependent(e: FloatArray, ends: IntArray, groups: IntArray) -> float:
    """Σ e_i e_j over ordered pairs of rows of one group that share at least one end, i = j included."""
    n_sources = int(ends.max()) + 1
    low, high = groups * n_sources + ends[0], groups * n_sources + ends[1]
    two = ends[0] != ends[1]  # a row whose two ends are one source touches it once
    keys = np.concatenate([low, high[two]])
    shared = _sum_of_squares(keys, np.concatenate([e, e[two]]))
    return shared - _sum_of_squares(low[two] * n_sources + ends[1][two], e[two])  # both ends shared: counted twice


def _sum_of_squares(keys: IntArray, e: FloatArray) -> float:
    """Sum of squared totals per key."""
    _, codes = np.unique(keys, return_inverse=True)
    return float((np.bincount(codes, e) ** 2).sum())
