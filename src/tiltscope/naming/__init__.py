"""Concepts get names that carry their author, their evidence and a held-out score.

In:  pairs, features, concepts; labels are never looked at.
Out: a `Naming` per concept id; names.json.
Refuses: the network, unless an `EndpointNamer` is given; a score where there is nothing to score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from tiltscope.concepts import Concept
from tiltscope.errors import UsageError
from tiltscope.features import Features, Progress
from tiltscope.naming.ask import Asked, ask_for_names
from tiltscope.naming.endpoint import EndpointNamer
from tiltscope.naming.evidence import Evidence, gather
from tiltscope.naming.library import MEASURES, Entry, Measured, measure_rules, nearest_entries
from tiltscope.naming.lifts import ngram_lifts, prompt_words, token_lifts, worth_showing
from tiltscope.naming.record import (
    ExampleSpan,
    LibraryEntry,
    LiftedToken,
    Naming,
    Ngram,
    as_product,
    named,
    read_names,
    write_names,
)
from tiltscope.naming.score import Score, score_names
from tiltscope.naming.spans import Spans, collect_spans
from tiltscope.naming.telling import Data, tell
from tiltscope.naming.wording import Draft, Findings, draft_names
from tiltscope.naming.words import window
from tiltscope.pairs import Pairs

__all__ = [
    "Data",
    "EndpointNamer",
    "ExampleSpan",
    "LibraryEntry",
    "LiftedToken",
    "Naming",
    "NamingSettings",
    "Ngram",
    "as_product",
    "name_concepts",
    "named",
    "names_product",
    "read_names",
    "tell",
    "write_names",
]

_SIDES = (("chosen", "rejected"), ("rejected", "chosen"), ("prompt",))
_N_TOP, _N_RANDOM = 5, 4


@dataclass(frozen=True)
class NamingSettings:
    """Where concepts fire, the seed of split and draws, and the endpoint that writes names, if any."""

    sides: tuple[str, ...] = ("chosen", "rejected")
    """("chosen", "rejected") for concepts of answers, ("prompt",) for concepts of prompts."""
    seed: int = 0
    namer: EndpointNamer | None = None


class HasFeatures(Protocol):
    """A study, as far as naming knows it."""

    @property
    def pairs(self) -> Pairs:
        """The pairs."""
        ...

    @property
    def features(self) -> Features:
        """What a scope read in them."""
        ...


def name_concepts(
    pairs: Pairs,
    features: Features,
    concepts: Sequence[Concept],
    settings: NamingSettings | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Naming]:
    """Return a `Naming` for every concept id, in order; the same input gives the same names.

    Names are learned from the explore half of the groups (the half
    that `contrast` explores under the same seed) and scored on the other. Nothing is sent anywhere without a namer.

    Raises:
        UsageError: other sides.
        DataError: features of other pairs.
    Source: method of arXiv:2606.12360 (evidence for names); held-out scores are ours.
    """
    settings = settings or NamingSettings()
    if settings.sides not in _SIDES:
        raise UsageError("concepts are named on answers or on prompts", found=", ".join(settings.sides))
    if not concepts:
        return {}
    spans = collect_spans(pairs, features, concepts, sides=sorted(settings.sides), seed=settings.seed)
    evidence = gather(features, spans, concepts, progress=progress)
    measured = measure_rules(spans, evidence)
    prompts = settings.sides == ("prompt",)
    findings = _findings(spans, evidence, measured, prompts)
    drafts = draft_names(concepts, findings, measured, prompts=prompts)
    scores = _scores(spans, evidence, measured, drafts)
    namings = {
        concept.id: _naming(spans, evidence, measured, place, (findings[place], drafts[place], scores[place]))
        for place, concept in enumerate(concepts)
    }
    if progress:
        progress("names", 4, 4)
    if settings.namer is None:
        return namings
    asked = ask_for_names(settings.namer, spans, evidence, list(namings.values()))
    written_by = settings.namer.model
    return {key: _answered(one, answer, written_by) for (key, one), answer in zip(namings.items(), asked, strict=True)}


def names_product(
    study: HasFeatures,
    concepts: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    namer: EndpointNamer | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return what names.json holds, for the concepts of answers ("response") and of prompts ("prompt").

    concepts: lists of {"id", "latents"} as in concepts.json.
    """
    namings: dict[str, Naming] = {}
    for key, sides in (("response", ("chosen", "rejected")), ("prompt", ("prompt",))):
        asked = [Concept(str(one["id"]), tuple(one["latents"])) for one in concepts.get(key, ())]
        settings = NamingSettings(sides, seed, namer)
        namings |= name_concepts(study.pairs, study.features, asked, settings, progress=progress)
    return as_product(namings, inputs={"pairs": study.pairs.fingerprint, "features": study.features.fingerprint})


