"""Forecasts of the change of every unit, in sd of the starting model's own answers.

In:  `Shown`. Out: (m,) per predictor; only their pattern is a claim, the scale comes from a line fitted elsewhere.
Refuses: to choose: `DECLARED` was chosen beforehand (a trial on the alpaca-eval pairs, docs/decisions), the others
stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from tiltscope.prediction.units import Shown

__all__ = [
    "DECLARED",
    "PREDICTORS",
    "Objective",
    "forecasts",
    "lessons",
    "random_signs",
    "reward",
    "swapped",
    "tilt_change",
    "word_change",
]

Objective = Literal["dpo", "sft"]

DECLARED: Mapping[Objective, str] = {"dpo": "frequency_difference", "sft": "chosen_minus_own"}
"""What training follows: DPO the difference between two answers, SFT that between the data and the model's own."""
_RIDGE = (1e-3, 1e-2, 1e-1)  # C of the logistic regression, chosen over groups


def _frequency_difference(shown: Shown) -> np.ndarray:
    """Mean of chosen - rejected."""
    return np.asarray((shown.chosen - shown.rejected).mean(axis=0) / shown.sd)


def _signed_disparity(shown: Shown) -> np.ndarray:
    """Mean of the sign of chosen - rejected (the paper's disparity)."""
    return np.asarray(np.sign(shown.chosen - shown.rejected).mean(axis=0))


def _chosen_minus_own(shown: Shown) -> np.ndarray:
    """Mean of chosen answers - mean of own answers."""
    return np.asarray((shown.chosen.mean(axis=0) - shown.own.mean(axis=(0, 1))) / shown.sd)


def _tilt(shown: Shown) -> np.ndarray:
    """The reward that explains the labels, as a small tilt of own answers within their prompt."""
    return tilt_change(shown.own @ reward(shown), shown)


def _covariance(shown: Shown) -> np.ndarray:
    """The same reward over the pairs' answers: what comes along with it there."""
    theta = reward(shown)
    r = (shown.chosen - shown.rejected) @ theta
    return np.asarray((r[:, None] * (shown.chosen - shown.rejected)).mean(axis=0) / shown.sd)


def _length_only(shown: Shown) -> np.ndarray:
    """Null: longer answers are preferred, and nothing else."""
    length = np.log1p(shown.own_length)
    lean = np.log1p(shown.chosen_length).mean() - np.log1p(shown.rejected_length).mean()
    return tilt_change(lean * length, shown)


PREDICTORS: dict[str, Callable[[Shown], np.ndarray]] = {
    "frequency_difference": _frequency_difference,
    "signed_disparity": _signed_disparity,
    "chosen_minus_own": _chosen_minus_own,
    "tilt": _tilt,
    "covariance_of_pairs": _covariance,
    "length_only": _length_only,
}


def forecasts(shown: Shown) -> dict[str, np.ndarray]:
    """Return (m,) per predictor; `length_only` is a null."""
    return {name: predict(shown) for name, predict in PREDICTORS.items()}


def reward(shown: Shown) -> np.ndarray:
    """Return theta (m,), nats per unit of value: ridge Bradley-Terry on differences, C cross-validated over groups."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    d = (shown.chosen - shown.rejected) / shown.sd
    x, y = np.vstack([d, -d]), np.repeat([1, 0], len(d))
    groups = np.concatenate([shown.groups, shown.groups])
    folds = list(GroupKFold(min(5, len(set(shown.groups.tolist())))).split(x, y, groups))

    def fitted(c: float, rows: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=c, fit_intercept=False, max_iter=500, tol=1e-3).fit(x[rows], y[rows])

    def loss(c: float) -> float:
        return -float(
            np.mean([fitted(c, fit).predict_log_proba(x[held])[y[held] == 1, 1].mean() for fit, held in folds])
        )

    best = min(_RIDGE, key=loss)
    return np.asarray(fitted(best, np.arange(len(x))).coef_[0] / shown.sd)


def tilt_change(r: np.ndarray, shown: Shown) -> np.ndarray:
    """Return (m,) the change of own answers under exp(t r) for small t, per t: the covariance within the prompt.

    r (n_prompts, n_answers), nats. Scaled by n / (n - 1); in sd of own answers.
    """
    n = r.shape[1]
    centred = r - r.mean(axis=1, keepdims=True)
    change = np.einsum("xj,xjm->m", centred, shown.own) / (n * len(r)) * n / max(n - 1, 1)
    return np.asarray(change / shown.sd)


def word_change(
    shown: Shown, chosen: Sequence[str], rejected: Sequence[str], own: Sequence[Sequence[str]]
) -> np.ndarray:
    """Null: the reward of a bag of words, as a tilt of own answers. chosen, rejected: texts of the pairs."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    bag = CountVectorizer(max_features=2000, token_pattern=r"(?u)\b\w+\b|[^\w\s]", binary=True)
    bag.fit([*chosen, *rejected])
    d = bag.transform(chosen).astype(float) - bag.transform(rejected).astype(float)
    x, y = np.vstack([d.toarray(), -d.toarray()]), np.repeat([1, 0], d.shape[0])
    fit = LogisticRegression(C=0.05, fit_intercept=False, max_iter=500, tol=1e-3).fit(x, y)
    r = np.array([bag.transform(list(some)).astype(float) @ fit.coef_[0] for some in own])
    return tilt_change(r, shown)


def lessons(shown: Shown, objective: Objective) -> np.ndarray:
    """Return (n_pairs, m) what each pair teaches: DPO, chosen - rejected; SFT, chosen - mean of own answers."""
    return np.asarray(shown.chosen - (shown.rejected if objective == "dpo" else shown.own.mean(axis=(0, 1))))


def swapped(shown: Shown, objective: Objective, rng: np.random.Generator) -> np.ndarray:
    """Null: the declared forecast with the two sides of every lesson exchanged at random, group by group."""
    return np.asarray((random_signs(shown.groups, rng)[:, None] * lessons(shown, objective)).mean(axis=0) / shown.sd)


def random_signs(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n_pairs,) 1 or -1, the same within a group."""
    names, where = np.unique(groups, return_inverse=True)
    return np.asarray(rng.choice([-1.0, 1.0], len(names))[where])
