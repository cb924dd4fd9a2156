"""The numbers are what they claim to be: against oracles, against published values, and on data with nothing in it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from oracles import chick_weight
from oracles.bell_mccaffrey import dense_cr2
from tiltscope.stats import (
    Clusters,
    RegressionCR2,
    benjamini_hochberg,
    dyadic_se,
    explore_mask,
    flip_regression,
    half_mask,
    q_of_lists,
    rademacher,
    share_with_interval,
    spline_basis_difference,
    split_half,
    tau_flips,
    tau_test,
    welch,
)
from tiltscope.stats import flips as flips_room


def unequal_groups(rng, n_groups, largest=30):
    """Group labels in random row order, sizes 1 … largest, one of each extreme present."""
    sizes = rng.integers(1, largest + 1, size=n_groups)
    sizes[:2] = 1, largest
    return rng.permutation(np.repeat(np.arange(n_groups), sizes))


def grouped_noise(rng, groups, n_columns=None):
    """Noise with a shared part in each group."""
    shape = () if n_columns is None else (n_columns,)
    shared = rng.normal(size=(groups.max() + 1, *shape))
    return rng.normal(size=(len(groups), *shape)) + shared[groups]


def rejection_margin(rate, n):
    """Three Monte Carlo standard errors."""
    return 3 * (rate * (1 - rate) / n) ** 0.5


# --- many tests, Welch ----------------------------------------------------------------------------------------------


def test_q_values_equal_those_of_scipy_and_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(0).uniform(size=300) ** 2
    p[10:20] = p[0]  # ties
    assert benjamini_hochberg(p) == pytest.approx(scipy.stats.false_discovery_control(p), abs=1e-15)
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], abs=1e-15)


def test_a_missing_p_value_stays_missing_and_does_not_count():
    p = np.array([0.01, np.nan, 0.04, 0.03, np.nan])
    q = benjamini_hochberg(p)
    assert np.isnan(q).tolist() == [False, True, False, False, True]
    assert q[[0, 2, 3]] == pytest.approx(scipy.stats.false_discovery_control(p[[0, 2, 3]]))


def test_no_p_values_give_no_q_values():
    assert benjamini_hochberg([]).shape == (0,)
    assert np.isnan(benjamini_hochberg([np.nan])).all()


def test_a_p_value_outside_0_1_is_refused():
    with pytest.raises(ValueError, match="p values"):
        benjamini_hochberg([0.5, 1.2])


def test_welch_equals_scipy_column_by_column():
    rng = np.random.default_rng(1)
    inside, outside = rng.normal(0.3, 2, size=(40, 3)), rng.normal(size=(200, 3))
    found, expected = welch(inside, outside), scipy.stats.ttest_ind(inside, outside, equal_var=False)
    assert found.z == pytest.approx(expected.statistic, abs=1e-12)
    assert found.delta == pytest.approx(inside.mean(0) - outside.mean(0))
    pooled = np.sqrt((39 * inside.var(0, ddof=1) + 199 * outside.var(0, ddof=1)) / 238)
    assert found.d == pytest.approx(found.delta / pooled)
    assert float(welch(inside[:, 0], outside[:, 0]).z) == pytest.approx(expected.statistic[0])


def test_welch_says_nothing_without_spread_or_rows():
    assert np.isnan(welch(np.ones(5), np.zeros(5)).z)
    assert np.isnan(welch(np.ones(1), np.zeros(5)).delta)


# --- length splines -------------------------------------------------------------------------------------------------


def test_swapping_the_sides_negates_the_spline_exactly():
    rng = np.random.default_rng(2)
    chosen, rejected = np.log(rng.integers(5, 400, size=(2, 500)))
    forward = spline_basis_difference(chosen, rejected)
    assert forward.shape == (500, 6)
    assert np.array_equal(forward, -spline_basis_difference(rejected, chosen))


def test_flipping_some_labels_negates_those_rows_and_no_others():
    rng = np.random.default_rng(3)
    lengths, flip = np.log(rng.integers(5, 400, size=(2, 300))), rng.random(300) < 0.5
    forward = spline_basis_difference(*lengths)
    flipped = spline_basis_difference(np.where(flip, lengths[1], lengths[0]), np.where(flip, lengths[0], lengths[1]))
    assert np.array_equal(flipped, forward * np.where(flip, -1, 1)[:, None])


def test_the_spline_contains_the_log_ratio_itself():
    rng = np.random.default_rng(4)
    chosen, rejected = np.log(rng.integers(5, 400, size=(2, 300)))
    columns = spline_basis_difference(chosen, rejected)
    left = np.linalg.lstsq(columns, chosen - rejected, rcond=None)[1]
    assert left == pytest.approx([0.0], abs=1e-18)


def test_equal_lengths_leave_no_spline_columns():
    same = np.log(np.full(20, 7.0))
    assert spline_basis_difference(same, same).shape == (20, 0)
    varied = np.log(np.arange(1, 21))
    assert spline_basis_difference(varied, varied).shape == (20, 0)
    assert spline_basis_difference([], []).shape == (0, 0)


def test_a_few_distinct_lengths_merge_their_knots():
    chosen, rejected = np.log([10, 10, 10, 20, 10, 20]), np.log([10, 20, 10, 10, 10, 10])
    assert spline_basis_difference(chosen, rejected).shape == (6, 1)


def test_an_empty_response_is_refused():
    with pytest.raises(ValueError, match="empty response"):
        spline_basis_difference([1.0, -np.inf], [1.0, 2.0])


# --- groups and draws -----------------------------------------------------------------------------------------------


def test_group_sums_do_not_depend_on_row_order_or_label_type():
    groups = np.array(["b", "a", "b", "c", "a"])
    x = np.array([1.0, 2, 4, 8, 16])
    clusters = Clusters.of(groups)
    assert clusters.group_sums(x).tolist() == [18, 5, 8]
    assert clusters.group_sums(np.column_stack([x, 2 * x]))[:, 1].tolist() == [36, 10, 16]
    assert Clusters.of([7, 3, 7, 9, 3]).group_sums(x).tolist() == [18, 5, 8]
    assert clusters.subset(groups != "a").sizes.tolist() == [2, 1]
    with pytest.raises(ValueError, match="4 rows for 5"):
        clusters.group_sums(x[:4])


def test_explore_halves_keep_groups_whole_and_balance_pairs():
    rng = np.random.default_rng(5)
    groups = np.array([f"prompt {g}" for g in unequal_groups(rng, 60)])
    explore = explore_mask(groups, seed=0)
    assert all(len(set(explore[groups == g])) == 1 for g in set(groups.tolist()))
    assert abs(explore.sum() - (~explore).sum()) <= 30  # the largest group


def test_the_explore_half_depends_on_labels_and_seed_alone():
    rng = np.random.default_rng(6)
    groups, order = unequal_groups(rng, 60), rng.permutation
    shuffled = order(len(groups))
    assert np.array_equal(explore_mask(groups, 3)[shuffled], explore_mask(groups[shuffled], 3))
    assert not np.array_equal(explore_mask(groups, 3), explore_mask(groups, 4))
    assert not np.array_equal(explore_mask(groups, 3), half_mask(groups, 3))
    assert explore_mask(np.array(["a", "b"]), 0).sum() == 1  # neither half is empty
    assert explore_mask(np.array(["\ud800", "é"]), 0).sum() == 1  # a lone surrogate is a label like any other


def test_signs_are_repeatable_and_fair():
    signs = rademacher(50, 400, seed=1)
    assert np.array_equal(signs, rademacher(50, 400, seed=1))
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.03


# --- CR2: oracles and published values ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_regression_equals_the_dense_bell_mccaffrey_computation(seed):
    rng = np.random.default_rng(seed)
    groups = unequal_groups(rng, int(rng.integers(6, 20)))
    x = rng.normal(size=(len(groups), int(rng.integers(1, 8))))
    x[:, 0] = 1.0
    x = np.column_stack([x, rng.normal(size=groups.max() + 1)[groups]])  # a column of groups: high leverage
    y, clusters, tested = grouped_noise(rng, groups), Clusters.of(groups), int(rng.integers(x.shape[1]))
    found, expected = RegressionCR2(x, clusters, tested).fit(y), dense_cr2(x, y, groups, tested)
    assert [float(v) for v in (found.effect, found.se, found.df, found.t)] == pytest.approx(
        [expected.effect, expected.se, expected.df, expected.t], rel=1e-9
    )
    assert float(found.p_two) == pytest.approx(2 * scipy.stats.t.sf(abs(expected.t), expected.df), rel=1e-9)


def test_many_responses_at_once_equal_one_by_one():
    rng = np.random.default_rng(20)
    groups = unequal_groups(rng, 25)
    regression = RegressionCR2(rng.normal(size=(len(groups), 4)), Clusters.of(groups), 2)
    y = grouped_noise(rng, groups, 5)
    together, alone = regression.fit(y), [regression.fit(column) for column in y.T]
    assert together.t == pytest.approx([float(fit.t) for fit in alone], rel=1e-12)
    assert together.residual_sd == pytest.approx([float(fit.residual_sd) for fit in alone], rel=1e-12)


def test_a_group_with_a_column_of_its_own_is_handled_as_clubsandwich_does():
    rng = np.random.default_rng(21)
    groups = unequal_groups(rng, 10)
    x = np.column_stack([np.ones(len(groups)), groups == 1, rng.normal(size=len(groups))])
    y = grouped_noise(rng, groups)
    found, expected = RegressionCR2(x, Clusters.of(groups), 2).fit(y), dense_cr2(x, y, groups, 2)
    assert [float(found.se), float(found.df)] == pytest.approx([expected.se, expected.df], rel=1e-9)


def test_aliased_columns_are_dropped_and_an_aliased_tested_one_is_nan():
    rng = np.random.default_rng(22)
    groups = unequal_groups(rng, 15)
    x = rng.normal(size=(len(groups), 3))
    wide = np.column_stack([x, x[:, 0] - 2 * x[:, 1], np.zeros(len(groups))])
    y, clusters = grouped_noise(rng, groups), Clusters.of(groups)
    found, expected = RegressionCR2(wide, clusters, 2).fit(y), RegressionCR2(x, clusters, 2).fit(y)
    assert [float(found.t), float(found.df)] == pytest.approx([float(expected.t), float(expected.df)], rel=1e-9)
    for aliased in (0, 1, 3, 4):
        assert np.isnan(RegressionCR2(wide, clusters, aliased).fit(y).p_two)
    assert np.isnan(RegressionCR2(rng.normal(size=(3, 5)), Clusters.of([0, 1, 2]), 4).fit(y[:3]).t)


@pytest.mark.parametrize("printed", chick_weight.PRINTED, ids=lambda row: f"diet {row.diet}")
def test_chick_weights_give_what_clubsandwich_prints(printed):
    data = chick_weight.load()
    fit = RegressionCR2(data.design, Clusters.of(data.chick), 3 + printed.diet).fit(data.weight)
    wide, wider = fit.interval(0.95), fit.interval(0.99)
    assert float(fit.effect) == pytest.approx(printed.estimate, abs=0.005)
    assert float(fit.se) == pytest.approx(printed.se, abs=0.005)
    assert float(fit.df) == pytest.approx(printed.df, abs=0.05)
    assert float(fit.p_two) == pytest.approx(printed.p, abs=0.00005)
    assert float(wide.low) == pytest.approx(printed.low_95, abs=0.0005)
    assert float(wide.high) == pytest.approx(printed.high_95, abs=0.005)
    assert float(wider.low) == pytest.approx(printed.low_99, abs=0.00005)
    assert float(wider.high) == pytest.approx(printed.high_99, abs=0.005)


def test_single_rows_as_groups_give_the_hc2_errors_stata_prints():
    # y on x, vce(hc2), printed in the tests of the R package dfadjust (Kolesár), test_clustervar.R
    y = np.concatenate([np.cos(np.arange(10)), np.tan(np.arange(1, 11))])
    x = np.column_stack([np.ones(20), np.concatenate([np.sin(np.arange(1, 11)), np.sin(np.arange(2, 12))])])
    fits = [RegressionCR2(x, Clusters.of(np.arange(20)), j).fit(y) for j in (0, 1)]
    assert [float(fit.effect) for fit in fits] == pytest.approx([-0.4456202905, 0.3241183110], abs=5e-10)
    assert [float(fit.se) for fit in fits] == pytest.approx([0.4227339762, 0.4421048122], abs=5e-10)


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_in_closed_form_equals_the_dense_computation(seed):
    rng = np.random.default_rng(100 + seed)
    groups = unequal_groups(rng, 12)
    u = grouped_noise(rng, groups, 3)
    found = tau_test(u, Clusters.of(groups))
    for j in range(3):
        expected = dense_cr2(np.ones((len(groups), 1)), u[:, j], groups, 0)
        assert [found.effect[j], found.se[j], found.df[j], found.t[j]] == pytest.approx(
            [expected.effect, expected.se, expected.df, expected.t], rel=1e-10
        )
    general = RegressionCR2(np.ones((len(groups), 1)), Clusters.of(groups), 0).fit(u)
    assert found.residual_sd == pytest.approx(general.residual_sd)


def test_the_mean_of_independent_rows_is_the_one_sample_t_test():
    u = np.random.default_rng(30).normal(0.2, 1, size=40)
    found, expected = tau_test(u, Clusters.of(np.arange(40))), scipy.stats.ttest_1samp(u, 0)
    assert [float(found.t), float(found.df), float(found.p_two)] == pytest.approx(
        [expected.statistic, 39, expected.pvalue]
    )
    assert float(found.p_one(1)) == pytest.approx(scipy.stats.ttest_1samp(u, 0, alternative="greater").pvalue)
    assert float(found.p_one(-1)) == pytest.approx(scipy.stats.ttest_1samp(u, 0, alternative="less").pvalue)
    bounds, ci = found.interval(0.9), expected.confidence_interval(0.9)
    assert [float(bounds.low), float(bounds.high)] == pytest.approx([ci.low, ci.high])
    assert float(found.d) == pytest.approx(u.mean() / u.std(ddof=1))
    assert 2 * scipy.stats.norm.sf(abs(float(found.z))) == pytest.approx(float(found.p_two))
    assert np.sign(float(found.z)) == np.sign(float(found.effect))


def test_what_cannot_be_estimated_is_nan_and_never_significant():
    clusters = Clusters.of([0, 0, 1, 1, 2])
    nothing = tau_test(np.zeros(5), clusters)
    assert float(nothing.effect) == 0
    assert np.isnan(nothing.p_two)
    assert np.isnan(tau_test(np.arange(5.0), Clusters.of(np.zeros(5))).p_two)
    assert np.isnan(RegressionCR2(np.ones((5, 1)), Clusters.of(np.zeros(5)), 0).fit(np.arange(5.0)).p_two)
    assert np.isnan(RegressionCR2(np.ones((5, 1)), clusters, 0).fit(np.zeros(5)).p_two)
    assert np.isnan(tau_flips(np.zeros(5), clusters, rademacher(3, 4, 0))).all()


@pytest.mark.parametrize("only", [0, 1, 7])
def test_a_coefficient_that_only_one_group_tells_is_nan_however_it_is_tested(only):
    rng = np.random.default_rng(32)
    groups = unequal_groups(rng, 12)  # group 0 is a single row, group 1 the largest
    clusters, y, signs = Clusters.of(groups), grouped_noise(rng, groups), rademacher(12, 6, 0)
    column = (rng.random(len(groups)) * (groups == only))[:, None]
    alone = RegressionCR2(column, clusters, 0)
    assert np.isnan(alone.fit(y).p_two)
    assert np.isnan(alone.df)
    assert np.isnan(alone.wild(y, signs)).all()
    assert np.isnan(flip_regression(y, np.zeros((len(y), 0)), column, 0, clusters, signs).p_two).all()


def test_a_response_without_spread_is_infinitely_far_from_zero_not_rounding_noise():
    groups = unequal_groups(np.random.default_rng(31), 20)
    constant = np.full(len(groups), 0.1)
    for fit in (
        tau_test(constant, Clusters.of(groups)),
        RegressionCR2(np.ones((len(groups), 1)), Clusters.of(groups), 0).fit(constant),
    ):
        assert float(fit.se) == 0
        assert np.isinf(fit.t)
        assert float(fit.p_two) == 0


def test_bad_designs_are_refused():
    clusters = Clusters.of([0, 0, 1])
    with pytest.raises(ValueError, match="one row per group label"):
        RegressionCR2(np.ones((4, 1)), clusters, 0)
    with pytest.raises(ValueError, match="not finite"):
        RegressionCR2(np.array([[1.0], [np.nan], [1.0]]), clusters, 0)
    with pytest.raises(ValueError, match="2 responses for 3 rows"):
        RegressionCR2(np.ones((3, 1)), clusters, 0).fit(np.ones(2))
    with pytest.raises(ValueError, match="one per group"):
        flip_regression(np.ones(3), np.ones((3, 1)), np.ones((3, 1)), 0, clusters, np.ones((3, 5)))


# --- both nulls against explicit refits -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_wild_draws_equal_explicit_refits(seed):
    rng = np.random.default_rng(200 + seed)
    groups = unequal_groups(rng, 9, largest=12)
    x, y = rng.normal(size=(len(groups), 4)), grouped_noise(rng, groups)
    signs = rademacher(9, 6, seed)
    null = np.delete(x, 1, axis=1)
    fitted = null @ np.linalg.lstsq(null, y, rcond=None)[0]
    redrawn = fitted[:, None] + signs[groups] * (y - fitted)[:, None]
    expected = [dense_cr2(x, column, groups, 1).t for column in redrawn.T]
    regression = RegressionCR2(x, Clusters.of(groups), 1)
    assert regression.wild(y, signs) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert regression.fit(redrawn).t == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert regression.wild(np.column_stack([y, 2 * y]), signs)[1] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_wild_draws_with_the_tested_column_alone_start_from_zero():
    rng = np.random.default_rng(210)
    groups = unequal_groups(rng, 8)
    u, signs = grouped_noise(rng, groups), rademacher(8, 5, 0)
    alone = RegressionCR2(np.ones((len(groups), 1)), Clusters.of(groups), 0)
    assert alone.wild(u, signs) == pytest.approx(tau_flips(u, Clusters.of(groups), signs), rel=1e-9)


def test_flips_of_the_mean_equal_explicit_refits():
    rng = np.random.default_rng(220)
    groups = unequal_groups(rng, 11)
    clusters, u, signs = Clusters.of(groups), grouped_noise(rng, groups, 3), rademacher(11, 6, 0)
    flipped = tau_flips(u, clusters, signs)
    for draw in range(6):
        expected = tau_test(u * signs[groups, draw][:, None], clusters).t
        assert flipped[:, draw] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert tau_flips(u[:, 1], clusters, signs) == pytest.approx(flipped[1])


@pytest.mark.parametrize(("seed", "largest"), [(0, 3), (1, 12), (2, 30), (3, 1), (4, 8), (5, 20)])
def test_flips_of_a_regression_equal_explicit_refits(seed, largest):
    rng = np.random.default_rng(230 + seed)
    groups = unequal_groups(rng, 14, largest)
    n, signs = len(groups), rademacher(14, 5, seed)
    signed, at_stake = rng.normal(size=(n, seed % 4)), rng.random(n)
    unsigned = np.column_stack([at_stake * (rng.random(n) < 0.6), at_stake])
    y = grouped_noise(rng, groups)
    found = flip_regression(y, signed, unsigned, 0, Clusters.of(groups), signs)
    for draw in range(5):
        w = signs[groups, draw]
        design = np.column_stack([signed * w[:, None], unsigned])  # what a flip does: y and the splines change sign
        expected = dense_cr2(design, w * y, groups, signed.shape[1])
        values = [found.effect[draw], found.se[draw], found.df[draw], found.t[draw]]
        assert values == pytest.approx([expected.effect, expected.se, expected.df, expected.t], rel=1e-9, abs=1e-9)
        refit = RegressionCR2(design, Clusters.of(groups), signed.shape[1]).fit(w * y)
        assert found.residual_sd[draw] == pytest.approx(float(refit.residual_sd))


@pytest.mark.parametrize("lonely", [0, 1, 5])
def test_flips_with_a_group_that_has_a_column_of_its_own_equal_explicit_refits(lonely):
    rng = np.random.default_rng(239)
    groups = unequal_groups(rng, 14, largest=12)  # group 0 is a single row, group 1 the largest
    signed = np.column_stack([rng.normal(size=len(groups)), groups == lonely])
    at_stake, y, signs = rng.random(len(groups)), grouped_noise(rng, groups), rademacher(14, 5, 0)
    found = flip_regression(y, signed, at_stake[:, None], 0, Clusters.of(groups), signs)
    for draw in range(5):
        design = np.column_stack([signed, at_stake * signs[groups, draw]])
        expected = dense_cr2(design, y, groups, 2)
        assert [found.t[draw], found.df[draw]] == pytest.approx([expected.t, expected.df], rel=1e-9)


def test_flips_do_not_depend_on_how_many_draws_are_worked_on_at_a_time(monkeypatch):
    rng = np.random.default_rng(240)
    groups = unequal_groups(rng, 30)
    parts = grouped_noise(rng, groups), rng.normal(size=(len(groups), 3)), rng.random(size=(len(groups), 2))
    clusters, signs = Clusters.of(groups), rademacher(30, 17, 0)
    whole = flip_regression(*parts, 1, clusters, signs)
    monkeypatch.setattr(flips_room, "_CHUNK", 4 * len(groups))
    assert flip_regression(*parts, 1, clusters, signs).t == pytest.approx(whole.t, rel=1e-12)


def test_flips_that_leave_no_contrast_are_nan():
    rng = np.random.default_rng(241)
    groups = unequal_groups(rng, 12)
    at_stake = rng.random(len(groups))
    everywhere = np.column_stack([at_stake, at_stake])  # a region that holds every pair
    signed = rng.normal(size=(len(groups), 2))
    found = flip_regression(
        grouped_noise(rng, groups), signed, everywhere, 1, Clusters.of(groups), rademacher(12, 4, 0)
    )
    assert np.isnan(found.t).all()
    assert np.isnan(found.p_two).all()


# --- nothing in the data --------------------------------------------------------------------------------------------


def test_few_unequal_groups_reject_a_null_mean_in_five_percent():
    rng = np.random.default_rng(300)
    groups = unequal_groups(rng, 20, largest=12)
    found = tau_test(grouped_noise(rng, groups, 4000), Clusters.of(groups))
    assert np.mean(found.p_two < 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(found.p_one(1) < 0.05) == pytest.approx(0.05, abs=0.015)
    bounds = found.interval(0.95)
    assert np.mean((bounds.low <= 0) & (bounds.high >= 0)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("n_groups", "usual"), [(3, 0.23), (5, 0.15), (10, 0.10)])
def test_uncorrected_errors_reject_far_too_often_with_few_groups_and_cr2_does_not(n_groups, usual):
    rng = np.random.default_rng(301)
    groups = np.repeat(np.arange(n_groups), 6)
    u = grouped_noise(rng, groups, 4000)
    sums = Clusters.of(groups).group_sums(u - u.mean(axis=0))
    uncorrected = np.abs(u.mean(axis=0)) / (np.sqrt((sums**2).sum(axis=0)) / len(groups)) > 1.96
    assert uncorrected.mean() == pytest.approx(usual, abs=0.03)
    assert np.mean(tau_test(u, Clusters.of(groups)).p_two < 0.05) == pytest.approx(
        0.05, abs=rejection_margin(0.05, 4000)
    )


def one_prevalence_study(rng, clusters, groups):
    """Preference .65 wherever the concept is at stake; at stake in half of the region's pairs, a fifth elsewhere."""
    inside = rng.random(clusters.n_groups)[groups] < 0.2
    at_stake = (rng.random(len(groups)) < np.where(inside, 0.5, 0.2)).astype(float)
    u = at_stake * np.where(rng.random(len(groups)) < 0.65, 1.0, -1.0)
    return inside, at_stake, u


