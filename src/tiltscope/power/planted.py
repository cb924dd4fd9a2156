"""Traits are planted into pairs that were read before, and only the changed texts are read again.

In:  pairs and features aligned row by row, what to plant, and a scope.
Out: `Grown`: the pairs and features after planting, and which row got what.
Refuses: a scope that is not the one the features were read through; a planted answer that cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope.artifact import fingerprint, write_bytes
from tiltscope.errors import ModelError, StaleProductError
from tiltscope.features import Conversation, Features, Scope, SpanCodes, SpanFeatures
from tiltscope.pairs import Pair, Pairs, Turn
from tiltscope.planting import Style, plant

__all__ = ["Aligned", "Grown", "Planting", "Readings", "grow", "read_again"]

_BATCH = 64
_Text = tuple[tuple[Turn, ...], str]
_Row = tuple[
    np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int]
]  # latents, freq, max, (n_tokens, n_cut, n_dropped)


@dataclass(frozen=True)
class Planting:
    """What to plant: `n_pairs` of the pairs where `where` (n_pairs,) holds get the trait, a share `lean` on chosen."""

    trait: str | Style
    n_pairs: int
    where: np.ndarray
    seed: int
    lean: float = 1.0


@dataclass(frozen=True)
class Aligned:
    """Pairs and features of the same rows in the same order; `take` picks rows of the features."""

    pairs: Pairs
    features: Features

    @staticmethod
    def of(pairs: Pairs, features: Features) -> Aligned:
        """Put the pairs in the order of the features and leave out those that were not read."""
        by_id = {pair.id: pair for pair in pairs.rows}
        return Aligned(replace(pairs, rows=tuple(by_id[pair_id] for pair_id in features.pair_ids)), features)

    def take(self, rows: np.ndarray) -> Features:
        """Return the features of some rows (indices; a row may come twice)."""
        sides = [_rows(side, rows) for side in (self.features.chosen, self.features.rejected, self.features.prompt)]
        ids = tuple(self.features.pair_ids[row] for row in rows.tolist())
        return replace(self.features, pair_ids=ids, chosen=sides[0], rejected=sides[1], prompt=sides[2])


@dataclass(frozen=True)
class Grown:
    """Pairs before and after; signs[k] (n_pairs,) is +1 where planting k changed chosen, -1 rejected, else 0."""

    before: Aligned
    after: Aligned
    signs: tuple[np.ndarray, ...]

    def read_rows(self, number: int) -> np.ndarray:
        """Return the rows of planting `number` in which the scope saw a change: max_length may cut it off."""
        rows = np.flatnonzero(self.signs[number])
        seen = np.zeros(len(rows), bool)
        for side in ("chosen", "rejected"):
            old, new = (getattr(one.take(rows), side) for one in (self.before, self.after))
            seen |= np.asarray(abs(old.freq - new.freq).sum(axis=1)).ravel() > 0
        return np.asarray(rows[seen])


def grow(before: Aligned, plantings: Sequence[Planting], readings: Readings) -> Grown:
    """Plant one trait after another, read what changed, and return both states.

    Raises `UsageError` where too few pairs can carry a trait. Source: `planting.plant`, exact counts.
    """
    pairs, signs = before.pairs, []
    for one in plantings:
        planted = _sow(pairs, one)
        signs.append(_signs(pairs.rows, planted.rows))
        pairs = planted
    return Grown(before, read_again(before, pairs, readings), tuple(signs))


def _sow(pairs: Pairs, one: Planting) -> Pairs:
    wanted = {pair.row for pair, inside in zip(pairs.rows, one.where, strict=True) if inside}
    share = one.n_pairs / max(len(wanted), 1)
    where: Callable[[Pair], bool] = lambda pair: pair.row in wanted  # noqa: E731
    return plant(pairs, one.trait, share=share, lean=one.lean, where=where, seed=one.seed)[0]


def _signs(old: Sequence[Pair], new: Sequence[Pair]) -> np.ndarray:
    both = zip(old, new, strict=True)
    return np.array([int(a.chosen != b.chosen) - int(a.rejected != b.rejected) for a, b in both], np.int64)


def read_again(before: Aligned, pairs: Pairs, readings: Readings) -> Aligned:
    """Return pairs whose answers changed, row by row, with features in which only the changed answers are read anew."""
    features = replace(before.features, pair_ids=tuple(pair.id for pair in pairs.rows))
    for side in ("chosen", "rejected"):
        changed = [
            i
            for i, (old, new) in enumerate(zip(before.pairs.rows, pairs.rows, strict=True))
            if getattr(old, side) != getattr(new, side)
        ]
        if changed:
            read = readings.of([(pairs.rows[i].prompt, getattr(pairs.rows[i], side)) for i in changed])
            new = _replaced(getattr(features, side), np.array(changed), read)
            features = replace(features, chosen=new) if side == "chosen" else replace(features, rejected=new)
    return Aligned(pairs, features)


def _replaced(old: SpanFeatures, at: np.ndarray, new: SpanFeatures) -> SpanFeatures:
    order = np.arange(len(old.n_tokens))
    order[at] = len(old.n_tokens) + np.arange(len(at))
    joined = SpanFeatures(
        *(sparse.csr_array(sparse.vstack([getattr(x, name) for x in (old, new)])) for name in ("freq", "max")),
        *(np.concatenate([getattr(x, name) for x in (old, new)]) for name in ("n_tokens", "n_cut", "n_dropped")),
    )
    return _rows(joined, order)


def _rows(span: SpanFeatures, rows: np.ndarray) -> SpanFeatures:
    counts = [x[rows] if len(x) else x for x in (span.n_tokens, span.n_cut, span.n_dropped)]
    return SpanFeatures(span.freq[rows], span.max[rows], *counts)


class Readings:
    """What the scope said of planted answers: read once per text, kept in a folder, so that a kill loses one batch."""

    def __init__(self, scope: Scope, features: Features, folder: Path) -> None:
        if scope.fingerprint != features.scope_fingerprint:
            raise StaleProductError(
                "these features were read through another scope",
                where=str(features.folder),
                found=f"read through {features.scope_fingerprint}, at hand {scope.fingerprint}",
                hint="read the data again: tiltscope audit DATA --out STUDY",
            )
        self.folder, self._scope = folder, scope
        self._known: dict[str, _Row] = {}
        for path in sorted(folder.glob("*.safetensors")):
            self._known |= _load(path)

    def of(self, texts: Sequence[_Text]) -> SpanFeatures:
        """Return the features of (prompt, answer) texts, in order; those not read before are read now."""
        keys = [self._key(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        waiting = list(new)
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            rows = {
                key: _aggregate(*read) for key, read in zip(batch, self._encode([new[k] for k in batch]), strict=True)
            }
            write_bytes(self.folder / f"{fingerprint(batch)}.safetensors", _dump(rows))
            self._known |= rows
        return self._stack([self._known[key] for key in keys])

    def _key(self, text: _Text) -> str:
        prompt, answer = text
        return fingerprint(self._scope.fingerprint, [[turn.role, turn.content] for turn in prompt], answer)

    def _encode(self, texts: Sequence[_Text]) -> list[tuple[SpanCodes, int, int]]:
        read = self._scope.encode([Conversation(prompt, answer, wants_prompt=False) for prompt, answer in texts])
        refused = [one for one in read if one.refused]
        if refused:
            raise ModelError("a planted answer cannot be read", found=f"{refused[0].refused}: {refused[0].found}")
        return [(one.response, one.n_cut, one.n_dropped) for one in read]

    def _stack(self, rows: Sequence[_Row]) -> SpanFeatures:
        indptr = np.cumsum([0, *(len(latents) for latents, *_ in rows)])
        indices = np.concatenate([row[0] for row in rows])
        freq, highest = (
            sparse.csr_array(
                (np.concatenate([row[k] for row in rows]), indices, indptr), (len(rows), self._scope.n_latents)
            )
            for k in (1, 2)
        )
        counts = np.array([row[3] for row in rows], np.int32)
        return SpanFeatures(freq, highest, *counts.T)


def _aggregate(span: SpanCodes, n_cut: int, n_dropped: int) -> _Row:
    """Share of tokens on which each latent fires and its highest activation, as `features` computes them."""
    codes, n_tokens = span.codes.tocsr(), len(span.token_ids)
    latents, place, counts = np.unique(codes.indices, return_inverse=True, return_counts=True)
    highest = np.zeros(len(latents), np.float32)
    np.maximum.at(highest, place, codes.data.astype(np.float16).astype(np.float32))
    freq = (counts / max(n_tokens, 1)).astype(np.float32)
    return latents.astype(np.int32), freq, highest, (n_tokens, n_cut, n_dropped)


def _dump(rows: dict[str, _Row]) -> bytes:
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {
        "sizes": np.array([len(row[0]) for row in rows.values()], np.int64),
        "counts": np.array([row[3] for row in rows.values()], np.int32),
    }
    for k, name in enumerate(("latents", "freq", "max")):
        arrays[name] = np.concatenate([np.asarray(row[k]) for row in rows.values()])
    return bytes(save(arrays, {"keys": json.dumps(list(rows))}))


def _load(path: Path) -> dict[str, _Row]:
    """Read a batch back; a damaged file is read anew, like one that is not there."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as stream:
            keys = json.loads(stream.metadata()["keys"])
            parts = {name: stream.get_tensor(name) for name in ("sizes", "counts", "latents", "freq", "max")}
    except (OSError, SafetensorError, json.JSONDecodeError):
        return {}
    ends = np.cumsum(parts["sizes"])[:-1]
    pieces = [np.split(parts[name], ends) for name in ("latents", "freq", "max")]
    counts = [(int(a), int(b), int(c)) for a, b, c in parts["counts"]]
    return dict(zip(keys, zip(*pieces, counts, strict=True), strict=True))
