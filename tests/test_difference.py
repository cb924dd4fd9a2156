"""What new data teach that the old did not: planted changes are found, unchanged data change nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from double import DoubleScope, make_pairs, read_double
from tiltscope.artifact import read_json, write_json
from tiltscope.cells import ContrastSettings
from tiltscope.difference import diff_studies, render_diff
from tiltscope.errors import ProductError, StaleProductError
from tiltscope.features import read_features
from tiltscope.pairs import Pairs, save_pairs
from tiltscope.report.text import width_of
from tiltscope.study import open_study, run_contrast

LATENTS = ["bold", "dash", "plain", "rare"]
SETTINGS = ContrastSettings(n_draws=20, words_share=1.0)  # latents here are words: without the words themselves


def rows(n: int, *, first: int = 0, **leans: float) -> list[tuple[str, str, str]]:
    """Each word is at stake in two of three pairs; `leans` says how often the chosen side has it (.5 if not named)."""
    out = []
    for number in range(first, first + n):
        rng = np.random.default_rng(number)
        sides: list[list[str]] = [["one", "two", "three"], ["one", "two", "three"]]
        for word in LATENTS[:3]:
            draws = rng.random(2)
            if draws[0] < 2 / 3:
                sides[int(draws[1] >= leans.get(word, 0.5))].append(word)
        out.append((f"question {number}", " ".join(sides[0]), " ".join(sides[1])))
    return out


def study(folder: Path, pairs: Pairs) -> Path:
    folder.mkdir(parents=True)
    pairs = replace(pairs, fingerprint=save_fingerprint(pairs))
    save_pairs(pairs, folder)
    read_double(pairs, LATENTS, folder / "features")
    run_contrast(open_study(folder), SETTINGS, progress=lambda stage, done, total: None)
    return folder


def save_fingerprint(pairs: Pairs) -> str:
    from tiltscope.pairs import pairs_fingerprint

    return pairs_fingerprint(pairs.rows)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bold leans to the chosen side, dash away from it."""
    return study(tmp_path_factory.mktemp("old") / "v1", make_pairs(rows(400, bold=0.85, dash=0.2)))


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dash turned round, plain newly leans, bold is as it was."""
    return study(tmp_path_factory.mktemp("new") / "v2", make_pairs(rows(400, bold=0.85, dash=0.8, plain=0.9)))


def by_concept(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    every = [*found["findings"], *found["unchanged"]]
    return {one["concept"]["id"]: one for one in every if one["view"] == "global"}


def test_a_study_compared_with_itself_changed_nothing(old: Path) -> None:
    found = diff_studies(old, old)
    assert found["rows"]["n_added"] == found["rows"]["n_removed"] == 0
    assert found["findings"] == []
    assert {one["state"] for one in found["unchanged"]} == {"still"}
    assert found["settings"] == {}
    assert "No finding changed" in render_diff(found)
    for one in by_concept(found).values():
        assert (one["change"]["effect"], one["change"]["ci_low"], one["change"]["ci_high"]) == (0, 0, 0)


def test_new_turned_and_lasting_findings_are_told_apart(old: Path, new: Path) -> None:
    found = by_concept(diff_studies(old, new))
    assert {name: one["state"] for name, one in found.items()} == {"L0": "still", "L1": "turned", "L2": "new"}
    assert found["L2"]["change"]["ci_low"] > 0
    assert found["L1"]["change"]["ci_low"] > 0
    assert found["L0"]["change"]["ci_low"] <= 0 <= found["L0"]["change"]["ci_high"]


def test_the_other_way_round_the_new_finding_is_gone(old: Path, new: Path) -> None:
    there, back = by_concept(diff_studies(old, new)), by_concept(diff_studies(new, old))
    assert back["L2"]["state"] == "gone"
    assert back["L2"]["change"]["effect"] == pytest.approx(-there["L2"]["change"]["effect"])
    assert back["L2"]["effect_a"]["effect"] == pytest.approx(there["L2"]["effect_b"]["effect"])


def test_the_effects_are_those_of_the_two_studies(old: Path, new: Path) -> None:
    found = by_concept(diff_studies(old, new))["L0"]
    for folder, key in ((old, "effect_a"), (new, "effect_b")):
        row = next(one for one in read_json(folder / "hypotheses.json", verb="contrast") if one["id"] == "g-L0")
        assert found[key]["effect"] == pytest.approx(row["effect"], rel=1e-6)
        assert found[key]["ci_low"] == pytest.approx(row["ci_low"], rel=1e-6)


def test_shared_pairs_make_the_change_more_certain_than_fresh_ones(old: Path, tmp_path: Path) -> None:
    base = rows(400, bold=0.85, dash=0.2)
    fewer = study(tmp_path / "fewer", make_pairs(base[:360]))
    strangers = make_pairs(rows(360, first=1000, bold=0.85, dash=0.2))
    fresh = tuple(replace(one, id=f"f{one.id[1:]}") for one in strangers.rows)
    other = study(tmp_path / "other", replace(strangers, rows=fresh))

    def width(folder: Path) -> float:
        change = by_concept(diff_studies(old, folder))["L0"]["change"]
        return float(change["ci_high"] - change["ci_low"])

    assert width(fewer) < width(other) / 2
    assert diff_studies(old, other)["rows"]["n_shared"] == 0


def test_the_interval_of_a_change_holds_the_truth_as_often_as_it_says() -> None:
    """Overlapping halves drawn from one truth: the change is nought, and 95 % of intervals must hold it."""
    from tiltscope import stats

    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        u = rng.choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.4, 0.5])
        first, second = np.arange(200), np.arange(100, 300)  # a hundred pairs are in both
        design = np.column_stack([np.ones(400), np.repeat([0.0, 1.0], 200)])
        groups = np.concatenate([first, second])
        change = stats.RegressionCR2(design, stats.Clusters.of(groups), 1).fit(u[groups])
        bounds = change.interval(0.95)
        held += bool(bounds.low <= 0 <= bounds.high)
    assert 0.92 <= held / 300 <= 0.98


def test_added_and_removed_rows_are_counted_and_named(old: Path, tmp_path: Path) -> None:
    base = make_pairs(rows(400, bold=0.85, dash=0.2))
    later = study(tmp_path / "later", replace(base, rows=base.rows[30:]))
    found = diff_studies(old, later)["rows"]
    assert (found["n_shared"], found["n_added"], found["n_removed"]) == (370, 0, 30)
    assert found["removed"] == [pair.id for pair in base.rows[:20]]


def test_studies_of_different_scopes_are_refused_with_the_way_out(old: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    pairs = make_pairs(rows(400, bold=0.85))
    study(folder, pairs)
    pairs = replace(pairs, fingerprint=save_fingerprint(pairs))
    features = read_features(pairs, DoubleScope(LATENTS, fingerprint="another"), folder / "features")
    with pytest.raises(StaleProductError, match="made from other features"):
        diff_studies(old, folder)
    record = read_json(folder / "contrast.json", verb="contrast")
    record["inputs"]["features"] = features.fingerprint
    write_json(folder / "contrast.json", record)
    with pytest.raises(StaleProductError, match=r"--sae .*v1/scope"):
        diff_studies(old, folder)


def test_a_missing_product_names_the_verb(old: Path, tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="tiltscope contrast"):
        diff_studies(old, tmp_path)


def test_a_region_without_counterpart_is_not_compared(old: Path, new: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(new, tmp_path / "v3")
    body = read_json(folder / "hypotheses.json", verb="contrast")
    place = {"id": "K9", "name": "", "top_tokens": [], "n_pairs": 30}
    body.append({**body[0], "id": "r-K9-L0", "view": "region", "estimand": "delta", "region": place, "confirmed": True})
    body[-1]["family"] = "r-K9-L0"
    write_json(folder / "hypotheses.json", body)
    one = next(one for one in diff_studies(old, folder)["findings"] if one["id"] == "r-K9-L0")
    assert (one["state"], one["change"]) == ("new", None)
    assert "not comparable" in one["how"]


def test_the_terminal_form_fits_and_says_what_is_not_told_from_chance(old: Path, new: Path) -> None:
    text = render_diff(diff_studies(old, new))
    assert max(width_of(line) for line in text.splitlines()) <= 80
    assert "newly confirmed: 1 of 1" in text
    assert "not told from chance" in text


def test_a_limit_is_announced(old: Path, new: Path) -> None:
    found = diff_studies(old, new)
    found["findings"] = [one | {"state": "new"} for one in found["findings"]]
    assert f"newly confirmed: 1 of {len(found['findings'])}" in render_diff(found, limit=1)


def test_a_lean_that_grew_is_stronger_and_the_other_way_round_weaker(old: Path, tmp_path: Path) -> None:
    louder = study(tmp_path / "louder", make_pairs(rows(400, bold=0.99, dash=0.2)))
    assert by_concept(diff_studies(old, louder))["L0"]["state"] == "stronger"
    assert by_concept(diff_studies(louder, old))["L0"]["state"] == "weaker"
    assert by_concept(diff_studies(old, louder))["L1"]["state"] == "still"


def test_the_added_rows_that_carry_a_new_finding_are_counted(old: Path, tmp_path: Path) -> None:
    base, added = rows(400, bold=0.85, dash=0.2), rows(400, first=400, bold=0.85, dash=0.2, plain=0.95)
    found = diff_studies(old, study(tmp_path / "more", make_pairs([*base, *added])))
    carried = by_concept(found)["L2"]["carried_by"]
    has = [("plain" in one[1].split()) > ("plain" in one[2].split()) for one in (*base, *added)]
    assert carried == {"n_pairs": sum(has), "n_added": sum(has[400:])}
    assert by_concept(found)["L2"]["state"] == "new"
    text = render_diff(found)
    assert f"{sum(has[400:])} of the {sum(has)} pairs" in " ".join(text.split())


def copied(study_folder: Path, to: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Path:
    """A copy of a study in which hypotheses.json is changed."""
    shutil.copytree(study_folder, to)
    write_json(to / "hypotheses.json", change(read_json(to / "hypotheses.json", verb="contrast")))
    return to


def test_a_family_with_another_spokesman_is_not_both_new_and_gone(old: Path, tmp_path: Path) -> None:
    def together(head: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
        return lambda body: [{**one, "family": head} if one["confirmed"] else one for one in body]

    one, two = copied(old, tmp_path / "a", together("g-L0")), copied(old, tmp_path / "b", together("g-L1"))
    found = diff_studies(one, two)
    assert (found["findings"], [row["id"] for row in found["unchanged"]]) == ([], ["g-L1"])


def test_renumbered_concepts_are_matched_by_their_latents(old: Path, tmp_path: Path) -> None:
    def renumbered(body: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**one, "id": f"g-C{n}", "family": f"g-C{n}", "concept": {**one["concept"], "id": f"C{n}"}}
            for n, one in enumerate(body)
        ]

    found = diff_studies(old, copied(old, tmp_path / "b", renumbered))
    assert found["findings"] == []
    assert all(one["in_a"] != one["in_b"] for one in found["unchanged"])


def test_settings_that_differ_are_said(old: Path, tmp_path: Path) -> None:
    other = copied(old, tmp_path / "b", list)
    record = read_json(other / "contrast.json", verb="contrast")
    record["settings"]["q"] = 0.05
    write_json(other / "contrast.json", record)
    found = diff_studies(old, other)
    assert found["settings"] == {"q": {"a": 0.1, "b": 0.05}}
    assert "q is 0.1 in A and 0.05 in B" in render_diff(found)


def test_hostile_names_are_written_out(old: Path, tmp_path: Path) -> None:
    name = "<b>\u202etxet\u202c \x1b[31mred"

    def named(body: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**one, "concept": {**one["concept"], "name": name, "named_by": "endpoint"}} for one in body]

    text = render_diff(diff_studies(old, copied(old, tmp_path / "b", named)))
    assert "⟨U+202E⟩" in text
    assert not any(char in text for char in "\u202e\x1b")