def test_prevalence_without_preference_fools_welch_but_not_the_region_test():
    rng = np.random.default_rng(302)
    n_studies, groups = 800, np.repeat(np.arange(300), 3)
    clusters = Clusters.of(groups)
    lengths = np.log(rng.integers(20, 400, size=(2, len(groups))))
    splines = spline_basis_difference(*lengths)
    by_welch, by_region = [], []
    for _ in range(n_studies):
        inside, at_stake, u = one_prevalence_study(rng, clusters, groups)
        by_welch.append(abs(float(welch(u[inside], u[~inside]).z)) > 1.96)
        design = np.column_stack([splines, at_stake, at_stake * inside])
        by_region.append(float(RegressionCR2(design, clusters, design.shape[1] - 1).fit(u).p_two) < 0.05)
    assert np.mean(by_welch) > 0.25
    assert np.mean(by_region) <= 0.07
    assert np.mean(by_region) >= 0.05 - rejection_margin(0.05, n_studies)


def test_a_region_with_a_preference_of_its_own_is_found():
    rng = np.random.default_rng(303)
    groups = np.repeat(np.arange(300), 3)
    inside, at_stake = rng.random(300)[groups] < 0.3, (rng.random(900) < 0.5).astype(float)
    u = at_stake * np.where(rng.random(900) < np.where(inside, 0.85, 0.5), 1.0, -1.0)
    fit = RegressionCR2(np.column_stack([at_stake, at_stake * inside]), Clusters.of(groups), 1).fit(u)
    assert float(fit.p_one(1)) < 1e-4
    assert float(fit.effect) == pytest.approx(0.7, abs=0.2)


