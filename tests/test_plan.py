"""The plan is a person's: nothing is decided for them, and nothing they wrote is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import made_study
from tiltscope.errors import ProductError, UsageError
from tiltscope.plan import draft_plan, write_draft


def plan_of(study: Path) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((study / "plan.yaml").read_text(encoding="utf-8"))
    return body


def edit(study: Path, number: int, **changes: Any) -> dict[str, Any]:
    """Fill in an entry as a person would, and return it."""
    body = plan_of(study)
    body["decisions"][number] |= changes
    (study / "plan.yaml").write_text(yaml.safe_dump(body, allow_unicode=True), encoding="utf-8")
    entry: dict[str, Any] = body["decisions"][number]
    return entry


def test_every_confirmed_family_is_there_once_and_undecided(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    body = yaml.safe_load(draft_plan(study))
    heads = [row["id"] for row in made_study.hypotheses() if row["confirmed"] and row["family"] == row["id"]]
    assert sorted(one["hypothesis"] for one in body["decisions"]) == sorted(heads)
    assert {one["action"] for one in body["decisions"]} == {"undecided"}
    for one in body["decisions"]:
        empty = {"method": None, "strength": None, "aim_rate": None, "side": None, "hold": []}
        assert {key: one[key] for key in (*empty, "reason", "reviewer")} == empty | {"reason": "", "reviewer": ""}


def test_an_entry_says_which_latents_where_and_in_which_direction(tmp_path: Path) -> None:
    body = yaml.safe_load(draft_plan(made_study.make(tmp_path / "s")))
    by_id = {one["hypothesis"]: one for one in body["decisions"]}
    assert by_id["g-L812"]["concept"] == {"id": "L812", "latents": [812], "name": "bold text"}
    assert (by_id["g-L33"]["direction"], by_id["g-L33"]["where"]) == ("less", "everywhere")
    assert by_id["p-P7-R2"]["where"] == "P7@0.1"


def test_the_evidence_leads_to_the_place_in_the_report(tmp_path: Path) -> None:
    from tiltscope.report import write_report

    study = made_study.make(tmp_path / "s")
    (page,) = write_report(study, formats=["html"])
    html = page.read_text(encoding="utf-8")
    for one in yaml.safe_load(draft_plan(study))["decisions"]:
        name, _, fragment = one["evidence"].partition("#")
        assert name == page.name
        assert f'id="{fragment}"' in html


def test_the_plan_names_what_it_was_made_from(tmp_path: Path) -> None:
    body = yaml.safe_load(draft_plan(made_study.make(tmp_path / "s")))
    assert body["format_version"] == 1
    assert body["made_from"]["scope"] == "5c09e5c09e5c09e5"
    assert body["made_from"]["pairs"] == "aaaabbbbccccdddd"
    assert body["made_from"]["contrast"] == made_study.contrast()["fingerprint"]


@pytest.mark.parametrize("name", [made_study.HOSTILE, "no", "- x: [", '"', "a: b #c", "\ufffe\ufeff\u2028\x85", "🎉{}"])
def test_a_name_cannot_become_anything_but_text(tmp_path: Path, name: str) -> None:
    row = made_study.hypothesis("g-L1", made_study.concept("L1", name, "endpoint", tokens=(name,)), 0.2)
    text = draft_plan(made_study.make(tmp_path / "s", rows=[row]))
    (entry,) = yaml.safe_load(text)["decisions"]
    assert isinstance(entry["concept"]["name"], str)
    assert (entry["action"], entry["concept"]["latents"]) == ("undecided", [1])
    assert not any(char in text for char in "\u202e\u200b\x1b\u2028\x85\ufeff")


def test_the_headline_stands_above_its_entry(tmp_path: Path) -> None:
    text = draft_plan(made_study.make(tmp_path / "s"))
    assert "# 1 of 6. Training on this will teach: more bold text." in text
    assert max(len(line) for line in text.splitlines() if line.lstrip().startswith("#")) <= 120


def test_a_plan_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    path = write_draft(study)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        write_draft(study)
    assert path.read_bytes() == before


def test_drafting_again_gives_the_same_bytes(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    before = write_draft(study).read_bytes()
    assert write_draft(study, overwrite=True).read_bytes() == before


def test_what_a_person_filled_in_stays_when_a_plan_is_drafted_again(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    write_draft(study)
    edit(study, 0, action="suppress", reason="loud: – “no”", reviewer="Ada", strength=0.5, hold=["g-L33"])
    edit(study, 2, reviewer="Bo", note={"asked": ["legal", 3]})
    before = plan_of(study)
    write_draft(study, overwrite=True)
    assert plan_of(study) == before


def test_keys_that_a_person_added_beside_the_decisions_stay(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    path = write_draft(study)
    notes = "ticket: 'DATA-7: \"yes\"'\nseen by: [ann, bo]\n"
    path.write_text(path.read_text(encoding="utf-8") + notes, encoding="utf-8")
    write_draft(study, overwrite=True)
    write_draft(study, overwrite=True)
    assert plan_of(study)["ticket"] == 'DATA-7: "yes"'
    assert plan_of(study)["seen by"] == ["ann", "bo"]


def test_a_decision_follows_its_latents_when_clusters_are_renumbered(tmp_path: Path) -> None:
    cluster = made_study.concept("C4", "bold text", "library")
    study = made_study.make(tmp_path / "s", rows=[made_study.hypothesis("g-C4", cluster, 0.2)])
    write_draft(study)
    edit(study, 0, action="allow", reason="fine", reviewer="Ada")
    made_study.write(study / "hypotheses.json", [made_study.hypothesis("g-C9", {**cluster, "id": "C9"}, 0.2)])
    write_draft(study, overwrite=True)
    (entry,) = plan_of(study)["decisions"]
    assert (entry["hypothesis"], entry["concept"]["id"], entry["action"]) == ("g-C9", "C9", "allow")
    assert entry["evidence"] == "report.html#g-C9"


def test_a_decision_is_not_carried_to_a_finding_that_turned_round(tmp_path: Path) -> None:
    bold = made_study.concept("L812", "bold text", "library")
    study = made_study.make(tmp_path / "s", rows=[made_study.hypothesis("g-L812", bold, 0.2)])
    write_draft(study)
    edit(study, 0, action="allow", reason="more is fine", reviewer="Ada")
    made_study.write(study / "hypotheses.json", [made_study.hypothesis("g-L812", bold, -0.2)])
    write_draft(study, overwrite=True)
    now, kept = plan_of(study)["decisions"]
    assert (now["direction"], now["action"]) == ("less", "undecided")
    assert (kept["direction"], kept["action"]) == ("more", "allow")


def test_a_decision_whose_finding_is_gone_is_kept_at_the_end(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    write_draft(study)
    decided = edit(study, 0, action="suppress", reason="no", reviewer="Ada")
    made_study.write(study / "hypotheses.json", [])
    write_draft(study, overwrite=True)
    assert plan_of(study)["decisions"] == [decided]
    assert "no longer confirmed" in (study / "plan.yaml").read_text(encoding="utf-8")


def test_undecided_entries_whose_finding_is_gone_are_not_kept(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    write_draft(study)
    made_study.write(study / "hypotheses.json", [])
    write_draft(study, overwrite=True)
    assert plan_of(study)["decisions"] == []


@pytest.mark.parametrize("text", ["decisions: [", "decisions: 3", "- a\n- b\n", "decisions: [1, 2]"])
def test_a_plan_that_cannot_be_read_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    study = made_study.make(tmp_path / "s")
    (study / "plan.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ProductError, match=r"plan\.yaml"):
        write_draft(study, overwrite=True)
    assert (study / "plan.yaml").read_text(encoding="utf-8") == text


def test_a_study_without_findings_is_refused_with_the_verb_that_makes_them(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    (study / "hypotheses.json").unlink()
    with pytest.raises(ProductError, match="contrast"):
        draft_plan(study)
    assert json.loads((study / "contrast.json").read_text(encoding="utf-8"))
