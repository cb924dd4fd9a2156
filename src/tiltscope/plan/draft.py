"""Findings become a plan that a person fills in.

In:  a study folder after `contrast` (names make it readable), and the plan that is there already, if any.
Out: `STUDY/plan.yaml`: one entry per confirmed family, every one undecided, with what a decision needs beside it; the
     families that a plan has no entry for.
Refuses: to decide; to write over a plan unless told to, and then to lose what a person has filled in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiltscope import __version__
from tiltscope.artifact import quoted, read_object, write_text
from tiltscope.behaviours import is_rule, rule
from tiltscope.errors import ProductError, UsageError
from tiltscope.hypotheses import read_hypotheses
from tiltscope.plan.decisions import Decision, Plan
from tiltscope.report import anchor, families, headline, relatives, visible

__all__ = ["draft_plan", "unspoken", "write_draft"]

Row = Mapping[str, Any]

_EMPTY: dict[str, Any] = {
    "action": "undecided",
    "method": None,
    "strength": None,
    "aim_rate": None,
    "side": None,
    "hold": [],
    "reason": "",
    "reviewer": "",
}
_GIVEN = ("hypothesis", "concept", "direction", "where", "evidence")
_WIDTH = 116

_HEADER = """\
# What may be learned from these pairs. A person fills this in; nothing here is decided yet.
#
# action    allow | suppress | amplify. `undecided` is what stands here until somebody decides; it never means allow.
# reason    why, in a sentence: asked for with every decision. reviewer: who decided.
# method    reward_shaping (also where null stands) | example_filtering | token_filtering | activation_steering |
#           steering_ratio | inoculation_prompting | inoculation_ratio
# strength  how hard, 0 or more (the action carries the sign): nats per standard deviation of the concept
#           (reward_shaping, the two ratios), the share of pairs (example_filtering), mean residual norms
#           (activation_steering); token_filtering and inoculation_prompting have none.
# aim_rate  in place of a strength: the share of answers that should show the concept after training, from 0 to 1, or
#           start: as in the model before training. Experimental, reward_shaping only.
# where     everywhere, or the kind of pair (see the report); outside it training is as without the decision.
# side      chosen | rejected | both; null: the side that fits the action.
# hold      what must not move when this one is changed: ids of findings, or rules of the library (bulleted_list).
# detector  what marks the concept: the rule a finding is named after, which sees all of it. Take the line out to act on
#           the latents of `concept`. Other kinds, and more keys (effect, instruction, accept_weak, note): docs/plan.md.
#
# `tiltscope plan draft STUDY --overwrite` drafts again and keeps what is filled in here (put remarks into `reason` or
# `note`: comments are not kept).
"""
_GONE = """\
  # --- Decisions about findings that are no longer confirmed in this study. They are kept, not dropped: -------------
"""


def draft_plan(study: Path) -> str:
    """Return plan.yaml with every confirmed family undecided, strongest first within its view.

    Raises:
        ProductError: hypotheses.json or contrast.json is missing or damaged.
    """
    return _text(study, [])


def write_draft(study: Path, *, overwrite: bool = False) -> Path:
    """Write STUDY/plan.yaml and return its path.

    With `overwrite`, what a person filled in stays: under the same finding (same latents, place and direction), or at
    the end where the finding is no longer confirmed.

    Raises:
        UsageError: a plan is there and `overwrite` is not given.
        ProductError: a product is missing or damaged, or the plan that is there cannot be read (it is left as it is).
    """
    path = study / "plan.yaml"
    if path.exists() and not overwrite:
        raise UsageError(
            "there is a plan already",
            where=str(path),
            found="it may hold a person's decisions",
            hint=f"tiltscope plan draft {quoted(study)} --overwrite keeps those and drafts the rest again",
        )
    decided, notes = _decided(path) if path.exists() else ([], {})
    write_text(path, _text(study, decided) + "".join(f"{_value(key)}: {_value(notes[key])}\n" for key in notes))
    return path


def unspoken(study: Path, plan: Plan) -> tuple[Decision, ...]:
    """Return the confirmed families of a study that no entry of the plan speaks of: undecided, as if they stood there.

    None where nothing was looked for yet. An entry speaks of a family by the id of any of its findings, or, in their
    place or everywhere, by the latents of one or by its behaviour's whole rule; in their direction, where it names one.
    """
    if not (study / "hypotheses.json").exists():
        return ()
    missing = [rows for rows in families(read_hypotheses(study)) if not _is_spoken_of(rows, plan)]
    return tuple(
        Decision(0, 0, str(rows[0]["id"]), visible(str(rows[0]["concept"].get("name") or "")), file=str(plan.path))
        for rows in missing
    )


def _is_spoken_of(family: Sequence[Row], plan: Plan) -> bool:
    for row in family:
        concept, region = row["concept"], row.get("region")
        rules = {concept.get("rule"), _rule(row)} - {None, ""}
        for one in plan.decisions:
            if one.direction not in (None, row["direction"]):
                continue
            if one.hypothesis == row["id"]:
                return True
            spec = one.detector
            if spec is None or one.where not in ("everywhere", region["id"] if region else "everywhere"):
                continue
            whole_rule = spec.kind == "rule" and not spec.lines and spec.source in rules
            if whole_rule or (spec.latents and set(spec.latents) == set(concept["latents"])):
                return True
    return False


def _decided(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Entries of a plan in which somebody has filled something in, and keys that somebody added beside them."""
    import yaml

    mend = "mend the line, or move the file aside and draft again"
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProductError("plan.yaml is not valid YAML", where=str(path), found=str(error), hint=mend) from error
    entries = body.get("decisions") if isinstance(body, dict) else None
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise ProductError("plan.yaml has no list of decisions", where=str(path), hint=mend)
    notes = {key: body[key] for key in body if key not in ("format_version", "made_from", "decisions")}
    return [one for one in entries if _filled(one)], notes


