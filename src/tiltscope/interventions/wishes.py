"""One decision as this room needs it, and what was measured for it.

In:  numbers and spans, aligned with `Recipe.pair_ids`. Out: `Wish` and `Scored`, frozen values, and their checks.
Refuses: arrays that do not match the recipe, scores that are not finite, strengths and sides the method does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tiltscope.errors import UsageError
from tiltscope.recipe import Recipe, Spans

__all__ = ["Scored", "Wish", "check", "check_without_strength", "refusal", "strength_of"]

Effect = Literal["drop", "down", "flip"]
_WITHOUT_STRENGTH = ("token_filtering", "inoculation_prompting")
_WITHOUT_SIDE = ("reward_shaping", "example_filtering", "steering_ratio", "inoculation_ratio")


@dataclass(frozen=True)
class Scored:
    """What was measured for one decision, aligned with `Recipe.pair_ids`."""

    chosen: np.ndarray  # (n,) raw detector score of the chosen answer
    rejected: np.ndarray  # (n,) of the rejected answer; all nan where SFT data have none
    inside: np.ndarray  # (n,) bool: where the decision applies (all True for everywhere)
    chosen_spans: Mapping[str, Spans] = field(default_factory=dict)  # pair id -> marked character spans
    rejected_spans: Mapping[str, Spans] = field(default_factory=dict)
    ratio_chosen: np.ndarray | None = None  # (n,) log pi0(y | steered or instructed) - log pi0(y), nats
    ratio_rejected: np.ndarray | None = None
    vector: np.ndarray | None = None  # (width,) unit direction, towards the concept
    layer: int | None = None
    norm: float | None = None  # mean residual norm at that layer
    instruction: str | None = None  # asks FOR the concept
    chosen_texts: Sequence[str] | None = None  # (n,) the answers, for token filtering
    rejected_texts: Sequence[str] | None = None
    in_nats: bool = False  # chosen and rejected are nats already: reward shaping takes them as they are
    scale: float = 1.0  # what reward shaping multiplies the weight of every pair inside by (DPO, balance.py)


@dataclass(frozen=True)
class Wish:
    """One decision of a plan: what should happen to a concept, and by which method."""

    name: str
    action: Literal["suppress", "amplify"]
    method: str
    strength: float | None = None
    side: str | None = None
    effect: str = "drop"


def refusal(wish: Wish, what: str, *, found: str = "", hint: str = "") -> UsageError:
    """Return the refusal of one decision, with its name."""
    return UsageError(what, where=f"decision {wish.name!r} ({wish.action}, {wish.method})", found=found, hint=hint)


def check(recipe: Recipe, wish: Wish, scored: Scored) -> None:
    """Refuse what no method can work with: another length, scores that are not finite, an unknown action or side.

    Raises `UsageError` naming the decision.
    """
    n = len(recipe.pair_ids)
    if wish.action not in ("suppress", "amplify"):
        raise refusal(wish, "only suppress and amplify change a recipe", found=repr(wish.action))
    sizes = {name: np.shape(getattr(scored, name)) for name in ("chosen", "rejected", "inside")}
    if set(sizes.values()) != {(n,)}:
        raise refusal(wish, f"the scores do not match the {n} pairs of the recipe", found=str(sizes))
    if scored.inside.dtype != np.bool_:
        raise refusal(wish, "`inside` is not true or false per pair", found=str(scored.inside.dtype))
    no_rejected = recipe.objective == "sft" and bool(np.isnan(scored.rejected).all())
    finite = np.isfinite(scored.chosen).all() and (no_rejected or np.isfinite(scored.rejected).all())
    if not finite:
        raise refusal(wish, "scores are missing or not finite", hint="rerun: tiltscope measure")
    _check_side(wish)


def _check_side(wish: Wish) -> None:
    if wish.side not in (None, "chosen", "rejected", "both"):
        raise refusal(wish, "unknown side", found=repr(wish.side), hint="chosen, rejected, both, or null")
    if wish.method in _WITHOUT_SIDE and wish.side not in (None, "both"):
        raise refusal(wish, "this method compares both answers and has no side", found=wish.side, hint="side: null")


def strength_of(wish: Wish, *, below: float = np.inf) -> float:
    """Return the strength, in [0, below); the action carries the sign.

    Raises `UsageError` naming the decision where it is missing, negative, not finite or too large.
    """
    if wish.strength is None:
        raise refusal(wish, "this method needs a strength", hint="set strength in plan.yaml")
    if wish.strength < 0:
        hint = "a strength is never negative: turn the action round (suppress or amplify)"
        raise refusal(wish, "a strength below 0", found=f"{wish.strength:g}", hint=hint)
    if not wish.strength < below:  # also nan
        raise refusal(wish, f"a strength must be a number below {below:g}", found=f"{wish.strength:g}")
    return float(wish.strength)


def check_without_strength(wish: Wish) -> None:
    """Refuse a strength for a method that has none."""
    if wish.method in _WITHOUT_STRENGTH and wish.strength is not None:
        raise refusal(wish, "this method has no strength", found=f"{wish.strength:g}", hint="strength: null")
