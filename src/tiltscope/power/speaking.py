"""Does a finding speak of what was planted? One rule, for every way of finding.

In:  a score per pair (chosen minus rejected), before and after planting, and which side got the trait.
Out: r, from -1 to 1.
Refuses: rows that were not planted: there the score says nothing about the planting.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tiltscope.concepts import Concept
from tiltscope.known import measured
from tiltscope.power.planted import Grown

__all__ = ["SPEAKS_FROM", "disparity_change", "lean_of", "put_there", "speaks"]

SPEAKS_FROM = 0.3
"""From this r on a finding speaks of a planted trait: the planting explains a tenth of its score in the rows."""
_HALF = 0.5


def speaks(before: np.ndarray, after: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Return r (m,) of m scores: their correlation with the planting, over the same rows before and after it.

    before, after (n_rows, m): the score in the planted rows; signs (n_rows,): +1 where chosen got the trait, -1 where
    rejected did. Each row counts twice, with 0 before and its sign after. 0 where a score never varies.
    """
    x = np.concatenate([before, after]).astype(np.float64)
    y = np.concatenate([np.zeros(len(signs)), signs]).astype(np.float64)
    if not len(x):
        return np.zeros(before.shape[1])
    x, y = x - x.mean(axis=0), y - y.mean()
    scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum())
    return np.asarray(np.divide(y @ x, scale, out=np.zeros(x.shape[1]), where=scale > 1e-12))


def disparity_change(concepts: Sequence[Concept], grown: Grown, number: int) -> np.ndarray:
    """Return r (n_concepts,) of the concepts' signed disparity with planting `number`, over the rows read anew."""
    rows = grown.read_rows(number)
    both = ((one.take(rows), [one.pairs.rows[row] for row in rows]) for one in (grown.before, grown.after))
    scores = [measured(features, pairs, concepts).u.toarray() for features, pairs in both]
    return speaks(scores[0], scores[1], grown.signs[number][rows])


def put_there(change: np.ndarray, lean: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return whether at least half of each lean is the planting's work, on the claimed side: (m,) bool.

    change (m,): how much planting moved the lean; lean (m,): what it is now; sides (m,): +1 or -1, as claimed.
    """
    return np.asarray(sides * change >= np.maximum(_HALF * np.abs(lean), 1e-9))


def lean_of(scores: np.ndarray, insides: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return the mean of each column of scores (n_pairs, m), or where `insides` has a mask its mean in minus out."""
    leans = scores.mean(axis=0)
    for column, inside in enumerate(insides):
        if inside is not None:
            leans[column] = scores[inside, column].mean() - scores[~inside, column].mean()
    return np.asarray(leans)
