"""Detectors that are learned from vectors: a difference of means, a linear probe.

In:  token vectors with their character offsets, and which of them show the concept.
Out: a unit direction or a probe; scores of responses and tokens.
Refuses: to fit without examples of both kinds, and to find the vectors itself (a model does that elsewhere).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiltscope.errors import UsageError

__all__ = ["Probe", "TokenVectors", "fit_direction", "fit_probe", "mean_vector", "overlaps", "response_score"]


@dataclass(frozen=True)
class TokenVectors:
    """The tokens of one response: vectors (n_tokens, width), and the characters [start, end) each stands for."""

    vectors: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or not len(self.vectors) == len(self.starts) == len(self.ends):
            found = f"{self.vectors.shape} vectors, {len(self.starts)} starts, {len(self.ends)} ends"
            raise UsageError("token vectors do not match their offsets", found=found)
        if not np.isfinite(self.vectors).all():
            raise UsageError("a token vector holds a number that is not finite")


@dataclass(frozen=True)
class Probe:
    """A linear score of a vector: `vectors @ weights + bias`. A direction is a probe of unit length and bias 0."""

    weights: np.ndarray
    bias: float = 0.0

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Return (n,) float64 for vectors (n, width)."""
        return np.asarray(np.asarray(vectors, np.float64) @ self.weights + self.bias)


def fit_direction(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Return mean(positive) - mean(negative) at unit length, (width,) float64; inputs (n, width).

    Raises:
        UsageError: one side is empty, or the means are the same.
    Source: difference of means, as in arXiv:2606.12360.
    """
    _check_examples(positive, negative)
    difference = np.mean(positive, axis=0, dtype=np.float64) - np.mean(negative, axis=0, dtype=np.float64)
    length = float(np.linalg.norm(difference))
    if not length > 0:
        raise UsageError("the examples for and against have the same mean: there is no direction between them")
    return np.asarray(difference / length)


def fit_probe(positive: np.ndarray, negative: np.ndarray, *, c: float = 1.0) -> Probe:
    """Return a logistic regression on standardised columns, both kinds weighing the same; inputs (n, width).

    c: the inverse strength of the L2 penalty. The probe acts on the vectors as they are; its score is a log-odds.

    Raises:
        UsageError: one side is empty.
    """
    from sklearn.linear_model import LogisticRegression

    _check_examples(positive, negative)
    x = np.concatenate([positive, negative]).astype(np.float64)
    y = np.repeat([1, 0], [len(positive), len(negative)])
    mean, sd = x.mean(axis=0), x.std(axis=0)
    sd = np.where(sd > 0, sd, 1.0)
    model = LogisticRegression(C=c, class_weight="balanced", max_iter=2000).fit((x - mean) / sd, y)
    weights = model.coef_[0] / sd
    return Probe(np.asarray(weights), float(model.intercept_[0] - mean @ weights))


def _check_examples(positive: np.ndarray, negative: np.ndarray) -> None:
    for name, rows in (("positive", positive), ("negative", negative)):
        if rows.ndim != 2 or not len(rows):
            raise UsageError(f"there is no {name} example to learn from", found=f"shape {rows.shape}")
    if positive.shape[1] != negative.shape[1]:
        raise UsageError("the examples differ in width", found=f"{positive.shape[1]} and {negative.shape[1]}")


def overlaps(tokens: TokenVectors, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return (n_tokens,) bool: the token shares a character with a span."""
    marked = np.zeros(len(tokens.starts), bool)
    for start, end in spans:
        marked |= (tokens.starts < end) & (tokens.ends > start)
    return marked


def mean_vector(tokens: TokenVectors) -> np.ndarray:
    """Return the mean over a response's tokens, (1, width) float64."""
    return np.asarray(np.asarray(tokens.vectors, np.float64).mean(axis=0, keepdims=True))


def response_score(probe: Probe, tokens: TokenVectors, *, level: str) -> float:
    """Return the highest score of a response's tokens, or at level "sequence" the score of their mean."""
    if level == "sequence":
        return float(probe.scores(mean_vector(tokens))[0])
    return float(probe.scores(tokens.vectors).max())
