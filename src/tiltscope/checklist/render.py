"""The checklist as text for a terminal.

In:  the product of `check_pairs`.
Out: lines of at most `width` columns.
Refuses: to let text from the data act on the terminal: control and formatting characters are shown as escapes.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["render_check", "visible"]

_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def visible(text: str) -> str:
    """Return one line in which nothing is hidden: control, bidirectional and unassigned characters become escapes."""
    shown = []
    for char in text:
        if char in "\n\r\t":
            shown.append({"\n": "⏎", "\r": "\\r", "\t": " "}[char])
        elif unicodedata.category(char) in _HIDDEN:
            code = ord(char)
            shown.append(f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
        else:
            shown.append(char)
    return "".join(shown)


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _fit(text: str, width: int, *, pad: bool = False) -> str:
    """Cut text to a number of terminal columns; wide characters take two."""
    total = sum(_columns(char) for char in text)
    if total > width:
        kept, total = "", 0
        for char in text:
            if total + _columns(char) > width - 1:
                break
            kept, total = kept + char, total + _columns(char)
        text, total = kept + "…", total + 1
    return text + " " * (width - total) if pad else text


def render_check(product: Mapping[str, Any], *, width: int = 80) -> str:
    """Render the product of `check_pairs`; no line is wider than `width` columns (at least 60)."""
    width = max(60, width)
    sections = [
        _head(product),
        _refused(product),
        _length(product),
        _repeats(product),
        _checklist(product, width),
        _domains(product, width),
        _samples(product, width),
    ]
    lines = [line for section in sections if section for line in (*section, "")]
    return "\n".join(wrapped for line in lines[:-1] for wrapped in _wrap(line, width))


def _wrap(line: str, width: int) -> list[str]:
    if sum(_columns(char) for char in line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return [_fit(part, width) for part in textwrap.wrap(line, width, subsequent_indent=indent)]


def _plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _percent(share: float | None, *, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}"


def _span(entry: Mapping[str, Any]) -> str:
    ends = "" if entry["ci_low"] is None else f" [{_points(entry['ci_low'])}, {_points(entry['ci_high'])}]"
    return _points(entry["difference"]) + ends


def _rows(numbers: Sequence[Any], n: int) -> str:
    """`rows 3, 8, 9`, and how many of how many where the list is cut."""
    listed = ", ".join("/".join(str(end) for end in one) if isinstance(one, list) else str(one) for one in numbers)
    return f"rows {listed}" + (f" ({len(numbers)} of {n:,})" if len(numbers) < n else "")


def _head(p: Mapping[str, Any]) -> list[str]:
    turns = p["turns"]
    one = ", ".join(f"{t['turns']}: {t['n_pairs']:,}" for t in turns["prompt_turns"])
    lines = [
        visible(p["source"]),
        f"  shape    {p['shape']}",
        f"  pairs    {p['n_pairs']:,} of {_plural(p['n_records'], 'record')}, {p['n_refused']:,} refused",
        f"  groups   {_plural(p['n_groups'], 'group')} (pairs that share a prompt are one witness)",
        f"  turns    prompt turns: pairs  {one}",
        f"  system   {_plural(turns['n_with_system'], 'pair')}, {turns['n_system_prompts']:,} different",
    ]
    if turns["n_not_alternating"]:
        listed = _rows(turns["not_alternating_rows"], turns["n_not_alternating"])
        lines.append(
            f"  note     in {_plural(turns['n_not_alternating'], 'pair')} the turns do not alternate: {listed}"
        )
    if p["extra_columns"]:
        lines.append("  columns  kept beside the pairs: " + visible(", ".join(p["extra_columns"])))
    return lines


def _refused(p: Mapping[str, Any]) -> list[str]:
    lines = ["REFUSED ROWS"] if p["refused"] else []
    for one in p["refused"]:
        lines.append(f"  {one['n']:>5,}  {one['explanation'] or one['reason']}")
        lines.append(f"         {_rows(one['rows'], one['n'])}")
    return lines


def _length(p: Mapping[str, Any]) -> list[str]:
    lines = ["LENGTH"]
    for unit, one in p["length"].items():
        ends = "" if one["ci_low"] is None else f" [{one['ci_low']:.2f}, {one['ci_high']:.2f}]"
        lines.append(
            f"  {unit:10}  median {one['chosen_median']:,.0f} chosen, {one['rejected_median']:,.0f} rejected;"
            f" ratio {one['ratio']:.2f}{ends}"
        )
    words, cut = p["length"]["words"], p["cut"]
    lines.append(f"  longer in words: chosen {_percent(words['chosen_longer'])}, rejected "
                 f"{_percent(words['rejected_longer'])}")  # fmt: skip
    lines.append(
        f"  a limit of {cut['max_tokens']:,} tokens would cut about {cut['chosen']['n_cut']:,} chosen and"
        f" {cut['rejected']['n_cut']:,} rejected answers"
    )
    lines.append(
        f"  ({_percent(cut['chosen']['share_of_tokens_cut'])} and {_percent(cut['rejected']['share_of_tokens_cut'])} of"
        f" the tokens; estimated at {cut['estimated_bytes_per_token']:g} bytes a token)"
    )
    return lines


def _repeats(p: Mapping[str, Any]) -> list[str]:
    repeats, against = p["repeats"], p["contradictions"]
    refused = {one["reason"]: one["n"] for one in p["refused"]}
    largest = repeats["largest_group"]
    lines = [
        "REPEATS AND CONTRADICTIONS",
        f"  {repeats['n_exact']:>6,}  exact repeats of a pair",
        f"  {refused.get('identical_answers', 0):>6,}  records with identical answers (refused)",
        f"  {refused.get('empty_answer', 0):>6,}  records with an empty answer (refused)",
        f"  {repeats['n_pairs_sharing_a_prompt']:>6,}  pairs share their prompt with another"
        f" (largest group {largest['n_pairs']:,})",
        f"  {against['n_swapped']:>6,}  pairs contradict another one: the same two answers, swapped",
        f"  {against['n_answers_that_win_and_lose']:>6,}  of {against['n_answers']:,} answers win in one pair and lose"
        " in another",
    ]
    if against["n_swapped"]:
        lines.insert(6, f"          {_rows(against['swapped_rows'], against['n_swapped'])}")
    return lines


_NOTE = (
    "Differences are in points, with 95 % intervals and one witness per group; * = the interval leaves out 0. Of traits"
    " without any lean about 1 in 20 gets a star by chance. Like length: the same difference among pairs whose answers"
    " differ by under a fifth in words. The rules are listed in docs/data.md."
)


def _checklist(p: Mapping[str, Any], width: int) -> list[str]:
    entries = [one for one in p["checklist"] if one["domain"] is None]
    order = list(dict.fromkeys(one["id"].split("@")[0] for one in entries))
    entries.sort(key=lambda one: order.index(one["id"].split("@")[0]))
    title = "PREFLIGHT CHECKLIST: share of answers that show a trait"
    note = textwrap.wrap(_NOTE, width, initial_indent="  ", subsequent_indent="  ")
    return [title, *_table(entries, width), *note]


def _is_clear(one: Mapping[str, Any]) -> bool:
    return one["ci_low"] is not None and (one["ci_low"] > 0 or one["ci_high"] < 0)


def _table(entries: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    name = width - 54
    lines = [f"  {'trait':{name}}{'chosen':>8}{'rejected':>10}  {'difference':21}{'like length':>11}".rstrip()]
    for one in entries:
        label = _fit(f"· {one['prompts']}" if one["prompts"] else one["name"], name, pad=True)
        if not one["n_pairs"]:
            lines.append(f"  {label}  no such prompts")
        elif not one["chosen_rate"] and not one["rejected_rate"]:
            lines.append(f"  {label}  not seen")
        else:
            rates = f"{_percent(one['chosen_rate']):>8}{_percent(one['rejected_rate']):>10}"
            span = _span(one) + (" *" if _is_clear(one) else "")
            lines.append(f"  {label}{rates}  {span:24}{_points(one['equal_length']['difference']):>8}")
    return lines


def _domains(p: Mapping[str, Any], width: int) -> list[str]:
    """By domain, only the traits whose interval leaves out 0; the product has all."""
    domains = p["domains"]
    if not domains:
        return []
    shown = list(dict.fromkeys(one["domain"] for one in p["checklist"] if one["domain"] is not None))
    lines = [
        f"BY DOMAIN (column {visible(str(p['domain_column']))}; the {len(shown)} largest of {len(domains)}; traits"
        " whose interval leaves out 0; --json has all)"
    ]
    sizes = {one["domain"]: one["n_pairs"] for one in domains}
    for domain in shown:
        entries = [one for one in p["checklist"] if one["domain"] == domain]
        clear = [one for one in entries if _is_clear(one)]
        lines.append(
            f"  {_fit(visible(domain), width - 40)}: {_plural(sizes[domain], 'pair')}, {_plural(len(clear), 'trait')}"
        )
        lines += _table(clear, width)[1:]
    return lines


def _samples(p: Mapping[str, Any], width: int) -> list[str]:
    lines = ["SAMPLE PAIRS (drawn by the seed)"]
    for one in p["samples"]:
        where = f", {visible(one['domain'])}" if one["domain"] is not None else ""
        lines.append(_fit(f"  row {one['row']}{where}", width))
        for side in ("prompt", "chosen", "rejected"):
            lines.append(_fit(f"    {side:9}{visible(one[side]['text'])}", width))
    return lines
