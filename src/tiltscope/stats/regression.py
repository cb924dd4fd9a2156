"""One coefficient of a regression with CR2 standard errors and Satterthwaite degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiltscope.stats.estimates import Estimates, ratio, studentise, without_rounding
from tiltscope.stats.groups import Clusters, FloatArray

ALIASED = 1e-7  # a column whose part outside the earlier columns is below this share of it counts as aliased (R: lm)
ONE_GROUP = 1e-6  # a direction of which this share is left without groups of leverage 1 rests on one group alone
_SINGULAR = 1e-11  # eigenvalues of I - H below this are zero, and their inverse root is zero too (clubSandwich: 1e-12)


@dataclass(frozen=True)
class Basis:
    """An orthonormal basis of some columns: which were kept, and the length of each one's part outside the earlier."""

    q: FloatArray  # (n, rank)
    kept: tuple[int, ...]
    lengths: FloatArray  # (rank,)


def orthonormal_basis(x: FloatArray, order: list[int]) -> Basis:
    """Orthonormalise the columns of x (n, p) in the order given, dropping each that earlier ones already span."""
    norms = np.sqrt((x**2).sum(axis=0))
    kept = [j for j in order if norms[j] > 0]
    while kept:
        q, r = np.linalg.qr(x[:, kept] / norms[kept])
        own = np.zeros(len(kept))
        own[: len(q.T)] = np.diagonal(r)  # beyond n columns nothing of a column is left
        aliased = np.flatnonzero(np.abs(own) < ALIASED)
        if not len(aliased):
            return Basis(q * np.sign(own), tuple(kept), np.abs(own) * norms[kept])
        del kept[int(aliased[0])]
    return Basis(np.zeros((len(x), 0)), (), np.zeros(0))


def inverse_root(eigenvalues_of_h: FloatArray) -> FloatArray:
    """(1 - h)^(-1/2), 0 where 1 - h is 0."""
    left = 1 - eigenvalues_of_h
    return np.where(left > _SINGULAR, 1 / np.sqrt(np.maximum(left, _SINGULAR)), 0.0)


def _adjust(q: FloatArray, direction: FloatArray, clusters: Clusters) -> FloatArray:
    """Return A_g q_g direction for every group, rows sorted by group: (n,).

    Groups of one size are one batch; large groups use A_g q_g = q_g (I - q_g'q_g)^(-1/2), which is rank x rank.
    """
    ell = q @ direction
    out = np.empty(len(q))
    for size in np.unique(clusters.sizes):
        rows = clusters.starts[clusters.sizes == size][:, None] + np.arange(size)
        block = q[rows]
        if size == 1:
            out[rows[:, 0]] = ell[rows[:, 0]] * inverse_root((block[:, 0] ** 2).sum(axis=-1))
        elif size <= q.shape[1]:
            values, vectors = np.linalg.eigh(block @ block.mT)
            out[rows] = rooted(values, vectors, ell[rows])
        else:
            values, vectors = np.linalg.eigh(block.mT @ block)
            turned = rooted(values, vectors, np.broadcast_to(direction, (len(rows), len(direction))))
            out[rows] = (block @ turned[..., None])[..., 0]
    return out


def rooted(values: FloatArray, vectors: FloatArray, x: FloatArray) -> FloatArray:
    """V f(values) V' x for batches (k, s), (k, s, s), (k, s)."""
    inner = (vectors.mT @ x[..., None])[..., 0] * inverse_root(values)
    return np.asarray((vectors @ inner[..., None])[..., 0])


