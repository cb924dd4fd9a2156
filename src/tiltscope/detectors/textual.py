"""Detectors that need the text alone: rules of the library, regular expressions, a function of the user's.

In:  a `DetectorSpec` of kind rule, regex or callable, and texts.
Out: a score per text; the marked spans (rule, regex).
Refuses: a function that cannot be imported, that fails on a text or returns no finite number: with the count and the
first failure. A regular expression is the user's own: one that backtracks without end is not stopped.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tiltscope.behaviours import rule
from tiltscope.detectors.spans import merge_spans, on_one_line, whole_sentences, whole_words
from tiltscope.errors import UsageError
from tiltscope.plan import DetectorSpec
from tiltscope.recipe import Spans

__all__ = ["grown", "text_marks", "text_scores"]

# What a function of somebody else's may raise over a text; a failed assertion or an interrupt goes through as it is.
_FAILURES = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, SystemExit, TypeError, ValueError)


def text_marks(spec: DetectorSpec, text: str) -> Spans:
    """Return the spans of a text that a rule or a regular expression matches (empty matches are left out).

    In a regular expression ^ and $ match at every line, as in the library's rules. Where the detector names lines, the
    spans on others are left out, before what is left grows over words or sentences.
    """
    found: Sequence[tuple[int, int]]
    if spec.kind == "rule":
        found = rule(spec.source).marks(text)
    else:
        found = [match.span() for match in re.finditer(spec.source, text, re.MULTILINE)]
    spans = merge_spans(found)
    for word, other in spec.lines:
        beside = on_one_line(text, spans, text_marks(other, text) if spans else ())
        spans = tuple(span for span, held in zip(spans, beside, strict=True) if held == (word == "with"))
    return grown(spec, text, spans)


def grown(spec: DetectorSpec, text: str, spans: Spans) -> Spans:
    """Return the spans grown over words or sentences, where the detector asks for it."""
    if spec.sentences:
        return whole_sentences(text, spans)
    return whole_words(text, spans) if spec.words else spans


def text_scores(spec: DetectorSpec, texts: Sequence[str], *, where: str = "") -> np.ndarray:
    """Return a score per text, (n,) float64.

    rule, regex: the share of characters marked, 0 to 1, or with `by: present` 1 where anything is; callable: whatever
    the function returns.

    Raises:
        UsageError: the function cannot be imported, or fails on a text.
    """
    if spec.kind == "callable":
        return _called(spec.source, texts, where)
    if spec.by == "present":
        return np.array([bool(text_marks(spec, text)) for text in texts], np.float64)
    marked = [sum(end - start for start, end in text_marks(spec, text)) for text in texts]
    return np.array([n / max(len(text), 1) for n, text in zip(marked, texts, strict=True)], np.float64)


def _called(name: str, texts: Sequence[str], where: str) -> np.ndarray:
    function = _imported(name, where)
    scores = np.zeros(len(texts))
    failures: list[str] = []
    for number, text in enumerate(texts):
        try:
            scores[number] = _number(function(text))
        except _FAILURES as error:
            scores[number] = math.nan
            failures.append(f"text {number + 1} ({text[:60]!r}): {type(error).__name__}: {error}"[:300])
    if failures:
        found = f"{len(failures)} of {len(texts)} texts; the first: {failures[0]}"
        raise UsageError(f"{name} fails on some texts", where=where, found=found, hint="every response needs a score")
    return scores


def _number(value: Any) -> float:
    if isinstance(value, str | bytes) or value is None:
        raise TypeError(f"a number was wanted, not {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a finite number was wanted, not {number}")
    return number


def _imported(name: str, where: str) -> Callable[[str], Any]:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        hint = "is the package installed, or its folder on PYTHONPATH?"
        raise UsageError(f"{name} cannot be imported", where=where, found=str(error), hint=hint) from error
    if not callable(function):
        raise UsageError(f"{name} is not a function", where=where, found=type(function).__name__)
    return function  # type: ignore[no-any-return]
