"""Findings on features with a known truth: what is planted, what must not be found, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from made_features import flipped, made
from tiltscope.contrast import Contrast, ContrastSettings, contrast, write_contrast
from tiltscope.errors import DataError, InconclusiveError
from tiltscope.hypotheses import find_hypothesis, read_disparities, read_hypotheses

QUICK = ContrastSettings(n_draws=40, n_null_cells=60, n_flip_cells=4)


@pytest.fixture(scope="module")
def planted() -> Contrast:
    pairs, features = made(900, lean=0.65, tied=0.85, seed=3)
    return contrast(pairs, features, QUICK)


def _latents(result: Contrast, view: str) -> set[int]:
    return {f for h in result.hypotheses if h.confirmed and h.view == view for f in h.concept.latents}


def test_the_planted_global_lean_is_found_first(planted: Contrast) -> None:
    assert set(planted.hypotheses[0].concept.latents) <= set(range(5))
    assert planted.hypotheses[0].confirmed
    assert planted.hypotheses[0].direction == "more"


def test_the_lean_tied_to_one_kind_of_prompt_is_found_with_its_prompts(planted: Contrast) -> None:
    found = [h for h in planted.hypotheses if h.confirmed and h.view == "prompt"]
    assert found
    assert set(found[0].concept.latents) <= set(range(5, 10))
    assert found[0].region is not None
    inside = next(region.inside for region in planted.regions if region.id == found[0].region.id)
    pairs, _ = made(900, lean=0.65, tied=0.85, seed=3)
    topic = np.array([pair.prompt_text.split()[1] for pair in pairs.rows]) == "0"
    assert 2 * (inside & topic).sum() / (inside.sum() + topic.sum()) >= 0.7


def test_balanced_traits_are_not_confirmed(planted: Contrast) -> None:
    assert not _latents(planted, "global") & set(range(10, 15))
    assert not _latents(planted, "prompt") & set(range(10, 15))


def test_no_finding_is_confirmed_when_nothing_is_planted() -> None:
    pairs, features = made(600, lean=0.5, tied=0.5, seed=4)
    result = contrast(pairs, features, QUICK)
    assert sum(h.confirmed for h in result.hypotheses) == 0


def test_flipped_labels_keep_concepts_and_regions_and_turn_every_direction() -> None:
    pairs, features = made(400, lean=0.7, seed=5)
    one = contrast(pairs, features, QUICK)
    other = contrast(pairs, flipped(features, np.ones(400, bool)), QUICK)
    assert one.concepts == other.concepts
    assert [r.id for r in one.regions] == [r.id for r in other.regions]
    turned = {h.id: h for h in other.hypotheses}
    for h in one.hypotheses:
        assert turned[h.id].effect == pytest.approx(-h.effect, abs=1e-9)
        if h.q is not None:
            assert turned[h.id].p == pytest.approx(h.p, abs=1e-9)
            assert turned[h.id].direction != h.direction


def test_an_explore_p_is_never_shown_as_q(planted: Contrast) -> None:
    for h in planted.hypotheses:
        assert (h.q is None) == (h.verdict in ("not a candidate", "too few witnesses"))
        assert h.q is None or h.q >= h.p


def test_what_explains_nothing_leaves_all_of_the_effect() -> None:
    pairs, features = made(400, lean=0.8, seed=5)
    rows = tuple(replace(pair, chosen="one word", rejected="one word") for pair in pairs.rows)
    result = contrast(replace(pairs, rows=rows), features, QUICK)
    assert any(h.estimand == "tau" and h.confirmed for h in result.hypotheses)
    for h in result.hypotheses:
        for name in ("markdown", "punctuation", "bag_of_words"):
            assert h.baselines[name].effect_left == pytest.approx(h.effect, abs=1e-9)


def test_effect_interval_and_p_come_from_one_regression(planted: Contrast) -> None:
    for h in planted.hypotheses:
        assert h.ci_low <= h.effect <= h.ci_high
        if h.p < 0.02:
            assert (h.ci_low > 0) if h.direction == "more" else (h.ci_high < 0)


def test_pairs_that_share_a_prompt_are_one_witness() -> None:
    """Twelve copies of each of 60 answers' leans say no more than 60 prompts can."""
    pairs, features = made(60, lean=0.5, seed=6)
    rows = tuple(replace(pair, id=f"{pair.id}-{copy}") for pair in pairs.rows for copy in range(12))
    take = np.repeat(np.arange(60), 12)
    sides = {
        name: replace(
            getattr(features, name),
            freq=getattr(features, name).freq[take],
            max=getattr(features, name).max[take],
            n_tokens=getattr(features, name).n_tokens[take],
        )
        for name in ("chosen", "rejected", "prompt")
    }
    many = replace(features, pair_ids=tuple(pair.id for pair in rows), **sides)
    result = contrast(replace(pairs, rows=rows), many, QUICK)
    assert result.record["n_groups"] == 60
    assert all(h.n_groups <= 60 for h in result.hypotheses)
    assert sum(h.confirmed for h in result.hypotheses) == 0


def test_too_few_prompts_are_inconclusive_not_a_finding() -> None:
    pairs, features = made(30)
    with pytest.raises(InconclusiveError, match="too few independent prompts"):
        contrast(pairs, features, QUICK)


def test_features_of_other_pairs_are_refused() -> None:
    pairs, features = made(100)
    with pytest.raises(DataError, match="not in this dataset"):
        contrast(replace(pairs, rows=pairs.rows[:50]), features, QUICK)


def test_the_same_run_writes_the_same_bytes_and_reads_back(planted: Contrast, tmp_path: Path) -> None:
    pairs, features = made(900, lean=0.65, tied=0.85, seed=3)
    for name, result in (("a", planted), ("b", contrast(pairs, features, QUICK))):
        (tmp_path / name).mkdir()
        write_contrast(result, tmp_path / name)
    for product in ("hypotheses.json", "concepts.json"):
        assert (tmp_path / "a" / product).read_bytes() == (tmp_path / "b" / product).read_bytes()
    first = read_hypotheses(tmp_path / "a")[0]
    assert find_hypothesis(tmp_path / "a", first["id"]) == first
    carried = read_disparities(tmp_path / "a", first["id"])
    assert set(first["pair_ids"]) <= set(carried)
    assert len(first["pair_ids"]) <= 200
    json.loads((tmp_path / "a" / "hypotheses.json").read_text())


def test_both_nulls_are_reported_for_every_view(planted: Contrast) -> None:
    nulls = {(entry["null"], entry["view"]) for entry in planted.record["nulls"]}
    assert nulls == {(null, view) for null in ("sharp", "adjusted") for view in ("global", "region", "prompt", "own")}
    for entry in planted.record["nulls"]:
        assert entry["n_draws"] == 40
        assert 0 < entry["share_p05"] < 0.12
