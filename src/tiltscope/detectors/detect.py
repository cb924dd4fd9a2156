"""A plan's detector meets the data: every response gets a score.

In:  `DetectorSpec`, `Inputs`.
Out: `Detection` with its `Quality`; spans where they are asked for.
Refuses: latents that the features do not have, features of other pairs, vectors that were not handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from tiltscope.detectors.spans import latent_spans, token_spans, whole_words
from tiltscope.detectors.textual import text_marks, text_scores
from tiltscope.detectors.types import Detection, Quality
from tiltscope.errors import UsageError
from tiltscope.features import Features
from tiltscope.pairs import Pair, Pairs
from tiltscope.plan import DetectorSpec
from tiltscope.recipe import SIDES, Spans

__all__ = ["Inputs", "detect"]

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
    if spec.kind in ("concept", "latent"):
        return _by_latents(spec, inputs, mark, where)
    if spec.kind in ("direction", "probe"):
        return _by_vectors(spec, inputs, mark, where)
    return _by_text(spec, inputs, mark, where)


def _by_text(spec: DetectorSpec, inputs: Inputs, mark: bool, where: str) -> Detection:
    rows = inputs.pairs.rows
    scores = text_scores(spec, _texts(rows), where=where)
    quality = _checked(scores, rows, spec.check, inputs.seed)
    if spec.kind != "callable" and (quality is None or replace(spec, check=None) == spec.check):
        n_yes = int((scores > 0).sum())
        quality = Quality(1.0, 1.0, 0.0, n_yes, len(scores) - n_yes, f"{spec.shown} is its own definition", False)
    marks = [{row.id: text_marks(spec, getattr(row, side)) for row in rows} for side in SIDES] if mark else None
    return _detection(rows, scores, marks, quality, spec.shown)


def _by_latents(spec: DetectorSpec, inputs: Inputs, mark: bool, where: str) -> Detection:
    features = inputs.features
    if features is None:
        hint = "read the pairs first: tiltscope read"
        raise UsageError("a detector on latents needs features", where=where, found=spec.shown, hint=hint)
    beyond = [latent for latent in spec.latents if latent >= features.n_latents]
    if beyond:
        found = f"latent {beyond[0]}; this scope has {features.n_latents}, numbered from 0"
        raise UsageError("there is no such latent", where=where, found=found, hint="was the plan made from this scope?")
    rows = _rows_of(inputs.pairs, features, where)
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
        marks = _worded(rows, marks) if spec.words else marks
    return _detection(rows, scores, marks, _checked(scores, rows, check, inputs.seed), spec.shown)


def _by_vectors(spec: DetectorSpec, inputs: Inputs, mark: bool, where: str) -> Detection:
    rows = inputs.pairs.rows
    tokens = _tokens(inputs, rows, where)
    if spec.labels is not None:
        in_first = first_half(_groups(rows), inputs.seed)
        probes = [_learned(spec, tokens, rows, in_first == half, inputs.seed) for half in (False, True)]
        mine = [probes[int(first)] for first in ~in_first]
        quality = None
    else:
        probe, quality = _from_texts(spec, inputs, where)
        mine = [probe] * len(tokens)
    level = spec.level if spec.kind == "probe" else "token"
    scores = np.array([response_score(p, held, level=level) for p, held in zip(mine, tokens, strict=True)], np.float64)
    quality = _checked(scores, rows, spec.check or spec.labels, inputs.seed) or quality
    marks = _token_marks(spec, quality, rows, list(zip(mine, tokens, strict=True)), where) if mark else None
    return _detection(rows, scores, marks, quality, f"{spec.kind} at level {spec.level}")


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


def _labels(check: DetectorSpec, rows: Sequence[Pair]) -> np.ndarray:
    return np.array([bool(text_marks(check, text)) for text in _texts(rows)], bool)


def _rows_of(pairs: Pairs, features: Features, where: str) -> list[Pair]:
    """The pairs that the features hold, in their order."""
    by_id = {row.id: row for row in pairs.rows}
    lacking = [one for one in features.pair_ids if one not in by_id]
    if lacking:
        found = f"{len(lacking)} of {len(features.pair_ids)} pairs of the features, the first is {lacking[0]}"
        hint = "rerun: tiltscope read"
        raise UsageError("these features were made from other pairs", where=where, found=found, hint=hint)
    return [by_id[one] for one in features.pair_ids]


def _worded(rows: Sequence[Pair], marks: Marks) -> Marks:
    texts = [{row.id: getattr(row, side) for row in rows} for side in SIDES]
    return [
        {one: whole_words(text[one], spans) for one, spans in held.items()}
        for text, held in zip(texts, marks, strict=True)
    ]


def _tokens(inputs: Inputs, rows: Sequence[Pair], where: str) -> list[TokenVectors]:
    vectors = inputs.vectors
    if vectors is None:
        raise UsageError("a direction or a probe needs the vectors of the responses' tokens", where=where)
    keys = [(row.id, side) for side in SIDES for row in rows]
    try:
        return [vectors(*key) if callable(vectors) else vectors[key] for key in keys]
    except KeyError as error:
        raise UsageError("a response has no vectors", where=where, found=str(error.args[0])) from error


def _learned(
    spec: DetectorSpec, tokens: Sequence[TokenVectors], rows: Sequence[Pair], wanted: np.ndarray, seed: int
) -> Probe:
    """Fit on the wanted responses, (2n,) bool, as the labels of the plan say which show the concept, and where."""
    assert spec.labels is not None
    examples: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    quota = max(1, _MOST_ROWS // max(int(wanted.sum()), 1))
    rng = np.random.default_rng(seed)
    for held, text, use in zip(tokens, _texts(rows), wanted, strict=True):
        if not use or not len(held.vectors):
            continue
        spans = text_marks(spec.labels, text)
        if spec.level == "sequence":
            examples[0 if spans else 1].append(mean_vector(held))
            continue
        marked = overlaps(held, spans)
        for kind, own in enumerate((marked, ~marked)):
            examples[kind].append(held.vectors[_drawn(np.flatnonzero(own), quota, rng)])
    return _fit(spec, *examples)


def _drawn(places: np.ndarray, quota: int, rng: np.random.Generator) -> np.ndarray:
    return places if len(places) <= quota else np.sort(rng.choice(places, quota, replace=False))


def _fit(spec: DetectorSpec, positive: Sequence[np.ndarray], negative: Sequence[np.ndarray]) -> Probe:
    width = next((part.shape[1] for part in (*positive, *negative)), 0)
    yes, no = (np.concatenate([*parts, np.zeros((0, width))]) for parts in (positive, negative))
    return fit_probe(yes, no) if spec.kind == "probe" else Probe(fit_direction(yes, no))


def _from_texts(spec: DetectorSpec, inputs: Inputs, where: str) -> tuple[Probe, Quality]:
    """Fit on all texts of the plan; the quality is that of fits on every other text, on the texts between."""
    held = inputs.examples
    if held is None or [len(one) for one in held] != [len(spec.positive), len(spec.negative)]:
        raise UsageError("the vectors of the positive and negative texts were not handed in", where=where)
    level = spec.level if spec.kind == "probe" else "token"
    ones = [*held[0], *held[1]]
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
    scored: Sequence[tuple[Probe, TokenVectors]],
    where: str,
) -> Marks:
    threshold = spec.threshold if spec.threshold is not None else quality.threshold if quality else None
    if threshold is None:
        hint = "give a threshold, or a check: {rule: …} to measure one"
        raise UsageError("nothing says above which score a token is marked", where=where, found=spec.kind, hint=hint)
    spans = [token_spans(held.starts, held.ends, probe.scores(held.vectors) > threshold) for probe, held in scored]
    n = len(rows)
    marks: Marks = [
        {row.id: one for row, one in zip(rows, side, strict=True) if one} for side in (spans[:n], spans[n:])
    ]
    return _worded(rows, marks) if spec.words else marks