class RegressionCR2:
    """One design, prepared to test one coefficient against any number of responses.

    `x` is (n, p), `tested` the column whose coefficient is wanted; add an intercept column yourself if you want one.
    Columns that others span are dropped; if the tested one is, or rests on one group alone, all results are nan.
    With few groups that tell it, CR2 is too small all the same: count them, and say nothing below 20.
    Assumes independent groups; errors within a group may depend on each other in any way.

    Source: Bell and McCaffrey (2002); Pustejovsky and Tipton (2018), with the identity as working model.
    """

    def __init__(self, x: npt.ArrayLike, clusters: Clusters, tested: int) -> None:
        design = np.asarray(x, dtype=np.float64)
        if design.ndim != 2 or len(design) != clusters.n_rows or not -design.shape[1] <= tested < design.shape[1]:
            raise ValueError("a design (n, p) with one row per group label and a tested column within it are needed")
        if not np.isfinite(design).all():
            raise ValueError("the design holds values that are not finite")
        self.clusters = clusters
        tested %= design.shape[1]
        others = [j for j in range(design.shape[1]) if j != tested]
        basis = orthonormal_basis(design[clusters.order], [*others, tested])
        self.estimable = basis.kept[-1:] == (tested,) and clusters.n_groups > 1
        self._q, self._scale = basis.q, float(basis.lengths[-1]) if self.estimable else np.nan
        self.df = np.nan
        if self.estimable:
            self._prepare()

    def _prepare(self) -> None:
        """Everything that does not depend on a response."""
        q = self._q
        direction = np.zeros(q.shape[1])
        direction[-1] = 1 / self._scale
        self._adjusted = _adjust(q, direction, self.clusters)
        self._cross = self.clusters.sum_sorted(q * self._adjusted[:, None])  # (G, rank): q_g' A_g ell_g
        own = self.clusters.sum_sorted(self._adjusted**2)
        self.df = float(satterthwaite(own, self._cross))
        self._spread = float(np.sqrt(own.sum()))
        if self._spread * self._scale < ONE_GROUP:  # a single group tells it: there is no spread between groups
            self.estimable, self.df = False, np.nan

    def fit(self, y: npt.ArrayLike) -> Estimates:
        """Estimate the tested coefficient for y, (n,) or (n, m)."""
        values = np.asarray(y, dtype=np.float64)
        if len(values) != self.clusters.n_rows:
            raise ValueError(f"{len(values)} responses for {self.clusters.n_rows} rows of the design")
        if not self.estimable:
            nothing = np.full(values.shape[1:], np.nan)
            return studentise(nothing, nothing, np.nan, nothing)
        values = values[self.clusters.order]
        projected = self._q.T @ values
        residual = values - self._q @ projected
        size = np.sqrt((values**2).mean(axis=0))
        effect = without_rounding(projected[-1] / self._scale, size * np.sqrt(len(values)) / self._scale)
        scores = self.clusters.sum_sorted((residual.T * self._adjusted).T)
        variance = without_rounding(np.sqrt((scores**2).sum(axis=0)), size * self._spread) ** 2
        left = max(len(values) - self._q.shape[1], 1)
        residual_sd = without_rounding(np.sqrt((residual**2).sum(axis=0) / left), size)
        return studentise(effect, variance, self.df, residual_sd)

    def wild(self, y: npt.ArrayLike, signs: FloatArray) -> FloatArray:
        """Return the t statistics of refits under the adjusted null, closed form.

        The null model drops the tested column; each draw's response is its fit plus its residuals, signed by group.
        y (n,) gives (n_draws,), y (n, m) gives (m, n_draws); `signs` (n_groups, n_draws) of -1 and +1. The design is
        as observed, so the degrees of freedom are `df`.
        """
        values = np.asarray(y, dtype=np.float64)
        if not self.estimable:
            return np.full((*values.shape[1:], signs.shape[1]), np.nan)
        columns = values[self.clusters.order].reshape(len(values), -1)
        null = self._q[:, :-1]
        residual = columns - null @ (null.T @ columns)
        t = np.stack([self._wild_one(column, signs) for column in residual.T]) if columns.shape[1] else columns.T
        return t.reshape(*values.shape[1:], signs.shape[1])

    def _wild_one(self, residual: FloatArray, signs: FloatArray) -> FloatArray:
        """t of each draw: scores are w_g b_g - c_g'T with T = Σ_h w_h q_h'r_h, since the null fit is projected out."""
        parts = self.clusters.sum_sorted(self._q * residual[:, None])  # (G, rank)
        own = self.clusters.sum_sorted(self._adjusted * residual)
        total = parts.T @ signs
        mixed = (self._cross * own[:, None]).T @ signs
        variance = (own**2).sum() - 2 * (total * mixed).sum(axis=0) + self._quadratic(total)
        return ratio(total[-1] / self._scale, np.sqrt(np.maximum(variance, 0.0)))

    def _quadratic(self, total: FloatArray) -> FloatArray:
        """Σ_g (c_g'T)² for each draw."""
        return np.asarray((total * ((self._cross.T @ self._cross) @ total)).sum(axis=0))


def satterthwaite(own: FloatArray, cross: FloatArray) -> FloatArray:
    """tr(B)² / tr(B²) for B = diag(own) - cross cross'; own (…, G), cross (…, G, rank); nan where B is 0."""
    gram = cross.mT @ cross
    norms = (cross**2).sum(axis=-1)
    trace = own.sum(axis=-1) - norms.sum(axis=-1)
    square = (own**2).sum(axis=-1) - 2 * (own * norms).sum(axis=-1) + (gram**2).sum(axis=(-2, -1))
    return ratio(np.maximum(trace, 0.0) ** 2, square)
