"""Is the detector right? F1, AUROC and threshold on groups that did not choose the threshold.

In:  scores, labels, the group of each score.
Out: `Quality`.
Refuses: a detector under an F1 of .8 or an AUROC of .7, and one that was never checked, unless the plan accepts it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tiltscope.detectors.types import Quality
from tiltscope.errors import UsageError
from tiltscope.plan import Decision

__all__ = [
    "ENOUGH_F1",
    "auroc",
    "best_threshold",
    "f1",
    "first_half",
    "measure_halves",
    "measure_quality",
    "require_quality",
]

ENOUGH_F1 = 0.8
"""A detector under this needs `accept_weak: true`."""

ENOUGH_AUROC = 0.7
"""So does one under this: where most texts show a concept, to say yes always has a high F1, and an AUROC of .5."""


FEWEST = 5
"""Texts of each kind that each half needs; with fewer, nothing is measured."""


def measure_quality(
    scores: np.ndarray, labels: np.ndarray, groups: Sequence[str], *, against: str, seed: int = 0
) -> Quality:
    """Return the quality of scores (n,) against labels (n,) bool, held out by group.

    The threshold has the highest F1 on one half of the groups; F1 and AUROC come from the other half. Groups are never
    split. Where a half has under five texts of a kind nothing is measured, and `against` says so.
    """
    return measure_halves(scores, labels, first_half(groups, seed), against=against)


def measure_halves(scores: np.ndarray, labels: np.ndarray, train: np.ndarray, *, against: str) -> Quality:
    """Return the quality: the threshold from the half `train` (n,) bool, F1 and AUROC from the other."""
    labels = np.asarray(labels, bool)
    counts = [(int(labels[half].sum()), int((~labels[half]).sum())) for half in (train, ~train)]
    if min(min(pair) for pair in counts) < FEWEST:
        with_it, without = int(labels.sum()), int((~labels).sum())
        why = f"{against}: {with_it} texts with it and {without} without are too few for two halves"
        return Quality(None, None, None, with_it, without, why, False)
    threshold, test = best_threshold(scores[train], labels[train]), ~train
    said = scores[test] > threshold
    return Quality(
        f1(said, labels[test]), auroc(scores[test], labels[test]), threshold, *counts[1], against, held_out=True
    )


def first_half(groups: Sequence[str], seed: int = 0) -> np.ndarray:
    """Return (n,) bool: in the first half of the groups, by an order that depends on seed and name alone."""
    names = sorted(set(groups), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    first = set(names[: (len(names) + 1) // 2])
    return np.array([name in first for name in groups], bool)


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the threshold above which "yes" has the highest F1, half way between two scores; the highest of ties."""
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(labels[order])
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))  # a cut goes between different scores only
    value = 2 * right[last] / (last + 1 + labels.sum())
    cut = int(last[np.argmax(value)])
    if cut + 1 == len(ranked):
        return float(ranked[cut]) - 1.0  # everything is a yes
    return float(ranked[cut + 1] + (ranked[cut] - ranked[cut + 1]) / 2)


def f1(said: np.ndarray, labels: np.ndarray) -> float:
    """Return 2 TP / (2 TP + FP + FN); 0 where nothing is positive.

    >>> f1(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    total = int(said.sum()) + int(labels.sum())
    return 2 * int((said & labels).sum()) / total if total else 0.0


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the chance that a positive scores above a negative, ties half (Mann and Whitney 1947); nan without both.

    >>> auroc(np.array([1.0, 2.0]), np.array([True, True]))
    nan
    """
    from scipy.stats import rankdata

    n_positive, n_negative = int(labels.sum()), int((~labels).sum())
    if not n_positive or not n_negative:
        return float("nan")
    ranks = rankdata(scores)
    above = ranks[labels].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def require_quality(decision: Decision, quality: Quality | None) -> None:
    """Raise `UsageError` where a detector is weak or unchecked and the decision does not say `accept_weak: true`."""
    if decision.accept_weak or _is_enough(quality):
        return
    shown = decision.detector.shown if decision.detector else "no detector"
    hint = "another detector, or accept_weak: true with the reason"
    if quality is None or quality.f1 is None:
        raise UsageError(
            f"nobody has checked the detector of {decision.name}",
            where=decision.place,
            found=f"{shown}; {'nothing to check it against' if quality is None else quality.said}",
            hint=f"detector: {{…, check: {{rule: bold}}}} measures it; {hint}",
        )
    raise UsageError(
        f"the detector of {decision.name} is weak: F1 under {ENOUGH_F1:g} or AUROC under {ENOUGH_AUROC:g}",
        where=decision.place,
        found=f"{shown}; {quality.said}",
        hint=hint,
    )


def _is_enough(quality: Quality | None) -> bool:
    if quality is None or quality.f1 is None or quality.auroc is None:
        return False
    return quality.f1 >= ENOUGH_F1 and quality.auroc >= ENOUGH_AUROC
