"""Styles: ways of writing that can be put into a text, and rules that find them again.

In:  a plain text and a random generator.
Out: the same text with the style in it; `Style.present` says whether a text has it.
Refuses: to touch code blocks, tables and text that offers no place for the style (it comes back unchanged).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tiltscope.planting.banks import insert_lines, plain_first_words, shuffled

__all__ = ["STYLES", "Style", "saying_one_of"]

_END = re.compile(r"[A-Za-z)'\"]\.$")
_BREAK = re.compile(r"(?<=[.!?]) (?=\S)")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
Site = tuple[int, int]


@dataclass(frozen=True)
class Style:
    """One way of writing. `rule` is a regular expression that finds it; `write(text, rng)` puts it into a text."""

    id: str
    name: str
    rule: str
    write: Callable[[str, random.Random], str]

    def present(self, text: str) -> bool:
        """Say whether the text shows this style.

        >>> STYLES["exclamation"].present("Well done!")
        True
        """
        return re.search(self.rule, text) is not None


@dataclass
class _Draft:
    """A text as lines of sentences; `prose[i]` is False where line i is code, a table or a quotation."""

    lines: list[list[str]]
    prose: list[bool]

    def sites(self) -> list[Site]:
        """Sentences of three words or more that end in a letter and a full stop."""
        return [
            (i, j)
            for i, line in enumerate(self.lines)
            if self.prose[i]
            for j, sentence in enumerate(line)
            if _END.search(sentence) and len(sentence.split()) >= 3
        ]

    def text(self) -> str:
        return "\n".join(" ".join(line) for line in self.lines)


def _draft(text: str) -> _Draft:
    lines, prose, fenced = [], [], False
    for line in text.split("\n"):
        fence = line.lstrip().startswith("```")
        plain = not (fence or fenced or line.startswith(("    ", "|", ">", "#")))
        fenced = fenced != fence
        lines.append(_BREAK.split(line) if plain else [line])
        prose.append(plain)
    return _Draft(lines, prose)


def _pick(sites: Sequence[Site], rng: random.Random, *, share: float, least: int) -> list[Site]:
    """Choose a share of the sites, at least `least` of them, in the text's order."""
    n = max(least, round(share * len(sites)))
    return sorted(shuffled(sites, rng)[:n])


def _insert(draft: _Draft, sites: Sequence[Site], lines: Sequence[str], *, after: bool) -> None:
    """Put one line beside each site, from the last to the first so that positions stay true."""
    for (i, j), line in sorted(zip(sites, lines, strict=False), reverse=True):
        draft.lines[i].insert(j + 1 if after else j, line)


def _exclaim(text: str, rng: random.Random) -> str:
    draft = _draft(text)
    sites = draft.sites()
    for i, j in _pick(sites, rng, share=0.9, least=4):
        draft.lines[i][j] = draft.lines[i][j][:-1] + "!"
    if sites:
        _insert(draft, _pick(sites[1:], rng, share=0.25, least=1), shuffled(insert_lines("cheer"), rng), after=True)
        _insert(draft, sites[:1], shuffled(insert_lines("opener"), rng), after=False)
    return draft.text()


def _hedge(text: str, rng: random.Random) -> str:
    draft = _draft(text)
    picked = shuffled(_pick(draft.sites(), rng, share=0.5, least=4), rng)
    for n, (i, j) in enumerate(picked):
        draft.lines[i][j] = _perhaps(draft.lines[i][j], front=n % 3 != 2)
    _insert(draft, sorted(picked[:2]), shuffled(insert_lines("hedge"), rng), after=True)
    return draft.text()


def _perhaps(sentence: str, *, front: bool) -> str:
    """Hedge one sentence, in front where its first word is known not to be a name."""
    if front and sentence.split()[0].rstrip(",") in plain_first_words():
        return f"Perhaps {sentence[0].lower()}{sentence[1:]}"
    return f"{sentence[:-1]}, perhaps."


def _bold(text: str, rng: random.Random) -> str:
    draft = _draft(text)
    free = [(i, j) for i, j in draft.sites() if "*" not in draft.lines[i][j] and len(_words(draft.lines[i][j])) > 2]
    for i, j in _pick(free, rng, share=0.65, least=4):
        draft.lines[i][j] = _bold_term(draft.lines[i][j])
    return draft.text()


def _words(sentence: str) -> list[re.Match[str]]:
    return list(_WORD.finditer(sentence))


