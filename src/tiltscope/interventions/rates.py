"""Plans in rates: the smallest tilt of the starting model after which concepts are shown as often as asked.

In:  phi (n_prompts, n_samples, m), what the starting model's own answers show; target rates; concepts to hold; the tilt
     that plain training would bring (nats).
Out: `Tilt`: theta (m,) on top of plain training, the rates reached, the effective sample size, what is not reachable;
     and the scores that carry theta into reward shaping.
Refuses: shapes that do not fit, a concept that is to move and to stay. What cannot be reached is told, not refused.

Offsets are natural parameters, rates are mean parameters: d rates = C d theta, C the covariance of the concepts among
answers to one prompt. Penalising one concept moves its siblings; so theta is solved for, over targets and held concepts
together, as an I-projection: the distribution nearest to plain training's, in KL within prompts, with these rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from tiltscope.errors import UsageError
from tiltscope.interventions.wishes import Scored, Wish

__all__ = [
    "RateWish",
    "Tilt",
    "Unreachable",
    "amplify_child_hold_siblings",
    "keep_parent_drop_child",
    "minimum_kl_tilt",
    "penalise_parent_keep_child",
    "residualise",
    "tilt_as_decision",
    "tilt_offsets",
    "tilted_rates",
    "together",
]

Target = float | Literal["start"]

MIN_SHOWN = 3  # a concept that fewer own answers show (or lack) is outside the support
_SHRINK = 0.05  # off-diagonal covariances are shrunk by this in the Newton step; the fixed point stays the same
_STEPS, _TOLERANCE, _LIMIT_NATS = 200, 1e-4, 30.0


@dataclass(frozen=True)
class RateWish:
    """What should happen to rates: targets by concept index (a rate, or "start"), and concepts to hold."""

    targets: Mapping[int, Target]
    hold: tuple[int, ...] = ()


@dataclass(frozen=True)
class Unreachable:
    """A wish that cannot be met, and why; no concepts: the reason is about the tilt as a whole."""

    concepts: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Tilt:
    """A solved tilt: log pi changes by theta . phi on top of plain training. Rates are means over prompts."""

    theta: np.ndarray  # (m,) nats per unit of phi; 0 for concepts that are neither targets nor held
    start: np.ndarray  # (m,) rates of the starting model
    plain: np.ndarray  # (m,) after plain training
    wanted: np.ndarray  # (m,) nan where nothing is asked
    reached: np.ndarray  # (m,)
    effective_samples: float  # of n_samples per prompt, mean over prompts, under plain training and tilt together
    n_samples: int
    unreachable: tuple[Unreachable, ...]


def penalise_parent_keep_child(parent: int, child: int, rate: Target = "start") -> RateWish:
    """Bring the parent to a rate while the child stays where the data take it (less style, as many lists)."""
    return RateWish({parent: rate}, (child,))


def keep_parent_drop_child(parent: int, child: int, rate: Target = "start") -> RateWish:
    """Bring the child to a rate while the parent stays: the parent without the child (as much style, fewer lists)."""
    return RateWish({child: rate}, (parent,))


def amplify_child_hold_siblings(child: int, siblings: Sequence[int], rate: Target) -> RateWish:
    """Bring one child to a rate while its siblings stay where the data take them."""
    return RateWish({child: rate}, tuple(siblings))


def residualise(concept: int, against: int, rate: Target = "start") -> RateWish:
    """Move only what of a concept another does not explain.

    To first order theta is proportional to the concept minus its regression on `against`, so `against` does not move.
    """
    return RateWish({concept: rate}, (against,))


def together(*wishes: RateWish) -> RateWish:
    """Return the wishes as one. Raises `UsageError` where a concept has two targets, or is to move and to stay."""
    targets: dict[int, Target] = {}
    for wish in wishes:
        for one, rate in wish.targets.items():
            if targets.setdefault(one, rate) != rate:
                raise UsageError(f"concept {one} has two target rates", found=f"{targets[one]} and {rate}")
    hold = tuple(dict.fromkeys(one for wish in wishes for one in wish.hold))
    _refuse_both(targets, hold)
    return RateWish(targets, hold)


def _refuse_both(targets: Mapping[int, Target], hold: Sequence[int]) -> None:
    both = sorted(set(targets) & set(hold))
    if both:
        hint = "take it out of hold, or out of the targets"
        raise UsageError("a concept is to move and to stay", found=f"concepts {both}", hint=hint)


def _weights(phi: np.ndarray, theta: np.ndarray) -> np.ndarray:
    score = phi @ theta
    raw = np.exp(score - score.max(axis=1, keepdims=True))
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))


def tilted_rates(phi: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Return (m,) rates after tilting own answers (n_prompts, n_samples, m) by theta (m,) within prompts.

    The forecast of what else a plan moves. The change is scaled by n / (n - 1), since answers weighted among n lose
    that share of the covariance to their own mean.
    """
    n = phi.shape[1]
    start = phi.mean(axis=(0, 1))
    tilted = np.einsum("xj,xjm->m", _weights(phi, theta), phi) / len(phi)
    return np.asarray(start + (tilted - start) * n / (n - 1))


