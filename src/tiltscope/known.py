"""The behaviour library as concepts: which side of a pair shows bold text, a link, praise, counted by rule.

In:  texts of pairs.
Out: `Measures` of the library's behaviours, and of any mix of them and latents.
Refuses: nothing; a rule reads the whole text, also what max_length kept from the model.

An autoencoder of a few thousand latents has none that is "emoji" and nothing else. What can be counted is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tiltscope.behaviours import RULES, SAYS
from tiltscope.concepts import Concept
from tiltscope.features import Features
from tiltscope.pairs import Pair
from tiltscope.phrases import phrases_shown
from tiltscope.screening import Measures, disparity

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["behaviour_concepts", "behaviour_measures", "measured"]


def behaviour_concepts() -> tuple[Concept, ...]:
    """Return a concept without latents for every rule of the library."""
    return tuple(Concept(f"B-{one.id}", (), one.name, "library", rule=one.id) for one in RULES)


def behaviour_measures(rows: Sequence[Pair], concepts: Sequence[Concept] | None = None) -> Measures:
    """Return u = 1{chosen shows it} - 1{rejected shows it} of concepts with a rule, and a = |u|.

    Both (n_pairs, n_concepts) CSC. concepts: behaviours or phrases; all behaviours of the library where none are given.
    """
    concepts = behaviour_concepts() if concepts is None else tuple(concepts)
    chosen, rejected = (_side(texts, concepts) for texts in _texts(rows))
    u = (chosen - rejected).tocsc()
    u.eliminate_zeros()
    return Measures(tuple(concepts), u, abs(u))


def _side(texts: Sequence[str], concepts: Sequence[Concept]) -> sparse.csc_array:
    """(n_texts, n_concepts) float32 of 0 and 1."""
    from scipy import sparse

    order = {one.id: place for place, one in enumerate(RULES)}
    library, phrases = (
        [column for column, one in enumerate(concepts) if (one.rule in order) == known] for known in (True, False)
    )
    each = [_shown(text) for text in texts] if library else []
    each_rule = np.array(each, np.float32).reshape(len(texts), len(RULES) if library else 0)
    by_rule = sparse.csc_array(each_rule[:, [order[concepts[column].rule] for column in library]])
    said = phrases_shown(texts, {concepts[column].rule.removeprefix(SAYS): at for at, column in enumerate(phrases)})
    return sparse.hstack([by_rule, said], format="csc")[:, np.argsort([*library, *phrases])]


def _texts(rows: Sequence[Pair]) -> tuple[list[str], list[str]]:
    return [row.chosen for row in rows], [row.rejected for row in rows]


@lru_cache(maxsize=100_000)
def _shown(text: str) -> tuple[bool, ...]:
    """Which rules of the library an answer shows, in their order; kept, as `power` asks of the same texts again."""
    return tuple(bool(one.present(text)) for one in RULES)


def measured(features: Features, rows: Sequence[Pair], concepts: Sequence[Concept]) -> Measures:
    """Return the disparity of latents (from features) and of behaviours (from texts), in the order of `concepts`.

    features and rows are aligned: row i of one is row i of the other.
    """
    kinds = [[one for one in concepts if bool(one.rule) == is_rule] for is_rule in (False, True)]
    both = disparity(features, kinds[0]).joined(behaviour_measures(rows, kinds[1]))
    place = {one.id: at for at, one in enumerate(both.concepts)}
    return both.only([place[one.id] for one in concepts])
