"""Answers side by side.

In:  two evaluations over the same prompts.
Out: `Example`s where a behaviour changed most; `blinded`: sides shuffled, with the key apart.
Refuses: to choose by taste: the prompts with the largest change, both ways alike, ties in order of the prompts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tiltscope.evaluation.evaluate import Evaluation, Scores

__all__ = ["Example", "blinded", "find_examples"]


@dataclass(frozen=True)
class Example:
    """One prompt with an answer of each side. Blinded: left and right are "A" and "B" and the scores are gone."""

    behaviour: str
    prompt_id: str
    prompt: str
    left: str
    right: str
    left_text: str
    right_text: str
    left_score: float | None
    right_score: float | None


def find_examples(
    before: Evaluation, after: Evaluation, names: tuple[str, str], n_examples: int
) -> tuple[Example, ...]:
    """Return up to n examples per behaviour (target role): the first seed's first answers that differ most in score."""
    texts = {one.id: one.text for one in before.prompts}
    old, new = _first_answers(before), _first_answers(after)
    found = []
    for one, other in zip(before.scores, after.scores, strict=True):
        if one.role != "target" or not n_examples:
            continue
        change = _first(other) - _first(one)
        order = np.argsort(-np.abs(np.nan_to_num(change)), kind="stable")
        shown = [i for i in order.tolist() if change[i] != 0 and not np.isnan(change[i])][:n_examples]
        for i in shown:
            id = one.prompt_ids[i]
            if id in texts and id in old and id in new:
                scores = float(_first(one)[i]), float(_first(other)[i])
                found.append(Example(one.id, id, texts[id], *names, old[id], new[id], *scores))
    return tuple(found)


def _first(scores: Scores) -> np.ndarray:
    return np.asarray(scores.values[:, 0])


def _first_answers(evaluation: Evaluation) -> dict[str, str]:
    first = evaluation.settings.seeds[0]
    return {
        one.prompt_id: one.text
        for one in evaluation.answers
        if one.seed == first and one.index == 0 and one.text is not None
    }


def blinded(examples: Sequence[Example], seed: int) -> tuple[tuple[Example, ...], dict[str, str]]:
    """Return the examples with sides shuffled and unnamed, and the key {"number": name of side A}, to be kept apart."""
    draw = random.Random(f"blind {seed}")
    shown, key = [], {}
    for number, one in enumerate(examples, start=1):
        swap = draw.random() < 0.5
        texts = (one.right_text, one.left_text) if swap else (one.left_text, one.right_text)
        shown.append(
            replace(
                one, left="A", right="B", left_text=texts[0], right_text=texts[1], left_score=None, right_score=None
            )
        )
        key[str(number)] = one.right if swap else one.left
    return tuple(shown), key
