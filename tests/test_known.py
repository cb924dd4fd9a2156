"""Behaviours counted by rule stand beside the latents: what they count, what they find, and what they must not."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from double import make_pairs, read_double
from made_features import made
from tiltscope.artifact import write_json
from tiltscope.behaviours import RULES
from tiltscope.cells import ContrastSettings
from tiltscope.concepts import Concept
from tiltscope.contrast import Contrast, contrast, write_contrast
from tiltscope.difference import diff_studies
from tiltscope.hypotheses import plain, read_hypotheses
from tiltscope.known import TIMES, behaviour_concepts, behaviour_measures, measured, often_concepts
from tiltscope.naming import Data, tell
from tiltscope.pairs import Pairs, save_pairs
from tiltscope.plan import write_draft
from tiltscope.screening import disparity
from tiltscope.study import open_study, run_contrast
from tiltscope.trace import trace

QUICK = ContrastSettings(n_null_cells=0, n_flip_cells=0)
BOLD = Concept("B-bold", (), "bold text", "library", rule="bold")


def texts(n: int, shows: dict[str, tuple[float, float]], seed: int = 0) -> list[tuple[str, str]]:
    """Answers in which each mark stands with these chances, in the chosen and in the rejected one."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(n):
        sides = [["plain words"], ["plain words"]]
        for mark, chances in shows.items():
            for side, chance in zip(sides, chances, strict=True):
                side += [mark] if rng.random() < chance else []
        pairs.append((" ".join(sides[0]), " ".join(sides[1])))
    return pairs


def with_texts(pairs: Pairs, answers: list[tuple[str, str]]) -> Pairs:
    rows = (replace(row, chosen=a, rejected=b) for row, (a, b) in zip(pairs.rows, answers, strict=True))
    return replace(pairs, rows=tuple(rows))


# --- what is counted --------------------------------------------------------------------------------------------------


def test_every_rule_of_the_library_is_a_concept_without_latents() -> None:
    concepts = behaviour_concepts()
    assert [one.rule for one in concepts] == [one.id for one in RULES]
    assert {one.latents for one in concepts} == {()}


def test_u_is_which_side_shows_it_and_swapping_sides_turns_it() -> None:
    rows = make_pairs([("q", "**b**", "b"), ("q", "b", "**b** 😀"), ("q", "**b**", "**c**"), ("q", "b", "c")]).rows
    bold = behaviour_measures(rows, [BOLD])
    assert bold.u.toarray()[:, 0].tolist() == [1, -1, 0, 0]
    assert bold.a.toarray()[:, 0].tolist() == [1, 1, 0, 0]
    swapped = behaviour_measures([replace(row, chosen=row.rejected, rejected=row.chosen) for row in rows], [BOLD])
    assert (swapped.u.toarray() == -bold.u.toarray()).all()


def test_latents_and_behaviours_are_measured_in_the_order_asked_for(tmp_path: Path) -> None:
    pairs = make_pairs([("q", "**b** dragon", "b"), ("q", "b", "dragon")])
    features = read_double(pairs, ["dragon"], tmp_path)
    latent = Concept("L0", (0,))
    both = measured(features, pairs.rows, [BOLD, latent])
    assert [one.id for one in both.concepts] == ["B-bold", "L0"]
    assert both.u.toarray()[:, 0].tolist() == [1, 0]
    assert both.u.toarray()[:, 1].tolist() == disparity(features, [latent]).u.toarray()[:, 0].tolist() == [1, -1]


def test_how_often_is_often_depends_on_the_answers_and_not_on_which_was_chosen() -> None:
    marks = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 4, 9]  # of 12 answers 8 show it, 4 twice or more, 2 three times or more
    rows = make_pairs([("q", "**b** " * a, "**b** " * b) for a, b in zip(marks[::2], marks[1::2], strict=True)]).rows
    (found,) = (one for one in often_concepts(rows) if one.rule.endswith(":bold"))
    assert (found.id, found.rule, found.name) == ("N-bold-3", "often:3:bold", "bold text, 3 times or more")
    swapped = [replace(row, chosen=row.rejected, rejected=row.chosen) for row in rows]
    assert often_concepts(swapped) == often_concepts(rows)
    u = behaviour_measures(rows, [BOLD, found]).u.toarray()
    assert u[:, 0].tolist() == [0, 0, 0, 0, 0, 0]
    assert u[:, 1].tolist() == [0, 0, 0, 0, 0, 0]
    assert behaviour_measures(make_pairs([("q", "**b** " * 3, "**b**")]).rows, [found]).u.toarray().tolist() == [[1]]
    once = make_pairs([("q", "**b**", "b")]).rows
    assert not [one for one in often_concepts(once) if one.rule.endswith(":bold")]
    assert TIMES[0] == 2


