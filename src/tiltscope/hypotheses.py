"""Hypotheses: what training on a preference dataset would teach, as values and as files.

In:  findings of `contrast`.
Out: `STUDY/hypotheses.json`, `hypotheses.parquet` (all pairs of every hypothesis) and back.
Refuses: NaN and infinity in JSON (they become null), and a file of another shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiltscope.artifact import quoted, read_json, write_bytes, write_json
from tiltscope.concepts import Concept
from tiltscope.errors import ProductError, UsageError

__all__ = [
    "LEANS",
    "MAX_PAIR_IDS",
    "UNCONFIRMED_PAIR_IDS",
    "Baseline",
    "Hypothesis",
    "Interval",
    "Region",
    "find_hypothesis",
    "plain",
    "read_all_disparities",
    "read_disparities",
    "read_hypotheses",
    "write_disparities",
    "write_hypotheses",
]

LEANS = ("tau", "own")
"""Estimands that speak of a lean by itself, everywhere or in one place: tested on all pairs."""

MAX_PAIR_IDS = 200
"""At most so many pair ids of a confirmed hypothesis stand in the JSON; all of them are in the Parquet file."""

UNCONFIRMED_PAIR_IDS = 20
"""The same for the others, of which there can be thousands."""


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval."""

    effect: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Region:
    """A kind of pair: `id` K<number> (pairs where like concepts are active) or P<number>@<percent> (prompts)."""

    id: str
    name: str
    top_tokens: tuple[str, ...]
    n_pairs: int


@dataclass(frozen=True)
class Baseline:
    """One dull explanation: its correlation with the concept's disparity, and the effect left when it is held fixed."""

    r: float
    effect_left: float


@dataclass(frozen=True)
class Hypothesis:
    """One statement about what training would teach; every number of `effect … p` is of the estimand.

    A lean (`LEANS`) has them from all pairs, p two-sided; a comparison from the confirm half, p one-sided.
    """

    id: str
    view: str  # global | region | prompt
    concept: Concept
    region: Region | None
    direction: str  # more | less
    estimand: str  # tau | own | delta | shift
    effect: float
    ci_low: float
    ci_high: float
    d: float
    z: float
    p: float
    q: float | None
    delta_displayed: float
    equal_length: Interval
    equal_length_share: float | None  # chosen_share that the equal-length lean amounts to
    at_stake: float  # share of (the region's) pairs in which the concept is at stake
    chosen_share: Interval  # of those, the share in which the chosen side has more
    own_lean: Interval  # mean of u inside the region (everywhere: tau again)
    new_sources: Interval | None  # dyadic-robust, where >= 10 sources are declared
    n_pairs: int
    n_groups: int
    half_a: float
    half_b: float
    confirmed: bool
    verdict: str  # confirmed | mixed | not confirmed | not a candidate | too few witnesses
    length: str  # robust to length | not robust to length | inseparable from length
    baselines: dict[str, Baseline]  # length, markdown, punctuation, bag_of_words
    family: str  # id of the strongest hypothesis that says the same, its own id where that is itself
    pair_ids: tuple[str, ...]  # the pairs that carry it, strongest first, at most 200


def write_hypotheses(path: Path, hypotheses: tuple[Hypothesis, ...]) -> None:
    """Write hypotheses.json: a list of objects, floats to 9 significant digits, NaN as null, no clock and no path."""
    write_json(path, [plain(asdict(hypothesis)) for hypothesis in hypotheses])


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: floats to 9 significant digits, what is not finite as null."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


_NEEDED = {"id", "view", "concept", "region", "direction", "effect", "ci_low", "ci_high", "confirmed", "family"}


def read_hypotheses(study: Path) -> list[dict[str, Any]]:
    """Read STUDY/hypotheses.json as plain objects; raises `ProductError` when it is absent, damaged or no list."""
    path = study / "hypotheses.json"
    body = read_json(path, verb=f"contrast {quoted(study)}")
    if not isinstance(body, list) or any(not isinstance(h, dict) or _NEEDED - set(h) for h in body):
        raise ProductError(
            "hypotheses.json is not a list of hypotheses",
            where=str(path),
            found="an entry without the fields of one" if isinstance(body, list) else type(body).__name__,
            hint=f"rerun: tiltscope contrast {quoted(study)}",
        )
    return body


def find_hypothesis(study: Path, wanted: str) -> dict[str, Any]:
    """Return the hypothesis with this id; raises `UsageError` naming the nearest ids."""
    import difflib

    every = {h["id"]: h for h in read_hypotheses(study)}
    if wanted in every:
        return every[wanted]
    near = difflib.get_close_matches(wanted, list(every), n=3, cutoff=0.3) or list(every)[:3]
    raise UsageError(
        f"no hypothesis has the id {wanted!r}",
        where=str(study / "hypotheses.json"),
        found=f"{len(every)} hypotheses; nearest: {', '.join(near) or 'none'}",
        hint=f"list them: tiltscope show {quoted(study)}",
    )


def write_disparities(path: Path, pair_ids: tuple[str, ...], disparities: Mapping[str, np.ndarray]) -> None:
    """Write hypotheses.parquet: one row per hypothesis and pair in its region whose disparity is not zero."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    names, ids, values = [], [], []
    known = np.array(pair_ids)
    for name, value in disparities.items():
        carried = np.flatnonzero(np.nan_to_num(value) != 0)
        names.append(np.repeat(name, len(carried)))
        ids.append(known[carried])
        values.append(value[carried].astype(np.float32))
    table = pa.table(
        {
            "hypothesis_id": pa.array(np.concatenate(names) if names else [], pa.string()).dictionary_encode(),
            "pair_id": pa.array(np.concatenate(ids) if ids else [], pa.string()),
            "disparity": pa.array(np.concatenate(values) if values else [], pa.float32()),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def read_disparities(study: Path, hypothesis_id: str) -> dict[str, float]:
    """Return {pair id: disparity} of one hypothesis from STUDY/hypotheses.parquet (pairs at zero are absent)."""
    return _disparities(study, [("hypothesis_id", "=", hypothesis_id)]).get(hypothesis_id, {})


def read_all_disparities(study: Path) -> dict[str, dict[str, float]]:
    """Return {hypothesis id: {pair id: disparity}} from STUDY/hypotheses.parquet (pairs at zero are absent)."""
    return _disparities(study, None)


def _disparities(study: Path, filters: Any) -> dict[str, dict[str, float]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = study / "hypotheses.parquet"
    hint = f"run: tiltscope contrast {quoted(study)}"
    if not path.exists():
        raise ProductError("hypotheses.parquet is not there yet", where=str(study), hint=hint)
    try:
        table = pq.read_table(path, filters=filters)
    except (pa.ArrowException, OSError) as error:
        raise ProductError(f"{path.name} is damaged", where=str(path), found=str(error)[:200], hint=hint) from error
    found: dict[str, dict[str, float]] = {}
    columns = (table[name].to_pylist() for name in ("hypothesis_id", "pair_id", "disparity"))
    for name, pair_id, value in zip(*columns, strict=True):
        found.setdefault(name, {})[pair_id] = value
    return found
