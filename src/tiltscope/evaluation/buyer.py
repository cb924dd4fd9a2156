"""One page for people who buy or approve a model: what was tested, what moved, what was not tested.

In:  a `Comparison`, the JSON of a verdict where there is one, and facts of the audit.
Out: Markdown, and one HTML file that fetches nothing.
Refuses: to conclude more than the numbers say; text from models and data is shown escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from tiltscope.behaviours.measured import library
from tiltscope.evaluation.compare import Change, Comparison
from tiltscope.evaluation.tables import change_words, escaped, level_words, without_sampling
from tiltscope.report import visible
from tiltscope.report.text import counted

__all__ = ["buyer_content", "buyer_html", "buyer_markdown"]

_MOVED_Q = 0.05
_OUTCOMES = {
    "pass": "All limits hold.",
    "fail": "At least one limit is broken.",
    "inconclusive": "No limit is shown to be broken, but for at least one the evidence is not enough.",
}


def buyer_content(
    comparison: Comparison, *, verdict: Mapping[str, Any] | None = None, audit: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the page as values: plain sentences and rows, shared by both writers.

    verdict: `verdict.as_json(...)`; audit: {"how the data were audited": "…"} in plain words, shown as given.
    """
    last, first = comparison.arms[-1], comparison.arms[0]
    rows = [one for one in comparison.changes if (one.arm, one.versus) == (last.name, first.name)]
    moved = [one for one in rows if one.q < _MOVED_Q]
    still = [one for one in rows if not one.q < _MOVED_Q]
    return {
        "title": f"What changed from {visible(first.name)} to {visible(last.name)}",
        "verdict": _verdict(verdict),
        "tested": _tested(comparison),
        "domains": [{"set": name.replace("_", " "), "n": n} for name, n in comparison.prompts.items()],
        "moved": [_row(one) for one in sorted(moved, key=lambda one: (not one.is_target, one.q))],
        "still": [_row(one) for one in still if one.role == "target"],
        "still_elsewhere": sum(one.role != "target" for one in still),
        "not_tested": _not_tested(comparison, rows),
        "audit": dict(audit or {}),
        "fingerprint": comparison.fingerprint,
    }


