"""Kinds of pairs and prompts: label-free to the bit, planted kinds are found."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from made_features import flipped, made
from tiltscope.concepts import cluster_latents, fires
from tiltscope.regions import activity_regions, prompt_clusters, prompt_regions, shift_clusters, spherical_kmeans


def _unit_blobs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((5, 12))
    truth = rng.integers(0, 5, 400)
    rows = centres[truth] + 0.3 * rng.standard_normal((400, 12))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), truth


def test_spherical_kmeans_agrees_with_scikit_learn_on_clear_clusters() -> None:
    rows, truth = _unit_blobs()
    ours = spherical_kmeans(rows, 5, seed=0)
    theirs = KMeans(5, n_init=10, random_state=0).fit_predict(rows)
    assert adjusted_rand_score(ours, theirs) > 0.99
    assert adjusted_rand_score(ours, truth) > 0.99


def test_flipping_any_labels_leaves_every_cluster_and_region_identical() -> None:
    _, features = made(400)
    for seed in (1, 2):
        other = flipped(features, np.random.default_rng(seed).random(400) < 0.5)
        stacks = [sparse.vstack([fires(f.chosen.freq), fires(f.rejected.freq)]).tocsr() for f in (features, other)]
        clusters = [cluster_latents(stack) for stack in stacks]
        assert clusters[0] == clusters[1]
        shifts = [shift_clusters(f.chosen.freq, f.rejected.freq) for f in (features, other)]
        assert shifts[0] == shifts[1]
        kinds = [activity_regions(f.chosen.freq + f.rejected.freq, clusters[0]) for f in (features, other)]
        assert all(np.array_equal(a.inside, b.inside) for a, b in zip(*kinds, strict=True))
        prompts = prompt_clusters(features.prompt.freq)
        assert prompts == prompt_clusters(other.prompt.freq)


def test_a_prompt_region_is_the_planted_topic() -> None:
    pairs, features = made(600)
    topic = np.array([pair.prompt_text.split()[1] for pair in pairs.rows]) == "0"
    regions = prompt_regions(features.prompt.freq, prompt_clusters(features.prompt.freq))
    f1 = max(2 * (region.inside & topic).sum() / (region.inside.sum() + topic.sum()) for region in regions)
    assert f1 > 0.8


def test_nested_prompt_regions_contain_each_other() -> None:
    _, features = made(600)
    regions = prompt_regions(features.prompt.freq, prompt_clusters(features.prompt.freq))
    by_cluster: dict[str, list[np.ndarray]] = {}
    for region in regions:
        by_cluster.setdefault(region.made_from, []).append(region.inside)
    assert by_cluster
    for nested in by_cluster.values():
        assert all((small <= large).all() for small, large in itertools.pairwise(nested))


def test_too_little_data_gives_no_regions() -> None:
    empty = sparse.csr_array(np.zeros((10, 30), np.float32))
    assert activity_regions(empty, ()) == ()
    assert prompt_clusters(empty) == ()
    assert shift_clusters(empty, empty) == ()
