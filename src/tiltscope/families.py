"""Findings that say the same to a reader stand together, under the strongest of them.

In:  findings in order of strength, the disparity of every pair for each, and what their concepts are named after.
Out: for each finding the number of the finding that speaks for it (its own where that is itself).
Refuses: to change a statistic, and to swallow a finding that leans by itself in a way no named one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiltscope import stats

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["Finding", "Ground", "group_findings"]

SAME = 0.7
"""Findings whose disparities correlate above this say the same."""
NEAR = 0.2
"""A finding without a behaviour's name looks for a home among the named ones that it correlates with above this."""
NEIGHBOURS = 3
OWN_T = 2.58
"""A lean of its own has at least this t, one-sided 0.5 %: the question is asked of hundreds at once."""


@dataclass(frozen=True)
class Finding:
    """What grouping needs to know of one hypothesis.

    rule: the behaviour its concept is named after, "" where there is none; clear: whether words, at least, name it;
    place: what its region is made from, "" for everywhere; sign: +1 for "more", -1 for "less"; by_rule: it is the
    behaviour itself, counted by rule (often: where it is shown many times); words: it is words that answers say.
    """

    view: str
    sign: int
    confirmed: bool
    rule: str = ""
    clear: bool = True
    place: str = ""
    by_rule: bool = False
    often: bool = False
    words: bool = False


@dataclass(frozen=True)
class Ground:
    """What a lean is measured against: all pairs for what leans everywhere, else the confirm half.

    rows: positions of its pairs; clusters: their groups; spline (n_pairs, p): differences in length, all pairs.
    """

    rows: np.ndarray
    clusters: stats.Clusters
    spline: np.ndarray


def group_findings(findings: Sequence[Finding], u: sparse.csc_array, whole: Ground, confirm: Ground) -> list[int]:
    """Return the head of each finding; findings come strongest first, u is (n_pairs, n_findings), 0 outside a region.

    All within a view and a direction, behaviours first, then what is named after one, then words: a finding joins an
    earlier head whose disparity correlates above `SAME` with its own (through the origin: swapping a pair's labels
    changes nothing), or one that is named after the same behaviour in the same place. Then a head that no behaviour
    names joins the named head it correlates with most, if that is above `NEAR` and it either has no clear name at all
    or does not lean by itself once its nearest named heads and length are held fixed (t < `OWN_T` in its direction;
    over all pairs in the global view, else over the confirm half).
    """
    alike = _correlations(u) * _same_side(findings)
    heads: list[int] = []
    head = list(range(len(findings)))
    for i in sorted(head, key=lambda i: _rank(findings[i])):
        one = findings[i]
        same = next((h for h in heads if alike[i, h] > SAME or _one_name(one, findings[h])), None)
        if same is None:
            heads.append(i)
        else:
            head[i] = same
    named = [h for h in heads if findings[h].rule and findings[h].confirmed]
    for h in heads:
        near = [other for other in named if alike[h, other] > NEAR]
        if findings[h].rule or not near:
            continue
        near.sort(key=lambda other: (-alike[h, other], other))
        ground = whole if findings[h].view == "global" else confirm
        if not findings[h].clear or not _leans_by_itself(findings[h].sign * u[:, [h]], u[:, near[:NEIGHBOURS]], ground):
            head[h] = near[0]
    return [head[one] for one in head]


def _rank(one: Finding) -> tuple[bool, ...]:
    """Who speaks for a family: behaviours, those before the same shown often; what is named after one; words."""
    return not one.by_rule, one.often, not one.rule, not one.words


def _same_side(findings: Sequence[Finding]) -> np.ndarray:
    """(n, n): 1 where two findings share view, direction and verdict."""
    views = np.array([one.view for one in findings])
    signs = np.array([one.sign for one in findings])
    confirmed = np.array([one.confirmed for one in findings], bool)
    same: np.ndarray = (views[:, None] == views) & (confirmed[:, None] == confirmed) & (signs[:, None] == signs)
    return same.astype(np.float64)


def _one_name(one: Finding, other: Finding) -> bool:
    mine, theirs = ((x.view, x.sign, x.confirmed, x.rule, x.place) for x in (one, other))
    return bool(one.rule) and mine == theirs


def _correlations(u: sparse.csc_array) -> np.ndarray:
    """Correlation through the origin of every two columns; 0 where one is 0."""
    gram = np.asarray((u.T @ u).todense(), np.float64)
    norms = np.sqrt(np.diagonal(gram))
    scale = np.outer(norms, norms)
    return np.asarray(np.divide(gram, scale, out=np.zeros_like(gram), where=scale > 0))


def _leans_by_itself(u: sparse.csc_array, near: sparse.csc_array, ground: Ground) -> bool:
    """Whether the mean of u (n_pairs, 1) is told from 0 when the near ones and length are held fixed."""
    held = near.toarray()[ground.rows].astype(np.float64)
    own = u.toarray()[ground.rows, 0].astype(np.float64)
    columns = np.column_stack([ground.spline[ground.rows], held, np.ones(len(own))])
    return bool(stats.RegressionCR2(columns, ground.clusters, columns.shape[1] - 1).fit(own).t >= OWN_T)
