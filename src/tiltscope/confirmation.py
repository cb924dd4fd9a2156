"""Cells become hypotheses: the numbers of leans on all pairs, and the test of comparisons on the confirm half.

In:  leans with their q, and comparisons that were found on the explore half.
Out: hypotheses, strongest first, and the disparity of every pair for each.
Refuses: to test a cell with too few witnesses, or a comparison in another direction than the explored one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tiltscope import stats
from tiltscope.cells import BUDGET, Bench, Found, Half, design
from tiltscope.families import Finding, Ground, group_findings
from tiltscope.hypotheses import MAX_PAIR_IDS, UNCONFIRMED_PAIR_IDS, Baseline, Hypothesis, Interval, Region
from tiltscope.leans import p_at_equal_length
from tiltscope.stats.score import cautious_p, cautious_p_two, regression_score, tau_score

__all__ = ["Tested", "confirm"]

_ESTIMANDS = {"global": "tau", "region": "delta", "prompt": "shift"}
_NOTHING = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Tested:
    """A hypothesis and its disparity per pair (n_pairs,), nan outside its region."""

    hypothesis: Hypothesis
    disparity: np.ndarray


@dataclass(frozen=True)
class _Column:
    """One concept's u and a, and where it is looked at (boolean masks over all pairs)."""

    u: np.ndarray
    a: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True)
class _Numbers:
    """The six numbers of an estimand, all from one regression."""

    interval: Interval
    d: float
    z: float
    p: float


def confirm(found: Sequence[Found], bench: Bench, untold: Mapping[str, np.ndarray]) -> list[Tested]:
    """Return one `Tested` per cell; candidates carry q, the others q = None.

    untold: for each list of `BUDGET` the p of leans that were tested and are not among the cells.

    Sorted by view, then by the interval end nearest zero, strongest first.
    """
    tested = [_test(cell, bench) for cell in found]
    p = [one.hypothesis.p if cell.candidate else np.nan for cell, one in zip(found, tested, strict=True)]
    q = _q(np.array(p), [cell.listed for cell in found], untold)
    tested = [_with_q(one, value, bench.settings.q) for one, value in zip(tested, q.tolist(), strict=True)]
    tested.sort(key=lambda one: (*_rank(one.hypothesis), one.hypothesis.id))
    return _with_families(tested, found, bench)


def _q(p: np.ndarray, lists: Sequence[str], untold: Mapping[str, np.ndarray]) -> np.ndarray:
    """q within each list and over all of them; nan for what is no candidate."""
    place = {name: np.flatnonzero(np.array(lists) == name) for name in BUDGET}
    every = [np.concatenate([p[place[name]], untold.get(name, np.array([]))]) for name in BUDGET]
    q = np.full(len(p), np.nan)
    for rows, found in zip(place.values(), stats.q_of_lists(every, list(BUDGET.values())), strict=True):
        q[rows] = found[: len(rows)]
    return q


def _rank(hypothesis: Hypothesis) -> tuple[int, bool, float]:
    order = ("global", "region", "prompt").index(hypothesis.view)
    return order, not hypothesis.confirmed, -nearest_zero(hypothesis)


def nearest_zero(hypothesis: Hypothesis) -> float:
    """Return the distance of the interval's nearer end from zero, negative when the interval straddles zero."""
    sign = 1 if hypothesis.direction == "more" else -1
    return min(sign * hypothesis.ci_low, sign * hypothesis.ci_high)


def _with_q(one: Tested, q: float, level: float) -> Tested:
    confirmed = q <= level  # nan, no candidate: not confirmed
    few = one.hypothesis.pair_ids[: MAX_PAIR_IDS if confirmed else UNCONFIRMED_PAIR_IDS]
    if np.isnan(q):
        return replace(one, hypothesis=replace(one.hypothesis, pair_ids=few))
    verdict = "confirmed" if confirmed else "not confirmed"
    return replace(one, hypothesis=replace(one.hypothesis, q=q, confirmed=confirmed, verdict=verdict, pair_ids=few))


