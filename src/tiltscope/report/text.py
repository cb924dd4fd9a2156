"""Untrusted text made safe to look at, and numbers made easy to read.

In:  text that came from a dataset, a model or an endpoint; numbers.
Out: text in which nothing is hidden, excerpts that say what they leave out, and numbers as words.
Refuses: to change a visible character. Markup is escaped by the writers, not here.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = [
    "Piece",
    "anchor",
    "counted",
    "excerpt",
    "fit",
    "hanging",
    "number",
    "one_line",
    "percent",
    "plain",
    "signed",
    "token",
    "visible",
    "width_of",
    "wrapped",
]

# Letters by category that no font draws: fillers, the braille blank, the combining grapheme joiner.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
_SELECTORS = range(0xE0100, 0xE01F0)  # variation selectors beyond the emoji ones can smuggle text
_WORTH_A_LOOK = re.compile(r"[^\x20-\x7e\n\t\u00a1-\u00ac\u00ae-\u02ff]")


@dataclass(frozen=True)
class Piece:
    """A run of text with one strength of marking: 0 is unmarked, 1 the strongest firing."""

    text: str
    strength: float = 0.0


def _is_hidden(char: str) -> bool:
    if char in "\n\t":
        return False
    return unicodedata.category(char) in _HIDDEN_CATEGORIES or char in _UNSEEN or ord(char) in _SELECTORS


def visible(text: str) -> str:
    """Return the text with control, bidirectional, zero-width and lone surrogate characters written as ⟨U+XXXX⟩.

    Line feeds and tabs stay. A line break of two characters (CR LF) becomes one line feed.

    >>> visible("safe\u202etxt\u200b\x1b[31m")
    'safe⟨U+202E⟩txt⟨U+200B⟩⟨U+001B⟩[31m'
    """

    def show(match: re.Match[str]) -> str:
        char = match.group()
        return f"⟨U+{ord(char):04X}⟩" if _is_hidden(char) else char

    return _WORTH_A_LOOK.sub(show, text.replace("\r\n", "\n"))


def counted(n: int, noun: str) -> str:
    """Return a count with its noun in the right number.

    >>> counted(1, "token"), counted(1200, "token")
    ('1 token', '1,200 tokens')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def wrapped(text: str, width: int, *, indent: str = "") -> list[str]:
    """Break a text into lines; a number stays with its percent sign."""
    lines = textwrap.wrap(
        text.replace(" %", "\xa0%"), width, initial_indent=indent, subsequent_indent=" " * len(indent)
    )
    return [line.replace("\xa0%", " %") for line in lines]


# A command runs to the next comma, semicolon or bracket; it is copied, so it should stand on one line.
_COMMAND = re.compile(r"\b(?:tiltscope|pip install) [^,;()\n]*[^,;()\s]")


