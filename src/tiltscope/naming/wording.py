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
_COVERS = 0.15
_PROMPT_TELLS = 0.4
_PROMPT_LIFT = 1.5
_BLANK_LINES = {
    "line break after line break": "second line break of a blank line",
    "line break before line break": "first line break of a blank line",
}


@dataclass(frozen=True)
class Findings:
    """What was found of one concept."""

    lifts: list[Lift]
    ngrams: list[NgramLift]
    words: list[Lift]
    entry: Entry | None


@dataclass(frozen=True)
class Draft:
    """A name and what it predicts: a library entry, token ids, a phrase, or words of the prompt.

    mixed: the words named are few of those it fires on; tokens_name: what it is called without the library.
    """

    name: str
    named_by: str
    detail: str = ""
    entry: Entry | None = None
    ids: tuple[int, ...] = ()
    phrase: str = ""
    words: tuple[str, ...] = ()
    mixed: bool = False
    tokens_name: str = ""


def draft_names(
    concepts: Sequence[Concept], findings: Sequence[Findings], measured: Measured, *, prompts: bool
) -> list[Draft]:
    """Return a draft per concept; equal names get what the concept fires on, then its neighbour, then its id."""
    drafts = [_draft(one, measured, prompts, concept) for one, concept in zip(findings, concepts, strict=True)]
    drafts = [replace(one, name=f"{one.name}: {one.detail}") if twin else one for one, twin in _twins(drafts)]
    near = [_neighbour(one.lifts, 0.12, 1.0) for one in findings]
    drafts = [
        replace(one, name=one.name + beside) if twin and not one.name.endswith(beside) else one
        for (one, twin), beside in zip(_twins(drafts), near, strict=True)
    ]
    return [
        replace(one, name=f"{one.name} ({concept.id})") if count > 1 else one
        for (one, count), concept in zip(_counted(drafts), concepts, strict=True)
    ]


def _counted(drafts: Sequence[Draft]) -> list[tuple[Draft, int]]:
    count = Counter(draft.name for draft in drafts)
    return [(draft, count[draft.name]) for draft in drafts]


def _twins(drafts: Sequence[Draft]) -> list[tuple[Draft, bool]]:
    """Whether a draft shares its name and has a detail to add."""
    return [(one, count > 1 and bool(one.detail) and one.detail not in one.name) for one, count in _counted(drafts)]


def _draft(found: Findings, measured: Measured, prompts: bool, concept: Concept) -> Draft:
    own = _of_prompts(found) if prompts else _of_tokens(found)
    own = replace(own, tokens_name=own.name)
    if found.entry is None or found.entry.r < FOLLOWS:
        return own
    rule = measured.rules[found.entry.rule]
    kind = "prompts" if prompts else "answers"
    if found.entry.overlap >= _OVERLAPS:
        name = f"prompts with {rule.name}" if prompts else rule.name
        return replace(own, name=name, named_by="library", entry=found.entry, mixed=False)
    if own.mixed or own.named_by == "nobody" or len(concept.latents) > 1:
        return replace(own, name=f"{kind} with {rule.name}", named_by="library", entry=found.entry, mixed=False)
    return own  # it fires elsewhere in the same answers: what it fires on says more than what comes along


def _of_prompts(found: Findings) -> Draft:
    kept = [one for one in found.words if one.telling >= _TELLS * found.words[0].telling and one.lift >= _PROMPT_LIFT]
    if not kept or kept[0].telling < _PROMPT_TELLS:
        own = _of_tokens(found)
        return replace(own, name=f"prompts with {own.detail}") if own.detail and not own.mixed else own
    words = tuple(lift.word for lift in kept)[:4]
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
    if sum(lift.part for lift in kept) < _COVERS:
        return Draft(f"unclear, such as {listed}", "tokens", listed, ids=ids, mixed=True)
    near = _neighbour(found.lifts, 0.35, 1.5) if len(kept) == 1 else ""
    detail = _BLANK_LINES.get(listed + near, listed + near)
    return Draft(_kind(kept) + detail, "tokens", detail, ids=ids)


def _kind(kept: Sequence[Lift]) -> str:
    if any(quoted(lift.word) == lift.word for lift in kept):
        return ""
    if all(any(c.isalpha() for c in lift.word) for lift in kept):
        return "word " if len(kept) == 1 else "words "
    return "token " if len(kept) == 1 else "tokens "


def _neighbour(lifts: Sequence[Lift], share: float, lift: float) -> str:
    """What stands next to the firing token when that is often the same: the more telling side."""
    near = [one for one in lifts if one.where in ("before", "after") and one.share >= share and one.lift > lift]
    if not near:
        return ""
    return f" {'before' if near[0].where == 'after' else 'after'} {quoted(near[0].word)}"
