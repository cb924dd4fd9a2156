"""A coefficient with its standard error and degrees of freedom; what cannot be estimated is nan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiltscope.stats.groups import FloatArray

_ROUNDING = 1e-12  # below this share of the scale of the data a standard error is rounding, not spread


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
        return ratio(self.effect, self.residual_sd)

    @property
    def z(self) -> FloatArray:
        """The normal score with the same two-sided p and the sign of the effect."""
        from scipy.special import ndtri

        return np.asarray(-np.sign(self.t) * ndtri(self.p_two / 2))

    def p_one(self, direction: npt.ArrayLike) -> FloatArray:
        """One-sided p of "the effect has this sign"; `direction` is +1 or -1, one for all or one per column."""
        return t_tail(self.t * np.sign(np.asarray(direction, dtype=np.float64)), self.df)

    def interval(self, level: float = 0.95) -> Bounds:
        """The two-sided interval at `level` in (0, 1)."""
        if not 0 < level < 1:
            raise ValueError("the level of an interval lies between 0 and 1")
        half = self.se * t_quantile((1 + level) / 2, self.df)
        return Bounds(self.effect - half, self.effect + half)


def t_tail(t: npt.ArrayLike, df: npt.ArrayLike) -> FloatArray:
    """P(T > t)."""
    from scipy.special import stdtr

    return np.asarray(stdtr(df, -np.asarray(t, dtype=np.float64)))


def t_quantile(share: npt.ArrayLike, df: npt.ArrayLike) -> FloatArray:
    """The quantile of Student's t."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(df, share))


def studentise(effect: FloatArray, variance: FloatArray, df: npt.ArrayLike, residual_sd: FloatArray) -> Estimates:
    """Studentise; a variance or an effect that was rounded to 0 by the caller stays 0."""
    se = np.sqrt(variance)
    df = np.broadcast_to(np.asarray(df, dtype=np.float64), se.shape)
    with np.errstate(divide="ignore", invalid="ignore"):  # x / 0 is inf and 0 / 0 is nan, as the docstring says
        t = np.asarray(effect / se)
    p_two = np.minimum(2 * t_tail(np.abs(t), df), 1.0)
    return Estimates(np.asarray(effect), np.asarray(se), np.asarray(df), t, np.asarray(p_two), np.asarray(residual_sd))


def without_rounding(x: npt.ArrayLike, scale: npt.ArrayLike) -> FloatArray:
    """Set to 0 what is only rounding of numbers of the given scale."""
    x = np.asarray(x, dtype=np.float64)
    return np.where(np.abs(x) <= _ROUNDING * np.asarray(scale), 0.0, x)


def ratio(top: npt.ArrayLike, bottom: npt.ArrayLike, *, otherwise: float = np.nan) -> FloatArray:
    """Divide; `otherwise` where the bottom is not above 0."""
    top, bottom = np.broadcast_arrays(np.asarray(top, np.float64), np.asarray(bottom, np.float64))
    out: FloatArray = np.full(top.shape, otherwise)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out