def test_a_length_gap_alone_moves_any_firing_but_not_frequency_nor_equal_length_lean():
    rng = np.random.default_rng(304)
    groups, n_latents = np.repeat(np.arange(250), 2), 1000
    n_chosen = rng.integers(20, 300, size=500)
    n_rejected = np.maximum((n_chosen * rng.uniform(0.3, 1.3, size=500)).astype(int), 5)
    fired = [rng.binomial(n[:, None], 0.01, size=(500, n_latents)) for n in (n_chosen, n_rejected)]
    clusters = Clusters.of(groups)
    frequency = fired[0] / n_chosen[:, None] - fired[1] / n_rejected[:, None]
    any_firing = (fired[0] > 0).astype(float) - (fired[1] > 0)
    splines = spline_basis_difference(np.log(n_chosen), np.log(n_rejected))
    alpha = RegressionCR2(np.column_stack([np.ones(500), splines]), clusters, 0)
    margin = rejection_margin(0.05, n_latents)
    assert np.mean(tau_test(any_firing, clusters).p_two < 0.05) > 0.9
    assert np.mean(tau_test(frequency, clusters).p_two < 0.05) == pytest.approx(0.05, abs=margin)
    assert np.mean(alpha.fit(frequency).p_two < 0.05) == pytest.approx(0.05, abs=margin)
    assert np.mean(alpha.fit(any_firing).p_two < 0.05) == pytest.approx(0.05, abs=margin)


