"""Findings that say the same stand together; a finding that leans by itself keeps its own place."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from tiltscope.families import Finding, Ground, group_findings
from tiltscope.stats import Clusters

N = 600
rng = np.random.default_rng(5)
GROUND = Ground(np.arange(N), Clusters.of(np.arange(N)), np.zeros((N, 0)))
BOLD = rng.choice([-1.0, 0.0, 1.0], N, p=[0.1, 0.4, 0.5])
EMOJI = rng.choice([-1.0, 0.0, 1.0], N, p=[0.1, 0.5, 0.4])


def heads(columns: list[np.ndarray], findings: list[Finding]) -> list[int]:
    return group_findings(findings, sparse.csc_array(np.column_stack(columns).astype(np.float32)), GROUND, GROUND)


def noisy(u: np.ndarray, share: float) -> np.ndarray:
    """u with a share of its pairs replaced by a fair coin."""
    return np.where(rng.random(N) < share, rng.choice([-1.0, 1.0], N), u)


def more(rule: str = "", **facts: object) -> Finding:
    return Finding("global", 1, True, rule, **facts)  # type: ignore[arg-type]


def test_findings_with_almost_the_same_pairs_join_the_strongest() -> None:
    assert heads([BOLD, EMOJI, noisy(BOLD, 0.1)], [more("bold"), more("emoji"), more()]) == [0, 1, 0]


def test_findings_of_one_name_join_however_little_they_correlate() -> None:
    assert heads([BOLD, EMOJI], [more("bold"), more("bold")]) == [0, 0]


def test_a_named_finding_speaks_for_a_stronger_one_without_a_name() -> None:
    assert heads([BOLD, noisy(BOLD, 0.1)], [more(), more("bold")]) == [1, 1]


def test_one_name_in_two_places_or_two_directions_is_two_families() -> None:
    there = Finding("region", 1, True, "bold", place="C1")
    elsewhere = Finding("region", 1, True, "bold", place="C2")
    fewer = Finding("region", -1, True, "bold", place="C1")
    assert heads([BOLD, EMOJI, -EMOJI], [there, elsewhere, fewer]) == [0, 1, 2]


def test_a_confirmed_finding_never_speaks_for_an_unconfirmed_one() -> None:
    assert heads([BOLD, BOLD], [more("bold"), Finding("global", 1, False)]) == [0, 1]


def test_words_without_a_lean_of_their_own_join_the_behaviour_that_carries_them() -> None:
    carried = np.where(rng.random(N) < 0.4, BOLD, rng.choice([-1.0, 1.0], N))
    assert heads([BOLD, EMOJI, carried], [more("bold"), more("emoji"), more()])[2] == 0


def test_words_that_lean_by_themselves_keep_their_own_place() -> None:
    own = np.where(rng.random(N) < 0.4, BOLD, rng.choice([-1.0, 1.0], N, p=[0.2, 0.8]))
    assert heads([BOLD, EMOJI, own], [more("bold"), more("emoji"), more()])[2] == 2


def test_a_finding_without_any_clear_name_joins_the_named_one_it_moves_with() -> None:
    own = np.where(rng.random(N) < 0.4, BOLD, rng.choice([-1.0, 1.0], N, p=[0.2, 0.8]))
    assert heads([BOLD, own], [more("bold"), more(clear=False)]) == [0, 0]


def test_a_finding_unlike_every_named_one_stands_alone_even_without_a_name() -> None:
    assert heads([BOLD, EMOJI], [more("bold"), more(clear=False)]) == [0, 1]


def test_swapping_labels_changes_no_family() -> None:
    flip = rng.choice([-1.0, 1.0], N)
    columns = [BOLD, noisy(BOLD, 0.1), EMOJI]
    named = [more("bold"), more("emoji"), more("comma")]
    assert heads(columns, named) == heads([flip * u for u in columns], named)