def _findings(spans: Spans, evidence: Evidence, measured: Measured, prompts: bool) -> list[Findings]:
    entries = nearest_entries(spans, evidence, measured)
    return [
        Findings(
            token_lifts(evidence, spans, concept),
            ngram_lifts(evidence, spans, concept),
            prompt_words(spans, concept) if prompts else [],
            entry,
        )
        for concept, entry in enumerate(entries)
    ]


def _scores(spans: Spans, evidence: Evidence, measured: Measured, drafts: Sequence[Draft]) -> list[Score]:
    tokens = evidence.tokens_of_span[measured.span]
    n_tokens = np.maximum(np.asarray(tokens.sum(axis=1)).ravel(), 1)
    texts = [spans.texts[place][: evidence.text_ends[place]].lower() for place in measured.span.tolist()]
    predictor = np.zeros((len(texts), len(drafts)))
    for column, draft in enumerate(drafts):
        if draft.entry:
            predictor[:, column] = measured.values[draft.entry.measure, :, draft.entry.rule]
        elif draft.phrase:
            predictor[:, column] = [text.count(draft.phrase) for text in texts] / n_tokens
        elif draft.words:
            predictor[:, column] = [sum(word in text for word in draft.words) for text in texts]
        elif draft.ids:
            predictor[:, column] = np.asarray(tokens[:, list(draft.ids)].sum(axis=1)).ravel() / n_tokens
    return score_names(predictor, spans.fires[measured.span], spans.explore[measured.span])


def _naming(
    spans: Spans, evidence: Evidence, measured: Measured, concept: int, found: tuple[Findings, Draft, Score]
) -> Naming:
    findings, draft, score = found
    lifts = [*findings.words, *worth_showing(findings.lifts)]
    name = draft.name
    if draft.mixed and score.own is not None and score.own > (score.shuffled_95 or 0.0):
        name = name.replace("unclear, such as", "words such as", 1)
    return Naming(
        name,
        draft.named_by,
        score.own if draft.named_by != "nobody" else None,
        score.shuffled,
        score.shuffled_95,
        score.note if draft.named_by != "nobody" else "no token stands out where it fires",
        tuple(LiftedToken(one.word, one.lift, one.share, one.where) for one in lifts),
        tuple(Ngram(one.text, one.lift) for one in findings.ngrams),
        _library(findings.entry, measured),
        _examples(spans, evidence, concept),
        tokens_name=draft.tokens_name,
    )


def _library(entry: Entry | None, measured: Measured) -> LibraryEntry | None:
    if entry is None:
        return None
    rule = measured.rules[entry.rule]
    return LibraryEntry(rule.id, rule.name, entry.r, entry.n, MEASURES[entry.measure], entry.overlap)


def _examples(spans: Spans, evidence: Evidence, concept: int) -> tuple[ExampleSpan, ...]:
    """Top and random explore places, each from another pair and prompt."""
    found: list[ExampleSpan] = []
    used: set[str] = set()
    for kind, label, most in (("highest", "top", _N_TOP), ("random", "random", _N_RANDOM)):
        places = evidence.places.get(kind)
        if places is None:
            continue
        at = np.flatnonzero((places.concept == concept) & places.fired)
        if kind == "highest":
            at = at[np.lexsort((at, -np.round(places.value[at], 6)))]
        taken = 0
        for place in at.tolist():
            span = int(places.span[place])
            pair = spans.pairs[span]
            if taken < most and pair.group not in used:
                used.add(pair.group)
                taken += 1
                marks = evidence.marks[concept, span]
                seen = window(spans.texts[span], int(places.start[place]), int(places.end[place]), marks)
                found.append(ExampleSpan(pair.id, pair.row, spans.sides[span], seen.text, seen.marked, label))
    return tuple(found)


def _answered(naming: Naming, asked: Asked, written_by: str) -> Naming:
    """The endpoint's name with its own score, or the evidence name with what went wrong counted."""
    if asked.name is None:
        return replace(naming, abstained=asked.abstained, errors=asked.errors)
    return replace(
        naming,
        name=asked.name,
        named_by=written_by,
        name_score=asked.score,
        shuffled_score=asked.shuffled,
        shuffled_95=None,
        score_note=asked.note,
        abstained=asked.abstained,
        errors=asked.errors,
    )
