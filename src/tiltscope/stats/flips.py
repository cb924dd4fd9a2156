"""The sharp null of a regression coefficient: labels of whole groups flip, and the design with them.

All draws are computed at once. A draw's design is [signed, w·unsigned]: the signed part never changes, so each draw
costs a few products of rows x draws; the CR2 factor (I - H_gg)^(-1/2) is applied to the one vector that needs it, as a
Chebyshev series in H_gg (small leverage) or by eigenvalues (large leverage).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from tiltscope.stats.estimates import Estimates, ratio, studentise, without_rounding
from tiltscope.stats.groups import Clusters, FloatArray, IntArray
from tiltscope.stats.regression import ALIASED, ONE_GROUP, inverse_root, orthonormal_basis, rooted, satterthwaite

_CHUNK = 1 << 17  # rows x draws worked on at a time, so that they fit a processor's cache; no result depends on it
_SERIES_UP_TO = 0.5  # bound on a group's leverage up to which the series is used
_SERIES_ERROR = 1e-15


def flip_regression(
    y: npt.ArrayLike, signed: npt.ArrayLike, unsigned: npt.ArrayLike, tested: int, clusters: Clusters, signs: FloatArray
) -> Estimates:
    """Refit when the labels of whole groups are flipped: the sharp null of a regression coefficient.

    A flip negates y (n,) and the `signed` columns (n, s), the length splines, but not the `unsigned` ones (n, k),
    whether the concept is at stake; `tested` is a column of `unsigned`; `signs` is (n_groups, n_draws) of -1 and +1.
    A draw equals the regression of y on [signed, w·unsigned], because a common sign of a group's rows changes nothing.
    Results have shape (n_draws,); the degrees of freedom differ from draw to draw. nan where a draw's design cannot
    tell the tested column from the others, or only by one group.

    Raises: ValueError where rows, groups and draws do not fit together.
    """
    y, signed, unsigned = (np.asarray(part, dtype=np.float64) for part in (y, signed, unsigned))
    _refuse_misfits(y, signed, unsigned, clusters, signs)
    if clusters.n_groups < 2:
        nothing = np.full(signs.shape[1], np.nan)
        return studentise(nothing, nothing, np.nan, nothing)
    tested %= unsigned.shape[1]
    order = [j for j in range(unsigned.shape[1]) if j != tested] + [tested]
    design = _FlipDesign.of(y, signed, unsigned[:, order], clusters)
    step = max(1, _CHUNK // len(y))
    parts = [_flip_chunk(design, signs[:, i : i + step]) for i in range(0, max(signs.shape[1], 1), step)]
    return Estimates(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Estimates)))


def _refuse_misfits(
    y: FloatArray, signed: FloatArray, unsigned: FloatArray, clusters: Clusters, signs: FloatArray
) -> None:
    """Raise where rows, groups and draws do not fit together."""
    if signed.ndim != 2 or unsigned.ndim != 2 or unsigned.shape[1] < 1:
        raise ValueError("signed and unsigned columns are matrices, with at least one unsigned column to test")
    if not len(y) == len(signed) == len(unsigned) == clusters.n_rows:
        raise ValueError("y, the signed and the unsigned columns need one row per group label")
    if signs.ndim != 2 or len(signs) != clusters.n_groups:
        raise ValueError(f"{clusters.n_groups} rows of signs are needed, one per group")


@dataclass(frozen=True)
class _Batch:
    """Groups of one size, which stand together when groups are sorted by size."""

    size: int
    groups: slice
    rows: slice


@dataclass(frozen=True)
class _FlipDesign:
    """What no draw changes; rows sorted by size of their group and then by group."""

    y: FloatArray
    q: FloatArray  # (n, s) orthonormal basis of the signed columns
    unsigned: FloatArray  # (n, k), the tested column last
    group_order: IntArray  # (G,) groups sorted by size
    row_groups: IntArray  # (n,) place of each row's group in group_order
    batches: tuple[_Batch, ...]

    @classmethod
    def of(cls, y: FloatArray, signed: FloatArray, unsigned: FloatArray, clusters: Clusters) -> _FlipDesign:
        """Sort the rows and orthonormalise the signed columns."""
        group_order = np.argsort(clusters.sizes, kind="stable")
        place = np.empty_like(group_order)
        place[group_order] = np.arange(len(group_order))
        row_groups = place[clusters.codes]
        rows = np.argsort(row_groups, kind="stable")
        q = orthonormal_basis(signed[rows], list(range(signed.shape[1]))).q
        batches = _batches(clusters.sizes[group_order])
        return cls(y[rows], q, unsigned[rows], group_order, row_groups[rows], batches)


def _batches(sorted_sizes: IntArray) -> tuple[_Batch, ...]:
    """Slices of groups and rows for each size."""
    sizes, counts = np.unique(sorted_sizes, return_counts=True)
    groups, rows = np.cumsum([0, *counts]), np.cumsum([0, *(sizes * counts)])
    return tuple(
        _Batch(int(size), slice(int(groups[i]), int(groups[i + 1])), slice(int(rows[i]), int(rows[i + 1])))
        for i, size in enumerate(sizes)
    )


@dataclass(frozen=True)
class _Flipped:
    """The unsigned columns of some draws, orthonormal to the signed ones and to each other."""

    columns: tuple[FloatArray, ...]  # each (n, D), the tested one last; 0 where aliased
    length: FloatArray  # (D,) of the tested column's own part; nan where aliased
    rank: IntArray  # (D,) of the whole design


def _flipped(design: _FlipDesign, signs: FloatArray) -> _Flipped:
    """Sign the unsigned columns and orthonormalise them, draw by draw, in order."""
    by_row = signs[design.row_groups]
    columns: list[FloatArray] = []
    rank = np.full(signs.shape[1], design.q.shape[1])
    length = np.full(signs.shape[1], np.nan)
    for column in design.unsigned.T:
        own = column[:, None] * by_row
        own -= design.q @ (design.q.T @ own)
        for earlier in columns:
            own -= earlier * (earlier * own).sum(axis=0)
        length = np.sqrt((own**2).sum(axis=0))
        length = np.where(length > ALIASED * np.sqrt((column**2).sum()), length, np.nan)
        columns.append(own * ratio(1.0, length, otherwise=0.0))
        rank = rank + np.isfinite(length)
    return _Flipped(tuple(columns), length, rank)


def _flip_chunk(design: _FlipDesign, signs: FloatArray) -> Estimates:
    """`flip_regression` for a few draws; arrays are rows x draws or groups x draws."""
    flipped = _flipped(design, signs[design.group_order])
    n_draws, n_signed = signs.shape[1], design.q.shape[1]
    projected = [design.y @ z for z in flipped.columns]
    residual = np.repeat((design.y - design.q @ (design.q.T @ design.y))[:, None], n_draws, axis=1)
    for z, share in zip(flipped.columns, projected, strict=True):
        residual -= z * share
    scores, own = np.empty_like(signs, dtype=np.float64), np.empty_like(signs, dtype=np.float64)
    cross = np.empty((n_draws, len(signs), n_signed + len(projected)))
    for batch in design.batches:
        q, z = _split(design.q, batch), np.stack([_split(column, batch) for column in flipped.columns])
        adjusted = _adjusted(q, z)
        scores[batch.groups] = (adjusted * _split(residual, batch)).sum(axis=1)
        own[batch.groups] = (adjusted**2).sum(axis=1)
        cross[:, batch.groups, :n_signed] = (q.mT @ adjusted).transpose(2, 0, 1)
        cross[:, batch.groups, n_signed:] = (z * adjusted).sum(axis=2).transpose(2, 1, 0)
    df = satterthwaite(own.T, cross)
    return _flip_estimates(design, flipped, residual, scores, spread=np.sqrt(own.sum(axis=0)), df=df)


def _flip_estimates(
    design: _FlipDesign,
    flipped: _Flipped,
    residual: FloatArray,
    scores: FloatArray,
    *,
    spread: FloatArray,
    df: FloatArray,
) -> Estimates:
    """Scale back from the tested column's unit length, and studentise."""
    size, length = np.sqrt((design.y**2).mean()), np.where(spread < ONE_GROUP, np.nan, flipped.length)
    effect = without_rounding(design.y @ flipped.columns[-1], size * np.sqrt(len(design.y))) / length
    se = without_rounding(np.sqrt((scores**2).sum(axis=0)), size * spread) / length
    left = np.maximum(len(design.y) - flipped.rank, 1)
    residual_sd = without_rounding(np.sqrt((residual**2).sum(axis=0) / left), size)
    df = np.where(np.isfinite(length), df, np.nan)
    return studentise(effect, se**2, df, np.where(np.isfinite(length), residual_sd, np.nan))


