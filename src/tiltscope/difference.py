"""Two studies become one answer: what do the new data teach that the old did not?

In:  two study folders that were read through the same scope.
Out: `diff_studies`: findings that are new, gone, turned round, stronger, weaker or unchanged, each with the change and
     its interval, and the rows added and removed; `render_diff`: the same for a terminal.
Refuses: studies of different scopes, where latent 812 is not the same thing; and to call a change real because one
     study confirmed it and the other did not: the interval of the change says that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltscope.artifact import check_fresh, quoted, read_object
from tiltscope.concepts import Concept
from tiltscope.errors import StaleProductError
from tiltscope.hypotheses import read_disparities, read_hypotheses
from tiltscope.known import measured
from tiltscope.report import headline, visible
from tiltscope.report.text import fit, one_line, signed, wrapped
from tiltscope.report.words import concept_name

if TYPE_CHECKING:
    from tiltscope.features import Features
    from tiltscope.pairs import Pair

__all__ = ["check_one_scope", "diff_studies", "joint_groups", "render_diff"]

Row = Mapping[str, Any]

ALIKE = 0.5
"""Latents or pairs are taken for the same concept or region when they share at least this much of their union."""

_LISTED = 20
_SHARED_PAIRS = 25
_STATES = (
    ("new", "newly confirmed"),
    ("turned", "turned round"),
    ("gone", "no longer confirmed"),
    ("stronger", "confirmed in both, stronger now"),
    ("weaker", "confirmed in both, weaker now"),
    ("still", "confirmed in both, no change told from chance"),
)


@dataclass(frozen=True)
class _Study:
    """What of one study is compared."""

    folder: Path
    name: str
    settings: dict[str, Any]
    hypotheses: list[dict[str, Any]]
    rows: list[Pair]
    features: Features
    concepts: dict[str, frozenset[int]]
    regions: dict[str, Row]

    @property
    def groups(self) -> np.ndarray:
        return np.array([pair.group for pair in self.rows])

    @property
    def pair_ids(self) -> tuple[str, ...]:
        return self.features.pair_ids


def diff_studies(a: Path, b: Path) -> dict[str, Any]:
    """Compare the findings of study B with those of study A.

    A finding everywhere is measured on all pairs of both with the very same latents, and the change (B minus A) comes
    from one regression whose errors may be dependent within a group, so pairs that both studies share count once.
    A finding in a region has its change from the two intervals as if the studies were independent, which is too wide
    where they share pairs.

    Returns:
        JSON-able: rows (counts, added, removed), findings (state, effects, change with ci_low and ci_high), unchanged
        (findings confirmed in both whose change is not told from chance), counts per state, and settings that differ.
        A study compared with itself has no findings.

    Raises:
        StaleProductError: the studies were read through different scopes.
        ProductError: a product is missing or damaged.
    """
    old, new = _open(a), _open(b)
    check_one_scope(old.features, new.features, where=(a, b), hint=f"tiltscope audit DATA --out {quoted(b)}")
    findings = _findings(old, new)
    order = [state for state, _ in _STATES]
    findings.sort(key=lambda one: (order.index(one["state"]), -_size(one["change"]), one["id"]))
    return {
        "a": visible(old.name),
        "b": visible(new.name),
        "scope": new.features.scope_fingerprint,
        "rows": _rows(old, new),
        "counts": {state: sum(one["state"] == state for one in findings) for state in order},
        "findings": [one for one in findings if one["state"] != "still"],
        "unchanged": [one for one in findings if one["state"] == "still"],
        "settings": {
            key: {"a": old.settings.get(key), "b": new.settings.get(key)}
            for key in sorted(old.settings.keys() | new.settings.keys())
            if old.settings.get(key) != new.settings.get(key)
        },
    }


def _open(study: Path) -> _Study:
    from tiltscope.features import load_features
    from tiltscope.pairs import read_pairs

    hypotheses = read_hypotheses(study)
    record = read_object(study / "contrast.json", "settings", verb=f"contrast {quoted(study)}")
    product = read_object(study / "concepts.json", "concepts", "regions", verb=f"contrast {quoted(study)}")
    features = load_features(study / "features")
    check_fresh(
        record, {"features": features.fingerprint}, where=study / "hypotheses.json", verb=f"contrast {quoted(study)}"
    )
    by_id = {pair.id: pair for pair in read_pairs(study).rows}
    return _Study(
        study,
        study.resolve().name,
        record["settings"],
        hypotheses,
        [by_id[pair_id] for pair_id in features.pair_ids],
        features,
        {one["id"]: frozenset(map(int, one["latents"])) for one in product["concepts"]},
        {one["id"]: one for one in product["regions"]},
    )


def _rows(old: _Study, new: _Study) -> dict[str, Any]:
    before, after = set(old.pair_ids), set(new.pair_ids)
    added, removed = sorted(after - before), sorted(before - after)
    return {
        "n_a": len(before),
        "n_b": len(after),
        "n_shared": len(before & after),
        "n_added": len(added),
        "n_removed": len(removed),
        "added": added[:_LISTED],
        "removed": removed[:_LISTED],
    }


def _findings(old: _Study, new: _Study) -> list[dict[str, Any]]:
    """Every confirmed family of B with its counterpart in A, then the families of A that none of B's spoke for."""
    found, met = [], set()
    for row in _heads(new):
        twin = _twin(row, new, old)
        if twin is not None and twin["confirmed"]:
            met.add(twin["family"])
        found.append(_finding(twin, row, old, new))
    for row in _heads(old):
        if row["family"] not in met:
            found.append(_finding(row, _twin(row, old, new), old, new))
    return found


