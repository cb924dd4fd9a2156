"""Arrays become numbers.

In: arrays of disparities, activities, lengths and group labels, one row per pair. Out: effects, standard errors,
degrees of freedom, p and q values, intervals, and the random draws of both nulls. Refuses: to know what a pair or a
concept is (numpy and scipy only), to read files, and to guess: what cannot be estimated is nan, never 0 or 1.

Everything that speaks of uncertainty takes groups of pairs, because pairs of one group are one witness. The variance
is CR2 (Bell and McCaffrey 2002) with Satterthwaite degrees of freedom under the working model of independent errors
of equal variance, as in clubSandwich and Pustejovsky and Tipton (2018).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "Bounds",
    "Clusters",
    "DyadicSE",
    "Estimates",
    "RegressionCR2",
    "Share",
    "SplitHalf",
    "Welch",
    "benjamini_hochberg",
    "dyadic_se",
    "explore_mask",
    "flip_regression",
    "half_mask",
    "rademacher",
    "share_with_interval",
    "spline_basis_difference",
    "split_half",
    "tau_flips",
    "tau_test",
    "welch",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_ALIASED = 1e-7  # a column whose part outside the earlier columns is below this share of it counts as aliased (R: lm)
_SINGULAR = 1e-11  # eigenvalues of I - H below this are zero, and their inverse root is zero too (clubSandwich: 1e-12)
_ROUNDING = 1e-12  # below this share of the scale of the data a standard error is rounding, not spread


# --- many tests -----------------------------------------------------------------------------------------------------


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


# --- the displayed difference ---------------------------------------------------------------------------------------


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
    return Welch(delta, _ratio(delta, np.sqrt(var_a / len(a) + var_b / len(b))), _ratio(delta, np.sqrt(pooled)))


def _ratio(top: npt.ArrayLike, bottom: npt.ArrayLike) -> FloatArray:
    """Divide; nan where the bottom is not above 0."""
    top, bottom = np.broadcast_arrays(np.asarray(top, np.float64), np.asarray(bottom, np.float64))
    out: FloatArray = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out


# --- length ---------------------------------------------------------------------------------------------------------


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


# --- groups ---------------------------------------------------------------------------------------------------------


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
        return self.sum_sorted(np.asarray(x, dtype=np.float64)[self.order])

    def sum_sorted(self, x: FloatArray) -> FloatArray:
        """As `group_sums`, for rows that already stand in the order of `order`."""
        if len(x) != self.n_rows:
            raise ValueError(f"{len(x)} rows for {self.n_rows} group labels")
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


# --- estimates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """The two ends of an interval."""

    low: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class Estimates:
    """One coefficient for each response column (0-d arrays for a single response); nan where it cannot be estimated.

    A response without any spread has se 0: then t is infinite, or nan if the effect is 0 too (no evidence at all).
    """

    effect: FloatArray
    se: FloatArray  # CR2
    df: FloatArray  # Satterthwaite
    t: FloatArray
    p_two: FloatArray
    residual_sd: FloatArray  # root of RSS / (rows - rank)

    @property
    def d(self) -> FloatArray:
        """The effect in residual standard deviations."""
        return _ratio(self.effect, self.residual_sd)

    @property
    def z(self) -> FloatArray:
        """The normal score with the same two-sided p and the sign of the effect."""
        from scipy.special import ndtri

        return np.asarray(-np.sign(self.t) * ndtri(self.p_two / 2))

    def p_one(self, direction: npt.ArrayLike) -> FloatArray:
        """One-sided p of "the effect has this sign"; `direction` is +1 or -1, one for all or one per column."""
        return _t_tail(self.t * np.sign(np.asarray(direction, dtype=np.float64)), self.df)

    def interval(self, level: float = 0.95) -> Bounds:
        """The two-sided interval at `level` in (0, 1)."""
        if not 0 < level < 1:
            raise ValueError("the level of an interval lies between 0 and 1")
        half = self.se * _t_quantile((1 + level) / 2, self.df)
        return Bounds(self.effect - half, self.effect + half)


def _t_tail(t: npt.ArrayLike, df: npt.ArrayLike) -> FloatArray:
    """P(T > t)."""
    from scipy.special import stdtr

    return np.asarray(stdtr(df, -np.asarray(t, dtype=np.float64)))


def _t_quantile(share: npt.ArrayLike, df: npt.ArrayLike) -> FloatArray:
    """The quantile of Student's t."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(df, share))