def minimum_kl_tilt(phi: np.ndarray, wish: RateWish, *, data_tilt: np.ndarray | None = None) -> Tilt:
    """Solve for the tilt on top of plain training that brings targets to their rates and leaves held ones unmoved.

    phi (n_prompts, n_samples >= 2, m) in [0, 1]; data_tilt (m,) nats, what plain training adds by itself (None:
    nothing, so that "held" means the starting rate). Held concepts keep the rate of plain training.
    Raises `UsageError`.
    Source: Csiszar 1975 (I-projection); method of docs/interventions/rates.md.
    """
    phi = np.asarray(phi, np.float64)
    _check(phi, wish, data_tilt)
    data = np.zeros(phi.shape[2]) if data_tilt is None else np.asarray(data_tilt, np.float64)
    start, plain = tilted_rates(phi, np.zeros_like(data)), tilted_rates(phi, data)
    wanted = np.full(len(start), np.nan)
    for one in wish.hold:
        wanted[one] = plain[one]
    for one, rate in wish.targets.items():
        wanted[one] = start[one] if rate == "start" else rate
    involved = np.flatnonzero(np.isfinite(wanted))
    theta, gaps = _solve(phi, data, wanted, involved)
    n_eff = float((1 / (_weights(phi, data + theta) ** 2).sum(axis=1)).mean())
    reasons = _outside(phi, wanted, sorted(wish.targets))
    if not reasons and gaps.max(initial=0.0) > _TOLERANCE * 10:
        reasons = _contradictions(phi, data, wanted, involved)
    if n_eff < phi.shape[1] / 2:
        found = (
            f"effective sample size {n_eff:.1f} of {phi.shape[1]} per prompt: beyond half the answers it extrapolates"
        )
        reasons = [*reasons, Unreachable((), found)]
    reached = tilted_rates(phi, data + theta)
    return Tilt(theta, start, plain, wanted, reached, n_eff, phi.shape[1], tuple(reasons))


def _check(phi: np.ndarray, wish: RateWish, data_tilt: np.ndarray | None) -> None:
    if phi.ndim != 3 or phi.shape[0] < 1 or phi.shape[1] < 2 or not np.isfinite(phi).all():
        raise UsageError("own answers must be prompts x samples (at least 2) x concepts, finite", found=str(phi.shape))
    if phi.min() < 0 or phi.max() > 1:
        raise UsageError("concept indicators lie in [0, 1]", found=f"{phi.min():g} to {phi.max():g}")
    m = phi.shape[2]
    if data_tilt is not None and (np.shape(data_tilt) != (m,) or not np.isfinite(data_tilt).all()):
        raise UsageError(f"the tilt of plain training needs {m} finite numbers", found=str(np.shape(data_tilt)))
    unknown = sorted(one for one in {*wish.targets, *wish.hold} if not 0 <= one < m)
    if unknown:
        raise UsageError(f"there are {m} concepts", found=f"concepts {unknown}")
    if not wish.targets:
        raise UsageError("a plan in rates needs a target", hint="set aim_rate")
    _refuse_both(wish.targets, wish.hold)
    for one, rate in wish.targets.items():
        if rate != "start" and not 0 <= rate <= 1:
            raise UsageError("a target rate lies in [0, 1]", found=f"{rate:g} for concept {one}")


