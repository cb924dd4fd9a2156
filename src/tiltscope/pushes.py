"""What the first step of training pushes behaviours by, plainly and under a recipe: a forecast that needs no model.

In:  pairs and a recipe on them; the rules of the library say which answers show a behaviour.
Out: `Push` per behaviour.
Refuses: to speak of what is not in weights and offsets (masks, vectors and instructions), and of where training ends:
a network also learns one behaviour from another.

At the starting model the margin is 0, so the gradient of DPO is sum_i w_i sigma(-offset_i) times that of the margin.
Where a detector leaks, or a sibling comes along with what is suppressed, these sums show it before anything is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiltscope.behaviours import RULES
from tiltscope.pairs import Pair
from tiltscope.recipe import Recipe

__all__ = ["Push", "pushes"]

_AT_STAKE = 20  # pairs
_CLEAR = 2.0  # standard errors from 0


@dataclass(frozen=True)
class Push:
    """One behaviour.

    DPO: plain and planned are means over pairs of (shown by chosen - shown by rejected), -1 to 1, as the first step
    weighs them; left = planned / plain with its 95 % interval over groups, None where plain is not clearly off 0.
    SFT: the share of answers trained on that show it; left is None.
    """

    id: str
    name: str
    n_at_stake: int  # pairs whose answers differ in it (DPO); answers that show it (SFT)
    plain: float
    planned: float
    left: float | None
    low: float | None
    high: float | None


def pushes(rows: Sequence[Pair], recipe: Recipe) -> list[Push]:
    """Return the behaviours at stake in 20 pairs or more, the strongest plain push first.

    rows: the pairs, in the order of the recipe.
    """
    groups = np.unique([row.group for row in rows], return_inverse=True)[1]
    found = []
    for rule in RULES:
        shown = {side: np.array([bool(rule.marks(getattr(row, side))) for row in rows]) for side in _sides(recipe)}
        told = _of_pairs(shown, recipe, groups) if recipe.objective == "dpo" else _of_examples(shown, recipe)
        if told[0] >= _AT_STAKE:
            found.append(Push(rule.id, rule.name, *told))
    return sorted(found, key=lambda one: (-abs(one.plain), one.id))


def _sides(recipe: Recipe) -> tuple[str, ...]:
    return ("chosen", "rejected") if recipe.objective == "dpo" else ("chosen",)


Told = tuple[int, float, float, float | None, float | None, float | None]


def _of_pairs(shown: dict[str, np.ndarray], recipe: Recipe, groups: np.ndarray) -> Told:
    d = shown["chosen"].astype(float) - shown["rejected"]
    turned = np.where(recipe.flipped, -1.0, 1.0)
    # sigma(-offset) is 1/2 without an offset: a weight of 1 is that of plain training
    weight = recipe.weights * turned * (1 - np.tanh(recipe.offsets_nats / 2))
    plain, planned = (np.bincount(groups, values) for values in (d, weight * d))
    head = int((d != 0).sum()), float(d.mean()), float((weight * d).mean())
    total, n = plain.sum(), len(plain)
    if n < 2 or total == 0 or abs(total) < _CLEAR * np.sqrt((plain**2).sum()):
        return (*head, None, None, None)
    left = planned.sum() / total
    error = float(np.sqrt(n / (n - 1) * ((planned - left * plain) ** 2).sum()) / abs(total))
    return (*head, float(left), float(left - 1.96 * error), float(left + 1.96 * error))


def _of_examples(shown: dict[str, np.ndarray], recipe: Recipe) -> Told:
    own = shown["chosen"]
    planned = float(recipe.weights @ own / recipe.weights.sum())
    return (int(own.sum()), float(own.mean()), planned, None, None, None)
