"""One rule for every method of benchmarks/discovery.py: which claims are true, and which planted trait each speaks of.

Both states of every planted row are known, so it is known how much of a claim's number the planting put there. The head
of discovery.py states the rule; `ceiling` says what no list can exceed that is confirmed on half of the pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from comparators import SHOWN, Claim, scores

from tiltscope import stats
from tiltscope.planting import STYLES
from tiltscope.power import SPEAKS_FROM, Aligned, Grown, lean_of, put_there, speaks
from tiltscope.stats.score import cautious_p, tau_score

SAME_PLACE = 0.5


def judged(
    claims: Sequence[Claim], grown: Grown, n_traits: int, inside: np.ndarray | None, uncut: Aligned
) -> dict[str, Any]:
    """Recall, precision@20 and false share of one method's list, by the one rule of this file's head."""
    insides, sides = [claim.inside for claim in claims], np.array([claim.sign for claim in claims])
    lean = lean_of(scores(claims, grown.after, np.arange(len(grown.after.pairs.rows))), insides)
    change = lean_of(_change(claims, grown.before, grown.after), insides)
    true = put_there(change, lean, sides)
    of_cut = np.zeros(len(claims), bool)
    if uncut is not grown.before:
        of_cut = ~true & put_there(lean_of(_change(claims, uncut, grown.before), insides), lean, sides)
    of_trait = np.where(true, _spoken(claims, grown, n_traits), -1)
    placed = {
        int(trait)
        for trait, claim in zip(of_trait, claims, strict=True)
        if trait >= 0 and inside is not None and claim.inside is not None and _f1(claim.inside, inside) >= SAME_PLACE
    }
    false = ~true & ~of_cut
    return {
        "n_listed": len(claims),
        "n_speaking": int((of_trait >= 0).sum()),
        "n_false": int(false.sum()),
        "n_of_cut": int(of_cut.sum()),
        "n_against": int((sides * change <= 0).sum()),  # planting moved them the other way, or not at all
        "recall": len(set(of_trait[of_trait >= 0].tolist())) / n_traits if n_traits else None,
        "recall_placed": len(placed) / n_traits if n_traits and inside is not None else None,
        "precision_20": float(1 - false[:SHOWN].mean()) if claims else None,
        "false_share": float(false.mean()) if claims else 0.0,
        "null_share": float((sides * change <= 0).mean()) if claims else 0.0,
    }


def speaking_of(claims: Sequence[Claim], grown: Grown, n_traits: int) -> np.ndarray:
    """(n_claims,) the number of the planted trait that each true claim speaks of, or -1; by the rule of `judged`."""
    insides, sides = [claim.inside for claim in claims], np.array([claim.sign for claim in claims])
    lean = lean_of(scores(claims, grown.after, np.arange(len(grown.after.pairs.rows))), insides)
    change = lean_of(_change(claims, grown.before, grown.after), insides)
    return np.where(put_there(change, lean, sides), _spoken(claims, grown, n_traits), -1)


def _change(claims: Sequence[Claim], before: Aligned, after: Aligned) -> np.ndarray:
    """(n_pairs, n_claims): how every claim's score changed in each pair."""
    both = zip(before.pairs.rows, after.pairs.rows, strict=True)
    rows = np.flatnonzero([(a.chosen, a.rejected) != (b.chosen, b.rejected) for a, b in both])
    change = np.zeros((len(after.pairs.rows), len(claims)))
    change[rows] = scores(claims, after, rows) - scores(claims, before, rows)
    return change


def _spoken(claims: Sequence[Claim], grown: Grown, n_traits: int) -> np.ndarray:
    """(n_claims,) the number of the planted trait that each claim speaks of, or -1."""
    if not claims or not n_traits:
        return np.full(len(claims), -1)
    r = np.abs([_r(claims, grown, sign) for sign in grown.signs])
    control = r[n_traits:].max(axis=0, initial=0.0)
    strongest = r[:n_traits].max(axis=0)
    return np.where((strongest >= SPEAKS_FROM) & (strongest >= control), r[:n_traits].argmax(axis=0), -1)


def _r(claims: Sequence[Claim], grown: Grown, sign: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(sign)
    before, after = (scores(claims, one, rows) for one in (grown.before, grown.after))
    return speaks(before, after, sign[rows])


def _f1(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / max(int(one.sum() + other.sum()), 1))


def ceiling(traits: Sequence[str], data: Aligned, inside: np.ndarray) -> float | None:
    """Share of the planted traits whose own rule, tested once and where it was planted, has p <= .05 on all pairs: what
    a search could reach that knew every trait, its rule and its place, and tested nothing else.
    """
    groups = np.array([pair.group for pair in data.pairs.rows])
    rows = np.flatnonzero(inside)
    pairs, clusters = [data.pairs.rows[row] for row in rows.tolist()], stats.Clusters.of(groups[rows])
    told = []
    for trait in traits:
        shows = STYLES[trait].present
        u = np.array([int(shows(pair.chosen)) - int(shows(pair.rejected)) for pair in pairs], float)
        told.append(_p(u, clusters) <= 0.05)
    return float(np.mean(told)) if told else None


def _p(u: np.ndarray, clusters: stats.Clusters) -> float:
    """One-sided p of "it leans to chosen", as the audit has it."""
    if (clusters.group_sums(np.abs(u)) > 0).sum() < 20:
        return stats.FewGroups.of(clusters.group_sums(u), 1.0).p_one(1)
    estimates = stats.tau_test(u, clusters)
    return float(cautious_p(estimates.t, estimates.df, tau_score(u, clusters), 1))
