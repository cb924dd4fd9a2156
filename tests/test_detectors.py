"""Detectors against a known truth: what is planted is found, what is not planted is not, and weak ones are told."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from double import at_random, make_pairs, read_double
from tiltscope.behaviours import rule
from tiltscope.detectors import (
    Detection,
    Inputs,
    Quality,
    TokenVectors,
    best_threshold,
    detect,
    fit_direction,
    fit_probe,
    measure_quality,
    merge_spans,
    on_one_line,
    require_quality,
    standardise,
    text_marks,
    text_scores,
    whole_direction,
    whole_sentences,
    whole_words,
)
from tiltscope.errors import UsageError
from tiltscope.features import Features
from tiltscope.pairs import Pairs
from tiltscope.plan import Decision, DetectorSpec

BOLD = DetectorSpec("rule", "bold")
WIDTH = 12
N = 80


def answer(number: int, *, bold: bool) -> str:
    words = ["alpha", "beta", "gamma", "delta", "kappa", "sigma"]
    said = [words[(number + step) % 6] for step in range(4 + number % 5)]
    if bold:
        said[number % len(said)] = f"**{said[number % len(said)]}**"
    return " ".join(said)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    rng = np.random.default_rng(0)
    return make_pairs(
        [
            (f"question {n // 2}", answer(n, bold=rng.random() < 0.6), answer(n + 3, bold=rng.random() < 0.3))
            for n in range(N)
        ]
    )


@pytest.fixture(scope="module")
def features(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Latent 0 fires on the stars of bold text, 1 on its letters, 2 on random words."""
    return read_double(
        pairs, [r"\*\*", lambda t: rule("bold").marks(t), at_random(0.3)], tmp_path_factory.mktemp("read")
    )


def vectors_of(pairs: Pairs, *, strength: float = 6.0, seed: int = 0) -> Callable[[str, str], TokenVectors]:
    """Noise, and `strength` along the third axis on every token of bold text."""
    texts = {(row.id, side): getattr(row, side) for row in pairs.rows for side in ("chosen", "rejected")}

    def of(pair_id: str, side: str) -> TokenVectors:
        return text_vectors(texts[pair_id, side], strength=strength, seed=seed + int(pair_id, 16))

    return of


def text_vectors(text: str, *, strength: float = 6.0, seed: int = 0) -> TokenVectors:
    rng = np.random.default_rng([seed, len(text)])
    spans = np.array([match.span() for match in re.finditer(r" ?[\w]+|\*\*", text)])
    vectors = rng.normal(size=(len(spans), WIDTH)).astype(np.float32)
    for start, end in rule("bold").marks(text):
        vectors[(spans[:, 0] < end) & (spans[:, 1] > start), 2] += strength
    return TokenVectors(vectors, spans[:, 0], spans[:, 1])


def truth(pairs: Pairs) -> np.ndarray:
    return np.array(
        [[rule("bold").present(getattr(row, side)) for row in pairs.rows] for side in ("chosen", "rejected")]
    )


def both(detection: Detection) -> np.ndarray:
    return np.array([detection.chosen, detection.rejected])


# --- rules, patterns, functions ---------------------------------------------------------------------------------------


def test_a_rule_scores_the_share_of_characters_it_marks(pairs: Pairs) -> None:
    found = detect(BOLD, Inputs(pairs), mark=True)
    for number, row in enumerate(pairs.rows):
        marks = rule("bold").marks(row.chosen)
        assert found.chosen[number] == sum(end - start for start, end in marks) / len(row.chosen)
        assert found.chosen_spans is not None
        assert found.chosen_spans.get(row.id, ()) == tuple(marks)
    assert found.quality is not None
    assert (found.quality.f1, found.quality.held_out) == (1.0, False)
    assert "its own definition" in found.quality.said


@pytest.mark.parametrize(("pattern", "said"), [(".", "all of"), ("never written", "none of")])
def test_a_rule_that_all_answers_show_or_none_is_not_called_right(pairs: Pairs, pattern: str, said: str) -> None:
    found = detect(DetectorSpec("regex", pattern), Inputs(pairs)).quality
    assert found is not None
    assert (found.f1, found.auroc, found.threshold) == (None, None, None)
    assert found.said.startswith("not measured")
    assert f"not measurable, {said} {2 * len(pairs.rows)} answers show it" in found.said


