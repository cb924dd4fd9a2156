"""One name, direction and place is one family; nothing else is joined."""

from __future__ import annotations

from typing import Any

from tiltscope.families import join_families


def _row(id: str, *, family: str | None = None, direction: str = "more", region: str | None = None) -> dict[str, Any]:
    return {
        "id": id,
        "family": family or id,
        "view": "region" if region else "global",
        "direction": direction,
        "confirmed": True,
        "region": {"id": region} if region else None,
        "concept": {"id": id.split("-")[-1]},
    }


RULES = {"L1": "bold", "L2": "bold", "L3": "bold", "L4": "emoji"}


def test_concepts_of_one_name_join_the_strongest() -> None:
    rows = [_row("g-L1"), _row("g-L4"), _row("g-L2"), _row("g-L9", family="g-L2")]
    assert [row["family"] for row in join_families(rows, RULES, {})] == ["g-L1", "g-L4", "g-L1", "g-L1"]


def test_opposite_directions_and_unnamed_concepts_stay_apart() -> None:
    rows = [_row("g-L1"), _row("g-L2", direction="less"), _row("g-L7"), _row("g-L8")]
    assert [row["family"] for row in join_families(rows, RULES, {})] == ["g-L1", "g-L2", "g-L7", "g-L8"]


def test_one_name_in_two_places_is_two_families() -> None:
    rows = [_row("r-K1-L1", region="K1"), _row("r-K2-L2", region="K2"), _row("r-K3-L3", region="K3")]
    made_from = {"K1": "C0", "K2": "C5", "K3": "C0"}
    assert [row["family"] for row in join_families(rows, RULES, made_from)] == ["r-K1-L1", "r-K2-L2", "r-K1-L1"]
