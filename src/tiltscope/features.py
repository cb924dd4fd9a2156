"""Pairs read through a scope become `Features`.

In:  `Pairs` and a `Scope` (a language model with an autoencoder, or a ten-line test double).
Out: shards of token codes on disk, and per span how often and how strongly every latent fires, aligned by pair id.
Refuses: features made from other pairs or through another scope; pairs whose prompt leaves no room are listed, never
dropped in silence. Reading resumes: a kill loses at most one shard, and a shard is a function of its own pairs only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope.artifact import check_fresh, fingerprint, read_json, read_manifest, write_bytes, write_json
from tiltscope.artifact import write_manifest as write_product_manifest
from tiltscope.errors import ProductError, UsageError
from tiltscope.pairs import Pair, Pairs, Turn

__all__ = [
    "PAIRS_PER_SHARD",
    "SIDES",
    "Conversation",
    "ConversationCodes",
    "Features",
    "Progress",
    "Scope",
    "SpanCodes",
    "SpanFeatures",
    "TokenTable",
    "UnreadPair",
    "load_features",
    "read_features",
    "shard_conversations",
]

SIDES = ("prompt", "chosen", "rejected")
PAIRS_PER_SHARD = 64

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as a long reading goes on."""

_LAYOUT = 1
_FACTS = "tiltscope"
_LARGEST_HALF = 65504.0
_SMALLEST_HALF = np.float16(2.0**-14)


@dataclass(frozen=True)
class SpanCodes:
    """The read tokens of one span (a prompt or a response) and the latents that fire on each.

    token_ids (n_tokens,) int32; starts, ends (n_tokens,) int32 character offsets into the span's text
    (`Pair.prompt_text`, `Pair.chosen` or `Pair.rejected`); codes (n_tokens, n_latents) CSR float32, activations > 0.
    Tokens that are not read (template, BOS, residual-norm outliers, cut by max_length) are absent.
    """

    token_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    codes: sparse.csr_array


@dataclass(frozen=True)
class Conversation:
    """What a scope encodes: prompt turns and one response; without `wants_prompt` the prompt's codes may be absent."""

    prompt: tuple[Turn, ...]
    response: str
    wants_prompt: bool = True


@dataclass(frozen=True)
class ConversationCodes:
    """What a scope says of one conversation; `n_cut` response tokens were beyond max_length, `n_dropped` were outliers.

    `refused` is empty, or the reason why this conversation cannot be read (its spans are then empty), e.g. "prompt
    fills max_length"; `found` says what was there.
    """

    prompt: SpanCodes
    response: SpanCodes
    n_cut: int
    n_dropped: int
    refused: str = ""
    found: str = ""


class Scope(Protocol):
    """A language model read at one layer through an autoencoder, or a ten-line test double."""

    name: str
    fingerprint: str
    n_latents: int

    def encode(self, conversations: Sequence[Conversation]) -> list[ConversationCodes]:
        """Read conversations, in order."""
        ...

    def token_text(self, token_id: int) -> str:
        """The text of one token id, as a person would read it."""
        ...


@dataclass(frozen=True)
class SpanFeatures:
    """One span kind over all pairs: freq and max are (n_pairs, n_latents) CSR float32, n_tokens (n_pairs,) int32.

    freq is the share of the span's read tokens on which the latent fires (0 to 1), max its highest activation; both
    have the same sparsity. n_cut and n_dropped (n_pairs,) int32 count tokens beyond max_length and outliers.
    """

    freq: sparse.csr_array
    max: sparse.csr_array
    n_tokens: np.ndarray
    n_cut: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    n_dropped: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))


@dataclass(frozen=True)
class TokenTable:
    """The tokens of many spans of one kind, flat: row t belongs to pair `pair[t]`, an index into Features.pair_ids."""

    pair: np.ndarray
    token_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    codes: sparse.csr_array


@dataclass(frozen=True)
class UnreadPair:
    """A pair that is not among the features, and why."""

    pair_id: str
    row: int
    reason: str
    found: str