def test_both_nulls_reject_in_five_percent_of_draws():
    rng = np.random.default_rng(305)
    groups = np.repeat(np.arange(120), rng.integers(1, 5, size=120))
    clusters, signs = Clusters.of(groups), rademacher(120, 2000, 0)
    at_stake, signed = (rng.random(len(groups)) < 0.6).astype(float), rng.normal(size=(len(groups), 3))
    unsigned = np.column_stack([at_stake, at_stake * (rng.random(120) < 0.4)[groups]])
    u = at_stake * np.where(rng.random(len(groups)) < 0.8, 1.0, -1.0)  # a strong lean, which both nulls take away
    margin = rejection_margin(0.05, 2000) + 0.01
    flipped = flip_regression(u, signed, unsigned, 1, clusters, signs)
    assert np.mean(flipped.p_two < 0.05) == pytest.approx(0.05, abs=margin)
    regression = RegressionCR2(np.column_stack([signed, unsigned]), clusters, 4)
    p = 2 * scipy.stats.t.sf(np.abs(regression.wild(u, signs)), regression.df)
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=margin)


# --- sources, shares, halves ----------------------------------------------------------------------------------------


def brute_dyadic_variance(u, a, b, groups):
    """Every pair of rows, looked at one by one."""
    e, total = u - u.mean(), 0.0
    for i in range(len(u)):
        for j in range(len(u)):
            if {a[i], b[i]} & {a[j], b[j]} or groups[i] == groups[j]:
                total += e[i] * e[j]
    return total / len(u) ** 2


