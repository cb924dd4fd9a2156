"""What a plan says of the detector that marks a concept.

In:  the `concept:` and `detector:` of a decision as they were written.
Out: `DetectorSpec`, checked: the rule is in the library, the regular expression compiles, nothing needed is missing.
Refuses: to import a callable (that is done when it is used) and to judge how good a detector is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from tiltscope.behaviours import OFTEN, RULES, SAYS, rule
from tiltscope.errors import UsageError
from tiltscope.written import Written

__all__ = ["KINDS", "DetectorSpec", "read_spec"]

Kind = Literal["concept", "latent", "direction", "probe", "rule", "regex", "callable"]
KINDS: tuple[Kind, ...] = ("concept", "latent", "direction", "probe", "rule", "regex", "callable")

_FITTED = ("positive", "negative", "labels", "layer", "level", "words", "sentences", "threshold", "check")
_LINES = ("on_lines_with", "on_lines_without")
_KEYS: dict[str, tuple[str, ...]] = {
    "concept": ("id", "latents", "name", "words", "sentences", "threshold", "check"),
    "latent": ("latent", "words", "sentences", "threshold", "check"),
    "direction": _FITTED,
    "probe": _FITTED,
    "rule": ("rule", "by", *_LINES, "words", "sentences", "check"),
    "regex": ("pattern", "by", *_LINES, "words", "sentences", "check"),
    "callable": ("function", "check"),
}


@dataclass(frozen=True)
class DetectorSpec:
    """What marks a concept, as the plan says it; `source` and `latents` say which, the rest how."""

    kind: Kind
    source: str = ""
    """rule: the library id; regex: the pattern; callable: "package.module:function"."""
    latents: tuple[int, ...] = ()
    """concept, latent: latents of the study's scope."""
    by: Literal["share", "present"] = "share"
    """rule, regex: the share of characters marked (0 to 1), or whether anything is (0 or 1)."""
    level: Literal["token", "sequence"] = "token"
    """direction, probe: fitted on single tokens, or on the mean of a response."""
    layer: int | None = None
    """direction, probe: the layer whose vectors are used; None leaves it to the study's scope."""
    on_lines_with: DetectorSpec | None = None
    """rule, regex: what stands on a line on which this rule or regex matches, too, and nothing else: a child in its
    parent."""
    on_lines_without: DetectorSpec | None = None
    """rule, regex: what stands on a line on which this rule or regex does not match: a parent without its child."""
    words: bool = False
    """Whole words are marked where any token of them is."""
    sentences: bool = False
    """Whole sentences are."""
    threshold: float | None = None
    """A token above it is marked; None: above 0 (concept, latent, probe) or the threshold that was measured."""
    positive: tuple[str, ...] = ()
    """direction, probe: texts that show the concept."""
    negative: tuple[str, ...] = ()
    """direction, probe: texts that do not."""
    labels: DetectorSpec | None = None
    """direction, probe: the rule or regex that says which responses show the concept."""
    check: DetectorSpec | None = None
    """The rule or regex that the detector is measured against."""

    @property
    def marks_tokens(self) -> bool:
        """Whether it can say which characters of a text show the concept."""
        return self.kind != "callable" and not (self.kind == "probe" and self.level == "sequence")

    @property
    def bare(self) -> DetectorSpec:
        """The detector without how it marks and is checked: two that are equal here are one and the same."""
        kind: Kind = "concept" if self.kind == "latent" else self.kind
        latents = tuple(sorted(self.latents))
        return replace(self, kind=kind, latents=latents, words=False, sentences=False, threshold=None, check=None)

    @property
    def shown(self) -> str:
        """The detector in few words."""
        if self.latents:
            numbers = ", ".join(str(latent) for latent in self.latents[:6])
            return f"{self.kind} of latents {numbers}{' …' if len(self.latents) > 6 else ''}"
        lines = [f" on lines {word} {other.shown}" for word, other in self.lines]
        return f"{self.kind} {self.source}{''.join(lines)}".strip()

    @property
    def lines(self) -> tuple[tuple[Literal["with", "without"], DetectorSpec], ...]:
        """What must match, and what must not, on the lines where it marks."""
        both: tuple[tuple[Literal["with", "without"], DetectorSpec | None], ...]
        both = ("with", self.on_lines_with), ("without", self.on_lines_without)
        return tuple((word, other) for word, other in both if other is not None)


