"""Where concepts fire: token counts against matched tokens of the same texts, and sampled places with their windows.

In:  the token tables of features, `Spans`, concepts.
Out: `Evidence`: counts per concept and token id, and `Places` (firing, top, matched) of both halves.
Refuses: loops over tokens. Each shard is one sparse product; three passes, nothing kept but counts and places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope.concepts import Concept
from tiltscope.features import Features, Progress
from tiltscope.naming.spans import Spans, membership

__all__ = ["KINDS", "Evidence", "Places", "gather"]

KINDS = ("top", "highest", "random", "held")
"""top: drawn from the top half of the firing mass; highest: the strongest; random: any firing; held: any, held out."""

_N = {"top": 240, "highest": 40, "random": 40, "held": 24}
_MATCHED = {"top": 2, "highest": 0, "random": 0, "held": 1}
_BINS = 160
_WHERE = ("on", "before", "after")


@dataclass(frozen=True)
class Places:
    """Tokens picked for some concepts, flat: which concept, text (number in `Spans`), token in the text, its value.

    start, end: its characters; before, after (n, 3): the neighbour's start, end and token id, -1 where there is none;
    fired: False for matched tokens, on which the concept is silent.
    """

    concept: np.ndarray
    span: np.ndarray
    row: np.ndarray
    token: np.ndarray
    value: np.ndarray
    start: np.ndarray
    end: np.ndarray
    before: np.ndarray
    after: np.ndarray
    fired: np.ndarray

    def take(self, which: np.ndarray) -> Places:
        """Return the places at these indices, or where this mask is true."""
        return Places(*[getattr(self, f.name)[which] for f in fields(self)])


@dataclass(frozen=True)
class Evidence:
    """What the tokens say.

    counts["on" | "before" | "after" | "matched" | "mass"] are (n_concepts, n_token_ids) CSR of explore texts; places
    per kind hold firing tokens and (fired False) matched ones; marks[(concept, span)] are all firing tokens (start,
    end, strength 0 to 1) of a picked text; tokens_of_span (n_spans, n_token_ids) CSR counts, and
    explore_tokens (n_token_ids,) their sum over explore texts; text_ends (n_spans,) says where reading stopped.
    """

    counts: dict[str, sparse.csr_array]
    places: dict[str, Places]
    marks: dict[tuple[int, int], list[tuple[int, int, float]]]
    tokens_of_span: sparse.csr_array
    explore_tokens: np.ndarray
    text_ends: np.ndarray


@dataclass(frozen=True)
class _Shard:
    """One shard's tokens of distinct texts and what fires on them: entry k says concept[k] fires on token row[k]."""

    span: np.ndarray
    token: np.ndarray
    start: np.ndarray
    end: np.ndarray
    row: np.ndarray
    concept: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class _Levels:
    """Per concept: its highest activation, the level of its top half of firing mass, and up to what it is silent."""

    highest: np.ndarray
    top: np.ndarray
    low: np.ndarray


def gather(
    features: Features, spans: Spans, concepts: Sequence[Concept], *, progress: Progress | None = None
) -> Evidence:
    """Return what the tokens say of every concept; three passes over the token tables of the spans' sides."""
    say = progress or (lambda stage, done, total: None)
    levels = _levels(features, spans, concepts)
    say("names", 1, 4)
    counts, tokens_of_span, picked, text_ends = _count(features, spans, concepts, levels)
    say("names", 2, 4)
    places, marks = _look_closer(features, spans, concepts, levels, picked)
    say("names", 3, 4)
    explore_tokens = np.asarray(tokens_of_span[spans.explore].sum(axis=0), np.float64).ravel()
    return Evidence(counts, places, marks, tokens_of_span, explore_tokens, text_ends)


def _shards(
    features: Features, spans: Spans, concepts: Sequence[Concept], wanted: np.ndarray | None = None
) -> Iterator[_Shard]:
    """Yield the shards of all sides; `wanted` (n_spans,) bool keeps only some texts."""
    member = membership(concepts, features.n_latents)
    for side, number in spans.number.items():
        for table in features.tables(side):
            span = number[table.pair]
            keep = np.flatnonzero(span >= 0 if wanted is None else (span >= 0) & wanted[span])
            if not len(keep):
                continue
            codes = sparse.csr_array(table.codes)
            fired = ((codes if len(keep) == len(span) else codes[keep]) @ member).tocoo()
            parts = (span, table.token_ids, table.starts, table.ends)
            own = [np.asarray(part)[keep] for part in parts]
            yield _Shard(own[0], own[1], own[2], own[3], fired.row, fired.col, fired.data)