@dataclass(frozen=True)
class Features:
    """Everything a scope read in a dataset, aligned by pair id. `folder` holds the token shards."""

    pair_ids: tuple[str, ...]
    chosen: SpanFeatures
    rejected: SpanFeatures
    prompt: SpanFeatures
    n_latents: int
    scope_fingerprint: str
    pairs_fingerprint: str
    fingerprint: str
    folder: Path
    refused: tuple[UnreadPair, ...] = ()

    def tables(self, side: str) -> Iterator[TokenTable]:
        """Yield the token tables of one side ("prompt", "chosen" or "rejected"), shard by shard."""
        _check_side(side)
        at = 0
        for number, n_pairs in enumerate(self._shard_sizes):
            shard = _read_table(_shard_path(self.folder, number), side, self.n_latents)
            yield TokenTable(shard.pair + np.int32(at), shard.token_ids, shard.starts, shard.ends, shard.codes)
            at += n_pairs

    def span(self, pair_id: str, side: str) -> SpanCodes:
        """Return the token codes of one span; raises `UsageError` for an unknown pair id."""
        _check_side(side)
        place = _places(self.pair_ids).get(pair_id)
        if place is None:
            raise UsageError("there is no such pair in these features", found=pair_id)
        ends = np.cumsum(self._shard_sizes)
        number = int(np.searchsorted(ends, place, side="right"))
        path = _shard_path(self.folder, number)
        table = _cached_table(path, side, self.n_latents, path.stat().st_mtime_ns if path.exists() else 0)
        first = 0 if number == 0 else int(ends[number - 1])
        low, high = np.searchsorted(table.pair, [place - first, place - first + 1])
        own = slice(int(low), int(high))
        return SpanCodes(table.token_ids[own], table.starts[own], table.ends[own], table.codes[own])

    def check_files(self) -> None:
        """Raise `ProductError` where a shard or the token texts are missing or cut off."""
        for number in range(len(self._shard_sizes)):
            _open(_shard_path(self.folder, number), only_facts=True)
        _token_texts.cache_clear()
        _token_texts(self.folder)

    def token_text(self, token_id: int) -> str:
        """Return the text of a token id that occurs in these features."""
        text = _token_texts(self.folder).get(str(token_id))
        if text is None:
            raise UsageError("this token does not occur in these features", found=str(token_id))
        return text

    @property
    def _shard_sizes(self) -> tuple[int, ...]:
        return _shard_sizes(self.folder, self.fingerprint)