def _split(x: FloatArray, batch: _Batch) -> FloatArray:
    """The rows of a batch as (groups, size, columns)."""
    n_groups = batch.groups.stop - batch.groups.start
    return x[batch.rows].reshape(n_groups, batch.size, x.shape[1])


def _adjusted(q: FloatArray, z: FloatArray) -> FloatArray:
    """(I - H_gg)^(-1/2) z_last for q (m, size, s) and z (k, m, size, D): (m, size, D)."""
    if q.shape[1] == 1:
        return np.asarray(z[-1] * inverse_root((q**2).sum(axis=2, keepdims=True) + (z**2).sum(axis=0)))
    gram = q @ q.mT if q.shape[1] <= q.shape[2] else q.mT @ q
    signed = np.linalg.eigvalsh(gram)[:, -1] if gram.shape[1] else np.zeros(len(q))
    bound = signed[:, None] + (z**2).sum(axis=(0, 2))
    small = bound <= _SERIES_UP_TO
    out = _by_series(q, z, float(bound[small].max())) if small.any() else np.empty_like(z[-1])
    groups, draws = np.nonzero(~small)
    if len(groups):
        out[groups, :, draws] = _by_eigenvalues(q[groups], z[:, groups, :, draws])
    return out


def _by_series(q: FloatArray, z: FloatArray, bound: float) -> FloatArray:
    """The same as a Chebyshev series, for H_gg with eigenvalues in [0, bound]."""
    half = max(bound, 1e-6) / 2
    rate = (1 - half) / half + np.sqrt(((1 - half) / half) ** 2 - 1)
    degree = int(np.ceil(-np.log(_SERIES_ERROR) / np.log(rate))) + 1
    angles = np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1)
    heights = (1 - half * (1 + np.cos(angles))) ** -0.5
    weights = 2 / (degree + 1) * (np.cos(np.outer(np.arange(degree + 1), angles)) @ heights)
    weights[0] /= 2
    hat = q @ q.mT if q.shape[1] <= q.shape[2] else None
    before, now = z[-1], _times_hat(q, hat, z, z[-1]) / half - z[-1]
    out: FloatArray = weights[0] * before + weights[1] * now
    for weight in weights[2:]:
        before, now = now, 2 * (_times_hat(q, hat, z, now) / half - now) - before
        out += weight * now
    return out


def _times_hat(q: FloatArray, hat: FloatArray | None, z: FloatArray, x: FloatArray) -> FloatArray:
    """H_gg x for x (m, size, D)."""
    out = hat @ x if hat is not None else q @ (q.mT @ x)
    for column in z:
        out += column * (column * x).sum(axis=1, keepdims=True)
    return np.asarray(out)


def _by_eigenvalues(q: FloatArray, z: FloatArray) -> FloatArray:
    """The same for single groups of single draws: q (h, size, s), z (h, k, size) as indexing leaves it: (h, size)."""
    block = np.concatenate([q, z.mT], axis=2)
    if block.shape[1] <= block.shape[2]:
        values, vectors = np.linalg.eigh(block @ block.mT)
        return rooted(values, vectors, block[:, :, -1])
    values, vectors = np.linalg.eigh(block.mT @ block)
    unit = np.zeros(block.shape[::2])
    unit[:, -1] = 1.0
    return np.asarray((block @ rooted(values, vectors, unit)[..., None])[..., 0])