# --- what is found, and what is not -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted() -> tuple[Contrast, Pairs]:
    """No latent leans. Emoji lean in 4 % of pairs; bold text is everywhere and leans nowhere."""
    pairs, features = made(800, lean=0.5, tied=0.5, seed=21)
    pairs = with_texts(pairs, texts(800, {"😀": (0.04, 0.0), "**b**": (0.5, 0.5)}, seed=1))
    return contrast(pairs, features, QUICK), pairs


def test_a_behaviour_that_no_latent_shows_is_found_at_four_percent(planted: tuple[Contrast, Pairs]) -> None:
    found = [h for h in planted[0].hypotheses if h.confirmed and h.view == "global"]
    assert {h.concept.id for h in found if not h.concept.is_phrase} <= {"B-emoji", "B-non_ascii"}
    assert {h.family for h in found} == {"g-B-emoji"}  # the words that it comes with say the same
    (emoji,) = (h for h in found if h.concept.rule == "emoji")
    assert (emoji.direction, emoji.estimand) == ("more", "tau")
    assert emoji.effect == pytest.approx(np.mean(["😀" in row.chosen for row in planted[1].rows]))


def test_a_behaviour_as_common_on_both_sides_is_not_found(planted: tuple[Contrast, Pairs]) -> None:
    (bold,) = (h for h in planted[0].hypotheses if h.concept.rule == "bold" and h.view == "global")
    assert not bold.confirmed
    assert bold.verdict == "not confirmed"  # told nevertheless: a limit of the gate may ask for it


def much(n: int, chances: tuple[float, float], *, longer: bool, seed: int) -> list[tuple[str, str]]:
    """Every answer has an exclamation mark; with these chances, chosen and rejected, four, and `longer` all of it."""
    rng = np.random.default_rng(seed)
    words = [f"word{i} other{i}" for i in range(8)]

    def answer(chance: float) -> str:
        many = rng.random() < chance
        some = [words[i] for i in rng.integers(0, 8, 12 if many and longer else 4)]
        return " ".join(f"{one}!" if at == 0 or (many and at < 4) else one for at, one in enumerate(some))

    return [(answer(chances[0]), answer(chances[1])) for _ in range(n)]


@pytest.mark.parametrize(("chances", "longer", "found"), [((0.3, 0.1), False, True), ((0.2, 0.2), False, False)])
def test_what_all_answers_show_is_found_where_the_chosen_ones_show_more_of_it(
    chances: tuple[float, float], longer: bool, found: bool
) -> None:
    pairs, features = made(800, lean=0.5, tied=0.5, seed=24)
    result = contrast(with_texts(pairs, much(800, chances, longer=longer, seed=3)), features, QUICK)
    confirmed = {h.concept.id for h in result.hypotheses if h.confirmed and h.view == "global"}
    assert ("N-exclamation-2" in confirmed) == found
    assert "B-exclamation" not in confirmed


def test_more_of_it_because_there_is_more_of_everything_is_not_found() -> None:
    pairs, features = made(800, lean=0.5, tied=0.5, seed=25)
    answers = much(800, (0.3, 0.1), longer=True, seed=4)
    chosen, rejected = (
        replace(side, n_tokens=np.array([len(text.split()) for text in texts]))
        for side, texts in zip((features.chosen, features.rejected), zip(*answers, strict=True), strict=True)
    )
    features = replace(features, chosen=chosen, rejected=rejected)
    result = contrast(with_texts(pairs, answers), features, QUICK)
    assert not [h for h in result.hypotheses if h.confirmed and h.concept.grows_with_length]


def test_a_behaviour_tied_to_one_kind_of_prompt_is_found_there() -> None:
    pairs, features = made(1000, lean=0.5, tied=0.5, seed=22)
    of_topic = np.array([row.prompt_text.split()[1] == "1" for row in pairs.rows])
    rng = np.random.default_rng(2)
    sides = np.where(of_topic, rng.random(1000) < 0.9, rng.random(1000) < 0.5)
    answers = [("**b**", "b") if chosen else ("b", "**b**") for chosen in sides]
    result = contrast(with_texts(pairs, answers), features, QUICK)
    tied = [h for h in result.hypotheses if h.confirmed and h.view == "prompt" and h.concept.rule == "bold"]
    inside = {one.id: one.inside for one in result.regions}[tied[0].region.id]  # type: ignore[union-attr]
    assert 2 * (inside & of_topic).sum() / (inside.sum() + of_topic.sum()) > 0.7
    assert tied[0].direction == "more"


# --- what becomes of it -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bold_study(tmp_path_factory.mktemp("known") / "v1", 0.6)


