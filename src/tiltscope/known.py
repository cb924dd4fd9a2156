"""The behaviour library as concepts: which side of a pair shows bold text, a link, praise, or much of it, by rule.

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

from tiltscope.behaviours import RULES, SAYS, counted
from tiltscope.concepts import Concept
from tiltscope.features import Features
from tiltscope.pairs import Pair
from tiltscope.phrases import phrases_shown
from tiltscope.screening import Measures, disparity

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["behaviour_concepts", "behaviour_measures", "measured", "often_concepts"]

TIMES = (2, 3, 5, 8, 12, 20)
"""So many times or more is often, for the first number that few enough answers reach."""
_OF_SHOWING, _OF_ALL = 0.5, 0.25


def behaviour_concepts() -> tuple[Concept, ...]:
    """Return a concept without latents for every rule of the library."""
    return tuple(Concept(f"B-{one.id}", (), one.name, "library", rule=one.id) for one in RULES)


def often_concepts(rows: Sequence[Pair]) -> tuple[Concept, ...]:
    """Return for rules of the library the same shown often: where most answers have some, what counts is how much.

    How often that is depends on the answers and not on which of them was chosen: the first of `TIMES` that at most half
    of the answers that show the behaviour reach, and a quarter of all. Rules that no answer shows so often have none.
    """
    counts = np.array([_counts(text) for texts in _texts(rows) for text in texts]).reshape(-1, len(RULES))
    found = []
    for one, column in zip(RULES, counts.T, strict=True):
        most = min(_OF_SHOWING * (column > 0).sum(), _OF_ALL * len(column))
        n_times = next((n for n in TIMES if (column >= n).sum() <= most), 0)
        if n_times and (column >= n_times).any():
            rule = one.often(n_times)
            found.append(Concept(f"N-{one.id}-{n_times}", (), rule.name, "library", rule=rule.id))
    return tuple(found)


def behaviour_measures(rows: Sequence[Pair], concepts: Sequence[Concept] | None = None) -> Measures:
    """Return u = 1{chosen shows it} - 1{rejected shows it} of concepts with a rule, and a = |u|.

    Both (n_pairs, n_concepts) CSC. concepts: behaviours (often shown or at all) or phrases; all behaviours of the
    library where none are given.
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
    library = [column for column, one in enumerate(concepts) if not one.rule.startswith(SAYS)]
    phrases = [column for column, one in enumerate(concepts) if one.rule.startswith(SAYS)]
    wanted = [counted(concepts[column].rule) for column in library]
    each = [_counts(text) for text in texts] if library else []
    counts = np.array(each, int).reshape(len(texts), len(RULES) if library else 0)
    shown = counts[:, [order[id] for id, _ in wanted]] >= np.array([n for _, n in wanted], int)
    said = phrases_shown(texts, {concepts[column].rule.removeprefix(SAYS): at for at, column in enumerate(phrases)})
    both = sparse.hstack([sparse.csc_array(shown.astype(np.float32)), said], format="csc")
    return both[:, np.argsort([*library, *phrases])]


def _texts(rows: Sequence[Pair]) -> tuple[list[str], list[str]]:
    return [row.chosen for row in rows], [row.rejected for row in rows]


@lru_cache(maxsize=100_000)
def _counts(text: str) -> tuple[int, ...]:
    """How often each rule of the library fires in an answer; kept, as `power` asks of the same texts again."""
    return tuple(len(one.marks(text)) for one in RULES)


def measured(features: Features, rows: Sequence[Pair], concepts: Sequence[Concept]) -> Measures:
    """Return the disparity of latents (from features) and of behaviours (from texts), in the order of `concepts`.

    features and rows are aligned: row i of one is row i of the other.
    """
    kinds = [[one for one in concepts if bool(one.rule) == is_rule] for is_rule in (False, True)]
    both = disparity(features, kinds[0]).joined(behaviour_measures(rows, kinds[1]))
    place = {one.id: at for at, one in enumerate(both.concepts)}
    return both.only([place[one.id] for one in concepts])
