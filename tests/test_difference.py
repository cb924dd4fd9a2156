"""Two versions of a dataset: what changed is said, what did not is not, and chance is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import made_study
from tiltscope.difference import diff_studies, render_diff
from tiltscope.errors import ProductError, StaleProductError

BOLD = made_study.concept("L812", "bold text", "library", tokens=("**",))


def study(at: Path, rows: list[dict[str, Any]], *, first: int = 0, regions: list[dict[str, Any]] | None = None) -> Path:
    """A study of pairs number `first` and on."""
    made_study.make(at, rows=rows)
    made_study.write_tables(at, rows, first=first)
    concepts = [{"id": row["concept"]["id"], "latents": row["concept"]["latents"]} for row in rows]
    made_study.write(at / "concepts.json", {"concepts": concepts, "regions": regions or []})
    return at


def changes(product: dict[str, Any]) -> dict[str, list[tuple[str | None, str | None]]]:
    """{change: [(id in A, id in B)]} without the empty ones."""
    return {
        name: [tuple(row[side] and row[side]["id"] for side in ("a", "b")) for row in rows]  # type: ignore[misc]
        for name, rows in product["findings"].items()
        if rows
    }


def test_a_study_does_not_differ_from_itself(tmp_path: Path) -> None:
    rows = [made_study.hypothesis("g-L812", BOLD, 0.2), made_study.hypothesis("g-L5", made_study.concept("L5"), -0.1)]
    a, b = study(tmp_path / "a", rows), study(tmp_path / "b", rows)
    product = diff_studies(a, b)
    assert changes(product) == {}
    assert (product["pairs"]["added"]["n"], product["pairs"]["removed"]["n"], product["notes"]) == (0, 0, [])
    assert len(product["unchanged"]) == 2
    assert all(row["difference"]["effect"] == 0 for row in product["unchanged"])
    assert "No finding differs and the pairs are the same." in render_diff(product)


def test_studies_of_two_autoencoders_are_refused_with_the_way_to_read_them_alike(tmp_path: Path) -> None:
    rows = [made_study.hypothesis("g-L812", BOLD, 0.2)]
    a, b = study(tmp_path / "a", rows), study(tmp_path / "b", rows)
    made_study.write(b / "scope" / "scope.json", {"fingerprint": "0ther", "layer": 15})
    with pytest.raises(StaleProductError, match=r"--sae .*a/scope/sae\.safetensors"):
        diff_studies(a, b)


def test_a_finding_of_the_new_data_alone_is_new_and_its_added_rows_are_counted(tmp_path: Path) -> None:
    rows = [made_study.hypothesis("g-L812", BOLD, 0.2)]
    a, b = study(tmp_path / "a", []), study(tmp_path / "b", rows, first=120)
    product = diff_studies(a, b)
    assert changes(product) == {"new": [(None, "g-L812")]}
    (new,) = product["findings"]["new"]
    assert new["difference"] is None
    numbers = range(120, 120 + made_study.N_PAIRS)
    carrying = [n for n in numbers if made_study.draw(n) < 0.25 * (1 + 2 * 0.2)]
    expected = {"n_pairs": len(carrying), "n_added": sum(n >= made_study.N_PAIRS for n in carrying)}
    assert new["carried_by"] == expected
    assert (product["pairs"]["added"]["n"], product["pairs"]["removed"]["n"]) == (120, 120)
    assert product["pairs"]["added"]["first"][0] == {"pair_id": made_study.pair_id(240), "row": 241}


def test_a_verdict_that_changed_by_chance_is_said_to_be_chance(tmp_path: Path) -> None:
    weak = made_study.hypothesis("g-L812", BOLD, 0.19, confirmed=False, verdict="not confirmed", q=0.11)
    a = study(tmp_path / "a", [weak])
    b = study(tmp_path / "b", [made_study.hypothesis("g-L812", BOLD, 0.2)])
    product = diff_studies(a, b)
    assert changes(product) == {"new": [("g-L812", "g-L812")]}
    assert product["findings"]["new"][0]["difference"]["told_from_chance"] is False
    text = render_diff(product)
    assert "not told from chance" in text
    assert "not confirmed; B" in text


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [(0.1, 0.2, "stronger"), (-0.1, -0.2, "stronger"), (0.2, 0.1, "weaker"), (0.2, -0.2, "turned")],
)
def test_a_change_of_effect_is_named(tmp_path: Path, before: float, after: float, said: str) -> None:
    a = study(tmp_path / "a", [made_study.hypothesis("g-L812", BOLD, before)])
    b = study(tmp_path / "b", [made_study.hypothesis("g-L812", BOLD, after)])
    product = diff_studies(a, b)
    assert changes(product) == {said: [("g-L812", "g-L812")]}
    difference = product["findings"][said][0]["difference"]
    half = (0.03**2 + 0.03**2) ** 0.5
    assert difference["effect"] == pytest.approx(after - before)
    assert (difference["ci_low"], difference["ci_high"]) == pytest.approx(
        (after - before - half, after - before + half)
    )


def test_a_change_within_the_intervals_is_no_change(tmp_path: Path) -> None:
    a = study(tmp_path / "a", [made_study.hypothesis("g-L812", BOLD, 0.20)])
    b = study(tmp_path / "b", [made_study.hypothesis("g-L812", BOLD, 0.24)])
    assert changes(diff_studies(a, b)) == {}


def test_a_finding_that_is_not_confirmed_any_more_is_gone(tmp_path: Path) -> None:
    a = study(tmp_path / "a", [made_study.hypothesis("g-L812", BOLD, 0.2)])
    b = study(tmp_path / "b", [])
    assert changes(diff_studies(a, b)) == {"gone": [("g-L812", None)]}


def test_clusters_are_matched_by_their_latents_whatever_their_numbers(tmp_path: Path) -> None:
    cluster = {**made_study.concept("C4", "bold text", "library"), "latents": [1, 2, 3, 4]}
    renamed = {**cluster, "id": "C11", "latents": [2, 3, 4, 5]}  # 3 of 5
    stranger = {**cluster, "id": "C4", "latents": [1, 50, 51, 52]}  # 1 of 7, though of the same number
    a = study(tmp_path / "a", [made_study.hypothesis("g-C4", cluster, 0.2)])
    b = study(
        tmp_path / "b", [made_study.hypothesis("g-C4", stranger, 0.2), made_study.hypothesis("g-C11", renamed, 0.2)]
    )
    product = diff_studies(a, b)
    assert changes(product) == {"new": [(None, "g-C4")]}
    assert [(row["a"]["id"], row["b"]["id"]) for row in product["unchanged"]] == [("g-C4", "g-C11")]
    assert product["unchanged"][0]["overlap"]["concept"] == pytest.approx(3 / 5)


def place(id: str, made_from: str, numbers: range) -> dict[str, Any]:
    return {"id": id, "made_from": made_from, "pair_ids": [made_study.pair_id(n) for n in numbers]}


def in_place(id: str, where: str) -> dict[str, Any]:
    row = made_study.hypothesis(id, BOLD, 0.2, view="region", estimand="delta")
    return row | {"region": made_study.region(where, "", "def")}


def test_kinds_of_pairs_are_matched_by_the_pairs_they_share(tmp_path: Path) -> None:
    a = study(tmp_path / "a", [in_place("r-K1-L812", "K1")], regions=[place("K1", "C90", range(60))])
    same = study(tmp_path / "b", [in_place("r-K7-L812", "K7")], regions=[place("K7", "C91", range(10, 60))])
    other = study(tmp_path / "c", [in_place("r-K1-L812", "K1")], regions=[place("K1", "C91", range(100, 160))])
    assert changes(diff_studies(a, same)) == {}
    assert changes(diff_studies(a, other)) == {"new": [(None, "r-K1-L812")], "gone": [("r-K1-L812", None)]}


def test_the_same_concept_everywhere_and_in_a_kind_of_pair_are_two_findings(tmp_path: Path) -> None:
    a = study(tmp_path / "a", [made_study.hypothesis("g-L812", BOLD, 0.2)])
    b = study(tmp_path / "b", [in_place("r-K1-L812", "K1")], regions=[place("K1", "C90", range(60))])
    assert changes(diff_studies(a, b)) == {"new": [(None, "r-K1-L812")], "gone": [("g-L812", None)]}


def test_a_family_with_another_spokesman_is_not_both_new_and_gone(tmp_path: Path) -> None:
    cluster = made_study.concept("C4", "bold text", "library")
    a = study(
        tmp_path / "a",
        [made_study.hypothesis("g-L812", BOLD, 0.2), made_study.hypothesis("g-C4", cluster, 0.19, family="g-L812")],
    )
    b = study(
        tmp_path / "b",
        [made_study.hypothesis("g-C4", cluster, 0.19), made_study.hypothesis("g-L812", BOLD, 0.2, family="g-C4")],
    )
    assert changes(diff_studies(a, b)) == {}


def test_settings_that_differ_are_noted(tmp_path: Path) -> None:
    a, b = study(tmp_path / "a", []), study(tmp_path / "b", [])
    body = json.loads((b / "contrast.json").read_text(encoding="utf-8"))
    body["settings"]["q"] = 0.05
    made_study.write(b / "contrast.json", body)
    product = diff_studies(a, b)
    assert product["notes"] == ["q: 0.1 in A, 0.05 in B"]
    assert "q: 0.1 in A" in render_diff(product)


def test_the_text_fits_the_terminal_shows_hostile_names_plainly_and_announces_its_caps(tmp_path: Path) -> None:
    concepts = [made_study.concept(f"L{n}", made_study.HOSTILE, "endpoint", tokens=("x" * 90,)) for n in range(25)]
    rows = [made_study.hypothesis(f"g-{one['id']}", one, 0.2) for one in concepts]
    text = render_diff(diff_studies(study(tmp_path / "a", []), study(tmp_path / "b", rows)), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "20 of 25" in text
    assert not any(char in text for char in "\u202e\u200b\x1b")


def test_the_product_is_json(tmp_path: Path) -> None:
    rows = made_study.hypotheses()
    product = diff_studies(study(tmp_path / "a", []), study(tmp_path / "b", rows))
    assert json.loads(json.dumps(product, allow_nan=False)) == product


def test_a_missing_product_names_its_verb(tmp_path: Path) -> None:
    a, b = study(tmp_path / "a", []), study(tmp_path / "b", [])
    (b / "pairs.parquet").unlink()
    with pytest.raises(ProductError, match="tiltscope read"):
        diff_studies(a, b)


def test_a_number_that_is_not_defined_in_one_study_gives_no_difference(tmp_path: Path) -> None:
    undefined = made_study.hypothesis("g-L812", BOLD, 0.2, confirmed=False, verdict="too few witnesses")
    a = study(tmp_path / "a", [undefined | {"effect": None, "ci_low": None, "ci_high": None}])
    b = study(tmp_path / "b", [made_study.hypothesis("g-L812", BOLD, 0.2)])
    product = diff_studies(a, b)
    assert product["findings"]["new"][0]["difference"] is None
    assert "too few witnesses" in render_diff(product)
