"""The pairs that carry a finding, for and against, with the firing tokens marked and the rows of the source file.

In:  one hypothesis as hypotheses.json holds it, pairs, features, and the disparity of every pair it was tested on.
Out: JSON-able examples: texts in pieces around the marks, every cut counted.
Refuses: to leave text out silently, and to trace a hypothesis of other features.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiltscope.behaviours import SAYS, rule
from tiltscope.errors import ProductError, UsageError
from tiltscope.features import SIDES, Features, SpanCodes
from tiltscope.hypotheses import read_disparities
from tiltscope.naming.words import merged
from tiltscope.pairs import Pair, Pairs

__all__ = ["LONGEST", "mark_text", "trace"]

LONGEST = 2400
"""Characters of a text shown at most."""

Mark = tuple[int, int, float]
"""Characters from, to, and how strongly they show the concept."""

_SIGNS = {"for": 1.0, "against": -1.0}
_AROUND = 240
_WORDING, _WORDINGS = 60, 8  # characters of a wording, and how many are told
_HEAD = 300


def trace(
    hypothesis: Mapping[str, Any],
    pairs: Pairs,
    features: Features,
    *,
    disparities: Mapping[str, float] | Path,
    n: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the pairs where a hypothesis is at stake: the strongest for it, the strongest against it, and random ones.

    disparities maps pair ids to the chosen minus rejected difference of the hypothesis (in its region only), or is the
    study's folder. A pair is at stake when its disparity is not 0; it is "for" when the sign is the finding's
    direction. Of equal ones those come first whose wording tells their side from the other (of what is counted by
    rule), then those with more of it (method, section 4). n examples of each kind; `seed` draws the random ones. Marks
    are [start, end, strength] in characters of the text shown, strength 0 to 1 of the concept's highest activation
    among the pairs shown; "n_cut_chars" counts what is left out. "wordings": what a rule marks, on either side.

    Raises:
        UsageError: n under 1.
        ProductError: no disparity for this hypothesis, or pairs that these features do not hold.
    """
    if n < 1:
        raise UsageError("at least one example is needed", found=f"n = {n}")
    values = read_disparities(disparities, str(hypothesis["id"])) if isinstance(disparities, Path) else disparities
    by_id = {pair.id: pair for pair in pairs.rows}
    known = by_id.keys() & set(features.pair_ids)
    unknown = [pair_id for pair_id in values if pair_id not in known]
    if unknown:
        raise ProductError(
            "this hypothesis speaks of pairs that are not in these features",
            found=f"{len(unknown)} unknown pair ids, the first is {unknown[0]}",
            hint="rerun: tiltscope contrast",
        )
    sign = 1.0 if hypothesis["direction"] == "more" else -1.0
    lean = {pair_id: sign * value for pair_id, value in values.items() if value}
    counted = hypothesis["concept"].get("rule")
    shows = _by_rule(counted, pairs.rows) if counted else _by_latents(hypothesis, features)
    drill = {key: sign * value for key, value in shows.drill.items()}
    sides = {side: [key for key, value in lean.items() if way * value > 0] for side, way in _SIGNS.items()}
    worded = _Worded.of(counted, sides, by_id, values)
    ranked = {side: _ranked(keys, _SIGNS[side], lean, drill, worded) for side, keys in sides.items()}
    picked = {**{side: keys[:n] for side, keys in ranked.items()}, "random": _drawn(lean, n, seed)}
    shown = _examples([by_id[key] for key in sorted(set().union(*picked.values()))], shows.marks, values)
    examples = {side: [shown[key] for key in ids] for side, ids in picked.items()}
    told = {**examples, "n_for": len(sides["for"]), "n_against": len(sides["against"])}
    return told | ({"wordings": worded.told} if worded.counts else {})


def _ranked(
    keys: Sequence[str], way: float, lean: Mapping[str, float], drill: Mapping[str, float], worded: _Worded
) -> list[str]:
    """Pair ids of one side, strongest first; ties by how telling the wording is, by the continuous disparity, by id."""
    return sorted(keys, key=lambda key: (-way * lean[key], -worded.typical(key, way), -way * drill[key], key))


@dataclass(frozen=True)
class _Worded:
    """How a behaviour is worded: in so many pairs for it and against it ({wording: counts}), and in every pair."""

    counts: Mapping[str, tuple[int, int]]
    of_pair: Mapping[str, frozenset[str]]

    @staticmethod
    def of(
        counted: str | None, sides: Mapping[str, Sequence[str]], by_id: Mapping[str, Pair], values: Mapping[str, float]
    ) -> _Worded:
        """What the rule marks in the answer that shows it; nothing of latents, and of words, worded in one way."""
        if not counted or counted.startswith(SAYS):
            return _Worded({}, {})
        of_pair = {}
        for key in (*sides["for"], *sides["against"]):
            text = by_id[key].chosen if values[key] > 0 else by_id[key].rejected
            said = (" ".join(text[start:stop].lower().split()) for start, stop in rule(counted).marks(text))
            of_pair[key] = frozenset(filter(None, said))
        n_for, n_against = (Counter(one for key in keys for one in of_pair[key]) for keys in sides.values())
        several = {one for one, n in (n_for + n_against).items() if n > 1}  # what one pair alone has says nothing
        return _Worded({one: (n_for[one], n_against[one]) for one in several}, of_pair)

    def typical(self, key: str, sign: float) -> float:
        """Of a pair's wordings the one that most tells its side from the other: in so many more pairs of its side."""
        known = [self.counts[one] for one in self.of_pair.get(key, ()) if one in self.counts]
        return max((sign * (n_for - n_against) for n_for, n_against in known), default=0.0)

    @property
    def told(self) -> list[dict[str, Any]]:
        """{text, n_for, n_against}: what most tells the sides apart comes first."""
        order = sorted(self.counts.items(), key=lambda one: (-abs(one[1][0] - one[1][1]), -sum(one[1]), one[0]))
        return [{"text": text[:_WORDING], "n_for": a, "n_against": b} for text, (a, b) in order[:_WORDINGS]]


