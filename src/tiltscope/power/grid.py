"""The grid of a power run: traits, shares and repeats, one small file per cell.

In:  an audited study, its scope, settings.
Out: STUDY/power/cells/*.json, STUDY/power/readings/*.safetensors, STUDY/power/power.json.
Refuses: unknown traits, shares outside 0 to 1, places that the study does not have, studies that were not audited.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltscope import __version__
from tiltscope.artifact import fingerprint, quoted, read_object, write_json
from tiltscope.cells import ContrastSettings
from tiltscope.contrast import Contrast, contrast
from tiltscope.errors import ProductError, StaleProductError, UsageError
from tiltscope.hypotheses import LEANS, Hypothesis, plain
from tiltscope.known import measured
from tiltscope.planting import STYLES, Style, saying_one_of
from tiltscope.power.planted import Aligned, Grown, Planting, Readings, grow
from tiltscope.power.speaking import SPEAKS_FROM, disparity_change, lean_of, put_there
from tiltscope.stats import explore_mask, wilson
from tiltscope.study import check_current

if TYPE_CHECKING:
    from tiltscope.features import Scope
    from tiltscope.study import Opened

__all__ = ["OFTEN", "SHARES", "PowerSettings", "run_power"]

Progress = Callable[[str, int, int], None]

SHARES = (0.005, 0.01, 0.02, 0.05, 0.2)
OFTEN = 0.2
"""A trait that more than this share of the answers shows by rule is not planted."""
_SAME_PLACE = 0.5  # F1 of two sets of pairs: of nested kinds of prompts, half and twice the size still count
_FEWEST = 25


@dataclass(frozen=True)
class PowerSettings:
    """What to plant where; shares (0 to 1) are of all pairs, also with `where` (a region id or a regex on prompts)."""

    traits: tuple[str, ...] = ()
    shares: tuple[float, ...] = SHARES
    where: str | None = None
    repeats: int = 3
    seed: int = 0
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{id: sentences}: traits of one's own, each the saying of one of these sentences."""

    @property
    def styles(self) -> dict[str, Style]:
        """Every trait that can be planted, by id."""
        return STYLES | {id: saying_one_of(id, lines) for id, lines in self.sentences.items()}


@dataclass(frozen=True)
class _Run:
    """What every cell shares."""

    ground: Aligned
    readings: Readings
    inside: np.ndarray
    settings: PowerSettings
    contrast: ContrastSettings
    made_from: str

    @property
    def traits(self) -> tuple[str, ...]:
        return self.settings.traits or tuple(self.settings.sentences) or tuple(STYLES)


def run_power(opened: Opened, scope: Scope, settings: PowerSettings, *, progress: Progress) -> dict[str, Any]:
    """Plant every trait at every share, audit again, and return what was found; finished cells are not done again.

    Shares go from the largest down; after one at which no repeat was found the smaller ones are not tried. The nulls of
    `contrast` are not drawn: no finding depends on them.

    Raises:
        UsageError: an unknown trait, a share outside 0 to 1, a place the study does not have.
        ProductError: the study was not audited.
        StaleProductError: its findings or its scope belong to other features, or were made by another version.
    """
    run = _prepare(opened, scope, settings)
    total, traits = len(run.traits) * len(settings.shares) * settings.repeats, []
    for number, trait in enumerate(run.traits):
        each = len(settings.shares) * settings.repeats
        skipped = _why_not(run, trait)
        cells = {} if skipped else _cells(run, trait, _counter(progress, number * each, total))
        traits.append(_told(trait, skipped, cells, run))
        progress("power", (number + 1) * each, total)
    product = _product(run, traits)
    write_json(opened.folder / "power" / "power.json", product)
    return product


def _counter(progress: Progress, before: int, total: int) -> Callable[[int], None]:
    return lambda done: progress("power", before + done, total)


