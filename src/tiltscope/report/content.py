"""A study's products become what a report says.

In:  a study folder after `contrast` (the other products may be missing; the report then says so).
Out: `gather`: one JSON-able object, the content of all three forms of the report. Its texts are made visible.
Refuses: a folder without hypotheses.json, and a product that is damaged (`ProductError` with the verb to rerun).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiltscope.artifact import read_json
from tiltscope.errors import ProductError
from tiltscope.report.text import excerpt, number, one_line, percent, token, visible
from tiltscope.report.words import concept_name, headline, headline_parts, near_zero, place, wish

__all__ = ["calibration", "families", "gather", "load", "load_hypotheses"]

Row = Mapping[str, Any]

TEXT_LIMIT = 1500  # characters of one answer shown as evidence
PROMPT_LIMIT = 600
SPANS_LIMIT = 9  # example windows of a concept
OTHERS_LIMIT = 200  # unconfirmed findings shown
ROWS_LIMIT = 10  # row numbers shown per reason of refusal
ALPHA_SHARE = 0.06  # share of p < .05 that a calibrated null may show
FALSE_SHARE = 0.10  # share of null draws that may reject anything

SECTIONS = (
    ("global", "In all pairs"),
    ("region", "In some kinds of pairs"),
    ("prompt", "Tied to a kind of prompt"),
)

ESTIMANDS = {
    "tau": "lean: mean of (chosen shows it − rejected shows it), from −1 to 1",
    "delta": "excess of the preference in this kind of pairs over other pairs, length held fixed",
    "shift": "excess of the preference after this kind of prompt over other prompts, length held fixed",
}
SHIFT_UNIT = (
    "excess of the move after this kind of prompt, in units of the concept's usual difference, length held fixed"
)

LIMITS = (
    "These are hypotheses about what training will teach, read from the data. No model was trained to make this "
    "report.",
    "A lean is what sets chosen apart from rejected. It is not called causal: length may cause it or carry it, so the "
    "total and the equal-length number stand side by side.",
    "Among the confirmed findings of one study about one in ten may be false (Benjamini-Hochberg at q ≤ .10, once over "
    "the candidates of all views). The 95 % intervals are for each finding taken by itself.",
    "Not confirmed is not the same as absent: a lean can be too weak, or have too few witnesses, to be told from "
    "chance.",
    "Intervals speak of new prompts from the same sources, not of other sources, raters or answering models.",
    "Concepts are what this autoencoder found at this layer. What it does not reconstruct, and what no single layer "
    "shows, this report cannot see.",
    "A name is a label for evidence. Its score says how well the name alone tells where the concept fires (.5 is "
    "chance); where it is low, trust the marked tokens.",
    "Text beyond max_length was not read; where answers were cut the evidence says so.",
)


def load(study: Path, name: str, *, verb: str) -> Any:
    """Return a product's JSON, or None where it is not there; damage is refused with the verb to rerun."""
    return read_json(study / name, verb=verb) if (study / name).exists() else None


def load_hypotheses(study: Path) -> list[dict[str, Any]]:
    """Return the hypotheses of a study.

    Raises:
        ProductError: the file is missing, damaged or not a list of hypotheses.
    """
    path = study / "hypotheses.json"
    rows = read_json(path, verb="contrast")
    needed = ("id", "view", "concept", "direction", "effect", "ci_low", "ci_high", "confirmed")
    for place_in_list, row in enumerate(rows if isinstance(rows, list) else [None]):
        absent = [key for key in needed if not isinstance(row, dict) or key not in row]
        if absent:
            raise ProductError(
                "hypotheses.json does not hold a list of hypotheses",
                where=f"{path}, item {place_in_list}",
                found=f"without {', '.join(absent)}",
                hint="rerun: tiltscope contrast",
            )
    return list(rows)


