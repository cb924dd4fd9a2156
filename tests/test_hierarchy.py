"""Which concept is part of which is learned from co-firing, and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from tiltscope.concepts import Concept
from tiltscope.hierarchy import Edge, learn, shown_by

N = 2000
GROUPS = np.arange(N) // 2


def edges(shown: np.ndarray, tokens: np.ndarray | None = None, groups: np.ndarray = GROUPS) -> list[tuple[str, str]]:
    return [(one.child, one.parent) for one in found(shown, tokens, groups)]


def found(shown: np.ndarray, tokens: np.ndarray | None = None, groups: np.ndarray = GROUPS) -> tuple[Edge, ...]:
    concepts = [Concept(f"L{i}", (i,)) for i in range(shown.shape[1])]
    lengths = np.full(len(shown), 100) if tokens is None else tokens
    return learn(sparse.csr_array(shown.astype(float)), lengths, groups, concepts)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_a_part_has_its_nearest_whole_as_parent_and_that_one_the_next(rng: np.random.Generator) -> None:
    lists = rng.random(N) < 0.5
    numbered = lists & (rng.random(N) < 0.5)
    recipes = numbered & (rng.random(N) < 0.4)
    assert edges(np.column_stack([recipes, lists, numbered])) == [("L0", "L2"), ("L2", "L1")]


def test_the_numbers_of_an_edge_are_those_counted_by_hand(rng: np.random.Generator) -> None:
    parent = rng.random(N) < 0.4
    child = np.where(parent, rng.random(N) < 0.4, rng.random(N) < 0.02)
    (edge,) = found(np.column_stack([child, parent]))
    assert edge.share == pytest.approx((child & parent).sum() / child.sum())
    assert edge.expected == pytest.approx(parent.mean())
    assert (edge.n_child, edge.n_parent) == (child.sum(), parent.sum())
    assert edge.low < edge.share < edge.high


def test_independent_concepts_have_no_parents_however_common_one_of_them_is(rng: np.random.Generator) -> None:
    shown = np.column_stack([rng.random(N) < p for p in (0.05, 0.1, 0.3, 0.6, 0.95)])
    assert edges(shown) == []


def test_what_long_answers_show_anyway_is_no_parent(rng: np.random.Generator) -> None:
    tokens = rng.integers(10, 400, N)
    long = tokens > 250
    common = np.where(long, rng.random(N) < 0.95, rng.random(N) < 0.1)
    rare = long & (rng.random(N) < 0.3)
    assert edges(np.column_stack([rare, common]), tokens) == []
    assert edges(np.column_stack([rare, common])) == [("L0", "L1")]  # at one length it would be


def test_twins_are_not_part_of_each_other(rng: np.random.Generator) -> None:
    one = rng.random(N) < 0.3
    assert edges(np.column_stack([one, one | (rng.random(N) < 0.02)])) == []


def test_a_child_of_few_witnesses_has_no_parent(rng: np.random.Generator) -> None:
    parent = rng.random(N) < 0.4
    child = parent & (rng.random(N) < 0.3)
    assert edges(np.column_stack([child, parent]), groups=np.arange(N) % 12) == []


def test_a_concept_that_no_answer_shows_is_nowhere_in_the_tree(rng: np.random.Generator) -> None:
    assert edges(np.column_stack([np.zeros(N, bool), rng.random(N) < 0.5])) == []


def test_a_cluster_is_shown_where_a_quarter_of_its_latents_fire() -> None:
    firing = sparse.csr_array(np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 0]], float))
    cluster, single = Concept("C0", (0, 1, 2, 3)), Concept("L4", (4,))
    assert shown_by(firing, [cluster, single]).toarray().tolist() == [[1, 0], [0, 1], [1, 0]]
    wide = Concept("C1", (0, 1, 2, 3, 4))
    assert shown_by(firing, [wide]).toarray().tolist() == [[0], [0], [1]]