def _verdict(verdict: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    rules = [{"outcome": one["outcome"], "rule": one["rule"], "why": one["why"]} for one in verdict["results"]]
    return {"outcome": verdict["outcome"], "said": _OUTCOMES[verdict["outcome"]], "rules": rules}


def _tested(comparison: Comparison) -> list[str]:
    said = []
    for arm in comparison.arms:
        n = len(arm.models)
        trained = f"{n} separately trained models (seeds)" if n > 1 else "one model"
        asked = arm.settings
        said.append(
            f"{visible(arm.name)}: {trained}; {counted(asked['n_answers'], 'answer')} per prompt and sampling seed, "
            f"temperature {asked['temperature']:g}, at most {counted(asked['max_new_tokens'], 'token')}."
        )
        if arm.n_missing:
            said.append(
                f"{visible(arm.name)}: left out, because they did not come: {counted(arm.n_missing, 'answer')}."
            )
    total = sum(comparison.prompts.values())
    sets = counted(len(comparison.prompts), "group")
    said.append(f"{counted(total, 'prompt')} in {sets}, the same for every model.")
    return [*said, *without_sampling(comparison)]


def _row(one: Change) -> dict[str, str]:
    where = "" if one.role == "target" else f" (on {one.role} prompts)"
    good = "" if one.wanted is None or math.isnan(one.difference.effect) else _good(one)
    return {
        "name": one.name + where + (", aimed at" if one.is_target else ""),
        "before": level_words(one.before, one.unit),
        "after": level_words(one.after, one.unit),
        "change": change_words(one.difference, one.unit),
        "seeds": f"{_agreeing(one)} of {len(one.seed_differences)}" if one.difference.effect else "–",
        "good": good if one.q < _MOVED_Q else "",
    }


def _good(one: Change) -> str:
    better = (one.difference.effect > 0) == (one.wanted == "more")
    return "better" if better else "worse"


def _agreeing(one: Change) -> int:
    """How many seeds moved the same way as the whole."""
    return sum(seed.effect * one.difference.effect > 0 for seed in one.seed_differences)


def _not_tested(comparison: Comparison, rows: Sequence[Change]) -> list[str]:
    measured = {one.behaviour.removesuffix("_judged") for one in rows}
    rest = [one.name for one in library() if one.id not in measured]
    said = [f"Behaviours of the library that were not measured: {', '.join(rest)}."] if rest else []
    if not any(one.behaviour.startswith("refusal") for one in rows):
        said.append("Whether the model declines harmful requests.")
    if all(len(arm.models) < 2 for arm in comparison.arms):
        said.append("Other training runs: one run per arm was tested, and another may come out differently.")
    lonely = [one.name for one in rows if one.n_prompts < 10]
    if lonely:
        said.append(f"Too few prompts to say much: {', '.join(dict.fromkeys(lonely))}.")
    return [
        *said,
        "Languages other than English, conversations longer than these prompts, images and tools.",
        "The truth of what the answers say, except for the built-in sums.",
    ]


def buyer_markdown(content: Mapping[str, Any]) -> str:
    """Return the page as Markdown."""
    lines = [f"# {escaped(content['title'])}", ""]
    if content["verdict"]:
        lines += ["## The limits", "", content["verdict"]["said"], ""]
        lines += [
            f"- {one['outcome'].upper()}: {escaped(one['rule'])} ({escaped(one['why'])})"
            for one in content["verdict"]["rules"]
        ]
        lines += [""]
    lines += ["## What was tested", "", *(f"- {escaped(one)}" for one in content["tested"]), ""]
    lines += [
        "Kinds of prompts: " + ", ".join(f"{escaped(one['set'])} ({one['n']})" for one in content["domains"]) + "."
    ]
    for key, title in (("moved", "What moved"), ("still", "What was not seen to move")):
        lines += ["", f"## {title}", "", *_markdown_rows(content[key])]
    if content["still_elsewhere"]:
        lines += ["", _ELSEWHERE.format(counted(content["still_elsewhere"], "measurement"))]
    lines += ["", _READING, "", "## What was not tested", "", *(f"- {escaped(one)}" for one in content["not_tested"])]
    lines += ["", "## How the data were audited", ""]
    lines += [f"- {escaped(key)}: {escaped(value)}" for key, value in content["audit"].items()] or [_NO_AUDIT]
    return "\n".join([*lines, "", f"Comparison {content['fingerprint']}, made with Tiltscope.", ""])


_READING = (
    "Brackets hold 95 % of what chance in prompts and training runs would allow. Seeds: how many training runs moved "
    "the same way. “Not seen to move” is not proof of no change; the brackets say how large a change could hide."
)
_ELSEWHERE = "Not seen to move either, of the same behaviours on neighbouring and unrelated prompts: {}."
_NO_AUDIT = "Nothing about an audit of the training data was handed in."


def _markdown_rows(rows: Sequence[Mapping[str, str]]) -> list[str]:
    if not rows:
        return ["Nothing."]
    head = ["| behaviour | before | after | change | seeds | |", "|---|---|---|---|---|---|"]
    keys = ("name", "before", "after", "change", "seeds", "good")
    return head + ["| " + " | ".join(escaped(row[key]) for key in keys) + " |" for row in rows]


def buyer_html(content: Mapping[str, Any]) -> str:
    """Return the page as one HTML file: no script, nothing fetched, every text escaped."""
    import jinja2

    source = files("tiltscope.evaluation").joinpath("buyer.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["visible"] = visible
    return environment.from_string(source).render(
        c=content,
        reading=_READING,
        elsewhere=_ELSEWHERE.format(counted(content["still_elsewhere"], "measurement")),
        no_audit=_NO_AUDIT,
    )
