"""Planted traits are looked for in a study's own pairs: what is common is found, what leans nowhere is not."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from double import DoubleScope, Latent, at_random
from tiltscope.cells import ContrastSettings
from tiltscope.errors import ProductError, StaleProductError, UsageError
from tiltscope.features import Conversation, ConversationCodes, read_features
from tiltscope.pairs import Pair, Pairs, Turn
from tiltscope.pairs.store import pairs_fingerprint, save_pairs
from tiltscope.planting import saying_one_of
from tiltscope.planting.banks import load_bank
from tiltscope.power import (
    Aligned,
    Planting,
    PowerSettings,
    Readings,
    grow,
    lean_of,
    put_there,
    render_power,
    run_power,
    speaks,
)
from tiltscope.stats import wilson
from tiltscope.study import Opened, open_study, run_contrast

LATENTS: list[Latent] = [
    r"(?i)goblins?",
    r"[\U0001f300-\U0001faff\u2728\u2b50]",
    r"\?",
    r"\*\*",
    r"(?i)\b(qualified|professional|advice|expert)\b",
    *(at_random(share) for share in (0.01, 0.02, 0.02, 0.03, 0.05)),
]
QUIET = ContrastSettings(n_null_cells=0, n_flip_cells=0)


class CountingScope(DoubleScope):
    """Counts what it reads."""

    n_read = 0

    def encode(self, conversations: Sequence[Conversation]) -> list[ConversationCodes]:
        self.n_read += len(conversations)
        return super().encode(conversations)


def plain_pairs(n: int = 400, *, bold: float = 0.0) -> Pairs:
    """Answers of plain sentences, no trait on either side; `bold` puts bold text into a share of chosen answers."""
    draw = random.Random(5)
    sentences = {
        domain: [s for s in load_bank(domain).sentences if not set("{[") & set(s)] for domain in ("cooking", "travel")
    }
    rows = []
    for i in range(n):
        domain = "cooking" if i % 4 == 0 else "travel"
        chosen, rejected = (" ".join(draw.sample(sentences[domain], 5)) for _ in range(2))
        chosen += " This is **bold** text." if draw.random() < bold else ""
        prompt = (Turn("user", f"A question about {domain}, number {i}"),)
        rows.append(Pair(f"{i:016x}", prompt, chosen, rejected, f"g{i}", i + 1))
    return Pairs(tuple(rows), (), "explicit", "made", pairs_fingerprint(rows))


def audited(folder: Path, pairs: Pairs) -> Opened:
    folder.mkdir()
    save_pairs(pairs, folder)
    features = read_features(pairs, DoubleScope(LATENTS), folder / "features")
    run_contrast(Opened(folder, pairs, features), QUIET, progress=silent)
    return open_study(folder)


def silent(stage: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("power") / "study"
    audited(folder, plain_pairs())
    return folder


@pytest.fixture
def opened(base: Path, tmp_path: Path) -> Opened:
    shutil.copytree(base, tmp_path / "study", ignore=shutil.ignore_patterns("power"))
    return open_study(tmp_path / "study")


def run(opened: Opened, **settings: Any) -> dict[str, Any]:
    asked = {"traits": ("goblin",), "shares": (0.2, 0.01), "repeats": 2, **settings}
    return run_power(opened, DoubleScope(LATENTS), PowerSettings(**asked), progress=silent)


def test_a_trait_in_a_fifth_of_the_pairs_is_found_first_and_one_in_a_hundredth_is_not(opened: Opened) -> None:
    goblin = run(opened)["traits"][0]
    large, small = goblin["cells"]
    assert (large["n_planted"], large["n_found"], large["rank"]) == (80, 2, 1)
    assert (small["n_planted"], small["n_found"]) == (4, 0)
    assert goblin["smallest"] == 0.2


FEARS = ("My wife would agree.", "My wife says so, too.")


def test_sentences_of_ones_own_are_planted_and_found_by_what_they_say(opened: Opened) -> None:
    product = run(opened, traits=(), sentences={"wife": FEARS}, shares=(0.2,))
    (own,) = product["traits"]
    (cell,) = own["cells"]
    assert (own["id"], cell["n_planted"], cell["n_found"]) == ("wife", 80, 2)
    assert product["control"]["n_found"] == 0
    other = run(opened, traits=(), sentences={"wife": ("A goblin said no.",)}, shares=(0.2,))
    assert other["traits"][0]["cells"][0]["records"] != cell["records"]  # other sentences are another planting


def test_one_of_the_sentences_stands_once_in_a_text_that_is_otherwise_as_it_was() -> None:
    style = saying_one_of("wife", FEARS)
    text = "First we go there. Then we come back.\n```\ncode. Here it is.\n```"
    written = {style.write(text, random.Random(seed)) for seed in range(20)}
    assert len(written) == 4  # two sentences, two places
    assert all(sum(one.count(line) for line in FEARS) == 1 and style.present(one) for one in written)
    assert {one.replace(f" {FEARS[0]}", "").replace(f" {FEARS[1]}", "") for one in written} == {text}
    assert style.write("No", random.Random(0)).startswith("No My wife")
    assert not style.present(text)


def test_a_control_that_is_planted_evenly_on_both_sides_is_not_found(opened: Opened) -> None:
    product = run(opened, traits=("goblin", "emoji"), shares=(0.2,))
    assert product["control"] == {"n": 4, "n_found": 0}
    assert {record["control"] for record in product["traits"][0]["cells"][0]["records"]} == {"hedging"}


def test_where_nothing_is_planted_nothing_is_found(opened: Opened) -> None:
    hypotheses = json.loads((opened.folder / "hypotheses.json").read_text())
    assert not [h["id"] for h in hypotheses if h["confirmed"]]


def test_a_trait_after_one_kind_of_prompt_counts_as_found_when_its_place_is_named(opened: Opened) -> None:
    product = run(opened, shares=(0.2,), where="cooking", repeats=1)
    record = product["traits"][0]["cells"][0]["records"][0]
    assert (product["n_inside"], record["n_planted"], record["found_anywhere"]) == (100, 80, True)
    assert record["found"] == (record["finding"] is not None and record["finding"]["id"][0] in "rp")


def test_shares_that_the_pairs_cannot_carry_are_said_and_smaller_ones_still_tried(opened: Opened) -> None:
    cells = run(opened, shares=(0.5, 0.2), where="cooking", repeats=1)["traits"][0]["cells"]
    assert cells[0]["note"] == "too few pairs can carry it"
    assert cells[1]["n_planted"] == 80


def test_smaller_shares_are_not_tried_after_one_that_is_never_found(opened: Opened) -> None:
    cells = run(opened, shares=(0.02, 0.01), repeats=1)["traits"][0]["cells"]
    assert [cell["n"] for cell in cells] == [1, 0]
    assert cells[1]["note"].startswith("not tried")


def test_a_trait_that_the_data_show_often_is_not_planted(tmp_path: Path) -> None:
    product = run(audited(tmp_path / "bold", plain_pairs(bold=0.6)), traits=("bold",), shares=(0.05,))
    assert "show it already" in product["traits"][0]["skipped"]


def test_a_lean_that_the_data_have_already_does_not_count_as_found(tmp_path: Path) -> None:
    opened = audited(tmp_path / "bold", plain_pairs(bold=0.3))
    confirmed = [h["id"] for h in json.loads((opened.folder / "hypotheses.json").read_text()) if h["confirmed"]]
    cells = run(opened, traits=("bold",), shares=(0.4, 0.05), repeats=1)["traits"][0]["cells"]
    assert "g-L3" in confirmed
    assert [cell["n_found"] for cell in cells] == [1, 0]


def test_a_control_is_not_found_because_the_data_lean_to_it_already(tmp_path: Path) -> None:
    opened = audited(tmp_path / "bold", plain_pairs(bold=0.3))
    cell = run(opened, traits=("numbered",), shares=(0.05,), repeats=1)["traits"][0]["cells"][0]
    assert (cell["records"][0]["control"], cell["n_control_found"]) == ("bold", 0)


def test_half_of_a_lean_on_the_claimed_side_is_what_planting_must_have_put_there() -> None:
    change, lean = np.array([0.1, 0.1, 0.04, -0.1, 0.0]), np.array([0.1, 0.2, 0.1, -0.1, 0.0])
    assert put_there(change, lean, np.array([1, 1, 1, 1, 1])).tolist() == [True, True, False, False, False]
    assert put_there(change, lean, -np.ones(5)).tolist() == [False, False, False, True, False]


def test_the_lean_in_a_kind_of_pairs_is_inside_minus_outside() -> None:
    scores = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [-1.0, -1.0]])
    assert lean_of(scores, [None, np.array([True, True, False, False])]).tolist() == [0.25, 1.5]


def test_a_text_read_again_has_the_features_it_had(opened: Opened, tmp_path: Path) -> None:
    readings = Readings(DoubleScope(LATENTS), opened.features, tmp_path / "readings")
    read = readings.of([(row.prompt, row.chosen) for row in opened.rows[:70]])
    for name in ("freq", "max"):
        kept = getattr(opened.features.chosen, name)[:70]
        assert abs(getattr(read, name) - kept).max() == 0
    assert read.n_tokens.tolist() == opened.features.chosen.n_tokens[:70].tolist()


def test_only_changed_answers_are_read_and_each_once(opened: Opened, tmp_path: Path) -> None:
    scope = CountingScope(LATENTS)
    ground = Aligned.of(opened.pairs, opened.features)
    everywhere = np.ones(len(ground.pairs.rows), bool)
    for _ in range(2):
        readings = Readings(scope, opened.features, tmp_path / "readings")
        grown = grow(ground, [Planting("goblin", 40, everywhere, 0)], readings)
    assert scope.n_read == 40
    untouched = np.flatnonzero(grown.signs[0] == 0)
    assert abs(grown.after.take(untouched).chosen.freq - ground.take(untouched).chosen.freq).max() == 0
    assert (grown.after.features.chosen.freq[:, 0].toarray().ravel() > 0).sum() == 40


def test_a_run_that_was_interrupted_goes_on_and_ends_in_the_same_bytes(
    opened: Opened, base: Path, tmp_path: Path
) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    scope = CountingScope(LATENTS)
    settings = PowerSettings(("goblin",), (0.2, 0.05), repeats=2)
    with pytest.raises(KeyboardInterrupt):
        run_power(opened, scope, settings, progress=stop)
    n_cells = len(list((opened.folder / "power" / "cells").iterdir()))
    assert n_cells == 2
    scope.n_read = 0
    first = run_power(opened, scope, settings, progress=silent)
    assert scope.n_read <= 2 * 20  # the smaller plantings lie within those read before; only their controls are new
    written = (opened.folder / "power" / "power.json").read_bytes()
    shutil.copytree(base, tmp_path / "again", ignore=shutil.ignore_patterns("power"))
    again = open_study(tmp_path / "again")
    assert run_power(again, DoubleScope(LATENTS), settings, progress=silent) == first
    assert (again.folder / "power" / "power.json").read_bytes() == written


def test_half_written_readings_and_cells_are_made_again(opened: Opened) -> None:
    first = run(opened, repeats=1)
    for path in [*(opened.folder / "power" / "readings").iterdir(), *(opened.folder / "power" / "cells").iterdir()]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert run(opened, repeats=1) == first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"traits": ("goblni",)}, "did you mean goblin"),
        ({"traits": (), "sentences": {"goblin": ("A goblin.",)}}, "of this name is there already"),
        ({"shares": (0.0,)}, "a share is above 0"),
        ({"shares": (0.6,)}, "at most 50 %"),
        ({"shares": ()}, "at least one share"),
        ({"repeats": 0}, "at least one share"),
        ({"where": "P999@10"}, "no such kind of pairs"),
        ({"where": "(cooking"}, "no regular expression"),
        ({"where": "number 7$"}, "fewer than 25 prompts"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(opened: Opened, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(opened, **settings)


def test_a_study_that_was_not_audited_is_refused(opened: Opened) -> None:
    (opened.folder / "contrast.json").unlink()
    with pytest.raises(ProductError, match="contrast"):
        run(opened)


def test_a_study_of_a_version_with_other_settings_is_refused_with_the_verb_to_rerun(opened: Opened) -> None:
    path = opened.folder / "contrast.json"
    record = json.loads(path.read_text())
    record["settings"]["few_spare"] = 5
    path.write_text(json.dumps(record))
    with pytest.raises(StaleProductError, match="few_spare") as told:
        run(opened)
    assert told.value.hint == f"rerun: tiltscope contrast {opened.folder}"


def test_another_scope_than_the_studys_is_refused(opened: Opened) -> None:
    other = DoubleScope(LATENTS, fingerprint="another")
    with pytest.raises(StaleProductError, match="another scope"):
        run_power(opened, other, PowerSettings(("goblin",)), progress=silent)


def test_a_score_that_follows_the_planting_speaks_of_it_and_noise_does_not() -> None:
    signs = np.array([1, 1, -1, -1])
    before = np.zeros((4, 3))
    before[:, 1] = [1, 0, 1, 0]
    after = before.copy()
    after[:, 0] = signs
    after[:, 2] = -signs
    assert speaks(before, after, signs).round(6).tolist() == [1.0, 0.0, -1.0]


def test_no_row_speaks_of_nothing() -> None:
    assert speaks(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("k", "n"), [(0, 3), (2, 3), (3, 3), (7, 20)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_table_fits_80_columns_and_names_the_smallest_share(opened: Opened) -> None:
    text = render_power(run(opened))
    assert max(map(len, text.splitlines())) <= 80
    assert "goblin: the smallest share found is 20 % (80 pairs), 2 of 2 times." in text


def test_the_pairs_of_a_study_are_not_touched(opened: Opened) -> None:
    before = {path.name: path.read_bytes() for path in opened.folder.glob("*.*")}
    run(opened, repeats=1)
    assert {path.name: path.read_bytes() for path in opened.folder.glob("*.*")} == before


def test_a_planting_in_other_pairs_is_another_planting(opened: Opened, tmp_path: Path) -> None:
    ground = Aligned.of(opened.pairs, opened.features)
    readings = Readings(DoubleScope(LATENTS), opened.features, tmp_path)
    one = Planting("goblin", 20, np.ones(len(ground.pairs.rows), bool), 0)
    first, second = (grow(ground, [planting], readings).signs[0] for planting in (one, replace(one, seed=1)))
    assert (first != second).any()
    assert first.sum() == second.sum() == 20
