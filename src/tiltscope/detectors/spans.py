"""Character spans: joined, grown to whole words or sentences, and which stand on one line.

In:  (start, end) offsets of a text, the text.
Out: sorted spans that do not overlap.
Refuses: nothing; empty spans vanish.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from tiltscope.features import Features, TokenTable
from tiltscope.recipe import Spans

__all__ = [
    "latent_spans",
    "merge_spans",
    "n_characters",
    "on_one_line",
    "token_spans",
    "whole_sentences",
    "whole_words",
]

_WORD = re.compile(r"\w+(?:['’\-]\w+)*")
_SENTENCE = re.compile(r"\S(?:[^\n]*?[.!?…]+[\"'”’)\]*_]*(?=\s|\Z)|[^\n]*)")


def merge_spans(spans: Iterable[tuple[int, int]]) -> Spans:
    """Return the spans in order, touching and overlapping ones joined, empty ones left out.

    >>> merge_spans([(5, 7), (0, 2), (2, 4), (3, 3)])
    ((0, 4), (5, 7))
    """
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if end <= start:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((int(start), int(end)))
    return tuple(joined)


def n_characters(spans: Iterable[tuple[int, int]]) -> int:
    """Return how many characters spans that do not overlap cover."""
    return sum(end - start for start, end in spans)


def whole_words(text: str, spans: Sequence[tuple[int, int]]) -> Spans:
    """Return the spans grown over every word they touch; marks on punctuation alone stay as they are.

    >>> whole_words("two goblins sat", [(6, 9)])
    ((4, 11),)
    """
    return merge_spans([*spans, *_touched(_WORD, text, merge_spans(spans))])


def whole_sentences(text: str, spans: Sequence[tuple[int, int]]) -> Spans:
    """Return the spans grown over every sentence they touch; a sentence ends at ., !, ? or … before a blank, or a line.

    >>> whole_sentences("One. Two goblins (3.5 m) sat! Three.", [(9, 16)])
    ((5, 29),)
    """
    return merge_spans([*spans, *_touched(_SENTENCE, text, merge_spans(spans))])


def on_one_line(text: str, spans: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> list[bool]:
    """Return for each span whether a line that it touches is touched by one of the others.

    Line ends at the rim of a span belong to no line of it, unless it is nothing else.

    >>> on_one_line("- **a** b\\n**c**", [(2, 7), (10, 15)], [(0, 2)])
    [True, False]
    """
    ends = [at for at, letter in enumerate(text) if letter == "\n"]
    taken = {line for span in others for line in _lines(text, span, ends)}
    return [not taken.isdisjoint(_lines(text, span, ends)) for span in spans]


def _lines(text: str, span: tuple[int, int], ends: Sequence[int]) -> range:
    body = text[span[0] : span[1]]
    rim = (len(body) - len(body.lstrip("\n")), len(body) - len(body.rstrip("\n"))) if body.strip("\n") else (0, 0)
    start, end = span[0] + rim[0], span[1] - rim[1]
    return range(bisect_left(ends, start), bisect_left(ends, max(start, end - 1)) + 1)


def _touched(part: re.Pattern[str], text: str, spans: Spans) -> Iterator[tuple[int, int]]:
    at = 0
    for found in part.finditer(text) if spans else ():
        while at < len(spans) and spans[at][1] <= found.start():
            at += 1
        if at < len(spans) and spans[at][0] < found.end():
            yield found.span()


def token_spans(starts: np.ndarray, ends: np.ndarray, marked: np.ndarray) -> Spans:
    """Return the joined spans of the marked tokens: three (n_tokens,) arrays, `marked` bool."""
    return merge_spans(zip(starts[marked].tolist(), ends[marked].tolist(), strict=True))


def latent_spans(features: Features, side: str, latents: Sequence[int], threshold: float) -> Mapping[str, Spans]:
    """Return pair id -> spans of the tokens on which the latents' activations sum to more than `threshold`."""
    found: dict[str, Spans] = {}
    for table in features.tables(side):
        marked = np.flatnonzero(_activations(table, latents) > threshold)
        pairs = table.pair[marked]
        for pair in np.unique(pairs).tolist():
            low, high = np.searchsorted(pairs, [pair, pair + 1])  # tables are in the order of their pairs
            own = marked[low:high]
            spans = merge_spans(zip(table.starts[own].tolist(), table.ends[own].tolist(), strict=True))
            if spans:
                found[features.pair_ids[pair]] = spans
    return found


def _activations(table: TokenTable, latents: Sequence[int]) -> np.ndarray:
    return np.asarray(table.codes[:, list(latents)].sum(axis=1), np.float64).ravel()