@pytest.mark.parametrize("seed", range(3))
def test_dyadic_errors_equal_the_double_loop(seed):
    rng = np.random.default_rng(400 + seed)
    a, b, groups = rng.integers(0, 15, 200), rng.integers(0, 15, 200), rng.integers(0, 60, 200)
    strength = rng.normal(size=15)
    u = strength[a] - 0.3 * strength[b] + rng.normal(size=200)
    names = np.array([f"model {k}" for k in range(15)])
    expected = (brute_dyadic_variance(u, a, b, groups) * 15 * 14 / (13 * 12)) ** 0.5
    found = dyadic_se(u, names[a], names[b], Clusters.of(groups))
    assert found.n_sources == 15
    assert found.se == pytest.approx(expected, rel=1e-9)
    alone = (brute_dyadic_variance(u, a, b, np.arange(200)) * 15 * 14 / (13 * 12)) ** 0.5
    assert dyadic_se(u, names[a], names[b]).se == pytest.approx(alone, rel=1e-9)


def test_a_variance_for_new_sources_is_never_below_that_for_new_groups():
    u, a, b = np.array([1.0, -1.0, 1.0, -1.0]), np.array([0, 0, 1, 1]), np.array([2, 2, 3, 3])
    assert brute_dyadic_variance(u, a, b, np.arange(4)) == 0  # opposite rows of one source cancel
    assert dyadic_se(u, a, b).se == pytest.approx((4 * 3 / (2 * 1) * 4 / 16) ** 0.5)