def hanging(label: str, text: str, width: int) -> list[str]:
    """Break a text after its label into lines that hang under their first; words are never broken.

    A command that fits on a line stays on one. Line breaks of the text are kept.

    >>> hanging("hint: ", "first this, then run: tiltscope prepare study", 31)
    ['hint: first this, then run:', '      tiltscope prepare study']
    """
    room = max(1, width - len(label))
    whole = _COMMAND.sub(lambda found: _glued(found.group(), room), text)
    lines = [
        line
        for part in whole.split("\n")
        for line in textwrap.wrap(part, room, break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return [(label if not n else " " * len(label)) + line.replace("\xa0", " ") for n, line in enumerate(lines)]


def _glued(command: str, room: int) -> str:
    return command.replace(" ", "\xa0") if len(command) <= room else command


def one_line(text: str, *, limit: int = 0) -> str:
    """Return visible text on one line, cut with … after `limit` characters (0 = not cut)."""
    line = " ".join(visible(text).split())
    return line if not limit or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def plain(value: Any) -> Any:
    """Return a JSON value with every text in it, keys too, made visible."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(str(key)): plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def token(text: str) -> str:
    """Return a token as a person can see it: its spaces and line breaks drawn.

    >>> token(" **\\n")
    '␣**⏎'
    """
    return visible(text).replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")


def anchor(id: str) -> str:
    """Return the fragment under which the HTML report shows a hypothesis."""
    return re.sub(r"[^A-Za-z0-9_.@-]", "-", id)


def percent(share: float | None) -> str:
    """Return a share of 0 to 1 as a percentage; small ones keep a digit, and nothing but 0 reads 0 %."""
    if share is None:
        return "–"
    value = 100 * share
    if value == 0 or 1 <= value <= 99 or value == 100:
        return f"{value:.0f} %"
    if 0 < value < 0.1:
        return "< 0.1 %"
    return "> 99.9 %" if 99.9 < value < 100 else f"{value:.1f} %"


def signed(value: float | None, *, digits: int = 3) -> str:
    """Return a number with its sign (a true minus), or – for none; a rounded zero has no sign."""
    if value is None:
        return "–"
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("−" if value < 0 else "+") + text


def number(value: object) -> str:
    """Return a count or a number for a table: thousands with a comma, four significant digits, – for none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return one_line(str(value), limit=200)


def width_of(text: str) -> int:
    """Return how many terminal columns a text takes; wide East Asian letters take two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Return the text cut (with …) or padded to exactly `width` terminal columns."""
    if width_of(text) > width:
        kept = ""
        for char in text:
            if width_of(kept + char) > width - 1:
                break
            kept += char
        text = kept + "…"
    gap = " " * (width - width_of(text))
    return gap + text if right else text + gap


def excerpt(text: str, marks: Sequence[Sequence[float]], *, limit: int) -> tuple[list[Piece], int]:
    """Cut a text to about `limit` characters around its strongest marks and split it at the marks.

    Args:
        marks: (start, end) or (start, end, strength 0..1) in characters of `text`; may overlap, may be out of range.

    Returns:
        The pieces, in order and made visible, and how many characters were left out.
    """
    clean = _clean_marks(marks, len(text))
    start, end = _window(len(text), clean, limit)
    clean = [mark for mark in clean if mark[1] > start and mark[0] < end]
    cuts = sorted({start, end, *(p for m in clean for p in m[:2] if start < p < end)})
    pieces = []
    for low, high in pairwise(cuts):
        strength = max((s for a, b, s in clean if a <= low and b >= high), default=0.0)
        pieces.append(Piece(visible(text[low:high]), strength))
    return _with_gaps(pieces, start, len(text) - end), len(text) - (end - start)


def _clean_marks(marks: Sequence[Sequence[float]], length: int) -> list[tuple[int, int, float]]:
    out = []
    for mark in marks:
        start, end = max(0, int(mark[0])), min(length, int(mark[1]))
        strength = min(1.0, max(0.0, float(mark[2]))) if len(mark) > 2 else 1.0
        if start < end and strength > 0:
            out.append((start, end, strength))
    return sorted(out)


def _window(length: int, marks: list[tuple[int, int, float]], limit: int) -> tuple[int, int]:
    """Where to cut: the stretch that starts a little before a mark and holds the most marking."""
    if length <= limit:
        return 0, length
    best, best_start, first = -1.0, 0, 0
    total = 0.0
    last = 0
    for first, mark in enumerate(marks):  # two pointers: marks are sorted by start
        last = max(last, first)
        while last < len(marks) and marks[last][0] < mark[0] + limit * 3 // 4:
            total += marks[last][2]
            last += 1
        if total > best + 1e-9:
            best, best_start = total, mark[0]
        total -= mark[2]
    start = max(0, min(best_start - limit // 6, length - limit))
    return start, start + limit


def _with_gaps(pieces: list[Piece], before: int, after: int) -> list[Piece]:
    head = [Piece(f"[… {before:,} characters] ")] if before else []
    tail = [Piece(f" [{after:,} characters …]")] if after else []
    return head + pieces + tail
