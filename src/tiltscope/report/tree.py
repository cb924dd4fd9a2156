"""Which concept is part of which, as a report tells it.

In:  hierarchy.json and the hypotheses of a study.
Out: the rows of a tree, parents before children; for each concept its parent and children.
Refuses: to leave rows out without saying how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiltscope.report.text import one_line
from tiltscope.report.words import concept_name

__all__ = ["relatives", "tree_content"]

Row = Mapping[str, Any]

_ROWS = 60


def tree_content(product: Row | None, families: Sequence[Sequence[Row]]) -> dict[str, Any] | None:
    """Return the forest as rows with a depth, biggest trees first; None where nothing is part of anything.

    families: confirmed findings, the spokesman of each first; a row's `id` is the spokesman's, which has a place in the
    report.
    """
    edges = (product or {}).get("edges") or []
    if not edges:
        return None
    first: dict[str, Row] = {}
    for family in families:
        for row in family:
            first.setdefault(row["concept"]["id"], {**row, "id": family[0]["id"]})
    known = [edge for edge in edges if edge["child"] in first and edge["parent"] in first]
    below: dict[str, list[Row]] = {}
    for edge in sorted(known, key=lambda one: (-one["n_child"], one["child"])):
        below.setdefault(edge["parent"], []).append(edge)
    children = {edge["child"] for edge in known}
    sizes = {edge["parent"]: edge["n_parent"] for edge in known}
    rows: list[dict[str, Any]] = []
    for root in sorted((one for one in below if one not in children), key=lambda one: (-_size(one, below), one)):
        rows.append(_row(first[root], 0, None) | {"n": sizes[root]})
        _grow(root, 1, below, first, rows)
    note = f"{min(len(rows), _ROWS)} of {len(rows)} concepts, biggest trees first"
    return {"rows": rows[:_ROWS], "n": len(rows), "note": note}


def _size(root: str, below: Mapping[str, Sequence[Row]]) -> int:
    return 1 + sum(_size(edge["child"], below) for edge in below.get(root, ()))


def _grow(
    parent: str, depth: int, below: Mapping[str, Sequence[Row]], first: Mapping[str, Row], rows: list[dict[str, Any]]
) -> None:
    for edge in below.get(parent, ()):
        rows.append(_row(first[edge["child"]], depth, edge) | {"n": edge["n_child"]})
        _grow(edge["child"], depth + 1, below, first, rows)


def _row(finding: Row, depth: int, edge: Row | None) -> dict[str, Any]:
    numbers = {key: edge[key] if edge else None for key in ("share", "low", "high", "expected")}
    return {"depth": depth, "id": str(finding["id"]), "name": one_line(concept_name(finding["concept"])), **numbers}


def relatives(product: Row | None, hypotheses: Sequence[Row]) -> dict[str, str]:
    """{concept id: a phrase that names its parent}, for comments in a plan."""
    first: dict[str, Row] = {}
    for row in hypotheses:
        if row["confirmed"]:
            first.setdefault(row["concept"]["id"], row)
    told = {}
    for edge in (product or {}).get("edges") or []:
        if edge["child"] in first and edge["parent"] in first:
            parent = first[edge["parent"]]
            said = f"{100 * edge['share']:.0f} % of the answers that show it show that too"
            told[edge["child"]] = f"Part of {parent['id']}, {one_line(concept_name(parent['concept']))} ({said})."
    return told