def _levels(features: Features, spans: Spans, concepts: Sequence[Concept]) -> _Levels:
    n = len(concepts)
    highest, mass = np.zeros(n), np.zeros((n, _BINS))
    for shard in _shards(features, spans, concepts):
        np.maximum.at(highest, shard.concept, shard.value)
        cell = shard.concept.astype(np.int64) * _BINS + _bin(shard.value)
        mass += np.bincount(cell, shard.value, minlength=n * _BINS).reshape(n, _BINS)
    above = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1] / np.maximum(mass.sum(axis=1, keepdims=True), 1e-12)
    edges = 10.0 ** (np.arange(_BINS) / 20 - 4)
    top = edges[np.maximum((above >= 0.5).sum(axis=1) - 1, 0)]
    quarter = edges[np.maximum((above >= 0.75).sum(axis=1) - 1, 0)]
    single = np.array([len(c.latents) == 1 for c in concepts], bool)
    return _Levels(highest, top, np.where(single, 0.0, quarter))


def _bin(value: np.ndarray) -> np.ndarray:
    """20 bins per decade from 1e-4 to 1e4."""
    place = (np.log10(np.maximum(value, 1e-30)) + 4) * 20
    return np.asarray(np.clip(place, 0, _BINS - 1).astype(np.int64))


def _count(
    features: Features, spans: Spans, concepts: Sequence[Concept], levels: _Levels
) -> tuple[dict[str, sparse.csr_array], sparse.csr_array, dict[str, Places], np.ndarray]:
    n = len(concepts)
    sums: dict[str, sparse.csr_array] = {}
    of_span: list[sparse.coo_array] = []
    picked: dict[str, list[Places]] = {kind: [] for kind in KINDS}
    text_ends = np.zeros(len(spans), np.int64)
    n_ids = _n_token_ids(features, spans)
    for shard in _shards(features, spans, concepts):
        np.maximum.at(text_ends, shard.span, shard.end)
        ones = np.ones(len(shard.span), np.float32)
        tokens = sparse.csr_array((ones, (shard.span, shard.token)), shape=(len(spans), n_ids))
        of_span.append(tokens.tocoo())
        for name, part in _shard_counts(shard, spans, levels, tokens, (n, n_ids)).items():
            sums[name] = sums[name] + part if name in sums else part
        for kind in KINDS:
            picked[kind] = [_first(_joined([*picked[kind], _pick(shard, spans, levels, kind)]), kind, spans)]
    empty = sparse.csr_array((n, n_ids), dtype=np.float32)
    counts = {name: sums.get(name, empty) for name in (*_WHERE, "matched", "mass")}
    return counts, _stacked(of_span, (len(spans), n_ids)), {k: p[0] for k, p in picked.items() if p}, text_ends


def _n_token_ids(features: Features, spans: Spans) -> int:
    return 1 + max((int(t.token_ids.max(initial=0)) for side in spans.number for t in features.tables(side)), default=0)


def _stacked(parts: list[sparse.coo_array], shape: tuple[int, int]) -> sparse.csr_array:
    """One CSR from many COO parts."""
    if not parts:
        return sparse.csr_array(shape, dtype=np.float32)
    columns = [np.concatenate([getattr(p, name) for p in parts]) for name in ("data", "row", "col")]
    return sparse.csr_array((columns[0], (columns[1], columns[2])), shape=shape)