def _filled(entry: Row) -> bool:
    known = any(entry.get(key) not in (None, default) for key, default in _EMPTY.items())
    own = set(entry) - set(_EMPTY) - set(_GIVEN) - ({"detector"} if _is_drafted(entry) else set())
    return known or bool(own)


def _key(entry: Row) -> tuple[str, str, str]:
    """What a decision is about: latents, or a behaviour; place and direction. Ids may be renumbered by another run."""
    concept = entry.get("concept")
    held = concept if isinstance(concept, Mapping) else {}
    latents = held.get("latents")
    numbers = sorted(latents, key=str) if isinstance(latents, list) else []
    about = str(held.get("id")) if _is_behaviour(held) else str(numbers)
    return about, str(entry.get("where")), str(entry.get("direction"))


def _is_behaviour(concept: Row) -> bool:
    return str(concept.get("id")).startswith(("B-", "N-", "W-"))


def _text(study: Path, decided: Sequence[dict[str, Any]]) -> str:
    held: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in decided:
        held.setdefault(_key(one), []).append(one)
    lines = [_HEADER, "format_version: 1", *_made_from(study), ""]
    found = [(rows[0], _entry(rows)) for rows in families(read_hypotheses(study))]
    _first_of_a_rule([entry for _, entry in found])
    body: list[str] = []
    tree = study / "hierarchy.json"
    part_of = relatives(read_object(tree, "edges", verb="contrast") if tree.exists() else None, read_hypotheses(study))
    for number, (row, entry) in enumerate(found, start=1):
        mine = held.get(_key(entry))
        kept = mine.pop(0) if mine else {}
        body += ["", *_comments(row, f"{number} of {len(found)}", part_of), *_yaml(entry | _only_filled(kept))]
    gone = [one for rest in held.values() for one in rest]
    if gone:
        body += ["", _GONE.rstrip(), *(line for one in gone for line in _yaml(_clean(one)))]
    lines += ["decisions:", *body] if body else ["decisions: []  # nothing was confirmed"]
    return "\n".join(lines) + "\n"


def _made_from(study: Path) -> list[str]:
    contrast = read_object(study / "contrast.json", verb=f"contrast {quoted(study)}")
    inputs = contrast.get("inputs") or {}
    scope = study / "scope" / "scope.json"
    facts = {
        "pairs": inputs.get("pairs"),
        "features": inputs.get("features"),
        "scope": read_object(scope, verb="read").get("fingerprint") if scope.exists() else None,
        "contrast": contrast.get("fingerprint"),
        "tiltscope": inputs.get("tiltscope") or __version__,
    }
    return ["made_from:", *(f"  {key}: {_value(value)}" for key, value in facts.items())]


def _detector(row: Row) -> dict[str, Any]:
    """A finding named after a behaviour is acted on by that behaviour's rule, which sees all of it."""
    namesake = row.get("namesake")
    if not namesake or not namesake["holds"] or not is_rule(namesake["rule"]):
        return {}
    return {"detector": {"kind": "rule", "rule": namesake["rule"], "by": "present"}}