def _heads(study: _Study) -> list[dict[str, Any]]:
    """One confirmed finding per family."""
    heads: dict[str, dict[str, Any]] = {}
    for row in study.hypotheses:
        name = str(row.get("family") or row["id"])
        if row["confirmed"] and (name not in heads or row["id"] == name):
            heads[name] = row
    return list(heads.values())


def _twin(row: Row, mine: _Study, other: _Study) -> dict[str, Any] | None:
    """The finding of the other study about the same latents in the same place; the most alike, confirmed ones first."""
    latents = _about(row)
    best: tuple[float, bool, dict[str, Any]] | None = None
    for one in other.hypotheses:
        if not _same_unit(row, one):
            continue
        alike = _jaccard(latents, _about(one))
        if alike < ALIKE or not _same_place(row, one, mine, other):
            continue
        if best is None or (bool(one["confirmed"]), alike) > (best[1], best[0]):
            best = (alike, bool(one["confirmed"]), one)
    return best[2] if best else None


def _about(row: Row) -> set[Any]:
    """What a finding speaks of: its latents, or the behaviour that is counted by rule."""
    return set(row["concept"]["latents"]) or {row["concept"].get("rule")}


def _same_unit(row: Row, one: Row) -> bool:
    """The same view, estimand and disparity: that of a response-shift cluster is another than that of latents."""
    shifts = {str(each["concept"]["id"]).startswith("R") for each in (row, one)}
    return bool(row["view"] == one["view"] and row["estimand"] == one["estimand"] and len(shifts) == 1)


def _jaccard(one: set[Any] | frozenset[Any], two: set[Any] | frozenset[Any]) -> float:
    return len(one & two) / len(one | two) if one or two else 0.0


def _same_place(row: Row, one: Row, mine: _Study, other: _Study) -> bool:
    """Both everywhere; or regions made from like latents; or regions that hold the same of the pairs both have."""
    if row["region"] is None or one["region"] is None:
        return row["region"] is one["region"]
    here, there = mine.regions.get(row["region"]["id"], {}), other.regions.get(one["region"]["id"], {})
    source, target = mine.concepts.get(str(here.get("made_from"))), other.concepts.get(str(there.get("made_from")))
    if source and target and _jaccard(source, target) >= ALIKE:
        return True
    shared = set(mine.pair_ids) & set(other.pair_ids)
    inside, outside = set(here.get("pair_ids", ())) & shared, set(there.get("pair_ids", ())) & shared
    return len(inside | outside) >= _SHARED_PAIRS and _jaccard(inside, outside) >= ALIKE


