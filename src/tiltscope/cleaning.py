"""Rows that carry a suppressed concept go into quarantine, and can come back.

In:  pair ids, and per suppressed concept the scores of both answers with a frozen threshold; the dataset's file.
Out: `Cleaned`; FOLDER/kept.jsonl and quarantine.jsonl in the original records' form, reasons.jsonl, cleaned.json.
Refuses: scores that do not fit the pairs, thresholds that are no numbers, and to clean everything away.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tiltscope.artifact import FORMAT_VERSION, read_object, write_json, write_text
from tiltscope.errors import ProductError, UsageError
from tiltscope.pairs import Pair
from tiltscope.pairs.records import read_records

__all__ = ["Cleaned", "Reason", "Sides", "Suppressed", "WrittenCleaning", "clean", "merge_cleaned", "write_cleaned"]

_KEPT, _QUARANTINE, _REASONS, _FACTS = "kept.jsonl", "quarantine.jsonl", "reasons.jsonl", "cleaned.json"


@dataclass(frozen=True)
class Suppressed:
    """One decision to suppress: scores (n_pairs,) of both answers, and the threshold above which an answer has it.

    inside (n_pairs,) bool: the pairs the decision is about; None for all. The threshold is frozen: it must not be
    computed from the rows that are being cleaned, or a second cleaning would go on removing.
    """

    name: str
    chosen: npt.NDArray[np.float64]
    rejected: npt.NDArray[np.float64]
    threshold: float
    inside: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Reason:
    """Why a row is in quarantine: its chosen answer has the concept, its rejected one does not."""

    name: str
    chosen: float
    rejected: float
    threshold: float


@dataclass(frozen=True)
class Sides:
    """Pairs in which only the chosen answer has a concept, and in which only the rejected one has it."""

    for_it: int
    against_it: int


@dataclass(frozen=True)
class Cleaned:
    """Ids that stay and ids in quarantine, both in the order of the pairs, with the reasons of the latter.

    sides: {concept: (of all pairs, of those kept)}.
    """

    kept: tuple[str, ...]
    quarantine: tuple[str, ...]
    reasons: Mapping[str, tuple[Reason, ...]]
    sides: Mapping[str, tuple[Sides, Sides]] = field(default_factory=dict)


@dataclass(frozen=True)
class WrittenCleaning:
    """Records written. n_passed: kept although they are no pair of ours (refused or not sampled); n_unreadable: rows
    that hold no record at all and are in neither file."""

    n_kept: int
    n_quarantine: int
    n_passed: int
    n_unreadable: int


def clean(pair_ids: Sequence[str], suppressed: Sequence[Suppressed], *, balanced: bool = False) -> Cleaned:
    """Put every pair into quarantine that teaches a suppressed concept: chosen above the threshold, rejected not.

    Each pair is judged by its own scores alone, so cleaning what was kept, with the same thresholds, removes nothing.
    Where other pairs teach the opposite, they are left alone and what is kept leans that way. balanced: of the pairs
    that teach a concept only as many go as there are more of them than of those, the furthest apart in their scores
    first, ties by id; that removes nothing the second time either.

    Raises:
        UsageError: nothing is suppressed, scores of another length or not finite, ids given twice, or no pair is left.
    """
    if not suppressed:
        raise UsageError("nothing is suppressed, so there is nothing to clean", hint="set action: suppress in the plan")
    if len(set(pair_ids)) != len(pair_ids):
        raise UsageError("a pair id is given twice", found=next(id for id in pair_ids if list(pair_ids).count(id) > 1))
    reasons: dict[str, tuple[Reason, ...]] = {}
    for one in suppressed:
        _check(one, len(pair_ids))
        for i in sorted(_gone(one, pair_ids, balanced=balanced)):
            why = Reason(one.name, float(one.chosen[i]), float(one.rejected[i]), float(one.threshold))
            reasons[pair_ids[i]] = (*reasons.get(pair_ids[i], ()), why)
    kept = tuple(id for id in pair_ids if id not in reasons)
    if not kept:
        names = ", ".join(one.name for one in suppressed)
        raise UsageError("every row would go into quarantine", found=f"{len(pair_ids)} rows carry {names}")
    stays = np.array([id not in reasons for id in pair_ids], bool)
    sides = {one.name: (_sides(one, np.ones(len(stays), bool)), _sides(one, stays)) for one in suppressed}
    return Cleaned(kept, tuple(id for id in pair_ids if id in reasons), reasons, sides)


def _carried(one: Suppressed) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Both (n_pairs,): only the chosen answer has it, only the rejected one has it."""
    chosen, rejected = one.chosen > one.threshold, one.rejected > one.threshold
    inside = np.ones(len(chosen), bool) if one.inside is None else one.inside
    return chosen & ~rejected & inside, rejected & ~chosen & inside


def _sides(one: Suppressed, rows: npt.NDArray[np.bool_]) -> Sides:
    for_it, against_it = _carried(one)
    return Sides(int((for_it & rows).sum()), int((against_it & rows).sum()))


def _gone(one: Suppressed, pair_ids: Sequence[str], *, balanced: bool) -> list[int]:
    for_it, against_it = _carried(one)
    found: list[int] = np.flatnonzero(for_it).tolist()
    if not balanced:
        return found
    found.sort(key=lambda i: (float(one.rejected[i] - one.chosen[i]), pair_ids[i]))
    return found[: max(0, len(found) - int(against_it.sum()))]


