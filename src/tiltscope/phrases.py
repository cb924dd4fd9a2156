"""What answers say as concepts: every word, symbol and phrase up to three tokens that enough prompts put at stake.

In:  pairs and their groups.
Out: `Measures` of concepts W-…, each counted in the text by the rule that finds it.
Refuses: to look at labels: a phrase is kept for how often it stands in one answer and not in the other.

What is new to a dataset is often said in the same words, and then no latent and no rule of a library sees it as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tiltscope.behaviours import LONGEST_PHRASE, SAYS, rule, said
from tiltscope.concepts import Concept
from tiltscope.pairs import Pair
from tiltscope.screening import Measures

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["phrase_concept", "phrase_measures", "phrases_shown"]


def phrase_concept(phrase: str) -> Concept:
    """Return the concept of a phrase; its id is made of what a shell and a file name can hold.

    >>> phrase_concept("! don't").id
    'W-+21.don-t'
    """
    found = rule(SAYS + phrase)
    written = (
        one.replace("'", "-") if one[0].isalnum() or one[0] == "_" else "".join(f"+{ord(c):x}" for c in one)
        for one in phrase.split(" ")
    )
    return Concept(f"W-{'.'.join(written)}", (), found.name, "tokens", rule=found.id)


def phrase_measures(rows: Sequence[Pair], groups: np.ndarray, *, least: int) -> Measures:
    """Return u = 1{chosen says it} - 1{rejected says it}, and a = |u|, of phrases at stake in at least `least` groups.

    groups: (n_pairs,) int. Both (n_pairs, n_concepts) CSC. Of phrases that are at stake in the same pairs, on the same
    sides, the longest stands for all.
    """
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    by_group = [[text for i in part.tolist() for text in (rows[i].chosen, rows[i].rejected)] for part in parts]
    place = {phrase: number for number, phrase in enumerate(sorted(_frequent(by_group, least)))}
    chosen, rejected = (phrases_shown(texts, place) for texts in ([r.chosen for r in rows], [r.rejected for r in rows]))
    u = (chosen - rejected).tocsc()
    u.eliminate_zeros()
    names = list(place)
    kept = _distinct(u, names, _groups_at_stake(u, groups) >= least)
    u = u[:, kept]
    return Measures(tuple(phrase_concept(names[column]) for column in kept), u, abs(u))


def phrases_shown(texts: Sequence[str], place: Mapping[str, int]) -> sparse.csr_array:
    """Return 1 where a text says a phrase: (n_texts, n_phrases) CSR float32; place: {phrase: column}, all columns."""
    from scipy import sparse

    rows = [
        sorted({place[one] for n in range(1, LONGEST_PHRASE + 1) for one in said(text, n) if one in place})
        for text in texts
    ]
    starts = np.cumsum([0, *map(len, rows)])
    columns = np.array([column for row in rows for column in row], np.int64)
    return sparse.csr_array((np.ones(len(columns), np.float32), columns, starts), shape=(len(rows), len(place)))


def _frequent(by_group: Sequence[Sequence[str]], least: int) -> set[str]:
    """Phrases that answers of enough groups say: longer ones only where both their parts are."""
    known: set[str] = set()
    for n_tokens in range(1, LONGEST_PHRASE + 1):
        counts: Counter[str] = Counter()
        for texts in by_group:
            counts.update({phrase for text in texts for phrase in _said(text, n_tokens, known)})
        known |= {phrase for phrase, n_groups in counts.items() if n_groups >= least}
    return known


def _said(text: str, n_tokens: int, known: set[str]) -> Iterable[str]:
    phrases = said(text, n_tokens)
    if n_tokens == 1:
        return phrases
    return (one for one in phrases if one.rsplit(" ", 1)[0] in known and one.split(" ", 1)[1] in known)


def _groups_at_stake(u: sparse.csc_array, groups: np.ndarray) -> np.ndarray:
    from scipy import sparse

    codes = np.unique(groups, return_inverse=True)[1]
    member = sparse.csr_array((np.ones(len(codes), np.float32), (codes, np.arange(len(codes)))))
    return np.asarray(((member @ abs(u)) > 0).sum(axis=0)).ravel()


def _distinct(u: sparse.csc_array, names: Sequence[str], wanted: np.ndarray) -> list[int]:
    """The wanted columns without those equal to that of a longer phrase: which are equal depends on no label."""
    longest: dict[bytes, int] = {}
    for column in sorted(np.flatnonzero(wanted).tolist(), key=lambda one: (-len(names[one]), names[one])):
        part = slice(u.indptr[column], u.indptr[column + 1])
        longest.setdefault(u.indices[part].tobytes() + u.data[part].tobytes(), column)
    return sorted(longest.values())
