"""The content of a report becomes Markdown.

In:  what `content.gather` returns.
Out: Markdown text with the same content as the page, short of the pictures.
Refuses: to let a text from the data act as markup: what could start any is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiltscope.report.text import anchor, number, percent, signed

__all__ = ["markdown"]

Row = Mapping[str, Any]

_SAME = 8  # other findings of a family
_PAIRS = 1  # pairs of each kind and finding; the page shows them all
_ACTIVE = re.compile(r"([\\`*_{}\[\]<>#|~!&$^])")
_LINKS = re.compile(r"\b(https?|ftp|mailto|www)(?=[:.])", re.IGNORECASE)
_LINE_START = re.compile(r"^(\s*)([-+=]|\d+[.)])", re.MULTILINE)


def _safe(text: object) -> str:
    """Escape what Markdown would act on, on one line."""
    line = " ".join(str(text).split())
    escaped = _ACTIVE.sub(r"\\\1", line).replace("@", "&#64;")
    escaped = _LINKS.sub(lambda match: match.group()[0] + "&#8203;" + match.group()[1:], escaped)
    return _LINE_START.sub(r"\1\\\2", escaped)


def _block(text: str) -> str:
    """A text as a fenced block; the fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*out, *("| " + " | ".join(_safe(cell) for cell in row) + " |" for row in rows), ""]


def _span(row: Row) -> str:
    return f"{signed(row.get('effect'))} [{signed(row.get('ci_low'))}, {signed(row.get('ci_high'))}]"


def markdown(content: Row) -> str:
    """Return the report as Markdown."""
    verdict = content["verdict"]
    lines = [f"# What these preference pairs would teach: {_safe(content['study'])}", ""]
    lines += [f"Source: {_safe(content['source'])}", ""]
    lines += [f"**{_safe(verdict['sentence'])}**", "", f"Calibration: {verdict['calibration']['state']}. "]
    lines[-1] += verdict["calibration"]["sentence"]
    lines += ["", _safe(verdict["unread"])] if verdict["unread"] else []
    if content["missing"]:
        lines += ["", f"This report is missing: {_safe('; '.join(content['missing']))}."]
    lines += ["", "## Findings", ""]
    lines += ["Each sentence is a hypothesis: a lean of the data that chance does not explain."]
    lines += [f"Behaviours and words first, then by the interval end nearest zero. {content['in_full']}".rstrip(), ""]
    for section in content["sections"]:
        rows = [one for one in content["findings"] if one["view"] == section["view"] and one["in_full"]]
        lines += [f"### {section['title']}", ""] if rows else []
        for finding in rows:
            lines += _finding(finding)
    rest = [one for one in content["findings"] if not one["in_full"]]
    if rest:
        lines += ["### Confirmed, not told in full", "", *_table(("id", "would teach", "effect"), map(_brief, rest))]
    lines += _forecast(content["forecast"]) + _tree(content["tree"]) + _tables(content) + _reading(content)
    return "\n".join(lines).rstrip() + "\n"


def _brief(finding: Row) -> tuple[object, ...]:
    where = f" ({finding['where']})" if finding["where"] else ""
    return finding["id"], finding["title"] + where, _span(finding["hypothesis"])


def _finding(finding: Row) -> list[str]:
    row = finding["hypothesis"]
    naming = finding["naming"]
    score = f", score {naming['name_score']:.2f}" if naming["name_score"] is not None else ""
    lines = [f'<a id="{anchor(finding["id"])}"></a>', f"**{_safe(finding['headline'])}**", ""]
    lines += [
        f"- effect {_span(row)} ({_safe(finding['unit'])}); at equal length {_span(row.get('equal_length') or {})}"
    ]
    lines += [
        f"- halves {signed(row.get('half_a'))} and {signed(row.get('half_b'))}; {_safe(row.get('length') or '–')}"
    ]
    lines += [f"- {number(row.get('n_pairs'))} pairs, {number(row.get('n_groups'))} groups; id `{finding['id']}`"]
    lines += [] if row["concept"].get("rule") else [f"- named by {_safe(naming['named_by'])}{score}"]
    lines += [f"- {_safe(naming['by_rule'])}"] if naming["by_rule"] else []
    lines += [f"- marked, in pairs for it : against it: {_safe(finding['wordings'])}"] if finding["wordings"] else []
    for name, baseline in (row.get("baselines") or {}).items():
        left = f"{signed(baseline.get('effect_left'))} of {signed(row['effect'])} left"
        lines += [f"- {_safe(name.replace('_', ' '))}: correlation {signed(baseline.get('r'), digits=2)}; {left}"]
    for same in finding["same_thing"][:_SAME]:
        lines += [f"- in its family: `{same['id']}` {_safe(same['name'])} ({_safe(same['where'])}) {_span(same)}"]
    if len(finding["same_thing"]) > _SAME:
        lines += [f"- {len(finding['same_thing']) - _SAME} more of its family are in report.html"]
    for kind in finding["evidence"]:
        shown = kind["examples"][:_PAIRS]
        rest = f"; {len(shown)} of these {len(kind['examples'])} here, the others are in report.html" if shown else ""
        lines += ["", f"{kind['title']} ({_safe(kind['note'])}{rest}); what shows it stands in ⟦ ⟧:"]
        for example in shown:
            lines += _example(example)
    return [*lines, ""]


def _marked(pieces: Sequence[Row]) -> str:
    return "".join(f"⟦{one['text']}⟧" if one["strength"] > 0 else one["text"] for one in pieces).replace("⟧⟦", "")


def _example(example: Row) -> list[str]:
    lines = [
        "",
        f"Row {number(example['row'])}, pair `{example['pair_id']}`, difference {signed(example['disparity'])}",
    ]
    for title, pieces in ((side, example[side]["pieces"]) for side in ("prompt", "chosen", "rejected")):
        lines += ["", f"{title}:", "", _block(_marked(pieces))]
    return lines