def _prepare(opened: Opened, scope: Scope, settings: PowerSettings) -> _Run:
    _check(settings)
    record = read_object(opened.folder / "contrast.json", "settings", verb=f"contrast {quoted(opened.folder)}")
    check_current(opened.folder)
    kept = _kept(record["settings"], opened.folder)
    ground = Aligned.of(opened.pairs, opened.features)
    inside = _inside(opened, ground, settings.where)
    made_from = fingerprint(__version__, opened.features.fingerprint, opened.pairs.fingerprint, asdict(kept), inside)
    readings = Readings(scope, opened.features, opened.folder / "power" / "readings")
    return _Run(ground, readings, inside, settings, replace(kept, n_null_cells=0, n_flip_cells=0), made_from)


def _kept(settings: Mapping[str, Any], study: Path) -> ContrastSettings:
    """The settings the study was audited with; another version of Tiltscope tests in another way."""
    unlike = sorted(set(settings) ^ {one.name for one in fields(ContrastSettings)})
    if unlike:
        raise StaleProductError(
            "another version of Tiltscope made these findings",
            where=str(study / "contrast.json"),
            found=f"only one of the two has the settings {', '.join(unlike)}",
            hint=f"rerun: tiltscope contrast {quoted(study)}",
        )
    return ContrastSettings(**settings)


def _check(settings: PowerSettings) -> None:
    twice = sorted(set(settings.sentences) & set(STYLES))
    if twice:
        raise UsageError("a trait of this name is there already", where="--sentences", found=twice[0], hint="rename it")
    for trait in settings.traits:
        if trait not in settings.styles:
            near = difflib.get_close_matches(trait, settings.styles, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(settings.styles)}"
            raise UsageError("there is no such trait to plant", where="--traits", found=trait, hint=hint)
    for share in settings.shares:
        if not 0 < share <= 0.5:
            raise UsageError("a share is above 0 and at most 50 % of the pairs", where="--shares", found=f"{share:.4g}")
    if not settings.shares or settings.repeats < 1:
        raise UsageError("at least one share and one repeat are needed", where="--shares, --repeats")


def _inside(opened: Opened, ground: Aligned, where: str | None) -> np.ndarray:
    """(n_pairs,) bool: all pairs, those of a kind that the study knows, or those whose prompt matches."""
    rows = ground.pairs.rows
    if where is None:
        return np.ones(len(rows), bool)
    if re.fullmatch(r"[KP]\d+(@[\d.]+)?", where):
        regions = read_object(opened.folder / "concepts.json", "regions", verb=f"contrast {quoted(opened.folder)}")[
            "regions"
        ]
        known = {region["id"]: frozenset(region["pair_ids"]) for region in regions}
        if where not in known:
            near = difflib.get_close_matches(where, known, n=3, cutoff=0.3)
            raise UsageError("the study has no such kind of pairs", where="--where", found=where, hint=f"{near}")
        return np.array([pair.id in known[where] for pair in rows])
    try:
        inside = np.array([re.search(where, pair.prompt_text) is not None for pair in rows])
    except re.error as error:
        raise UsageError("this is no regular expression", where="--where", found=f"{where}: {error}") from error
    if inside.sum() < _FEWEST:
        raise UsageError(f"fewer than {_FEWEST} prompts match", where="--where", found=f"{inside.sum()} match {where}")
    return inside


def _why_not(run: _Run, trait: str) -> str:
    """Why a trait cannot be planted here; empty where it can."""
    style, rows = run.settings.styles[trait], run.ground.pairs.rows
    shown = np.mean([style.present(text) for pair in rows for text in (pair.chosen, pair.rejected)])
    if shown > OFTEN:
        return f"{100 * shown:.0f} % of the answers show it already"
    return ""


