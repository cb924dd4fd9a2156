"""The plan is a person's: nothing is decided for them, and nothing they wrote is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import made_study
from tiltscope.acting import Acting, run_prepare
from tiltscope.errors import DataError, ProductError, StaleProductError, TiltscopeError, UsageError
from tiltscope.plan import METHODS, Decision, DetectorSpec, Plan, draft_plan, load_plan, unspoken, write_draft


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


# --- the door: plan.yaml becomes a Plan -------------------------------------------------------------------------------

HEAD = "format_version: 1\nmade_from: {pairs: aaaa, features: ffff, scope: 5c09}\ndecisions:\n"
BOLD = """\
- hypothesis: g-L1
  concept: {id: L1, latents: [1], name: bold text}
  direction: more
  where: everywhere
  action: suppress
  strength: 2
  reason: too loud
"""


def load(tmp_path: Path, text: str, **more: Any) -> Plan:
    path = tmp_path / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return load_plan(path, **more)


AIMED = BOLD.replace("strength: 2", "aim_rate: start")


def entry(**changes: Any) -> str:
    """A sound decision with some keys changed; None takes a key out."""
    body = yaml.safe_load(BOLD)[0] | changes
    kept = {key: value for key, value in body.items() if value is not None}
    return HEAD + yaml.safe_dump([kept], sort_keys=False, allow_unicode=True)


def refusal(tmp_path: Path, text: str, **more: Any) -> UsageError | DataError:
    with pytest.raises((UsageError, DataError)) as caught:
        load(tmp_path, text, **more)
    return caught.value


def line_of(text: str, start: str) -> int:
    (number,) = [number for number, line in enumerate(text.splitlines(), 1) if line.lstrip("- ").startswith(start)]
    return number


def test_a_fresh_draft_loads_and_everything_in_it_is_undecided(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    plan = load_plan(write_draft(study))
    body = plan_of(study)["decisions"]
    assert [one.hypothesis for one in plan.decisions] == [one["hypothesis"] for one in body]
    assert plan.undecided == plan.decisions
    assert plan.active == ()
    assert plan.decisions[0].detector == DetectorSpec("concept", latents=(812,))
    assert plan.made_from["scope"] == "5c09e5c09e5c09e5"
    lines = plan.path.read_text(encoding="utf-8").splitlines()
    assert [lines[one.line - 1].split(":")[0] for one in plan.decisions] == ["  - hypothesis"] * len(body)


def test_a_filled_plan_drafted_again_loads_as_it_was(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    write_draft(study)
    check = {"kind": "concept", "check": {"rule": "bold"}}
    edit(study, 0, action="suppress", aim_rate="start", hold=["g-L33"], reason="loud", reviewer="Ada", detector=check)
    edit(study, 1, action="allow", reason="fine", note={"asked": ["legal"]})
    edit(study, 2, action="amplify", aim_rate="start", reason="wanted", accept_weak=True)
    before = load_plan(study / "plan.yaml")
    write_draft(study, overwrite=True)
    after = load_plan(study / "plan.yaml")
    assert after.fingerprint == before.fingerprint
    assert [one.action for one in after.decisions[:3]] == ["suppress", "allow", "amplify"]
    assert after.decisions[0].detector == DetectorSpec("concept", latents=(812,), check=DetectorSpec("rule", "bold"))


def test_a_plan_whose_finding_turned_round_loads_with_the_new_one_undecided(tmp_path: Path) -> None:
    bold = made_study.concept("L812", "bold text", "library")
    study = made_study.make(tmp_path / "s", rows=[made_study.hypothesis("g-L812", bold, 0.2)])
    write_draft(study)
    edit(study, 0, action="allow", reason="more is fine", reviewer="Ada")
    made_study.write(study / "hypotheses.json", [made_study.hypothesis("g-L812", bold, -0.2)])
    plan = load_plan(write_draft(study, overwrite=True))
    assert [(one.direction, one.action) for one in plan.decisions] == [("less", "undecided"), ("more", "allow")]


def test_a_finding_without_an_entry_is_undecided(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    whole = load_plan(write_draft(study))
    assert unspoken(study, whole) == ()
    assert [one.hypothesis for one in unspoken(study, Plan(whole.decisions[2:]))] == [
        one.hypothesis for one in whole.decisions[:2]
    ]
    assert len(unspoken(study, Plan(()))) == len(whole.decisions)
    gone = replace(whole.decisions[0], hypothesis="g-L9999", direction=None, detector=DetectorSpec("rule", "emoji"))
    assert unspoken(study, Plan((*whole.decisions, gone))) == ()
    turned = replace(whole.decisions[0], direction={"more": "less", "less": "more"}[str(whole.decisions[0].direction)])
    assert len(unspoken(study, Plan((turned, *whole.decisions[1:])))) == 1
    (study / "hypotheses.json").unlink()
    assert unspoken(study, Plan(())) == ()


@pytest.mark.parametrize(
    ("detector", "where", "n_left"),
    [
        (DetectorSpec("rule", "bold"), "everywhere", 0),
        (DetectorSpec("concept", latents=(812,)), "everywhere", 0),
        (DetectorSpec("rule", "emoji"), "everywhere", 1),
        (DetectorSpec("rule", "bold"), "K3", 1),
        (DetectorSpec("rule", "bold", on_lines_with=DetectorSpec("rule", "heading")), "everywhere", 1),
    ],
)
def test_a_decision_on_a_detector_speaks_of_the_finding_that_it_sees_all_of(
    tmp_path: Path, detector: DetectorSpec, where: str, n_left: int
) -> None:
    row = made_study.hypothesis("g-L812", made_study.concept("L812", "bold text", "library"), 0.2)
    study = made_study.make(tmp_path / "s", rows=[row | {"namesake": {"rule": "bold", "holds": True}}])
    assert len(unspoken(study, Plan((Decision(1, 1, detector=detector, where=where),)))) == n_left


def test_nothing_is_prepared_under_a_plan_that_lost_an_entry(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    whole = load_plan(write_draft(study))
    allowed = tuple(replace(one, action="allow", reason="fine") for one in whole.decisions[1:])
    opened: Any = SimpleNamespace(folder=study)
    with pytest.raises(UsageError, match=f"^1 of {len(whole.decisions)} findings are undecided") as caught:
        run_prepare(Acting(opened, Plan(allowed), {}), [])
    assert f"1 of them have no entry in this plan, the first is {whole.decisions[0].hypothesis}" in caught.value.found
    assert "--allow-undecided" in caught.value.hint


def test_every_field_of_a_decision_is_read(tmp_path: Path) -> None:
    detector = {"kind": "regex", "pattern": r"\bgoblins?\b", "by": "present", "words": True, "check": {"rule": "bold"}}
    changes = {"method": "steering_ratio", "strength": 0.5, "where": "P4@2.5", "side": "both"}
    text = entry(**changes, detector=detector, reviewer=7, accept_weak=True)
    (one,) = load(tmp_path, text).decisions
    assert (one.number, one.line, one.name) == (1, line_of(text, "hypothesis"), "bold text")
    assert (one.method, one.strength, one.aim_rate, one.effect) == ("steering_ratio", 0.5, None, "drop")
    assert (one.where, one.side, one.hold, one.reviewer) == ("P4@2.5", "both", (), "7")
    assert one.detector is not None
    assert one.detector.check == DetectorSpec("rule", "bold")
    assert (one.detector.source, one.detector.by, one.detector.words) == (r"\bgoblins?\b", "present", True)
    assert one.accept_weak
    assert one.place.endswith(f"plan.yaml:{one.line}")


def test_a_rule_may_be_told_on_which_lines_it_counts_and_only_by_a_rule_or_a_pattern(tmp_path: Path) -> None:
    bold = {"kind": "rule", "rule": "bold"}
    inside = bold | {"on_lines_with": {"rule": "bulleted_list"}}
    outside = bold | {"on_lines_without": {"pattern": "^- "}}
    (one,) = load(tmp_path, entry(detector=inside)).active
    (other,) = load(tmp_path, entry(detector=outside)).active
    assert one.detector is not None
    assert other.detector is not None
    assert one.detector.on_lines_with == DetectorSpec("rule", "bulleted_list")
    assert other.detector.on_lines_without == DetectorSpec("regex", "^- ")
    assert "one of the two" in refusal(tmp_path, entry(detector=bold | {"on_lines_with": {}})).what
    latents = {"kind": "latent", "latent": 812, "on_lines_with": {"rule": "bulleted_list"}}
    assert "on_lines_with" in str(refusal(tmp_path, entry(detector=latents)))
    refused = refusal(tmp_path, entry(detector=bold | {"on_lines_with": {"rule": "bulleted"}}))
    assert "bulleted_list" in str(refused.hint)


def test_a_rule_may_count_only_where_it_is_shown_often(tmp_path: Path) -> None:
    (one,) = load(tmp_path, entry(detector={"kind": "rule", "rule": "often:3:bold", "by": "present"})).active
    assert one.detector is not None
    assert one.detector.source == "often:3:bold"
    error = refusal(tmp_path, entry(detector={"kind": "rule", "rule": "often:3:blod"}))
    assert "often:3:bold" in str(error.hint)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_loads_with_the_strength_it_has(tmp_path: Path, method: str) -> None:
    has_none = method in ("token_filtering", "inoculation_prompting")
    strength = None if has_none else 0.05
    (one,) = load(tmp_path, entry(method=method, strength=strength)).active
    assert (one.method, one.strength) == (method, strength)
    if has_none:
        assert "has no strength" in refusal(tmp_path, entry(method=method, strength=1)).what
    else:
        assert "needs a strength" in refusal(tmp_path, entry(method=method, strength=None)).what


@pytest.mark.parametrize(
    ("method", "most"),
    [("reward_shaping", 50), ("steering_ratio", 50), ("inoculation_ratio", 50), ("activation_steering", 5), (None, 50)],
)
def test_a_strength_beyond_any_sense_is_refused_with_its_range(tmp_path: Path, method: str | None, most: int) -> None:
    assert load(tmp_path, entry(method=method, strength=most)).active[0].strength == most
    error = refusal(tmp_path, entry(method=method, strength=most + 1))
    assert f"between 0 and {most} " in error.what
    assert error.found == repr(str(most + 1))


def test_where_no_method_stands_a_decision_shapes_the_reward(tmp_path: Path) -> None:
    assert load(tmp_path, entry()).active[0].method == "reward_shaping"
    assert load(tmp_path, entry(action="undecided")).decisions[0].method is None


def test_an_instruction_is_one_text_or_candidates_to_choose_from(tmp_path: Path) -> None:
    base = {"method": "inoculation_prompting", "strength": None}
    (one,) = load(tmp_path, entry(**base, instruction="Use bold.")).active
    assert (one.instruction, one.candidates) == ("Use bold.", ("Use bold.",))
    (one,) = load(tmp_path, entry(**base, instruction=["Use bold.", "Be loud."])).active
    assert (one.instruction, one.candidates) == (None, ("Use bold.", "Be loud."))


def test_an_answer_of_yaml_is_still_the_text_that_was_written(tmp_path: Path) -> None:
    text = HEAD + AIMED.replace("too loud", "no") + "  reviewer: 007\n  hold: [on]\n"
    (one,) = load(tmp_path, text, known_ids={"on"}).decisions
    assert (one.reason, one.reviewer, one.hold) == ("no", "007", ("on",))


WRONG: list[tuple[dict[str, Any], str, str, str]] = [
    ({"metod": "x"}, "metod", "no key 'metod'", "nearest: method"),
    ({"action": "supress"}, "action", "no value 'supress'", "nearest: suppress"),
    ({"method": "reward_shapping"}, "method", "no value 'reward_shapping'", "nearest: reward_shaping"),
    ({"method": "steering_ratio", "side": "choosen"}, "side", "no value 'choosen'", "nearest: chosen"),
    ({"side": "chosen"}, "side", "has no side", "null"),
    ({"direction": "mor"}, "direction", "no value 'mor'", "nearest: more"),
    ({"strength": -1}, "strength", "never negative: the action carries the sign", "amplify"),
    ({"strength": "much"}, "strength", "not a number", ""),
    ({"strength": True}, "strength", "not a number", ""),
    ({"strength": float("nan")}, "strength", "not a finite number", ""),
    ({"strength": None}, "hypothesis", "needs a strength or an aim_rate", "plan.md"),
    ({"aim_rate": 0.2}, "aim_rate", "both given", "aim"),
    ({"strength": None, "aim_rate": 1.5}, "aim_rate", "from 0 to 1", ""),
    ({"strength": None, "aim_rate": "strat"}, "aim_rate", "'start' or a share", "'start'"),
    ({"strength": None, "aim_rate": 0.5, "method": "activation_steering"}, "aim_rate", "solved for", "reward_shaping"),
    ({"method": "token_filtering"}, "strength", "has no strength", "leave"),
    ({"method": "token_filtering", "strength": None, "action": "amplify"}, "method", "cannot amplify", "reward"),
    ({"method": "example_filtering", "strength": 1}, "strength", "above 0 and below 1", ""),
    ({"method": "example_filtering", "strength": 0}, "strength", "above 0 and below 1", ""),
    ({"method": "example_filtering", "strength": 0.1, "effect": "flop"}, "effect", "no value 'flop'", "nearest: flip"),
    ({"effect": "flip"}, "effect", "no effect to choose", "null"),
    ({"instruction": "Use bold."}, "instruction", "has no instruction", "inoculation_prompting"),
    ({"method": "inoculation_ratio", "instruction": ["a", " "]}, "instruction", "is empty", ""),
    ({"where": "in code"}, "where", "'everywhere' or the id", "K3"),
    ({"reason": " "}, "reason", "without a reason", "sentence"),
    ({"reason": None}, "hypothesis", "without a reason", "sentence"),
    ({"reason": ["a"]}, "reason", "not a text", ""),
    ({"action": "allow"}, "strength", "to allow something has no strength", "suppress"),
    ({"action": "allow", "strength": 0}, "strength", "to allow something has no strength", "suppress"),
    ({"hold": ["g-L2"]}, "g-L2", "hold names 'g-L2'", "nearest: g-L1"),
    ({"hold": ["g-L1"]}, "g-L1", "cannot hold what it changes", ""),
    ({"hold": "g-L2"}, "hold: g", "not a list", "["),
    ({"accept_weak": "yes please"}, "accept_weak", "neither true nor false", ""),
    ({"concept": None}, "hypothesis", "no concept and no detector", "rule"),
    ({"concept": {"id": "C9"}}, "hypothesis", "no concept and no detector", "rule"),
    ({"concept": "bold"}, "concept", "not a mapping", ""),
    ({"concept": {"latent": [1]}}, "latent:", "no key 'latent'", "nearest: latents"),
    ({"concept": {"latents": [1, 1]}}, "latents", "named twice", ""),
    ({"concept": {"latents": [-4]}}, "4", "whole number", ""),
]


@pytest.mark.parametrize(("changes", "at", "what", "hint"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be_meant_is_refused_at_its_line(
    tmp_path: Path, changes: dict[str, Any], at: str, what: str, hint: str
) -> None:
    text = entry(**changes)
    error = refusal(tmp_path, text)
    assert what in error.what
    assert hint in error.hint
    assert error.found
    assert error.where.endswith(f"plan.yaml:{line_of(text, at)}")


WRONG_DETECTORS: list[tuple[Any, str, str]] = [
    ("bold", "not a mapping", "rule"),
    ({"rule": "bold"}, "has no kind", "regex"),
    ({"kind": "regx", "pattern": "a"}, "no value 'regx'", "nearest: regex"),
    ({"kind": "rule", "rule": "boldd"}, "no value 'boldd'", "nearest: bold"),
    ({"kind": "rule", "rul": "bold"}, "no key 'rul'", "nearest: rule"),
    ({"kind": "rule"}, "lacks 'rule'", ""),
    ({"kind": "regex", "pattern": "(a"}, "does not compile", ""),
    ({"kind": "regex", "pattern": ""}, "is empty", ""),
    ({"kind": "regex", "pattern": "a", "by": "shares"}, "no value 'shares'", "nearest: share"),
    ({"kind": "callable", "function": "os.system"}, "not the name of a function", "module:function"),
    ({"kind": "latent", "latent": 1.5}, "whole number", ""),
    ({"kind": "concept", "latents": []}, "names no latents", "latents"),
    ({"kind": "direction"}, "one of the two", "labels"),
    ({"kind": "probe", "labels": {"rule": "bold"}, "positive": ["a", "b"]}, "one of the two", "labels"),
    ({"kind": "probe", "positive": ["a", "b"], "negative": ["c"]}, "two negative texts", ""),
    ({"kind": "probe", "positive": ["a", ""], "negative": ["c", "d"]}, "is empty", ""),
    ({"kind": "probe", "labels": {"rule": "bold", "pattern": "a"}}, "one of the two", "bold"),
    ({"kind": "direction", "labels": {"rule": "bold"}, "layer": -1}, "whole number", ""),
    ({"kind": "rule", "rule": "bold", "check": {"pattern": "(a"}}, "does not compile", ""),
]


@pytest.mark.parametrize(("detector", "what", "hint"), WRONG_DETECTORS, ids=lambda value: str(value)[:40])
def test_a_detector_that_cannot_be_is_refused_in_the_plan(tmp_path: Path, detector: Any, what: str, hint: str) -> None:
    text = entry(detector=detector, concept=None)
    error = refusal(tmp_path, text)
    assert what in error.what
    assert hint in error.hint
    assert int(error.where.rpartition(":")[2]) >= line_of(text, "detector")


def test_tokens_cannot_be_left_out_by_a_detector_that_marks_none(tmp_path: Path) -> None:
    for detector in (
        {"kind": "callable", "function": "a:b"},
        {"kind": "probe", "level": "sequence", "labels": {"rule": "bold"}},
    ):
        error = refusal(tmp_path, entry(method="token_filtering", strength=None, detector=detector))
        assert "marks tokens" in error.what


def test_one_finding_is_decided_once(tmp_path: Path) -> None:
    error = refusal(tmp_path, HEAD + BOLD + BOLD.replace("suppress", "amplify"))
    assert "decided twice" in error.what
    assert error.where.endswith("plan.yaml:11")
    assert "plan.yaml:4" in error.found
    twice = load(tmp_path, HEAD + BOLD + BOLD.replace("suppress", "undecided"))
    assert (len(twice.active), len(twice.undecided)) == (1, 1)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"reason: too": "reason: also too"}, "decisions on lines 4 and 11 act on the same detector"),
        ({"suppress": "amplify"}, "act on the same detector and contradict each other"),
        ({"suppress": "amplify", "everywhere": "K3"}, "contradict each other"),
        ({"{id: L1, latents: [1], name: bold text}": "{id: L1, latents: [1], name: fat}"}, "the same detector"),
    ],
)
def test_two_decisions_on_one_detector_in_one_place_are_refused(
    tmp_path: Path, change: dict[str, str], what: str
) -> None:
    other = BOLD.replace("g-L1", "g-L2")
    for old, new in change.items():
        other = other.replace(old, new)
    error = refusal(tmp_path, HEAD + BOLD + other)
    assert what in error.what
    assert error.where.endswith("plan.yaml:15")
    assert error.hint


@pytest.mark.parametrize(
    "change",
    [
        {"strength: 2": "strength: 0.1\n  method: example_filtering"},
        {"latents: [1]": "latents: [1, 2]"},
        {"suppress": "undecided"},
        {"suppress\n  strength: 2": "allow"},
    ],
)
def test_another_method_another_detector_or_no_wish_is_no_second_decision(
    tmp_path: Path, change: dict[str, str]
) -> None:
    other = BOLD.replace("g-L1", "g-L2")
    for old, new in change.items():
        other = other.replace(old, new)
    assert len(load(tmp_path, HEAD + BOLD + other).decisions) == 2


def test_decisions_on_one_detector_in_places_that_do_not_meet_are_fine(tmp_path: Path) -> None:
    here, there = (BOLD.replace("g-L1", f"r-{one}").replace("everywhere", one) for one in ("K3", "K4"))
    assert len(load(tmp_path, HEAD + here + there.replace("suppress", "amplify")).active) == 2
    assert len(load(tmp_path, HEAD + BOLD + there).active) == 2  # the same wish, and more of it in one place


def test_hold_beside_a_strength_would_change_nothing_and_is_refused(tmp_path: Path) -> None:
    refused = refusal(tmp_path, entry(hold=["x"]), known_ids=["x"])
    assert "beside an aim_rate only" in refused.what
    assert "aim_rate: start" in refused.hint


def test_hold_may_name_any_finding_of_the_study_and_any_decision_of_the_plan(tmp_path: Path) -> None:
    other = BOLD.replace("g-L1", "g-L2").replace("suppress", "undecided")
    held = AIMED + "  hold: [g-L2, r-K3-L5]\n" + other
    assert load(tmp_path, HEAD + held, known_ids=["r-K3-L5"]).active[0].hold == ("g-L2", "r-K3-L5")
    assert "r-K3-L5" in refusal(tmp_path, HEAD + held).what


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "is empty"),
        (b"decisions: [", "not valid YAML"),
        (b"a: \xff\xfe", "not UTF-8"),
        (b"- a\n", "a mapping"),
        (b"decisions: []\n", "does not say its format version"),
        (b"format_version: 2\ndecisions: []\n", "another format version"),
        (b"format_version: true\ndecisions: []\n", "another format version"),
        (b"format_version: 1\n", "a list of decisions"),
        (b"format_version: 1\ndecisions: 3\n", "not a list"),
        (b"format_version: 1\ndecisions: [1]\n", "a decision is a mapping"),
        (b"format_version: 1\ndesicions: []\n", "no key 'desicions'"),
        (b"format_version: 1\nmade_from: {pears: 1}\ndecisions: []\n", "no key 'pears'"),
        (b"format_version: 1\ndecisions: []\ndecisions: []\n", "written twice"),
        (b"format_version: 1\ndecisions: &a [*a]\n", "alias"),
        (b"format_version: 1\ndecisions: []\n[a]: 3\n", "a key is a word"),
        (b"format_version: 1\nx: !!python/object:os.system {}\ndecisions: [{x: !!int a}]\n", "plain data"),
        (b"[" * 5000, "nested too deeply"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: bytes, what: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(text)
    with pytest.raises((UsageError, DataError), match=what) as caught:
        load_plan(path)
    assert "plan.yaml" in caught.value.where


def test_a_plan_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"plan\.yaml cannot be read"):
        load_plan(tmp_path / "plan.yaml")


@pytest.mark.parametrize(
    ("name", "verb"), [("pairs", "contrast"), ("features", "contrast"), ("scope", "tiltscope read")]
)
def test_a_plan_for_other_inputs_says_which_and_what_to_rerun(tmp_path: Path, name: str, verb: str) -> None:
    plan = load(tmp_path, entry())
    at_hand = {f"{key}_fingerprint": value for key, value in plan.made_from.items()}
    plan.check(**at_hand)
    plan.check()
    with pytest.raises(StaleProductError, match=f"other {name}") as caught:
        plan.check(**at_hand | {f"{name}_fingerprint": "0000"})
    assert plan.made_from[name] in caught.value.found
    assert "0000" in caught.value.found
    assert verb in caught.value.hint


def test_latents_without_a_scope_mean_nothing_and_rules_do(tmp_path: Path) -> None:
    bare = entry().replace("made_from: {pairs: aaaa, features: ffff, scope: 5c09}\n", "")
    with pytest.raises(StaleProductError, match="does not say of which scope"):
        load(tmp_path, bare).check(scope_fingerprint="5c09")
    rule = entry(concept=None, detector={"kind": "rule", "rule": "bold"})
    load(tmp_path, rule.replace("made_from: {pairs: aaaa, features: ffff, scope: 5c09}\n", "")).check(
        pairs_fingerprint="aaaa", scope_fingerprint="5c09"
    )


def test_the_fingerprint_of_a_plan_sees_decisions_and_not_comments(tmp_path: Path) -> None:
    base = load(tmp_path, entry()).fingerprint
    assert load(tmp_path, "# a remark\n" + entry()).fingerprint == base
    for changes in ({"strength": 3}, {"action": "amplify"}, {"reason": "other"}, {"where": "K3"}):
        assert load(tmp_path, entry(**changes), known_ids=["x"]).fingerprint != base


def test_a_plan_is_refused_by_errors_of_the_tree_alone(tmp_path: Path) -> None:
    """Cut anywhere, a plan loads or is refused; nothing else is raised."""
    text = entry(detector={"kind": "regex", "pattern": "a[b]", "check": {"rule": "bold"}}, hold=["x"])
    places = []
    for cut in range(0, len(text), 3):
        try:
            load(tmp_path, text[:cut] + text[cut + 2 :], known_ids=["x"])
        except TiltscopeError as error:
            places.append(error.where)
    assert len(places) > len(text) / 12
    assert all("plan.yaml" in place for place in places)


def test_the_first_finding_on_a_behaviour_is_drafted_with_its_rule_and_the_next_keeps_its_latents(
    tmp_path: Path,
) -> None:
    rows = made_study.hypotheses()
    somewhere = [row for row in rows if row["confirmed"] and row["view"] == "global"]
    for row in somewhere:
        row["namesake"] = {"rule": "bold", "measure": "share", "holds": True}
    study = made_study.make(tmp_path / "s", rows=rows)
    write_draft(study)
    entries = yaml.safe_load((study / "plan.yaml").read_text())["decisions"]
    by_rule = [one for one in entries if one.get("detector") and one["where"] == "everywhere"]
    assert len([one for one in entries if one["where"] == "everywhere"]) > 1
    assert [one["detector"] for one in by_rule] == [{"kind": "rule", "rule": "bold", "by": "present"}]
    edit(study, 0, action="suppress", aim_rate="start", reason="loud")
    edit(study, 1, action="suppress", aim_rate="start", reason="loud")
    assert len(load_plan(study / "plan.yaml").active) == 2


def test_a_behaviour_keeps_its_rule_also_where_a_stronger_finding_bears_its_name(tmp_path: Path) -> None:
    rows = made_study.hypotheses()
    stronger, weaker = (row for row in rows if row["id"] in ("g-L812", "g-L33"))
    named = {"rule": "bold", "measure": "present", "holds": True}
    weaker |= {"id": "g-B-bold", "family": "g-B-bold", "namesake": named}
    weaker["concept"] |= {"id": "B-bold", "latents": [], "rule": "bold", "name": "bold text"}
    stronger["namesake"] = named | {"measure": "share"}
    by_id = {
        one["hypothesis"]: one.get("detector")
        for one in yaml.safe_load(draft_plan(made_study.make(tmp_path / "s", rows=rows)))["decisions"]
    }
    assert by_id["g-B-bold"] == {"kind": "rule", "rule": "bold", "by": "present"}
    assert by_id["g-L812"] is None  # it has latents to act on