def families(hypotheses: Sequence[Row]) -> list[list[Row]]:
    """Group confirmed hypotheses that say the same thing, the spokesman of each family first.

    The spokesman is the one the others name as their family, if it is confirmed, else the one whose interval end is
    farthest from zero. Families are ordered by view (global, region, prompt), estimand, and that interval end.
    """
    groups: dict[str, list[Row]] = {}
    for row in hypotheses:
        if row["confirmed"]:
            groups.setdefault(str(row.get("family") or row["id"]), []).append(row)
    ordered = [
        sorted(rows, key=lambda row: (row["id"] != name, -near_zero(row), str(row["id"])))
        for name, rows in groups.items()
    ]
    views = [view for view, _ in SECTIONS]
    names = list(ESTIMANDS)

    def rank(rows: list[Row]) -> tuple[int, int, float, str]:
        first = rows[0]
        view = views.index(first["view"]) if first["view"] in views else len(views)
        estimand = names.index(first["estimand"]) if first.get("estimand") in names else len(names)
        return view, estimand, -near_zero(first), str(first["id"])

    return sorted(ordered, key=rank)


def calibration(nulls: Sequence[Row]) -> dict[str, Any]:
    """Judge the null draws: calibrated when every null of every view stays within both limits."""
    rows = []
    for null in nulls:
        allowed = FALSE_SHARE + 2 * float(null.get("mc_se") or 0)
        fine = float(null["share_p05"]) <= ALPHA_SHARE and float(null["any_rejection"]) <= allowed
        rows.append({**null, "allowed_any_rejection": allowed, "calibrated": fine})
    if not rows:
        return {"state": "not checked", "sentence": "No null calibration was run on these data.", "rows": []}
    good = all(row["calibrated"] for row in rows)
    worst = max(float(row["share_p05"]) for row in rows)
    sentence = (
        f"With the labels scrambled, at most {100 * worst:.1f} % of cells had p < .05 "
        f"(nominal 5 %, limit {percent(ALPHA_SHARE)}), over {len(rows)} checks."
    )
    return {"state": "calibrated" if good else "not calibrated", "sentence": sentence, "rows": rows}


def _verdict(hypotheses: Sequence[Row], contrast: Row, spokesmen: int) -> dict[str, Any]:
    confirmed = sum(bool(row["confirmed"]) for row in hypotheses)
    candidates = contrast.get("n_candidates", sum(row.get("q") is not None for row in hypotheses))
    views = contrast.get("views") or {}
    tested = sum(int(view.get("n_cells") or 0) for view in views.values()) if views else None
    few = sum(row.get("verdict") == "too few witnesses" for row in hypotheses)
    split = [row for row in hypotheses if _halves_disagree(row)]
    return {
        "n_confirmed": confirmed,
        "n_families": spokesmen,
        "n_candidates": candidates,
        "n_cells": tested,
        "n_too_few_witnesses": few,
        "n_halves_disagree": len(split),
        "calibration": calibration(contrast.get("nulls") or []),
        "sentence": _verdict_sentence(confirmed, spokesmen, candidates, tested),
    }


def _verdict_sentence(confirmed: int, spokesmen: int, candidates: int, tested: int | None) -> str:
    scope = f"{number(candidates)} candidates" + (f" out of {number(tested)} cells looked at" if tested else "")
    if not confirmed:
        return (
            f"Nothing was confirmed among {scope}. That is not proof that these data teach nothing: a lean may be too "
            "weak, have too few witnesses, or be out of this scope's sight."
        )
    kinds = "one thing" if spokesmen == 1 else f"{spokesmen} different things"
    return f"{number(confirmed)} findings were confirmed among {scope}; they say {kinds}."


def _halves_disagree(row: Row) -> bool:
    half_a, half_b = row.get("half_a"), row.get("half_b")
    return half_a is not None and half_b is not None and half_a * half_b <= 0