def test_a_rule_may_score_presence_alone(pairs: Pairs) -> None:
    found = detect(DetectorSpec("rule", "bold", by="present"), Inputs(pairs))
    assert np.array_equal(both(found), truth(pairs))
    assert found.chosen_spans is None


def test_a_pattern_marks_its_matches_and_may_be_checked_against_a_rule(pairs: Pairs) -> None:
    found = detect(DetectorSpec("regex", r"\*\*\w+\*\*|x*", check=BOLD), Inputs(pairs), mark=True)
    assert np.array_equal(both(found) > 0, truth(pairs))
    assert found.quality is not None
    assert (found.quality.f1, found.quality.auroc, found.quality.marks_f1) == (1.0, 1.0, 1.0)
    assert found.quality.held_out
    null = detect(DetectorSpec("regex", "alpha", check=BOLD), Inputs(pairs)).quality
    assert null is not None
    assert null.f1 is not None
    assert null.f1 < 0.8


def test_a_pattern_sees_every_line() -> None:
    assert text_marks(DetectorSpec("regex", "^- "), "- one\n- two") == ((0, 2), (6, 8))


def test_a_function_of_the_users_is_imported_and_scores(
    pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loud_words.py").write_text("def stars(text):\n    return text.count('**')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    found = detect(DetectorSpec("callable", "loud_words:stars", check=BOLD), Inputs(pairs))
    assert np.array_equal(both(found) > 0, truth(pairs))
    assert found.quality is not None
    assert found.quality.f1 == 1.0
    assert detect(DetectorSpec("callable", "loud_words:stars"), Inputs(pairs)).quality is None


@pytest.mark.parametrize(
    ("body", "what", "found"),
    [
        ("def f(text):\n    return 1 / (len(text) - 3)\n", "fails on some texts", "2 of 5 texts.*ZeroDivisionError"),
        ("def f(text):\n    return None\n", "fails on some texts", "5 of 5 texts.*NoneType"),
        ("def f(text):\n    return 'loud'\n", "fails on some texts", "a number was wanted, not str"),
        ("def f(text):\n    return float('nan')\n", "fails on some texts", "finite"),
        ("f = 3\n", "is not a function", "int"),
        ("g = 3\n", "cannot be imported", "no attribute 'f'"),
        ("def f(:\n", "cannot be imported", "invalid syntax"),
        ("import no_such_package\n", "cannot be imported", "no_such_package"),
    ],
)
def test_a_function_that_fails_is_refused_with_the_count_and_the_first_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, what: str, found: str
) -> None:
    name = f"made_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(body, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=what) as caught:
        text_scores(DetectorSpec("callable", f"{name}:f"), ["abc", "abcd", "xyz", "", "a"], where="plan.yaml:7")
    assert re.search(found, caught.value.found)
    assert caught.value.where == "plan.yaml:7"


# --- latents ----------------------------------------------------------------------------------------------------------


def test_a_concept_scores_the_share_of_tokens_its_latents_fire_on(pairs: Pairs, features: Features) -> None:
    found = detect(DetectorSpec("concept", latents=(0, 2)), Inputs(pairs, features))
    assert found.pair_ids == features.pair_ids
    expected = features.rejected.freq.toarray()[:, [0, 2]].sum(axis=1)
    np.testing.assert_allclose(found.rejected, expected, rtol=1e-6)
    assert found.quality is None


def test_a_latent_that_is_bold_text_passes_and_a_random_one_does_not(pairs: Pairs, features: Features) -> None:
    inputs = Inputs(pairs, features)
    good = detect(DetectorSpec("latent", latents=(0,), check=BOLD), inputs).quality
    null = detect(DetectorSpec("latent", latents=(2,), check=BOLD), inputs).quality
    assert good is not None
    assert null is not None
    assert (good.f1, good.auroc) == (1.0, 1.0)
    assert null.f1 is not None
    assert null.f1 < 0.8
    named = detect(DetectorSpec("concept", latents=(0,)), Inputs(pairs, features, namesake="bold")).quality
    assert named == good


