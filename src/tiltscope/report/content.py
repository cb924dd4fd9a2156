"""A study's products become what a report says.

In:  a study folder after `contrast` (the other products may be missing; the report then says so).
Out: `gather`: one JSON-able object, the content of all three forms of the report. Its texts are made visible.
Refuses: a folder without hypotheses.json, and a product that is damaged (`ProductError` with the verb to rerun).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiltscope.artifact import read_json, read_object
from tiltscope.errors import ProductError
from tiltscope.report.evidence import examples, naming, wordings_note
from tiltscope.report.forecasts import forecast_content
from tiltscope.report.reading import commands, preflight, refused_rows, scope_facts, unread_note, unread_rows
from tiltscope.report.text import number, one_line, percent, plain, visible
from tiltscope.report.tree import tree_content
from tiltscope.report.words import concept_name, headline, headline_parts, near_zero, place, wish

__all__ = ["calibration", "families", "gather", "load", "load_hypotheses", "verdict"]

Row = Mapping[str, Any]

IN_FULL = 30  # families told in full; the others stand in the table
OTHERS_LIMIT = 200  # unconfirmed findings shown
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
    "own": "lean in these pairs, in which it is mostly seen: mean of (chosen shows it − rejected shows it)",
}
SHIFT_UNIT = (
    "excess of the move after this kind of prompt, in units of the concept's usual difference, length held fixed"
)

LIMITS = (
    "These are hypotheses about what training will teach, read from the data. No model was trained to make this "
    "report.",
    "A lean is what sets chosen apart from rejected. It is not called causal: length may cause it or carry it, so the "
    "total and the equal-length number stand side by side.",
    "Among the confirmed findings of one study about one in ten may be false (Benjamini-Hochberg at q ≤ .10, within "
    "each list and over all of them). The 95 % intervals are for each finding taken by itself: of many, the strongest "
    "look stronger than they are.",
    "Behaviours (ids with B-, shown many times N-) and words (W-) are counted in the whole text; the rest is seen "
    "through latents. Leans are tested on all pairs; comparisons of one kind of pairs with the others on a half not "
    "used to find them.",
    "Not confirmed is not the same as absent: a lean can be too weak, or have too few witnesses, to be told from "
    "chance.",
    "Intervals speak of new prompts from the same sources, not of other sources, raters or answering models.",
    "Concepts are what this autoencoder found at this layer. What it does not reconstruct, and what no single layer "
    "shows, this report cannot see.",
    "A name is a label for evidence. Its score says how well the name alone tells where the concept fires (.5 is "
    "chance); where it is low, trust the marked tokens.",
    "Text beyond max_length was not read through the model; where answers were cut the evidence says so.",
)


def load(study: Path, name: str, *, verb: str) -> dict[str, Any] | None:
    """Return a product's JSON, or None where it is not there; damage is refused with the verb to rerun."""
    return read_object(study / name, verb=verb) if (study / name).exists() else None


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
    farthest from zero. Families are ordered by view (global, region, prompt), then those with a behaviour's name before
    those that only tokens or nobody could name, then by estimand and that interval end.
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

    def rank(rows: list[Row]) -> tuple[int, bool, int, float, str]:
        first = rows[0]
        view = views.index(first["view"]) if first["view"] in views else len(views)
        estimand = names.index(first["estimand"]) if first.get("estimand") in names else len(names)
        words = str(first["concept"].get("id")).startswith("W-")
        obscure = not words and first["concept"].get("named_by") in ("tokens", "nobody", None)
        return view, obscure, estimand, -near_zero(first), str(first["id"])

    return sorted(ordered, key=rank)


def calibration(nulls: Sequence[Row]) -> dict[str, Any]:
    """Judge the null draws: calibrated when every null of every view stays within both limits."""
    rows = []
    for null in nulls:
        allowed = FALSE_SHARE + 2 * float(null.get("mc_se") or 0)
        allowed_p05 = ALPHA_SHARE + 2 * float(null.get("share_se") or 0)
        fine = float(null["share_p05"]) <= allowed_p05 and float(null["any_rejection"]) <= allowed
        rows.append({**null, "allowed_p05": allowed_p05, "allowed_any_rejection": allowed, "calibrated": fine})
    if not rows:
        return {"state": "not checked", "sentence": "No null calibration was run on these data.", "rows": []}
    good = all(row["calibrated"] for row in rows)
    worst = max(float(row["share_p05"]) for row in rows)
    sentence = (
        f"With the labels scrambled, at most {100 * worst:.1f} % of cells had p < .05 "
        f"(nominal 5 %, limit {percent(ALPHA_SHARE)} and two Monte Carlo standard errors), over {len(rows)} checks."
    )
    return {"state": "calibrated" if good else "not calibrated", "sentence": sentence, "rows": rows}


