"""Which entry of the behaviour library a concept follows, on texts that did not choose the entry.

In:  `Spans`, `Evidence`, the library's rules.
Out: `Measured` rules and, per concept, the nearest `Entry` with its held-out correlation.
Refuses: labels, and text beyond what the model read (max_length).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiltscope.behaviours import RULES, Rule, rule
from tiltscope.naming.evidence import Evidence, Places
from tiltscope.naming.spans import Spans

__all__ = ["MEASURES", "Entry", "Measured", "measure_rules", "nearest_entries"]

MEASURES = ("share of characters", "times per 1,000 characters", "present")
_LISTS = Rule(
    "list",
    "bulleted or numbered list",
    "share",
    "style",
    lambda text: iter(sorted({*rule("bulleted_list").marks(text), *rule("numbered_list").marks(text)})),
)
NAMING_RULES: tuple[Rule, ...] = (*RULES, _LISTS)
"""The library and one rule of naming's own: many latents fire on the marks of both kinds of list."""

_MOST = 4000
_OWN_RULE_MALUS = 0.05
_CANDIDATES = 4
_PLACES = 40
_NEAR = 1


@dataclass(frozen=True)
class Measured:
    """values[measure] (n_sampled, n_rules) of the sampled texts `span` (numbers in `Spans`); at most 4,000, by hash."""

    rules: tuple[Rule, ...]
    span: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Entry:
    """The nearest rule: r is Pearson's on the n held-out texts.

    overlap is the share of firing tokens in or beside the rule's marks minus that of matched tokens.
    """

    rule: int
    measure: int
    r: float
    n: int
    overlap: float


def measure_rules(spans: Spans, evidence: Evidence, rules: Sequence[Rule] = NAMING_RULES) -> Measured:
    """Mark every rule on at most 4,000 distinct texts (the first in hash order)."""
    read = np.flatnonzero(evidence.text_ends > 0)[:_MOST]
    values = np.zeros((len(MEASURES), len(read), len(rules)))
    for row, place in enumerate(read.tolist()):
        end = int(evidence.text_ends[place])
        text = spans.texts[place][:end]
        for column, one in enumerate(rules):
            marks = one.marks(text)
            if marks:
                share = sum(stop - start for start, stop in marks) / end
                values[:, row, column] = share, 1000 * len(marks) / end, 1.0
    return Measured(tuple(rules), read, values)


def nearest_entries(spans: Spans, evidence: Evidence, measured: Measured) -> list[Entry | None]:
    """Return each concept's nearest entry: chosen on explore texts by correlation and overlap, r from the others."""
    strength = spans.strength[measured.span].astype(np.float64)
    half = spans.explore[measured.span]
    chosen = np.stack([_correlation(strength[half], values[half]) for values in measured.values])
    held = np.stack([_correlation(strength[~half], values[~half]) for values in measured.values])
    best = chosen.max(axis=0)
    entries: list[Entry | None] = []
    for concept in range(strength.shape[1]):
        candidates = [
            r for r in np.argsort(-best[concept], kind="stable")[:_CANDIDATES].tolist() if best[concept, r] > 0.2
        ]
        scored = []
        for place in candidates:
            overlap = _overlap(spans, evidence, concept, measured.rules[place])
            malus = _OWN_RULE_MALUS if measured.rules[place] is _LISTS else 0.0
            scored.append((float(best[concept, place]) + 0.5 * overlap - malus, -place, overlap))
        if not scored or not (~half).any():
            entries.append(None)
            continue
        _, negative, overlap = max(scored)
        measure = int(chosen[:, concept, -negative].argmax())
        r = float(held[measure, concept, -negative])
        entries.append(Entry(-negative, measure, r, int((~half).sum()), overlap))
    return entries


def _correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pearson's r of every column of `left` with every column of `right`; 0 where one is constant."""
    if not len(left):
        return np.zeros((left.shape[1], right.shape[1]))
    scaled = []
    for matrix in (left, right):
        centred = matrix - matrix.mean(axis=0)
        norm = np.sqrt((centred**2).sum(axis=0))
        scaled.append(np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 1e-12))
    return np.asarray(scaled[0].T @ scaled[1])


def _overlap(spans: Spans, evidence: Evidence, concept: int, entry: Rule) -> float:
    """Share of top firing tokens inside or touching the rule's marks, minus that of matched tokens."""
    places = evidence.places.get("top")
    if places is None:
        return 0.0
    of_concept = places.take(places.concept == concept)
    rates = []
    for fired in (True, False):
        some = of_concept.take(np.flatnonzero(of_concept.fired == fired)[:_PLACES])
        rates.append(_inside(spans, evidence, some, entry))
    return rates[0] - rates[1]


def _inside(spans: Spans, evidence: Evidence, places: Places, entry: Rule) -> float:
    hits = 0
    for span, start, end in zip(places.span.tolist(), places.start.tolist(), places.end.tolist(), strict=True):
        marks = entry.marks(spans.texts[span][: int(evidence.text_ends[span])])
        hits += any(start < stop + _NEAR and end > first - _NEAR for first, stop in marks)
    return hits / max(1, len(places.span))
