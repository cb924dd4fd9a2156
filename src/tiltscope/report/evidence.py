"""What a finding rests on, cut to what a person can read.

In:  a finding's entry of evidence.json and of names.json.
Out: examples and naming evidence in pieces, marks kept, every cut counted; their texts are visible.
Refuses: to choose examples: which pairs are shown was decided by `trace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiltscope.report.text import excerpt, number, one_line, plain, signed, token, visible

__all__ = ["KINDS", "evidence_note", "examples", "naming", "wordings_note"]

Row = Mapping[str, Any]

TEXT_LIMIT = 1500  # characters of one answer shown as evidence
PROMPT_LIMIT = 600
SPANS_LIMIT = 9  # example windows of a concept

KINDS = (
    ("for", "Pairs that carry it", "strongest first"),
    ("against", "Pairs against it", "strongest first"),
    ("random", "Pairs drawn at random", "seeded, among all pairs at stake"),
)


def _side(body: Any, limit: int) -> dict[str, Any]:
    """One text as pieces; n_characters counts the whole text, also what the tracing already left out."""
    body = body if isinstance(body, Mapping) else {"text": body}
    text, marks = str(body.get("text") or ""), body.get("marks") or []
    pieces, left_out = excerpt(text, marks, limit=limit)
    cut = int(body.get("n_cut_chars") or 0)
    return {
        "pieces": [{"text": piece.text, "strength": round(piece.strength, 3)} for piece in pieces],
        "n_characters": len(text) + cut,
        "n_left_out": left_out + cut,
        "n_marks": len(marks),
    }


def _example(example: Row) -> dict[str, Any]:
    return {
        "pair_id": visible(str(example.get("pair_id", ""))),
        "row": example.get("row"),
        "group": one_line(str(example.get("group") or ""), limit=60),
        "prompt": _side(example.get("prompt"), PROMPT_LIMIT),
        "chosen": _side(example.get("chosen"), TEXT_LIMIT),
        "rejected": _side(example.get("rejected"), TEXT_LIMIT),
        "disparity": example.get("disparity"),
    }


def evidence_note(evidence: Row, kind: str, n_shown: int) -> str:
    """Say how many of how many pairs are shown, and how they were chosen."""
    how = next(how for name, _, how in KINDS if name == kind)
    total = evidence.get(f"n_{kind}")
    if kind == "random" and evidence.get("n_for") is not None:
        total = int(evidence["n_for"]) + int(evidence.get("n_against") or 0)
    if total is None:
        return f"{n_shown}, {how}"
    return f"{number(n_shown)} of {number(total)}, {how}" if total else "there is none"


def examples(evidence: Row) -> list[dict[str, Any]]:
    """Return the pairs for, against and at random, each kind with its note."""
    out = []
    for kind, title, _ in KINDS:
        shown = [_example(one) for one in evidence.get(kind) or []]
        note = evidence_note(evidence, kind, len(shown))
        out.append({"kind": kind, "title": title, "note": note, "examples": shown})
    return out


def _by_rule(hypothesis: Row, known: Row) -> str:
    """Whether the behaviour the concept is named after leans with it, in words; "" where none is."""
    namesake = hypothesis.get("namesake")
    if not namesake:
        return ""
    if hypothesis["concept"].get("rule"):
        words = str(hypothesis["concept"]["id"]).startswith("W-")
        itself = "the words themselves, counted" if words else "the behaviour itself, counted by rule"
        return f"this finding is {itself} in the whole text"
    name = one_line(str((known.get("library") or {}).get("name") or namesake["rule"]), limit=60)
    if namesake.get("effect") is None:
        return f"{name}: too few pairs to measure it here"
    ends = f"[{signed(namesake['ci_low'])}, {signed(namesake['ci_high'])}]"
    verdict = "it leans alike" if namesake["holds"] else "it does not lean alike, so the finding is not named after it"
    return f"{name}, measured by rule: {signed(namesake['effect'])} {ends}; {verdict}"


def wordings_note(evidence: Row) -> str:
    """What is marked in pairs for a finding and in pairs against it; "" where nothing is twice."""
    told = evidence.get("wordings") or ()
    return ", ".join(
        f"“{visible(str(one['text']))}” {number(one['n_for'])} : {number(one['n_against'])}" for one in told
    )


def naming(hypothesis: Row, names: Row) -> dict[str, Any]:
    """Return who named a finding's concept and what the name rests on."""
    concept = hypothesis["concept"]
    known = names.get(concept["id"]) or {}
    tokens = known.get("lifted_tokens") or [{"token": one} for one in concept.get("top_tokens") or ()]
    library, spans = known.get("library"), known.get("spans") or []
    return {
        "named_by": one_line(str(concept.get("named_by") or "nobody"), limit=60),
        "name_score": concept.get("name_score"),
        "shuffled_95": known.get("shuffled_95"),
        "score_note": one_line(str(known.get("score_note") or ""), limit=200),
        "tokens": [{**plain(one), "token": token(str(one.get("token", "")))} for one in tokens[:12]],
        "n_tokens": len(tokens),
        "ngrams": [{**plain(one), "text": token(str(one.get("text", "")))} for one in (known.get("ngrams") or [])[:8]],
        "n_ngrams": len(known.get("ngrams") or []),
        "library": plain(library) if library else None,
        "by_rule": _by_rule(hypothesis, known),
        "spans": [_span(one) for one in spans[:SPANS_LIMIT]],
        "n_spans": len(spans),
        "abstained": int(known.get("abstained") or 0),
        "errors": int(known.get("errors") or 0),
    }


def _span(span: Row) -> dict[str, Any]:
    """A window of a text with every firing token marked."""
    body = _side({"text": span.get("text"), "marks": span.get("marked")}, TEXT_LIMIT)
    return {"row": span.get("row"), "side": plain(span.get("side")), "kind": plain(span.get("kind")), **body}
