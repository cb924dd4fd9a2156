"""What answers say: counted as the rule finds it again, found where it is planted, and not where it is not."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import made_study
from made_features import made
from test_known import with_texts
from test_report_safety import source_of
from tiltscope.behaviours import is_said, rule, said
from tiltscope.cells import ContrastSettings
from tiltscope.contrast import contrast
from tiltscope.errors import TiltscopeError, UsageError
from tiltscope.families import Finding, Ground, group_findings
from tiltscope.hypotheses import Hypothesis
from tiltscope.known import behaviour_measures
from tiltscope.pairs import Pair, Pairs
from tiltscope.phrases import phrase_concept, phrase_measures
from tiltscope.plan import load_plan, write_draft
from tiltscope.stats import Clusters

QUICK = ContrastSettings(n_null_cells=0, n_flip_cells=0)
WORDS = ("stay", "safe", "don't", "**", "🙌", "Stay", ".", ",", "'safe'", "snake_case", "\n", "`code`", "4", "é", "::")


def _random_pairs(n: int, seed: int) -> list[Pair]:
    rng = random.Random(seed)
    each = ((" ".join(rng.choices(WORDS, k=12)), " ".join(rng.choices(WORDS, k=12))) for _ in range(n))
    blank = made(1)[0].rows[0]
    return [replace(blank, id=f"{i}", chosen=a, rejected=b, group=f"g{i}") for i, (a, b) in enumerate(each)]


# --- what is counted --------------------------------------------------------------------------------------------------


def test_a_phrase_is_counted_as_its_rule_finds_it_in_the_text() -> None:
    rows = _random_pairs(60, 1)
    measures = phrase_measures(rows, np.arange(60), least=4)
    assert len(measures.concepts) > 40
    again = behaviour_measures(rows, measures.concepts)
    assert np.array_equal(measures.u.toarray(), again.u.toarray())
    assert np.array_equal(measures.a.toarray(), np.abs(measures.u.toarray()))


def test_phrases_are_all_that_enough_prompts_put_at_stake_counted_by_hand() -> None:
    rows, groups = _random_pairs(60, 3), np.arange(60) // 2
    by_hand: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        for n in (1, 2, 3):
            for phrase in set(said(row.chosen, n)) ^ set(said(row.rejected, n)):
                if n == 3 and not all(map(is_said, (phrase.split(" ")[:2], phrase.split(" ")[1:]))):
                    continue  # a phrase is made of phrases
                by_hand.setdefault(phrase, [0] * 60)[number] = 1 if phrase in said(row.chosen, n) else -1
    wide = {name: tuple(u) for name, u in by_hand.items() if len({groups[i] for i in np.flatnonzero(u)}) >= 4}
    longest = {u: max((name for name in wide if wide[name] == u), key=len) for u in set(wide.values())}
    measures = phrase_measures(rows, groups, least=4)
    found = {
        one.rule.removeprefix("says:"): tuple(u)
        for one, u in zip(measures.concepts, measures.u.toarray().T, strict=True)
    }
    assert set(found.values()) == set(longest)
    assert {name: wide[name] for name in found} == found


def test_where_nothing_is_said_there_is_no_phrase() -> None:
    rows = [replace(one, chosen="", rejected=" \n ") for one in _random_pairs(20, 4)]
    assert phrase_measures(rows, np.arange(20), least=1).concepts == ()


def test_a_rule_marks_the_words_it_counts() -> None:
    assert rule("says:stay safe").marks("Stay\tSAFE. unstay safe; stay, safe; stay safely; stay\nsafe") == [(0, 9)]
    assert rule("says:don't").marks("don’t, don't, don") == [(0, 5), (7, 12)]
    assert rule("says:**").marks("**a** `**` ***") == [(0, 2), (3, 5)]
    assert rule("says:! i").marks("Yes! I do") == [(3, 6)]
    assert rule("says:stay").present("`stay`") is False


def test_ids_are_fit_for_a_shell_and_a_file_name_and_differ() -> None:
    names = ["don't", "dont", "stay safe", "**", "🙌", ", perhaps .", "snake_case", "snake case"]
    ids = [phrase_concept(name).id for name in names]
    assert len(set(ids)) == len(ids)
    assert all(set(id) <= set("abcdefghijklmnopqrstuvwxyz0123456789W-+._") for id in ids)
    assert phrase_concept(", perhaps .").name == "phrase “, perhaps.”"


@pytest.mark.parametrize("bad", ["Stay safe", "stay  safe", " stay", "", "a b c d", "!?  a", "** !!", "stay-safe"])
def test_what_is_no_phrase_is_refused_with_the_way_to_write_it(bad: str) -> None:
    with pytest.raises(UsageError, match="no word, symbol or phrase") as told:
        rule(f"says:{bad}")
    assert "says:stay safe" in str(told.value.hint)


def test_which_phrases_there_are_depends_on_no_label() -> None:
    rows = _random_pairs(50, 2)
    turned = [replace(r, chosen=r.rejected, rejected=r.chosen) if i % 3 else r for i, r in enumerate(rows)]
    one, other = (phrase_measures(each, np.arange(50), least=4) for each in (rows, turned))
    signs = np.where(np.arange(50) % 3, -1, 1)[:, None]
    assert one.concepts == other.concepts
    assert np.array_equal(one.u.toarray() * signs, other.u.toarray())


def test_a_phrase_needs_enough_prompts_not_rows() -> None:
    rows = [replace(r, chosen="so be it", rejected="no") for r in _random_pairs(30, 3)]
    assert phrase_measures(rows, np.arange(30), least=12).concepts
    assert not phrase_measures(rows, np.arange(30) // 3, least=12).concepts


def test_of_phrases_at_stake_in_the_same_pairs_the_longest_stands_for_all() -> None:
    rows = [replace(r, chosen="so be it", rejected="no") for r in _random_pairs(30, 3)]
    found = {one.rule for one in phrase_measures(rows, np.arange(30), least=12).concepts}
    assert found == {"says:so be it", "says:no"}
    assert list(said("so be it", 3)) == ["so be it"]


# --- what is found ----------------------------------------------------------------------------------------------------


def _audit(answers: list[tuple[str, str]], *, seed: int = 4) -> tuple[Pairs, list[Hypothesis]]:
    pairs, features = made(len(answers), lean=0.5, tied=0.5, seed=seed)
    pairs = with_texts(pairs, answers)
    return pairs, [one for one in contrast(pairs, features, QUICK).hypotheses if one.confirmed]


def _in_words(n: int, seed: int) -> list[tuple[str, str]]:
    """Answers of twenty words drawn from forty: as much in one as in the other."""
    rng = random.Random(seed)
    bank = [f"w{i}" for i in range(40)]
    return [(" ".join(rng.choices(bank, k=20)), " ".join(rng.choices(bank, k=20))) for _ in range(n)]


def test_a_closing_phrase_in_three_percent_of_chosen_answers_is_found_and_nothing_else() -> None:
    answers = _in_words(700, 5)
    answers = [(f"{a} Mind the gap", b) if i % 33 == 0 else (a, b) for i, (a, b) in enumerate(answers)]
    _, found = _audit(answers)
    heads = [one for one in found if one.family == one.id and one.concept.rule]
    assert [one.concept.name for one in heads] == ["phrase “mind the gap”"]
    assert (heads[0].id, heads[0].direction, heads[0].n_pairs) == ("g-W-mind.the.gap", "more", 700)


def test_a_phrase_said_as_often_on_both_sides_is_not_found() -> None:
    answers = _in_words(700, 6)
    for i in range(0, 700, 14):
        a, b = answers[i]
        answers[i] = (f"{a} Mind the gap", b) if i % 28 else (a, f"{b} Mind the gap")
    assert not [one for one in _audit(answers)[1] if one.concept.rule]


def test_a_longer_answer_says_more_of_everything_and_no_word_is_told_of() -> None:
    """Chosen answers are up to twice as long: every word leans to them, none does at equal length."""
    rng = random.Random(7)
    bank = [f"w{i}" for i in range(40)]
    lengths = [rng.randint(10, 20) for _ in range(700)]
    answers = [
        (" ".join(rng.choices(bank, k=n + rng.randint(0, n))), " ".join(rng.choices(bank, k=n))) for n in lengths
    ]
    pairs, features = made(700, lean=0.5, tied=0.5, seed=4)
    pairs = with_texts(pairs, answers)
    n_tokens = [np.array([len(each[side].split()) for each in answers]) for side in (0, 1)]
    chosen, rejected = replace(features.chosen, n_tokens=n_tokens[0]), replace(features.rejected, n_tokens=n_tokens[1])
    found = contrast(pairs, replace(features, chosen=chosen, rejected=rejected), QUICK).hypotheses
    leans = np.asarray(phrase_measures(pairs.rows, np.arange(700), least=12).u.mean(axis=0)).ravel()
    assert (leans > 0.05).sum() > 20
    assert sum(one.confirmed for one in found if one.concept.is_phrase) <= 2
    told = [one for one in found if one.concept.is_phrase and one.p < 0.05]
    assert all(one.length == "robust to length" for one in told)


def test_a_phrase_said_after_one_kind_of_prompt_is_found_there() -> None:
    pairs, features = made(900, lean=0.5, tied=0.5, seed=8)
    topic = [pair.prompt_text.split()[1] == "0" for pair in pairs.rows]
    answers = _in_words(900, 8)
    n = 0
    for i, inside in enumerate(topic):
        n += inside
        if inside and n % 5 == 0:
            answers[i] = (f"Brilliant theory! {answers[i][0]}", answers[i][1])
    found = [one for one in contrast(with_texts(pairs, answers), features, QUICK).hypotheses if one.confirmed]
    there = [one for one in found if one.view == "prompt" and one.concept.is_phrase]
    assert there
    assert {one.concept.rule for one in there} <= {"says:brilliant theory", "says:brilliant theory !", "says:theory !"}
    assert all(one.estimand == "own" for one in there)


def test_words_with_nothing_in_them_are_called_in_at_most_one_dataset_of_ten() -> None:
    called = sum(bool(_audit(_in_words(300, 100 + draw), seed=100 + draw)[1]) for draw in range(12))
    assert called <= 3


# --- what is done with it ---------------------------------------------------------------------------------------------


def test_words_speak_for_the_latents_that_fire_with_them_and_give_way_to_a_behaviour() -> None:
    from scipy import sparse

    rng = np.random.default_rng(0)
    said_it = np.where(rng.random(400) < 0.3, rng.choice([1.0, 1.0, -1.0], 400), 0.0)
    columns = sparse.csc_array(np.column_stack([said_it, said_it, said_it]).astype(np.float32))
    latent, words, behaviour = (
        Finding("global", 1, True, clear=False),
        Finding("global", 1, True, words=True),
        Finding("global", 1, True, rule="bold", by_rule=True),
    )
    ground = Ground(np.arange(400), Clusters.of(np.arange(400)), np.zeros((400, 0)))
    assert group_findings([latent, words], columns[:, :2], ground, ground) == [1, 1]
    assert group_findings([latent, words, behaviour], columns, ground, ground) == [2, 2, 2]


@pytest.mark.parametrize(("at_stake", "told"), [(0.2, True), (0.1, False)])
def test_a_behaviour_that_comes_in_the_same_words_says_which(tmp_path: Path, at_stake: float, told: bool) -> None:
    marks = {**made_study.concept("L1", "exclamation mark", "library"), "id": "B-exclamation", "rule": "exclamation"}
    words = {**made_study.concept("L2", "phrase “the gap!”", "tokens"), "id": "W-gap", "rule": "says:the gap !"}
    rows = [
        made_study.hypothesis("g-B-exclamation", marks, 0.3),
        made_study.hypothesis("g-W-gap", words, 0.2, family="g-B-exclamation", at_stake=at_stake),
    ]
    source = source_of(made_study.make(tmp_path / "s", rows=rows))
    assert ("mostly in the phrase “the gap!”" in source) is told
    assert source.count("<article") == 1


def test_a_decision_on_words_acts_on_the_words_and_a_misspelt_one_says_where(tmp_path: Path) -> None:
    words = {**made_study.concept("L2", "phrase “stay safe”", "tokens"), "id": "W-stay.safe", "rule": "says:stay safe"}
    namesake = {
        "rule": "says:stay safe",
        "measure": "present",
        "effect": 0.2,
        "ci_low": 0.1,
        "ci_high": 0.3,
        "holds": True,
    }
    row = made_study.hypothesis("g-W-stay.safe", {**words, "latents": []}, 0.2, namesake=namesake)
    study = made_study.make(tmp_path / "s", rows=[row])
    plan = write_draft(study)
    assert 'detector: {kind: rule, rule: "says:stay safe", by: present}' in plan.read_text()
    decided = (
        plan.read_text()
        .replace("action: undecided", "action: suppress")
        .replace("method: null", "method: reward_shaping")
    )
    decided = decided.replace('reason: ""', "reason: a sign-off").replace("strength: null", "strength: 2")
    plan.write_text(decided)
    (decision,) = load_plan(plan).decisions
    assert decision.detector is not None
    assert (decision.detector.source, decision.detector.by) == ("says:stay safe", "present")
    plan.write_text(decided.replace("says:stay safe", "says:Stay  Safe"))
    with pytest.raises(TiltscopeError) as told:
        load_plan(plan)
    assert "says:stay safe" in told.value.hint
    assert "plan.yaml:" in told.value.where
