"""What a power run says, in a table of 80 columns.

In:  the product of `run_power`.
Out: text.
Refuses: to print a smallest share without how often it was found.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

__all__ = ["render_power"]

_WIDTH = 80


def render_power(product: Mapping[str, Any]) -> str:
    """Return one line per trait and share, the smallest share found, the controls and what was skipped."""
    told = [trait for trait in product["traits"] if trait["cells"]]
    where = product["where"]
    place = "" if where is None else f", all after {where} ({product['n_inside']} pairs)"
    lines = wrapped(f"Planted into the chosen answers of {product['n_pairs']} pairs{place}; found by this audit:")
    if told:
        lines += [
            "",
            f"{'trait':<14}{'share':>8}{'pairs':>7}  {'found':<8}{'recall [95 %]':<18}{'rank':>6}{'control':>10}",
        ]
        for trait in told:
            lines += [_line(trait["id"] if n == 0 else "", cell) for n, cell in enumerate(trait["cells"])]
    lines += ["", *(line for trait in product["traits"] for line in wrapped(_smallest(trait), indent="  "))]
    return "\n".join([*lines, "", *wrapped(_controls(product))])


def wrapped(text: str, *, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent)


def _line(name: str, cell: Mapping[str, Any]) -> str:
    share = f"{100 * cell['share']:g} %"
    if cell["note"]:
        return f"{name:<14}{share:>8}         {cell['note']}"
    recall = f"{cell['recall']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]"
    rank = "–" if cell["rank"] is None else f"{cell['rank']:g}"
    found = f"{cell['n_found']} of {cell['n']}"
    control = "–" if cell["n_control"] == 0 else f"{cell['n_control_found']} of {cell['n_control']}"
    return f"{name:<14}{share:>8}{cell['n_planted']:>7}  {found:<8}{recall:<18}{rank:>6}{control:>10}"


def _smallest(trait: Mapping[str, Any]) -> str:
    if trait["skipped"]:
        return f"{trait['id']}: not planted, {trait['skipped']}."
    found = next((cell for cell in trait["cells"] if cell["share"] == trait["smallest"]), None)
    if found is None:
        return f"{trait['id']}: not found at any share that was tried."
    return (
        f"{trait['id']}: the smallest share found is {100 * found['share']:g} % ({found['n_planted']} pairs), "
        f"{found['n_found']} of {found['n']} times."
    )


def _controls(product: Mapping[str, Any]) -> str:
    control = product["control"]
    return (
        f"Beside each trait a control trait was planted in as many pairs, half of them on the rejected side: found "
        f"{control['n_found']} of {control['n']} times (it should not be). rank: place of the finding's family in the "
        f"list of its view. Recall intervals: Wilson, over {product['repeats']} repeats."
    )