def verdict(hypotheses: Sequence[Row], contrast: Row, spokesmen: int) -> dict[str, Any]:
    """Return what was confirmed, of how many candidates, and whether the nulls on these data came out right."""
    confirmed = sum(bool(row["confirmed"]) for row in hypotheses)
    candidates = contrast.get("n_candidates", sum(row.get("q") is not None for row in hypotheses))
    views = contrast.get("views") or {}
    tested = sum(int(view.get("n_tested", view.get("n_cells")) or 0) for view in views.values()) if views else None
    few = sum(row.get("verdict") == "too few witnesses" for row in hypotheses)
    split = [row for row in hypotheses if _halves_disagree(row)]
    return {
        "n_confirmed": confirmed,
        "n_families": spokesmen,
        "n_candidates": candidates,
        "n_tested": tested,
        "n_too_few_witnesses": few,
        "n_halves_disagree": len(split),
        "calibration": calibration(contrast.get("nulls") or []),
        "sentence": _verdict_sentence(confirmed, spokesmen, candidates, tested),
    }


def _verdict_sentence(confirmed: int, spokesmen: int, candidates: int, tested: int | None) -> str:
    scope = f"{number(candidates)} candidates" + (f" out of {number(tested)} cells tested" if tested else "")
    if not confirmed:
        return (
            f"Nothing was confirmed among {scope}. That is not proof that these data teach nothing: a lean may be too "
            "weak, have too few witnesses, or be out of this scope's sight. What this audit would have found: "
            "tiltscope power."
        )
    kinds = "one thing" if spokesmen == 1 else f"{spokesmen} different things"
    return f"{number(confirmed)} findings were confirmed among {scope}; they say {kinds}."


def _halves_disagree(row: Row) -> bool:
    half_a, half_b = row.get("half_a"), row.get("half_b")
    return half_a is not None and half_b is not None and half_a * half_b <= 0


_COUNTS = ("n_pairs", "n_groups", "n_explore", "n_confirm", "n_explore_groups", "n_confirm_groups")


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
        "hypothesis": plain(shown),
        "naming": naming(first, names),
        "same_thing": [_same(row) for row in rows[1:]],
        "said_as": _said_as(rows),
        "has_evidence": first["id"] in evidence,
        "evidence": examples(evidence[first["id"]]) if first["id"] in evidence else [],
        "wordings": wordings_note(evidence.get(first["id"]) or {}),
    }


def _said_as(rows: Sequence[Row]) -> str:
    """The strongest words of a family that are at stake in half of its head's pairs; "" where the head is words."""
    enough = (rows[0].get("at_stake") or 0) / 2
    words = (
        concept_name(row["concept"])
        for row in rows[1:]
        if str(row["concept"]["id"]).startswith("W-") and any(map(str.isalpha, row["concept"]["rule"].split(":", 1)[1]))
        if (row.get("at_stake") or 0) >= enough
    )
    return "" if str(rows[0]["concept"]["id"]).startswith("W-") else next(words, "")


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


def _in_full_note(n: int, of: int) -> str:
    """Which families are told in full, where that is not all of them."""
    if n == of:
        return ""
    return f"{n} of {of} families in full, behaviours and words first, then the strongest; the others are in the table."


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
    grouped, unread = families(hypotheses), unread_rows(study)
    strongest = sorted(grouped, key=lambda rows: (-near_zero(rows[0]), str(rows[0]["id"])))[:IN_FULL]
    in_full = {rows[0]["id"] for rows in strongest}
    findings = [{**_finding(rows, names, evidence), "in_full": rows[0]["id"] in in_full} for rows in grouped]
    return {
        "format": "tiltscope report",
        "format_version": 1,
        "study": study.resolve().name,
        "source": one_line(str(settings.get("source") or "not recorded")),
        "verdict": verdict(hypotheses, contrast, len(grouped)) | {"unread": unread_note(unread, contrast)},
        "sections": [
            {"view": view, "title": title, "findings": [one["id"] for one in findings if one["view"] == view]}
            for view, title in SECTIONS
        ],
        "findings": findings,
        "in_full": _in_full_note(len(in_full), len(findings)),
        "tree": tree_content(load(study, "hierarchy.json", verb="contrast"), grouped),
        "forecast": forecast_content(study, settings.get("features")),
        "not_confirmed": _others(hypotheses),
        "counts": {key: contrast.get(key) for key in _COUNTS},
        "views": plain(contrast.get("views") or {}),
        "checklist": preflight(load(study, "check.json", verb="check")),
        "refused": refused_rows(study),
        "unread": unread,
        "reading": {
            "study": plain({key: value for key, value in settings.items() if value not in (None, {}, "")}),
            "scope": scope_facts(load(study, "scope/scope.json", verb="read") or {}),
            "length": plain(contrast.get("length") or {}),
            "settings": plain(contrast.get("settings") or {}),
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
