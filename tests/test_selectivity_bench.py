"""The selectivity bench: masks take what they say, styles are chosen and goals met as said beforehand."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benches import bench
from tiltscope.behaviours import rule


def test_the_mask_of_bold_text_takes_what_begins_it_and_nothing_between() -> None:
    marks = bench("selectivity").MARKS
    text = "- **One:** a (b) 2**3 and __two__ (**three**)."
    assert [text[m.start() :][:5] for m in re.finditer(marks["bold"], text)] == ["**One", "__two", "**thr"]
    assert {text[m.start() : m.end()] for m in re.finditer(marks["bold"], text)} == {"**", "__"}
    assert len(rule("bold").marks(text)) == 3


def test_styles_count_if_they_move_and_those_that_move_most_come_first() -> None:
    selectivity = bench("selectivity")
    rates = {"start": {id: np.full(4, 0.5) for id in selectivity.STYLES}}
    by = dict(zip(selectivity.STYLES, (0.3, 0.04, -0.4, 0.05, 0.2, 0.06, 0.07, 0.0, 0.0, 0.0, 0.0), strict=True))
    rates["plain"] = {id: 0.5 + np.full(4, by[id]) for id in selectivity.STYLES}
    found = selectivity.moved(rates)
    assert [by[id] for id in found] == [-0.4, 0.3, 0.2, 0.07, 0.06]


def test_an_arm_is_selective_by_its_target_and_by_every_sibling_that_can_be_told() -> None:
    selectivity = bench("selectivity")
    closed = {"bold": 0.93, "colon": -0.08, "emoji": 0.11}
    gaps: dict[str, Any] = {id: {"closed": [one, 0, 1], "added": [0.2, 0.1, 0.3]} for id, one in closed.items()}
    gaps["table"] = {"closed": [0.01, -9, 9], "added": [0.01, -0.02, 0.04]}  # a gap that may be none
    found = selectivity.selective(gaps, "bold", ["bold", "colon", "emoji", "table"])
    assert found == {"target": True, "siblings": 1, "of": 3}
    assert not selectivity.selective(gaps, "emoji", ["bold", "emoji"])["target"]


def test_without_a_style_the_others_take_its_place_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    selectivity = bench("selectivity")
    bold, exclamation, styles = (selectivity.STYLES.index(id) for id in ("bold", "exclamation", "colon"))
    mass = np.zeros((3, len(selectivity.OPENINGS)))
    columns = {one.style: number for number, one in enumerate(selectivity.OPENINGS)}
    mass[:, columns["bold"]], mass[:, columns["exclamation"]] = [0.5, 0.2, 0.0], [0.1, 0.4, 0.3]
    rendered = SimpleNamespace(
        ids=(0, 0, 0), response=SimpleNamespace(positions=np.arange(3), starts=np.array([0, 2, 4]))
    )
    policy = SimpleNamespace(renderer=SimpleNamespace(render=lambda prompt, text: rendered))
    monkeypatch.setattr(selectivity, "next_token_mass", lambda *_: iter([(0, mass)]))
    monkeypatch.setattr(selectivity, "beginners", lambda _: np.zeros((1, len(selectivity.OPENINGS)), bool))
    found = selectivity.without(policy, [(SimpleNamespace(prompt=()), "so so so")])[0]
    assert found[bold, bold] == found[exclamation, exclamation] == 0
    assert found[bold, exclamation] == pytest.approx(1 - 0.8 * 0.5 * 0.7)  # .1 / .5, .4 / .8, .3
    assert found[exclamation, bold] == pytest.approx(1 - (1 - 0.5 / 0.9) * (1 - 0.2 / 0.6))
    assert found[styles, bold] == pytest.approx(1 - 0.5 * 0.8)  # nothing of that style: as it was