def test_a_latent_marks_its_tokens_or_whole_words(pairs: Pairs, features: Features) -> None:
    tokens, words = (
        detect(DetectorSpec("latent", latents=(0,), words=words, check=BOLD), Inputs(pairs, features), mark=True)
        for words in (False, True)
    )
    assert tokens.chosen_spans is not None
    assert words.chosen_spans is not None
    n_marked = 0
    for row in pairs.rows:
        stars = [m.span() for m in re.finditer(r" ?\*\*?", row.chosen) if "*" in m.group()]
        assert {at for span in tokens.chosen_spans.get(row.id, ()) for at in range(*span)} == {
            at for span in stars for at in range(*span)
        }
        n_marked += len(stars)
        assert words.chosen_spans.get(row.id, ()) == tokens.chosen_spans.get(row.id, ())  # stars are no word
    assert n_marked > 20
    assert tokens.quality is not None
    assert tokens.quality.marks_f1 is not None
    assert 0.3 < tokens.quality.marks_f1 < 0.9
    letters = detect(DetectorSpec("latent", latents=(1,), check=BOLD), Inputs(pairs, features), mark=True).quality
    assert letters is not None
    assert letters.marks_f1 is not None
    assert letters.marks_f1 > 0.9


def test_sentences_grow_to_their_ends_and_not_beyond_a_line() -> None:
    text = "A 3.5 m goblin! Next (one).\n- a goblin list\nEnd"
    assert [text[a:b] for a, b in whole_sentences(text, [(8, 9)])] == ["A 3.5 m goblin!"]
    assert [text[a:b] for a, b in whole_sentences(text, [(17, 18), (33, 35)])] == ["Next (one).", "- a goblin list"]
    assert whole_sentences(text, []) == ()


def test_a_rule_can_mark_the_sentence_it_stands_in() -> None:
    spec = DetectorSpec("regex", "goblins?", sentences=True)
    assert text_marks(spec, "Fine. Goblins? No, goblins win. Yes.") == ((15, 31),)
    assert spec.bare == DetectorSpec("regex", "goblins?").bare


LISTED = "**Note** this\n- **one** and **two**\n- three\n\n1. **four**\n**five**"


def test_a_rule_marks_the_child_in_its_parent_or_the_parent_without_its_child() -> None:
    items = DetectorSpec("rule", "bulleted_list")
    inside, outside = replace(BOLD, on_lines_with=items), replace(BOLD, on_lines_without=items)
    assert [LISTED[a:b] for a, b in text_marks(inside, LISTED)] == ["**one**", "**two**"]
    assert [LISTED[a:b] for a, b in text_marks(outside, LISTED)] == ["**Note**", "**four**", "**five**"]
    assert set(text_marks(inside, LISTED)) | set(text_marks(outside, LISTED)) == set(text_marks(BOLD, LISTED))
    neither = replace(outside, on_lines_without=DetectorSpec("regex", r"^(?:-|\d+\.) "))
    assert [LISTED[a:b] for a, b in text_marks(neither, LISTED)] == ["**Note**", "**five**"]
    both = replace(inside, on_lines_without=DetectorSpec("regex", "two"))
    assert text_marks(both, LISTED) == ()
    assert "on lines with rule bulleted_list" in inside.shown
    assert inside.bare != BOLD.bare != outside.bare


def test_what_spans_lines_stands_on_each_of_them_and_line_ends_at_its_rim_on_none() -> None:
    text = "one\ntwo\n\nthree\nfour"
    two, three = text.index("two"), text.index("three")
    spans = [(2, two + 1), (two + 3, three), (three - 1, three + 2), (three, len(text))]
    assert on_one_line(text, spans, [(0, 1)]) == [True, False, False, False]
    assert on_one_line(text, spans, [(two, two + 1)]) == [True, True, False, False]  # a blank line begins at its end
    assert on_one_line(text, spans, [(three + 1, three + 2)]) == [False, False, True, True]
    assert on_one_line("", [], []) == []


