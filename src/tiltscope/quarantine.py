"""To a cleaned file: rows that teach what a plan suppresses, or that a gate's verdict names, go into quarantine.

In:  a study with its plan or a verdict, and the file the study was made from.
Out: a folder with the kept rows, the quarantined rows with their reasons, and cleaned.json.
Refuses: files that are not the study's, detectors that nothing gives a threshold, and verdicts that name no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltscope.acting import Acting, run_measure
from tiltscope.artifact import quoted, read_object, write_json
from tiltscope.cleaning import Suppressed, clean, write_cleaned
from tiltscope.errors import UsageError
from tiltscope.measure import Measured
from tiltscope.pairs import LoadSettings
from tiltscope.study import data_file, load_data

__all__ = ["run_clean", "run_clean_named"]

Progress = Callable[[str, int, int], None]


def run_clean(
    acting: Acting, data: str, out: Path, *, balanced: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Put rows of `data` that teach what the plan suppresses into quarantine; writes OUT and returns cleaned.json.

    balanced: only as many as there are more for a concept than against it.

    `data` is the file the study was made from. Thresholds are those the detectors were measured with; cleaning
    what an earlier cleaning kept (`data` beside its cleaned.json) takes over that one's, so it removes nothing more.

    Raises:
        UsageError: nothing is suppressed, a detector has no threshold, or the file is not that of the study.
    """
    source = _source(acting, data)
    frozen = _frozen_thresholds(source.parent / "cleaned.json")
    measured = [
        one
        for one in run_measure(acting, other_data=bool(frozen), progress=progress)
        if one.decision.action == "suppress"
    ]
    suppressed = [_suppressed(one, frozen) for one in measured]
    cleaned = clean([row.id for row in acting.rows], suppressed, balanced=balanced)
    write_cleaned(cleaned, acting.rows, source, out)
    facts = read_object(out / "cleaned.json", verb="clean")
    facts["thresholds"] = {one.name: one.threshold for one in suppressed}
    write_json(out / "cleaned.json", facts)
    return facts


def run_clean_named(acting: Acting, data: str, verdict: Path, out: Path) -> dict[str, Any]:
    """Put the rows of `data` that the failed rules of a verdict name into quarantine; writes OUT, returns cleaned.json.

    Cleaning what was kept, by the same verdict, removes nothing: the rows named are gone.

    Raises:
        UsageError: no failed rule of the verdict names rows, or the file is not that of the study.
    """
    path = verdict if verdict.suffix == ".json" else verdict / "verdict.json"
    results = read_object(path, "results", verb="gate")["results"]
    named = {one["rule"]: one["pair_ids"] for one in results if one["outcome"] == "fail" and one["pair_ids"]}
    if not named:
        hint = "tiltscope gate LIMITS --data STUDY --out VERDICT names them where a rule about data fails"
        raise UsageError("this verdict names no rows", where=str(path), hint=hint)
    source, ids = _source(acting, data), np.array([row.id for row in acting.rows])
    nothing = np.zeros(len(ids))
    cleaned = clean(
        ids.tolist(),
        [Suppressed(rule, np.isin(ids, rows).astype(np.float64), nothing, 0.5) for rule, rows in named.items()],
    )
    write_cleaned(replace(cleaned, sides={}), acting.rows, source, out)  # named rows are no concept's sides
    return read_object(out / "cleaned.json", verb="clean")


def _source(acting: Acting, data: str) -> Path:
    """The file the study was made from: every pair of the study must stand in its row."""
    record = acting.record
    columns = dict(record.get("map") or {})
    taken = LoadSettings(columns, record.get("group"), record.get("domain"), allow_refused=True)
    there = {pair.row: pair.id for pair in load_data(data, taken).rows}
    strange = [row.row for row in acting.rows if there.get(row.row) != row.id]
    if strange:
        study = acting.opened.folder
        raise UsageError(
            "this is not the file the study was made from",
            where=data,
            found=f"{len(strange)} of {len(acting.rows)} pairs of {study} are not in their rows, first {strange[0]}",
            hint=f"audit it first, through the same autoencoder: tiltscope audit {quoted(data)} "
            f"--sae {quoted(study / 'scope')} --out STUDY; then clean it with --study STUDY "
            f"--plan {quoted(acting.plan.path)}",
        )
    return data_file(data)


def _frozen_thresholds(path: Path) -> dict[str, float]:
    return dict(read_object(path, verb="clean").get("thresholds") or {}) if path.exists() else {}


def _suppressed(measured: Measured, frozen: Mapping[str, float]) -> Suppressed:
    decision, quality = measured.decision, measured.quality
    threshold = frozen.get(decision.name, quality.threshold if quality else None)
    if threshold is None:
        raise UsageError(
            "nothing says from which score an answer shows this concept",
            where=decision.place,
            found=quality.said if quality else "the detector was not measured",
            hint="give `check: {rule: …}` in the detector, so that a threshold is measured",
        )
    return Suppressed(
        decision.name, measured.scored.chosen, measured.scored.rejected, float(threshold), measured.scored.inside
    )
