"""Forecasts and their card: a planted change is foretold and scored, noise is not, and shared samples do not help."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from tiltscope.prediction import (
    PRIMARY,
    Observed,
    Shown,
    forecast_traits,
    forecasts,
    make_units,
    prediction_card,
    swapped,
)
from tiltscope.prediction.card import squared
from tiltscope.prediction.predictors import reward, tilt_change, word_change

M, PROMPTS = 80, 60


def answers(rng: np.random.Generator, mean: np.ndarray, *shape: int) -> np.ndarray:
    """Values of answers around their prompt: mean (m,) plus noise."""
    return np.asarray(mean + rng.normal(size=(*shape, len(mean))))


def world(*, lean: float, follows: float, seed: int = 0, n_seeds: int = 3) -> tuple[Shown, Observed]:
    """Pairs that lean by `lean` times a pattern, and a training that follows the pattern by `follows`."""
    rng = np.random.default_rng(seed)
    pattern = rng.normal(size=M)
    n = 800
    chosen, rejected = answers(rng, lean * pattern, n), answers(rng, np.zeros(M), n)
    length = rng.integers(20, 200, (3, n)).astype(float)
    own = answers(rng, np.zeros(M), 48, 8)
    shown = Shown(
        chosen, rejected, own, np.arange(n), length[0], length[1], rng.integers(20, 200, (48, 8)).astype(float)
    )
    before = answers(rng, np.zeros(M), PROMPTS, 2)
    after = np.stack([answers(rng, follows * pattern, PROMPTS, 2) for _ in range(n_seeds)])
    return shown, Observed(before, after, shown.sd)


def card_of(shown: Shown, observed: Observed, seed: int = 0):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    nulls = {"swapped labels": np.stack([swapped(shown, rng) for _ in range(100)])}
    return prediction_card({PRIMARY: forecasts(shown)[PRIMARY]}, observed, nulls=nulls, primary=PRIMARY)


def test_a_change_that_follows_the_data_is_foretold_up_to_the_ceiling() -> None:
    card = card_of(*world(lean=0.5, follows=0.6))
    one = card.scores[PRIMARY]
    assert card.verdict == "scored"
    assert one.r2 > card.ceiling - 0.1 > 0.7
    assert one.low < one.r2 < one.high
    assert card.nulls["swapped labels"] < 0.4 < one.low


def test_a_training_that_moved_nothing_gives_nothing_to_predict() -> None:
    card = card_of(*world(lean=0.5, follows=0.0))
    assert card.verdict == "nothing to predict"
    assert "repeats agree" in card.why


def test_a_change_that_has_nothing_to_do_with_the_data_is_not_foretold() -> None:
    shown, _ = world(lean=0.5, follows=0.0, seed=1)
    _, observed = world(lean=0.0, follows=0.6, seed=2)
    card = card_of(shown, observed)
    assert card.verdict == "scored"
    assert abs(card.scores[PRIMARY].r2) < 0.1


def test_pairs_without_a_lean_score_within_the_null() -> None:
    below = 0
    for seed in range(12):
        shown, _ = world(lean=0.0, follows=0.0, seed=seed)
        _, observed = world(lean=0.0, follows=0.6, seed=100 + seed)
        card = card_of(shown, observed)
        below += card.scores[PRIMARY].r2 <= card.nulls["swapped labels"]
    assert below >= 9


def test_one_seed_is_judged_by_its_answers() -> None:
    assert card_of(*world(lean=0.5, follows=0.8, n_seeds=1)).verdict == "scored"


def test_the_squared_correlation_keeps_its_sign() -> None:
    x = np.arange(10.0)
    assert squared(x, 2 * x + 1) == pytest.approx(1)
    assert squared(x, -x) == pytest.approx(-1)
    assert squared(x, np.ones(10)) == 0


def test_the_reward_points_at_what_the_labels_want() -> None:
    shown, _ = world(lean=0.5, follows=0.0)
    assert np.corrcoef(reward(shown), shown.chosen.mean(axis=0))[0, 1] > 0.8


def test_the_tilt_is_the_derivative_of_reweighting_within_prompts() -> None:
    shown, _ = world(lean=0.5, follows=0.0)
    rng = np.random.default_rng(3)
    r, t = rng.normal(size=(48, 8)), 1e-4
    w = np.exp(t * r)
    w /= w.sum(axis=1, keepdims=True)
    by_hand = (np.einsum("xj,xjm->m", w, shown.own) / 48 - shown.own.mean(axis=(0, 1))) / t * 8 / 7 / shown.sd
    assert tilt_change(r, shown) == pytest.approx(by_hand, abs=1e-3)


def test_a_bag_of_words_that_leans_nowhere_tilts_nothing_much() -> None:
    shown, _ = world(lean=0.5, follows=0.0)
    rng = np.random.default_rng(0)
    text = lambda: " ".join(rng.choice(["a", "b", "c", "d"], 5))  # noqa: E731
    told = word_change(
        shown,
        [text() for _ in range(800)],
        [text() for _ in range(800)],
        [[text() for _ in range(8)] for _ in range(48)],
    )
    assert np.abs(told).max() < 0.2


def test_latents_that_fire_together_are_one_unit_and_rare_ones_are_outside() -> None:
    rng = np.random.default_rng(0)
    base = (rng.random((300, 3)) < 0.3) * rng.random((300, 3))
    freq = np.column_stack([base[:, 0], 2 * base[:, 0], base[:, 1], base[:, 2]])
    own = freq[:100].copy()
    own[:, 3] = 0
    chosen, rejected = sparse.csr_array(freq[:150]), sparse.csr_array(freq[150:])
    units = make_units(chosen, rejected, sparse.csr_array(own))
    assert sorted(units.latents) == [(0, 1), (2,)]
    assert units.outside == (3,)
    assert units.values(sparse.csr_array(freq))[:, units.latents.index((0, 1))] == pytest.approx(3 * base[:, 0])


def rates(push: float, n: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    one, two = (rng.random((2, n, 2)) < 0.3).astype(float)
    first = rng.random(n) < 1 / (1 + np.exp(-push * (one - two)[:, 0]))
    chosen, rejected = np.where(first[:, None], one, two), np.where(first[:, None], two, one)
    return chosen, rejected, (rng.random((48, 8, 2)) < 0.2).astype(float)


def test_a_trait_that_the_labels_push_is_foretold_to_rise_and_its_neighbour_to_stay() -> None:
    pushed, other = forecast_traits(["a", "b"], *rates(1.5))
    assert pushed.after > pushed.now + 0.1
    assert other.low < other.now < other.high
    assert abs(other.after - other.now) < 0.06
    assert pushed.low < pushed.after < pushed.high


def test_rates_saturate_and_never_leave_0_to_1() -> None:
    pushed, _ = forecast_traits(["a", "b"], *rates(6.0))
    assert 0 < pushed.low < pushed.after < pushed.high < 1