def _estimates(effect: FloatArray, variance: FloatArray, df: npt.ArrayLike, residual_sd: FloatArray) -> Estimates:
    """Studentise; a variance or an effect that was rounded to 0 by the caller stays 0."""
    se = np.sqrt(variance)
    df = np.broadcast_to(np.asarray(df, dtype=np.float64), se.shape)
    with np.errstate(divide="ignore", invalid="ignore"):  # x / 0 is inf and 0 / 0 is nan, as the docstring says
        t = np.asarray(effect / se)
    p_two = np.minimum(2 * _t_tail(np.abs(t), df), 1.0)
    return Estimates(np.asarray(effect), np.asarray(se), np.asarray(df), t, np.asarray(p_two), np.asarray(residual_sd))


def _without_rounding(x: npt.ArrayLike, scale: npt.ArrayLike) -> FloatArray:
    """Set to 0 what is only rounding of numbers of the given scale."""
    x = np.asarray(x, dtype=np.float64)
    return np.where(np.abs(x) <= _ROUNDING * np.asarray(scale), 0.0, x)


# --- the mean -------------------------------------------------------------------------------------------------------


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
        return _estimates(nothing, nothing, np.nan, nothing)
    size = np.sqrt((u**2).mean(axis=0))
    effect = _without_rounding(sums.sum(axis=0) / n, size)
    weights = (1 / (1 - shares)).reshape(-1, *[1] * (u.ndim - 1))
    spread = sums / n - shares.reshape(weights.shape) * effect
    variance = _without_rounding(np.sqrt((weights * spread**2).sum(axis=0)), size) ** 2
    residual_sd = _without_rounding(u.std(axis=0, ddof=1), size)
    return _estimates(effect, variance, _tau_df(shares), residual_sd)


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
    return _ratio(effect, np.sqrt(np.maximum(variance, 0.0)))


# --- regression -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Basis:
    """An orthonormal basis q (n, rank) of a design whose last column carries the tested coefficient."""

    q: FloatArray
    scale: float  # length of the tested column's part outside the others; nan when it has none (aliased)


def _basis(x: FloatArray, tested: int) -> _Basis:
    """Orthonormalise the columns in order, the tested one last, dropping each that earlier ones already span."""
    order = [j for j in range(x.shape[1]) if j != tested] + [tested]
    lengths = np.sqrt((x**2).sum(axis=0))
    kept = [j for j in order if lengths[j] > 0]
    while kept:
        q, r = np.linalg.qr(x[:, kept] / lengths[kept])
        aliased = np.flatnonzero(np.abs(np.diagonal(r)) < _ALIASED)
        surplus = len(aliased) == 0 and len(kept) > len(x)
        if len(aliased) == 0 and not surplus:
            break
        del kept[int(aliased[0]) if len(aliased) else len(x)]
    if not kept or kept[-1] != tested:
        return _Basis(np.zeros((len(x), 0)), np.nan)
    sign = np.sign(r[-1, -1])
    q[:, -1] *= sign
    return _Basis(q, float(abs(r[-1, -1]) * lengths[tested]))


def _inverse_root(eigenvalues_of_h: FloatArray) -> FloatArray:
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
            out[rows[:, 0]] = ell[rows[:, 0]] * _inverse_root((block[:, 0] ** 2).sum(axis=-1))
        elif size <= q.shape[1]:
            values, vectors = np.linalg.eigh(block @ block.mT)
            out[rows] = _rooted(values, vectors, ell[rows])
        else:
            values, vectors = np.linalg.eigh(block.mT @ block)
            turned = _rooted(values, vectors, np.broadcast_to(direction, (len(rows), len(direction))))
            out[rows] = (block @ turned[..., None])[..., 0]
    return out


def _rooted(values: FloatArray, vectors: FloatArray, x: FloatArray) -> FloatArray:
    """V f(values) V' x for batches (k, s), (k, s, s), (k, s)."""
    inner = (vectors.mT @ x[..., None])[..., 0] * _inverse_root(values)
    return np.asarray((vectors @ inner[..., None])[..., 0])


