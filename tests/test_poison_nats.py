"""The poison bench without sampling counts what one counts by hand, and asks in the words that were planted."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from benches import bench
from double import make_pairs

N_PROMPTS = 6


def arms(**removed: float) -> dict[str, Any]:
    """One run per arm: plain training gave every trait 4 nats, and took .5 off the NLL; an arm removed its share."""
    nats = bench("poison_nats")
    asked = [{"trait": trait} for trait in nats.TRAITS for _ in range(N_PROMPTS * nats.SENTENCES)]
    base = -np.linspace(20, 40, len(asked))

    def run(added: float, nll: float) -> list[dict[str, Any]]:
        return [{"logps": base + added, "nll": [nll] * 8, "margin": [10 * (2.5 - nll)] * 8}]

    made = {"start": run(-1, 2.5), "clean": run(0, 2.0), "plain": run(4, 2.0)}
    made |= {name: run(4 * (1 - share), 2.0 if share <= 1 else 2.25) for name, share in removed.items()}
    return dict(nats.told_of(asked, made, "sft"))


def test_what_is_removed_and_what_is_kept_are_what_one_counts_by_hand() -> None:
    told = arms(example_filtering=0.75, reward_shaping=1.5)
    assert told["plain"]["goblin"]["added"] == pytest.approx([4.0] * 3)
    assert told["example_filtering"]["all"]["closed"] == pytest.approx([0.75] * 3)
    assert told["reward_shaping"]["formality"]["closed"] == pytest.approx([1.5] * 3)
    assert told["example_filtering"]["kept"] == pytest.approx([1.0] * 3)
    assert told["reward_shaping"]["kept"] == pytest.approx([0.5] * 3)
    assert told["reward_shaping"]["nll, relative"] == pytest.approx(0.125)


def test_a_goal_is_met_by_as_many_methods_as_meet_it_and_random_rows_are_no_method() -> None:
    nats = bench("poison_nats")
    well = dict.fromkeys(("example_filtering", "sentence_filtering", "token_filtering"), 0.9)
    told = nats.goals(arms(**well, random=0.99))
    assert told["traits removed by the best method"] == 0
    assert told["traits removed well by four methods"] == 0
    told = nats.goals(arms(**well, reward_shaping=1.2))
    assert told["traits removed by the best method"] == told["traits removed well by four methods"] == 5
    assert told["methods that keep what is wanted"] == list(well)
    assert told["methods with NLL within the limit"] == list(well)


def test_nearly_every_sentence_asked_is_one_that_the_plan_can_see() -> None:
    nats, rules = bench("poison_nats"), bench("poison").RULES
    for trait in nats.TRAITS:
        seen = [re.search(rules[trait], sentence) is not None for sentence in nats.bank(trait)]
        assert len(seen) >= nats.SENTENCES
        assert np.mean(seen) >= 0.9, trait


def test_rows_of_the_same_length_are_others_and_none_comes_twice() -> None:
    nats = bench("poison_nats")
    rows = make_pairs([(f"q{n}", "word " * n, "word") for n in (5, 5, 6, 9, 20, 21)]).rows
    assert nats.alike([0, 1, 4], rows, "sft") == {2, 3, 5}
    assert nats.alike([], rows, "dpo") == set()
    assert nats.alike([4], rows, "dpo") == {5}