def _grown(run: _Run, style: Style, share: float, repeat: int) -> tuple[Grown, str | None] | None:
    """Plant a trait, and beside it, in other pairs of the same place, a control trait that leans to neither side."""
    n_pairs = round(share * len(run.inside))
    seed = 1000 * run.settings.seed + repeat
    try:
        own = [Planting(style, n_pairs, run.inside, seed)]
        first = grow(run.ground, own, run.readings)
    except UsageError:
        return None
    free = run.inside & (first.signs[0] == 0)
    names = list(STYLES)
    at = names.index(style.id) if style.id in names else len(names)
    for control in [*names[at + 1 :], *names[:at]]:
        try:
            both = [*own, Planting(control, n_pairs + n_pairs % 2, free, seed, lean=0.5)]
            return grow(run.ground, both, run.readings), control
        except UsageError:
            continue
    return first, None


def _cells(run: _Run, trait: str, say: Callable[[int], None]) -> dict[float, list[dict[str, Any]]]:
    """{share: one record per repeat}, from the largest share down to the first that is never found."""
    cells: dict[float, list[dict[str, Any]]] = {}
    for number, share in enumerate(sorted(run.settings.shares, reverse=True)):
        cells[share] = []
        for repeat in range(run.settings.repeats):
            cells[share].append(_cell(run, trait, share, repeat))
            say(number * run.settings.repeats + repeat + 1)
        if any(one["n_planted"] for one in cells[share]) and not any(one["found"] for one in cells[share]):
            break
    return cells


def _cell(run: _Run, trait: str, share: float, repeat: int) -> dict[str, Any]:
    """One planting, audited; read back where this very cell was finished before."""
    folder = run.readings.folder.parent / "cells"
    own = run.settings.sentences.get(trait)
    path = (
        folder / f"{fingerprint(run.made_from, (trait, *own) if own else trait, share, run.settings.seed, repeat)}.json"
    )
    try:
        return read_object(path, "found", "n_planted", verb="power")
    except ProductError:
        record = _planted_audit(run, trait, share, repeat)
        write_json(path, record)
        return record


def _planted_audit(run: _Run, trait: str, share: float, repeat: int) -> dict[str, Any]:
    grown = _grown(run, run.settings.styles[trait], share, repeat)
    asked = {"trait": trait, "share": share, "repeat": repeat}
    if grown is None:
        return {**asked, "found": False, "n_planted": 0}
    planted, control = grown
    result = contrast(planted.after.pairs, planted.after.features, run.contrast)
    record: dict[str, Any] = plain(
        {
            **asked,
            "n_planted": int((planted.signs[0] != 0).sum()),
            "n_read": len(planted.read_rows(0)),
            "n_confirmed": sum(h.confirmed for h in result.hypotheses),
            **_found(result, planted, None if run.settings.where is None else run.inside),
            "control": control,
            "control_found": None if control is None else _control_found(result, planted, run.contrast.seed),
        }
    )
    return record


def _found(result: Contrast, planted: Grown, inside: np.ndarray | None) -> dict[str, Any]:
    """The first confirmed finding that speaks of the trait; with a place, the first that also names the place."""
    said = _speaking(result, planted, 0)
    wanted = said if inside is None else [h for h in said if _names_place(h, result, inside)]
    first = wanted[0] if wanted else None
    return {
        "found": first is not None,
        "found_anywhere": bool(said),
        "rank": None if first is None else _rank(first, result),
        "finding": None if first is None else {"id": first.id, "effect": first.effect, "q": first.q},
    }


def _speaking(result: Contrast, planted: Grown, number: int) -> list[Hypothesis]:
    """Confirmed findings, strongest first, that speak of planting `number` and owe it at least half of their lean."""
    confirmed = [h for h in result.hypotheses if h.confirmed]
    if not confirmed:
        return []
    owed = _owed(confirmed, result, planted, number, np.ones(len(planted.signs[0]), bool))
    r = np.abs(disparity_change([h.concept for h in confirmed], planted, number))
    return [h for h, says in zip(confirmed, owed & (r >= SPEAKS_FROM), strict=True) if says]


