"""The selectivity bench: openings are what one counts in a text, styles are chosen and goals met as said beforehand."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benches import bench
from tiltscope.behaviours import rule
from tiltscope.lm import Renderer
from tiltscope.pairs import Turn
from tiny import CHATML, tiny_tokenizer

ANSWER = """Sure! Here (in short) is what: it works.

# A title

- **Bold** words, and **more**
- two
 * three

1. one
2. two
| a | b |

It is 5 - 3, or 2 * 1, # not a title. 😀 End"""
BY_HAND = {
    **{"bold": 2, "bulleted_list": 3, "numbered_list": 2, "heading": 1, "table": 1},
    **{"horizontal_rule": 0, "emoji": 1, "exclamation": 1, "colon": 1, "parentheses": 1, "paragraph_break": 4},
}


def policy(says: float) -> Any:
    """A model that gives the token that comes next a probability of `says`, and the rest to one that begins nothing."""
    renderer = Renderer(tiny_tokenizer(), CHATML, max_length=1000)
    filler = renderer.tokenizer.encode("a", add_special_tokens=False)[0]

    def model(input_ids: torch.Tensor, use_cache: bool) -> Any:
        following = torch.cat([input_ids[0, 1:], input_ids[0, :1]])
        mass = torch.full((len(following), 420), 1e-12)
        mass[torch.arange(len(following)), filler] += 1 - says
        mass[torch.arange(len(following)), following] += says
        return SimpleNamespace(last_hidden_state=mass.log()[None])

    head = torch.nn.Identity()
    head.out_features = 420  # type: ignore[assignment]
    return SimpleNamespace(model=SimpleNamespace(model=model, lm_head=head), renderer=renderer, device="cpu")


@pytest.mark.parametrize("says", [1.0, 0.25])
def test_a_model_that_copies_a_text_has_as_many_openings_as_one_counts_in_it(says: float) -> None:
    openings = bench("openings")
    made = policy(says)
    text = made.renderer.render((Turn("user", "Say it."),), ANSWER)
    told = openings.expected(made, [text], [ANSWER])[0]
    assert dict(zip(openings.STYLES, told.tolist(), strict=True)) == pytest.approx(
        {style: says * BY_HAND[style] for style in openings.STYLES}, abs=1e-3
    )


def test_nothing_opens_where_it_cannot() -> None:
    openings = bench("openings")
    by_style = {one.style: one for one in openings.OPENINGS if one.style != "paragraph_break"}
    assert not by_style["bold"].after("a **b")
    assert not by_style["bulleted_list"].after("so 5")
    assert by_style["numbered_list"].after("so\n  ")
    for style, token in (
        ("bulleted_list", "**"),
        ("bulleted_list", "---"),
        ("bold", "*"),
        ("exclamation", "!="),
        ("colon", "://"),
    ):
        assert not re.fullmatch(by_style[style].token, token, re.DOTALL), (style, token)


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
    gaps = {id: {"closed": [value, 0, 1]} for id, value in (("bold", 0.93), ("colon", -0.08), ("emoji", 0.11))}
    gaps["table"] = {"closed": [None, None, None]}
    found = selectivity.selective(gaps, "bold", ["bold", "colon", "emoji", "table"])
    assert found == {"target": True, "siblings": 1, "of": 3}
    assert not selectivity.selective(gaps, "emoji", ["bold", "emoji"])["target"]
