"""Leans of few groups: the count against enumeration and scipy, its error rates, and what the audit makes of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import binom, binomtest

from made_features import flipped, made
from tiltscope import stats
from tiltscope.calibration import calibrate
from tiltscope.cells import set_up
from tiltscope.contrast import Contrast, ContrastSettings, contrast, label_free_views
from tiltscope.features import Features
from tiltscope.hypotheses import Hypothesis, plain
from tiltscope.report.words import headline

QUICK = ContrastSettings(n_draws=40, n_null_cells=40, n_flip_cells=2)
NO_NULLS = replace(QUICK, n_null_cells=0, n_flip_cells=0)


# --- the count --------------------------------------------------------------------------------------------------------


def test_p_is_the_share_of_all_ways_the_labels_could_have_fallen() -> None:
    sums = np.array([3.0, -1.0, 2.0, 0.0, 1.0, 1.0, -2.0, 5.0])
    ways = np.array([np.dot(signs, np.abs(sums)) for signs in product((-1, 1), repeat=len(sums))])
    few = stats.FewGroups.of(sums, 1.0)
    assert few.p_one(1) == pytest.approx(np.mean(ways >= sums.sum()))
    assert few.p_one(-1) == pytest.approx(np.mean(ways <= sums.sum()))
    assert few.p_two() == pytest.approx(min(1, 2 * np.mean(ways >= sums.sum())))


@pytest.mark.parametrize(("won", "n"), [(9, 9), (0, 6), (7, 9), (5, 10), (1, 7)])
def test_groups_of_one_size_give_the_sign_test_and_the_interval_of_clopper_and_pearson(won: int, n: int) -> None:
    few = stats.FewGroups.of(np.r_[np.ones(won), -np.ones(n - won)] / 4, 0.25)
    known = binomtest(won, n, alternative="greater")
    assert few.p_one(1) == pytest.approx(known.pvalue)
    ends, ours = binomtest(won, n).proportion_ci(0.95, method="exact"), few.interval()
    assert (float(ours.low), float(ours.high)) == pytest.approx(((2 * ends.low - 1) * n, (2 * ends.high - 1) * n))


def test_the_interval_leaves_out_zero_where_p_says_so() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        few = stats.FewGroups.of(rng.integers(-3, 4, rng.integers(1, 14)), 1.0)
        low, high = float(few.interval().low), float(few.interval().high)
        assert low <= 2 * few.won - few.total <= high
        assert (low > 0) == (few.p_one(1) < 0.025)
        assert (high < 0) == (few.p_one(-1) < 0.025)


def test_groups_that_do_not_lean_say_nothing() -> None:
    few = stats.FewGroups.of(np.zeros(8), 1.0)
    assert (few.p_one(1), few.p_two()) == (1.0, 1.0)
    assert float(few.interval().low) == float(few.interval().high) == 0.0


def test_sums_between_two_units_are_refused() -> None:
    with pytest.raises(ValueError, match="whole multiple"):
        stats.FewGroups.of([0.3], 0.25)


def test_p_of_every_draw_is_the_p_of_the_flipped_groups() -> None:
    sums = np.array([2.0, -1.0, 4.0, 1.0, -3.0])
    signs = stats.rademacher(5, 20, 1)
    for direction in (1, -1):
        drawn = stats.flip_p(stats.FewGroups.of(sums, 1.0), sums @ signs, direction)
        again = [stats.FewGroups.of(sums * draw, 1.0).p_one(direction) for draw in signs.T]
        assert drawn == pytest.approx(again)


# --- error rates ------------------------------------------------------------------------------------------------------


def _sparse_pairs(rng: np.random.Generator, chance: float) -> tuple[np.ndarray, stats.Clusters]:
    """300 pairs in groups of 1 to 12; a trait at stake in 4 % of them, won with this chance, alike within a group."""
    sizes = rng.choice([1, 1, 2, 3, 6, 12], 300)
    groups = np.repeat(np.arange(300), sizes)[:300]
    at_stake = rng.random(300) < 0.04
    side = np.where(rng.random(300) < chance, 1, -1)[groups]
    return at_stake * side, stats.Clusters.of(groups)


def test_a_rare_trait_that_leans_nowhere_is_called_at_most_as_often_as_said() -> None:
    rng = np.random.default_rng(1)
    p = []
    for _ in range(3000):
        u, clusters = _sparse_pairs(rng, 0.5)
        p.append(stats.FewGroups.of(clusters.group_sums(u), 1.0).p_one(1))
    for level in (0.01, 0.05, 0.1, 0.3):
        share = np.mean(np.array(p) <= level)
        assert share <= level + 2.6 * np.sqrt(level * (1 - level) / len(p))
    assert np.mean(np.array(p) <= 0.1) > 0.04  # a count is cautious, not blind


def test_the_interval_holds_the_true_chance_at_least_as_often_as_said() -> None:
    rng = np.random.default_rng(2)
    for chance in (0.5, 0.8, 0.95):
        held = []
        for _ in range(400):
            u, clusters = _sparse_pairs(rng, chance)
            few = stats.FewGroups.of(clusters.group_sums(u), 1.0)
            truth = (2 * chance - 1) * few.total
            held.append(float(few.interval().low) <= truth <= float(few.interval().high))
        assert np.mean(held) >= 0.93


# --- the audit --------------------------------------------------------------------------------------------------------


def _with_latents(features: Features, columns: list[tuple[np.ndarray, np.ndarray]]) -> Features:
    """Add a latent for each (pairs whose chosen answer shows it, pairs whose rejected one does)."""
    sides = {}
    for number, name in enumerate(("chosen", "rejected", "prompt")):
        side = getattr(features, name)
        new = np.zeros((len(features.pair_ids), len(columns)), np.float32)
        for column, rows in enumerate(columns):
            if number < 2:
                new[rows[number], column] = 1.0
        joined = {
            key: sparse.csr_array(sparse.hstack([getattr(side, key), sparse.csr_array(new * scale)]))
            for key, scale in (("freq", 0.04), ("max", 1.0))
        }
        sides[name] = replace(side, **joined)
    return replace(features, **sides, n_latents=features.n_latents + len(columns))


@pytest.fixture(scope="module")
def rare() -> Contrast:
    """1,000 pairs that lean nowhere but in a trait of 20 pairs (latent 120); one as rare leans nowhere (121)."""
    pairs, features = made(1000, lean=0.5, tied=0.5, seed=11)
    rows = np.random.default_rng(3).permutation(1000)
    planted = [(rows[:20], rows[:0]), (rows[20:30], rows[30:40])]
    return contrast(pairs, _with_latents(features, planted), QUICK)


def _of(result: Contrast, concept: str, view: str = "global") -> list[Hypothesis]:
    return [h for h in result.hypotheses if h.concept.id == concept and h.view == view]


def test_a_trait_in_two_percent_of_a_thousand_pairs_is_found(rare: Contrast) -> None:
    (found,) = _of(rare, "L120")
    assert found.confirmed
    assert found.direction == "more"
    n = round(found.at_stake * found.n_pairs)
    assert found.p == pytest.approx(2 * binom.sf(n - 1, n, 0.5))
    assert 0 < found.ci_low < found.effect == pytest.approx(found.ci_high)
    assert {h.concept.id for h in rare.hypotheses if h.confirmed} == {"L120"}


def test_a_rare_trait_that_is_balanced_is_not_found(rare: Contrast) -> None:
    assert not any(h.confirmed for h in _of(rare, "L121"))


def test_what_is_rare_is_calibrated_by_itself(rare: Contrast) -> None:
    nulls = {(one["null"], one["view"]): one for one in rare.record["nulls"]}
    assert {("sharp", "few"), ("adjusted", "few"), ("sharp", "global")} <= set(nulls)
    assert nulls["sharp", "few"]["n_cells"] == 2
    assert nulls["sharp", "few"]["share_p05"] <= 0.12


def test_under_twelve_groups_nothing_is_tested() -> None:
    pairs, features = made(600, lean=0.5, tied=0.5, seed=12)
    seen = _with_latents(features, [(np.arange(8), np.arange(0))])
    assert not _of(contrast(pairs, seen, NO_NULLS), "L120")


def test_flipped_labels_of_rare_traits_are_seldom_called() -> None:
    """Forty rare traits, won by coin: at q = .10 at most about one study in ten may call anything."""
    pairs, features = made(500, n_latents=80, lean=0.5, tied=0.5, seed=13)
    rng = np.random.default_rng(4)
    rows = [rng.permutation(500)[: int(rng.integers(14, 38))] for _ in range(40)]
    seen = _with_latents(features, [(some, some[:0]) for some in rows])
    called = 0
    for seed in range(12):
        coins = np.random.default_rng(seed).random(500) < 0.5
        result = contrast(pairs, flipped(seen, coins), NO_NULLS)
        called += any(h.confirmed for h in result.hypotheses)
    assert called <= 4  # binomial(12, .1) is above 4 once in 230 times


@pytest.mark.parametrize("per_prompt", [1, 3])
def test_both_nulls_of_rare_leans_keep_their_level(per_prompt: int) -> None:
    """Half of sixty rare traits come up after one topic only; lengths differ within pairs."""
    pairs, features = made(900, n_latents=80, lean=0.5, tied=0.5, seed=13, per_prompt=per_prompt)
    rng, columns = np.random.default_rng(4), []
    topic = np.array([pair.prompt_text.split()[1] for pair in pairs.rows])
    for number in range(60):
        among = np.arange(900) if number % 2 else np.flatnonzero(topic == str(number % 5))
        some = rng.permutation(among)[: int(rng.integers(14, 38))]
        won = rng.random(len(some)) < 0.5
        columns.append((some[won], some[~won]))
    seen = _with_latents(features, columns)
    bench = set_up(pairs, seen, ContrastSettings(n_draws=400, n_null_cells=60, n_flip_cells=0))
    views = label_free_views(seen, bench)
    own = [place for view in views for place in view.own]
    entries = calibrate([(view.name, view.measures, view.regions) for view in views if not view.regions], bench, own)
    shares = {(one["null"], one["view"]): one["share_p05"] for one in entries}
    for view in ("few", "own"):
        assert 0.015 < shares["sharp", view] < 0.052
        assert 0.04 < shares["adjusted", view] < 0.06


def test_well_witnessed_cells_keep_every_number_but_q(rare: Contrast) -> None:
    pairs, features = made(900, lean=0.65, tied=0.85, seed=3)
    rows = np.random.default_rng(3).permutation(900)
    seen = _with_latents(features, [(rows[:24], rows[:0])])
    with_few = {h.id: h for h in contrast(pairs, seen, NO_NULLS).hypotheses}
    without = contrast(pairs, seen, replace(NO_NULLS, few_groups=40)).hypotheses
    more = set(with_few) - {h.id for h in without}
    assert {with_few[id].concept.id for id in more} == {"L120"}
    for h in without:
        if h.id not in with_few:  # what is listed among the unconfirmed depends on how many there are
            assert not h.confirmed
            continue
        one = with_few[h.id]
        same = {"q": h.q, "confirmed": h.confirmed, "verdict": h.verdict, "pair_ids": h.pair_ids, "family": h.family}
        assert plain(replace(one, **same).__dict__) == plain(h.__dict__)


@pytest.fixture(scope="module")
def tied() -> Contrast:
    """A trait of 22 pairs, all after prompts of one topic, all on the chosen side."""
    pairs, features = made(1000, lean=0.5, tied=0.5, seed=15)
    topic = np.array([pair.prompt_text.split()[1] for pair in pairs.rows])
    rows = np.flatnonzero(topic == "2")[:22]
    return contrast(pairs, _with_latents(features, [(rows, rows[:0])]), QUICK)


def test_a_trait_seen_after_one_kind_of_prompt_only_is_a_lean_in_there(tied: Contrast) -> None:
    (found,) = _of(tied, "L120", "prompt")
    assert found.confirmed
    assert (found.estimand, found.region is not None) == ("own", True)
    assert (found.effect, found.ci_low) == (found.own_lean.effect, found.own_lean.ci_low)
    assert found.effect > 2 * _of(tied, "L120")[0].effect
    assert ("sharp", "own") in {(one["null"], one["view"]) for one in tied.record["nulls"]}


def test_its_sentence_claims_no_comparison(tied: Contrast) -> None:
    from dataclasses import asdict

    said = headline(plain(asdict(_of(tied, "L120", "prompt")[0])))
    assert "seen mostly there, too seldom elsewhere to compare with what it would be on other prompts" in said
    assert "than on other prompts" not in said
    assert "excess" not in said