def _check(one: Suppressed, n_pairs: int) -> None:
    if not math.isfinite(one.threshold):
        raise UsageError(f"the threshold of {one.name!r} is no number", found=str(one.threshold))
    for side, scores in (("chosen", one.chosen), ("rejected", one.rejected)):
        if scores.shape != (n_pairs,) or not np.isfinite(scores).all():
            raise UsageError(
                f"the {side} scores of {one.name!r} do not fit the pairs",
                found=f"shape {scores.shape}, {int((~np.isfinite(scores)).sum())} not finite; {n_pairs} pairs",
                hint="run: tiltscope measure",
            )
    if one.inside is not None and one.inside.shape != (n_pairs,):
        raise UsageError(f"the region of {one.name!r} does not fit the pairs", found=f"shape {one.inside.shape}")


# --- on disk ----------------------------------------------------------------------------------------------------------


def write_cleaned(cleaned: Cleaned, rows: Sequence[Pair], source: str | Path, folder: Path) -> WrittenCleaning:
    """Write the records of `source` (the file the pairs were read from) into kept.jsonl and quarantine.jsonl.

    Records stay as they are, every field, in their order; what JSON does not know (dates in Parquet) becomes text.
    `merge_cleaned` brings them back together. cleaned.json is written last.

    Raises:
        UsageError: a row of the pairs that is not in the source, or ids that are not among the pairs.
    """
    by_row = {pair.row: pair.id for pair in rows}
    unknown = ({*cleaned.kept, *cleaned.quarantine}) - set(by_row.values())
    if unknown:
        raise UsageError("these ids are not among the pairs", found=", ".join(sorted(unknown)[:3]))
    kept: list[str] = []
    out: list[str] = []
    reasons: list[str] = []
    n_passed, unreadable, place = 0, [], 0
    for record in read_records(source):
        id = by_row.pop(record.row, None)
        if record.value is None:
            unreadable.append(record.row)
            continue
        line = json.dumps(record.value, ensure_ascii=False, default=str)
        if id is not None and id in cleaned.reasons:
            out.append(line)
            reasons.append(_reason_line(record.row, place, id, cleaned.reasons[id]))
        else:
            kept.append(line)
            n_passed += id is None
        place += 1
    if by_row:
        raise UsageError("the source no longer holds these rows", where=str(source), found=str(sorted(by_row)[:3]))
    written = WrittenCleaning(len(kept), len(out), n_passed, len(unreadable))
    (folder / _FACTS).unlink(missing_ok=True)
    for name, lines in ((_KEPT, kept), (_QUARANTINE, out), (_REASONS, reasons)):
        write_text(folder / name, "".join(line + "\n" for line in lines))
    write_json(folder / _FACTS, _facts(cleaned, written, unreadable))
    return written


def _reason_line(row: int, place: int, id: str, reasons: Iterable[Reason]) -> str:
    why = [{"name": r.name, "chosen": r.chosen, "rejected": r.rejected, "threshold": r.threshold} for r in reasons]
    return json.dumps({"row": row, "place": place, "pair_id": id, "reasons": why}, ensure_ascii=False)


def _facts(cleaned: Cleaned, written: WrittenCleaning, unreadable: Sequence[int]) -> dict[str, Any]:
    by_name: dict[str, int] = {}
    for reasons in cleaned.reasons.values():
        for one in reasons:
            by_name[one.name] = by_name.get(one.name, 0) + 1
    return {
        "product": "cleaned",
        "format_version": FORMAT_VERSION,
        "n_kept": written.n_kept,
        "n_quarantine": written.n_quarantine,
        "n_passed": written.n_passed,
        "unreadable_rows": list(unreadable),
        "by_reason": by_name,
        "sides": {name: {"before": asdict(a), "after": asdict(b)} for name, (a, b) in cleaned.sides.items()},
    }


def merge_cleaned(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of kept.jsonl and quarantine.jsonl in their original order.

    Raises:
        ProductError: a file is missing or damaged, or the counts do not match cleaned.json.
    """
    facts = read_object(folder / _FACTS, "n_kept", "n_quarantine", verb="clean")
    kept, out, reasons = (_lines(folder / name) for name in (_KEPT, _QUARANTINE, _REASONS))
    if (len(kept), len(out), len(reasons)) != (facts["n_kept"], facts["n_quarantine"], facts["n_quarantine"]):
        raise ProductError(
            "the cleaned files do not match cleaned.json",
            where=str(folder),
            found=f"{len(kept)} kept, {len(out)} in quarantine, {len(reasons)} reasons",
            hint="run: tiltscope clean",
        )
    back = {int(reason["place"]): record for reason, record in zip(reasons, out, strict=True)}
    rest = iter(kept)
    for place in range(len(kept) + len(out)):
        yield back[place] if place in back else next(rest)


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        # Split at line feeds alone: a record may hold other characters that count as line ends.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        hint = "run: tiltscope clean"
        raise ProductError(f"{path.name} is damaged", where=str(path), found=str(error)[:200], hint=hint) from error