def test_a_fixed_opponent_is_not_counted_among_the_sources():
    rng = np.random.default_rng(411)
    a = rng.integers(0, 12, 300)
    u = rng.normal(size=12)[a] + rng.normal(size=300)
    left = rng.random(300) < 0.5  # the reference stands on either side
    found = dyadic_se(u, np.where(left, a, 99), np.where(left, 99, a))
    sums = Clusters.of(a).group_sums(u - u.mean())
    assert found.n_sources == 12
    assert found.se == pytest.approx(((sums**2).sum() * 12 / 11) ** 0.5 / 300)


def test_intervals_for_new_sources_cover_where_intervals_for_new_rows_do_not():
    rng, missed = np.random.default_rng(412), []
    for _ in range(500):
        a = rng.integers(0, 12, 400)
        b = (a + rng.integers(1, 12, 400)) % 12
        strength = rng.normal(size=12)
        u = strength[a] - 0.5 * strength[b] + rng.normal(size=400)
        reach = scipy.stats.t.isf(0.025, 11) * dyadic_se(u, a, b).se
        missed.append([abs(u.mean()) > reach, float(tau_test(u, Clusters.of(np.arange(400))).p_two) < 0.05])
    assert np.mean(missed, axis=0)[0] == pytest.approx(0.05, abs=0.035)
    assert np.mean(missed, axis=0)[1] > 0.3


