"""A plan's detector meets the data: every response gets a score.

In:  `DetectorSpec`, `Inputs`.
Out: `Detection` with its `Quality`; spans where they are asked for.
Refuses: latents that the features do not have, features of other pairs, vectors that were not handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tiltscope.behaviours import rule
from tiltscope.detectors.fitted import (
    Probe,
    TokenVectors,
    fit_direction,
    fit_probe,
    mean_vector,
    overlaps,
    response_score,
)
from tiltscope.detectors.quality import first_half, measure_halves, measure_quality
from tiltscope.detectors.spans import latent_spans, merge_spans, n_characters, token_spans
from tiltscope.detectors.textual import grown, text_marks, text_scores
from tiltscope.detectors.types import Detection, Quality
from tiltscope.errors import UsageError
from tiltscope.features import Features
from tiltscope.pairs import Pair, Pairs
from tiltscope.plan import DetectorSpec
from tiltscope.recipe import SIDES, Spans

__all__ = ["Inputs", "detect", "whole_direction"]

Vectors = Callable[[str, str], TokenVectors] | Mapping[tuple[str, str], TokenVectors]
Marks = Sequence[Mapping[str, Spans]]

_MOST_ROWS = 20_000


@dataclass(frozen=True)
class Inputs:
    """What detectors read.

    features: for concept and latent. vectors: (pair id, side) -> `TokenVectors`, for direction and probe; examples: the
    vectors of the plan's `positive` and `negative` texts, in their order. namesake: a library rule that a concept is
    checked against where the plan names no check. seed: of the halves, and of which tokens are learned from.
    """

    pairs: Pairs
    features: Features | None = None
    vectors: Vectors | None = None
    examples: tuple[Sequence[TokenVectors], Sequence[TokenVectors]] | None = None
    namesake: str | None = None
    seed: int = 0


def detect(spec: DetectorSpec, inputs: Inputs, *, mark: bool = False, where: str = "") -> Detection:
    """Score every response of the pairs and, with `mark`, say which characters show the concept.

    concept, latent: the share of tokens each latent fires on, summed, for the pairs that the features hold; the others
    score all pairs. direction: the highest projection of a response's tokens; probe: the highest log-odds, or at level
    sequence that of the mean vector. What is learned from labels is cross-fitted: a response is scored by what the
    other half of the groups taught.

    where: file:line of the decision, for errors.

    Raises:
        UsageError: the inputs lack what this kind needs, or do not match; a callable fails; nothing to learn from.
    """
    if mark and not spec.marks_tokens:
        raise UsageError("this detector scores whole responses and marks nothing", where=where, found=spec.shown)
    by = {"concept": _by_latents, "latent": _by_latents, "direction": _by_vectors, "probe": _by_vectors}
    try:
        return by.get(spec.kind, _by_text)(spec, inputs, mark)
    except UsageError as error:
        raise UsageError(error.what, where=where or error.where, found=error.found, hint=error.hint) from error


def whole_direction(spec: DetectorSpec, inputs: Inputs, *, where: str = "") -> np.ndarray:
    """Return the difference of means that all examples teach, (width,) float64 at unit length: a vector to steer with.

    spec: a direction or a probe (its labels or its texts), or a rule or a regex (its own matches are the labels).

    Raises:
        UsageError: another kind; the vectors were not handed in; there are no examples of one kind.
    """
    if spec.kind not in ("direction", "probe", "rule", "regex"):
        raise UsageError("this kind of detector teaches no direction", where=where, found=spec.shown)
    direction = replace(spec, kind="direction")
    try:
        if spec.positive:
            return _from_texts(direction, inputs)[0].weights
        rows = inputs.pairs.rows
        tokens = _Tokens(inputs.vectors, [(row.id, side) for side in SIDES for row in rows])
        labels = spec.labels or spec
        held = _labelled(replace(direction, labels=labels), tokens, rows, np.ones(2 * len(rows), bool), inputs.seed)
        return _fit(direction, held[True, True], held[True, False]).weights
    except UsageError as error:
        raise UsageError(error.what, where=where or error.where, found=error.found, hint=error.hint) from error


def _by_text(spec: DetectorSpec, inputs: Inputs, mark: bool) -> Detection:
    rows = inputs.pairs.rows
    scores = text_scores(spec, _texts(rows))
    quality = _checked(scores, rows, spec.check, inputs.seed)
    if spec.kind != "callable" and (quality is None or replace(spec, check=None) == spec.check):
        quality = _own_definition(spec, int((scores > 0).sum()), len(scores))
    marks = [{row.id: text_marks(spec, getattr(row, side)) for row in rows} for side in SIDES] if mark else None
    return _detection(rows, scores, marks, _with_marks(quality, spec.check, rows, marks), spec.shown)


def _own_definition(spec: DetectorSpec, n_yes: int, n: int) -> Quality:
    """A rule against itself: right by definition, where there are answers of both kinds to tell apart."""
    said = f"{spec.shown} is its own definition"
    if 0 < n_yes < n:
        return Quality(1.0, 1.0, 0.0, n_yes, n - n_yes, said, False)
    why = f"not measurable, {'all' if n_yes else 'none'} of {n} answers show it"
    return Quality(None, None, None, n_yes, n - n_yes, f"{said}; {why}", False)


def _by_latents(spec: DetectorSpec, inputs: Inputs, mark: bool) -> Detection:
    features = inputs.features
    if features is None:
        hint = "read the pairs first: tiltscope read"
        raise UsageError("a detector on latents needs features", found=spec.shown, hint=hint)
    beyond = [latent for latent in spec.latents if latent >= features.n_latents]
    if beyond:
        found = f"latent {beyond[0]}; this scope has {features.n_latents}, numbered from 0"
        raise UsageError("there is no such latent", found=found, hint="was the plan made from this scope?")
    rows = _rows_of(inputs.pairs, features)
    scores = np.concatenate(
        [
            np.asarray(span.freq[:, list(spec.latents)].sum(axis=1), np.float64).ravel()
            for span in (features.chosen, features.rejected)
        ]
    )
    check = spec.check or (DetectorSpec("rule", rule(inputs.namesake).id) if inputs.namesake else None)
    marks: Marks | None = None
    if mark:
        marks = [latent_spans(features, side, spec.latents, spec.threshold or 0.0) for side in SIDES]
        marks = _grown(spec, rows, marks)
    quality = _checked(scores, rows, check, inputs.seed)
    return _detection(rows, scores, marks, _with_marks(quality, check, rows, marks), spec.shown)


def _by_vectors(spec: DetectorSpec, inputs: Inputs, mark: bool) -> Detection:
    rows = inputs.pairs.rows
    tokens = _Tokens(inputs.vectors, [(row.id, side) for side in SIDES for row in rows])
    quality = None
    if spec.labels is not None:
        in_first = first_half(_groups(rows), inputs.seed)
        examples = _labelled(spec, tokens, rows, in_first, inputs.seed)
        halves = {half: _fit(spec, examples[half, True], examples[half, False]) for half in (True, False)}
        probes = [halves[not first] for first in in_first.tolist()]
    else:
        probe, quality = _from_texts(spec, inputs)
        probes = [probe] * len(tokens.keys)
    level = spec.level if spec.kind == "probe" else "token"
    scores = np.array([response_score(p, one, level=level) for p, one in zip(probes, tokens, strict=True)], np.float64)
    check = spec.check or spec.labels
    quality = _checked(scores, rows, check, inputs.seed) or quality
    marks = _token_marks(spec, quality, rows, zip(probes, tokens, strict=True)) if mark else None
    said = f"{spec.kind} at level {spec.level}"
    return _detection(rows, scores, marks, _with_marks(quality, check, rows, marks), said)


def _texts(rows: Sequence[Pair]) -> list[str]:
    """All chosen responses, then all rejected ones: (2n,), the order of every flat array here."""
    return [getattr(row, side) for side in SIDES for row in rows]


def _groups(rows: Sequence[Pair]) -> list[str]:
    return [row.group for row in rows] * 2


def _detection(
    rows: Sequence[Pair], scores: np.ndarray, marks: Marks | None, quality: Quality | None, said: str
) -> Detection:
    n, ids = len(rows), tuple(row.id for row in rows)
    if marks is None:
        return Detection(ids, scores[:n], scores[n:], quality=quality, said=said)
    chosen, rejected = ({one: spans for one, spans in side.items() if spans} for side in marks)
    return Detection(ids, scores[:n], scores[n:], chosen, rejected, quality, said)


def _checked(scores: np.ndarray, rows: Sequence[Pair], check: DetectorSpec | None, seed: int) -> Quality | None:
    """Quality against a rule or a pattern: a response is positive where it matches anywhere."""
    if check is None:
        return None
    labels = _labels(check, rows)
    return measure_quality(scores, labels, _groups(rows), against=f"against the {check.shown}", seed=seed)


def _with_marks(
    quality: Quality | None, check: DetectorSpec | None, rows: Sequence[Pair], marks: Marks | None
) -> Quality | None:
    """Add how well the marked characters are those that the check marks."""
    if quality is None or check is None or marks is None:
        return quality
    n_marked = n_wanted = n_both = 0
    for side, held in zip(SIDES, marks, strict=True):
        for row in rows:
            said, wanted = held.get(row.id, ()), text_marks(check, getattr(row, side))
            n_marked += n_characters(said)
            n_wanted += n_characters(wanted)
            n_both += n_characters(said) + n_characters(wanted) - n_characters(merge_spans([*said, *wanted]))
    total = n_marked + n_wanted
    return replace(quality, marks_f1=2 * n_both / total if total else 0.0)


def _labels(check: DetectorSpec, rows: Sequence[Pair]) -> np.ndarray:
    return np.array([bool(text_marks(check, text)) for text in _texts(rows)], bool)


def _rows_of(pairs: Pairs, features: Features) -> list[Pair]:
    """The pairs that the features hold, in their order."""
    by_id = {row.id: row for row in pairs.rows}
    lacking = [one for one in features.pair_ids if one not in by_id]
    if lacking:
        found = f"{len(lacking)} of {len(features.pair_ids)} pairs of the features, the first is {lacking[0]}"
        hint = "rerun: tiltscope read"
        raise UsageError("these features were made from other pairs", found=found, hint=hint)
    return [by_id[one] for one in features.pair_ids]


def _grown(spec: DetectorSpec, rows: Sequence[Pair], marks: Marks) -> Marks:
    texts = [{row.id: getattr(row, side) for row in rows} for side in SIDES]
    return [
        {one: grown(spec, text[one], spans) for one, spans in held.items()}
        for text, held in zip(texts, marks, strict=True)
    ]


@dataclass(frozen=True)
class _Tokens:
    """The vectors of all responses, asked for one at a time: together they need not fit into memory."""

    vectors: Vectors | None
    keys: list[tuple[str, str]]

    def __iter__(self) -> Iterator[TokenVectors]:
        vectors = self.vectors
        if vectors is None:
            raise UsageError("a direction or a probe needs the vectors of the responses' tokens")
        width = None
        for key in self.keys:
            try:
                held = vectors(*key) if callable(vectors) else vectors[key]
            except KeyError:
                raise UsageError("a response has no vectors", found=" ".join(key)) from None
            if not len(held.vectors):
                raise UsageError("a response has not one token with a vector", found=" ".join(key))
            width = width or held.vectors.shape[1]
            if held.vectors.shape[1] != width:
                raise UsageError("vectors differ in width", found=f"{width} and {held.vectors.shape[1]}: {key[0]}")
            yield held


def _labelled(
    spec: DetectorSpec, tokens: _Tokens, rows: Sequence[Pair], in_first: np.ndarray, seed: int
) -> dict[tuple[bool, bool], list[np.ndarray]]:
    """Return (in the first half, shows the concept) -> vectors: in_first is (2n,) bool.

    The labels of the plan say which responses, or which of their tokens, show the concept.
    """
    assert spec.labels is not None
    examples: dict[tuple[bool, bool], list[np.ndarray]] = {(a, b): [] for a in (True, False) for b in (True, False)}
    quota = max(1, 2 * _MOST_ROWS // max(len(tokens.keys), 1))
    rng = np.random.default_rng(seed)
    for held, text, first in zip(tokens, _texts(rows), in_first.tolist(), strict=True):
        spans = text_marks(spec.labels, text)
        if spec.level == "sequence":
            examples[first, bool(spans)].append(mean_vector(held))
            continue
        marked = overlaps(held, spans)
        for kind in (True, False):
            examples[first, kind].append(held.vectors[_drawn(np.flatnonzero(marked == kind), quota, rng)])
    return examples


def _drawn(places: np.ndarray, quota: int, rng: np.random.Generator) -> np.ndarray:
    return places if len(places) <= quota else np.sort(rng.choice(places, quota, replace=False))


def _fit(spec: DetectorSpec, positive: Sequence[np.ndarray], negative: Sequence[np.ndarray]) -> Probe:
    width = next((part.shape[1] for part in (*positive, *negative)), 0)
    yes, no = (np.concatenate([*parts, np.zeros((0, width))]) for parts in (positive, negative))
    return fit_probe(yes, no) if spec.kind == "probe" else Probe(fit_direction(yes, no))


def _from_texts(spec: DetectorSpec, inputs: Inputs) -> tuple[Probe, Quality]:
    """Fit on all texts of the plan; the quality is that of fits on every other text, on the texts between."""
    held = inputs.examples
    if held is None or [len(one) for one in held] != [len(spec.positive), len(spec.negative)]:
        raise UsageError("the vectors of the positive and negative texts were not handed in")
    ones = [*held[0], *held[1]]
    if not all(len(one.vectors) for one in ones):
        raise UsageError("a text of the plan has not one token with a vector")
    level = spec.level if spec.kind == "probe" else "token"
    labels = np.repeat([True, False], [len(held[0]), len(held[1])])
    even = np.concatenate([np.arange(len(side)) % 2 == 0 for side in held])

    def fit(wanted: np.ndarray) -> Probe:
        parts = [
            [_rows(spec, one) for one, use in zip(ones, wanted & kind, strict=True) if use]
            for kind in (labels, ~labels)
        ]
        return _fit(spec, *parts)

    probes = {half: fit(even != half) for half in (False, True)}
    scores = np.array([response_score(probes[bool(h)], one, level=level) for h, one in zip(even, ones, strict=True)])
    against = "against the texts of the plan"
    return fit(np.ones(len(ones), bool)), measure_halves(scores, labels, even, against=against)


def _rows(spec: DetectorSpec, tokens: TokenVectors) -> np.ndarray:
    if spec.level == "token":
        return tokens.vectors
    return mean_vector(tokens)


def _token_marks(
    spec: DetectorSpec,
    quality: Quality | None,
    rows: Sequence[Pair],
    scored: Iterable[tuple[Probe, TokenVectors]],
) -> Marks:
    threshold = spec.threshold if spec.threshold is not None else quality.threshold if quality else None
    if threshold is None:
        hint = "give a threshold, or a check: {rule: …} to measure one"
        raise UsageError("nothing says above which score a token is marked", found=spec.kind, hint=hint)
    spans = [token_spans(held.starts, held.ends, probe.scores(held.vectors) > threshold) for probe, held in scored]
    n = len(rows)
    marks: Marks = [
        {row.id: one for row, one in zip(rows, side, strict=True) if one} for side in (spans[:n], spans[n:])
    ]
    return _grown(spec, rows, marks)
