"""Aims become strengths and tilts: against an oracle, with planted rates, and with wishes that cannot be met."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tiltscope.aims import Aims, balanced, in_balance, in_rates, tilted
from tiltscope.errors import UsageError
from tiltscope.interventions import Scored, Wish, reward_shaping
from tiltscope.interventions.balance import balance_pairs
from tiltscope.interventions.strength import explaining_strength
from tiltscope.plan import Decision, DetectorSpec
from tiltscope.recipe import Recipe, empty_recipe

RULE = DetectorSpec("rule", "bold")


def scored(chosen: np.ndarray, rejected: np.ndarray) -> Scored:
    return Scored(chosen, rejected, np.ones(len(chosen), bool))


def leaning(lean: float, n: int = 4000, seed: int = 0) -> Scored:
    """Scores whose difference decides the label with log-odds `lean` per sd of the score."""
    rng = np.random.default_rng(seed)
    one, two = rng.normal(size=(2, n))
    first_wins = rng.random(n) < 1 / (1 + np.exp(-lean * (one - two)))
    return scored(np.where(first_wins, one, two), np.where(first_wins, two, one))


def wish(action: str = "suppress") -> Wish:
    return Wish("bold text", action, "reward_shaping")  # type: ignore[arg-type]


def test_the_explaining_strength_is_the_planted_log_odds_and_that_of_a_logistic_regression() -> None:
    from statsmodels.api import Logit

    data = leaning(0.8)
    strength = explaining_strength(wish(), data)
    assert strength == pytest.approx(0.8, abs=0.1)
    d = (data.chosen - data.rejected) / np.concatenate([data.chosen, data.rejected]).std()
    x, y = np.concatenate([d, -d])[:, None], np.repeat([1, 0], len(d))
    assert strength == pytest.approx(float(Logit(y, x).fit(disp=0).params[0]), rel=1e-6)


def test_nothing_is_explained_away_where_the_data_lean_as_wished() -> None:
    assert explaining_strength(wish("amplify"), leaning(0.8)) == 0.0
    assert explaining_strength(wish("amplify"), leaning(-0.8)) == pytest.approx(0.8, abs=0.1)


def test_a_score_that_separates_the_labels_completely_is_refused() -> None:
    with pytest.raises(UsageError, match="completely"):
        explaining_strength(wish(), scored(np.linspace(1, 2, 50), np.linspace(-2, -1, 50)))


def test_a_constant_score_is_refused() -> None:
    with pytest.raises(UsageError, match="same for every answer"):
        explaining_strength(wish(), scored(np.ones(9), np.ones(9)))


def decision(aim: float | str | None, *, hold: tuple[str, ...] = ()) -> Decision:
    return Decision(1, 4, concept="bold", detector=RULE, action="suppress", aim_rate=aim, hold=hold)  # type: ignore[arg-type]


def test_an_aim_of_start_needs_no_samples_and_a_rate_does() -> None:
    assert not in_rates(decision("start"))
    assert not in_rates(decision(None))
    assert not in_rates(decision("start", hold=("g-L1",)))
    assert in_balance(decision("start", hold=("g-L1",)))
    assert in_rates(decision(0.1))


def siblings(n: int = 4000, seed: int = 0) -> tuple[Scored, Scored]:
    """Two traits that come together in answers; the labels want both."""
    rng = np.random.default_rng(seed)
    together = rng.random((2, n)) < 0.5
    one = (rng.random((2, n)) < 0.4).astype(float)
    two = np.where(together, one, rng.random((2, n)) < 0.4).astype(float)
    first_wins = rng.random(n) < 1 / (1 + np.exp(-(1.2 * (one[0] - one[1]) + 0.8 * (two[0] - two[1]))))
    pick = lambda x: scored(np.where(first_wins, x[0], x[1]), np.where(first_wins, x[1], x[0]))  # noqa: E731
    return pick(one), pick(two)


def push(recipe: Recipe, one: Scored) -> float:
    """What the first step of DPO pushes a trait by, over what plain training does."""
    d = one.chosen - one.rejected
    return float((recipe.weights / (1 + np.exp(recipe.offsets_nats)) * d).sum() / (0.5 * d.sum()))


@pytest.mark.parametrize("hold", [False, True])
def test_a_target_gets_no_push_and_a_held_sibling_all_of_its_own(hold: bool) -> None:
    bold, lists = siblings()
    held = [(decision(None), lists)] if hold else []
    done = balanced([(decision("start"), bold)], held, "dpo")
    recipe = reward_shaping(empty_recipe([str(i) for i in range(4000)], "dpo"), *done)
    assert push(recipe, bold) == pytest.approx(0, abs=0.01)
    assert push(recipe, lists) == pytest.approx(1, abs=0.01) if hold else push(recipe, lists) < 0.6


def test_two_aims_are_solved_together_and_do_not_overshoot() -> None:
    both = siblings()
    done = balanced([(decision("start"), one) for one in both], [], "dpo")
    recipe = reward_shaping(empty_recipe([str(i) for i in range(4000)], "dpo"), *done)
    assert [push(recipe, one) for one in both] == pytest.approx([0, 0], abs=0.01)


def test_balance_with_one_target_is_the_bradley_terry_coefficient_of_a_logistic_regression() -> None:
    data = leaning(0.8)
    d = (data.chosen - data.rejected)[:, None]
    oracle = LogisticRegression(C=1e9, fit_intercept=False).fit(np.vstack([d, -d]), np.repeat([1, 0], len(d)))
    found = balance_pairs(d, np.array([True]))
    assert found is not None
    assert found.scale == 1
    assert found.theta[0] == pytest.approx(oracle.coef_[0, 0], rel=1e-3)


def test_sft_weights_show_a_target_as_the_rejected_answers_do_and_a_held_one_as_before() -> None:
    bold, lists = siblings()
    done = balanced([(decision("start"), bold)], [(decision(None), lists)], "sft")
    w = reward_shaping(empty_recipe([str(i) for i in range(4000)], "sft"), *done).weights
    assert w @ bold.chosen / w.sum() == pytest.approx(bold.rejected.mean(), abs=0.01)
    assert w @ lists.chosen / w.sum() == pytest.approx(lists.chosen.mean(), abs=0.01)


def test_what_cannot_be_had_together_is_named() -> None:
    bold, _ = siblings()
    with pytest.raises(UsageError, match="no weighting of these pairs"):
        balanced([(decision("start"), bold)], [(decision(None), bold)], "dpo")
    with pytest.raises(UsageError, match="separate"):
        balanced([(decision("start"), scored(np.ones(50), np.zeros(50)))], [], "dpo")


def test_a_target_that_the_data_push_the_wished_way_already_is_left_alone() -> None:
    bold, lists = siblings()
    other = scored(bold.rejected, bold.chosen)
    wish, _ = balanced([(decision("start"), other)], [(decision(None), lists)], "dpo")
    assert wish.strength == 0


def aims(aim: float | str, *, rate: float = 0.3, seed: int = 0) -> Aims:
    """Bold and lists come together among own answers, and the labels want both."""
    rng = np.random.default_rng(seed)

    def both(*shape: int) -> np.ndarray:
        together = rng.random(shape) < 0.6
        bold, lists = rng.random((2, *shape)) < rate
        return np.stack([bold, np.where(together, bold, lists)], axis=-1).astype(float)

    one, two = both(3000), both(3000)
    wins = rng.random(3000) < 1 / (1 + np.exp(-(1.0 * (one - two)[:, 0] + 0.5 * (one - two)[:, 1])))
    chosen, rejected = np.where(wins[:, None], one, two), np.where(wins[:, None], two, one)
    return Aims((decision(aim, hold=("g-L2",)),), ("bold", "lists"), both(200, 12), chosen, rejected)


def test_bold_goes_back_to_its_start_while_lists_stay_where_plain_training_takes_them() -> None:
    made, one, tilt = tilted(aims("start"))
    assert tilt.plain[0] > tilt.start[0] + 0.1
    assert tilt.reached[0] == pytest.approx(tilt.start[0], abs=0.005)
    assert tilt.reached[1] == pytest.approx(tilt.plain[1], abs=0.005)
    assert (made.action, one.in_nats) == ("suppress", True)
    bold_only = np.flatnonzero((one.chosen - one.rejected) != 0)
    assert len(bold_only) > 100


def test_a_rate_that_own_answers_never_show_is_refused_by_name_before_training() -> None:
    with pytest.raises(UsageError, match="bold") as refused:
        tilted(aims(0.5, rate=0.0))
    assert "outside support" in str(refused.value)


def test_a_rate_for_one_kind_of_pair_is_refused() -> None:
    wished = aims(0.2)
    local = replace(wished, decisions=tuple(replace(one, where="K3") for one in wished.decisions))
    with pytest.raises(UsageError, match="speaks of all answers"):
        tilted(local)