def read_features(
    pairs: Pairs,
    scope: Scope,
    folder: Path,
    *,
    pairs_per_shard: int = PAIRS_PER_SHARD,
    progress: Progress | None = None,
) -> Features:
    """Read every pair through `scope` into `folder` and return the features; finished shards are not read again.

    Shards that belong to other pairs or another scope are written anew.

    Raises `ProductError` when not one pair can be read.
    """
    inputs = {"pairs": pairs.fingerprint, "scope": scope.fingerprint}
    try:
        check_fresh(read_manifest(folder / "manifest.json", verb="read"), inputs, where=folder, verb="read")
    except ProductError:  # a manifest of other inputs would soon speak for shards that are overwritten
        (folder / "manifest.json").unlink(missing_ok=True)
    n_shards = -(-len(pairs.rows) // pairs_per_shard)
    for number in range(n_shards):
        rows = pairs.rows[number * pairs_per_shard : (number + 1) * pairs_per_shard]
        key = fingerprint(scope.fingerprint, [row.id for row in rows], pairs.fingerprint, _LAYOUT)
        if not _is_written(_shard_path(folder, number), key):
            write_bytes(_shard_path(folder, number), _shard_bytes(rows, scope, key))
        if progress:
            progress("features", min((number + 1) * pairs_per_shard, len(pairs.rows)), len(pairs.rows))
    for extra in sorted((folder / "shards").glob("*.safetensors")):
        if int(extra.stem) >= n_shards:
            extra.unlink()
    _aggregate(pairs, scope, folder, n_shards)
    return load_features(folder)


def shard_conversations(rows: Sequence[Pair]) -> list[Conversation]:
    """Return the conversations of one shard: chosen and rejected of each pair; the prompt is read beside the chosen."""
    return [
        Conversation(row.prompt, response, wants_prompt)
        for row in rows
        for response, wants_prompt in ((row.chosen, True), (row.rejected, False))
    ]


def load_features(folder: Path, *, pairs: Pairs | None = None, scope_fingerprint: str | None = None) -> Features:
    """Load the features in `folder`; with `pairs` or `scope_fingerprint`, only if they were made from those.

    Raises `ProductError` for missing or damaged features, `StaleProductError` for features of other inputs.
    """
    manifest = read_manifest(folder / "manifest.json", verb="read")
    inputs = {"pairs": pairs.fingerprint} if pairs else {}
    inputs |= {"scope": scope_fingerprint} if scope_fingerprint else {}
    check_fresh(manifest, inputs, where=folder, verb="read")
    arrays, facts = _open(folder / "aggregates.safetensors")
    if facts.get("fingerprint") != manifest["fingerprint"]:
        raise ProductError("these features are half written", where=str(folder), hint="rerun: tiltscope read")
    settings = manifest["settings"]
    try:
        spans = {side: _span_features(arrays, side, int(settings["n_latents"])) for side in SIDES}
    except (KeyError, ValueError) as error:
        where = str(folder / "aggregates.safetensors")
        hint = "rerun: tiltscope read"
        raise ProductError("aggregates.safetensors is damaged", where=where, found=str(error), hint=hint) from error
    return Features(
        pair_ids=tuple(facts["pair_ids"]),
        **spans,
        n_latents=int(settings["n_latents"]),
        scope_fingerprint=manifest["inputs"]["scope"],
        pairs_fingerprint=manifest["inputs"]["pairs"],
        fingerprint=manifest["fingerprint"],
        folder=folder,
        refused=tuple(UnreadPair(**entry) for entry in settings["refused"]),
    )


def _check_side(side: str) -> None:
    if side not in SIDES:
        raise UsageError("there is no such side", found=side, hint=f"one of {', '.join(SIDES)}")


def _shard_path(folder: Path, number: int) -> Path:
    return folder / "shards" / f"{number:05d}.safetensors"


def _open(path: Path, *, only_facts: bool = False) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as stream:
            facts = json.loads((stream.metadata() or {}).get(_FACTS, "{}"))
            names = [] if only_facts else list(stream.keys())
            return {name: stream.get_tensor(name) for name in names}, facts
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ProductError(
            f"{path.name} is missing or damaged", where=str(path), found=str(error), hint="rerun: tiltscope read"
        ) from error


def _is_written(path: Path, key: str) -> bool:
    try:
        return bool(_open(path, only_facts=True)[1].get("key") == key)
    except ProductError:
        return False


def _shard_bytes(rows: Sequence[Pair], scope: Scope, key: str) -> bytes:
    """Read the pairs of one shard and return its file's content."""
    read_codes = scope.encode(shard_conversations(rows))
    kept: list[tuple[Pair, ConversationCodes, ConversationCodes]] = []
    refused: list[dict[str, Any]] = []
    for row, chosen, rejected in zip(rows, read_codes[0::2], read_codes[1::2], strict=True):
        worse = chosen if chosen.refused else rejected
        if worse.refused:
            refused.append({"pair_id": row.id, "row": row.row, "reason": worse.refused, "found": worse.found})
        else:
            kept.append((row, chosen, rejected))
    arrays = _side_arrays("prompt", [chosen.prompt for _, chosen, _ in kept], scope.n_latents)
    arrays |= _side_arrays("chosen", [chosen.response for _, chosen, _ in kept], scope.n_latents)
    arrays |= _side_arrays("rejected", [rejected.response for *_, rejected in kept], scope.n_latents)
    for side, read in (("chosen", [chosen for _, chosen, _ in kept]), ("rejected", [lost for *_, lost in kept])):
        arrays[f"{side}.n_cut"] = np.array([codes.n_cut for codes in read], np.int32)
        arrays[f"{side}.n_dropped"] = np.array([codes.n_dropped for codes in read], np.int32)
    return _safetensors(arrays, {"key": key, "pair_ids": [row.id for row, *_ in kept], "refused": refused})


def _safetensors(arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> bytes:
    """Return a file's content; the facts are one metadata entry, since the order of several is not fixed."""
    from safetensors.numpy import save

    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return bytes(save(plain, {_FACTS: json.dumps(facts, sort_keys=True)}))


def _side_arrays(side: str, spans: Sequence[SpanCodes], n_latents: int) -> dict[str, np.ndarray]:
    """Lay the tokens of many spans end to end."""
    counts = [len(span.token_ids) for span in spans]
    codes = sparse.csr_array((0, n_latents), dtype=np.float32)
    if spans:
        codes = sparse.csr_array(sparse.vstack([span.codes for span in spans], format="csr"))
    index_type = np.uint16 if n_latents <= 1 << 16 else np.int32
    empty = [np.zeros(0, np.int32)]
    return {
        f"{side}.pair": np.repeat(np.arange(len(spans), dtype=np.int32), counts),
        f"{side}.n_tokens": np.array(counts, np.int32),
        f"{side}.token_ids": np.concatenate([span.token_ids for span in spans] or empty).astype(np.int32),
        f"{side}.starts": np.concatenate([span.starts for span in spans] or empty).astype(np.int32),
        f"{side}.ends": np.concatenate([span.ends for span in spans] or empty).astype(np.int32),
        f"{side}.indptr": codes.indptr.astype(np.int32),
        f"{side}.indices": codes.indices.astype(index_type),
        f"{side}.values": _halves(codes.data),
    }


def _halves(values: np.ndarray) -> np.ndarray:
    """Store activations as float16 where they fit; a firing never becomes 0 by rounding."""
    if len(values) and float(values.max()) > _LARGEST_HALF:
        return values.astype(np.float32)
    return np.maximum(values.astype(np.float16), _SMALLEST_HALF)


def _table(arrays: dict[str, np.ndarray], side: str, n_latents: int) -> TokenTable:
    indptr = arrays[f"{side}.indptr"]
    values = arrays[f"{side}.values"].astype(np.float32)
    parts = (values, arrays[f"{side}.indices"].astype(np.int32), indptr)
    codes = sparse.csr_array(parts, shape=(len(indptr) - 1, n_latents))
    pair, token_ids, starts, ends = (arrays[f"{side}.{name}"] for name in ("pair", "token_ids", "starts", "ends"))
    return TokenTable(pair, token_ids, starts, ends, codes)


def _read_table(path: Path, side: str, n_latents: int) -> TokenTable:
    return _table(_open(path)[0], side, n_latents)


@lru_cache(maxsize=12)
def _cached_table(path: Path, side: str, n_latents: int, written_ns: int) -> TokenTable:
    return _read_table(path, side, n_latents)


@lru_cache(maxsize=4)
def _places(pair_ids: tuple[str, ...]) -> dict[str, int]:
    return {pair_id: place for place, pair_id in enumerate(pair_ids)}


@lru_cache(maxsize=4)
def _shard_sizes(folder: Path, fingerprint_: str) -> tuple[int, ...]:
    manifest = read_manifest(folder / "manifest.json", verb="read")
    if manifest["fingerprint"] != fingerprint_:
        raise ProductError("these features were read anew meanwhile", where=str(folder), hint="load them again")
    return tuple(manifest["settings"]["shard_sizes"])


@lru_cache(maxsize=4)
def _token_texts(folder: Path) -> dict[str, str]:
    texts: dict[str, str] = read_json(folder / "tokens.json", verb="read")
    return texts


def _span_aggregate(table: TokenTable, n_tokens: np.ndarray) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return (freq, max) of one shard's spans, (n_spans, n_latents) CSR float32 with one sparsity."""
    n_spans, n_latents = len(n_tokens), table.codes.shape[1]
    rows = np.repeat(table.pair, np.diff(table.codes.indptr)).astype(np.int64)
    cells = rows * n_latents + table.codes.indices
    order = np.argsort(cells, kind="stable")
    unique, first, counts = np.unique(cells[order], return_index=True, return_counts=True)
    highest = np.maximum.reduceat(table.codes.data[order], first) if len(unique) else np.zeros(0, np.float32)
    span, latent = np.divmod(unique, n_latents)
    indptr = np.searchsorted(span, np.arange(n_spans + 1)).astype(np.int32)
    share = (counts / np.maximum(n_tokens[span], 1)).astype(np.float32)
    latent = latent.astype(np.int32)
    shape = (n_spans, n_latents)
    return sparse.csr_array((share, latent, indptr), shape=shape), sparse.csr_array(
        (highest.astype(np.float32), latent, indptr), shape=shape
    )


def _aggregate(pairs: Pairs, scope: Scope, folder: Path, n_shards: int) -> None:
    """Write aggregates, token texts and, last, the manifest of a finished reading."""
    parts: dict[str, list[Any]] = {f"{side}.{name}": [] for side in SIDES for name in _PARTS}
    pair_ids: list[str] = []
    sizes: list[int] = []
    refused: list[dict[str, Any]] = []
    token_ids: set[int] = set()
    for number in range(n_shards):
        arrays, facts = _open(_shard_path(folder, number))
        pair_ids += facts["pair_ids"]
        sizes.append(len(facts["pair_ids"]))
        refused += facts["refused"]
        for side in SIDES:
            _add_side(parts, arrays, side, scope.n_latents)
            token_ids.update(np.unique(arrays[f"{side}.token_ids"]).tolist())
    if not pair_ids:
        raise ProductError("not one pair could be read", where=str(folder), found=_reasons(refused))
    write_json(folder / "tokens.json", {str(token): _printable(scope.token_text(token)) for token in sorted(token_ids)})
    _token_texts.cache_clear()
    settings = {"layout": _LAYOUT, "n_latents": scope.n_latents, "n_pairs": len(pair_ids), "scope_name": scope.name}
    settings |= {"shard_sizes": sizes, "refused": refused}
    inputs = {"pairs": pairs.fingerprint, "scope": scope.fingerprint}
    key = write_product_manifest(folder / "manifest.json", product="features", settings=settings, inputs=inputs)
    facts = {"fingerprint": key, "pair_ids": pair_ids}
    write_bytes(folder / "aggregates.safetensors", _safetensors(_aggregate_arrays(parts), facts))


_PARTS = ("freq", "max", "n_tokens", "n_cut", "n_dropped")


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _reasons(refused: Sequence[dict[str, Any]]) -> str:
    return ", ".join(sorted({str(entry["reason"]) for entry in refused})) or "no pairs"


def _add_side(parts: dict[str, list[Any]], arrays: dict[str, np.ndarray], side: str, n_latents: int) -> None:
    n_tokens = arrays[f"{side}.n_tokens"]
    freq, highest = _span_aggregate(_table(arrays, side, n_latents), n_tokens)
    nothing = np.zeros(len(n_tokens), np.int32)
    counts = (arrays.get(f"{side}.n_cut", nothing), arrays.get(f"{side}.n_dropped", nothing))
    for name, value in zip(_PARTS, (freq, highest, n_tokens, *counts), strict=True):
        parts[f"{side}.{name}"].append(value)


def _aggregate_arrays(parts: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for side in SIDES:
        freq = sparse.vstack(parts[f"{side}.freq"], format="csr")
        highest = sparse.vstack(parts[f"{side}.max"], format="csr")
        arrays[f"{side}.indptr"] = freq.indptr.astype(np.int64)
        arrays[f"{side}.indices"] = freq.indices.astype(np.int32)
        arrays[f"{side}.freq"], arrays[f"{side}.max"] = freq.data, highest.data
        for name in _PARTS[2:]:
            arrays[f"{side}.{name}"] = np.concatenate(parts[f"{side}.{name}"])
    return arrays


def _span_features(arrays: dict[str, np.ndarray], side: str, n_latents: int) -> SpanFeatures:
    indptr, indices = arrays[f"{side}.indptr"], arrays[f"{side}.indices"]
    shape = (len(indptr) - 1, n_latents)
    freq = sparse.csr_array((arrays[f"{side}.freq"], indices, indptr), shape=shape)
    freq.check_format(full_check=True)
    highest = sparse.csr_array((arrays[f"{side}.max"], indices.copy(), indptr.copy()), shape=shape)
    counts = [arrays[f"{side}.{name}"] for name in _PARTS[2:]]
    for array in (freq.data, highest.data, *counts):
        array.flags.writeable = False
    return SpanFeatures(freq, highest, *counts)