def test_words_grow_whole_and_spans_join() -> None:
    assert whole_words("don't over-think it", [(1, 2), (8, 9)]) == ((0, 5), (6, 16))
    assert whole_words("two goblins", []) == ()
    assert whole_words("a, b", [(1, 2)]) == ((1, 2),)
    assert merge_spans([(3, 3), (9, 12), (0, 2), (1, 5), (5, 6)]) == ((0, 6), (9, 12))


def test_a_threshold_marks_strong_tokens_alone(pairs: Pairs, features: Features) -> None:
    low, high = (
        detect(DetectorSpec("latent", latents=(1,), threshold=cut), Inputs(pairs, features), mark=True)
        for cut in (None, 1.5)
    )
    assert low.chosen_spans is not None
    assert high.chosen_spans is not None
    size = [sum(b - a for held in one.values() for a, b in held) for one in (low.chosen_spans, high.chosen_spans)]
    assert 0 < size[1] < size[0]


def test_latents_ask_for_the_features_they_belong_to(pairs: Pairs, features: Features) -> None:
    with pytest.raises(UsageError, match="needs features"):
        detect(DetectorSpec("latent", latents=(0,)), Inputs(pairs))
    with pytest.raises(UsageError, match="no such latent") as caught:
        detect(DetectorSpec("latent", latents=(3,)), Inputs(pairs, features), where="plan.yaml:9")
    assert caught.value.where == "plan.yaml:9"
    assert "has 3" in caught.value.found
    with pytest.raises(UsageError, match="other pairs"):
        detect(DetectorSpec("latent", latents=(0,)), Inputs(make_pairs([("q", "a", "b")]), features))


# --- directions and probes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["direction", "probe"])
def test_a_planted_direction_is_learned_from_labels_and_marks_its_tokens(pairs: Pairs, kind: str) -> None:
    spec = DetectorSpec("probe" if kind == "probe" else "direction", labels=BOLD)
    found = detect(spec, Inputs(pairs, vectors=vectors_of(pairs)), mark=True)
    assert found.quality is not None
    assert found.quality.f1 is not None
    assert found.quality.marks_f1 is not None
    assert found.quality.f1 > 0.9
    assert found.quality.marks_f1 > 0.85
    assert found.quality.held_out


