"""Several lists of findings, one honest error rate: within each list, and over all of them together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tiltscope.stats.groups import FloatArray
from tiltscope.stats.summaries import benjamini_hochberg


def q_of_lists(lists: Sequence[npt.ArrayLike], budget: Sequence[float]) -> list[FloatArray]:
    """Return q for the p of each list (m_k,): the larger of Benjamini-Hochberg within the list and over all lists.

    Over all lists p are weighted, so that a short list is not drowned by a long one: list k has `budget[k]` of the
    error rate, shared evenly among its tests (lists without tests give theirs to the others). With nothing to find
    anywhere, a finding in any list has a chance of at most the level. Within the list, because a hundred findings in
    one would let p values through in another that say little there. nan stays nan and is no test.

    Raises: ValueError for a p outside [0, 1], or a budget that is not above 0.
    Source: Benjamini and Hochberg (1995); Genovese, Roeder and Wasserman (2006) for the weights.

    >>> [q.round(3).tolist() for q in q_of_lists([[0.01], [0.02, 0.5, 0.9, 0.04]], [0.5, 0.5])]
    [[0.02], [0.08, 0.667, 0.9, 0.08]]
    """
    if min(budget, default=1.0) <= 0:
        raise ValueError("every list needs a budget above 0")
    each = [np.asarray(p, np.float64) for p in lists]
    sizes = [int((~np.isnan(p)).sum()) for p in each]
    shared = sum(part for part, size in zip(budget, sizes, strict=True) if size)
    weights = [part / shared * sum(sizes) / max(size, 1) for part, size in zip(budget, sizes, strict=True)]
    together = [np.minimum(p / weight, 1.0) for p, weight in zip(each, weights, strict=True)]
    over_all = benjamini_hochberg(np.concatenate([*together, []]))
    parts = np.split(over_all, np.cumsum([len(p) for p in each])[:-1]) if each else []
    return [np.maximum(benjamini_hochberg(p), part) for p, part in zip(each, parts, strict=True)]
