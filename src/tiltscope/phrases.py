"""What answers say as concepts: every word, symbol and phrase up to three tokens that enough prompts put at stake.

In:  pairs and their groups.
Out: `Measures` of concepts W-…, each counted in the text by the rule that finds it.
Refuses: to look at labels: a phrase is kept for how often it stands in one answer and not in the other.

What is new to a dataset is often said in the same words, and then no latent and no rule of a library sees it as well.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiltscope.behaviours import LONGEST_PHRASE, SAYS, is_said, rule, said, said_lines
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
    corpus = _Corpus.of([text for row in rows for text in (row.chosen, row.rejected)])
    names, said = corpus.frequent(np.repeat(np.unique(groups, return_inverse=True)[1], 2), least)
    chosen, rejected = said[0::2], said[1::2]
    u = (chosen - rejected).tocsc()
    u.eliminate_zeros()
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


@dataclass(frozen=True)
class _Corpus:
    """All tokens of some texts in one row: what each is, and in which text and line it stands."""

    names: list[str]
    token: np.ndarray
    text: np.ndarray
    line: np.ndarray
    n_texts: int

    @staticmethod
    def of(texts: Sequence[str]) -> _Corpus:
        known: dict[str, int] = {}
        token, text, line = array("q"), array("q"), array("q")
        n_lines = 0
        for number, one in enumerate(texts):
            for tokens in said_lines(one):
                token.extend(known.setdefault(name, len(known)) for name in tokens)
                text.extend([number] * len(tokens))
                line.extend([n_lines] * len(tokens))
                n_lines += 1
        each = [np.array(one, np.int64) for one in (token, text, line)]
        return _Corpus(list(known), each[0], each[1], each[2], len(texts))

    def frequent(self, groups: np.ndarray, least: int) -> tuple[list[str], sparse.csr_array]:
        """Phrases that texts of at least so many groups say, in alphabetical order, and which text says which.

        groups: (n_texts,) int; returns the names and (n_texts, n_phrases) of 0 and 1. A longer phrase is looked at only
        where both its parts are frequent.
        """
        names: list[str] = []
        said: list[tuple[np.ndarray, np.ndarray]] = []
        fit = np.array([is_said([name]) for name in self.names], bool)
        at = np.flatnonzero(fit[self.token])
        codes = self.token[at]
        for n_tokens in range(1, LONGEST_PHRASE + 1):
            at, codes = self._kept(at, codes, groups, least)
            at, numbers, phrases = self._named(at, codes, n_tokens)
            said.append((self.text[at], numbers + len(names)))
            names += phrases
            at, codes = self._longer(at, numbers, n_tokens)
        order = np.argsort(np.array(names, object), kind="stable")
        texts, columns = (np.concatenate(each) for each in zip(*said, strict=True))
        return [names[one] for one in order], _shown(texts, np.argsort(order)[columns], (self.n_texts, len(names)))

    def _kept(self, at: np.ndarray, codes: np.ndarray, groups: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
        """The places whose code stands in enough groups."""
        numbered = np.unique(codes, return_inverse=True)[1]
        once = np.unique(numbered * (int(groups.max(initial=0)) + 1) + groups[self.text[at]])
        n_groups = np.bincount(once // (int(groups.max(initial=0)) + 1))
        wide = n_groups[numbered] >= least if len(at) else np.zeros(0, bool)
        return at[wide], codes[wide]

    def _named(self, at: np.ndarray, codes: np.ndarray, n_tokens: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Number the codes that are phrases: the places of those, their numbers from 0, and the phrases."""
        _, first, code = np.unique(codes, return_index=True, return_inverse=True)
        tokens = [[self.names[one] for one in self.token[start : start + n_tokens]] for start in at[first]]
        told = np.array([is_said(one) for one in tokens], bool)
        number = np.cumsum(told) - 1
        phrases = [" ".join(one) for one, is_phrase in zip(tokens, told.tolist(), strict=True) if is_phrase]
        return at[told[code]], number[code[told[code]]], phrases

    def _longer(self, at: np.ndarray, numbers: np.ndarray, n_tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """The places where another phrase of the same line starts a token later, and a code for both together."""
        phrase = np.full(len(self.token) + 1, -1, np.int64)
        phrase[at] = numbers
        at = at[at + n_tokens < len(self.token)]
        at = at[(phrase[at + 1] >= 0) & (self.line[at] == self.line[at + n_tokens])]
        return at, phrase[at] * (int(numbers.max(initial=0)) + 1) + phrase[at + 1]


def _shown(texts: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    from scipy import sparse

    shown = sparse.csr_array((np.ones(len(texts), np.float32), (texts, columns)), shape)
    shown.sum_duplicates()
    shown.data[:] = 1
    return shown


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