def _other(one: Row) -> tuple[object, ...]:
    halves = f"{signed(one['half_a'])} / {signed(one['half_b'])}"
    said = f"{one['direction']}: {one['name']}"
    return one["id"], said, one["where"], _span(one), number(one["q"]), number(one["n_groups"]), halves, one["verdict"]


def _trait(one: Row) -> tuple[object, ...]:
    rates = (percent(one.get("chosen_rate")), percent(one.get("rejected_rate")))
    span = _span({**one, "effect": one.get("difference")})
    return one.get("name") or one.get("id"), one.get("domain") or "all", *rates, span, number(one.get("n_groups"))


def _null(one: Row) -> tuple[object, ...]:
    counts = (number(one.get("n_cells")), number(one.get("n_draws")))
    shares = ("share_p05", "allowed_p05", "any_rejection", "allowed_any_rejection")
    return one["null"], one["view"], *counts, *(percent(one[key]) for key in shares), number(one["calibrated"])


def _forecast(forecast: Row | None) -> list[str]:
    if not forecast:
        return []
    lines = ["## Forecast of plain training", ""]
    rates = ((one["name"], percent(one["now"]), _rate(one)) for one in forecast["traits"])
    lines += (
        _table(("answers that show it, by rule", "now", "after training [90 %]"), rates) if forecast["traits"] else []
    )
    units = ((one["name"], signed(one["change"], digits=2)) for one in forecast["units"])
    lines += _table(("concept of a confirmed finding", "change, sd"), units) if forecast["units"] else []
    if forecast["card"]:
        lines += ["### How good this forecast was", "", _safe(forecast["card"]["note"]), ""]
        rows = (
            (one["name"], _span({**one, "effect": one["r2"], "ci_low": one["low"], "ci_high": one["high"]}))
            for one in forecast["card"]["rows"]
        )
        lines += _table(("forecast", "squared correlation [95 %]"), rows) if forecast["card"]["rows"] else []
    return lines


def _tree(tree: Row | None) -> list[str]:
    if not tree:
        return []
    rows = ((f"{'› ' * one['depth']}{one['name']}", one["n"], *_contained(one)) for one in tree["rows"])
    head = ("concept", "answers that show it", "of these, the one above too [95 %]", "answers of their lengths")
    return ["## Which concept is part of which", "", _safe(tree["note"]), "", *_table(head, rows)]


def _contained(one: Row) -> tuple[str, str]:
    if one["share"] is None:
        return "", ""
    return f"{percent(one['share'])} [{percent(one['low'])}, {percent(one['high'])}]", percent(one["expected"])


def _rate(one: Row) -> str:
    return f"{percent(one['after'])} [{percent(one['low'])}, {percent(one['high'])}]"


def _tables(content: Row) -> list[str]:
    others, checklist, refused = content["not_confirmed"], content["checklist"], content["refused"]
    verdict = content["verdict"]
    lines = ["## Not confirmed", "", _safe(others["note"]), ""]
    head: tuple[str, ...] = ("id", "concept", "where", "effect", "q", "groups", "halves", "why not")
    lines += _table(head, map(_other, others["rows"])) if others["rows"] else []
    lines += ["## Preflight checklist", ""]
    if checklist:
        lines += [*(f"- {fact['label']}: {_safe(fact['text'])}" for fact in checklist["facts"]), ""]
        head = ("trait", "domain", "chosen", "rejected", "difference", "groups")
        lines += _table(head, map(_trait, [*checklist["items"], *checklist["by_domain"]]))
    else:
        lines += ["No checklist in this study.", ""]
    lines += ["## Refused rows", ""]
    if refused is None:
        return [*lines, "Not recorded.", ""]
    rows = ((one["reason"], one["n"], _row_numbers(one), one["found"]) for one in refused["reasons"])
    lines += [f"{refused['n']} rows were not taken.", ""]
    head = ("reason", "rows", "row numbers", "found, first time")
    lines += _table(head, rows) if refused["n"] else []
    if not verdict["unread"]:
        return lines
    rows = ((one["reason"], one["n"], _row_numbers(one), one["found"]) for one in content["unread"]["reasons"])
    return [*lines, _safe(verdict["unread"]), "", *_table(head, rows)]


def _row_numbers(reason: Row) -> str:
    listed = ", ".join(number(row) for row in reason["rows"])
    return listed if reason["n"] <= len(reason["rows"]) else f"{listed} ({len(reason['rows'])} of {reason['n']})"


def _reading(content: Row) -> list[str]:
    lines = ["## How it was read", ""]
    for title, facts in content["reading"].items():
        lines += [f"- {_safe(title)}: {_safe(_flat(facts))}"] if facts else []
    calibration = content["verdict"]["calibration"]
    lines += ["", "## Calibration", "", calibration["sentence"], ""]
    head = ("null", "view", "cells", "draws", "p below .05", "limit", "any rejection", "limit", "within")
    lines += _table(head, map(_null, calibration["rows"])) if calibration["rows"] else []
    lines += ["## Limits of the method", "", *(f"- {limit}" for limit in content["limits"]), ""]
    return [*lines, "## Repeat it", "", _block("\n".join(content["commands"]))]


def _flat(facts: Any) -> str:
    if isinstance(facts, Mapping):
        return "; ".join(f"{key.replace('_', ' ')} {_flat(value)}" for key, value in facts.items())
    if isinstance(facts, (list, tuple)):
        return "[" + ", ".join(_flat(value) for value in facts[:8]) + (", …]" if len(facts) > 8 else "]")
    return number(facts)
