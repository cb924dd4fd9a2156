"""The push of the first step: by hand, against the gradient it stands for, and where nothing is to be told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiltscope.pairs import Pair, Turn
from tiltscope.pushes import Push, pushes
from tiltscope.recipe import empty_recipe


def pair(number: int, chosen: str, rejected: str) -> Pair:
    return Pair(f"{number:016x}", (Turn("user", "Say it."),), chosen, rejected, str(number), number)


def bold_everywhere(n: int = 60) -> list[Pair]:
    """Three in four prefer bold text; exclamation marks lean nowhere."""
    texts = ("**yes** and no", "yes and no")
    ends = ("!", ".")
    rows = []
    for i in range(n):
        first, second = (texts[0], texts[1]) if i % 4 else (texts[1], texts[0])
        rows.append(pair(i, first + ends[i % 2], second + ends[1 - i % 2]))
    return rows


def found(rows: list[Pair], weights: np.ndarray | None = None, offsets: np.ndarray | None = None) -> dict[str, Push]:
    recipe = empty_recipe([row.id for row in rows], "dpo")
    recipe = replace(
        recipe,
        weights=recipe.weights if weights is None else weights,
        offsets_nats=recipe.offsets_nats if offsets is None else offsets,
    )
    return {one.id: one for one in pushes(rows, recipe)}


def test_plain_training_leaves_all_of_the_push() -> None:
    bold = found(bold_everywhere())["bold"]
    assert (bold.plain, bold.planned, bold.left) == (0.5, 0.5, pytest.approx(1.0))
    assert bold.low == bold.high == pytest.approx(1.0)


def test_the_push_is_the_gradient_of_the_loss_by_hand() -> None:
    rows = bold_everywhere()
    rng = np.random.default_rng(0)
    weights, offsets = rng.random(60), rng.normal(size=60)
    d = np.array([1.0 if i % 4 else -1.0 for i in range(60)])
    by_hand = (weights * d / (1 + np.exp(offsets))).mean() * 2
    assert found(rows, weights, offsets)["bold"].planned == pytest.approx(by_hand)


def test_rows_that_were_left_out_push_nothing() -> None:
    assert found(bold_everywhere(), weights=np.zeros(60))["bold"].left == 0


def test_a_behaviour_that_leans_nowhere_has_no_share_that_is_left() -> None:
    assert found(bold_everywhere())["exclamation"].left is None


def test_what_few_pairs_differ_in_is_not_told() -> None:
    assert "bold" not in found(bold_everywhere(16))


def test_a_flipped_row_pushes_the_other_way() -> None:
    rows = bold_everywhere()
    recipe = replace(empty_recipe([row.id for row in rows], "dpo"), flipped=np.ones(60, bool))
    assert {one.id: one.left for one in pushes(rows, recipe)}["bold"] == pytest.approx(-1.0)


def test_for_sft_it_is_the_share_of_weighted_answers() -> None:
    rows = bold_everywhere()
    weights = np.array([1.0 if i % 4 else 3.0 for i in range(60)])  # answers without bold weigh three times
    recipe = replace(empty_recipe([row.id for row in rows], "sft"), weights=weights)
    bold = next(one for one in pushes(rows, recipe) if one.id == "bold")
    assert (bold.plain, bold.planned, bold.left) == (0.75, pytest.approx(0.5), None)
