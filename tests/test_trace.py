"""The rows behind a finding: the right pairs, in the right order, with marks on the right characters."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from double import make_pairs, read_double
from tiltscope.errors import ProductError, UsageError
from tiltscope.features import Features
from tiltscope.hypotheses import write_disparities
from tiltscope.pairs import Pairs
from tiltscope.trace import mark_text, trace

LATENTS = [r"\*\*", "dragon", "😀"]
ROWS = [
    ("p0", "a **bold** word", "a plain word"),
    ("p1", "a plain word", "a **bold** word and **more**"),
    ("p2", "**bold** **bold**", "nothing here"),
    ("p3", "nothing", "nothing at all"),
    ("p4", "😀🎉 **x**", "\ud83d lone <b>&"),
    ("p5", "no", "**no**"),
]
DISPARITY = {0: 1.0, 1: -1.0, 2: 1.0, 3: 0.0, 4: 1.0, 5: -1.0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pairs, Features]:
    pairs = make_pairs(ROWS)
    return pairs, read_double(pairs, LATENTS, tmp_path_factory.mktemp("features"))


def disparity(pairs: Pairs) -> dict[str, float]:
    return {pair.id: DISPARITY[number] for number, pair in enumerate(pairs.rows)}


def finding(direction: str = "more", *latents: int) -> dict[str, Any]:
    return {"id": "G1", "direction": direction, "concept": {"id": "L0", "latents": list(latents or (0,))}}


def test_pairs_for_and_against_are_told_apart_strongest_first(study: tuple[Pairs, Features]) -> None:
    found = trace(finding(), *study, disparities=disparity(study[0]))
    assert found["for"][0]["row"] == 3  # twice bold in two words: the highest share of tokens
    assert {one["row"] for one in found["for"]} == {1, 3, 5}
    assert {one["row"] for one in found["against"]} == {2, 6}
    assert (found["n_for"], found["n_against"]) == (3, 2)
    assert {one["row"] for one in found["random"]} == {1, 2, 3, 5, 6}


def test_a_finding_of_less_turns_for_and_against_round(study: tuple[Pairs, Features]) -> None:
    more = trace(finding("more"), *study, disparities=disparity(study[0]))
    less = trace(finding("less"), *study, disparities=disparity(study[0]))
    assert [one["row"] for one in less["for"]] == [one["row"] for one in more["against"]]
    assert [one["row"] for one in less["against"]] == [one["row"] for one in more["for"]]


def test_pairs_outside_the_region_do_not_appear(study: tuple[Pairs, Features]) -> None:
    inside = {pair_id: value for pair_id, value in disparity(study[0]).items() if pair_id.endswith(("1", "2"))}
    found = trace(finding(), *study, disparities=inside)
    assert {one["row"] for side in ("for", "against", "random") for one in found[side]} == {1, 2}


def test_marks_lie_on_the_firing_characters_with_strength_up_to_one(study: tuple[Pairs, Features]) -> None:
    found = trace(finding(), *study, disparities=disparity(study[0]))
    marks = [
        (one[side]["text"][start:end].strip(), strength)
        for one in [*found["for"], *found["against"]]
        for side in ("chosen", "rejected")
        for start, end, strength in one[side]["marks"]
    ]
    assert {text for text, _ in marks} == {"**", "** **"}
    assert all(0 < strength <= 1 for _, strength in marks)
    assert max(strength for _, strength in marks) == 1.0


def test_marks_count_characters_beyond_the_basic_plane_as_one(study: tuple[Pairs, Features]) -> None:
    found = trace(finding("more", 2), *study, disparities={study[0].rows[4].id: 1.0})
    (one,) = found["for"]
    ((start, end, _),) = one["chosen"]["marks"]
    assert one["chosen"]["text"][start:end] == "😀"
    assert one["rejected"]["text"] == "\ud83d lone <b>&"


def test_every_example_names_its_row_group_and_prompt(study: tuple[Pairs, Features]) -> None:
    one = trace(finding(), *study, disparities=disparity(study[0]))["against"][0]
    pair = study[0].rows[one["row"] - 1]
    assert (one["pair_id"], one["group"], one["prompt"]["text"]) == (pair.id, pair.group, pair.prompt_text)
    assert one["disparity"] == -1.0


def test_the_random_examples_are_seeded_and_n_is_kept(study: tuple[Pairs, Features]) -> None:
    draws = [trace(finding(), *study, disparities=disparity(study[0]), n=2, seed=seed) for seed in (0, 0, 1, 2, 3)]
    rows = [[one["row"] for one in found["random"]] for found in draws]
    assert rows[0] == rows[1]
    assert len({tuple(row) for row in rows}) > 1
    assert all(len(found[side]) == 2 for found in draws for side in ("for", "against", "random"))


def test_disparities_are_read_from_the_study(study: tuple[Pairs, Features], tmp_path: Path) -> None:
    ids = study[1].pair_ids
    write_disparities(tmp_path / "hypotheses.parquet", ids, {"G1": np.array([DISPARITY[i] for i in range(len(ids))])})
    assert trace(finding(), *study, disparities=tmp_path) == trace(finding(), *study, disparities=disparity(study[0]))


def test_a_hypothesis_of_other_pairs_is_refused(study: tuple[Pairs, Features]) -> None:
    with pytest.raises(ProductError, match="not in these features"):
        trace(finding(), *study, disparities={"f" * 16: 1.0})
    with pytest.raises(UsageError):
        trace(finding(), *study, disparities={}, n=0)


def test_a_hypothesis_without_pairs_at_stake_has_no_examples(study: tuple[Pairs, Features]) -> None:
    found = trace(finding(), *study, disparities={study[0].rows[3].id: 0.0})
    assert found == {"for": [], "against": [], "random": [], "n_for": 0, "n_against": 0}


def test_long_texts_are_cut_around_the_marks_and_every_cut_is_counted() -> None:
    text = "".join(f"{i:05d} " for i in range(5000))
    at = [text.index("02000"), text.index("04000")]
    shown = mark_text(text, [(at[0], at[0] + 5, 0.5), (at[1], at[1] + 5, 1.0)])
    assert [shown["text"][start:end] for start, end, _ in shown["marks"]] == ["02000", "04000"]
    said = [int(n.replace(",", "")) for n in re.findall(r"\[… ([\d,]+) characters left out …\]", shown["text"])]
    assert sum(said) == shown["n_cut_chars"]
    kept = re.sub(r" \[… [\d,]+ characters left out …\] ", "", shown["text"])
    assert len(kept) == len(text) - shown["n_cut_chars"]
    assert len(kept) < 2400


def test_a_long_text_without_marks_shows_its_head_and_says_what_is_missing() -> None:
    shown = mark_text("x" * 10_000, [])
    assert shown["n_cut_chars"] == 7600
    assert shown["text"].endswith("[… 7,600 characters left out …] ")


def test_a_text_with_more_marks_than_fit_shows_the_strongest() -> None:
    marks = [(i * 1000, i * 1000 + 5, 1.0 if i == 40 else 0.1) for i in range(50)]
    shown = mark_text("y" * 50_000, marks)
    assert 1.0 in [strength for _, _, strength in shown["marks"]]
    assert shown["n_cut_chars"] >= 50_000 - 2400


def test_a_short_text_is_shown_whole() -> None:
    assert mark_text("a bold b", [(2, 6, 0.5)]) == {"text": "a bold b", "marks": [[2, 6, 0.5]], "n_cut_chars": 0}
    assert mark_text("", []) == {"text": "", "marks": [], "n_cut_chars": 0}


def test_of_equal_pairs_those_come_first_whose_wording_tells_the_sides_apart() -> None:
    planted = [(f"p{n}", f"so. More than {n} ways. {'word ' * 30}", "no") for n in range(6)]
    real = [(f"r{n}", "less than it", "no") if n % 2 else (f"r{n}", "no", "less than it") for n in range(12)]
    once = [("o", "better than", "no")]
    pairs = make_pairs([*planted, *real, *once])
    values = {pair.id: 1.0 if "than" in pair.chosen else -1.0 for pair in pairs.rows}
    row = {"id": "g", "direction": "more", "concept": {"id": "B-comparison", "latents": [], "rule": "comparison"}}
    features = SimpleNamespace(pair_ids=tuple(values))
    found = trace(row, pairs, features, disparities=values, n=20)  # type: ignore[arg-type]
    assert [one["row"] for one in found["for"]][:6] == [1, 2, 3, 4, 5, 6]
    assert found["wordings"] == [
        {"text": "more than", "n_for": 6, "n_against": 0},
        {"text": "less than", "n_for": 6, "n_against": 6},
    ]
    turned = trace(row | {"direction": "less"}, pairs, features, disparities=values, n=20)  # type: ignore[arg-type]
    assert turned["wordings"][0] == {"text": "more than", "n_for": 0, "n_against": 6}
    assert [one["row"] for one in turned["against"]][:6] == [1, 2, 3, 4, 5, 6]
    words = {"id": "g", "direction": "more", "concept": {"id": "W-than", "latents": [], "rule": "says:than"}}
    assert "wordings" not in trace(words, pairs, features, disparities=values)  # type: ignore[arg-type]
