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
    times S(S - 1) / ((S - 2)(S - 3)) for S sources, which removes the bias exactly when every source meets every other
    equally often (S / (S - 1) where rows have one source each). A source that takes part in every row, a fixed
    opponent, is not a draw from anything and is not counted. The sum may be small or negative by chance; it is never
    taken below that of the rows or the groups alone. Use Student's t with S - 1 degrees of freedom and at least ten
    sources; nan for fewer than four.

    Source: Fafchamps and Gubert (2007); Aronow, Samii and Assenova (2015), eq. 3; the factor is ours.
    """
    u = np.asarray(u, dtype=np.float64)
    ends = _sampled_ends(np.asarray(source_a), np.asarray(source_b))
    n_sources = len(np.unique(ends))
    if n_sources < 4:
        return DyadicSE(np.nan, n_sources)
    e = u - u.mean()
    groups = clusters.codes if clusters is not None else np.arange(len(u))
    by_group = float((np.bincount(groups, e) ** 2).sum())
    by_source = _dependent(e, ends, np.zeros(len(u), dtype=np.int64)) - _dependent(e, ends, groups)
    total = max(by_source + by_group, by_group, float((e**2).sum()))
    return DyadicSE(float(np.sqrt(total * _small_sample(ends, n_sources)) / len(u)), n_sources)


def _sampled_ends(source_a: npt.NDArray[np.generic], source_b: npt.NDArray[np.generic]) -> IntArray:
    """The two sources of each row, (2, n), lower number first; a source of every row is replaced by its opponent."""
    _, codes = np.unique(np.concatenate([source_a, source_b]), return_inverse=True)
    ends = codes.reshape(2, -1).astype(np.int64)
    for source in np.unique(ends[:, :1]):
        if (ends == source).any(axis=0).all():
            ends = np.where(ends == source, ends[::-1], ends)
    return np.sort(ends, axis=0)


def _small_sample(ends: IntArray, n_sources: int) -> float:
    """The factor that makes up for the mean being estimated from the same sources."""
    if (ends[0] == ends[1]).all():
        return n_sources / (n_sources - 1)
    return n_sources * (n_sources - 1) / ((n_sources - 2) * (n_sources - 3))


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