def _control_found(result: Contrast, planted: Grown, seed: int) -> bool:
    """Whether a confirmed finding speaks of the control, not more of the trait, and owes it its lean.

    Over all pairs the control leans nowhere; on the half that tests comparisons chance may have put more of it on one
    side, and a lean is tested on all pairs.
    """
    confirmed = [h for h in result.hypotheses if h.confirmed]
    if not confirmed:
        return False
    confirm = ~explore_mask([pair.group for pair in planted.before.pairs.rows], seed)
    trait, control = (np.abs(disparity_change([h.concept for h in confirmed], planted, k)) for k in (0, 1))
    whole, half = (_owed(confirmed, result, planted, 1, rows) for rows in (np.ones(len(confirm), bool), confirm))
    owed = np.where([h.estimand in LEANS for h in confirmed], whole, half)
    return bool((owed & (control >= SPEAKS_FROM) & (control > trait)).any())


def _owed(
    findings: Sequence[Hypothesis], result: Contrast, planted: Grown, number: int, rows: np.ndarray
) -> np.ndarray:
    """Whether planting `number` put at least half of each finding's lean there, over some rows (n_pairs,) bool."""
    concepts = [h.concept for h in findings]
    kinds = {kind.id: kind.inside[rows] for kind in result.regions}
    insides = [kinds[h.region.id] if h.region else None for h in findings]
    states = (planted.before, planted.after)
    before, after = (measured(one.features, one.pairs.rows, concepts).u.toarray() for one in states)
    change = (after - before) * (planted.signs[number] != 0)[:, None]
    signs = np.array([1 if h.direction == "more" else -1 for h in findings])
    return put_there(lean_of(change[rows], insides), lean_of(after[rows], insides), signs)


def _names_place(hypothesis: Hypothesis, result: Contrast, inside: np.ndarray) -> bool:
    if hypothesis.region is None:
        return False
    kind = next(kind for kind in result.regions if kind.id == hypothesis.region.id)
    return bool(2 * (kind.inside & inside).sum() / (kind.inside.sum() + inside.sum()) >= _SAME_PLACE)


def _rank(hypothesis: Hypothesis, result: Contrast) -> int:
    """Place of its family among the families of its view, from 1."""
    heads = [h.id for h in result.hypotheses if h.view == hypothesis.view and h.confirmed and h.family == h.id]
    return heads.index(hypothesis.family) + 1


def _told(trait: str, skipped: str, cells: dict[float, list[dict[str, Any]]], run: _Run) -> dict[str, Any]:
    shares = () if skipped else sorted(run.settings.shares, reverse=True)
    told = [_summary(share, cells.get(share, [])) for share in shares]
    found = [cell["share"] for cell in told if cell["n"] and cell["recall"] >= 0.5]
    return {
        "id": trait,
        "name": run.settings.styles[trait].name,
        "skipped": skipped,
        "smallest": min(found) if found else None,
        "cells": told,
    }


def _summary(share: float, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    planted = [record for record in records if record["n_planted"]]
    n, n_found = len(planted), sum(record["found"] for record in planted)
    low, high = wilson(n_found, n)
    ranks = [record["rank"] for record in planted if record["found"]]
    controls = [record["control_found"] for record in planted if record["control_found"] is not None]
    return {
        "share": share,
        "note": "" if n else "too few pairs can carry it" if records else "not tried: a larger share was not found",
        "n_planted": planted[0]["n_planted"] if planted else 0,
        "n": n,
        "n_found": n_found,
        "recall": n_found / n if n else None,
        "low": low,
        "high": high,
        "rank": float(np.median(ranks)) if ranks else None,
        "n_control": len(controls),
        "n_control_found": sum(controls),
        "records": list(records),
    }


def _product(run: _Run, traits: list[dict[str, Any]]) -> dict[str, Any]:
    cells = [cell for trait in traits for cell in trait["cells"]]
    product: dict[str, Any] = plain(
        {
            **asdict(run.settings),
            "made_from": run.made_from,
            "n_pairs": len(run.inside),
            "n_inside": int(run.inside.sum()),
            "speaks_from": SPEAKS_FROM,
            "traits": traits,
            "control": {
                "n": sum(cell["n_control"] for cell in cells),
                "n_found": sum(cell["n_control_found"] for cell in cells),
            },
        }
    )
    return product
