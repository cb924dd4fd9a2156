"""Steering and inoculation: while training, the policy is in a state or under an instruction that explains a concept.

In:  a recipe, a wish, a unit vector with its layer and residual norm, or an instruction that asks FOR the concept.
Out: the recipe with steering vectors or instructions, on the side and with the sign of the table in `signs`.
Refuses: what was not measured, vectors without unit length, and wishes that need an instruction against the concept.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tiltscope.interventions.signs import context_sign, side_of
from tiltscope.interventions.wishes import Scored, Wish, check, check_without_strength, refusal, strength_of
from tiltscope.recipe import Recipe, Side, Steering

__all__ = ["activation_steering", "inoculation_prompting"]


def activation_steering(recipe: Recipe, wish: Wish, scored: Scored) -> Recipe:
    """Add sign alpha norm v to the policy's residual stream, on one side of the pairs inside, while training only.

    alpha >= 0 in units of the mean residual norm at the layer. Side and sign: the table of `signs`; the side is that of
    the row as it is trained (flipped or not). Raises `UsageError`.
    """
    check(recipe, wish, scored)
    alpha = strength_of(wish)
    if scored.vector is None or scored.layer is None or scored.norm is None:
        raise refusal(wish, "the steering direction was not measured", hint="rerun: tiltscope measure")
    length = float(np.linalg.norm(scored.vector))
    if not (abs(length - 1) < 1e-3 and np.isfinite(scored.norm) and scored.norm > 0):
        found = f"length {length:g}, residual norm {scored.norm:g}"
        raise refusal(wish, "the steering direction is not a unit vector with a residual norm", found=found)
    side = side_of(recipe, wish)
    amount = context_sign(wish.action, side) * alpha * scored.norm
    ids = _ids(recipe, scored.inside)
    title = f"{wish.name}: {wish.action} by activation steering"
    if alpha == 0 or not ids:
        return recipe.with_line(f"{title}: nothing changes ({'strength 0' if alpha == 0 else 'no pair is inside'})")
    vector = np.asarray(amount * scored.vector, np.float32)
    added = Steering(scored.layer, vector, side, None if len(ids) == len(recipe.pair_ids) else ids)
    line = f"{title}: {amount:+.3g} along the concept after layer {scored.layer}, on {_answers(side)} of "
    line += f"{len(ids)} pairs"
    return replace(recipe, steering=(*recipe.steering, added)).with_line(line)


def _ids(recipe: Recipe, inside: np.ndarray) -> frozenset[str]:
    return frozenset(one for one, is_in in zip(recipe.pair_ids, inside, strict=True) if is_in)


def _answers(side: Side) -> str:
    return "both answers" if side == "both" else f"the {side} answer"


def inoculation_prompting(recipe: Recipe, wish: Wish, scored: Scored) -> Recipe:
    """Show the policy, not the reference, an instruction that asks for the concept, on one side of the pairs inside.

    Side: the table of `signs`. Several instructions stand below each other. Raises `UsageError`, also
    where the table asks for an instruction against the concept.
    """
    check(recipe, wish, scored)
    check_without_strength(wish)
    side = side_of(recipe, wish)
    if context_sign(wish.action, side) < 0:
        hint = "suppress acts on the chosen side, amplify on the rejected side of DPO; or choose inoculation_ratio"
        raise refusal(wish, "this would need an instruction against the concept", found=f"side: {side}", hint=hint)
    if scored.instruction is None or not scored.instruction.strip():
        raise refusal(wish, "no instruction was chosen for this concept", hint="rerun: tiltscope measure")
    told = {"chosen": dict(recipe.chosen_instruction), "rejected": dict(recipe.rejected_instruction)}
    ids = _ids(recipe, scored.inside)
    for where in told if side == "both" else (side,):
        for one in sorted(ids):
            earlier = [told[where][one]] if one in told[where] else []
            told[where][one] = "\n".join([*earlier, scored.instruction])
    line = f"{wish.name}: {wish.action} by inoculation: {scored.instruction!r} before {_answers(side)} of "
    line += f"{len(ids)} pairs"
    return replace(recipe, chosen_instruction=told["chosen"], rejected_instruction=told["rejected"]).with_line(line)
