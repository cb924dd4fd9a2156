"""Findings in plain words.

In:  one hypothesis as it stands in hypotheses.json.
Out: `headline`, the sentence that the terminal, Markdown, HTML and the plan share; short words for its verdicts.
Refuses: to promise. A sentence says what the data lean to; the page around it says that it is a hypothesis.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tiltscope.report.text import one_line, percent, signed, token

__all__ = ["concept_name", "headline", "headline_parts", "near_zero", "place", "wish"]

Row = Mapping[str, Any]

_BREAKS = re.compile(r"\s+(?:(?:with|of|to|for|by|from|in|on|between|as|without|about|before|after|such)\s|\()")
_TOKENS = re.compile(r"(?:word|phrase|symbol|token)s? “")
_BLANK_LINES = ("second line break of a blank line", "first line break of a blank line")
_COUNTABLE = frozenset(
    (
        "heading",
        "list",
        "table",
        "rule",
        "dash",
        "mark",
        "block",
        "break",
        "quotation",
        "colon",
        "semicolon",
        "comma",
        "link",
        "address",
        "refusal",
        "apology",
        "phrase",
        "offer",
        "opening",
        "question",
        "answer",
        "sentence",
        "word",
        "paragraph",
        "example",
        "citation",
        "claim",
        "warning",
        "disclaimer",
        "joke",
        "quote",
        "ellipsis",
        "step",
        "greeting",
        "line",
        "space",
        "tab",
    )
)
_ALWAYS_PLURAL = frozenset({"emoji", "parentheses", "people"})


def _plural(word: str) -> str:
    if word.endswith("sis"):
        return word[:-2] + "es"
    if word.endswith(("s", "sh", "ch", "x")):
        return word + "es"
    return word[:-1] + "ies" if word.endswith("y") else word + "s"


def _phrase(name: str, author: str) -> tuple[str, bool, bool]:
    """A name inside a sentence: the phrase, whether it is plural, and whether it needs "of" after "more"."""
    if author.startswith(("library", "person")):
        noun, detailed, detail = name.partition(": ")
        noun, plural = _noun(noun)
        return noun + (f" ({detail})" if detailed else ""), plural, False
    if author != "tokens":
        return f"“{name.strip('“”')}”", False, True
    if name.startswith("words such as"):
        return name, True, False
    if _TOKENS.match(name):
        return f"the {name}", False, True
    if name.startswith(_BLANK_LINES):
        return "blank lines", True, False
    if name.startswith("unclear"):
        return f"something {name}", False, True
    noun, plural = _noun(name)
    return noun, plural, not plural


def _noun(name: str) -> tuple[str, bool]:
    """The name as it stands after "more", and whether it is plural: heading -> headings, bold text stays."""
    for kind in ("answers with ", "prompts with "):
        if name.startswith(kind):
            return kind + _noun(name.removeprefix(kind))[0], True
    head = _BREAKS.split(name, maxsplit=1)[0]
    words = head.split(" ")
    last = words[-1].lower()
    if last in _COUNTABLE:
        words[-1] = _plural(words[-1])
        return " ".join(words) + name[len(head) :], True
    plural = last in _ALWAYS_PLURAL or (last.endswith("s") and not last.endswith(("ss", "us", "is")))
    return name, plural


def _quoted(tokens: list[str], *, limit: int = 4) -> str:
    return ", ".join(f"“{token(one)[:24]}”" for one in tokens[:limit])


def concept_name(concept: Row) -> str:
    """Return a concept's name on one visible line, or its id where nobody named it."""
    id = str(concept.get("id", "?"))
    name = one_line(str(concept.get("name") or "").removesuffix(f" ({id})"), limit=90)
    return name or id


def _is_named(concept: Row) -> bool:
    return bool(concept.get("name")) and concept.get("named_by", "nobody") not in ("nobody", "", None)


def wish(hypothesis: Row) -> tuple[str, str, bool]:
    """Return (more | less | fewer, what, plural): the concept as the object of a sentence."""
    concept = hypothesis["concept"]
    less = hypothesis.get("direction") == "less"
    if not _is_named(concept):
        fires = _quoted(list(concept.get("top_tokens") or ()), limit=3)
        seen = f", which fires on {fires}" if fires else ""
        return "less" if less else "more", f"of an unnamed concept ({concept.get('id', '?')}{seen})", False
    what, plural, needs_of = _phrase(concept_name(concept), str(concept["named_by"]))
    how = ("fewer" if plural else "less") if less else "more"
    return how, f"of {what}" if needs_of else what, plural


