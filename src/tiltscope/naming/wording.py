"""Evidence becomes a name that a person can read.

In:  lifts, n-grams, prompt words, the nearest library entry of every concept.
Out: `Draft`s: a name, its author, and what the name predicts (a rule, token ids, a phrase or prompt words).
Refuses: to name by a correlation that did not hold on other texts (r under .5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tiltscope.concepts import Concept
from tiltscope.naming.library import Entry, Measured
from tiltscope.naming.lifts import Lift, NgramLift
from tiltscope.naming.words import quoted

__all__ = ["Draft", "Findings", "draft_names"]

FOLLOWS = 0.5
_PHRASE_SHARE = 0.45
_TELLS = 0.15
_OVERLAPS = 0.15


@dataclass(frozen=True)
class Findings:
    """What was found of one concept."""

    lifts: list[Lift]
    ngrams: list[NgramLift]
    words: list[Lift]
    entry: Entry | None


@dataclass(frozen=True)
class Draft:
    """A name and what it predicts: a library entry, token ids, a phrase, or words of the prompt."""

    name: str
    named_by: str
    detail: str = ""
    entry: Entry | None = None
    ids: tuple[int, ...] = ()
    phrase: str = ""
    words: tuple[str, ...] = ()


def draft_names(
    concepts: Sequence[Concept], findings: Sequence[Findings], measured: Measured, *, prompts: bool
) -> list[Draft]:
    """Return a draft per concept; library names shared by several concepts get a detail, then their id."""
    drafts = [_draft(one, measured, prompts) for one in findings]
    shared = Counter(draft.name for draft in drafts)
    drafts = [
        replace(draft, name=f"{draft.name}: {draft.detail}")
        if draft.entry and draft.detail and shared[draft.name] > 1
        else draft
        for draft in drafts
    ]
    again = Counter(draft.name for draft in drafts)
    return [
        replace(draft, name=f"{draft.name} ({concept.id})") if again[draft.name] > 1 else draft
        for draft, concept in zip(drafts, concepts, strict=True)
    ]


def _draft(found: Findings, measured: Measured, prompts: bool) -> Draft:
    own = _of_prompts(found) if prompts and found.words else _of_tokens(found)
    if found.entry is None or found.entry.r < FOLLOWS:
        return own
    rule = measured.rules[found.entry.rule]
    kind = "prompts" if prompts else "answers"
    if found.entry.overlap >= _OVERLAPS:
        name = f"prompts with {rule.name}" if prompts else rule.name
        return replace(own, name=name, named_by="library", entry=found.entry)
    if own.name.startswith("unclear"):
        return replace(own, name=f"{kind} with {rule.name}", named_by="library", entry=found.entry)
    return own  # it fires elsewhere in the same answers: what it fires on says more than what comes along


def _of_prompts(found: Findings) -> Draft:
    words = tuple(lift.word for lift in found.words if lift.telling >= _TELLS * found.words[0].telling)[:4]
    listed = ", ".join(map(quoted, words))
    return Draft(f"prompts about {listed}", "tokens", listed, words=words)


def _of_tokens(found: Findings) -> Draft:
    phrase = next((one for one in found.ngrams if one.share >= _PHRASE_SHARE and one.lift > 1), None)
    if phrase and any(c.isalpha() for c in phrase.text):
        return Draft(f"phrase “{phrase.text}”", "tokens", f"“{phrase.text}”", phrase=phrase.text)
    on = [lift for lift in found.lifts if lift.where == "on"]
    if not on:
        return Draft("unclear", "nobody")
    kept = [lift for lift in on if lift.telling >= _TELLS * on[0].telling][:4]
    ids = tuple(token for lift in kept for token in lift.ids)
    listed = ", ".join(quoted(lift.word) for lift in kept)
    detail = listed + (_beside(found.lifts) if len(kept) == 1 else "")
    if on[0].telling < _TELLS:
        return Draft(f"unclear, most often {listed}", "tokens", listed, ids=ids)
    return Draft(_kind(kept) + detail, "tokens", detail, ids=ids)


def _kind(kept: Sequence[Lift]) -> str:
    if all(quoted(lift.word) == lift.word for lift in kept):
        return ""
    if all(any(c.isalpha() for c in lift.word) for lift in kept):
        return "word " if len(kept) == 1 else "words "
    return "token " if len(kept) == 1 else "tokens "


def _beside(lifts: Sequence[Lift]) -> str:
    """What stands next to a lone firing token when that is nearly always the same."""
    for where, word in (("after", "before"), ("before", "after")):
        near = [lift for lift in lifts if lift.where == where and lift.share >= 0.35 and lift.lift > 1.5]
        if near:
            return f" {word} {quoted(near[0].word)}"
    return ""