def _plain(value: Any) -> Any:
    """Make every text inside a JSON value visible."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(str(key)): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


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


_COUNTS = ("n_pairs", "n_groups", "n_explore", "n_confirm", "n_explore_groups", "n_confirm_groups")

KINDS = (
    ("for", "Pairs that carry it", "strongest first"),
    ("against", "Pairs against it", "strongest first"),
    ("random", "Pairs drawn at random", "seeded, among all pairs at stake"),
)


def evidence_note(evidence: Row, kind: str, n_shown: int) -> str:
    """Say how many of how many pairs are shown, and how they were chosen."""
    how = next(how for name, _, how in KINDS if name == kind)
    total = evidence.get(f"n_{kind}")
    if kind == "random" and evidence.get("n_for") is not None:
        total = int(evidence["n_for"]) + int(evidence.get("n_against") or 0)
    if total is None:
        return f"{n_shown}, {how}"
    return f"{number(n_shown)} of {number(total)}, {how}" if total else "there is none"


def _evidence(evidence: Row) -> list[dict[str, Any]]:
    out = []
    for kind, title, _ in KINDS:
        examples = [_example(one) for one in evidence.get(kind) or []]
        note = evidence_note(evidence, kind, len(examples))
        out.append({"kind": kind, "title": title, "note": note, "examples": examples})
    return out


def _naming(concept: Row, names: Row) -> dict[str, Any]:
    known = names.get(concept["id"]) or {}
    tokens = known.get("lifted_tokens") or [{"token": one} for one in concept.get("top_tokens") or ()]
    library, spans = known.get("library"), known.get("spans") or []
    return {
        "named_by": one_line(str(concept.get("named_by") or "nobody"), limit=60),
        "name_score": concept.get("name_score"),
        "shuffled_95": known.get("shuffled_95"),
        "score_note": one_line(str(known.get("score_note") or ""), limit=200),
        "tokens": [{**_plain(one), "token": token(str(one.get("token", "")))} for one in tokens[:12]],
        "n_tokens": len(tokens),
        "ngrams": [{**_plain(one), "text": token(str(one.get("text", "")))} for one in (known.get("ngrams") or [])[:8]],
        "n_ngrams": len(known.get("ngrams") or []),
        "library": _plain(library) if library else None,
        "spans": [_span(one) for one in spans[:SPANS_LIMIT]],
        "n_spans": len(spans),
        "abstained": int(known.get("abstained") or 0),
        "errors": int(known.get("errors") or 0),
    }


def _span(span: Row) -> dict[str, Any]:
    """A window of a text with every firing token marked."""
    body = _side({"text": span.get("text"), "marks": span.get("marked")}, TEXT_LIMIT)
    return {"row": span.get("row"), "side": _plain(span.get("side")), "kind": _plain(span.get("kind")), **body}


def _finding(rows: Sequence[Row], names: Row, evidence: Row) -> dict[str, Any]:
    first = rows[0]
    how, what, _ = wish(first)
    shown = {key: value for key, value in first.items() if key != "pair_ids"}
    return {
        "id": first["id"],
        "view": first["view"],
        "headline": headline(first),
        "parts": [{"text": text, "strong": strong} for text, strong in headline_parts(first)],
        "title": f"{how} {what}",
        "where": place(first),
        "near_zero": near_zero(first),
        "unit": _unit(first),
        "halves_disagree": _halves_disagree(first),
        "hypothesis": _plain(shown),
        "naming": _naming(first["concept"], names),
        "same_thing": [_same(row) for row in rows[1:]],
        "has_evidence": first["id"] in evidence,
        "evidence": _evidence(evidence[first["id"]]) if first["id"] in evidence else [],
    }


def _unit(row: Row) -> str:
    moved = row.get("estimand") == "shift" and str(row["concept"]["id"]).startswith("R")
    return SHIFT_UNIT if moved else ESTIMANDS.get(str(row.get("estimand")), "")


def _same(row: Row) -> dict[str, Any]:
    region = row.get("region")
    return {
        "id": visible(str(row["id"])),
        "name": concept_name(row["concept"]),
        "where": place(row) or ("everywhere" if not region else str(region["id"])),
        "effect": row["effect"],
        "ci_low": row["ci_low"],
        "ci_high": row["ci_high"],
        "q": row.get("q"),
    }


def _others(hypotheses: Sequence[Row]) -> dict[str, Any]:
    rows = sorted((row for row in hypotheses if not row["confirmed"]), key=lambda row: str(row["id"]))
    kept = [
        {**_same(row), "estimand": row.get("estimand"), "half_a": row.get("half_a"), "half_b": row.get("half_b")}
        | {"n_groups": row.get("n_groups"), "verdict": _why_not(row), "direction": row["direction"]}
        for row in rows[:OTHERS_LIMIT]
    ]
    return {"n": len(rows), "rows": kept, "note": f"{len(kept)} of {len(rows)}, by id; not ranked"}


def _why_not(row: Row) -> str:
    verdict = visible(str(row.get("verdict") or "not confirmed"))
    return f"{verdict}; the halves disagree" if _halves_disagree(row) else verdict


def _refused(study: Path) -> dict[str, Any] | None:
    path = study / "refused.jsonl"
    if not path.exists():
        return None
    reasons: Counter[str] = Counter()
    rows: dict[str, list[Any]] = {}
    found: dict[str, str] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            reason = visible(str(one["reason"]))
            reasons[reason] += 1
            rows.setdefault(reason, []).append(one.get("row"))
            found.setdefault(reason, one_line(str(one.get("found") or ""), limit=120))
    except (ValueError, KeyError, TypeError) as error:
        raise ProductError(
            "refused.jsonl is damaged", where=str(path), found=str(error), hint="rerun: tiltscope read"
        ) from error
    return {
        "n": sum(reasons.values()),
        "reasons": [
            {"reason": reason, "n": n, "rows": rows[reason][:ROWS_LIMIT], "found": found[reason]}
            for reason, n in reasons.most_common()
        ],
    }


def _checklist(check: Any) -> dict[str, Any] | None:
    if not isinstance(check, Mapping):
        return None
    items = [_plain(one) for one in check.get("checklist") or [] if isinstance(one, Mapping)]
    return {
        "items": [one for one in items if not one.get("domain")],
        "by_domain": [one for one in items if one.get("domain")],
        "facts": _facts(check),
    }


def _facts(check: Row) -> list[dict[str, str]]:
    """What `check` found beside the traits, each as a label and a sentence."""

    def part(*keys: str) -> Any:
        value: Any = check
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    told = [("shape", one_line(str(part("shape"))))] if part("shape") else []
    if part("length", "words"):
        words = part("length", "words")
        ends = f"[{number(words.get('ci_low'))}, {number(words.get('ci_high'))}]"
        medians = f"chosen {number(words.get('chosen_median'))}, rejected {number(words.get('rejected_median'))}"
        told.append(("length", f"median words: {medians}; ratio {number(words.get('ratio'))} {ends}"))
    if part("repeats"):
        shared = number(part("repeats", "n_pairs_sharing_a_prompt"))
        told.append(
            ("repeats", f"{number(part('repeats', 'n_exact'))} exact; {shared} pairs share a prompt with others")
        )
    if part("contradictions"):
        both = number(part("contradictions", "n_answers_that_win_and_lose"))
        swapped = number(part("contradictions", "n_swapped"))
        told.append(
            ("contradictions", f"{swapped} pairs stand there the other way round too; {both} answers win and lose")
        )
    if part("cut"):
        pairs, limit = number(part("cut", "n_pairs_cut")), number(part("cut", "max_tokens"))
        told.append(("cut", f"about {pairs} pairs are longer than {limit} tokens (estimated without a tokenizer)"))
    return [{"label": label, "text": text} for label, text in told]


def _scope(scope: Row) -> dict[str, Any]:
    """What the report says of the autoencoder, from scope.json; the whole file is in the folder."""

    def part(*keys: str) -> Any:
        value: Any = scope
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    if not scope:
        return {}
    unexplained = part("sae", "report", "unexplained_variance")
    loss = part("sae", "report", "loss_nats") or {}
    return {
        "model": _plain(part("model", "name")),
        "model fingerprint": part("model", "fingerprint"),
        "layer": f"{part('layer')} of {part('n_layers')}",
        "latents": part("sae", "n_latents"),
        "active on a token": part("sae", "k"),
        "variance explained": None if unexplained is None else percent(1 - unexplained),
        "silent latents": percent(part("sae", "report", "silent_latents")),
        "loss in nats": "; ".join(f"{str(key).replace('_', ' ')} {number(loss[key])}" for key in loss),
        "max length": part("max_length"),
        "scope fingerprint": part("fingerprint"),
    }


def commands(study_name: str, settings: Row) -> list[str]:
    """Return the commands that make this study again, from what study.json records."""
    source = str(settings.get("source") or "DATA")
    bundled = source.replace("\\", "/").endswith("tiltscope/data/demo.jsonl.gz")
    words = ["tiltscope", "audit", "demo" if bundled else _shell(source), "--out", _shell(study_name)]
    for field_name, column in (settings.get("map") or {}).items():
        words += ["--map", _shell(f"{field_name}={column}")]
    for key in ("group", "domain", "sample", "model", "layer", "sae", "max_length", "template", "seed"):
        value = settings.get(key)
        if value is not None and value != "":
            words += [f"--{key.replace('_', '-')}", _shell(str(value))]
    if settings.get("allow_refused"):
        words.append("--allow-refused")
    return [" ".join(words)]


def _shell(word: str) -> str:
    safe = one_line(word)
    plain = safe and all(char.isalnum() or char in "._-/=:@+," for char in safe)
    return safe if plain else "'" + safe.replace("'", "'\"'\"'") + "'"


def gather(study: Path) -> dict[str, Any]:
    """Return all that a report on this study says, as one JSON-able object (docs/report.md describes it).

    Raises:
        ProductError: hypotheses.json is missing, or any product is damaged.
    """
    hypotheses = load_hypotheses(study)
    contrast = load(study, "contrast.json", verb="contrast") or {}
    names = load(study, "names.json", verb="name") or {}
    evidence = load(study, "evidence.json", verb="audit") or {}
    settings = load(study, "study.json", verb="read") or {}
    grouped = families(hypotheses)
    findings = [_finding(rows, names, evidence) for rows in grouped]
    return {
        "format": "tiltscope report",
        "format_version": 1,
        "study": study.resolve().name,
        "source": one_line(str(settings.get("source") or "not recorded")),
        "verdict": _verdict(hypotheses, contrast, len(grouped)),
        "sections": [
            {"view": view, "title": title, "findings": [one["id"] for one in findings if one["view"] == view]}
            for view, title in SECTIONS
        ],
        "findings": findings,
        "not_confirmed": _others(hypotheses),
        "counts": {key: contrast.get(key) for key in _COUNTS},
        "views": _plain(contrast.get("views") or {}),
        "checklist": _checklist(load(study, "check.json", verb="check")),
        "refused": _refused(study),
        "reading": {
            "study": _plain({key: value for key, value in settings.items() if value is not None}),
            "scope": _scope(load(study, "scope/scope.json", verb="read") or {}),
            "length": _plain(contrast.get("length") or {}),
            "settings": _plain(contrast.get("settings") or {}),
        },
        "limits": list(LIMITS),
        "commands": commands(study.name, settings),
        "missing": _missing(study),
    }


def _missing(study: Path) -> list[str]:
    made_by = {
        "study.json": "read",
        "check.json": "check",
        "refused.jsonl": "read",
        "scope/scope.json": "read",
        "contrast.json": "contrast",
        "names.json": "name",
        "evidence.json": "audit",
    }
    return [f"{name} (made by tiltscope {verb})" for name, verb in made_by.items() if not (study / name).exists()]