@dataclass(frozen=True)
class _Shows:
    """How much more the chosen answer of each pair shows, on a scale without steps; and where a text shows it."""

    drill: Mapping[str, float]
    marks: Callable[[Pair, str], list[Mark]]


def _by_latents(hypothesis: Mapping[str, Any], features: Features) -> _Shows:
    """By freq on the chosen minus the rejected side, summed over latents; marks are tokens with their activation."""
    latents = [int(latent) for latent in hypothesis["concept"]["latents"]]
    sums = [np.asarray(span.freq[:, latents].sum(axis=1)).ravel() for span in (features.chosen, features.rejected)]
    drill = dict(zip(features.pair_ids, (sums[0] - sums[1]).round(6).tolist(), strict=True))

    def marks(pair: Pair, side: str) -> list[Mark]:
        span = features.span(pair.id, side)
        return _marks(span, _activations(span, latents))

    return _Shows(drill, marks)


def _by_rule(name: str, rows: Sequence[Pair]) -> _Shows:
    """By the share of characters that the rule marks, on the chosen minus the rejected side."""
    found = rule(name)

    def share(text: str) -> float:
        return sum(stop - start for start, stop in found.marks(text)) / max(len(text), 1)

    def marks(pair: Pair, side: str) -> list[Mark]:
        text = dict(zip(SIDES, (pair.prompt_text, pair.chosen, pair.rejected), strict=True))[side]
        return [(start, stop, 1.0) for start, stop in found.marks(text)]

    return _Shows({row.id: round(share(row.chosen) - share(row.rejected), 6) for row in rows}, marks)


def _drawn(lean: Mapping[str, float], n: int, seed: int) -> list[str]:
    """n pair ids in an order that depends on seed and id alone."""
    return sorted(lean, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())[:n]


def _activations(span: SpanCodes, latents: Sequence[int]) -> np.ndarray:
    """The concept's activation on every token of a span: the sum over its latents."""
    return np.asarray(span.codes[:, latents].sum(axis=1), np.float64).ravel()


def _examples(
    rows: Sequence[Pair], marks: Callable[[Pair, str], list[Mark]], disparity: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Pair id -> the pair as readers see it, with strengths on one scale."""
    each = {(pair.id, side): marks(pair, side) for pair in rows for side in SIDES}
    highest = max((strength for some in each.values() for *_, strength in some), default=0.0) or 1.0
    found = {}
    for pair in rows:
        shown: dict[str, Any] = {"pair_id": pair.id, "row": pair.row, "group": pair.group}
        for side, text in zip(SIDES, (pair.prompt_text, pair.chosen, pair.rejected), strict=True):
            scaled = [(start, end, strength / highest) for start, end, strength in each[pair.id, side]]
            shown[side] = mark_text(text, scaled)
        found[pair.id] = {**shown, "disparity": round(float(disparity[pair.id]), 6)}
    return found


def _marks(span: SpanCodes, strength: np.ndarray) -> list[Mark]:
    at = np.flatnonzero(strength > 0).tolist()
    return [(int(span.starts[token]), int(span.ends[token]), float(strength[token])) for token in at]


def mark_text(text: str, marks: Sequence[tuple[int, int, float]], *, longest: int = LONGEST) -> dict[str, Any]:
    """Return {"text", "marks", "n_cut_chars"}: at most about `longest` characters, pieces around the strongest marks.

    marks: (start, end, strength) in characters of `text`; touching ones are joined. Where text is left out, the shown
    text says "[… n characters left out …]", and marks point into the shown text.

    >>> mark_text("a bold b", [(2, 6, 0.5)])
    {'text': 'a bold b', 'marks': [[2, 6, 0.5]], 'n_cut_chars': 0}
    """
    joined = merged(marks, text)
    pieces = _pieces(len(text), joined, longest)
    parts: list[str] = []
    found: list[list[int | float]] = []
    length = done = 0
    for start, end in [*pieces, (len(text), len(text))]:
        gap = f" [… {start - done:,} characters left out …] " if start > done else ""
        shift = length + len(gap) - start
        inside = [(max(s, start), min(e, end), v) for s, e, v in joined if s < end and e > start]
        found += [[s + shift, e + shift, round(v, 3)] for s, e, v in inside]
        parts += [gap, text[start:end]]
        length += len(gap) + end - start
        done = end
    n_shown = sum(end - start for start, end in pieces)
    return {"text": "".join(parts), "marks": found, "n_cut_chars": len(text) - n_shown}


def _pieces(length: int, marks: Sequence[tuple[int, int, float]], longest: int) -> list[tuple[int, int]]:
    """The ranges of a text to show: all of a short one; else its head and the surroundings of the strongest marks."""
    if length <= longest:
        return [(0, length)]
    ranges = [(0, _HEAD if marks else longest)]
    for start, end, _ in sorted(marks, key=lambda mark: (-mark[2], mark[0])):
        near = (max(0, start - _AROUND), min(length, min(end, start + _AROUND) + _AROUND))
        together = _united([*ranges, near])
        if sum(stop - first for first, stop in together) > longest:
            break
        ranges = together
    return _united(ranges)


def _united(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, overlapping or nearly touching ones joined."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1] + 40:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
