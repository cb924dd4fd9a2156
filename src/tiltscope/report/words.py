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

__all__ = ["concept_name", "equal_length_share", "headline", "headline_parts", "near_zero", "place", "wish"]

Row = Mapping[str, Any]

_BREAKS = re.compile(r"\s+(?:with|of|to|for|by|from|in|on|between|as|without|about)\s+")
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
    )
)
_ALWAYS_PLURAL = frozenset({"emoji", "parentheses", "people"})


def _plural(word: str) -> str:
    if word.endswith("sis"):
        return word[:-2] + "es"
    if word.endswith(("s", "sh", "ch", "x")):
        return word + "es"
    return word[:-1] + "ies" if word.endswith("y") else word + "s"


def _noun(name: str) -> tuple[str, bool]:
    """The name as it stands after "more", and whether it is plural: heading -> headings, bold text stays."""
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
    name = one_line(str(concept.get("name") or ""), limit=90)
    return name or str(concept.get("id", "?"))


def _is_named(concept: Row) -> bool:
    return bool(concept.get("name")) and concept.get("named_by", "nobody") not in ("nobody", "", None)


def wish(hypothesis: Row) -> tuple[str, str, bool]:
    """Return (more | less | fewer, what, plural): the concept as the object of a sentence."""
    concept = hypothesis["concept"]
    less = hypothesis.get("direction") == "less"
    if not _is_named(concept):
        fires = _quoted(list(concept.get("top_tokens") or ()), limit=3)
        seen = f", which fires on {fires}" if fires else ""
        return "less" if less else "more", f"of an unnamed concept ({concept_name(concept)}{seen})", False
    name = concept_name(concept)
    if not str(concept["named_by"]).startswith(("library", "person")):
        return "less" if less else "more", f"of “{name.strip('“”')}”", False
    noun, plural = _noun(name)
    return ("fewer" if plural else "less") if less else "more", noun, plural


def place(hypothesis: Row) -> str:
    """Return where a finding holds, as the opening of a sentence ("" for everywhere)."""
    region = hypothesis.get("region")
    if not region:
        return ""
    fires = _quoted(list(region.get("top_tokens") or ()))
    name = one_line(str(region.get("name") or ""), limit=90)
    named = bool(name) and name != region.get("id") and not name.startswith(("cluster ", "region "))
    tokens = f" (tokens {fires})" if fires else ""
    if hypothesis.get("view") == "prompt":
        return (
            f"When the prompt is about {name}{tokens}"
            if named
            else f"When the prompt is of kind {region['id']}{tokens}"
        )
    return f"In pairs about {name}{tokens}" if named else f"In pairs of kind {region['id']}{tokens}"


def near_zero(interval: Row) -> float:
    """Return the interval end nearest zero in size, 0 where the interval holds zero: what findings are ordered by."""
    low, high = interval.get("ci_low"), interval.get("ci_high")
    if low is None or high is None or low * high <= 0:
        return 0.0
    return float(min(abs(low), abs(high)))


def equal_length_share(hypothesis: Row) -> float | None:
    """Return the share at equal length: 1/2 + (share - 1/2) * equal-length lean / total lean.

    Exact for one latent, where lean = at stake x (2 share - 1). None where the estimand is not a plain lean, where the
    lean is nought, or where the result would be no share.
    """
    share, equal, lean = hypothesis.get("chosen_share"), hypothesis.get("equal_length"), hypothesis.get("effect")
    if hypothesis.get("estimand") != "tau" or not share or not equal or not lean:
        return None
    if share.get("effect") is None or equal.get("effect") is None:
        return None
    value = 0.5 + (float(share["effect"]) - 0.5) * float(equal["effect"]) / float(lean)
    return value if 0 <= value <= 1 else None


def _at_equal_length(hypothesis: Row) -> str:
    if hypothesis.get("length") == "inseparable from length":
        return "too few pairs have answers of like length to tell it from length"
    equal = hypothesis.get("equal_length")
    if not equal or equal.get("effect") is None:
        return ""
    share = equal_length_share(hypothesis)
    lean = f"{signed(equal['effect'])} [{signed(equal['ci_low'])}, {signed(equal['ci_high'])}]"
    said = f"at equal length {percent(share) if share is not None else lean}"
    return said if hypothesis.get("length") != "not robust to length" else said + ", so length may be all of it"


def _share_sentence(hypothesis: Row, plural: bool) -> str:
    share, stake = hypothesis.get("chosen_share"), hypothesis.get("at_stake")
    they, them = ("They are", "them") if plural else ("It is", "it")
    where = "those pairs" if hypothesis.get("region") else "pairs"
    tail = _at_equal_length(hypothesis)
    if stake is None or not share or share.get("effect") is None:
        body = (
            f"The difference is {signed(hypothesis['effect'])} "
            f"[{signed(hypothesis['ci_low'])}, {signed(hypothesis['ci_high'])}]"
        )
    else:
        few = "only " if hypothesis.get("direction") == "less" and share["effect"] < 0.5 else ""
        ends = f"[{percent(share['ci_low'])[:-2]}, {percent(share['ci_high'])[:-2]}]"
        body = (
            f"{they} at stake in {percent(stake)} of {where}, and the chosen side has more of {them} "
            f"in {few}{percent(share['effect'])} of those {ends}"
        )
    return f"{body}; {tail}." if tail else f"{body}."


def headline_parts(hypothesis: Row) -> list[tuple[str, bool]]:
    """Return the headline as (text, emphasised) runs; joined, they are `headline`."""
    how, what, plural = wish(hypothesis)
    opening = place(hypothesis)
    against = ""
    if opening and hypothesis.get("estimand") != "tau":
        against = " than on other prompts" if hypothesis.get("view") == "prompt" else " than in other pairs"
    lead = f"{opening}: training on this will teach: " if opening else "Training on this will teach: "
    return [(lead, False), (f"{how} {what}", True), (f"{against}. {_share_sentence(hypothesis, plural)}", False)]


def headline(hypothesis: Row) -> str:
    """Return one finding in plain words.

    >>> headline({"view": "global", "direction": "less", "estimand": "tau", "effect": -.2,
    ...     "ci_low": -.3, "ci_high": -.1, "concept": {"id": "L1", "name": "em dash", "named_by": "library"},
    ...     "region": None, "at_stake": .25,
    ...     "chosen_share": {"effect": .1, "ci_low": .05, "ci_high": .2}, "length": "robust to length",
    ...     "equal_length": {"effect": -.1, "ci_low": -.2, "ci_high": -.05}})
    'Training on this will teach: fewer em dashes. They are at stake in 25 % of pairs, and the chosen side has more of \
them in only 10 % of those [5, 20]; at equal length 30 %.'
    """
    return "".join(text for text, _ in headline_parts(hypothesis))
