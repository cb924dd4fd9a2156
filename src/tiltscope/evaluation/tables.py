"""A comparison as a table for a terminal or Markdown.

In:  a `Comparison`.
Out: text; every number with its unit.
Refuses: to let a text from a model act as markup; to leave a row out without saying how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tiltscope.evaluation.compare import Change, Comparison
from tiltscope.evaluation.crossed import Estimate
from tiltscope.evaluation.examples import Example
from tiltscope.report import signed, visible
from tiltscope.report.text import counted

__all__ = ["as_markdown", "as_text", "change_words", "escaped", "level_words", "without_sampling"]

_MARKUP = {ord(char): "&amp;" if char == "&" else f"&#{ord(char)};" for char in "&\\`*_{}[]<>#|~!$@"}
_SENTENCES = 20
_NLL = "held-out NLL"
_HEAD = ("behaviour", "before", "after", "change", "each seed", "q")


def level_words(estimate: Estimate, unit: str) -> str:
    """Return a level: 31 % for a share, a number for the rest, – where it cannot be said."""
    if math.isnan(estimate.effect):
        return "–"
    return f"{100 * estimate.effect:.1f} %" if unit == "share" else f"{estimate.effect:.4g}"


def change_words(estimate: Estimate, unit: str, *, interval: bool = True) -> str:
    """Return a difference with its interval: points for a share, the behaviour's own unit for the rest."""
    if math.isnan(estimate.effect):
        return "–"
    scale, digits = (100.0, 1) if unit == "share" else (1.0, 3)
    said = signed(scale * estimate.effect, digits=digits) + (" points" if unit == "share" and interval else "")
    if not interval:
        return said
    if math.isnan(estimate.low):
        return f"{said} (no interval)"
    return f"{said} [{signed(scale * estimate.low, digits=digits)}, {signed(scale * estimate.high, digits=digits)}]"


def _cells(change: Change) -> tuple[str, ...]:
    unit = change.unit
    mark = " (target)" if change.is_target else ""
    role = "" if change.role == "target" else f", {change.role} prompts"
    name = f"{visible(change.name)}{role}{mark}"
    seeds = ", ".join(change_words(one, unit, interval=False) for one in change.seed_differences)
    q = "–" if math.isnan(change.q) else "< .001" if change.q < 0.001 else f"{change.q:.3f}"
    return (
        name,
        level_words(change.before, unit),
        level_words(change.after, unit),
        change_words(change.difference, unit),
        seeds,
        q,
    )


def _pairs(comparison: Comparison) -> list[tuple[str, str]]:
    return list(dict.fromkeys((one.arm, one.versus) for one in comparison.changes))


def _rows(comparison: Comparison, arm: str, versus: str) -> list[Change]:
    """Targets first, then the strongest evidence; role target before the others."""
    found = [one for one in comparison.changes if (one.arm, one.versus) == (arm, versus)]
    return sorted(found, key=lambda c: (not c.is_target, c.role != "target", math.inf if math.isnan(c.q) else c.q))


def without_sampling(comparison: Comparison) -> list[str]:
    """Return in plain words how the rows were measured that rest on no answer of a model; empty without such rows."""
    names = {one.id: visible(one.name) for one in comparison.changes}
    told = []
    if any(id.startswith(("openings/", "said/")) or name == _NLL for id, name in names.items()):
        told.append("Some rows rest on answers of a dataset, the same for every model, not on answers of the models.")
    if _NLL in names.values():
        told.append(f"“{_NLL}”: how much the chosen ones of these answers surprise a model; less is better.")
    begun = [name for id, name in names.items() if id.startswith("openings/")]
    if begun:
        told.append(
            f"“{begun[0]}” and the like: how likely a model would begin this style somewhere in such an answer, from 0 "
            "(never) to 1 (surely)."
        )
    for id, name in names.items():
        if id.startswith("said/"):
            some = [f"“{visible(one)}”" for one in comparison.sentences.get(id, ())]
            more = f" and {len(some) - _SENTENCES} more" if len(some) > _SENTENCES else ""
            listed = f" {counted(len(some), 'sentence')}: {' '.join(some[:_SENTENCES])}{more}" if some else ""
            told.append(
                f"“{name}”: how likely a model would say sentences given beforehand in the middle of such an answer, "
                f"in nats (one nat more: 2.7 times as likely).{listed}"
            )
    return told


def as_text(comparison: Comparison) -> str:
    """Return the comparison for a terminal."""
    lines: list[str] = []
    for arm, versus in _pairs(comparison):
        rows = [_HEAD, *(_cells(one) for one in _rows(comparison, arm, versus))]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
        lines += [f"{visible(arm)} against {visible(versus)}", ""]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines += [*_notes(comparison, arm, versus), ""]
    return "\n".join(lines)


def _notes(comparison: Comparison, arm: str, versus: str) -> list[str]:
    rows = _rows(comparison, arm, versus)
    notes = {note: [one.id for one in rows if note in one.notes] for one in rows for note in one.notes}
    out = [f"note: {note}" + ("" if len(ids) == len(rows) else f" ({', '.join(ids)})") for note, ids in notes.items()]
    left = sum(one.n_left_out for one in rows)
    return [*out, f"note: not answered or judged on both sides: {counted(left, 'prompt')}"] if left else out


def escaped(text: str) -> str:
    """Return text on one line in which Markdown and HTML see no markup."""
    return " ".join(visible(text).split()).translate(_MARKUP)


def as_markdown(comparison: Comparison, *, examples: Sequence[Example] | None = None) -> str:
    """Return the comparison as Markdown, with examples side by side (pass blinded ones to hide which is which)."""
    lines = ["# What moved", ""]
    for arm, versus in _pairs(comparison):
        lines += [f"## {escaped(arm)} against {escaped(versus)}", "", "| " + " | ".join(_HEAD) + " |"]
        lines += ["|" + "---|" * len(_HEAD)]
        lines += ["| " + " | ".join(escaped(cell) for cell in _cells(c)) + " |" for c in _rows(comparison, arm, versus)]
        lines += ["", *(f"{escaped(note)}\n" for note in _notes(comparison, arm, versus))]
    told = without_sampling(comparison)
    if told:
        lines += ["## What was measured without sampling", "", *(f"- {escaped(one)}" for one in told), ""]
    shown = comparison.examples if examples is None else examples
    if shown:
        lines += ["## Side by side", "", "The first answers of the first seed that differ most, per behaviour."]
    for number, one in enumerate(shown, start=1):
        lines += ["", f"### {number}. {escaped(one.behaviour)}, prompt {escaped(one.prompt_id)}", ""]
        for title, text in (("Prompt", one.prompt), (one.left, one.left_text), (one.right, one.right_text)):
            lines += [f"{escaped(title)}:", "", _block(text), ""]
    return "\n".join(lines).rstrip() + "\n"


def _block(text: str) -> str:
    """A text as a fenced block whose fence is longer than any run of backticks inside."""
    shown = visible(text)
    longest = 0
    while "`" * (longest + 1) in shown:
        longest += 1
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"
