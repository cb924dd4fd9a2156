"""Aims become strengths and tilts: against an oracle, with planted rates, and with wishes that cannot be met."""

from __future__ import annotations

import numpy as np
import pytest

from tiltscope.aims import Aims, in_rates, tilted
from tiltscope.errors import UsageError
from tiltscope.interventions import Scored, Wish
from tiltscope.interventions.strength import explaining_strength
from tiltscope.plan import Decision, DetectorSpec

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


def test_an_aim_of_start_without_holds_needs_no_samples_and_every_other_does() -> None:
    assert not in_rates(decision("start"))
    assert not in_rates(decision(None))
    assert in_rates(decision("start", hold=("g-L1",)))
    assert in_rates(decision(0.1))


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
