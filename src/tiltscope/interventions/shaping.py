"""Reward shaping and the two likelihood-ratio forms: offsets for DPO, example weights for SFT.

In:  a recipe, a wish with lambda >= 0, scores or ratios. Out: the recipe with offsets added or weights multiplied.
Refuses: constant scores, missing ratios, strengths below 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tiltscope.interventions.signs import Scores, standard_scores, standardise, turned
from tiltscope.interventions.wishes import Scored, Wish, check, refusal, strength_of
from tiltscope.recipe import Recipe, sign

__all__ = ["WEIGHT_LIMIT", "inoculation_ratio", "reward_shaping", "steering_ratio", "weight_factors"]

WEIGHT_LIMIT = 10.0


def reward_shaping(recipe: Recipe, wish: Wish, scored: Scored) -> Recipe:
    """Explain a concept away, or call for more of it, through the reward.

    DPO: offset += sign lambda (s(y+) - s(y-)) nats. SFT: weight *= exp(-sign lambda s(y)), clipped at 10, with mean 1
    inside. s has mean 0 and sd 1 over all answers; sign is +1 to suppress. Raises `UsageError`.
    Source: arXiv:2606.12360, with the sign rule of docs/decisions/0003.
    """
    check(recipe, wish, scored)
    strength = strength_of(wish)
    as_given = Scores(scored.chosen, scored.rejected)
    return _shaped(recipe, wish, scored, strength, as_given if scored.in_nats else standard_scores(wish, scored))


def steering_ratio(recipe: Recipe, wish: Wish, scored: Scored) -> Recipe:
    """Steering as data: A(y) = log pi0(y | steered) - log pi0(y) takes the place of the score.

    DPO: offset += sign lambda (A(y+) - A(y-)), A in nats as measured. SFT: weight *= exp(-sign lambda A), with A
    standardised. Raises `UsageError`.
    """
    check(recipe, wish, scored)
    return _shaped(recipe, wish, scored, strength_of(wish), _ratios(recipe, wish, scored))


def inoculation_ratio(recipe: Recipe, wish: Wish, scored: Scored) -> Recipe:
    """Inoculation as data: as `steering_ratio`, A(y) = log pi0(y | an instruction FOR the concept) - log pi0(y)."""
    check(recipe, wish, scored)
    return _shaped(recipe, wish, scored, strength_of(wish), _ratios(recipe, wish, scored))


def _ratios(recipe: Recipe, wish: Wish, scored: Scored) -> Scores:
    n, sft = len(recipe.pair_ids), recipe.objective == "sft"
    chosen, rejected = scored.ratio_chosen, scored.ratio_rejected
    if rejected is None and sft:
        rejected = np.full(n, np.nan)
    if chosen is None or rejected is None:
        raise refusal(wish, "the likelihood ratios were not measured", hint="rerun: tiltscope measure")
    needed = chosen if sft else np.concatenate([chosen, rejected])
    if np.shape(chosen) != (n,) or np.shape(rejected) != (n,) or not np.isfinite(needed).all():
        found = f"{np.shape(chosen)} and {np.shape(rejected)} for {n} pairs, or values that are not finite"
        raise refusal(wish, "the likelihood ratios do not fit", found=found, hint="rerun: tiltscope measure")
    ratios = Scores(chosen, rejected)
    standard = standardise(wish, ratios)  # refuses ratios that say nothing, for both objectives
    return standard if sft else ratios


def _shaped(recipe: Recipe, wish: Wish, scored: Scored, strength: float, scores: Scores) -> Recipe:
    title = f"{wish.name}: {wish.action} by {wish.method.replace('_', ' ')}, strength {strength:g}"
    inside, factor = scored.inside, sign(wish.action) * strength
    n = int(inside.sum())
    if n == 0 or strength == 0:
        return recipe.with_line(f"{title}: nothing changes ({'no pair is inside' if n == 0 else 'strength 0'})")
    if recipe.objective == "sft":
        by = weight_factors(-factor * scores.chosen, inside)
        line = f"{title}: weights times {by[inside].min():.3g} to {by[inside].max():.3g} on {n} examples"
        return replace(recipe, weights=recipe.weights * by).with_line(line)
    added = np.where(inside, factor * turned(recipe) * (scores.chosen - scores.rejected), 0.0)
    low, high = added[inside].min(), added[inside].max()
    line = f"{title}: offsets from {low:+.3g} to {high:+.3g} nats on {n} pairs"
    if scored.scale != 1:
        line += f", which weigh {scored.scale:g} times"
    weights = recipe.weights * np.where(inside, scored.scale, 1.0)
    return replace(recipe, weights=weights, offsets_nats=recipe.offsets_nats + added).with_line(line)


def weight_factors(exponent: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return (n,) exp(exponent) clipped at 10 and divided by its mean inside; 1 outside."""
    raw = np.exp(np.minimum(exponent, np.log(WEIGHT_LIMIT)))
    return np.where(inside, raw / raw[inside].mean(), 1.0)