class RegressionCR2:
    """One design, prepared to test one coefficient against any number of responses.

    `x` is (n, p), `tested` the column whose coefficient is wanted; add an intercept column yourself if you want one.
    Columns that others span are dropped; if the tested one is spanned, every result is nan.
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
        basis = _basis(design[clusters.order], tested % design.shape[1])
        self._q, self._scale = basis.q, basis.scale
        self.estimable = bool(np.isfinite(self._scale)) and clusters.n_groups > 1
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
        self.df = float(_satterthwaite(own, self._cross))
        self._spread = float(np.sqrt(own.sum()))

    def fit(self, y: npt.ArrayLike) -> Estimates:
        """Estimate the tested coefficient for y, (n,) or (n, m)."""
        values = np.asarray(y, dtype=np.float64)
        if len(values) != self.clusters.n_rows:
            raise ValueError(f"{len(values)} responses for {self.clusters.n_rows} rows of the design")
        if not self.estimable:
            nothing = np.full(values.shape[1:], np.nan)
            return _estimates(nothing, nothing, np.nan, nothing)
        values = values[self.clusters.order]
        projected = self._q.T @ values
        residual = values - self._q @ projected
        size = np.sqrt((values**2).mean(axis=0))
        effect = _without_rounding(projected[-1] / self._scale, size * np.sqrt(len(values)) / self._scale)
        scores = self.clusters.sum_sorted((residual.T * self._adjusted).T)
        variance = _without_rounding(np.sqrt((scores**2).sum(axis=0)), size * self._spread) ** 2
        left = max(len(values) - self._q.shape[1], 1)
        residual_sd = _without_rounding(np.sqrt((residual**2).sum(axis=0) / left), size)
        return _estimates(effect, variance, self.df, residual_sd)

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
        return _ratio(total[-1] / self._scale, np.sqrt(np.maximum(variance, 0.0)))

    def _quadratic(self, total: FloatArray) -> FloatArray:
        """Σ_g (c_g'T)² for each draw."""
        return np.asarray((total * ((self._cross.T @ self._cross) @ total)).sum(axis=0))


def _satterthwaite(own: FloatArray, cross: FloatArray) -> FloatArray:
    """tr(B)² / tr(B²) for B = diag(own) - cross cross'; own (…, G), cross (…, G, rank); nan where B is 0."""
    gram = cross.mT @ cross
    norms = (cross**2).sum(axis=-1)
    trace = own.sum(axis=-1) - norms.sum(axis=-1)
    square = (own**2).sum(axis=-1) - 2 * (own * norms).sum(axis=-1) + (gram**2).sum(axis=(-2, -1))
    return _ratio(np.maximum(trace, 0.0) ** 2, square)


def flip_regression(
    y: npt.ArrayLike, signed: npt.ArrayLike, unsigned: npt.ArrayLike, tested: int, clusters: Clusters, signs: FloatArray
) -> Estimates:
    """Refit when the labels of whole groups are flipped: the sharp null of a regression coefficient.

    A flip negates y (n,) and the `signed` columns (n, s), the length splines, but not the `unsigned` ones (n, k),
    whether the concept is at stake; `tested` is a column of `unsigned`. A draw equals the regression of y on
    [signed, w·unsigned], because a common sign of a group's rows changes nothing. Results have shape (n_draws,); the
    degrees of freedom differ from draw to draw.
    """
    y, signed, unsigned = (np.asarray(part, dtype=np.float64) for part in (y, signed, unsigned))
    tested = signed.shape[1] + tested % unsigned.shape[1]
    fits = []
    for draw in signs.T:
        design = np.column_stack([signed, unsigned * draw[clusters.codes][:, None]])
        fits.append(RegressionCR2(design, clusters, tested).fit(y))
    fields = ("effect", "se", "df", "t", "p_two", "residual_sd")
    return Estimates(*(np.array([getattr(fit, field) for fit in fits]) for field in fields))


# --- sources --------------------------------------------------------------------------------------------------------


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
    times S / (S - 1) for S sources. That sum can fall short of its own parts in small data; the largest of rows,
    groups and dyads is taken then. nan for fewer than two sources.

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
    dyads, by_group = _dependent(e, ends, whole), float((np.bincount(groups, e) ** 2).sum())
    union = dyads + by_group - _dependent(e, ends, groups)
    total = max(union, dyads, by_group, float((e**2).sum()))
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


# --- shares and halves ----------------------------------------------------------------------------------------------


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
    worth = kish if share in (0.0, 1.0) else float(np.clip(_ratio(share * (1 - share), variance), kish, n.sum()))
    t2 = float(_t_quantile((1 + level) / 2, n.size - 1)) ** 2
    centre, spread = share + t2 / (2 * worth), np.sqrt(t2 * (share * (1 - share) + t2 / (4 * worth)) / worth)
    low, high = (centre - spread) / (1 + t2 / worth), (centre + spread) / (1 + t2 / worth)
    return Share(share, float(np.clip(low, 0, share)), float(np.clip(high, share, 1)), worth)
