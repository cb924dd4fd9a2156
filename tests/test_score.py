"""The null-imposed score: by hand, by refit, and where t alone would be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from tiltscope import stats
from tiltscope.stats.score import (
    cautious_p,
    flip_scores,
    regression_score,
    tau_score,
    tau_score_flips,
    wild_scores,
)


def _data(seed: int = 0, n: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray, stats.Clusters]:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 40, n)
    spline, stake = rng.standard_normal((n, 3)), np.abs(rng.standard_normal((n, 1)))
    unsigned = np.column_stack([stake, stake * (rng.random((n, 1)) < 0.4)])
    return rng.standard_normal(n), spline, unsigned, stats.Clusters.of(groups)


def _by_hand(y: np.ndarray, x: np.ndarray, clusters: stats.Clusters) -> float:
    others, tested = x[:, :-1], x[:, -1]
    left = tested - others @ np.linalg.lstsq(others, tested, rcond=None)[0]
    residual = y - others @ np.linalg.lstsq(others, y, rcond=None)[0]
    scores = np.array([(left * residual)[clusters.codes == g].sum() for g in range(clusters.n_groups)])
    return float(scores.sum() / np.sqrt((scores**2).sum()))


def test_the_score_of_a_coefficient_is_the_one_computed_by_hand() -> None:
    y, spline, unsigned, clusters = _data()
    x = np.column_stack([spline, unsigned])
    assert regression_score(y, x, 4, clusters) == pytest.approx(_by_hand(y, x, clusters), rel=1e-9)


def test_wild_scores_equal_explicit_refits() -> None:
    y, spline, unsigned, clusters = _data()
    x = np.column_stack([spline, unsigned])
    signs = stats.rademacher(clusters.n_groups, 6, 1)
    null = x[:, :-1] @ np.linalg.lstsq(x[:, :-1], y, rcond=None)[0]
    by_hand = [_by_hand(null + signs[clusters.codes, d] * (y - null), x, clusters) for d in range(6)]
    assert wild_scores(y, x, 4, clusters, signs) == pytest.approx(by_hand, rel=1e-9)


def test_flip_scores_equal_explicit_refits() -> None:
    y, spline, unsigned, clusters = _data()
    signs = stats.rademacher(clusters.n_groups, 6, 2)
    by_hand = []
    for draw in signs.T:
        w = draw[clusters.codes]
        by_hand.append(_by_hand(w * y, np.column_stack([w[:, None] * spline, unsigned]), clusters))
    assert flip_scores(y, spline, unsigned, 1, clusters, signs) == pytest.approx(by_hand, rel=1e-9)


def test_tau_scores_flip_as_labels_do() -> None:
    y, _, _, clusters = _data()
    signs = stats.rademacher(clusters.n_groups, 5, 3)
    expected = [float(tau_score(y * draw[clusters.codes], clusters)) for draw in signs.T]
    assert tau_score_flips(y, clusters, signs) == pytest.approx(expected, rel=1e-9)


def test_eighteen_of_twenty_signs_alike_are_not_a_miracle() -> None:
    u = np.r_[np.ones(18), -np.ones(2)]
    clusters = stats.Clusters.of(np.arange(20))
    by_counting = binom.sf(17, 20, 0.5)
    estimates = stats.tau_test(u, clusters)
    assert estimates.p_one(1) < by_counting / 10
    cautious = cautious_p(estimates.t, estimates.df, tau_score(u, clusters), 1)
    assert by_counting / 2 < cautious < 2 * by_counting


def test_a_spanned_column_has_no_score() -> None:
    y, spline, _, clusters = _data()
    assert np.isnan(regression_score(y, np.column_stack([spline, spline[:, 0]]), 3, clusters))


def test_the_score_keeps_its_level_for_signs_with_few_witnesses() -> None:
    rng = np.random.default_rng(4)
    clusters = stats.Clusters.of(np.arange(24))
    u = rng.integers(0, 2, (24, 20_000)) * 2.0 - 1.0
    estimates = stats.tau_test(u, clusters)
    p = cautious_p(estimates.t, estimates.df, tau_score(u, clusters), 1)
    assert np.mean(p < 0.001) < 0.0016
    assert 0.03 < np.mean(p < 0.05) < 0.056
