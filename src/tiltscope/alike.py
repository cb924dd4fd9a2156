"""Which pairs for a finding look like what makes it lean, and which would be for it anyhow?

In:  what the answers of every pair say (u of words), and which pairs are for a finding and which against it.
Out: `resemblance`: a score of the pairs for it.
Refuses: to look at anything where no pair is against: then nothing tells them apart.

What leans was mostly said by somebody in particular: a writer, a model, a script. Pairs that are for a finding without
that are matched by pairs against it. So what the former say beyond the latter is what makes the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiltscope.pairs import Pairs
from tiltscope.phrases import phrase_measures

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["resemblance", "words_of"]

_WITNESSES = 12
_TOLD = 2.0
"""Standard errors from which a word is listened to."""


def words_of(pairs: Pairs) -> sparse.csr_array:
    """Return u = 1{chosen says it} - 1{rejected says it} of the words that 12 groups put at stake.

    (n_pairs, n_words) CSR.
    """
    groups = np.unique([pair.group for pair in pairs.rows], return_inverse=True)[1]
    return phrase_measures(pairs.rows, groups, least=_WITNESSES).u.tocsr()


def resemblance(words: sparse.csr_array, lean: np.ndarray) -> np.ndarray:
    """Score every pair for a finding (lean > 0) by the words that set those apart from the pairs against it (lean < 0).

    words (n_pairs, n_words) CSR; lean, and what is returned, (n_pairs,); 0 for all other pairs. A pair against is read
    the other way round, its rejected answer as the chosen one, so that what goes along with the finding on either side
    has no weight. The weight of a word is the difference of the means over its variance (a discriminant with
    independent words), where it is told from chance.
    """
    from scipy import sparse

    scores = np.zeros(len(lean))
    sides = [np.flatnonzero(lean > 0), np.flatnonzero(lean < 0)]
    if not all(map(len, sides)):
        return scores
    means = [_mean(words[sides[0]]), -_mean(words[sides[1]])]
    both = sparse.vstack([words[sides[0]], -words[sides[1]]])
    variance = _mean(both.multiply(both)) - _mean(both) ** 2
    difference = means[0] - means[1]
    error = np.sqrt((variance + 0.02) * sum(1 / len(side) for side in sides))
    weights = np.where(np.abs(difference) > _TOLD * error, difference / (variance + 0.05), 0.0)
    scores[sides[0]] = words[sides[0]] @ weights
    return scores


def _mean(rows: sparse.csr_array) -> np.ndarray:
    return np.asarray(rows.sum(axis=0), np.float64).ravel() / rows.shape[0]