def _rule(row: Row) -> str:
    """The behaviour a finding is, or bears the name of; "" where there is none."""
    namesake = row.get("namesake")
    return str(namesake["rule"]) if namesake and namesake["holds"] else ""


def _first_of_a_rule(entries: Sequence[dict[str, Any]]) -> None:
    """Of findings on one behaviour in one place the behaviour itself, else the strongest, gets the rule; the rest keep
    latents.
    """
    seen = set()
    for entry in sorted(entries, key=lambda one: not _is_behaviour(one["concept"])):
        key = str(entry.get("detector")), entry["where"]
        if key in seen:
            entry.pop("detector", None)
        seen.add(key)


def _is_drafted(entry: Row) -> bool:
    """Whether the detector of an entry is as this room writes it: nobody has filled it in."""
    held = entry.get("detector")
    if not isinstance(held, Mapping) or set(held) != {"kind", "rule", "by"} or held["by"] != "present":
        return False
    concept = entry.get("concept")
    name = str(concept.get("name") or "") if isinstance(concept, Mapping) else ""
    return is_rule(str(held["rule"])) and name.startswith(rule(str(held["rule"])).name)


def _entry(family: Sequence[Row]) -> dict[str, Any]:
    """The finding that speaks for a family; a behaviour, which has no latents, comes with those named after it."""
    row = family[0]
    concept, region = row["concept"], row.get("region")
    named = {
        latent for one in family if _rule(one) and _rule(one) == _rule(row) for latent in one["concept"]["latents"]
    }
    return {
        "hypothesis": row["id"],
        "concept": {
            "id": concept["id"],
            "latents": list(concept["latents"]) or sorted(named),
            "name": visible(str(concept.get("name") or "")),
        },
        **_detector(row),
        "direction": row["direction"],
        "where": region["id"] if region else "everywhere",
        **_EMPTY,
        "evidence": f"report.html#{anchor(str(row['id']))}",
    }


def _only_filled(kept: Row) -> dict[str, Any]:
    """What a person wrote: every field but those that say which finding it is."""
    return {key: value for key, value in kept.items() if key not in _GIVEN}


def _clean(entry: Row) -> dict[str, Any]:
    return {key: entry[key] for key in (*_GIVEN[:4], *_EMPTY, "evidence") if key in entry} | _only_filled(entry)


def _comments(row: Row, place: str, part_of: Mapping[str, str]) -> list[str]:
    import textwrap

    def short(value: float | None, digits: int = 3) -> str:
        return "none" if value is None else f"{value:.{digits}g}"

    numbers = (
        f"{row.get('estimand')} {short(row['effect'])} [{short(row['ci_low'])}, {short(row['ci_high'])}], "
        f"q {short(row.get('q'), 2)}, {row.get('n_pairs')} pairs, {row.get('n_groups')} groups, {row.get('length')}"
    )
    texts = [f"{place}. {_printable(headline(row))}", _printable(numbers)]
    texts += [_printable(part_of[row["concept"]["id"]])] if row["concept"]["id"] in part_of else []
    return [f"  # {line}" for text in texts for line in textwrap.wrap(text, _WIDTH)]


def _printable(text: str) -> str:
    """A comment cannot escape anything: what YAML would not read is written out, and line breaks are gone."""
    line = " ".join(visible(text).split())
    return re.sub(r"[\ufffe\uffff\ufeff]", lambda match: f"⟨U+{ord(match.group()):04X}⟩", line)


def _yaml(entry: Row) -> list[str]:
    """One entry of the list of decisions as lines of YAML."""
    lines: list[str] = []
    for key, value in entry.items():
        lines.append(f"  {'  ' if lines else '- '}{_value(key)}: {_value(value)}")
    return lines


def _value(value: Any) -> str:
    """A value in flow style on one line; text is quoted, so that no text can become anything but text."""
    import yaml

    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_value(key)}: {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    style = '"' if isinstance(value, str) and not _is_plain(value) else None
    said: str = yaml.safe_dump(value, default_style=style, allow_unicode=True, width=float("inf"))
    return said.removesuffix("...\n").strip()


def _is_plain(text: str) -> bool:
    words = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}
    return re.fullmatch(r"[A-Za-z_]+", text) is not None and text.lower() not in words