def _solve(
    phi: np.ndarray, data: np.ndarray, wanted: np.ndarray, involved: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return theta (m,) and the gaps left |wanted - reached| over the involved concepts; Newton with backtracking."""
    n, theta = phi.shape[1], np.zeros(len(wanted))
    part = phi[:, :, involved]
    start = part.mean(axis=(0, 1))
    goal = start + (wanted[involved] - start) * (n - 1) / n  # see tilted_rates
    value, gap, step = _dual(part, phi @ data, goal, theta[involved])
    for _ in range(_STEPS):
        if np.abs(gap).max(initial=0.0) < _TOLERANCE * (n - 1) / n or np.abs(theta).max() > _LIMIT_NATS:
            break
        scale = min(1.0, 5.0 / np.abs(step).max())
        for _ in range(30):
            trial = theta[involved] + scale * step
            new = _dual(part, phi @ data, goal, trial)
            if new[0] <= value - 1e-4 * scale * float(gap @ step):
                break
            scale /= 2
        theta[involved] = trial
        value, gap, step = new
    return theta, np.abs(gap) * n / (n - 1)


def _dual(
    part: np.ndarray, base: np.ndarray, goal: np.ndarray, theta: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the dual mean_x log sum_j exp(base + theta . phi) - theta . goal, its descent gap, and the Newton step."""
    score = base + part @ theta
    top = score.max(axis=1, keepdims=True)
    raw = np.exp(score - top)
    total = raw.sum(axis=1, keepdims=True)
    w = raw / total
    value = float((np.log(total) + top).mean() - theta @ goal)
    means = np.einsum("xj,xjm->xm", w, part)
    second = np.einsum("xj,xjm,xjl->ml", w, part, part) / len(part)
    covariance = second - means.T @ means / len(part)
    shrunk = (1 - _SHRINK) * covariance + np.diag(_SHRINK * np.diag(covariance) + 1e-6)
    gap = goal - means.mean(axis=0)
    return value, gap, np.linalg.solve(shrunk, gap)


def _outside(phi: np.ndarray, wanted: np.ndarray, targets: Sequence[int]) -> list[Unreachable]:
    """Return the targets that no weighting of the own answers can meet, each taken alone."""
    reasons = []
    n_all = phi.shape[0] * phi.shape[1]
    for one in targets:
        values = phi[:, :, one]
        n_shown, n_lacking = int((values > 0).sum()), int((values < values.max()).sum())
        low, high = _hull(values)
        if n_shown < MIN_SHOWN:
            reason = f"outside support: shown in {n_shown} of {n_all} own answers, fewer than {MIN_SHOWN}"
        elif n_lacking < MIN_SHOWN:
            reason = f"outside support: missing in {n_lacking} of {n_all} own answers, fewer than {MIN_SHOWN}"
        elif not low <= wanted[one] <= high or low == high:
            reached = f"from {_rate(low)} to {_rate(high)}"
            reason = f"outside support: own answers reach rates {reached}, not {_rate(wanted[one])}"
        else:
            continue
        reasons.append(Unreachable((one,), reason))
    return reasons


def _hull(values: np.ndarray) -> tuple[float, float]:
    """Return the lowest and highest rate of one concept that weighting (n_prompts, n_samples) answers can reach."""
    n, start = values.shape[1], values.mean()
    lowest, highest = values.min(axis=1).mean(), values.max(axis=1).mean()
    return float(start + (lowest - start) * n / (n - 1)), float(start + (highest - start) * n / (n - 1))


def _contradictions(phi: np.ndarray, data: np.ndarray, wanted: np.ndarray, involved: np.ndarray) -> list[Unreachable]:
    """Return the smallest sets of wishes that cannot be met together: single ones, then two, then all."""
    for size in (1, 2):
        found = []
        for some in combinations(involved.tolist(), size):
            _, gaps = _solve(phi, data, wanted, np.array(some))
            if gaps.max() > _TOLERANCE * 10:
                found.append(Unreachable(some, _reason(wanted, some, gaps.max())))
        if found:
            return found
    every = tuple(involved.tolist())
    return [Unreachable(every, _reason(wanted, every, float("nan")))]


def _rate(value: float) -> str:
    """A rate as a person reads it: the correction for few answers can leave [0, 1]."""
    return f"{min(max(value, 0.0), 1.0):.3g}"


def _reason(wanted: np.ndarray, some: Sequence[int], gap: float) -> str:
    rates = ", ".join(f"{one} at {_rate(wanted[one])}" for one in some)
    if len(some) == 1:
        return f"outside support: own answers cannot be weighted to {rates}; {gap:.3g} is missing"
    return f"contradictory wishes: no weighting of the own answers has concepts {rates} together"


def tilt_offsets(theta: np.ndarray, chosen: np.ndarray, rejected: np.ndarray, *, nats_per_tilt: float) -> np.ndarray:
    """Return (n,) offsets: -nats_per_tilt * sum_m theta_m (phi_m(y+) - phi_m(y-)).

    chosen, rejected (n, m): phi of the answers. Training pulls beta D + offset towards the reward difference, so log pi
    gains theta . phi where the offset is -beta theta . (phi+ - phi-): to lower a rate (theta < 0) the offset is
    positive for pairs whose chosen answer has more of it. nats_per_tilt is beta at the optimum of training, and
    beta / eta where training goes the share eta of the way.
    """
    return np.asarray(-nats_per_tilt * (np.asarray(chosen, float) - np.asarray(rejected, float)) @ theta)


def tilt_as_decision(
    tilt: Tilt, chosen: np.ndarray, rejected: np.ndarray, *, nats_per_tilt: float, name: str = "rates"
) -> tuple[Wish, Scored]:
    """Return the tilt as one decision for `prepare`: reward shaping on -theta . phi, already in nats.

    DPO: the offsets of `tilt_offsets`. SFT, with nats_per_tilt 1: weights exp(theta . phi(y)), clipped at 10, mean 1;
    rejected may be all nan. A decision to suppress -theta . phi, so the one sign rule holds.
    """
    left, right = (-(np.asarray(one, float) @ tilt.theta) for one in (chosen, rejected))
    wish = Wish(name, "suppress", "reward_shaping", strength=nats_per_tilt)
    return wish, Scored(left, right, np.ones(len(left), bool), in_nats=True)