def _test(cell: Found, bench: Bench) -> Tested:
    u, a = cell.measures.columns([cell.column])
    inside = np.ones(len(u), bool) if cell.region is None else cell.region.inside
    column = _Column(u[:, 0], a[:, 0], inside)
    half = tested_on(cell, bench)
    within = half.rows[inside[half.rows]]
    numbers = _estimate(cell, column, half)
    share = _chosen_share(column, within, bench)
    at_stake = float((column.a[within] > 0).mean()) if len(within) else 0.0
    equal = _equal_length(column, half) if cell.is_lean else numbers.interval
    lean = numbers.interval if cell.is_lean else _own_lean(column, within, bench)
    hypothesis = Hypothesis(
        id=cell.id,
        view=cell.view,
        concept=cell.concept,
        region=None if cell.region is None else _region(cell),
        direction="more" if cell.sign > 0 else "less",
        estimand="own" if cell.own else _ESTIMANDS[cell.view],
        effect=numbers.interval.effect,
        ci_low=numbers.interval.ci_low,
        ci_high=numbers.interval.ci_high,
        d=numbers.d,
        z=numbers.z,
        p=numbers.p,
        q=None,
        delta_displayed=_displayed(cell, column, bench),
        equal_length=equal,
        equal_length_share=_as_share(equal.effect, column, within) if cell.is_lean else None,
        at_stake=at_stake,
        chosen_share=share,
        own_lean=lean,
        new_sources=_new_sources(column, bench) if cell.region is None else None,
        n_pairs=len(within),
        n_groups=_clusters(within, bench).n_groups if len(within) else 0,
        half_a=cell.half_a,
        half_b=cell.half_b,
        confirmed=False,
        verdict=cell.why_not if cell.why_not == "too few witnesses" else "not a candidate",
        length=_length_verdict(equal, cell.sign, within, bench),
        baselines=_baselines(cell, column, half, bench),
        family=cell.id,
        pair_ids=_carriers(cell, column, bench),
    )
    return Tested(hypothesis, np.where(inside, column.u, np.nan))


def _region(cell: Found) -> Region:
    assert cell.region is not None
    kind = cell.region
    return Region(kind.id, f"around {kind.made_from}", (), int(kind.inside.sum()))


def tested_on(cell: Found, bench: Bench) -> Half:
    """Return the pairs that test a cell: a lean all there are (in there), a comparison the confirm half."""
    if cell.region is not None and cell.own:
        return Half.of(np.flatnonzero(cell.region.inside), bench.groups, bench.spline)
    return bench.whole if cell.is_lean else bench.confirm


def _estimate(cell: Found, column: _Column, half: Half) -> _Numbers:
    """The tested estimand: mean(u), two-sided, or delta, one-sided; z is the normal score of p."""
    if cell.is_lean:
        return _lean(cell, column.u[half.rows], half)
    u, columns = column.u[half.rows], design(half, column.a, column.inside)
    estimates = stats.RegressionCR2(columns, half.clusters, columns.shape[1] - 1).fit(u)
    score = regression_score(u, columns, columns.shape[1] - 1, half.clusters)
    p = float(cautious_p(estimates.t, estimates.df, score, cell.sign))
    return _numbers(estimates, p, normal_score(p, cell.sign))


def _lean(cell: Found, u: np.ndarray, half: Half) -> _Numbers:
    """The mean of u: by t and score, or where the groups are few, with p and interval by counting.

    Of words and of what is shown often p is that at equal length where that is larger.
    """
    clusters = half.clusters
    estimates, least = stats.tau_test(u, clusters), 0.0
    if cell.concept.grows_with_length:
        least = float(p_at_equal_length(u, half))
    if not cell.few:
        p = max(float(cautious_p_two(estimates.t, estimates.df, tau_score(u, clusters))), least)
        return _numbers(estimates, p, normal_score(p / 2, cell.sign))
    unit = cell.measures.unit(cell.column)
    few = stats.FewGroups.of(clusters.group_sums(u), unit)
    ends = few.interval()
    interval = Interval(float(u.mean()), *(float(end) * unit / len(u) for end in (ends.low, ends.high)))
    p = max(few.p_two(), least)
    return replace(_numbers(estimates, p, normal_score(p / 2, cell.sign)), interval=interval)


def normal_score(one_sided: float, sign: int) -> float:
    """Return the z that has this one-sided p in the direction of sign; 0 where p is not defined."""
    from scipy.special import ndtri

    return 0.0 if np.isnan(one_sided) else float(-sign * ndtri(one_sided))


def _numbers(estimates: stats.Estimates, p: float, z: float) -> _Numbers:
    return _Numbers(_interval(estimates), float(estimates.d), z, 1.0 if np.isnan(p) else p)


def _interval(estimates: stats.Estimates) -> Interval:
    bounds = estimates.interval(0.95)
    return Interval(float(estimates.effect), float(bounds.low), float(bounds.high))


def _equal_length(column: _Column, half: Half) -> Interval:
    """alpha of u = alpha + splines: the lean among pairs of equal length."""
    return _interval(half.equal_length.fit(column.u[half.rows]))


def _own_lean(column: _Column, within: np.ndarray, bench: Bench) -> Interval:
    if len(within) < 2:
        return _NOTHING
    return _interval(stats.tau_test(column.u[within], _clusters(within, bench)))


def _clusters(rows: np.ndarray, bench: Bench) -> stats.Clusters:
    return stats.Clusters.of(bench.groups[rows])