@pytest.mark.parametrize("kind", ["direction", "probe"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_where_nothing_is_planted_the_held_out_quality_is_chance(kind: str, level: str) -> None:
    """Many columns and few responses: learned and measured on the same half, this would look perfect."""
    rng = np.random.default_rng(3)
    rows = [(f"q{n}", answer(n, bold=rng.random() < 0.5), answer(n + 1, bold=rng.random() < 0.5)) for n in range(60)]
    pairs = make_pairs(rows)
    drawn = {(row.id, side): rng.normal(size=(9, 80)) for row in pairs.rows for side in ("chosen", "rejected")}
    starts = np.arange(9)
    vectors = {key: TokenVectors(one, starts, starts + 1) for key, one in drawn.items()}
    spec = DetectorSpec("probe" if kind == "probe" else "direction", level="token", labels=BOLD)
    if level == "sequence":
        spec = DetectorSpec(spec.kind, level="sequence", labels=BOLD)
    quality = detect(spec, Inputs(pairs, vectors=vectors)).quality
    assert quality is not None
    assert quality.auroc is not None
    assert abs(quality.auroc - 0.5) < 0.2


def test_no_response_is_scored_by_what_its_own_group_taught(pairs: Pairs) -> None:
    """Changing a response changes no score of the half it taught nothing to: those of its own half."""
    base = vectors_of(pairs)
    first = pairs.rows[0]

    def changed(pair_id: str, side: str) -> TokenVectors:
        held = base(pair_id, side)
        return held if pair_id != first.id else TokenVectors(held.vectors - 50, held.starts, held.ends)

    spec = DetectorSpec("direction", labels=BOLD)
    before, after = (detect(spec, Inputs(pairs, vectors=one)) for one in (base, changed))
    moved = (before.chosen != after.chosen) | (before.rejected != after.rejected)
    groups = {row.group for row, has in zip(pairs.rows, moved, strict=True) if has and row.group != first.group}
    assert len(groups) == len({row.group for row in pairs.rows}) / 2
    twin = next(number for number, row in enumerate(pairs.rows) if row.group == first.group and row.id != first.id)
    assert not moved[twin]


def test_a_probe_learned_from_the_texts_of_the_plan_scores_the_responses(pairs: Pairs) -> None:
    texts = [[answer(n, bold=bold) for n in range(12)] for bold in (True, False)]
    examples = tuple([text_vectors(text, seed=90 + n) for n, text in enumerate(side)] for side in texts)
    for kind, level in (("direction", "sequence"), ("probe", "sequence")):
        spec = DetectorSpec(
            "probe" if kind == "probe" else "direction",
            level="sequence",
            positive=tuple(texts[0]),
            negative=tuple(texts[1]),
        )
        assert spec.level == level
        found = detect(spec, Inputs(pairs, vectors=vectors_of(pairs), examples=(examples[0], examples[1])))
        assert found.quality is not None
        assert "texts of the plan" in found.quality.against
        assert (found.quality.n_positive, found.quality.n_negative) == (6, 6)
        yes, no = both(found)[truth(pairs)], both(found)[~truth(pairs)]
        assert (yes[:, None] > no[None]).mean() > 0.9


@pytest.mark.parametrize("spec", [BOLD, DetectorSpec("direction", labels=BOLD), DetectorSpec("probe", labels=BOLD)])
def test_all_examples_together_teach_a_vector_to_steer_with(pairs: Pairs, spec: DetectorSpec) -> None:
    vector = whole_direction(spec, Inputs(pairs, vectors=vectors_of(pairs)))
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert vector[2] > 0.95
    with pytest.raises(UsageError, match="teaches no direction"):
        whole_direction(DetectorSpec("latent", latents=(1,)), Inputs(pairs, vectors=vectors_of(pairs)))


def test_vectors_that_do_not_fit_are_refused(pairs: Pairs) -> None:
    spec = DetectorSpec("direction", labels=BOLD)
    base = vectors_of(pairs)
    with pytest.raises(UsageError, match="needs the vectors"):
        detect(spec, Inputs(pairs))
    with pytest.raises(UsageError, match="no vectors") as caught:
        detect(spec, Inputs(pairs, vectors={}), where="plan.yaml:3")
    assert caught.value.where == "plan.yaml:3"
    none = TokenVectors(np.zeros((0, WIDTH)), np.zeros(0), np.zeros(0))
    with pytest.raises(UsageError, match="not one token"):
        detect(spec, Inputs(pairs, vectors=lambda pair_id, side: none))
    wide = TokenVectors(np.zeros((1, WIDTH + 1)), np.zeros(1), np.ones(1))
    last = pairs.rows[-1].id
    with pytest.raises(UsageError, match="differ in width"):
        detect(spec, Inputs(pairs, vectors=lambda pair_id, side: wide if pair_id == last else base(pair_id, side)))
    texts = DetectorSpec("probe", positive=("a", "b"), negative=("c", "d"))
    with pytest.raises(UsageError, match="not one token"):
        detect(texts, Inputs(pairs, vectors=base, examples=([none, none], [none, none])))
    with pytest.raises(UsageError, match="no positive example"):
        detect(DetectorSpec("direction", labels=DetectorSpec("regex", "zzz")), Inputs(pairs, vectors=base))
    with pytest.raises(UsageError, match="no negative example"):
        detect(DetectorSpec("probe", labels=DetectorSpec("regex", r"(?s).+")), Inputs(pairs, vectors=base))
    with pytest.raises(UsageError, match="were not handed in"):
        detect(DetectorSpec("probe", positive=("a", "b"), negative=("c", "d")), Inputs(pairs, vectors=base))
    with pytest.raises(UsageError, match="do not match their offsets"):
        TokenVectors(np.zeros((2, WIDTH)), np.zeros(1), np.zeros(1))
    with pytest.raises(UsageError, match="not finite"):
        TokenVectors(np.full((1, WIDTH), np.nan), np.zeros(1), np.ones(1))


def test_marks_of_a_direction_need_a_threshold_that_somebody_gave_or_measured(pairs: Pairs) -> None:
    texts = [[answer(n, bold=bold) for n in range(2)] for bold in (True, False)]
    examples = ([text_vectors(text) for text in texts[0]], [text_vectors(text) for text in texts[1]])
    inputs = Inputs(pairs, vectors=vectors_of(pairs), examples=examples)
    spec = DetectorSpec("direction", positive=tuple(texts[0]), negative=tuple(texts[1]), threshold=3.0)
    marks = detect(spec, inputs, mark=True).chosen_spans
    assert marks
    with pytest.raises(UsageError, match="marks nothing"):
        detect(DetectorSpec("probe", level="sequence", labels=BOLD), inputs, mark=True)
    rare = DetectorSpec("regex", "zzz")  # nothing to measure against: no threshold
    with pytest.raises(UsageError, match="above which score"):
        detect(DetectorSpec("direction", positive=spec.positive, negative=spec.negative, check=rare), inputs, mark=True)


def test_the_direction_is_the_difference_of_means_at_unit_length() -> None:
    rng = np.random.default_rng(1)
    yes, no = rng.normal(size=(50, 5)) + 3 * np.eye(5)[0], rng.normal(size=(40, 5))
    direction = fit_direction(yes, no)
    expected = yes.mean(axis=0) - no.mean(axis=0)
    np.testing.assert_allclose(direction, expected / np.linalg.norm(expected), rtol=1e-12)
    assert direction[0] > 0.9
    with pytest.raises(UsageError, match="same mean"):
        fit_direction(yes, yes)
    with pytest.raises(UsageError, match="differ in width"):
        fit_direction(yes, no[:, :3])


def test_a_probe_gives_the_log_odds_of_the_regression_it_wraps() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(2)
    yes, no = rng.normal(size=(60, 4)) * [1, 9, 0.1, 1] + [1, 0, 0, 0], rng.normal(size=(30, 4)) * [1, 9, 0.1, 1]
    x, y = np.concatenate([yes, no]), np.repeat([1, 0], [60, 30])
    oracle = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000)).fit(x, y)
    np.testing.assert_allclose(fit_probe(yes, no).scores(x), oracle.decision_function(x), rtol=1e-6, atol=1e-8)


