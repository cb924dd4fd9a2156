"""The fast first look agrees with the slow true test, and prevalence alone is no preference."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from made_features import flipped, made
from tiltscope import stats
from tiltscope.concepts import Concept, single_latents
from tiltscope.screening import Measures, disparity, screen_regions, shift_disparity
from tiltscope.stats.score import regression_score


def test_the_screen_is_the_score_of_the_full_regression() -> None:
    pairs, features = made(300)
    measures = disparity(features, single_latents(np.full(15, 99), min_groups=1))
    clusters = stats.Clusters.of(np.array([pair.group for pair in pairs.rows]))
    rng = np.random.default_rng(0)
    masks, spline = rng.random((300, 3)) < 0.4, rng.standard_normal((300, 4))
    screen = screen_regions(measures, masks, spline, clusters, np.arange(300), min_groups=5)
    for concept in (0, 7, 12):
        u, a = (x[:, 0] for x in measures.columns([concept]))
        for region in range(3):
            x = np.column_stack([spline, a, a * masks[:, region]])
            fit = stats.RegressionCR2(x, clusters, 5).fit(u)
            assert screen.effect[concept, region] == pytest.approx(float(fit.effect), abs=1e-9)
            assert screen.z[concept, region] == pytest.approx(regression_score(u, x, 5, clusters), abs=1e-9)


def test_disparity_is_the_mean_of_what_fires_on_one_side_only() -> None:
    _, features = made(50)
    measures = disparity(features, [Concept("C0", (0, 1, 2))])
    plus, minus = (side.freq[:, [0, 1, 2]].toarray() > 0.01 for side in (features.chosen, features.rejected))
    u, a = (x[:, 0] for x in measures.columns([0]))
    assert u == pytest.approx((plus * 1.0 - minus).mean(axis=1))
    assert a == pytest.approx(np.abs(plus * 1.0 - minus).mean(axis=1))


def test_swapping_labels_turns_u_and_leaves_a() -> None:
    _, features = made(80)
    concepts = [Concept("C0", (0, 1)), Concept("C1", (5, 30, 31))]
    for measure in (disparity, shift_disparity):
        one, other = measure(features, concepts), measure(flipped(features, np.ones(80, bool)), concepts)
        assert np.array_equal(one.u.toarray(), -other.u.toarray())
        assert np.array_equal(one.a.toarray(), other.a.toarray())


def test_one_extreme_pair_does_not_decide_a_shift_whichever_way_it_was_labelled() -> None:
    """A latent that differs by a tenth in every pair, and in one, after one kind of prompt, forty times as much."""
    rng = np.random.default_rng(3)
    n = 300
    inside = np.arange(n) < 60
    difference = rng.choice([-0.1, 0.1], n) * rng.uniform(0.5, 1.5, n)
    z = []
    for sign in (1.0, -1.0):
        difference[7] = sign * 4.0
        chosen, rejected = (sparse.csr_array(np.maximum(way * difference, 0)[:, None]) for way in (1, -1))
        features = SimpleNamespace(
            chosen=SimpleNamespace(freq=chosen), rejected=SimpleNamespace(freq=rejected), n_latents=1
        )
        measures = shift_disparity(features, [Concept("R0", (0,))])  # type: ignore[arg-type]
        u, a = (x[:, 0] for x in measures.columns([0]))
        assert a[7] == a.max() == pytest.approx(np.quantile(np.abs(u), 0.975), rel=0.02)
        assert np.sign(u[7]) == sign
        clusters = stats.Clusters.of(np.arange(n))
        z.append(screen_regions(measures, inside[:, None], np.zeros((n, 0)), clusters, np.arange(n), min_groups=20).z)
    assert abs(z[0] - z[1]).max() < 1


def test_prevalence_without_preference_is_called_in_at_most_seven_percent() -> None:
    """The same preference everywhere (65 %), but at stake in half of the region's pairs and a fifth of the others."""
    rng = np.random.default_rng(1)
    n, draws = 600, 600
    inside = np.arange(n) < 150
    at_stake = rng.random((n, draws)) < np.where(inside, 0.5, 0.2)[:, None]
    u = at_stake * np.where(rng.random((n, draws)) < 0.65, 1.0, -1.0)
    measures = Measures(
        tuple(Concept(f"L{i}", (i,)) for i in range(draws)), sparse.csc_array(u), sparse.csc_array(np.abs(u))
    )
    clusters = stats.Clusters.of(np.arange(n))
    screen = screen_regions(measures, inside[:, None], np.zeros((n, 0)), clusters, np.arange(n), min_groups=20)
    ours = np.mean(np.abs(screen.z[:, 0]) > 1.96)
    welch = np.mean(np.abs(stats.welch(u[inside], u[~inside]).z) > 1.96)
    assert ours <= 0.07
    assert welch > 0.2


def test_cells_with_too_few_witnesses_are_not_tested() -> None:
    pairs, features = made(200)
    measures = disparity(features, single_latents(np.full(5, 99), min_groups=1))
    clusters = stats.Clusters.of(np.array([pair.group for pair in pairs.rows]))
    few = (np.arange(200) < 10)[:, None]
    screen = screen_regions(measures, few, np.zeros((200, 0)), clusters, np.arange(200), min_groups=20)
    assert np.isnan(screen.z).all()
