"""The signs: one rule (`tiltscope.recipe.sign`), one table for contexts, and the scale the offsets are in.

In:  an action, a side, raw scores. Out: +1 or -1, the side to act on, standardised scores.
Refuses: a score that is the same for every answer.

What a steering vector +v towards the concept, or an instruction that asks for it, does on a side:

| side     | +v explains away                                      | so +v serves | and -v       |
|----------|-------------------------------------------------------|--------------|--------------|
| chosen   | what the chosen answers teach for the concept         | suppress     | amplify      |
| rejected | what the rejected answers teach against it            | amplify      | suppress     |
| both     | what the difference teaches (neutralised, as +offset) | suppress     | amplify      |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiltscope.interventions.wishes import Scored, Wish, refusal
from tiltscope.recipe import Recipe, Side, sign

__all__ = ["SIDE_OF", "Scores", "context_sign", "side_of", "standard_scores", "standardise", "turned"]

# The side on which +v (or an instruction FOR the concept) does what the action asks: used where a plan names none.
SIDE_OF: dict[str, Side] = {"suppress": "chosen", "amplify": "rejected"}
# +1 where +v on this side suppresses, -1 where it amplifies.
_SERVES: dict[str, int] = {"chosen": sign("suppress"), "rejected": sign("amplify"), "both": sign("suppress")}


@dataclass(frozen=True)
class Scores:
    """One number per answer: chosen (n,) and rejected (n,), the latter nan where there are none."""

    chosen: np.ndarray
    rejected: np.ndarray


def context_sign(action: str, side: str) -> int:
    """Return the sign of v (+1: towards the concept, or an instruction that asks for it) for an action on a side.

    >>> context_sign("suppress", "chosen"), context_sign("amplify", "rejected"), context_sign("amplify", "chosen")
    (1, 1, -1)
    """
    return sign(action) * _SERVES[side]


def side_of(recipe: Recipe, wish: Wish) -> Side:
    """Return the side the wish acts on: the plan's, or the table's; SFT trains the chosen answer only.

    Raises `UsageError` where an SFT plan names the rejected answers.
    """
    if recipe.objective == "sft":
        if wish.side not in (None, "chosen"):
            raise refusal(wish, "SFT trains the chosen answer only", found=f"side: {wish.side}", hint="side: chosen")
        return "chosen"
    sides: dict[str, Side] = {"chosen": "chosen", "rejected": "rejected", "both": "both"}
    return SIDE_OF[wish.action] if wish.side is None else sides[wish.side]


def turned(recipe: Recipe) -> np.ndarray:
    """Return (n,) -1 for rows trained the other way round, +1 for the rest: differences follow the row as trained."""
    return np.where(recipe.flipped, -1.0, 1.0)


def standardise(wish: Wish, scores: Scores) -> Scores:
    """Return scores with mean 0 and sd 1 over all answers of the dataset (chosen and rejected together).

    Raises `UsageError` naming the decision where every answer has the same score.
    """
    every = np.concatenate([scores.chosen, scores.rejected[np.isfinite(scores.rejected)]]).astype(np.float64)
    mean, sd = float(every.mean()), float(every.std())
    if not sd > 1e-9 * max(1.0, abs(mean)):
        hint = "this detector finds no difference between answers: choose another, or leave the decision out"
        raise refusal(wish, "every answer has the same score", found=f"{mean:g} for all {len(every)}", hint=hint)
    return Scores((scores.chosen - mean) / sd, (scores.rejected - mean) / sd)


def standard_scores(wish: Wish, scored: Scored) -> Scores:
    """Return the standardised detector scores of a decision."""
    return standardise(wish, Scores(scored.chosen, scored.rejected))