# --- quality ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [4, 1000])
def test_f1_auroc_and_threshold_are_those_of_scikit_learn_on_the_other_half(levels: int) -> None:
    from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score

    from tiltscope.detectors.quality import first_half

    rng = np.random.default_rng(levels)
    labels = rng.random(300) < 0.3
    scores = np.round((labels + rng.normal(size=300)) * levels) / levels
    groups = [f"g{number // 3}" for number in range(300)]
    quality = measure_quality(scores, labels, groups, against="made")
    train = first_half(groups)
    precision, recall, _ = precision_recall_curve(labels[train], scores[train])
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
    assert quality.threshold is not None
    assert f1_score(labels[train], scores[train] > quality.threshold) == pytest.approx(best)
    assert quality.f1 == pytest.approx(f1_score(labels[~train], scores[~train] > quality.threshold))
    assert quality.auroc == pytest.approx(roc_auc_score(labels[~train], scores[~train]))
    assert (quality.n_positive, quality.n_negative) == (labels[~train].sum(), (~labels[~train]).sum())


def test_a_group_is_never_on_both_sides_of_the_cut() -> None:
    from tiltscope.detectors.quality import first_half

    groups = [f"g{number % 7}" for number in range(70)]
    train = first_half(groups, seed=5)
    sides = {group: {bool(train[n]) for n, one in enumerate(groups) if one == group} for group in set(groups)}
    assert all(len(one) == 1 for one in sides.values())
    assert 0 < train.sum() < 70


def test_a_threshold_lies_between_two_scores() -> None:
    assert best_threshold(np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True])) == 1.5
    everything = best_threshold(np.array([1.0, 1.0]), np.array([True, True]))
    assert everything < 1.0