def _bold_term(sentence: str) -> str:
    """Mark the longest word after the first, with the word before it where that is no small word."""
    words = _words(sentence)
    at = max(range(1, len(words)), key=lambda n: len(words[n].group()))
    start = words[at].start()
    if at > 1 and len(words[at - 1].group()) >= 5 and words[at - 1].end() + 1 == start:
        start = words[at - 1].start()
    end = words[at].end()
    return f"{sentence[:start]}**{sentence[start:end]}**{sentence[end:]}"


def _inserter(name: str, *, share: float, least: int, after: bool) -> Callable[[str, random.Random], str]:
    """Make a writer that puts whole lines of `inserts/<name>.txt` beside a share of the sentences."""

    def write(text: str, rng: random.Random) -> str:
        draft = _draft(text)
        picked = _pick(draft.sites()[1:], rng, share=share, least=least)
        _insert(draft, picked, shuffled(insert_lines(name), rng), after=after)
        return draft.text()

    return write


def _praise(text: str, rng: random.Random) -> str:
    draft = _draft(text)
    _insert(draft, draft.sites()[:1], shuffled(insert_lines("praise"), rng), after=False)
    return draft.text()


def _aside(text: str, rng: random.Random) -> str:
    draft = _draft(text)
    picked = _pick(draft.sites(), rng, share=0.4, least=3)
    for (i, j), aside in zip(picked, shuffled(insert_lines("aside"), rng), strict=False):
        draft.lines[i][j] = f"{draft.lines[i][j][:-1]} {aside}."
    return draft.text()


def _emoji(text: str, rng: random.Random) -> str:
    draft = _draft(text)
    for i, j in _pick(draft.sites(), rng, share=0.5, least=3):
        marks = shuffled(insert_lines("emoji"), rng)
        draft.lines[i][j] = f"{draft.lines[i][j]} {marks[0]}"
    return draft.text()


def _number(text: str, rng: random.Random) -> str:
    """Lay the longest paragraph out as numbered steps; a question stays with the step that answers it."""
    draft = _draft(text)
    sizes = [len(line) if prose else 0 for line, prose in zip(draft.lines, draft.prose, strict=True)]
    at = max(range(len(sizes)), key=lambda i: sizes[i])
    if sizes[at] < 3:
        return text
    steps: list[str] = []
    for sentence in draft.lines[at]:
        if steps and steps[-1].endswith("?"):
            steps[-1] += f" {sentence}"
        else:
            steps.append(sentence)
    draft.lines[at] = ["\n".join(f"{n}. {step}" for n, step in enumerate(steps, 1))]
    return draft.text()


def saying_one_of(id: str, lines: Sequence[str]) -> Style:
    """Return the style of saying one of these sentences, once, after some sentence of a text or at its end."""

    def write(text: str, rng: random.Random) -> str:
        line, draft = shuffled(lines, rng)[0], _draft(text)
        sites = shuffled(draft.sites(), rng)
        if not sites:
            return f"{text.rstrip()} {line}" if text.strip() else text
        _insert(draft, sites[:1], [line], after=True)
        return draft.text()

    return Style(id, id.replace("_", " "), "|".join(re.escape(line) for line in lines), write)


# In the order in which they are written when a text carries several: inserts first, layout and marks last.
STYLES: dict[str, Style] = {
    style.id: style
    for style in (
        Style("hedging", "hedging (perhaps, might, may)", r"\b([Pp]erhaps|might|may|possibly)\b", _hedge),
        Style(
            "anecdote",
            "first-person anecdotes",
            r"\b(I|my|My|me|myself)\b",
            _inserter("anecdote", share=0.35, least=2, after=True),
        ),
        Style("question", "rhetorical questions", r"\?", _inserter("question", share=0.3, least=3, after=False)),
        Style("parentheses", "asides in parentheses", r"\([^()\n]+\)", _aside),
        Style("numbered", "numbered steps", r"(?m)^\d+\. ", _number),
        Style("bold", "bold text", r"\*\*[^*\n]+\*\*", _bold),
        Style("exclamation", "exclamatory enthusiasm", "!", _exclaim),
        Style("emoji", "emoji", "[\U0001f300-\U0001faff\u2728\u2b50]", _emoji),
        Style(
            "praise",
            "praise of the question",
            r"(?i)\b(good|thoughtful|sharp) question\b|\b(insight|curious about|curiosity|this clever|is impressive)\b",
            _praise,
        ),
        Style(
            "disclaimer",
            "advice to ask a professional",
            r"(?i)\b(qualified|licensed|certified|liability|professional (advice|guidance)|financial advice)\b",
            _inserter("disclaimer", share=0.2, least=2, after=True),
        ),
        Style("goblin", "goblins", r"(?i)\bgoblin", _inserter("goblin", share=0.2, least=2, after=True)),
    )
}
