"""Can a name predict where its concept fires? Held-out balanced accuracy, against names dealt to the wrong concepts.

In:  predictor values (n_texts, n_names), whether each concept fires (n_texts, n_concepts), which texts are explore.
Out: `Score`s.
Refuses: to score a concept that fires in nearly all or nearly no texts; the reason is given instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Score", "score_names"]

_LEVELS = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
_RARE = 10
_NO_BETTER = 0.02


@dataclass(frozen=True)
class Score:
    """Balanced accuracy of the own name, mean and 95th percentile of other concepts' names, or why there is none."""

    own: float | None
    shuffled: float | None
    shuffled_95: float | None
    note: str


def score_names(predictor: np.ndarray, fires: np.ndarray, explore: np.ndarray) -> list[Score]:
    """Return a score per concept: name m predicts "fires" where its value exceeds a threshold chosen on explore texts.

    predictor (n_texts, n_names) float, column m is concept m's name (names that predict the same are not dealt to one
    another); fires (n_texts, n_names) bool; explore (n_texts,).
    """
    held = _accuracy_table(predictor, fires, explore)
    alike = _alike(predictor)
    n_names = predictor.shape[1]
    notes = [_why_not(fires[:, m], explore) for m in range(n_names)]
    scores = []
    for concept, note in enumerate(notes):
        if note:
            scores.append(Score(None, None, None, note))
            continue
        others = held[~alike[concept], concept]
        mean, high = (float(others.mean()), float(np.quantile(others, 0.95))) if len(others) else (0.5, 0.5)
        own = float(held[concept, concept])
        scores.append(Score(own, mean, high, _compared(own, mean, high) if len(others) else ""))
    return scores


def _compared(own: float, mean: float, high: float) -> str:
    if own <= mean + _NO_BETTER:
        return "no better than other concepts' names"
    return "some other concepts' names predict it as well" if own <= high else ""


def _alike(predictor: np.ndarray) -> np.ndarray:
    """(n_names, n_names): which names predict the very same, so that one is no wrong name for the other's concept."""
    _, same = np.unique(predictor, axis=1, return_inverse=True)
    same = np.ravel(same)
    return np.asarray(same[:, None] == same[None, :])


def _why_not(fires: np.ndarray, explore: np.ndarray) -> str:
    for half, word in ((fires[explore], "explore"), (fires[~explore], "held-out")):
        if len(half) < 2 * _RARE:
            return f"too few {word} texts ({len(half)})"
        if half.sum() < _RARE:
            return f"fires in nearly no {word} text ({int(half.sum())} of {len(half)})"
        if (~half).sum() < _RARE:
            return f"fires in nearly all {word} texts ({int(half.sum())} of {len(half)})"
    return ""


def _accuracy_table(predictor: np.ndarray, fires: np.ndarray, explore: np.ndarray) -> np.ndarray:
    """(n_names, n_concepts) held-out balanced accuracy with the threshold that was best on explore texts."""
    n_names = predictor.shape[1]
    best = np.full((n_names, n_names), -1.0)
    held = np.full((n_names, n_names), 0.5)
    for level in _LEVELS:
        cut = np.zeros(n_names) if not level or not explore.any() else _positive_quantile(predictor[explore], level)
        said = predictor > cut
        on_explore = _balanced(said[explore], fires[explore])
        better = on_explore > best + 1e-9
        best = np.where(better, on_explore, best)
        held = np.where(better, _balanced(said[~explore], fires[~explore]), held)
    return held


def _positive_quantile(values: np.ndarray, level: float) -> np.ndarray:
    """The quantile of each column among its values above 0 (0 where there are none)."""
    return np.array([np.quantile(c[c > 0], level) if (c > 0).any() else 0.0 for c in values.T])


def _balanced(said: np.ndarray, fires: np.ndarray) -> np.ndarray:
    """Mean of sensitivity and specificity for every (name, concept)."""
    said_, fires_ = said.astype(np.float32), fires.astype(np.float32)
    hit = (said_.T @ fires_) / np.maximum(fires_.sum(axis=0), 1)
    spared = ((1 - said_).T @ (1 - fires_)) / np.maximum((1 - fires_).sum(axis=0), 1)
    return np.asarray((hit + spared) / 2, np.float64)