def bold_study(folder: Path, chance: float) -> Path:
    """Two in five rejected answers are bold, and so many chosen ones; a latent fires on the stars."""
    from tiltscope.pairs import pairs_fingerprint

    folder.mkdir(parents=True)
    answers = texts(400, {"**b**": (chance, 0.4), "and more": (0.5, 0.5)}, seed=4)
    pairs = make_pairs([(f"question {i}", *answer) for i, answer in enumerate(answers)])
    pairs = replace(pairs, fingerprint=pairs_fingerprint(pairs.rows))
    save_pairs(pairs, folder)
    read_double(pairs, [r"\*\*", "more"], folder / "features")
    run_contrast(open_study(folder), QUICK, progress=lambda stage, done, total: None)
    return folder


def test_the_behaviour_speaks_for_the_latents_that_are_named_after_it() -> None:
    pairs, features = made(600, lean=0.8, tied=0.5, seed=23)
    bold = features.chosen.freq[:, [0]].toarray()[:, 0] > 0, features.rejected.freq[:, [0]].toarray()[:, 0] > 0
    answers = [tuple("**b**" if side else "b" for side in pair) for pair in zip(*bold, strict=True)]
    pairs = with_texts(pairs, answers)  # type: ignore[arg-type]
    result = contrast(pairs, features, QUICK)
    names = {"L0": {"name": "bold text", "named_by": "library", "name_score": 0.9, "tokens_name": "", "library": {}}}
    names["L0"]["library"] = {"rule": "bold", "measure": "present"}
    values = {
        one: {id: float(x) for id, x in zip(result.pair_ids, u, strict=True) if x and not np.isnan(x)}
        for one, u in result.disparities.items()
    }
    rows: list[dict[str, Any]] = [plain(asdict(one)) for one in result.hypotheses]
    regions = [
        {"id": r.id, "made_from": r.made_from, "pair_ids": np.array(result.pair_ids)[r.inside].tolist()}
        for r in result.regions
    ]
    told = {row["id"]: row for row in tell(rows, names, regions, values, Data(pairs.rows, features, 0))}
    assert told["g-B-bold"]["confirmed"]
    assert (told["g-B-bold"]["concept"]["name"], told["g-B-bold"]["concept"]["named_by"]) == ("bold text", "library")
    assert told["g-B-bold"]["family"] == told["g-L0"]["family"] == "g-B-bold"


def test_its_trace_marks_what_the_rule_marks(study: Path) -> None:
    opened = open_study(study)
    row = {"id": "g-B-bold", "direction": "more", "concept": {"id": "B-bold", "latents": [], "rule": "bold"}}
    found = trace(row, opened.pairs, opened.features, disparities=study, n=3)
    for example in found["for"]:
        ((start, end, strength),) = example["chosen"]["marks"]
        assert example["chosen"]["text"][start:end] == "**b**"
        assert strength == 1.0
        assert not example["rejected"]["marks"]


def test_its_decision_acts_by_rule_and_two_behaviours_are_two_decisions(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(study, folder)
    rows = read_hypotheses(folder)
    bold = next(row for row in rows if row["id"] == "g-B-bold")
    lean = {"measure": "present", "effect": 0.2, "ci_low": 0.1, "ci_high": 0.3, "holds": True}
    emoji = {**bold, "id": "g-B-emoji", "family": "g-B-emoji", "namesake": {"rule": "emoji", **lean}}
    emoji["concept"] = {**bold["concept"], "id": "B-emoji", "rule": "emoji", "name": "emoji"}
    stars = next(row for row in rows if row["id"] == "g-L0")
    stars["family"] = bold["id"]
    bold["namesake"] = stars["namesake"] = {"rule": "bold", **lean}
    write_json(folder / "hypotheses.json", [*rows, emoji])
    plan = write_draft(folder)
    assert "detector: {kind: rule, rule: bold, by: present}" in plan.read_text()
    assert "detector: {kind: rule, rule: emoji, by: present}" in plan.read_text()
    before, after = plan.read_text().split('hypothesis: "g-B-emoji"')
    plan.write_text(before + 'hypothesis: "g-B-emoji"' + after.replace("action: undecided", "action: suppress", 1))
    again = write_draft(folder, overwrite=True).read_text()
    assert again.count("action: suppress") == 1
    assert 'concept: {id: "B-bold", latents: [0], name: "bold text"}' in again  # to steer along, where a rule cannot
    assert "action: suppress" in again.split('hypothesis: "g-B-emoji"')[1].split("- hypothesis")[0]


def test_a_behaviour_that_leans_more_in_the_new_data_is_said_to(study: Path, tmp_path: Path) -> None:
    new = bold_study(tmp_path / "v2", 0.9)
    changed = {one["id"]: one for one in diff_studies(study, new)["findings"]}
    assert changed["g-B-bold"]["state"] == "stronger"
    assert changed["g-B-bold"]["change"]["effect"] == pytest.approx(0.3, abs=0.1)


def test_no_behaviour_stands_among_the_latents_of_concepts_json(
    planted: tuple[Contrast, Pairs], tmp_path: Path
) -> None:
    write_contrast(planted[0], tmp_path)
    assert "B-" not in (tmp_path / "concepts.json").read_text()
