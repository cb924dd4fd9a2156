"""What is known of one concept's name, and names.json.

In:  the evidence of `name_concepts`.
Out: `Naming`; names.json, the same bytes for the same input.
Refuses: names.json of another format version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tiltscope.artifact import FORMAT_VERSION, read_json, write_json
from tiltscope.concepts import Concept
from tiltscope.errors import ProductError

__all__ = [
    "ExampleSpan",
    "LibraryEntry",
    "LiftedToken",
    "Naming",
    "Ngram",
    "as_product",
    "named",
    "read_names",
    "write_names",
]

FILE = "names.json"


@dataclass(frozen=True)
class LiftedToken:
    """A word more frequent on ("on"), before or after the firing tokens, or ("prompt") in the prompts, than elsewhere.

    lift: log-odds in nats; share: of the concept's firing mass ("on"), of neighbours, or of strong prompts.
    """

    token: str
    lift: float
    share: float
    where: str


@dataclass(frozen=True)
class Ngram:
    """Two to four words around firing tokens, lifted against matched tokens of the same texts (nats)."""

    text: str
    lift: float


@dataclass(frozen=True)
class LibraryEntry:
    """The nearest rule of the behaviour library: r on n held-out texts; overlap is -1 to 1 (see docs/naming.md)."""

    rule: str
    name: str
    r: float
    n: int
    measure: str
    overlap: float


@dataclass(frozen=True)
class ExampleSpan:
    """A window of a text; marked: [start, end) characters of it; kind: "top" or "random"; row: in the source file."""

    pair_id: str
    row: int
    side: str
    text: str
    marked: tuple[tuple[int, int], ...]
    kind: str


@dataclass(frozen=True)
class Naming:
    """A name, who wrote it ("library", "tokens", an endpoint's model, or "nobody"), and the evidence.

    name_score: held-out balanced accuracy (.5 = chance); shuffled_score and shuffled_95: mean and 95th percentile when
    the names of other concepts are used instead; None with the reason in score_note. abstained, errors: an endpoint's
    answers without a name. tokens_name: what its tokens alone would call it, for a finding the name does not hold for.
    """

    name: str
    named_by: str
    name_score: float | None
    shuffled_score: float | None
    shuffled_95: float | None
    score_note: str
    lifted_tokens: tuple[LiftedToken, ...]
    ngrams: tuple[Ngram, ...]
    library: LibraryEntry | None
    spans: tuple[ExampleSpan, ...]
    abstained: int = 0
    errors: int = 0
    tokens_name: str = ""

    @property
    def top_tokens(self) -> tuple[str, ...]:
        """The five most telling words."""
        return tuple(dict.fromkeys(lifted.token for lifted in self.lifted_tokens))[:5]


def named(concept: Concept, naming: Naming) -> Concept:
    """Return the concept with its name, author, score and top tokens filled in."""
    return replace(
        concept,
        name=naming.name,
        named_by=naming.named_by,
        name_score=naming.name_score,
        top_tokens=naming.top_tokens,
    )


def as_product(namings: Mapping[str, Naming], *, inputs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what names.json holds: concepts in the order given, floats with 6 digits; `inputs` are fingerprints."""
    meta = {"product": "names", "format_version": FORMAT_VERSION, "inputs": dict(inputs or {})}
    body: dict[str, Any] = {"_meta": meta}
    body.update({concept_id: _rounded(asdict(naming)) for concept_id, naming in namings.items()})
    return body


def write_names(study: Path, product: Mapping[str, Any]) -> None:
    """Write STUDY/names.json from `as_product` or `names_product`."""
    write_json(study / FILE, product)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) + 0.0
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return value


def read_names(study: Path) -> dict[str, Naming]:
    """Read STUDY/names.json.

    Raises:
        ProductError: the file is missing, damaged or of another format version.
    """
    path = study / FILE
    body = read_json(path, verb="name")
    meta = body.pop("_meta", {}) if isinstance(body, dict) else {}
    if meta.get("format_version") != FORMAT_VERSION:
        raise ProductError(
            "names.json was written by another format version",
            where=str(path),
            found=f"version {meta.get('format_version')}, this Tiltscope reads {FORMAT_VERSION}",
            hint="rerun: tiltscope name",
        )
    try:
        return {concept_id: _naming(one) for concept_id, one in body.items()}
    except (KeyError, TypeError) as error:
        raise ProductError(
            "names.json is damaged", where=str(path), found=str(error), hint="rerun: tiltscope name"
        ) from error


def _naming(one: Mapping[str, Any]) -> Naming:
    spans = tuple(
        ExampleSpan(**{**span, "marked": tuple((int(s), int(e)) for s, e in span["marked"])}) for span in one["spans"]
    )
    parts = {
        "lifted_tokens": tuple(LiftedToken(**lifted) for lifted in one["lifted_tokens"]),
        "ngrams": tuple(Ngram(**ngram) for ngram in one["ngrams"]),
        "library": LibraryEntry(**one["library"]) if one["library"] else None,
        "spans": spans,
    }
    return Naming(**{**one, **parts})