def test_to_say_yes_always_is_not_quality_where_the_concept_is_common() -> None:
    labels = np.arange(200) % 10 != 0
    quality = measure_quality(np.random.default_rng(0).random(200), labels, [str(n) for n in range(200)], against="x")
    assert quality.f1 is not None
    assert quality.f1 > 0.9
    with pytest.raises(UsageError, match="is weak"):
        require_quality(Decision(1, 12, detector=BOLD), quality)


def test_too_few_labels_are_said_and_not_turned_into_a_number() -> None:
    quality = measure_quality(np.arange(4.0), np.array([True, False, False, False]), list("abcd"), against="x")
    assert (quality.f1, quality.auroc, quality.threshold) == (None, None, None)
    assert "1 texts with it" in quality.said


def test_a_weak_or_unchecked_detector_needs_a_person_who_accepts_it() -> None:
    decision = Decision(1, 12, "g-L1", "bold text", BOLD, action="suppress")
    strong, weak = (Quality(f1, 0.9, 0.1, 20, 20, "against the rule bold", True) for f1 in (0.8, 0.79))
    always = Quality(0.95, 0.5, -1.0, 90, 10, "against the rule bold", True)
    unmeasured = Quality(None, None, None, 1, 3, "too few", False)
    require_quality(decision, strong)
    for quality, what in (
        (weak, "is weak"),
        (always, "is weak"),
        (None, "nobody has checked"),
        (unmeasured, "nobody has checked"),
    ):
        with pytest.raises(UsageError, match=what) as caught:
            require_quality(decision, quality)
        assert caught.value.where == "plan.yaml:12"
        assert "accept_weak" in caught.value.hint
        require_quality(Decision(1, 12, detector=BOLD, accept_weak=True), quality)


# --- one scale --------------------------------------------------------------------------------------------------------


def test_standardised_scores_have_mean_0_and_sd_1_over_all_responses(pairs: Pairs) -> None:
    raw = detect(BOLD, Inputs(pairs))
    one = standardise(raw)
    assert both(one).mean() == pytest.approx(0, abs=1e-12)
    assert both(one).std() == pytest.approx(1)
    np.testing.assert_allclose(both(one) * one.sd + one.mean, both(raw), atol=1e-12)
    again = standardise(one)
    np.testing.assert_allclose(both(again) * again.sd + again.mean, both(raw), atol=1e-12)
    np.testing.assert_allclose(
        one.difference, (raw.chosen - raw.rejected) / raw.chosen.std() * 0 + raw.difference / one.sd
    )


def test_a_detector_that_says_the_same_of_everything_is_refused(pairs: Pairs) -> None:
    with pytest.raises(UsageError, match="the same score") as caught:
        standardise(detect(DetectorSpec("regex", "zzz"), Inputs(pairs)), where="plan.yaml:4")
    assert caught.value.where == "plan.yaml:4"
    assert f"all {2 * N} responses" in caught.value.found


def test_detections_are_taken_by_pair_id_and_never_by_position(pairs: Pairs) -> None:
    whole = detect(BOLD, Inputs(pairs), mark=True)
    ids = [row.id for row in pairs.rows][5:1:-1]
    part = whole.take(ids)
    assert part.pair_ids == tuple(ids)
    assert part.chosen.tolist() == whole.chosen[5:1:-1].tolist()
    assert part.chosen_spans is not None
    assert set(part.chosen_spans) <= set(ids)
    with pytest.raises(UsageError, match="not scored"):
        whole.take(["nobody"])


def test_scores_that_are_no_numbers_or_too_few_are_refused() -> None:
    with pytest.raises(UsageError, match="not a finite number"):
        Detection(("a",), np.array([np.nan]), np.zeros(1))
    with pytest.raises(UsageError, match="do not match"):
        Detection(("a",), np.zeros(2), np.zeros(1))


def test_the_same_inputs_give_the_same_detection(pairs: Pairs) -> None:
    spec = DetectorSpec("probe", labels=BOLD)
    one, other = (detect(spec, Inputs(pairs, vectors=vectors_of(pairs), seed=2)) for _ in range(2))
    assert np.array_equal(both(one), both(other))
    assert one.quality == other.quality