def _finding(before: Row | None, after: Row | None, old: _Study, new: _Study) -> dict[str, Any]:
    row = after if after is not None and after["confirmed"] else before
    assert row is not None
    if row["region"] is None:
        effects, how = _measured(row, old, new), "same latents or rule, all pairs of both, one regression"
    else:
        effects, how = _reported(before, after), "two intervals, taken as independent"
    state = _state(before, after, effects)
    return {
        "id": str(row["id"]),
        "state": state,
        "view": row["view"],
        "where": "everywhere" if row["region"] is None else str(row["region"]["id"]),
        "concept": {"id": row["concept"]["id"], "name": concept_name(row["concept"])},
        "direction": row["direction"],
        "headline": headline(row),
        "in_a": None if before is None else str(before["id"]),
        "in_b": None if after is None else str(after["id"]),
        **effects,
        "how": how if effects["change"] else "not comparable: the other study has no such place among its findings",
        "carried_by": _carried_by(row, old, new) if state in {"new", "turned", "stronger"} else None,
    }


def _state(before: Row | None, after: Row | None, effects: Row) -> str:
    if before is None or not before["confirmed"]:
        return "new"
    if after is None or not after["confirmed"]:
        return "gone"
    if before["direction"] != after["direction"]:
        return "turned"
    if not _size(effects["change"]):
        return "still"
    return "stronger" if abs(effects["effect_b"]["effect"]) > abs(effects["effect_a"]["effect"]) else "weaker"


def _carried_by(row: Row, old: _Study, new: _Study) -> dict[str, int]:
    """How many pairs of B lean the way the finding says, and how many of those are not in A."""
    sign = 1 if row["direction"] == "more" else -1
    leaning = {pair for pair, value in read_disparities(new.folder, str(row["id"])).items() if sign * value > 0}
    return {"n_pairs": len(leaning), "n_added": len(leaning - set(old.pair_ids))}


def _interval(effect: float, low: float, high: float) -> dict[str, float] | None:
    if not np.isfinite([effect, low, high]).all():
        return None
    return {"effect": float(effect), "ci_low": float(low), "ci_high": float(high)}


def _reported(before: Row | None, after: Row | None) -> dict[str, Any]:
    """The two studies' own numbers, and the change as if they were independent."""
    pair = [
        None if row is None or row["ci_low"] is None else _interval(row["effect"], row["ci_low"], row["ci_high"])
        for row in (before, after)
    ]
    change = None
    if pair[0] and pair[1]:
        effect = pair[1]["effect"] - pair[0]["effect"]
        down = np.hypot(pair[1]["effect"] - pair[1]["ci_low"], pair[0]["ci_high"] - pair[0]["effect"])
        up = np.hypot(pair[1]["ci_high"] - pair[1]["effect"], pair[0]["effect"] - pair[0]["ci_low"])
        change = _interval(effect, effect - down, effect + up)
    return {"effect_a": pair[0], "effect_b": pair[1], "change": change}


def _measured(row: Row, old: _Study, new: _Study) -> dict[str, Any]:
    """Mean disparity of the same latents in both, and B minus A."""
    from tiltscope import stats

    concept = row["concept"]
    unit = Concept(str(concept["id"]), tuple(map(int, concept["latents"])), rule=str(concept.get("rule") or ""))
    u = [measured(study.features, study.rows, [unit]).u.toarray()[:, 0] for study in (old, new)]
    groups = _joint_groups(old, new)
    sides = (groups[: len(u[0])], groups[len(u[0]) :])
    each = [stats.tau_test(values, stats.Clusters.of(names)) for values, names in zip(u, sides, strict=True)]
    is_new = np.repeat([0.0, 1.0], [len(u[0]), len(u[1])])
    design = np.column_stack([np.ones(len(is_new)), is_new])
    change = stats.RegressionCR2(design, stats.Clusters.of(groups), 1).fit(np.concatenate(u))
    out = []
    for estimates in (*each, change):
        bounds = estimates.interval(0.95)
        out.append(_interval(float(estimates.effect), float(bounds.low), float(bounds.high)))
    if out[2] is None and abs(float(change.effect)) == 0:
        out[2] = _interval(0.0, 0.0, 0.0)  # the same pairs on both sides: the change is nought, and known to be
    return {"effect_a": out[0], "effect_b": out[1], "change": out[2]}


