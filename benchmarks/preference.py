"""How well do cleaned pairs still teach what people preferred? A bag-of-words model, asked about held-out pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import optimize, sparse

from tiltscope.pairs import Pair

N_WORDS, CHARACTERS, RIDGE = 2000, 800, 30.0


class Judge:
    """A bag-of-words Bradley-Terry model, asked about held-out pairs; the words are those of the approved pairs."""

    def __init__(self, approved: Sequence[Pair], held_out: Sequence[Pair]) -> None:
        counts = Counter(word for pair in approved for text in _sides(pair) for word in set(_words(text)))
        common = sorted(counts, key=lambda word: (-counts[word], word))[:N_WORDS]
        self._at = {word: i for i, word in enumerate(common)}
        self._x = self._differences(held_out)
        self.groups = [pair.group for pair in held_out]
        self.approved = self.right(approved).astype(float)

    def right(self, rows: Sequence[Pair]) -> np.ndarray:
        """(n_held_out,) bool: does the model of these rows prefer what people preferred?"""
        x = self._differences(rows)

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            margin = x @ weights
            pull = -1 / (1 + np.exp(margin))
            return float(np.logaddexp(0, -margin).sum() + RIDGE / 2 * weights @ weights), x.T @ pull + RIDGE * weights

        fitted = optimize.minimize(loss, np.zeros(len(self._at)), jac=True, method="L-BFGS-B").x
        return np.asarray(self._x @ fitted > 0)

    def _differences(self, rows: Sequence[Pair]) -> sparse.csr_array:
        at, to, values = [], [], []
        for i, pair in enumerate(rows):
            for sign, text in zip((1, -1), _sides(pair), strict=True):
                for word, count in Counter(_words(text)).items():
                    if word in self._at:
                        at.append(i)
                        to.append(self._at[word])
                        values.append(sign * np.log1p(count))
        return sparse.csr_array((values, (at, to)), shape=(len(rows), len(self._at)))


def _sides(pair: Pair) -> tuple[str, str]:
    return pair.chosen[:CHARACTERS], pair.rejected[:CHARACTERS]


def _words(text: str) -> list[str]:
    return text.lower().split()
