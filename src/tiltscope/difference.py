"""Two studies become what the second teaches that the first did not.

In:  two study folders after `contrast`, read through the same autoencoder.
Out: a JSON-able product: findings that are new, gone, stronger, weaker or turned, with intervals of the difference, and
     the pairs added and removed; `render_diff` for the terminal.
Refuses: studies of two autoencoders (their latents are different things), and to call a change a change when only the
     verdict differs: the interval of the difference stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tiltscope.artifact import read_json
from tiltscope.errors import ProductError, StaleProductError
from tiltscope.hypotheses import read_disparities, read_hypotheses
from tiltscope.report import families, headline, signed, visible, wrapped

__all__ = ["diff_studies", "render_diff"]

Row = Mapping[str, Any]

CHANGES = (
    ("new", "Newly confirmed"),
    ("gone", "No longer confirmed"),
    ("turned", "Turned round"),
    ("stronger", "Stronger"),
    ("weaker", "Weaker"),
)
_LIKE = 0.5  # overlap from which two concepts, or two kinds of pairs, are the same
_IDS = 20  # pair ids listed
_LINES = 20  # findings of a change printed

_METHOD = (
    "The difference is B minus A of the effects in the confirm halves. Its 95 % interval takes the two as independent: "
    "where the studies share pairs it is wider than it need be. A finding can be confirmed in one study alone although "
    "the difference is not told from chance; then the interval holds 0."
)


@dataclass(frozen=True)
class _Study:
    """What a comparison needs of one study."""

    folder: Path
    scope: dict[str, Any]
    hypotheses: list[dict[str, Any]]
    rows: dict[str, int]  # pair id -> row of the source file

    @cached_property
    def families(self) -> list[list[Row]]:
        """Confirmed families, spokesmen first."""
        return families(self.hypotheses)

    @cached_property
    def by_latent(self) -> dict[int, list[Row]]:
        """Hypotheses that speak of a latent."""
        found: dict[int, list[Row]] = {}
        for row in self.hypotheses:
            for latent in row["concept"]["latents"]:
                found.setdefault(int(latent), []).append(row)
        return found

    @cached_property
    def places(self) -> dict[str, tuple[frozenset[str], frozenset[int]]]:
        """Region id -> its pairs, and the latents it was made from."""
        body = read_json(self.folder / "concepts.json", verb=f"contrast {self.folder}")
        latents = {one["id"]: frozenset(one["latents"]) for one in body["concepts"]}
        return {
            one["id"]: (frozenset(one["pair_ids"]), latents.get(one["made_from"], frozenset()))
            for one in body["regions"]
        }


@dataclass(frozen=True)
class _Match:
    """The hypothesis of the other study that speaks of the same thing, and how much they overlap (1 = the same)."""

    row: Row
    concept: float
    region: float


def diff_studies(a: Path, b: Path) -> dict[str, Any]:
    """Return what the data of study B teach that the data of study A did not (docs/report.md describes the object).

    Findings are matched by the latents of their concepts (Jaccard at least .5) and by their kind of pair, so it does
    not matter how another run numbers its clusters. Two identical studies give empty lists.

    Raises:
        StaleProductError: the studies were read through different scopes.
        ProductError: a product is missing or damaged.
    """
    one, other = _open(a), _open(b)
    _same_scope(one, other)
    compared = _compare(one, other)
    return {
        "format": "tiltscope diff",
        "format_version": 1,
        "scope": one.scope["fingerprint"],
        "a": _face(one),
        "b": _face(other),
        "pairs": _pairs(one, other),
        "findings": {name: [row for change, row in compared if change == name] for name, _ in CHANGES},
        "unchanged": [row for change, row in compared if change == "unchanged"],
        "notes": _notes(one, other),
        "method": _METHOD,
    }


def _open(folder: Path) -> _Study:
    scope = read_json(folder / "scope" / "scope.json", verb=f"read DATA --out {folder}")
    if not isinstance(scope, dict) or not scope.get("fingerprint"):
        raise ProductError("scope.json has no fingerprint", where=str(folder / "scope"), hint="rerun: tiltscope read")
    return _Study(folder, scope, read_hypotheses(folder), _row_numbers(folder))


def _row_numbers(folder: Path) -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "pairs.parquet"
    if not path.exists():
        raise ProductError(
            "pairs.parquet is not there yet", where=str(folder), hint=f"tiltscope read DATA --out {folder}"
        )
    try:
        table = pq.read_table(path, columns=["id", "row"])
    except pa.ArrowException as error:
        raise ProductError(
            "pairs.parquet is damaged", where=str(path), found=str(error), hint=f"tiltscope read DATA --out {folder}"
        ) from error
    return dict(zip(table["id"].to_pylist(), table["row"].to_pylist(), strict=True))


def _same_scope(a: _Study, b: _Study) -> None:
    if a.scope["fingerprint"] == b.scope["fingerprint"]:
        return
    keys = ("model", "layer", "dtype", "template_fingerprint", "max_length", "sae")
    parts = [key for key in keys if _fingerprint_of(a.scope.get(key)) != _fingerprint_of(b.scope.get(key))]
    raise StaleProductError(
        "these studies were read through different scopes, so their latents are different things",
        where=f"{a.folder} and {b.folder}",
        found=f"scope {a.scope['fingerprint']} and {b.scope['fingerprint']}; they differ in {', '.join(parts) or '?'}",
        hint=f"read B like A: tiltscope audit DATA_B --out NEW_STUDY --sae {a.folder}/scope/sae.safetensors",
    )


def _fingerprint_of(part: Any) -> Any:
    return part.get("fingerprint") if isinstance(part, Mapping) else part


def _face(study: _Study) -> dict[str, Any]:
    n_confirmed = sum(bool(row["confirmed"]) for row in study.hypotheses)
    counts = {"n_pairs": len(study.rows), "n_confirmed": n_confirmed, "n_families": len(study.families)}
    return {"study": visible(study.folder.resolve().name), **counts}


def _pairs(a: _Study, b: _Study) -> dict[str, Any]:
    added = [pair_id for pair_id in b.rows if pair_id not in a.rows]
    removed = [pair_id for pair_id in a.rows if pair_id not in b.rows]
    return {
        "n_shared": len(b.rows) - len(added),
        "added": _listed(added, b.rows),
        "removed": _listed(removed, a.rows),
    }


def _listed(ids: Sequence[str], rows: Mapping[str, int]) -> dict[str, Any]:
    first = [{"pair_id": pair_id, "row": rows[pair_id]} for pair_id in ids[:_IDS]]
    return {"n": len(ids), "first": first, "note": f"{len(first)} of {len(ids)}, first in the file"}


def _notes(a: _Study, b: _Study) -> list[str]:
    """Settings that differ between the two contrasts: they can make a difference that the data did not."""
    settings = []
    for study in (a, b):
        path = study.folder / "contrast.json"
        settings.append(read_json(path, verb=f"contrast {study.folder}").get("settings") or {} if path.exists() else {})
    keys = sorted(
        key for key in settings[0].keys() | settings[1].keys() if settings[0].get(key) != settings[1].get(key)
    )
    return [f"{key}: {settings[0].get(key)} in A, {settings[1].get(key)} in B" for key in keys]


# --- matching ---------------------------------------------------------------------------------------------------------


def _compare(a: _Study, b: _Study) -> list[tuple[str, dict[str, Any]]]:
    """Every confirmed family of either study once, with what became of it, in the order of B and then of A."""
    out = []
    reached = set()
    for head in (rows[0] for rows in b.families):
        match = _counterpart(head, b, a)
        if match and match.row["confirmed"]:
            reached.add(match.row["family"])
        out.append(_change(match.row if match else None, head, match, (a, b)))
    for head in (rows[0] for rows in a.families):
        if head["family"] not in reached:
            match = _counterpart(head, a, b)
            out.append(_change(head, match.row if match else None, match, (a, b)))
    return out


def _counterpart(row: Row, own: _Study, other: _Study) -> _Match | None:
    """The hypothesis of the other study, confirmed or not, that says the most similar thing."""
    latents = frozenset(row["concept"]["latents"])
    near = {near["id"]: near for latent in latents for near in other.by_latent.get(int(latent), [])}
    found = []
    for candidate in near.values():
        if not _comparable(row, candidate):
            continue
        overlap = _jaccard(latents, frozenset(candidate["concept"]["latents"]))
        if overlap >= _LIKE and (where := _region_overlap(row, candidate, own, other)) >= _LIKE:
            found.append(_Match(candidate, overlap, where))
    best = sorted(found, key=lambda m: (-m.concept, -m.region, not m.row["confirmed"], str(m.row["id"])))
    return best[0] if best else None


def _comparable(row: Row, other: Row) -> bool:
    """Whether the two effects are in the same unit: the same view, estimand and disparity."""
    shift = [str(one["concept"]["id"]).startswith("R") for one in (row, other)]
    return bool(row["view"] == other["view"] and row["estimand"] == other["estimand"] and shift[0] == shift[1])


def _region_overlap(row: Row, candidate: Row, own: _Study, other: _Study) -> float:
    """Overlap of the kinds of pairs: on the pairs both studies hold, or of the latents they were made from."""
    if not row.get("region") or not candidate.get("region"):
        return 1.0 if not row.get("region") and not candidate.get("region") else 0.0
    pairs, made_from = own.places[row["region"]["id"]]
    other_pairs, other_from = other.places[candidate["region"]["id"]]
    shared = own.rows.keys() & other.rows.keys()
    return max(_jaccard(pairs & shared, other_pairs & shared), _jaccard(made_from, other_from))


def _jaccard(one: frozenset[Any], other: frozenset[Any]) -> float:
    return len(one & other) / len(one | other) if one or other else 0.0


# --- what became of a finding -----------------------------------------------------------------------------------------


def _change(
    in_a: Row | None, in_b: Row | None, match: _Match | None, studies: tuple[_Study, _Study]
) -> tuple[str, dict[str, Any]]:
    difference = _difference(in_a, in_b)
    change = _kind(in_a, in_b, difference)
    shown: Row = in_a if change == "gone" and in_a else in_b or {}
    out = {
        "headline": headline(shown),
        "a": _numbers(in_a),
        "b": _numbers(in_b),
        "difference": difference,
        "overlap": {"concept": match.concept, "region": match.region} if match else None,
    }
    if change in {"new", "stronger", "turned"} and in_b:
        out["carried_by"] = _carried_by(in_b, *studies)
    return change, out


def _difference(in_a: Row | None, in_b: Row | None) -> dict[str, Any] | None:
    """B minus A; half-widths add in squares, as for independent estimates."""
    if in_a is None or in_b is None or None in (in_a["effect"], in_b["effect"], in_a["ci_low"], in_b["ci_low"]):
        return None  # not listed there, or a number that is not defined there
    effect = in_b["effect"] - in_a["effect"]
    half = math.hypot(*((row["ci_high"] - row["ci_low"]) / 2 for row in (in_a, in_b)))
    clear = abs(effect) > half
    return {"effect": effect, "ci_low": effect - half, "ci_high": effect + half, "told_from_chance": clear}


def _kind(in_a: Row | None, in_b: Row | None, difference: Row | None) -> str:
    if in_a is None or not in_a["confirmed"]:
        return "new"
    if in_b is None or not in_b["confirmed"]:
        return "gone"
    if difference is None or not difference["told_from_chance"]:
        return "unchanged"
    if in_a["effect"] * in_b["effect"] < 0:
        return "turned"
    return "stronger" if abs(in_b["effect"]) > abs(in_a["effect"]) else "weaker"


def _numbers(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    region = row.get("region")
    kept = ("id", "view", "direction", "effect", "ci_low", "ci_high", "q", "n_pairs", "confirmed", "verdict")
    concept = {"id": row["concept"]["id"], "name": visible(str(row["concept"].get("name") or ""))}
    return {key: row.get(key) for key in kept} | {"concept": concept, "where": region["id"] if region else "everywhere"}


def _carried_by(row: Row, a: _Study, b: _Study) -> dict[str, int]:
    """How many of B's pairs that carry the finding are not in A."""
    sign = 1 if row["direction"] == "more" else -1
    carrying = [pair_id for pair_id, value in read_disparities(b.folder, row["id"]).items() if sign * value > 0]
    return {"n_pairs": len(carrying), "n_added": sum(pair_id not in a.rows for pair_id in carrying)}


