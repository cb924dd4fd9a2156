"""Names meet findings: each hypothesis gets the name it can stand behind, and a place in a family.

In:  hypotheses as they stand in hypotheses.json, names.json, the study's pairs and features.
Out: the same hypotheses with `concept` and `region` named, `namesake`, and `family`; their statistics as they were.
Refuses: to confirm a finding, or to give it a behaviour's name, when that behaviour, measured by rule, does not lean
     with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tiltscope import stats
from tiltscope.behaviours import counted
from tiltscope.families import Finding, Ground, group_findings
from tiltscope.features import Features
from tiltscope.hypotheses import MAX_PAIR_IDS, UNCONFIRMED_PAIR_IDS, plain
from tiltscope.naming.namesake import Namesake, check_names
from tiltscope.pairs import Pair

__all__ = ["Data", "tell"]

Row = dict[str, Any]

MIXED = "mixed"  # the latents lean, the behaviour they are named after does not
_BY = "present"  # what a behaviour concept counts
_CLEAR_FROM = 0.7  # held-out balanced accuracy from which a name of tokens tells a reader something


@dataclass(frozen=True)
class Data:
    """The pairs in the order of the features, their features, and the seed that split them."""

    rows: Sequence[Pair]
    features: Features
    seed: int


def tell(
    hypotheses: Sequence[Row],
    names: Mapping[str, Mapping[str, Any]],
    regions: Sequence[Mapping[str, Any]],
    disparities: Mapping[str, Mapping[str, float]],
    data: Data,
) -> list[Row]:
    """Return the hypotheses named and grouped; the same input gives the same answer, however often it is told.

    names: names.json; regions: those of concepts.json; disparities: {hypothesis id: {pair id: value}}.
    """
    made_from = {region["id"]: region["made_from"] for region in regions}
    groups = np.array([pair.group for pair in data.rows])
    confirm = ~stats.explore_mask(groups, data.seed)
    place = {pair.id: i for i, pair in enumerate(data.rows)}
    inside = {region["id"]: _mask(region["pair_ids"], place) for region in regions}
    entries = {key: one["library"] for key, one in names.items() if one.get("named_by") == "library"}
    namesakes = check_names(hypotheses, entries, data.rows, inside, confirm)
    namesakes |= {h["id"]: _itself(h) for h in hypotheses if _by_rule(h)}
    told = [_named(one, names, made_from, namesakes.get(one["id"])) for one in hypotheses]
    logs = [np.log(np.maximum(side.n_tokens, 1)) for side in (data.features.chosen, data.features.rejected)]
    spline = stats.spline_basis_difference(logs[0], logs[1])
    grounds = [
        Ground(rows, stats.Clusters.of(groups[rows]), spline)
        for rows in (np.arange(len(groups)), np.flatnonzero(confirm))
    ]
    heads = group_findings([_finding(one, made_from) for one in told], _columns(told, disparities, place), *grounds)
    return [
        {**one, "family": told[head]["id"], "pair_ids": _carriers(one, disparities.get(one["id"], {}), i == head)}
        for i, (one, head) in enumerate(zip(told, heads, strict=True))
    ]


def _by_rule(hypothesis: Row) -> bool:
    """Whether its concept is a behaviour itself, counted by rule, and not latents that are named after one."""
    return bool(hypothesis["concept"].get("rule"))


def _itself(hypothesis: Row) -> Namesake:
    """What is counted by rule is its own namesake."""
    lean = hypothesis["own_lean"]
    return Namesake(hypothesis["concept"]["rule"], _BY, lean["effect"], lean["ci_low"], lean["ci_high"], True)


def _is_words(hypothesis: Row) -> bool:
    return str(hypothesis["concept"]["id"]).startswith("W-")


def _carriers(told: Row, disparity: Mapping[str, float], speaks: bool) -> list[str]:
    """The pairs that carry it, strongest first; many for one that speaks for its family, a few for the others."""
    sign = 1 if told["direction"] == "more" else -1
    carrying = sorted((-sign * value, pair_id) for pair_id, value in disparity.items() if sign * value > 0)
    most = MAX_PAIR_IDS if speaks and told["confirmed"] else UNCONFIRMED_PAIR_IDS
    return [pair_id for _, pair_id in carrying[:most]]


def _mask(pair_ids: Sequence[str], place: Mapping[str, int]) -> np.ndarray:
    mask = np.zeros(len(place), bool)
    mask[[place[pair_id] for pair_id in pair_ids]] = True
    return mask


def _named(hypothesis: Row, names: Mapping[str, Any], made_from: Mapping[str, str], namesake: Namesake | None) -> Row:
    concept, region = dict(hypothesis["concept"]), hypothesis["region"]
    named = names.get(concept["id"])
    if named:
        concept |= {key: named[key] for key in ("name", "named_by", "name_score")}
        concept["top_tokens"] = _tokens(named)
        if namesake and not namesake.holds:
            own = named.get("tokens_name") or "unclear"
            concept |= {"name": own, "named_by": "nobody" if own == "unclear" else "tokens", "name_score": None}
    of_region = names.get(made_from[region["id"]]) if region else None
    if of_region:
        region = {**region, "name": of_region["name"], "top_tokens": _tokens(of_region)}
    return {
        **hypothesis,
        **_judged(hypothesis, namesake),
        "concept": concept,
        "region": region,
        "namesake": plain(asdict(namesake)) if namesake else None,
    }


def _judged(hypothesis: Row, namesake: Namesake | None) -> Row:
    """Confirmed by the test and, where a behaviour names it, by that behaviour: else it leans by something unnamed."""
    if hypothesis["verdict"] not in ("confirmed", MIXED):
        return {}
    mixed = namesake is not None and not namesake.holds
    return {"confirmed": not mixed, "verdict": MIXED if mixed else "confirmed"}


def _tokens(named: Mapping[str, Any]) -> list[str]:
    return [lifted["token"] for lifted in named.get("lifted_tokens", [])[:8]]


def _finding(told: Row, made_from: Mapping[str, str]) -> Finding:
    concept, namesake = told["concept"], told["namesake"]
    return Finding(
        told["view"],
        1 if told["direction"] == "more" else -1,
        told["confirmed"],
        counted(namesake["rule"])[0] if namesake and namesake["holds"] and not _is_words(told) else "",
        _is_words(told) or (concept["name_score"] or 0.0) >= _CLEAR_FROM,
        made_from[told["region"]["id"]] if told["region"] else "",
        by_rule=_by_rule(told) and not _is_words(told),
        often=counted(str(concept.get("rule")))[1] > 1,
        words=_is_words(told),
    )


def _columns(told: Sequence[Row], disparities: Mapping[str, Mapping[str, float]], place: Mapping[str, int]) -> Any:
    """(n_pairs, n_hypotheses) CSC of disparities."""
    from scipy import sparse

    columns = [disparities.get(one["id"], {}) for one in told]
    starts = np.cumsum([0, *map(len, columns)])
    rows = np.array([place[pair_id] for column in columns for pair_id in column], np.int64)
    values = np.array([value for column in columns for value in column.values()], np.float32)
    return sparse.csc_array((values, rows, starts), shape=(len(place), len(told)))
