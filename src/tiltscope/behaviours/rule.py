"""What a rule is, and the small builders the families are written with.

In:  a text, and regular expressions or phrases.
Out: `Rule`: character spans of a text where a behaviour shows.
Refuses: to judge. A rule sees surface form only; what it cannot see is said in its family's module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Literal

__all__ = ["OFTEN", "Rule", "Span", "lowered", "on_code", "phrases", "prose", "without_code"]

OFTEN = "often:"
"""A rule's id that starts with this names a rule of the library and how many marks of it there must be."""

Span = tuple[int, int]
Finder = Callable[[str], Iterator[Span]]

_CODE = re.compile(
    r"^[ \t]*+(`{3,}+|~{3,}+)[^`\n]*+\n(?:.*?^[ \t]*+\1|.*\Z)|(?<!`)`[^`\n]++`(?!`)", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Rule:
    """A behaviour that can be verified on a text.

    `name` is plain words; `unit` says what to report: the share of texts that show it, or how often it shows;
    `family` groups rules that say like things (style, agreement, refusal, links, …).
    """

    id: str
    name: str
    unit: Literal["share", "count"]
    family: str
    find: Finder = field(repr=False, compare=False)

    def marks(self, text: str) -> list[Span]:
        """Return the (start, end) character spans where the rule fires, in order, not overlapping."""
        return list(self.find(text))

    def present(self, text: str) -> bool:
        """Whether the rule fires anywhere in the text (stops at the first place)."""
        return next(self.find(text), None) is not None

    def often(self, n_marks: int) -> Rule:
        """Return the rule that fires wherever this one does, in texts where it does so `n_marks` times or more."""

        def find(text: str) -> Iterator[Span]:
            marks = self.marks(text)
            yield from marks if len(marks) >= n_marks else ()

        name = f"{self.name}, {n_marks} times or more"
        return Rule(f"{OFTEN}{n_marks}:{self.id}", name, "share", self.family, find)


@cache
def _compiled(source: str, flags: int) -> re.Pattern[str]:
    """Compile on first use, so that importing the library costs nothing."""
    return re.compile(source, flags)


@lru_cache(maxsize=8)
def without_code(text: str) -> str:
    """Return the text with code blocks and inline code blanked, every offset kept."""
    if "`" not in text and "~~~" not in text:
        return text
    return _CODE.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


@lru_cache(maxsize=8)
def lowered(text: str) -> str:
    """Return the lower-cased text outside code with straight apostrophes, every offset kept."""
    plain = without_code(text).replace("’", "'")
    low = plain.lower()
    if len(low) == len(plain):
        return low
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in plain)


def prose(source: str, *, flags: int = re.MULTILINE) -> Finder:
    """A regular expression that looks outside code (`# note` in a program is no heading)."""

    def find(text: str) -> Iterator[Span]:
        for match in _compiled(source, flags).finditer(without_code(text)):
            yield match.span()

    return find


def on_code(source: str, *, flags: int = re.MULTILINE) -> Finder:
    """A regular expression that looks at the whole text, code included."""

    def find(text: str) -> Iterator[Span]:
        for match in _compiled(source, flags).finditer(text):
            yield match.span()

    return find


def phrases(*sources: str, starts_clause: bool = False) -> Finder:
    """Phrases (lower-case regular expressions) that stand as whole words, outside code, in any case.

    The word boundary at the start is checked after a match: a leading `\\b` would keep the regular-expression engine
    from jumping to the first letters, which makes it ten times slower. `starts_clause` asks that only spaces, quotes or
    markup stand between the phrase and the start of a sentence or clause.
    """
    source = "(?:" + "|".join(sources) + r")(?!\w)"

    def find(text: str) -> Iterator[Span]:
        low = lowered(text)
        for match in _compiled(source, re.MULTILINE).finditer(low):
            start = match.start()
            if start and (low[start - 1].isalnum() or low[start - 1] == "_"):
                continue
            if starts_clause and not _at_clause_start(low, start):
                continue
            yield match.span()

    return find


def _at_clause_start(low: str, start: int) -> bool:
    """Whether a sentence or clause starts here."""
    before = low[max(0, start - 24) : start].rstrip(" \t*_\"'“‘(>#")
    return not before or before[-1] in ".!?:;,\n—–…" or before.endswith((" yes", " yeah", " and", " but", " oh", " so"))
