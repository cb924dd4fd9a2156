"""The dull explanations: what they measure, and that words are learned from the explore half only."""

from __future__ import annotations

import numpy as np
import pytest

from tiltscope.baselines import BASELINES, baseline_differences, markdown_share, punctuation_share
from tiltscope.pairs import Pair, Turn


def _pairs(n: int = 80) -> list[Pair]:
    words = ["indeed", "plainly"]
    return [
        Pair(f"{i:016x}", (Turn("user", "q"),), f"{words[0]} it is so {i}", f"{words[1]} it is so {i}", f"g{i}", i + 1)
        for i in range(n)
    ]


@pytest.mark.parametrize(
    "text", ["**bold** word", "- one\n- two", "1. one", "# Title", "`code`", "[a](http://b)", "| a |"]
)
def test_markdown_is_seen(text: str) -> None:
    assert markdown_share(text) > 0


@pytest.mark.parametrize("text", ["plain words", "2 * 3 * 4 = 24", "a - b", "In 1999. Then", ""])
def test_plain_text_has_no_markdown(text: str) -> None:
    assert markdown_share(text) == 0


def test_punctuation_is_a_share_of_characters() -> None:
    assert punctuation_share("ab!?") == 0.5
    assert punctuation_share("") == 0


def test_words_learned_on_one_half_separate_the_other() -> None:
    rows, explore = _pairs(), np.arange(80) < 40
    ones = np.zeros(80)
    found = baseline_differences(rows, ones, ones, explore)
    assert set(found) == set(BASELINES)
    assert (found["bag_of_words"] > 0).all()


def test_a_half_is_asked_of_what_the_other_taught_and_of_nothing_else() -> None:
    rows, explore = _pairs(), np.arange(80) < 40
    swapped = [
        row if explore[i] else Pair(row.id, row.prompt, row.rejected, row.chosen, row.group, row.row)
        for i, row in enumerate(rows)
    ]
    ones = np.zeros(80)
    one, other = (baseline_differences(r, ones, ones, explore)["bag_of_words"] for r in (rows, swapped))
    assert one[explore] == pytest.approx(-other[explore])  # the other half was turned round, and so is its lesson
    assert one[~explore] == pytest.approx(-other[~explore])  # the lesson is the same, the pairs are turned round


def test_answers_without_a_repeated_word_give_no_direction() -> None:
    rows = [Pair("0" * 16, (Turn("user", "q"),), "alpha", "beta", "g", 1), Pair("1" * 16, (), "gamma", "delta", "h", 2)]
    assert not baseline_differences(rows, np.zeros(2), np.zeros(2), np.ones(2, bool))["bag_of_words"].any()