def _joint_groups(old: _Study, new: _Study) -> np.ndarray:
    """Witness numbers for the rows of A, then of B."""
    return np.concatenate(joint_groups((old.pair_ids, old.groups), (new.pair_ids, new.groups)))


def check_one_scope(old: Features, new: Features, *, where: tuple[Path, Path], hint: str) -> None:
    """Raise `StaleProductError` where two studies were read through different scopes; hint: how to read the second."""
    if old.scope_fingerprint != new.scope_fingerprint:
        raise StaleProductError(
            "these studies were read through different scopes, so their latents are not the same things",
            where=f"{where[0]} and {where[1]}",
            found=f"scopes {old.scope_fingerprint} and {new.scope_fingerprint}",
            hint=f"read the second dataset through the first scope: {hint} --sae {where[0] / 'scope'}",
        )


def joint_groups(
    old: tuple[Sequence[str], np.ndarray], new: tuple[Sequence[str], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Number the witnesses of two datasets, each given as pair ids and their groups (n,); returns (n_old,), (n_new,).

    Groups of one name, or that share a pair, are one witness.
    """
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    n_old = len(old[1])
    names, codes = np.unique(np.concatenate([old[1], new[1]]), return_inverse=True)
    at = {pair_id: place for place, pair_id in enumerate(old[0])}
    shared = [(codes[at[pair_id]], codes[n_old + i]) for i, pair_id in enumerate(new[0]) if pair_id in at]
    ends = np.array(shared, dtype=np.int64).reshape(-1, 2)
    links = sparse.coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(names), len(names)))
    witness = connected_components(links, directed=False)[1][codes]
    return witness[:n_old], witness[n_old:]


def _size(change: Row | None) -> float:
    """How far from zero the change surely is."""
    if change is None or change["ci_low"] * change["ci_high"] <= 0:
        return 0.0
    return float(min(abs(change["ci_low"]), abs(change["ci_high"])))


def render_diff(difference: Row, *, width: int = 80, limit: int = 15) -> str:
    """Return a comparison for a terminal; at most `limit` findings per state, and what is left out is counted."""
    rows = difference["rows"]
    lines = wrapped(
        f"{difference['b']} against {difference['a']}: {rows['n_shared']:,} pairs shared, {rows['n_added']:,} added, "
        f"{rows['n_removed']:,} removed.",
        width,
    )
    every = [*difference["findings"], *difference["unchanged"]]
    for state, title in _STATES:
        found = [one for one in every if one["state"] == state]
        if not found:
            continue
        shown = found[:limit]
        lines += ["", *wrapped(f"{title}: {len(shown)} of {len(found)}, surest change first", width)]
        for one in shown:
            lines += _lines(one, width)
    lines += ["", *wrapped(_closing(difference, every), width)] if _closing(difference, every) else []
    for key, values in difference["settings"].items():
        lines += wrapped(f"Settings differ: {key} is {values['a']} in A and {values['b']} in B.", width)
    return "\n".join(lines)


def _closing(difference: Row, every: Sequence[Row]) -> str:
    if not every:
        return "Neither study confirmed anything, so there is nothing to compare."
    if not difference["findings"]:
        return "No finding changed: B teaches what A teaches."
    if not any(_size(one["change"]) for one in every):
        return "No change is told from chance: every interval of a change holds zero."
    return ""


def _lines(one: Row, width: int) -> list[str]:
    where = "" if one["where"] == "everywhere" else f" @{one_line(one['where'])}"
    head = f"  {one_line(one['id'])}  {one['direction']}: {one['concept']['name']}{where}"
    told = "" if _size(one["change"]) else ", not told from chance"
    numbers = f"    A {_said(one['effect_a'])}  B {_said(one['effect_b'])}"
    change = f"change {_said(one['change'])}{told}" if one["change"] else one["how"]
    carried = one["carried_by"]
    if carried:
        change += f"; {carried['n_added']:,} of the {carried['n_pairs']:,} pairs that carry it are added ones"
    return [fit(head, width).rstrip(), numbers, *wrapped(change, width, indent="    ")]


def _said(interval: Row | None) -> str:
    if interval is None:
        return "not there"
    ends = f"[{signed(interval['ci_low'], digits=2)}, {signed(interval['ci_high'], digits=2)}]"
    return f"{signed(interval['effect'], digits=2)} {ends}"
