"""Plans in rates: the tilt meets its targets on fresh answers, holds what is held, and says what cannot be had."""

from __future__ import annotations

import numpy as np
import pytest

from tiltscope.errors import UsageError
from tiltscope.interventions import prepare
from tiltscope.interventions.rates import (
    RateWish,
    Tilt,
    amplify_child_hold_siblings,
    keep_parent_drop_child,
    minimum_kl_tilt,
    penalise_parent_keep_child,
    residualise,
    tilt_as_decision,
    tilt_offsets,
    tilted_rates,
    together,
)
from tiltscope.recipe import empty_recipe, sign

DATA_TILT = np.array([1.0, 0.4])  # plain training moves the target, its sibling a little too


def siblings(prompts: int, samples: int, seed: int, rho: float = 0.6) -> np.ndarray:
    """(prompts, samples, 2) two styles, each shown where a normal number is high; within prompts they correlate rho."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(prompts, 1, 2)) * 0.7  # what a prompt calls for
    noise = rng.normal(size=(prompts, samples, 2)) @ np.linalg.cholesky(np.array([[1, rho], [rho, 1]])).T
    return np.asarray((shared + noise > 0.4).astype(float))


def family(prompts: int = 300, samples: int = 16, seed: int = 5) -> np.ndarray:
    """(prompts, samples, 3) a parent that is shown wherever one of two children is, and sometimes by itself."""
    rng = np.random.default_rng(seed)
    children = rng.random((prompts, samples, 2)) < [0.3, 0.25]
    parent = children.any(axis=2) | (rng.random((prompts, samples)) < 0.2)
    return np.concatenate([parent[..., None], children], axis=2).astype(float)


def exact_rates(phi: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """(m,) rates of the population: so many answers per prompt that n / (n - 1) does not matter; written out again."""
    w = np.exp(phi @ theta)
    w /= w.sum(axis=1, keepdims=True)
    return np.asarray((w[..., None] * phi).sum(axis=1).mean(axis=0))


# --- the simulation ---------------------------------------------------------------------------------------------------

OWN = siblings(400, 16, seed=1)
FRESH = siblings(2000, 400, seed=2)


def closed(theta: np.ndarray) -> tuple[float, float]:
    """Percent of the gap between plain training and the start that theta closes on fresh answers: target, sibling."""
    start, plain = exact_rates(FRESH, np.zeros(2)), exact_rates(FRESH, DATA_TILT)
    gone = 100 * (plain - exact_rates(FRESH, DATA_TILT + theta)) / (plain - start)
    return float(gone[0]), float(gone[1])


def test_the_marginal_tilt_meets_its_target_and_moves_the_sibling() -> None:
    target, sibling = closed(minimum_kl_tilt(OWN, RateWish({0: "start"}), data_tilt=DATA_TILT).theta)
    assert target == pytest.approx(100, abs=6)
    assert sibling == pytest.approx(52, abs=4)  # the table of docs/interventions/rates.md


def test_one_step_along_the_inverse_covariance_spares_the_sibling_and_misses_the_target_a_little() -> None:
    centred = OWN - OWN.mean(axis=1, keepdims=True)
    covariance = np.einsum("xjm,xjl->ml", centred, centred) / (OWN.shape[0] * (OWN.shape[1] - 1))
    gap = tilted_rates(OWN, np.zeros(2)) - tilted_rates(OWN, DATA_TILT)
    target, sibling = closed(np.linalg.solve(covariance, np.array([gap[0], 0.0])))
    assert target == pytest.approx(104, abs=3)
    assert sibling == pytest.approx(2, abs=3)


def test_the_solved_tilt_meets_its_target_and_leaves_the_sibling_where_the_data_take_it() -> None:
    tilt = minimum_kl_tilt(OWN, RateWish({0: "start"}, (1,)), data_tilt=DATA_TILT)
    target, sibling = closed(tilt.theta)
    assert target == pytest.approx(100, abs=3)
    assert sibling == pytest.approx(0, abs=3)
    assert tilt.unreachable == ()
    np.testing.assert_allclose(tilt.reached, [tilt.start[0], tilt.plain[1]], atol=2e-4)


def test_few_answers_per_prompt_do_not_make_the_tilt_too_weak() -> None:
    """With 4 answers per prompt a tilt that ignores n / (n - 1) would look for three quarters of the change too far."""
    tilt = minimum_kl_tilt(siblings(2000, 4, seed=3), RateWish({0: "start"}, (1,)), data_tilt=0.5 * DATA_TILT)
    start, plain = exact_rates(FRESH, np.zeros(2)), exact_rates(FRESH, 0.5 * DATA_TILT)
    gone = (plain - exact_rates(FRESH, 0.5 * DATA_TILT + tilt.theta)) / (plain - start)
    assert gone[0] == pytest.approx(1, abs=0.08)
    assert gone[1] == pytest.approx(0, abs=0.1)


# --- what cannot be had -----------------------------------------------------------------------------------------------


def reasons(tilt: Tilt) -> str:
    return "; ".join(f"{one.concepts} {one.reason}" for one in tilt.unreachable)


def test_a_concept_the_own_answers_hardly_show_is_outside_support() -> None:
    phi = siblings(100, 8, seed=4)
    phi[..., 0] = 0
    phi[0, :2, 0] = 1
    tilt = minimum_kl_tilt(phi, RateWish({0: 0.2}))
    assert "(0,) outside support: shown in 2 of 800 own answers, fewer than 3" in reasons(tilt)
    tilt = minimum_kl_tilt(1 - phi, RateWish({0: 0.2}))
    assert "(0,) outside support: missing in 2 of 800 own answers, fewer than 3" in reasons(tilt)


def test_a_held_concept_that_is_never_shown_stands_in_nobodys_way() -> None:
    phi = siblings(100, 8, seed=4)
    phi[..., 1] = 0
    tilt = minimum_kl_tilt(phi, RateWish({0: 0.4}, (1,)))
    assert (tilt.unreachable, tilt.reached[1], tilt.theta[1]) == ((), 0, 0)
    assert tilt.reached[0] == pytest.approx(0.4, abs=1e-3)


def test_a_rate_beyond_what_any_weighting_of_the_answers_has_is_named() -> None:
    phi = siblings(100, 8, seed=4)
    phi[:50, :, 0] = 0  # half of the prompts never show it
    tilt = minimum_kl_tilt(phi, RateWish({0: 0.8}))
    assert "(0,) outside support: own answers reach rates from 0 to 0." in reasons(tilt)
    assert "not 0.8" in reasons(tilt)


def test_a_tilt_that_leans_on_few_answers_is_called_extrapolation() -> None:
    tilt = minimum_kl_tilt(siblings(200, 16, seed=6), RateWish({0: 0.93}))
    assert tilt.effective_samples < 8
    assert "() effective sample size" in reasons(tilt)
    assert tilt.reached[0] == pytest.approx(0.93, abs=1e-3)
    mild = minimum_kl_tilt(siblings(200, 16, seed=6), RateWish({0: 0.45}))
    assert mild.effective_samples > 12
    assert mild.unreachable == ()


def test_wishes_that_contradict_are_named_together() -> None:
    """The parent is shown wherever a child is: it cannot be rarer than the child."""
    tilt = minimum_kl_tilt(family(), RateWish({0: 0.15, 1: 0.35}))
    assert "(0, 1) contradictory wishes" in reasons(tilt)
    tilt = minimum_kl_tilt(family(), RateWish({0: 0.15}, (1,)))
    assert "(0, 1) contradictory wishes" in reasons(tilt)


def test_a_wish_that_stands_in_nobodys_way_is_not_named_with_those_that_contradict() -> None:
    other = (np.random.default_rng(9).random((300, 16, 1)) < 0.4).astype(float)
    tilt = minimum_kl_tilt(np.concatenate([family(), other], axis=2), RateWish({0: 0.15, 1: 0.35}, (3,)))
    assert [one.concepts for one in tilt.unreachable if one.concepts] == [(0, 1)]


def test_one_concept_twice_is_met_once() -> None:
    twice = np.concatenate([OWN, OWN[..., :1]], axis=2)
    tilt = minimum_kl_tilt(twice, RateWish({0: 0.3, 2: 0.3}, (1,)))
    assert tilt.unreachable == ()
    np.testing.assert_allclose(tilt.reached, [0.3, tilt.start[1], 0.3], atol=3e-4)


def test_three_wishes_that_only_contradict_together_are_named_together() -> None:
    phi = np.zeros((50, 9, 3))
    for k in range(3):
        phi[:, 3 * k : 3 * k + 3, k] = 1  # every answer shows exactly one of three
    tilt = minimum_kl_tilt(phi, RateWish({0: 0.4, 1: 0.4, 2: 0.4}))
    assert "(0, 1, 2) contradictory wishes" in reasons(tilt)
    assert minimum_kl_tilt(phi, RateWish({0: 0.4, 1: 0.4, 2: 0.2})).unreachable == ()


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (RateWish({0: "start"}, (0,)), "to move and to stay"),
        (RateWish({2: "start"}), "there are 2 concepts"),
        (RateWish({0: 1.2}), r"lies in \[0, 1\]"),
        (RateWish({}, (1,)), "needs a target"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wish: RateWish, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        minimum_kl_tilt(OWN, wish)


@pytest.mark.parametrize("phi", [np.zeros((3, 1, 2)), np.full((3, 4, 2), 2.0), np.full((3, 4, 2), np.nan), np.zeros(3)])
def test_own_answers_of_another_shape_or_range_are_refused(phi: np.ndarray) -> None:
    with pytest.raises(UsageError):
        minimum_kl_tilt(phi, RateWish({0: "start"}))
    with pytest.raises(UsageError, match="plain training"):
        minimum_kl_tilt(OWN, RateWish({0: "start"}), data_tilt=np.zeros(5))


# --- the vocabulary ---------------------------------------------------------------------------------------------------

LEAN = np.array([0.6, 0.5, 0.4])


def solved(wish: RateWish) -> Tilt:
    tilt = minimum_kl_tilt(family(), wish, data_tilt=LEAN)
    assert tilt.unreachable == ()
    return tilt


def test_structure_aware_wishes_move_what_they_name_and_hold_the_rest() -> None:
    tilt = solved(penalise_parent_keep_child(0, 1))
    np.testing.assert_allclose(tilt.reached[:2], [tilt.start[0], tilt.plain[1]], atol=3e-4)
    tilt = solved(keep_parent_drop_child(0, 1, 0.2))
    np.testing.assert_allclose(tilt.reached[:2], [tilt.plain[0], 0.2], atol=3e-4)
    tilt = solved(amplify_child_hold_siblings(1, [2], 0.5))
    np.testing.assert_allclose(tilt.reached[1:], [0.5, tilt.plain[2]], atol=3e-4)
    assert tilt.theta[0] == 0  # the parent is not named and gets no tilt of its own
    tilt = solved(residualise(0, 2))
    np.testing.assert_allclose(tilt.reached[[0, 2]], [tilt.start[0], tilt.plain[2]], atol=3e-4)


def test_residualising_is_the_regression_residual_for_small_steps() -> None:
    phi = family(400, 32)
    centred = phi - phi.mean(axis=1, keepdims=True)
    covariance = np.einsum("xjm,xjl->ml", centred, centred)
    start = phi.mean(axis=(0, 1))
    theta = minimum_kl_tilt(phi, residualise(0, 1, float(start[0]) - 0.002)).theta
    assert theta[1] / theta[0] == pytest.approx(-covariance[0, 1] / covariance[1, 1], abs=0.1)


def test_wishes_are_joined_and_contradictions_refused() -> None:
    joined = together(penalise_parent_keep_child(0, 1), amplify_child_hold_siblings(2, [1], 0.4))
    assert joined == RateWish({0: "start", 2: 0.4}, (1,))
    with pytest.raises(UsageError, match="two target rates"):
        together(RateWish({0: 0.1}), RateWish({0: 0.2}))
    with pytest.raises(UsageError, match="to move and to stay"):
        together(RateWish({0: 0.1}), RateWish({1: 0.2}, (0,)))


def test_without_a_data_tilt_held_concepts_keep_the_rate_of_the_start() -> None:
    tilt = minimum_kl_tilt(OWN, RateWish({0: 0.5}, (1,)))
    np.testing.assert_allclose(tilt.reached, [0.5, tilt.start[1]], atol=3e-4)
    assert (tilt.plain == tilt.start).all()


def test_nothing_to_do_is_no_tilt() -> None:
    tilt = minimum_kl_tilt(OWN, RateWish({0: "start"}, (1,)))
    assert tilt.theta.tolist() == [0, 0]
    assert tilt.unreachable == ()


# --- from a tilt to a recipe ------------------------------------------------------------------------------------------


def test_to_lower_a_rate_the_offset_is_positive_where_the_chosen_answer_has_more_of_it() -> None:
    theta, chosen, rejected = (
        np.array([-1.5, 0.0]),
        np.array([[1.0, 0], [0, 1], [1, 1]]),
        np.array([[0.0, 1], [1, 0], [1, 0]]),
    )
    offsets = tilt_offsets(theta, chosen, rejected, nats_per_tilt=0.2)
    np.testing.assert_allclose(offsets, [0.3, -0.3, 0.0])
    assert np.sign(offsets[0]) == sign("suppress")


def test_the_offsets_bring_exact_preference_training_to_the_tilted_rates() -> None:
    """Four answers, labels of a Bradley-Terry judge in expectation: the optimum is pi0 exp((r - offset) / beta)."""
    phi = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    start, beta, reward = np.log([0.4, 0.2, 0.15, 0.25]), 0.3, 0.3 * phi @ DATA_TILT
    theta = np.array([-1.2, 0.4])
    first, second = (np.array(one) for one in zip(*[(a, b) for a in range(4) for b in range(4) if a != b], strict=True))
    share = 1 / (1 + np.exp(-(reward[first] - reward[second])))
    offsets = tilt_offsets(theta, phi[first], phi[second], nats_per_tilt=beta)
    logits = start.copy()
    for _ in range(4000):
        margin = beta * ((logits - start)[first] - (logits - start)[second]) + offsets
        pull = share * beta / (1 + np.exp(margin))
        slope = np.bincount(first, pull, 4) - np.bincount(second, pull, 4)
        logits = logits + 2.0 * slope
    p = np.exp(logits) / np.exp(logits).sum()
    q = np.exp(start + phi @ (DATA_TILT + theta))
    np.testing.assert_allclose(p, q / q.sum(), atol=1e-4)


def test_a_tilt_goes_through_prepare_as_one_decision() -> None:
    tilt = minimum_kl_tilt(OWN, RateWish({0: "start"}, (1,)), data_tilt=DATA_TILT)
    rng = np.random.default_rng(8)
    chosen, rejected = (rng.random((50, 2)) < 0.5 for _ in range(2))
    ids = [f"p{i}" for i in range(50)]
    decision = tilt_as_decision(tilt, chosen, rejected, nats_per_tilt=0.1)
    recipe = prepare(empty_recipe(ids, "dpo"), [decision]).recipe
    expected = tilt_offsets(tilt.theta, chosen, rejected, nats_per_tilt=0.1)
    np.testing.assert_allclose(recipe.offsets_nats, expected, atol=1e-12)
    decision = tilt_as_decision(tilt, chosen, np.full((50, 2), np.nan), nats_per_tilt=1.0)
    weights = prepare(empty_recipe(ids, "sft"), [decision]).recipe.weights
    raw = np.minimum(np.exp(chosen @ tilt.theta), 10)
    np.testing.assert_allclose(weights, raw / raw.mean())
