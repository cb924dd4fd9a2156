"""Names written by an endpoint, and how well they pick out held-out places.

In:  an `EndpointNamer`, spans, evidence, the evidence names.
Out: `Asked` per concept: a name with its score, or none; abstentions and errors counted apart.
Refuses: to count an error or an abstention as "does not fit".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiltscope.naming.endpoint import EndpointNamer
from tiltscope.naming.evidence import Evidence
from tiltscope.naming.record import Naming
from tiltscope.naming.spans import Spans
from tiltscope.naming.words import visible

__all__ = ["Asked", "ask_for_names"]

_N_JUDGED = 6
_CONTEXT = 60


@dataclass(frozen=True)
class Asked:
    """name None: the evidence name stays. score: held-out balanced accuracy; shuffled: with the next concept's name."""

    name: str | None
    score: float | None
    shuffled: float | None
    note: str
    abstained: int
    errors: int


@dataclass(frozen=True)
class _Judged:
    score: float | None
    abstained: int
    errors: int


def ask_for_names(namer: EndpointNamer, spans: Spans, evidence: Evidence, namings: Sequence[Naming]) -> list[Asked]:
    """Ask for every name, then judge each on held-out places with its own name and with another concept's."""
    replies = [namer.write_name(_evidence(naming)) for naming in namings]
    written = [(place, str(reply.value)) for place, reply in enumerate(replies) if reply.outcome == "answer"]
    asked = []
    for place, reply in enumerate(replies):
        abstained, errors = int(reply.outcome == "abstained"), int(reply.outcome == "error")
        if reply.outcome != "answer":
            asked.append(Asked(None, None, None, "", abstained, errors))
            continue
        own = _judge(namer, spans, evidence, place, str(reply.value))
        other = next((name for at, name in [*written, *written] if at > place and name != reply.value), None)
        other = other or next((name for _, name in written if name != reply.value), None)
        wrong = _judge(namer, spans, evidence, place, other) if other else _Judged(None, 0, 0)
        note = "" if own.score is not None else "too few held-out places were judged"
        abstained, errors = own.abstained + wrong.abstained, own.errors + wrong.errors
        asked.append(Asked(str(reply.value), own.score, wrong.score, note, abstained, errors))
    return asked


def _evidence(naming: Naming) -> dict[str, Any]:
    """What a person sees, with firing tokens between « and »."""
    return {
        "words": [
            {"word": one.token, "where": one.where, "share": round(one.share, 2)} for one in naming.lifted_tokens
        ],
        "runs": [one.text for one in naming.ngrams],
        "spans": [_marked(span.text, span.marked) for span in naming.spans],
    }


def _marked(text: str, marks: Sequence[tuple[int, int]]) -> str:
    """Text with marks between « and »; guillemets of the text itself become plain quotation marks."""
    plain, parts, done = text.replace("«", '"').replace("»", '"'), [], 0
    for start, end in marks:
        parts += [plain[done:start], "«", plain[start:end], "»"]
        done = end
    return "".join(c if c == "\n" else visible(c) for c in "".join([*parts, plain[done:]]))


def _judge(namer: EndpointNamer, spans: Spans, evidence: Evidence, concept: int, name: str) -> _Judged:
    """Balanced accuracy over held-out firing and matched silent tokens; None under two answers of either kind."""
    places = evidence.places.get("held")
    right: dict[bool, list[bool]] = {True: [], False: []}
    outcomes = []
    for fired in (True, False) if places is not None else ():
        assert places is not None
        for at in np.flatnonzero((places.concept == concept) & (places.fired == fired))[:_N_JUDGED].tolist():
            text, start, end = spans.texts[places.span[at]], int(places.start[at]), int(places.end[at])
            low = max(0, start - _CONTEXT)
            shown = _marked(text[low : end + _CONTEXT], [(start - low, end - low)])
            reply = namer.fits(name, shown)
            outcomes.append(reply.outcome)
            if reply.outcome == "answer":
                right[fired].append(reply.value is fired)
    scored = min(len(right[True]), len(right[False])) >= 2
    score = float(np.mean([np.mean(right[True]), np.mean(right[False])])) if scored else None
    return _Judged(score, outcomes.count("abstained"), outcomes.count("error"))