def test_a_model_that_always_wins_widens_the_interval_for_new_models():
    rng = np.random.default_rng(410)
    a, b = rng.integers(0, 20, 1000), rng.integers(0, 20, 1000)
    u = rng.normal(size=20)[a] + rng.normal(size=1000)
    by_row = float(tau_test(u, Clusters.of(np.arange(1000))).se)
    assert dyadic_se(u, a, b).se > 3 * by_row
    assert np.isnan(dyadic_se(u, np.zeros(1000), np.zeros(1000)).se)


def test_halves_agree_only_with_one_sign():
    found = split_half([0.2, -0.1, 0.3, 0.0], [0.1, -0.4, -0.2, 0.5])
    assert found.delta_min.tolist() == [0.1, 0.1, 0.2, 0.0]
    assert found.agree.tolist() == [True, True, False, False]


def test_shares_of_nothing_and_everything_keep_an_interval():
    everything, nothing = share_with_interval([1] * 30, [1] * 30), share_with_interval([0] * 30, [1] * 30)
    assert (everything.share, everything.high) == (1.0, 1.0)
    assert 0.8 < everything.low < 0.95
    assert (nothing.share, nothing.low) == (0.0, 0.0)
    assert nothing.high == pytest.approx(1 - everything.low)
    assert share_with_interval([3], [4]).low == 0.0
    assert np.isnan(share_with_interval([], []).share)
    with pytest.raises(ValueError, match="between 0 and its trials"):
        share_with_interval([3], [2])


