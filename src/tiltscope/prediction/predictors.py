"""Forecasts of the change of every unit, in sd of the starting model's own answers.

In:  `Shown`. Out: (m,) per predictor; only their pattern is a claim, the scale comes from a line fitted elsewhere.
Refuses: to choose: `DECLARED` was chosen beforehand (a trial on the alpaca-eval pairs, docs/decisions), the others
stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from tiltscope.prediction.units import Shown

__all__ = [
    "DECLARED",
    "PREDICTORS",
    "REACH_SD",
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

DECLARED: Mapping[Objective, str] = {"dpo": "capped_difference", "sft": "chosen_minus_own"}
"""What training follows: DPO the difference between two answers, SFT that between the data and the model's own."""
REACH_SD = 2.0
"""A value beyond the mean of own answers by so many sd counts as no more: the model does not get there at once."""
_RIDGE = (2e-3, 2e-2, 2e-1)  # C of the logistic regression, chosen over groups


def _frequency_difference(shown: Shown) -> np.ndarray:
    """Mean of chosen - rejected."""
    return np.asarray((shown.chosen - shown.rejected).mean(axis=0) / shown.sd)


def _capped_difference(shown: Shown) -> np.ndarray:
    """The same of values within the model's reach."""
    return np.asarray(lessons(shown, "dpo").mean(axis=0) / shown.sd)


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
    "capped_difference": _capped_difference,
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


@lru_cache(maxsize=1)
def reward(shown: Shown) -> np.ndarray:
    """Return theta (m,), nats per unit of value: ridge Bradley-Terry on differences, C cross-validated over groups."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    x, y = _two_classes((shown.chosen - shown.rejected) / shown.sd)
    folds = list(GroupKFold(min(5, len(set(shown.groups.tolist())))).split(x, y, shown.groups))

    def fitted(c: float, rows: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=c, fit_intercept=False, max_iter=500, tol=1e-3).fit(x[rows], y[rows])

    def loss(c: float) -> float:
        return -float(
            np.mean(
                [fitted(c, fit).predict_log_proba(x[held])[np.arange(len(held)), y[held]].mean() for fit, held in folds]
            )
        )

    best = min(_RIDGE, key=loss)
    return np.asarray(fitted(best, np.arange(len(x))).coef_[0] / shown.sd)


def _two_classes(difference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half of the rows with their sign turned, and which are not: without an intercept that is the same likelihood."""
    y = np.random.default_rng(0).permutation(len(difference)) % 2
    return np.where(y[:, None] == 1, difference, -difference), y


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
    x, y = _two_classes(d.toarray())
    fit = LogisticRegression(C=0.1, fit_intercept=False, max_iter=500, tol=1e-3).fit(x, y)
    r = np.array([bag.transform(list(some)).astype(float) @ fit.coef_[0] for some in own])
    return tilt_change(r, shown)


def lessons(shown: Shown, objective: Objective) -> np.ndarray:
    """Return (n_pairs, m) what each pair teaches.

    DPO: chosen - rejected, both within the model's reach. SFT: chosen - mean of own answers.
    """
    mean = shown.own.mean(axis=(0, 1))
    if objective == "sft":
        return np.asarray(shown.chosen - mean)
    reach = mean + REACH_SD * shown.sd
    return np.asarray(np.minimum(shown.chosen, reach) - np.minimum(shown.rejected, reach))


def swapped(shown: Shown, objective: Objective, rng: np.random.Generator) -> np.ndarray:
    """Null: the declared forecast with the two sides of every lesson exchanged at random, group by group."""
    return np.asarray((random_signs(shown.groups, rng)[:, None] * lessons(shown, objective)).mean(axis=0) / shown.sd)


def random_signs(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n_pairs,) 1 or -1, the same within a group."""
    names, where = np.unique(groups, return_inverse=True)
    return np.asarray(rng.choice([-1.0, 1.0], len(names))[where])
