"""Pairs of one group are one witness: sums by group, signs by group, halves by group."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Clusters:
    """Rows sorted by group. Build with `Clusters.of`; group g is the g-th label in sorted order."""

    codes: IntArray  # (n,) the group of each row, 0 … n_groups - 1
    order: IntArray  # (n,) rows, sorted by group, stable
    starts: IntArray  # (n_groups,) where each group begins in `order`
    sizes: IntArray  # (n_groups,)

    @classmethod
    def of(cls, groups: npt.ArrayLike) -> Clusters:
        """Build from group labels (n,), integers or strings."""
        labels = np.asarray(groups)
        if labels.ndim != 1:
            raise ValueError("one group label per row is needed")
        _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        codes = codes.astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if sizes.size else sizes
        arrays = (codes, np.argsort(codes, kind="stable"), starts.astype(np.int64), sizes.astype(np.int64))
        for array in arrays:
            array.setflags(write=False)
        return cls(*arrays)

    @property
    def n_groups(self) -> int:
        """How many groups."""
        return len(self.sizes)

    @property
    def n_rows(self) -> int:
        """How many rows."""
        return len(self.codes)

    def group_sums(self, x: npt.ArrayLike) -> FloatArray:
        """Sum the rows of x (n, …) by group: (n_groups, …)."""
        values = np.asarray(x, dtype=np.float64)
        if len(values) != self.n_rows:
            raise ValueError(f"{len(values)} rows for {self.n_rows} group labels")
        return self.sum_sorted(values[self.order])

    def sum_sorted(self, x: FloatArray) -> FloatArray:
        """As `group_sums`, for rows that already stand in the order of `order`."""
        if not self.n_groups:
            return np.zeros((0, *x.shape[1:]))
        return np.asarray(np.add.reduceat(x, self.starts, axis=0))

    def subset(self, rows: npt.ArrayLike) -> Clusters:
        """The groups of some rows (a mask or indices); group numbers start again at 0."""
        return Clusters.of(self.codes[np.asarray(rows)])


def rademacher(n_groups: int, n_draws: int, seed: int) -> FloatArray:
    """Draw signs, -1 or +1 with equal chance, shape (n_groups, n_draws); the same seed gives the same signs."""
    return np.asarray(np.random.default_rng(seed).integers(0, 2, size=(n_groups, n_draws)) * 2.0 - 1.0, np.float64)


def explore_mask(groups: npt.ArrayLike, seed: int) -> BoolArray:
    """Say which rows (n,) belong to the explore half; groups stay whole.

    Groups are sorted by the SHA-256 of seed and label, and the first ones go to explore up to the cut that brings
    the two halves nearest in number of pairs. So the answer depends on labels and sizes alone, not on row order.
    """
    return _first_half(np.asarray(groups), f"explore:{seed}")


def half_mask(groups: npt.ArrayLike, seed: int) -> BoolArray:
    """Split rows into halves A (True) and B for split-half checks, as `explore_mask` does but with other hashes."""
    return _first_half(np.asarray(groups), f"half:{seed}")


def _first_half(groups: npt.NDArray[np.generic], salt: str) -> BoolArray:
    """Rows whose group is hashed into the first half by number of rows."""
    labels, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(labels) < 2:
        return np.ones(len(groups), dtype=np.bool_)
    digests = [hashlib.sha256(f"{salt}:{label}".encode("utf-8", "surrogatepass")).digest() for label in labels.tolist()]
    order = np.array(sorted(range(len(digests)), key=digests.__getitem__))
    taken = np.cumsum(sizes[order])[:-1]  # the last cut is left out, so that neither half is empty
    cut = int(np.argmin(np.abs(2 * taken - len(groups)))) + 1
    first = np.zeros(len(labels), dtype=np.bool_)
    first[order[:cut]] = True
    return np.asarray(first[codes])
