"""How an answer looks: markup, lists, punctuation, characters.

In:  an answer as Markdown or plain text.
Out: rules of the families style, structure, punctuation and characters.
Refuses: to render. Markup inside code blocks is code, and code rules alone look there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tiltscope.behaviours.rule import Rule, Span, lowered, on_code, phrases, prose, without_code

__all__ = ["STYLE"]

# Letters or digits right before the stars are arithmetic (2**3), after the closing stars only digits are.
_BOLD = (
    r"(?<![A-Za-z0-9*\\])\*{2,3}(?=[^\s*])(?:[^*\n]|\*(?!\*)|\n(?![ \t]*\n)){1,400}?(?<=\S)\*{2,3}(?![0-9*])"
    r"|(?<![\w\\])__(?!(?:init|main|name|str|repr|call|len|iter|next|enter|exit|new|del|dict|doc|file|all|eq|lt|gt|add"
    r"|getitem|setitem|class|slots|version)__)(?=[^\s_])[^_\n]{1,400}(?<=\S)__(?!\w)"
    r"|<(?:b|strong)>[^<]{1,400}</(?:b|strong)>"
)
_ITALIC = (
    r"(?<![A-Za-z0-9*\\])\*(?=[^\s*])[^*\n]{1,300}(?<=[^\s*])\*(?![A-Za-z0-9*])"
    r"|(?<![\w\\])_(?=[^\s_])[^_\n]{1,300}(?<=[^\s_])_(?!\w)|<(?:i|em)>[^<]{1,400}</(?:i|em)>"
)
_EMOJI = (
    "(?:[\U0001f1e6-\U0001f1ff]{2}|[0-9#*]\ufe0f?\u20e3"
    "|(?:[\U0001f000-\U0001f02f\U0001f0cf\U0001f18e-\U0001f19a\U0001f201-\U0001f64f\U0001f680-\U0001f6ff\U0001f7e0-\U0001f7ff"
    "\U0001f90c-\U0001f9ff\U0001fa70-\U0001faff⌚⌛⏩-⏬⏰⏳☀☔☕☠☹☺♈-♓♥♿⚓⚠⚡⚪⚫⚽⚾⛄⛅⛎⛔⛪⛲⛳⛵⛺⛽✂✅✈✊✋✌✍✔✨❄❌❎❓-❕❗❣❤➕-➗➰➿⬛⬜⭐⭕]"
    "|[\u203c-\u3299]\ufe0f)\ufe0f?[\U0001f3fb-\U0001f3ff]?(?:\u200d[\u2600-\U0001faff]\ufe0f?[\U0001f3fb-\U0001f3ff]?)*)+"
)
_BULLET = r"^[ \t>]*(?:[-+*•‣◦▪●○·∙][ \t]+|[•‣◦▪●])(?=\S)(?![-*_ \t]+$)"
_NUMBER = r"^[ \t>]*(?:#{1,6}[ \t]+)?(?:\*\*|__)?(\d{1,3})[.)](?:\*\*|__)?[ \t]+(?=\S)"
_SEPARATOR = r"^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$"
_RULE = r"^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$"
_URL = r"(?:https?://|(?<![\w@/.])www\.)[^\s<>()\[\]\"'`]{3,}|\[[^\]\n]{1,300}\]\([^()\s]{4,}\)|<a\s[^>]{0,200}href="
_LATEX = (
    r"\$\$[^$]{1,2000}\$\$|\\\[.{1,2000}?\\\]|\\\(.{1,600}?\\\)|\\(?:frac|sqrt|sum|int|boxed|text"
    r"|begin|cdot|times|alpha|beta)\b"
    r"|(?<![\w$\\])\$(?=[^\s$\d])[^$\n]{1,200}(?<=[^\s$])\$(?![\w$])"
    r"|(?<![\w$\\])\$\d[^$\n]{0,80}[=^\\_{}][^$\n]{0,80}\$(?![\w$])"
)
_MONEY = r"[$€£¥₹]\s?\d[\d,.]*|\b\d[\d,.]{0,20}\s?(?:dollars|euros|pounds|USD|EUR|GBP)\b"
_YEAR = r"\b(?:1[5-9]|20)\d\d\b(?!%)|\b\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}\b"
_MONTH = (
    r"\b(?:January|February|March|April|June|July|August|September|October|November"
    r"|December)\s+\d{1,4}\b|\bMay\s+\d{1,4}\b"
)


def _list_of(source: str) -> Callable[[str], Iterator[Span]]:
    """Line starts that make a list: two items or more, since one dash may be a dash and one "1." a sentence."""

    def find(text: str) -> Iterator[Span]:
        spans = list(prose(source)(text))
        if len(spans) >= 2:
            yield from spans

    return find


def _line_before(text: str, start: int) -> str:
    end = max(start - 1, 0)
    return text[text.rfind("\n", 0, end) + 1 : end].strip()


def _tables(text: str) -> Iterator[Span]:
    """The separator row under a header row; both need a bar."""
    plain = without_code(text)
    if "|" not in plain and "<table" not in plain:
        return
    for start, end in prose(_SEPARATOR)(text):
        row = plain[start:end]
        if "|" in row and "-" in row and "|" in _line_before(plain, start):
            yield start, end
    yield from prose(r"<table[\s>]")(text)


def _horizontal_rules(text: str) -> Iterator[Span]:
    """A line of dashes, stars or underscores; dashes right under a line of text are a heading, not a rule."""
    plain = without_code(text)
    for start, end in prose(_RULE)(text):
        if "-" not in plain[start:end] or not _line_before(plain, start):
            yield start, end
    yield from prose(r"<hr\s*/?>")(text)


def _headings(text: str) -> Iterator[Span]:
    """`# Heading`, `<h2>`, and a line underlined with equals signs or dashes."""
    yield from prose(r"^ {0,3}#{1,6}[ \t]+(?=[^\s#])[^\n]*|<h[1-6][ >]")(text)
    plain = without_code(text)
    for start, end in prose(r"^ {0,3}(?:={3,}|-{3,})[ \t]*$")(text):
        before = _line_before(plain, start)
        if before and "|" not in before and len(before) <= 80:
            yield start, end


def _dialogue(text: str) -> Iterator[Span]:
    """`*smiles warmly*`: an action between single stars, in the present tense of role play."""
    low = lowered(text)
    pattern = r"(?<![\w*])\*(?:\w+ly )?(?:\w+s|\w+ing)\b[^*\n]{0,120}\*(?![\w*])"
    for match in re.finditer(pattern, low):
        first = match.group()[1:].split()[0].rstrip("*.,!")
        if first.rstrip("s") + "s" in _ACTIONS or first.endswith("ly") or (first.endswith("ing") and first in _ACTIONS):
            yield match.span()


_ACTIONS = frozenset(
    (
        "adjusts",
        "blushes",
        "bows",
        "chuckles",
        "claps",
        "clears",
        "dances",
        "gasps",
        "gazes",
        "giggles",
        "gives",
        "grinning",
        "grins",
        "growls",
        "hugs",
        "laughing",
        "laughs",
        "leans",
        "looks",
        "nodding",
        "nods",
        "pauses",
        "points",
        "purrs",
        "raises",
        "rolls",
        "shrugs",
        "sighing",
        "sighs",
        "sits",
        "smiles",
        "smiling",
        "smirks",
        "stands",
        "stares",
        "steps",
        "strokes",
        "takes",
        "tilts",
        "turns",
        "walks",
        "waves",
        "whispers",
        "winks",
    )
)

STYLE: tuple[Rule, ...] = (
    Rule("bold", "bold text", "share", "style", prose(_BOLD)),
    Rule("italic", "italic text", "share", "style", prose(_ITALIC)),
    Rule("emoji", "emoji", "share", "style", prose(_EMOJI)),
    Rule("heading", "heading", "share", "style", _headings),
    Rule("bulleted_list", "bulleted list", "share", "style", _list_of(_BULLET)),
    Rule("numbered_list", "numbered list", "share", "style", _list_of(_NUMBER)),
    Rule("table", "table", "share", "style", _tables),
    Rule("horizontal_rule", "horizontal rule", "share", "style", _horizontal_rules),
    Rule("em_dash", "em dash", "count", "style", prose(r"—+")),
    Rule("exclamation", "exclamation mark", "count", "style", prose(r"!+(?![=\[\w])|！+")),
    Rule("code_block", "code block", "share", "structure", on_code(r"^[ \t]*(?:```|~~~)[^\n]*\n")),
    Rule("inline_code", "inline code", "share", "structure", on_code(r"(?<!`)`[^`\n]+`(?!`)")),
    Rule("paragraph_break", "paragraph break", "count", "structure", on_code(r"(?<=\S)[ \t]*+\n[ \t]*+\n\s*+(?=\S)")),
    Rule("line_break", "line break", "count", "structure", on_code(r"(?<!\n)\n(?=[^\n])")),
    Rule("blockquote", "block quotation", "share", "structure", prose(r"^ {0,3}>[ \t]?(?=\S)[^\n]*")),
    Rule("steps", "numbered steps by name", "share", "structure", phrases(r"step (?:\d+|one|two|three|four)")),
    Rule("math", "mathematical notation", "share", "structure", on_code(_LATEX)),
    Rule("roleplay", "acted-out gestures between stars", "share", "structure", _dialogue),
    Rule(
        "speaker_labels",
        "dialogue with speaker labels",
        "share",
        "structure",
        _list_of(
            r"^(?:\*\*)?(?!(?:Note|Step|Example|Answer|Question|Tip|Warning|Summary|Title|Ingredients|Output|Input)\b)"
            r"[A-Z][\w.' ]{0,24}(?:\*\*)?:(?:\*\*)?[ \t]+[\"“A-Z]"
        ),
    ),
    Rule("question_mark", "question mark", "count", "punctuation", prose(r"\?+|？+")),
    Rule("colon", "colon", "count", "punctuation", prose(r"(?<![:\d]):(?![:/\d])|：")),
    Rule("semicolon", "semicolon", "count", "punctuation", prose(r"(?<!&amp)(?<!&lt)(?<!&gt);|；")),
    Rule("parentheses", "parentheses", "count", "punctuation", prose(r"(?<!\])\([^()\n]{1,400}\)")),
    Rule(
        "quotation",
        "quotation marks",
        "count",
        "punctuation",
        prose(r'"[^"\n]{1,600}"|“[^”\n]{1,600}”|«[^»\n]{1,600}»'),
    ),
    Rule("ellipsis", "ellipsis", "count", "punctuation", prose(r"…+|(?<!\.)\.{3,}|\. \. \.")),
    Rule("comma", "comma", "count", "punctuation", prose(r",(?!\d)|，")),
    Rule("digits", "digits", "count", "characters", prose(r"\d+(?:[.,]\d+)*")),
    Rule("all_caps", "words in capital letters", "count", "characters", prose(r"\b[A-Z]{4,}\b(?:[ ,]+[A-Z]{2,}\b)*")),
    Rule("non_ascii", "letters beyond plain English", "count", "characters", prose(r"[^\W\d_a-zA-Z]+")),
    Rule("date", "dates and years", "count", "characters", prose(_YEAR + "|" + _MONTH)),
    Rule("money", "amounts of money", "count", "characters", prose(_MONEY)),
    Rule("percent", "percentages", "count", "characters", prose(r"\b\d[\d,.]{0,20}\s?(?:%|percent\b|per cent\b)")),
    Rule("link", "web link", "count", "links", on_code(_URL)),
    Rule("email", "email address", "count", "links", on_code(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{2,63})+\b")),
)
