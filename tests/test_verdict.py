"""Gates: what holds passes, what is broken fails, what cannot be said stays open, and a misspelt gate is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from made_study import HOSTILE, hypotheses
from made_study import concept as made_concept
from made_study import hypothesis as made_hypothesis
from tiltscope.errors import UsageError
from tiltscope.evaluation import Comparison, Evaluation, EvaluationSettings, Scores, compare
from tiltscope.verdict import (
    GRAMMAR,
    Verdict,
    as_json,
    as_junit,
    as_markdown,
    as_text,
    draft_limits,
    judge,
    judge_data,
    read_limits,
    write_verdict,
)


def evaluation(model: str, values: dict[str, np.ndarray]) -> Evaluation:
    """An evaluation of numbers: {id: (n_prompts, n_answers)}; bold and the like are shares, nll is a value."""
    units = {"nll": "value", "length": "count"}
    scores = []
    for id, table in values.items():
        prompts = tuple(f"{id}/{i}" for i in range(len(table)))
        scores.append(Scores(id, id, units.get(id, "share"), "", None, "target", id, prompts, table))
    return Evaluation(model, EvaluationSettings(model), (), (), tuple(scores))


def shares(rates: Sequence[float], *, n_prompts: int = 200, n_answers: int = 4, seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.binomial(1, rate, (n_prompts, n_answers)).astype(float) for rate in rates]


def comparison(base: float, planned: Sequence[float], *, n_prompts: int = 200, seed: int = 0) -> Comparison:
    tables = shares([base, *planned], n_prompts=n_prompts, seed=seed)
    runs = [evaluation(f"model-{i}", {"bold": table}) for i, table in enumerate(tables)]
    return compare({"base": runs[:1], "planned": runs[1:]})


def gate(folder: Path, text: str) -> Any:
    path = folder / "limits.yaml"
    path.write_text(text, encoding="utf-8")
    return read_limits(path)


def outcome(folder: Path, rule: str, made: Comparison) -> Verdict:
    return judge(gate(folder, f"limits:\n  bold: {rule}\n"), made)


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_a_rate_that_stays_passes_and_one_that_rose_fails(tmp_path: Path) -> None:
    rule = "at most +10 points vs base"
    kept = outcome(tmp_path, rule, comparison(0.3, [0.3, 0.3, 0.3]))
    risen = outcome(tmp_path, rule, comparison(0.3, [0.6, 0.6, 0.6]))
    assert (kept.outcome, kept.exit_code) == ("pass", 0)
    assert (risen.outcome, risen.exit_code) == ("fail", 1)
    assert risen.results[0].effect == pytest.approx(0.3, abs=0.05)
    assert len(risen.results[0].seeds) == 3


def test_a_rate_near_its_limit_stays_open(tmp_path: Path) -> None:
    found = outcome(tmp_path, "at most +10 points", comparison(0.3, [0.4, 0.4, 0.4]))
    assert (found.outcome, found.exit_code) == ("inconclusive", 5)
    assert "straddles" in found.results[0].why


def test_one_seed_that_broke_fails_though_the_others_hold(tmp_path: Path) -> None:
    found = outcome(tmp_path, "at most +10 points", comparison(0.3, [0.3, 0.3, 0.6]))
    assert found.outcome == "fail"
    assert "seed 3 of 3" in found.results[0].why


def test_a_seed_that_strays_keeps_the_gate_open_though_the_mean_is_inside(tmp_path: Path) -> None:
    """Nine seeds whose interval is inside, one of which is a little outside by itself."""
    draw = np.random.default_rng(1)
    base = draw.normal(0, 0.05, (400, 1)) + 5
    runs = [evaluation("b", {"nll": base})]
    drifts = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.014]
    for i, drift in enumerate(drifts):
        runs.append(evaluation(f"m{i}", {"nll": base + drift + draw.normal(0, 0.05, base.shape)}))
    made = compare({"base": runs[:1], "planned": runs[1:]})
    found = judge(gate(tmp_path, "limits:\n  nll: at most +0.01\n"), made)
    assert found.outcome == "inconclusive"
    assert "by itself is outside" in found.results[0].why


def test_few_prompts_stay_open_however_large_the_change(tmp_path: Path) -> None:
    found = outcome(tmp_path, "at most +2 points", comparison(0.0, [1.0, 1.0], n_prompts=8))
    assert found.outcome == "inconclusive"
    assert "8 prompts, 10 are needed" in found.results[0].why


def test_fewer_seeds_than_asked_for_stay_open(tmp_path: Path) -> None:
    text = "settings: {min_seeds: 3}\nlimits: {bold: at most +50 points}\n"
    assert judge(gate(tmp_path, text), comparison(0.3, [0.3])).outcome == "inconclusive"
    assert judge(gate(tmp_path, text), comparison(0.3, [0.3] * 3)).outcome == "pass"


def test_prompts_without_any_event_pass_only_when_there_are_enough(tmp_path: Path) -> None:
    rule = "at most +2 points"
    assert outcome(tmp_path, rule, comparison(0.0, [0.0, 0.0], n_prompts=60)).outcome == "inconclusive"
    assert outcome(tmp_path, rule, comparison(0.0, [0.0, 0.0], n_prompts=200)).outcome == "pass"


def test_fail_outranks_inconclusive_and_inconclusive_outranks_pass(tmp_path: Path) -> None:
    made = comparison(0.3, [0.4, 0.4, 0.4])
    text = "limits:\n  bold: [at most +40 points, at most +10 points{}]\n"
    assert judge(gate(tmp_path, text.format("")), made).outcome == "inconclusive"
    assert judge(gate(tmp_path, text.format(", at least +30 points")), made).outcome == "fail"


def test_the_null_fails_rarely_and_a_small_room_is_seldom_passed_by_chance(tmp_path: Path) -> None:
    """At the edge of a limit both a fail and a pass are mistakes of at most a few in a hundred."""
    limits = gate(tmp_path, "limits:\n  bold: at most +0 points\n")
    found = [judge(limits, comparison(0.3, [0.3] * 3, n_prompts=60, seed=s)).outcome for s in range(200)]
    assert found.count("fail") / 200 <= 0.08
    assert found.count("pass") / 200 <= 0.05


# --- the grammar ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "planned", "wanted"),
    [
        ("at least -10 points vs base", 0.3, "pass"),
        ("at least -10 points", 0.05, "fail"),
        ("within 10 points of base", 0.3, "pass"),
        ("within 10 points", 0.05, "fail"),
        ("within 10 points", 0.6, "fail"),
        ("not lower", 0.5, "pass"),
        ("not lower", 0.1, "fail"),
        ("not higher vs base", 0.1, "pass"),
        ("not lower by more than 15 points", 0.27, "pass"),
        ("is at most 40 %", 0.3, "pass"),
        ("is at most 40 %", 0.6, "fail"),
        ("is at least 20 %", 0.3, "pass"),
    ],
)
def test_every_form_of_a_rule_is_understood(tmp_path: Path, rule: str, planned: float, wanted: str) -> None:
    assert outcome(tmp_path, rule, comparison(0.3, [planned] * 3)).outcome == wanted


def test_not_lower_says_its_tolerance(tmp_path: Path) -> None:
    found = outcome(tmp_path, "not lower", comparison(0.3, [0.3] * 3))
    assert "(that is, at least -2.0 points)" in found.results[0].rule
    text = "settings: {tolerance: 30}\nlimits: {bold: not lower}\n"
    assert judge(gate(tmp_path, text), comparison(0.3, [0.3] * 3)).outcome == "pass"


@pytest.mark.parametrize(("factor", "wanted"), [(1.0, "pass"), (1.05, "fail"), (1.01, "inconclusive")])
def test_per_cent_is_of_the_other_arm(tmp_path: Path, factor: float, wanted: str) -> None:
    draw = np.random.default_rng(4)
    base = draw.normal(2.0, 0.3, (100, 1))
    runs = [evaluation(f"m{i}", {"nll": base * factor + draw.normal(0, 0.02, base.shape)}) for i in range(3)]
    made = compare({"base": [evaluation("b", {"nll": base})], "planned": runs})
    assert judge(gate(tmp_path, "limits:\n  nll: at most +1 %\n"), made).outcome == wanted


def test_values_that_do_not_vary_allow_no_verdict(tmp_path: Path) -> None:
    same = np.full((30, 1), 2.0)
    made = compare({"base": [evaluation("b", {"nll": same})], "planned": [evaluation("p", {"nll": same + 0.1})]})
    assert judge(gate(tmp_path, "limits:\n  nll: at most +1 %\n"), made).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("# nothing\n", 1, "empty"),
        ("limits:\n", 1, "no limits"),
        ("limits: {}\n", 1, "no limits"),
        ("bold: at most +2 points\n", 1, "there is no key 'bold'"),
        ("limts:\n  bold: at most +2 points\n", 2, "nearest: limits"),
        ("limits:\n  bold: at most 2 pts\n", 2, "cannot be read"),
        ("limits:\n  bold: at mots +2 points\n", 2, "nearest: at most +2 points vs base"),
        ("limits:\n  bold: 3\n", 2, "text is needed"),
        ("limits:\n  bold: within -2 points\n", 2, "above 0"),
        ("limits:\n  bold: is at most 2 points\n", 2, "given in %"),
        ("limits:\n  bold: at most +2 points\n  bold: not lower\n", 3, "twice"),
        ("settings: {tolerence: 2}\nlimits: {bold: not lower}\n", 1, "nearest: tolerance"),
        ("settings: {tolerance: -2}\nlimits: {bold: not lower}\n", 1, "0 to 100"),
        ("limits:\n  data: no confirmed more bold\n", 2, "cannot be read"),
        ("limits:\n  data.bold: at most 3\n", 2, "cannot be read"),
        ("limits:\n  - bold\n", 2, "keys and values"),
        ("limits: [", 2, "not valid YAML"),
    ],
)
def test_a_gate_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        gate(tmp_path, text)
    assert caught.value.exit_code == 2
    assert said in str(caught.value)
    assert caught.value.where.endswith((f"limits.yaml:{line}", f"limits.yaml:{line - 1}"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limits: {blod: not lower}", "nearest: bold"),
        ("limits: {bold: not lower vs bsae}", "nearest: base"),
        ("limits: {bold: not lower vs planned}", "was not compared"),
        ("settings: {arm: plan}\nlimits: {bold: not lower}", "nearest: planned"),
        ("limits: {bold: at most +2 %}", "write points"),
        ("limits: {bold: at most +0.02}", "write points"),
        ("limits: {bold: is at most 0.3}", "write %"),
        ('limits: {data: no confirmed "more" of bold}', "no rule about behaviours"),
    ],
)
def test_a_rule_about_what_was_not_measured_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        judge(gate(tmp_path, text), comparison(0.3, [0.3] * 2, n_prompts=20))


def test_points_do_not_fit_a_value(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    runs = [evaluation(f"m{i}", {"nll": draw.normal(2, 1, (20, 1))}) for i in range(2)]
    made = compare({"base": runs[:1], "planned": runs[1:]})
    with pytest.raises(UsageError, match="plain number"):
        judge(gate(tmp_path, "limits: {nll: at most +2 points}"), made)


def measured(id: str, unit_name: str, base: float, planned: float) -> Comparison:
    """One value per prompt, far from varying much."""
    draw = np.random.default_rng(4)
    runs = []
    for level in (base, planned):
        table = draw.normal(level, abs(level) / 100, (40, 1))
        scores = Scores(id, id, "value", unit_name, None, "target", id, tuple(f"{i}" for i in range(40)), table)
        runs.append(Evaluation(f"at {level}", EvaluationSettings(f"at {level}"), (), (), (scores,)))
    return compare({"base": runs[:1], "planned": runs[1:]})


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("is at most 3 %", "pass"),
        ("is at most 1 %", "fail"),
        ("is at most 0.03", "pass"),
        ("at most +2 points", "pass"),
        ("within 0.5 points", "fail"),
        ("at most +0.02", "pass"),
        ("at most +150 %", "pass"),
        ("not higher by more than 2 points", "pass"),
        ("not higher", "fail"),
    ],
)
def test_a_probability_is_judged_like_a_share_or_as_a_number(tmp_path: Path, rule: str, wanted: str) -> None:
    made = measured("openings/table", "probability", 0.01, 0.02)
    found = judge(gate(tmp_path, f"limits: {{openings/table: {rule}}}"), made)
    assert found.outcome == wanted


def test_a_log_probability_is_judged_in_nats(tmp_path: Path) -> None:
    made = measured("said/goblin", "nats", -95.0, -110.0)
    ways = {
        **{"at most +2": "pass", "not higher by more than 2": "pass", "not lower by more than 2": "fail"},
        **{"within 20": "pass", "is at most -50": "pass"},
    }
    for rule, wanted in ways.items():
        assert judge(gate(tmp_path, f"limits: {{said/goblin: {rule}}}"), made).outcome == wanted, rule
    refused = {
        **{"at most +10 %": "at most \\+2", "at most +2 points": "in nats", "not lower": "not lower by more than 2"},
        **{"not higher vs base": "not higher vs base by more than 2", "is at most 3 %": "plain number"},
    }
    for rule, hint in refused.items():
        with pytest.raises(UsageError, match=hint):
            judge(gate(tmp_path, f"limits: {{said/goblin: {rule}}}"), made)


def test_a_share_of_nothing_is_told_from_numbers_that_do_not_vary(tmp_path: Path) -> None:
    limits = gate(tmp_path, "limits: {tables: at most +10 %}")
    found = judge(limits, measured("tables", "", 0.0, 1.0)).results[0]
    assert (found.outcome, "nothing to divide by: base is at 0" in found.why) == ("inconclusive", True)


def test_every_line_of_the_grammar_is_accepted(tmp_path: Path) -> None:
    for line in GRAMMAR.splitlines():
        if line.startswith("For data.NAME"):
            forms, name = line.partition(":")[2].split("   "), "data.bold"
        elif line.startswith("For data"):
            forms, name = line.partition(":")[2].split("   "), "data"
        else:
            forms, name = line.split("   ")[0].split(", "), "bold"
        for form in (one.strip() for one in forms):
            if form:
                limits = gate(tmp_path, f"limits:\n  {name}:\n  - {form}\n")
                assert len(limits.rules) + len(limits.data_rules) == 1, form


# --- data -------------------------------------------------------------------------------------------------------------


def data_verdict(folder: Path, text: str) -> Verdict:
    return judge_data(gate(folder, text), hypotheses(), study="my-study", fingerprint="f" * 16)


def test_a_confirmed_finding_fails_the_data_and_names_rows_and_the_fix(tmp_path: Path) -> None:
    found = data_verdict(tmp_path, 'limits:\n  data: no confirmed "more" of bold\n')
    (one,) = found.results
    assert (found.outcome, found.exit_code) == ("fail", 1)
    assert "g-L812" in one.why
    assert len(one.pair_ids) == 40
    assert "tiltscope prepare my-study" in one.fix
    assert "suppress" in one.fix
    assert "rows (10 of 40)" in as_text(found)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ('data: no confirmed "less" of bold', "pass"),
        ('data: no confirmed "less" of em_dash', "fail"),
        ("data: no confirmed lean of em dash", "fail"),
        ('data: no confirmed "more" of heading', "fail"),
        ('data: no confirmed "more" of comma', "pass"),
        ('data: no confirmed "more" of goblin', "pass"),
        ('data: no confirmed "more" of L7', "inconclusive"),
        ("data.bold: lean at most +0.05", "fail"),
        ("data.bold: lean at most +0.50", "pass"),
        ("data.bold: lean within 0.26", "inconclusive"),
        ("data.em_dash: lean at least -0.05", "fail"),
        ("data.goblin: lean at most +0.05", "inconclusive"),
    ],
)
def test_rules_about_data(tmp_path: Path, rule: str, wanted: str) -> None:
    assert data_verdict(tmp_path, f"limits:\n  {rule}\n").outcome == wanted


def test_a_detailed_name_is_the_same_behaviour(tmp_path: Path) -> None:
    row = made_hypothesis("g-L1", made_concept("L1", "bold text: opening mark", "library"), 0.2)
    limits = gate(tmp_path, 'limits:\n  data: no confirmed "more" of bold\n')
    assert judge_data(limits, [row], study="s", fingerprint="f").outcome == "fail"


def test_more_of_a_behaviour_is_also_where_it_is_shown_often_but_its_lean_is_its_own(tmp_path: Path) -> None:
    often = made_concept("L1", "bold text, 3 times or more", "library")
    often |= {"id": "N-bold-3", "rule": "often:3:bold", "latents": []}
    row = made_hypothesis("g-N-bold-3", often, 0.2)

    def told(text: str) -> str:
        limits = gate(tmp_path, f"limits:\n  {text}\n")
        return judge_data(limits, [row], study="s", fingerprint="f").outcome

    assert told('data: no confirmed "more" of bold') == "fail"
    assert told('data: no confirmed "less" of bold') == "pass"
    assert told('data: no confirmed "more" of emoji') == "pass"
    assert told('data: no confirmed "more" of N-bold-3') == "fail"
    assert told("data.bold: lean at most +0.05") == "inconclusive"


@pytest.mark.parametrize("rule", ['data: no confirmed "more" of blod', "data.blod: lean at most +0.05"])
def test_a_misspelt_name_in_a_data_rule_is_refused(tmp_path: Path, rule: str) -> None:
    with pytest.raises(UsageError, match="bold"):
        data_verdict(tmp_path, f"limits:\n  {rule}\n")


def test_a_gate_without_data_rules_is_refused_over_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no rule about data"):
        data_verdict(tmp_path, "limits: {bold: not lower}")


# --- writing ----------------------------------------------------------------------------------------------------------


def mixed(folder: Path) -> Verdict:
    made = comparison(0.3, [0.4, 0.4, 0.4])
    return judge(gate(folder, "limits:\n  bold: [at most +40 points, at most +10 points, at least +30 points]\n"), made)


def test_junit_counts_failures_and_open_rules_and_parses(tmp_path: Path) -> None:
    suite = ElementTree.fromstring(as_junit(mixed(tmp_path)))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert [len(case) for case in suite] == [0, 1, 1]


def test_hostile_names_do_not_break_out(tmp_path: Path) -> None:
    limits = gate(tmp_path, "limits:\n  data: no confirmed lean of C9\n")
    rows = [row | {"pair_ids": [HOSTILE, "\x00\ufffe]]>"]} for row in hypotheses()]
    found = judge_data(limits, rows, study=HOSTILE, fingerprint="f")
    assert found.outcome == "fail"
    text = "".join(ElementTree.fromstring(as_junit(found)).itertext())
    assert "\u202e" not in text
    page = as_markdown(found)
    assert "<script" not in page
    assert "\u202e" not in page + as_text(found)


def test_a_verdict_is_written_for_people_and_machines(tmp_path: Path) -> None:
    made = mixed(tmp_path)
    paths = write_verdict(made, tmp_path / "out")
    assert [path.name for path in paths] == ["verdict.json", "verdict.xml", "verdict.md"]
    body = json.loads(paths[0].read_text())
    assert (body["outcome"], body["exit_code"]) == ("fail", 1)
    assert [one["outcome"] for one in body["results"]] == ["pass", "inconclusive", "fail"]
    assert "## Gate: fail" in paths[2].read_text()
    assert body == json.loads(json.dumps(as_json(made)))


def test_a_draft_from_decisions_is_a_gate_that_can_be_read(tmp_path: Path) -> None:
    decisions = [
        {"action": "suppress", "behaviour": "bold", "name": "bold text"},
        {"action": "amplify", "behaviour": "hedge", "name": "hedging"},
        {"action": "suppress", "behaviour": None, "name": "latent\n7"},
        {"action": "undecided", "behaviour": "emoji", "name": "emoji"},
    ]
    text = draft_limits(decisions)
    limits = gate(tmp_path, text)
    rules = {one.name: one.text for one in limits.rules}
    assert rules["bold"] == "at most +2 points vs base"
    assert rules["hedge"] == "at least +5 % vs base"
    assert rules["refusal_unsafe"] == "not lower"
    assert "emoji" not in rules
    assert "nothing measures it" in text
    assert math.isclose(limits.tolerance, 2)


def test_a_draft_of_nothing_measured_is_refused_when_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no limits"):
        gate(tmp_path, draft_limits([], measured=[]))