# --- on the terminal --------------------------------------------------------------------------------------------------


def render_diff(product: Row, *, width: int = 80) -> str:
    """Return the product of `diff_studies` as text of at most `width` columns."""
    a, b, pairs = product["a"], product["b"], product["pairs"]
    added, removed = pairs["added"]["n"], pairs["removed"]["n"]
    lines = wrapped(f"A: {a['study']}, {a['n_pairs']:,} pairs, {a['n_families']} confirmed families", width)
    lines += wrapped(f"B: {b['study']}, {b['n_pairs']:,} pairs, {b['n_families']} confirmed families", width)
    lines += [f"Pairs: {pairs['n_shared']:,} shared, {added:,} added, {removed:,} removed", ""]
    changed = sum(len(rows) for rows in product["findings"].values())
    for name, title in CHANGES:
        rows = product["findings"][name]
        shown = rows[:_LINES]
        more = f" ({len(shown)} of {len(rows)}, strongest first; --json shows all)" if len(shown) < len(rows) else ""
        lines += wrapped(f"{title}: {len(rows)}{more}", width) if rows else []
        for row in shown:
            lines += [*wrapped(row["headline"], width, indent="- "), *_said(row, width)]
        lines += [""] if rows else []
    if not changed:
        same = " and the pairs are the same" if not added and not removed else ""
        lines += [f"No finding differs{same}.", ""]
    lines += [f"Unchanged: {len(product['unchanged'])} confirmed families"]
    lines += [line for note in product["notes"] for line in wrapped(f"Settings differ, {note}.", width)]
    return "\n".join(lines + (wrapped(product["method"], width) if changed else []))


def _said(row: Row, width: int) -> list[str]:
    ends = [f"{name.upper()} {_interval(row[name])}" for name in ("a", "b")]
    difference = row["difference"]
    if difference:
        chance = "" if difference["told_from_chance"] else " (not told from chance)"
        ends.append(f"difference {_interval(difference)}{chance}")
    if "carried_by" in row:
        carried = row["carried_by"]
        ends.append(f"{carried['n_added']:,} of the {carried['n_pairs']:,} pairs that carry it were added")
    return wrapped("; ".join(ends), width, indent="    ")


def _interval(row: Row | None) -> str:
    if row is None:
        return "has no such candidate"
    said = f"{signed(row['effect'])} [{signed(row['ci_low'])}, {signed(row['ci_high'])}]"
    return said if row.get("confirmed", True) else f"{said} {visible(str(row['verdict']))}"
