"""A finding bears a behaviour's name only where that behaviour leans with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tiltscope.naming.namesake import Namesake, check_names
from tiltscope.pairs import Pair

N = 200
BOLD = {"C1": {"rule": "bold", "measure": "present"}}


def pairs(chosen: list[str], rejected: list[str]) -> list[Pair]:
    return [Pair(f"p{i}", (), c, r, f"g{i}", i) for i, (c, r) in enumerate(zip(chosen, rejected, strict=True))]


def hypothesis(direction: str = "more", region: str | None = None, estimand: str = "delta") -> dict[str, Any]:
    return {
        "id": "g-C1",
        "concept": {"id": "C1"},
        "direction": direction,
        "estimand": estimand,
        "region": {"id": region} if region else None,
    }


def bold_in(share_chosen: float, share_rejected: float, seed: int = 0) -> list[Pair]:
    rng = np.random.default_rng(seed)
    sides = [[("a **b** c" if x else "a b c") for x in rng.random(N) < s] for s in (share_chosen, share_rejected)]
    return pairs(*sides)


def check(rows: list[Pair], asked: dict[str, Any], **more: Any) -> Namesake:
    confirm = more.pop("confirm", np.ones(len(rows), bool))
    return check_names([asked], BOLD, rows, more.get("inside", {}), confirm)["g-C1"]


def test_a_behaviour_that_leans_alike_holds_with_its_mean_by_hand() -> None:
    rows = bold_in(0.7, 0.3)
    u = [("**" in row.chosen) - ("**" in row.rejected) for row in rows]
    found = check(rows, hypothesis())
    assert found.effect == pytest.approx(np.mean(u))
    assert found.ci_low < found.effect < found.ci_high
    assert found.holds


def test_a_behaviour_that_leans_the_other_way_does_not_hold() -> None:
    assert not check(bold_in(0.7, 0.3), hypothesis("less")).holds


def test_a_balanced_behaviour_holds_in_about_one_of_twenty_datasets() -> None:
    held = [check(bold_in(0.5, 0.5, seed), hypothesis()).holds for seed in range(200)]
    assert sum(held) <= 20


def test_a_comparison_asks_the_confirm_half_alone_and_a_lean_asks_all_pairs() -> None:
    rows = [*bold_in(0.9, 0.1), *bold_in(0.1, 0.9)]
    rows = [Pair(f"p{i}", (), row.chosen, row.rejected, f"g{i}", i) for i, row in enumerate(rows)]
    confirm = np.arange(2 * N) >= N
    assert not check(rows, hypothesis(), confirm=confirm).holds
    assert check(rows, hypothesis(), confirm=~confirm).holds
    assert check(rows, hypothesis(estimand="tau"), confirm=confirm).effect == pytest.approx(0.0, abs=0.05)


def test_a_finding_of_a_region_is_asked_there_alone() -> None:
    rows = [*bold_in(0.9, 0.1), *bold_in(0.1, 0.9)]
    rows = [Pair(f"p{i}", (), row.chosen, row.rejected, f"g{i}", i) for i, row in enumerate(rows)]
    inside = {"K1": np.arange(2 * N) < N}
    assert check(rows, hypothesis(region="K1"), inside=inside).holds


def test_too_few_pairs_say_nothing_and_hold_nothing() -> None:
    found = check(bold_in(1.0, 0.0)[:1], hypothesis())
    assert np.isnan(found.effect)
    assert not found.holds


def test_a_concept_that_no_behaviour_names_is_not_asked() -> None:
    assert check_names([hypothesis()], {}, bold_in(0.7, 0.3), {}, np.ones(N, bool)) == {}