def read_spec(detector: Written | None, concept: Written | None) -> DetectorSpec | None:
    """Return what `detector:` says, or else what `concept:` says; None where neither names anything that detects.

    `detector: {kind: concept}` without latents takes those of `concept:`.
    """
    latents = _concept_latents(concept)
    if detector is None:
        return DetectorSpec("concept", latents=latents) if latents else None
    if not isinstance(detector.value, dict):
        raise detector.refused("detector is not a mapping", hint="for example {kind: rule, rule: bold}")
    kind = detector.get("kind")
    if kind is None:
        raise detector.refused("the detector has no kind", hint=f"one of {', '.join(KINDS)}")
    name = kind.choice("kind", KINDS)
    detector.mapping(f"a detector of kind {name}", ("kind", *_KEYS[name]))
    spec = _named(name, detector, latents)
    return replace(
        spec,
        by=_word(detector, "by", ("share", "present")),
        on_lines_with=_text_rule(detector, "on_lines_with"),
        on_lines_without=_text_rule(detector, "on_lines_without"),
        words=bool((held := detector.get("words")) and held.flag("words")),
        sentences=bool((held := detector.get("sentences")) and held.flag("sentences")),
        threshold=held.number("threshold") if (held := detector.get("threshold")) else None,
        check=_text_rule(detector, "check"),
    )


def _named(kind: str, detector: Written, latents: tuple[int, ...]) -> DetectorSpec:
    if kind == "rule":
        return DetectorSpec("rule", _rule(_needed(detector, "rule")))
    if kind == "regex":
        return DetectorSpec("regex", _pattern(_needed(detector, "pattern")))
    if kind == "callable":
        return DetectorSpec("callable", _function(_needed(detector, "function")))
    if kind == "latent":
        return DetectorSpec("latent", latents=(_needed(detector, "latent").whole("latent"),))
    if kind == "concept":
        own = detector.get("latents")
        latents = _latents(own) if own else latents
        if not latents:
            raise detector.refused("this concept names no latents", hint="latents: [12, 40], as the draft writes them")
        return DetectorSpec("concept", latents=latents)
    return _fitted("direction" if kind == "direction" else "probe", detector)


def _fitted(kind: Literal["direction", "probe"], detector: Written) -> DetectorSpec:
    labels = _text_rule(detector, "labels")
    texts = {key: _texts(detector, key) for key in ("positive", "negative")}
    has_texts = any(texts.values())
    if has_texts == (labels is not None):
        hint = "labels: {rule: bold}, or positive: [texts that show it] with negative: [texts that do not]"
        raise detector.refused(f"a {kind} is learned from labels or from texts: one of the two", hint=hint)
    for key, held in texts.items():
        if has_texts and len(held) < 2:
            raise detector.refused(f"a {kind} needs two {key} texts or more", found=f"{len(held)}")
    level = _word(detector, "level", ("sequence", "token") if has_texts else ("token", "sequence"))
    layer = detector.get("layer")
    number = layer.whole("layer") if layer else None
    return DetectorSpec(
        kind, level=level, layer=number, positive=texts["positive"], negative=texts["negative"], labels=labels
    )


def _word(detector: Written, key: str, words: tuple[str, ...]) -> Any:
    """One of these words; the first where nothing is written."""
    held = detector.get(key)
    return held.choice(key, words) if held else words[0]


def _needed(detector: Written, key: str) -> Written:
    held = detector.get(key)
    if held is None:
        raise detector.refused(f"the detector lacks {key!r}")
    return held


def _rule(held: Written) -> str:
    id = held.string("rule")
    if not id.startswith((SAYS, OFTEN)):
        return held.choice("rule", [one.id for one in RULES])
    try:
        return rule(id).id
    except UsageError as error:
        raise held.refused(error.what, hint=error.hint) from error


def _pattern(held: Written) -> str:
    text = held.string("pattern")
    try:
        compiled = re.compile(text, re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise held.refused("this regular expression does not compile", found=f"{text!r}: {error}"[:300]) from None
    if not compiled.pattern:
        raise held.refused("this regular expression is empty")
    return text


def _function(held: Written) -> str:
    text = held.string("function")
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", text):
        raise held.refused("this is not the name of a function", hint="package.module:function")
    return text


def _texts(detector: Written, key: str) -> tuple[str, ...]:
    held = detector.get(key)
    texts = tuple(one.string(key) for one in held.items(key)) if held else ()
    if not all(texts):
        raise detector.refused(f"a {key} text is empty")
    return texts


def _text_rule(detector: Written, key: str) -> DetectorSpec | None:
    """`{rule: bold}` or `{pattern: "…"}`."""
    held = detector.get(key)
    if held is None:
        return None
    held.mapping(key, ("rule", "pattern"))
    rule, pattern = held.get("rule"), held.get("pattern")
    if (rule is None) == (pattern is None):
        raise held.refused(f"{key} names a rule or a pattern: one of the two", hint=f"{key}: {{rule: bold}}")
    return DetectorSpec("rule", _rule(rule)) if rule else DetectorSpec("regex", _pattern(_needed(held, "pattern")))


def _concept_latents(concept: Written | None) -> tuple[int, ...]:
    if concept is None:
        return ()
    concept.mapping("concept", ("id", "latents", "name"))
    held = concept.get("latents")
    return _latents(held) if held else ()


def _latents(held: Written) -> tuple[int, ...]:
    numbers = tuple(one.whole("latents") for one in held.items("latents"))
    if len(set(numbers)) < len(numbers):
        raise held.refused("a latent is named twice", found=", ".join(map(str, numbers))[:200])
    return numbers
