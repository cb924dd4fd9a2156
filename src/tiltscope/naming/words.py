"""What a person reads instead of a token: whole words, names for white space, marked windows of text.

In:  a text, the character offsets of tokens in it.
Out: words, n-grams, windows with marks.
Refuses: to show raw bytes, control characters or half a character; offsets count Unicode characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["STOP_WORDS", "Window", "merged", "ngrams_at", "quoted", "window", "word_at"]

_PIECE = re.compile(r"\n+|[\w]+(?:['’][\w]+)*|[^\w\s]+")
_CONTEXT = 60
_REACH = 50
_STOP = (
    "a about above after again all also am an and any are as at be because been before being below between both but "
    "by can could did do does doing don't down during each few for from further get give had has have having he her "
    "here hers him his how i i'm if in into is it it's its just let like make me more most my no nor not of off on "
    "once only or other our ours out over own please same she should so some such than that the their theirs them "
    "then there these they this those through to too under until up us very was we were what what's when where which "
    "while who whom why will with would you your yours yourself tell write want know need use one two"
)
STOP_WORDS = frozenset(_STOP.split())


def visible(text: str) -> str:
    """Return text in which control characters, lone surrogates and odd spaces are named instead of shown."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"<{_character_name(c)}>" for c in text)


def _character_name(character: str) -> str:
    names = {"\n": "line break", "\t": "tab", "\r": "carriage return", "\u00a0": "hard space", "\u200b": "no space"}
    return names.get(character) or unicodedata.name(character, "").lower() or f"U+{ord(character):04X}"


def _blank(text: str) -> str:
    if text.count("\n") > 1:
        return "blank line"
    if "\n" in text:
        return "line break"
    if not text:
        return "nothing visible"
    return "tab" if "\t" in text else "space" if len(text) == 1 else "run of spaces"


def word_at(text: str, start: int, end: int) -> str:
    """Return the word that holds the token at [start, end): letters grow to the whole word, white space is named.

    >>> word_at("It is However so", 5, 9), word_at("a\\n\\nb", 1, 3), word_at("a **b**", 1, 4)
    ('However', 'blank line', '**')
    """
    core = text[start:end].strip()
    if not core:
        return _blank(text[start:end])
    start = text.index(core, start)
    end = start + len(core)
    if _in_word(core[0]):
        while start and _in_word(text[start - 1]) and end - start < 40:
            start -= 1
    if _in_word(core[-1]):
        while end < len(text) and _in_word(text[end]) and end - start < 40:
            end += 1
    return visible(text[start:end].strip())


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def quoted(word: str) -> str:
    """Return a word in quotation marks, or the plain name of white space and of any number."""
    return word if word in _BLANKS else f"“{word}”"


_BLANKS = frozenset(("a number", "blank line", "line break", "tab", "space", "run of spaces", "nothing visible"))


def ngrams_at(text: str, start: int, end: int, *, most: int = 4) -> set[str]:
    """Return the runs of 2 to `most` words (lower case, within one line) that cover the token at [start, end)."""
    low = max(0, start - _REACH)
    pieces = [(m.start(), m.end(), m.group()) for m in _PIECE.finditer(text, low, end + _REACH)]
    hit = [i for i, (s, e, _) in enumerate(pieces) if s < end and e > start]
    if not hit:
        return set()
    found = set()
    for first in range(max(0, hit[0] - most + 1), hit[0] + 1):
        for stop in range(max(first + 2, hit[0] + 1), min(first + most, len(pieces)) + 1):
            run = pieces[first:stop]
            if not any("\n" in word for _, _, word in run):
                found.add(visible(text[run[0][0] : run[-1][1]].lower()))
    return found


def merged(spans: Sequence[tuple[int, int, float]], text: str) -> list[tuple[int, int, float]]:
    """Return spans in order with those joined that touch or have only blanks between; strength is the highest one's."""
    joined: list[tuple[int, int, float]] = []
    for start, end, strength in sorted(spans):
        if joined and (start <= joined[-1][1] or not text[joined[-1][1] : start].strip()):
            first, last, before = joined.pop()
            joined.append((first, max(last, end), max(before, strength)))
        else:
            joined.append((start, end, strength))
    return joined


@dataclass(frozen=True)
class Window:
    """A piece of a text and the marks in it; offsets count characters of `text`."""

    text: str
    marked: tuple[tuple[int, int], ...]


def window(text: str, start: int, end: int, marks: Sequence[tuple[int, int, float]]) -> Window:
    """Return the text around [start, end) with 60 characters either side and the marks that lie in it."""
    low, high = max(0, start - _CONTEXT), min(len(text), end + _CONTEXT)
    inside = [(max(s, low) - low, min(e, high) - low) for s, e, _ in merged(marks, text) if s < high and e > low]
    return Window(text[low:high], tuple(inside))
