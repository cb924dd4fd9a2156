"""Forecasts and their card: a planted change is foretold and scored, noise is not, and shared samples do not help."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from tiltscope.prediction import (
    DECLARED,
    DECLARED_LOCAL,
    LocalShown,
    Observed,
    Shown,
    forecast_traits,
    forecasts,
    local_forecasts,
    local_swapped,
    make_units,
    prediction_card,
    swapped,
)
from tiltscope.prediction.card import squared
from tiltscope.prediction.predictors import reward, tilt_change, word_change

M, PROMPTS = 80, 60
PRIMARY = DECLARED["dpo"]


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
    nulls = {"swapped labels": np.stack([swapped(shown, "dpo", rng) for _ in range(100)])}
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


def test_the_ceiling_is_what_a_perfect_forecast_scores() -> None:
    truth = np.random.default_rng(0).normal(size=M)
    _, observed = world(lean=0.5, follows=0.15)
    card = prediction_card({PRIMARY: truth}, observed, nulls={}, primary=PRIMARY)
    assert card.ceiling == pytest.approx(card.scores[PRIMARY].r2, abs=0.1)
    assert card.ceiling_elsewhere == pytest.approx(card.ceiling, abs=0.15)
    assert card.ceiling < 0.95


def test_sft_follows_the_data_and_not_the_difference_between_two_answers() -> None:
    rng = np.random.default_rng(0)
    shown, _ = world(lean=0.5, follows=0.0)
    both = replace(shown, rejected=answers(rng, shown.chosen.mean(axis=0), len(shown.chosen)))
    pattern = np.random.default_rng(0).normal(size=M)
    made = forecasts(both)
    assert squared(made[DECLARED["sft"]], pattern) > 0.9
    assert abs(squared(made[DECLARED["dpo"]], pattern)) < 0.2
    null = [squared(swapped(both, "sft", rng), pattern) for _ in range(50)]
    assert np.median(null) < 0.1


def local_world(*, lean: float, follows: float, n_prompts: int = 120) -> tuple[LocalShown, Observed]:
    """Four kinds of prompts; in each, pairs lean and training follows by a pattern of its own beside the common one."""
    rng = np.random.default_rng(0)
    common, own_pattern = rng.normal(size=M), rng.normal(size=(4, M))
    n = 1600
    kind, asked, mine = rng.integers(0, 4, n), np.arange(n_prompts) % 4, np.arange(48) % 4
    chosen = rng.normal(size=(n, M)) + lean * (common + own_pattern[kind])
    own = answers(rng, np.zeros(M), 48, 8)
    length = np.ones((3, n))
    shown = Shown(
        chosen, rng.normal(size=(n, M)), own, np.arange(n), length[0], length[1], rng.integers(20, 99, (48, 8)) + 0.0
    )
    after = rng.normal(size=(3, n_prompts, 2, M)) + follows * (common + own_pattern[asked])[None, :, None]
    inside = np.stack([asked == k for k in range(4)])
    observed = Observed(answers(rng, np.zeros(M), n_prompts, 4), after, shown.sd, inside)
    return LocalShown(shown, "dpo", *(np.stack([of == k for k in range(4)]) for of in (kind, mine))), observed


def local_card(local: LocalShown, observed: Observed):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    made = local_forecasts(local)
    nulls = {
        "global forecast everywhere": np.zeros_like(made[DECLARED_LOCAL]),
        "swapped labels": np.stack([local_swapped(local, rng) for _ in range(50)]),
    }
    return prediction_card(made, observed, nulls=nulls, primary=DECLARED_LOCAL)


def test_what_changes_after_one_kind_of_prompt_is_foretold_and_the_global_forecast_says_nothing_of_it() -> None:
    card = local_card(*local_world(lean=0.5, follows=0.5))
    assert card.verdict == "scored"
    assert card.n_units == 4 * M
    assert card.scores[DECLARED_LOCAL].r2 > card.ceiling - 0.15 > 0.5
    assert card.nulls["global forecast everywhere"] == 0
    assert card.nulls["swapped labels"] < 0.2


def test_sft_is_foretold_by_kind_from_own_answers_to_that_kind() -> None:
    local, observed = local_world(lean=0.5, follows=0.5)
    made = local_forecasts(replace(local, objective="sft"))
    assert squared(made[DECLARED_LOCAL], observed.change) > 0.5
    shifted = replace(local.shown, own=local.shown.own + np.where(local.own[0], 1.0, 0.0)[:, None, None])
    less = local_forecasts(replace(local, shown=shifted, objective="sft"))["cell_alone"].reshape(4, -1)
    assert less[0].mean() < made["cell_alone"].reshape(4, -1)[0].mean() - 0.3  # that kind shows more already


def test_few_prompts_of_a_kind_leave_nothing_to_predict() -> None:
    card = local_card(*local_world(lean=0.5, follows=0.05, n_prompts=32))
    assert card.verdict == "nothing to predict"
    assert card.ceiling < 0.5


def test_a_cell_is_shrunk_to_what_the_global_effect_says_of_it() -> None:
    local, _ = local_world(lean=0.05, follows=0.0)
    made = local_forecasts(local)
    alone, prior, shrunk = (made[name] for name in ("cell_alone", "global_by_stake", DECLARED_LOCAL))
    assert ((local.trust >= 0) & (local.trust < 1)).all()
    assert np.abs(shrunk - prior).mean() < 0.8 * np.abs(alone - prior).mean()
    assert shrunk == pytest.approx(prior + local.trust.ravel() * (alone - prior))


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


def test_a_chosen_answer_counts_as_far_as_an_answer_of_the_model_goes() -> None:
    from types import SimpleNamespace

    from tiltscope.aims import NEW_TOKENS
    from tiltscope.predicting import _as_asked

    words = [f"w{i} " for i in range(2 * NEW_TOKENS)]
    row = SimpleNamespace(id="a", chosen="".join(words))

    def features(n: int) -> SimpleNamespace:
        return SimpleNamespace(span=lambda pair_id, side: SimpleNamespace(ends=np.cumsum([len(w) for w in words[:n]])))

    assert _as_asked(row, features(2 * NEW_TOKENS)) == "".join(words[:NEW_TOKENS])
    assert _as_asked(row, features(NEW_TOKENS)) == row.chosen