def place(hypothesis: Row) -> str:
    """Return where a finding holds, as the opening of a sentence ("" for everywhere)."""
    region = hypothesis.get("region")
    if not region:
        return ""
    name = one_line(str(region.get("name") or ""), limit=90)
    fires = _quoted(list(region.get("top_tokens") or ()))
    tokens = f" (tokens {fires})" if fires and "“" not in name else ""
    asked = hypothesis.get("view") == "prompt"
    if not name or name == region.get("id") or name.startswith(("around ", "unclear", "latent ", "cluster ")):
        return (
            f"When the prompt is of kind {region['id']}{tokens}"
            if asked
            else f"In pairs of kind {region['id']}{tokens}"
        )
    if not asked:
        return f"In pairs rich in {_rich(name)}{tokens}"
    if name.startswith("prompts about "):
        return f"When the prompt is about {name.removeprefix('prompts about ')}{tokens}"
    if name.startswith("prompts with "):
        return f"When the prompt comes with {_noun(name.removeprefix('prompts with '))[0]}{tokens}"
    return f"When the prompt is about {name}{tokens}"


def _rich(name: str) -> str:
    """A kind of pairs by what its answers are full of."""
    told = _TOKENS.match(name) or name.startswith("words such as")
    return _phrase(name.removeprefix("answers with "), "tokens" if told else "library")[0]


def near_zero(interval: Row) -> float:
    """Return the interval end nearest zero in size, 0 where the interval holds zero: what findings are ordered by."""
    low, high = interval.get("ci_low"), interval.get("ci_high")
    if low is None or high is None or low * high <= 0:
        return 0.0
    return float(min(abs(low), abs(high)))


def _only_there(hypothesis: Row) -> bool:
    """Whether the finding is a lean in one place by itself, with too little outside to compare it with."""
    return hypothesis.get("estimand") == "own"


def _at_equal_length(hypothesis: Row) -> str:
    if hypothesis.get("region") and not _only_there(hypothesis):
        ends = f"[{signed(hypothesis['ci_low'])}, {signed(hypothesis['ci_high'])}]"
        return f"the excess over other pairs, length held fixed, is {signed(hypothesis['effect'])} {ends}"
    if hypothesis.get("length") == "inseparable from length":
        return "too few pairs have answers of like length to tell it from length"
    share = hypothesis.get("equal_length_share")
    if share is None:
        return ""
    doubt = ", so length may be all of it" if hypothesis.get("length") == "not robust to length" else ""
    return f"at equal length {percent(share)}{doubt}"


def _share_sentence(hypothesis: Row, plural: bool) -> str:
    share, stake = hypothesis.get("chosen_share") or {}, hypothesis.get("at_stake")
    they, them = ("They are", "them") if plural else ("It is", "it")
    where = "those pairs" if hypothesis.get("region") else "pairs"
    tail = _at_equal_length(hypothesis)
    value, low, high = (share.get(key) for key in ("effect", "ci_low", "ci_high"))
    if stake is None or value is None:
        ends = f"[{signed(hypothesis['ci_low'])}, {signed(hypothesis['ci_high'])}]"
        body = f"The difference is {signed(hypothesis['effect'])} {ends}"
    else:
        few = "only " if hypothesis.get("direction") == "less" and value < 0.5 else ""
        often = f"{few}{percent(value)}" if value else "none"
        ends = "" if low is None or high is None else f" [{percent(low)[:-2]}, {percent(high)[:-2]}]"
        body = (
            f"{they} at stake in {percent(stake)} of {where}, and the chosen side has more of {them} "
            f"in {often} of those{ends}"
        )
    return f"{body}; {tail}." if tail else f"{body}."


def headline_parts(hypothesis: Row) -> list[tuple[str, bool]]:
    """Return the headline as (text, emphasised) runs; joined, they are `headline`."""
    how, what, plural = wish(hypothesis)
    opening = place(hypothesis)
    against = ""
    others = "on other prompts" if hypothesis.get("view") == "prompt" else "in other pairs"
    if _only_there(hypothesis):
        seen = "They are" if plural else "It is"
        against = f". {seen} seen mostly there, too seldom elsewhere to compare with what it would be {others}"
    elif opening:
        against = f" than {others}"
    lead = f"{opening}: training on this will teach: " if opening else "Training on this will teach: "
    return [(lead, False), (f"{how} {what}", True), (f"{against}. {_share_sentence(hypothesis, plural)}", False)]


def headline(hypothesis: Row) -> str:
    """Return one finding in plain words.

    >>> headline({"view": "global", "direction": "less", "estimand": "tau", "effect": -.2,
    ...     "ci_low": -.3, "ci_high": -.1, "concept": {"id": "L1", "name": "em dash", "named_by": "library"},
    ...     "region": None, "at_stake": .25,
    ...     "chosen_share": {"effect": .1, "ci_low": .05, "ci_high": .2}, "length": "robust to length",
    ...     "equal_length_share": .3})
    'Training on this will teach: fewer em dashes. They are at stake in 25 % of pairs, and the chosen side has more of \
them in only 10 % of those [5, 20]; at equal length 30 %.'
    """
    return "".join(text for text, _ in headline_parts(hypothesis))