def _shard_counts(
    shard: _Shard, spans: Spans, levels: _Levels, tokens: sparse.csr_array, shape: tuple[int, int]
) -> dict[str, sparse.csr_array]:
    """Explore tokens on, before and after top firing ones, mass on any, and silent tokens of the same texts."""
    explore = spans.explore[shard.span[shard.row]]
    top = explore & (shard.value >= levels.top[shard.concept])
    row, concept = shard.row[top], shard.concept[top]
    counts = {"on": _table(concept, shard.token[row], None, shape)}
    for where, step in (("before", -1), ("after", 1)):
        beside = np.clip(row + step, 0, len(shard.span) - 1)
        same = (beside != row) & (shard.span[beside] == shard.span[row])
        counts[where] = _table(concept[same], shard.token[beside[same]], None, shape)
    counts["mass"] = _table(shard.concept[explore], shard.token[shard.row[explore]], shard.value[explore], shape)
    touched = _table(concept, shard.span[row], None, (shape[0], len(spans)))
    touched.data[:] = 1.0
    loud = explore & (shard.value > levels.low[shard.concept])
    inside = _lookup(touched, shard.concept[loud], shard.span[shard.row[loud]])
    fired = _table(shard.concept[loud][inside], shard.token[shard.row[loud][inside]], None, shape)
    counts["matched"] = sparse.csr_array(touched @ tokens - fired)
    return counts