def _chosen_share(column: _Column, within: np.ndarray, bench: Bench) -> Interval:
    """Of the pairs at stake, the share in which the chosen answer has more."""
    stake = within[column.u[within] != 0]
    if not len(stake):
        return _NOTHING
    clusters = _clusters(stake, bench)
    found = stats.share_with_interval(clusters.group_sums(column.u[stake] > 0), clusters.sizes)
    return Interval(found.share, found.low, found.high)


def _as_share(effect: float, column: _Column, within: np.ndarray) -> float | None:
    """The chosen share that a lean amounts to: (1 + effect / mean a) / 2, kept in [0, 1]."""
    stake = float(column.a[within].mean()) if len(within) else 0.0
    return float(np.clip((1 + effect / stake) / 2, 0, 1)) if stake > 0 else None


def _displayed(cell: Found, column: _Column, bench: Bench) -> float:
    """Mean of u inside minus outside ("preference x prevalence"); everywhere: the mean."""
    rows = (bench.whole if cell.is_lean else bench.confirm).rows
    inside, u = column.inside[rows], column.u[rows]
    if inside.all() or not inside.any():
        return float(u.mean())
    return float(u[inside].mean() - u[~inside].mean())


def _length_verdict(equal: Interval, sign: int, within: np.ndarray, bench: Bench) -> str:
    if len(within) and np.mean(np.abs(bench.length_gap[within]) < 0.2) < 0.1:
        return "inseparable from length"
    excludes = equal.ci_low > 0 if sign > 0 else equal.ci_high < 0
    return "robust to length" if excludes else "not robust to length"


def _new_sources(column: _Column, bench: Bench) -> Interval | None:
    """A dyadic-robust interval for new sources, where at least ten are declared."""
    from scipy.special import stdtrit

    if bench.sources is None:
        return None
    found = stats.dyadic_se(column.u, *bench.sources, bench.whole.clusters)
    if found.n_sources < 10:
        return None
    effect = float(column.u.mean())
    reach = float(stdtrit(found.n_sources - 1, 0.975)) * found.se
    return Interval(effect, effect - reach, effect + reach)


def _baselines(cell: Found, column: _Column, half: Half, bench: Bench) -> dict[str, Baseline]:
    """How far each dull explanation goes, on the pairs that the effect is of."""
    rows = half.rows
    inside, u = column.inside[rows], column.u[rows]
    plain = np.ones((len(rows), 1)) if cell.is_lean else design(half, column.a, column.inside)
    answers = {}
    for name, difference in bench.baselines.items():
        held = difference[rows]
        columns = np.column_stack([held, plain])
        left = np.linalg.lstsq(columns, u, rcond=None)[0][-1]
        answers[name] = Baseline(_correlation(held[inside], u[inside]), float(left))
    return answers


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation through the origin: swapping a pair's labels changes nothing; 0 where either is constant at 0."""
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


def _carriers(cell: Found, column: _Column, bench: Bench) -> tuple[str, ...]:
    """The pairs in the region whose disparity has the finding's direction, strongest first, ties by pair id."""
    strength = np.where(column.inside, cell.sign * column.u, 0.0)
    carrying = np.flatnonzero(strength > 0).tolist()
    carrying.sort(key=lambda i: (-strength[i], bench.rows[i].id))
    return tuple(bench.rows[i].id for i in carrying[:MAX_PAIR_IDS])


def _with_families(tested: list[Tested], found: Sequence[Found], bench: Bench) -> list[Tested]:
    """Each hypothesis joins the first (strongest) one in its view that says the same thing; names join more later."""
    from scipy import sparse

    places = {cell.id: cell.region.made_from for cell in found if cell.region is not None}
    findings = [
        Finding(
            one.hypothesis.view,
            1 if one.hypothesis.direction == "more" else -1,
            one.hypothesis.confirmed,
            place=places.get(one.hypothesis.id, ""),
            by_rule=bool(one.hypothesis.concept.rule) and not one.hypothesis.concept.is_phrase,
            often=one.hypothesis.concept.id.startswith("N-"),
            words=one.hypothesis.concept.is_phrase,
        )
        for one in tested
    ]
    columns = [sparse.csc_array(np.nan_to_num(one.disparity)[:, None].astype(np.float32)) for one in tested]
    if not columns:
        return tested
    grounds = [Ground(half.rows, half.clusters, bench.spline) for half in (bench.whole, bench.confirm)]
    heads = group_findings(findings, sparse.hstack(columns, format="csc"), *grounds)
    return [
        replace(one, hypothesis=replace(one.hypothesis, family=tested[head].hypothesis.id))
        for one, head in zip(tested, heads, strict=True)
    ]
