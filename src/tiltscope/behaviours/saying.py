"""Words and phrases as rules: what a text says, whether or not the library has a name for it.

In:  a text, or a phrase.
Out: `saying(phrase)`, the rule that finds it again; `said(text, n)`, all phrases of a text.
Refuses: code, which says nothing, and case: both are looked through as the library's word rules do.

A token is a word (letters, digits, inner apostrophes) or a symbol: one character outside ASCII that is no letter (an
emoji, a dash), or a run of ASCII punctuation ("**", "://"). A phrase is tokens that follow each other in a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from tiltscope.behaviours.rule import Rule, Span, lowered
from tiltscope.errors import UsageError

__all__ = ["LONGEST_PHRASE", "SAYS", "is_said", "said", "said_lines", "saying"]

SAYS = "says:"
"""A rule's id that starts with this names a phrase."""
LONGEST_PHRASE = 3
"""Tokens."""

_TOKEN = re.compile(r"\w+(?:'\w+)*|[^\w\s\x00-\x7f]|[!-/:-@\[-^`{-~]+")
_MOST = 40  # characters of a token; longer ones are keys, hashes and ruled lines
_SPACED = re.compile(r" (?=[.,!?;:)\]…]+(?: |$))")

Token = tuple[str, int, int]


@lru_cache(maxsize=8)
def _lines(text: str) -> tuple[tuple[Token, ...], ...]:
    """The tokens of every line, with their characters from and to."""
    low, lines, start = lowered(text), [], 0
    for line in low.split("\n"):
        lines.append(tuple((m.group(), start + m.start(), start + m.end()) for m in _TOKEN.finditer(line)))
        start += len(line) + 1
    return tuple(lines)


def said_lines(text: str) -> list[list[str]]:
    """Return the tokens of every line of a text.

    >>> said_lines("Stay **safe**!\\nDon't.")
    [['stay', '**', 'safe', '**!'], ["don't", '.']]
    """
    return [[token for token, _, _ in line] for line in _lines(text)]


def is_said(tokens: Sequence[str]) -> bool:
    """Whether tokens in a row are a phrase: none is too long, and of several one is a word."""
    return max(map(len, tokens)) <= _MOST and (len(tokens) == 1 or any(map(_is_word, tokens)))


def said(text: str, n_tokens: int) -> Iterator[str]:
    """Yield the phrases of a text of so many tokens, one blank between tokens; of several tokens one is a word.

    >>> list(said("Stay **safe**!", 2))
    ['stay **', '** safe', 'safe **!']
    """
    for line in _lines(text):
        for at in range(len(line) - n_tokens + 1):
            tokens = [token for token, _, _ in line[at : at + n_tokens]]
            if is_said(tokens):
                yield " ".join(tokens)


def saying(phrase: str) -> Rule:
    """Return the rule that finds a phrase, written as `said` yields it.

    Raises:
        UsageError: it is no such phrase.

    >>> saying("stay safe").marks("Stay  safe, says the unsafe.")
    [(0, 10)]
    """
    tokens = phrase.split(" ")
    if len(tokens) > LONGEST_PHRASE or phrase not in said(phrase, len(tokens)):
        raise UsageError(
            "this is no word, symbol or phrase",
            found=repr(phrase)[:80],
            hint=f"at most {LONGEST_PHRASE} words or symbols, in lower case, one blank between them: {SAYS}stay safe",
        )

    def find(text: str) -> Iterator[Span]:
        if tokens[0] not in lowered(text):
            return
        for line in _lines(text):
            end = 0
            for at in range(len(line) - len(tokens) + 1):
                if at >= end and [token for token, _, _ in line[at : at + len(tokens)]] == tokens:
                    end = at + len(tokens)
                    yield line[at][1], line[end - 1][2]

    kind = "phrase" if len(tokens) > 1 else "word" if _is_word(phrase) else "symbol"
    return Rule(SAYS + phrase, f"{kind} “{_SPACED.sub('', phrase)}”", "share", "words", find)


def _is_word(token: str) -> bool:
    return token[0].isalnum() or token[0] == "_"
