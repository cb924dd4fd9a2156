"""Latents become concepts: oracles, planted communities, and what must not be joined."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import normalized_mutual_info_score

from tiltscope.concepts import cluster_latents, fires, indicator, normalised_mutual_information, single_latents


def _firing(n: int = 600, *, seed: int = 0) -> np.ndarray:
    """Latents 0-5, 6-11, … 54-59 fire with ten hidden causes; 60-199 fire alone."""
    rng = np.random.default_rng(seed)
    causes = rng.random((n, 10)) < 0.3
    firing = rng.random((n, 200)) < 0.1
    for latent in range(60):
        firing[:, latent] = causes[:, latent // 6] ^ (rng.random(n) < 0.05)
    return firing


def _sparse(firing: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array(firing.astype(np.float32))


def test_normalised_mutual_information_is_scikit_learns() -> None:
    firing = _firing()
    for f, g in ((0, 1), (0, 6), (70, 71), (3, 199)):
        a, b = firing[:, f], firing[:, g]
        ours = normalised_mutual_information(np.array((a & b).sum()), np.array(a.sum()), np.array(b.sum()), len(a))
        assert float(ours) == pytest.approx(normalized_mutual_info_score(a, b, average_method="geometric"), abs=1e-9)


def test_a_constant_latent_shares_no_information() -> None:
    assert normalised_mutual_information(np.array(5.0), np.array(10.0), np.array(5.0), 10) == 0


def test_latents_with_one_cause_become_one_concept() -> None:
    clusters = {concept.latents for concept in cluster_latents(_sparse(_firing()), top_share=0.015)}
    for cause in range(10):
        planted = set(range(6 * cause, 6 * cause + 6))
        assert any(planted <= set(found) and len(found) <= 8 for found in clusters), planted


def test_latents_that_exclude_each_other_are_not_joined() -> None:
    rng = np.random.default_rng(1)
    one = rng.random(800) < 0.5
    firing = np.column_stack(
        [one ^ (rng.random(800) < 0.02) if i < 4 else ~one ^ (rng.random(800) < 0.02) for i in range(8)]
    )
    for concept in cluster_latents(_sparse(firing), top_share=1.0):
        assert set(concept.latents) <= {0, 1, 2, 3} or set(concept.latents) <= {4, 5, 6, 7}


def test_clusters_do_not_depend_on_the_order_of_responses() -> None:
    firing = _firing()
    shuffled = firing[np.random.default_rng(2).permutation(len(firing))]
    assert cluster_latents(_sparse(firing)) == cluster_latents(_sparse(shuffled))


def test_a_latent_fires_in_a_span_above_one_percent_of_its_tokens() -> None:
    freq = sparse.csr_array(np.array([[0.0, 0.01, 0.011], [0.5, 0.0, 0.0]], np.float32))
    assert fires(freq).toarray().tolist() == [[0, 0, 1], [1, 0, 0]]


def test_indicator_columns_average_the_latents_of_a_concept() -> None:
    concepts = single_latents(np.array([5, 30, 40]), min_groups=20)
    assert [concept.id for concept in concepts] == ["L1", "L2"]
    assert indicator(concepts, 3).toarray().tolist() == [[0, 0], [1, 0], [0, 1]]


def test_nothing_is_clustered_when_nothing_fires() -> None:
    assert cluster_latents(_sparse(np.zeros((50, 30)))) == ()