def test_independent_trials_give_nearly_the_wilson_interval_of_scipy():
    hits = np.arange(400) < 300
    found = share_with_interval(hits, np.ones(400))
    expected = scipy.stats.binomtest(300, 400).proportion_ci(0.95, method="wilson")
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], abs=1e-3)


def test_intervals_of_shares_cover_at_the_promised_rate_with_dependent_trials():
    rng, covered = np.random.default_rng(420), []
    for _ in range(1000):
        trials = rng.integers(1, 8, size=60)
        successes = rng.binomial(trials, rng.beta(8, 2, size=60))  # a share of .8, differing between groups
        found = share_with_interval(successes, trials)
        covered.append(found.low <= 0.8 <= found.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


# --- several lists ----------------------------------------------------------------------------------------------------


def test_one_list_has_the_q_of_benjamini_and_hochberg() -> None:
    p = np.random.default_rng(0).random(40) ** 2
    (q,) = q_of_lists([p], [0.3])
    assert q == pytest.approx(scipy.stats.false_discovery_control(p))


def test_q_of_lists_is_the_larger_of_within_and_weighted_over_all() -> None:
    rng = np.random.default_rng(1)
    lists, budget = [rng.random(30) ** 3, rng.random(4) ** 2], [0.8, 0.2]
    weighted = np.concatenate([np.minimum(p * len(p) / (34 * b), 1) for p, b in zip(lists, budget, strict=True)])
    over_all = np.split(scipy.stats.false_discovery_control(weighted), [30])
    for found, p, together in zip(q_of_lists(lists, budget), lists, over_all, strict=True):
        assert found == pytest.approx(np.maximum(scipy.stats.false_discovery_control(p), together))


def test_lists_without_tests_give_their_budget_away_and_nan_is_no_test() -> None:
    p = np.array([0.01, np.nan, 0.3])
    alone, empty = q_of_lists([p, []], [0.1, 0.9])
    assert alone == pytest.approx([0.02, np.nan, 0.3], nan_ok=True)
    assert len(empty) == 0


def test_with_nothing_to_find_any_list_speaks_in_at_most_one_of_ten_studies() -> None:
    rng = np.random.default_rng(2)
    called = 0
    for _ in range(2000):
        lists = [rng.random(m) for m in (300, 1, 12, 40)]
        called += any((q <= 0.1).any() for q in q_of_lists(lists, [0.5, 0.1, 0.15, 0.25]))
    assert 0.07 < called / 2000 < 0.118


def test_a_list_without_a_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="budget"):
        q_of_lists([[0.1], [0.2]], [1.0, 0.0])
