"""Findings and their pairs for a terminal of 80 columns.

In:  hypotheses and evidence as they stand in hypotheses.json and evidence.json.
Out: text. Control, bidirectional and zero-width characters are written out; colour only where it is asked for.
Refuses: to drop anything in silence: what a limit leaves out is counted in the last line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tiltscope.report.content import SECTIONS, families
from tiltscope.report.evidence import KINDS, evidence_note, wordings_note
from tiltscope.report.text import Piece, excerpt, fit, number, one_line, signed, width_of, wrapped
from tiltscope.report.words import headline, wish

__all__ = ["render_hypotheses", "render_trace"]

Row = Mapping[str, Any]

_FLAGS = {"robust to length": "=", "not robust to length": "~", "inseparable from length": "?"}
_LEGEND = "length: = robust, ~ not robust, ? inseparable from it"
_TEXT_LIMIT = 700  # characters of a text shown in a trace


def render_hypotheses(hypotheses: Sequence[Row], *, width: int = 80, limit: int = 20) -> str:
    """Return the confirmed findings as a table, two lines per family, and what stands behind it in numbers.

    Args:
        limit: families shown; 0 shows all. What is left out is announced.
    """
    grouped = families(hypotheses)
    shown = grouped[:limit] if limit else grouped
    id_width = max([len("id"), *(width_of(one_line(str(rows[0]["id"]))) for rows in shown)])
    id_width = min(id_width, 24)
    lines: list[str] = []
    for view, title in SECTIONS:
        rows = [family[0] for family in shown if family[0]["view"] == view]
        if rows:
            lines += [title, _head(id_width), *(line for row in rows for line in _line(row, id_width, width)), ""]
    lines += wrapped(_closing(hypotheses, grouped, shown), width)
    return "\n".join([*lines, _LEGEND] if shown else lines)


def _head(id_width: int) -> str:
    return f"{fit('id', id_width)}  would teach; effect [95 %], q, groups, length"


def _line(row: Row, id_width: int, width: int) -> list[str]:
    """Two lines: who and what, then the numbers."""
    how, what, _ = wish(row)
    where = f" @{one_line(str(row['region']['id']))}" if row.get("region") else ""
    room = max(8, width - id_width - 2 - width_of(where))
    said = one_line(f"{how} {what}")
    ends = f"[{signed(row['ci_low'], digits=2)}, {signed(row['ci_high'], digits=2)}]"
    q = row.get("q")
    said_q = "–" if q is None else "< .001" if q < 0.001 else f"{q:.3f}".lstrip("0")
    flag = _FLAGS.get(str(row.get("length")), "–")
    numbers = f"{signed(row['effect'], digits=2)} {ends}  q {said_q}  {number(row.get('n_groups'))} groups  {flag}"
    return [
        f"{fit(one_line(str(row['id'])), id_width)}  {fit(said, room).rstrip()}{where}",
        f"{' ' * id_width}  {numbers}",
    ]


def _closing(hypotheses: Sequence[Row], grouped: Sequence[Sequence[Row]], shown: Sequence[Sequence[Row]]) -> str:
    confirmed = sum(len(rows) for rows in grouped)
    few = sum(row.get("verdict") == "too few witnesses" for row in hypotheses)
    rest = len(hypotheses) - confirmed
    unconfirmed = f"{rest} not confirmed" + (f" ({few} had too few witnesses)" if few else "")
    if not grouped:
        return f"Nothing was confirmed. {unconfirmed}."
    said = f"{len(shown)} of {len(grouped)} families, behaviours and words first, then by the interval end nearest zero"
    return f"{said}; {confirmed} findings confirmed, {unconfirmed}."


def render_trace(hypothesis: Row, evidence: Row, *, width: int = 80, colour: bool = False) -> str:
    """Return the pairs for and against a finding, and some drawn at random, with the firing tokens marked.

    Args:
        evidence: the finding's entry of evidence.json.
        colour: mark with ANSI bold and underline instead of ⟦ ⟧.
    """
    lines = [*wrapped(headline(hypothesis), width), ""]
    lines += [
        f"id {one_line(str(hypothesis['id']))}; what shows it stands " + ("underlined" if colour else "in ⟦ ⟧"),
        "",
    ]
    if told := wordings_note(evidence):
        lines += [*wrapped(f"Marked, in pairs for it : against it: {told}", width), ""]
    for kind, title, _ in KINDS:
        examples = evidence.get(kind) or []
        lines += [*wrapped(f"{title}: {evidence_note(evidence, kind, len(examples))}", width), ""]
        for example in examples:
            lines += _pair(example, width, colour)
    return "\n".join(lines).rstrip()


def _pair(example: Row, width: int, colour: bool) -> list[str]:
    disparity = example.get("disparity")
    said = "" if disparity is None else f" · chosen − rejected {signed(disparity, digits=2)}"
    head = f"── row {number(example.get('row'))} · pair {one_line(str(example.get('pair_id', '')))}{said} "
    lines = [fit(head + "─" * width, width) if width_of(head) > width else head + "─" * (width - width_of(head))]
    for side in ("prompt", "chosen", "rejected"):
        lines += _text(side, example.get(side) or {}, width, colour)
    return [*lines, ""]


def _text(label: str, body: Row, width: int, colour: bool) -> list[str]:
    text, marks, cut = str(body.get("text") or ""), body.get("marks") or [], int(body.get("n_cut_chars") or 0)
    pieces, left_out = excerpt(text, marks, limit=_TEXT_LIMIT)
    whole = len(text) + cut
    note = f" ({number(len(text) - left_out)} of {number(whole)} characters)" if left_out or cut else ""
    return [label + note, *_wrap(_mark(pieces, colour), width, colour)]


def _mark(pieces: Sequence[Piece], colour: bool) -> str:
    opening, closing = ("\x1b[1;4m", "\x1b[0m") if colour else ("⟦", "⟧")
    joined = "".join(f"{opening}{one.text}{closing}" if one.strength > 0 else one.text for one in pieces)
    return joined.replace(closing + opening, "")


def _wrap(text: str, width: int, colour: bool) -> list[str]:
    """Indent and break lines; with colour the codes take no room, so the terminal is left to break long lines."""
    lines: list[str] = []
    for line in text.replace("\t", "    ").split("\n"):
        lines += [line] if colour else textwrap.wrap(line, width - 4, drop_whitespace=False) or [""]
    return [f"  | {line}".rstrip() for line in lines]
