"""Findings that say the same to a reader stand together.

In:  hypotheses in order of strength, in the families their responses put them in, and the names of their concepts.
Out: the same hypotheses, families with one name, direction and place joined under the strongest of them.
Refuses: to change a statistic; to join names that rest on tokens alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["join_families"]

Row = dict[str, Any]


def join_families(hypotheses: Sequence[Row], rules: Mapping[str, str], made_from: Mapping[str, str]) -> list[Row]:
    """Return copies of the hypotheses with `family` joined across one name.

    rules: {concept id: behaviour rule} for concepts named by the library; made_from: {region id: what the region is
    made of}. Two families join when their heads have the same view, direction, rule and place.
    """
    heads: dict[tuple[Any, ...], str] = {}
    joined: dict[str, str] = {}
    for hypothesis in hypotheses:
        if hypothesis["family"] != hypothesis["id"]:
            continue
        rule = rules.get(hypothesis["concept"]["id"])
        region = hypothesis["region"]
        place = made_from[region["id"]] if region else None
        key = (hypothesis["view"], hypothesis["direction"], hypothesis["confirmed"], rule, place)
        joined[hypothesis["id"]] = heads.setdefault(key, hypothesis["id"]) if rule else hypothesis["id"]
    return [{**hypothesis, "family": joined.get(hypothesis["family"], hypothesis["id"])} for hypothesis in hypotheses]