def _lookup(matrix: sparse.csr_array, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Whether (row, column) is a stored entry of a CSR with sorted indices."""
    width = matrix.shape[1]
    matrix.sort_indices()
    keys = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr)) * width + matrix.indices
    asked = row.astype(np.int64) * width + column
    if not len(keys):
        return np.zeros(len(asked), bool)
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.asarray(keys[place] == asked)


def _table(row: np.ndarray, column: np.ndarray, value: np.ndarray | None, shape: tuple[int, int]) -> sparse.csr_array:
    data = np.ones(len(row), np.float32) if value is None else value.astype(np.float64)
    return sparse.csr_array((data, (row, column)), shape=shape)


def _pick(shard: _Shard, spans: Spans, levels: _Levels, kind: str) -> Places:
    """The firing tokens of a shard that may serve as places of this kind, the first `_N[kind]` per concept."""
    span = shard.span[shard.row]
    fit = spans.explore[span] if kind != "held" else ~spans.explore[span]
    floor = levels.top if kind == "top" else levels.low
    at = np.flatnonzero(fit & (shard.value >= floor[shard.concept]) & (shard.value > levels.low[shard.concept]))
    row = shard.row[at]
    blank = np.full((len(at), 3), -1, np.int64)
    return _first(
        Places(
            shard.concept[at].astype(np.int64),
            span[at],
            _row_in_span(shard.span)[row],
            shard.token[row],
            shard.value[at].astype(np.float64),
            shard.start[row],
            shard.end[row],
            blank,
            blank,
            np.ones(len(at), bool),
        ),
        kind,
        spans,
    )


def _row_in_span(span: np.ndarray) -> np.ndarray:
    """The place of each token within its text, 0 for the first one read."""
    new = np.flatnonzero(np.r_[True, span[1:] != span[:-1]])
    lengths = np.diff(np.r_[new, len(span)])
    return np.asarray(np.arange(len(span)) - np.repeat(new, lengths))


def _joined(parts: Sequence[Places]) -> Places:
    return Places(*[np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Places)])


def _first(places: Places, kind: str, spans: Spans) -> Places:
    """Keep the first `_N[kind]` places per concept: strongest first, or in an order drawn from text and token."""
    drawn = _mixed(spans.keys[places.span] ^ (places.row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)))
    lead = -places.value if kind == "highest" else drawn
    order = np.lexsort((drawn, lead, places.concept))
    concept = places.concept[order]
    first = np.searchsorted(concept, concept, side="left")
    return places.take(order[np.arange(len(order)) - first < _N[kind]])


def _mixed(key: np.ndarray) -> np.ndarray:
    """Scramble 64-bit keys, so that order by the result is a seeded draw (splitmix64 finaliser)."""
    with np.errstate(over="ignore"):
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(key ^ (key >> np.uint64(31)))


def _look_closer(
    features: Features, spans: Spans, concepts: Sequence[Concept], levels: _Levels, picked: dict[str, Places]
) -> tuple[dict[str, Places], dict[tuple[int, int], list[tuple[int, int, float]]]]:
    """Third pass, over the picked texts only: neighbours of the places, matched silent tokens, all marks."""
    wanted = np.zeros(len(spans), bool)
    for places in picked.values():
        wanted[places.span] = True
    found: dict[str, list[Places]] = {kind: [] for kind in picked}
    marks: dict[tuple[int, int], list[tuple[int, int, float]]] = {}
    show = set[tuple[int, int]]()
    for places in (picked[kind] for kind in ("highest", "random") if kind in picked):
        show.update(zip(places.concept.tolist(), places.span.tolist(), strict=True))
    for shard in _shards(features, spans, concepts, wanted):
        bounds = _bounds(shard.span, len(spans))
        loud = shard.value > levels.low[shard.concept]
        keys = np.sort(shard.concept[loud].astype(np.int64) * len(shard.span) + shard.row[loud])
        for kind, places in picked.items():
            here = places.take(bounds[places.span, 1] > 0)
            real = _at_rows(shard, here, bounds[here.span, 0] + here.row, here.fired)
            found[kind] += [real, *_matched(shard, here, bounds, keys, _MATCHED[kind])]
        _add_marks(marks, shard, levels, show, loud)
    return {kind: _ordered(_joined(parts), spans) for kind, parts in found.items() if parts}, marks


def _ordered(places: Places, spans: Spans) -> Places:
    """Sort by concept and then by text and token, firing ones first, whatever shard they came from."""
    return places.take(np.lexsort((places.row, places.span, ~places.fired, places.concept)))


def _bounds(span: np.ndarray, n_spans: int) -> np.ndarray:
    """(n_spans, 2): first row in the shard and number of rows of each text."""
    bounds = np.zeros((n_spans, 2), np.int64)
    new = np.flatnonzero(np.r_[True, span[1:] != span[:-1]])
    bounds[span[new], 0] = new
    bounds[span[new], 1] = np.diff(np.r_[new, len(span)])
    return bounds


def _at_rows(shard: _Shard, here: Places, row: np.ndarray, fired: np.ndarray) -> Places:
    """The places moved to these rows of the shard, with their neighbours' characters."""
    beside = []
    for step in (-1, 1):
        other = np.clip(row + step, 0, len(shard.span) - 1)
        same = (other != row) & (shard.span[other] == shard.span[row])
        found = np.stack([shard.start[other], shard.end[other], shard.token[other]], axis=1)
        beside.append(np.where(same[:, None], found, -1).astype(np.int64))
    in_span = _row_in_span(shard.span)[row]
    value = np.where(fired, here.value, 0.0)
    return Places(
        here.concept,
        here.span,
        in_span,
        shard.token[row],
        value,
        shard.start[row],
        shard.end[row],
        beside[0],
        beside[1],
        fired,
    )


def _matched(shard: _Shard, here: Places, bounds: np.ndarray, keys: np.ndarray, n: int) -> list[Places]:
    """Silent tokens of the same texts, drawn from the place itself; a place whose draws all fire gives none."""
    found = []
    for number in range(n):
        open_ = np.ones(len(here.span), bool)
        for attempt in range(4):
            salt = np.uint64(1 + number * 4 + attempt)
            drawn = _mixed(
                here.row.astype(np.uint64) * np.uint64(2654435761) + here.span.astype(np.uint64) * salt + salt
            )
            row = bounds[here.span, 0] + (drawn % np.maximum(bounds[here.span, 1], 1).astype(np.uint64)).astype(
                np.int64
            )
            asked = here.concept * len(shard.span) + row
            place = np.minimum(np.searchsorted(keys, asked), max(0, len(keys) - 1))
            silent = keys[place] != asked if len(keys) else np.ones(len(asked), bool)
            take = np.flatnonzero(open_ & silent)
            found.append(_at_rows(shard, here.take(take), row[take], np.zeros(len(take), bool)))
            open_[take] = False
    return found


def _add_marks(
    marks: dict[tuple[int, int], list[tuple[int, int, float]]],
    shard: _Shard,
    levels: _Levels,
    show: set[tuple[int, int]],
    loud: np.ndarray,
) -> None:
    """Add to `marks` every firing token of the texts to show (the one place where a caller's dict grows)."""
    if not show:
        return
    asked = np.array(sorted(show), np.int64)
    keys = np.sort(asked[:, 0] << 32 | asked[:, 1])
    key = shard.concept.astype(np.int64) << 32 | shard.span[shard.row]
    place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    for at in np.flatnonzero(loud & (keys[place] == key)):
        row, concept = shard.row[at], int(shard.concept[at])
        strength = float(shard.value[at] / max(levels.highest[concept], 1e-12))
        spot = (int(shard.start[row]), int(shard.end[row]), strength)
        marks.setdefault((concept, int(shard.span[row])), []).append(spot)
