"""Pairs read through a scope, shard by shard, and summed up.

In:  `Pairs` and a `Scope`.
Out: the folder of `Features`.
Refuses: a dataset of which not one pair can be read; pairs whose prompt leaves no room are listed, never dropped in
silence. Reading resumes: a kill loses at most one shard, and a shard is a function of its own pairs only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope.artifact import check_fresh, fingerprint, read_manifest, write_bytes, write_json
from tiltscope.artifact import write_manifest as write_product_manifest
from tiltscope.errors import ProductError
from tiltscope.features.shards import (
    LAYOUT,
    is_written,
    open_arrays,
    safetensors_bytes,
    shard_path,
    side_arrays,
    table_of,
    token_texts,
)
from tiltscope.features.store import PARTS, Features, load_features
from tiltscope.features.types import SIDES, Conversation, ConversationCodes, Progress, Scope, TokenTable
from tiltscope.pairs import Pair, Pairs

__all__ = ["PAIRS_PER_SHARD", "read_features", "read_shards_ahead", "shard_conversations"]

PAIRS_PER_SHARD = 64
_POLL_S = 0.2


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
    if not _is_current(pairs, scope, folder):  # a manifest of other inputs would soon speak for shards overwritten
        (folder / "manifest.json").unlink(missing_ok=True)
    n_shards = -(-len(pairs.rows) // pairs_per_shard)
    for number in range(n_shards):
        _write_shard(pairs, scope, folder, number, pairs_per_shard)
        if progress:
            progress("features", min((number + 1) * pairs_per_shard, len(pairs.rows)), len(pairs.rows))
    for extra in sorted((folder / "shards").glob("*.safetensors")):
        if int(extra.stem) >= n_shards:
            extra.unlink()
    _aggregate(pairs, scope, folder, n_shards)
    return load_features(folder)


def read_shards_ahead(
    pairs: Pairs, scope: Scope, folder: Path, order: Sequence[int], *, pairs_per_shard: int = PAIRS_PER_SHARD
) -> None:
    """Write shards in this order for a `read_features` that another process is at: what is there is not read again.

    Waits until that process has put away a manifest of other inputs; returns at once where all is read already.
    """
    while (folder / "manifest.json").exists():
        if _is_current(pairs, scope, folder):
            return
        time.sleep(_POLL_S)
    for number in order:
        try:
            _write_shard(pairs, scope, folder, number, pairs_per_shard)
        except FileNotFoundError:  # the other process has read everything and cleared its cache
            return


def _is_current(pairs: Pairs, scope: Scope, folder: Path) -> bool:
    inputs = {"pairs": pairs.fingerprint, "scope": scope.fingerprint}
    try:
        check_fresh(read_manifest(folder / "manifest.json", verb="read"), inputs, where=folder, verb="read")
    except ProductError:
        return False
    return True


def _write_shard(pairs: Pairs, scope: Scope, folder: Path, number: int, size: int) -> None:
    rows = pairs.rows[number * size : (number + 1) * size]
    key = fingerprint(scope.fingerprint, [row.id for row in rows], pairs.fingerprint, LAYOUT)
    if not is_written(shard_path(folder, number), key):
        write_bytes(shard_path(folder, number), _shard_bytes(rows, scope, key))


def shard_conversations(rows: Sequence[Pair]) -> list[Conversation]:
    """Return the conversations of one shard: chosen and rejected of each pair; the prompt is read beside the chosen."""
    return [
        Conversation(row.prompt, response, wants_prompt)
        for row in rows
        for response, wants_prompt in ((row.chosen, True), (row.rejected, False))
    ]


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
    arrays = side_arrays("prompt", [chosen.prompt for _, chosen, _ in kept], scope.n_latents)
    arrays |= side_arrays("chosen", [chosen.response for _, chosen, _ in kept], scope.n_latents)
    arrays |= side_arrays("rejected", [rejected.response for *_, rejected in kept], scope.n_latents)
    for side, read in (("chosen", [chosen for _, chosen, _ in kept]), ("rejected", [lost for *_, lost in kept])):
        arrays[f"{side}.n_cut"] = np.array([codes.n_cut for codes in read], np.int32)
        arrays[f"{side}.n_dropped"] = np.array([codes.n_dropped for codes in read], np.int32)
    return safetensors_bytes(arrays, {"key": key, "pair_ids": [row.id for row, *_ in kept], "refused": refused})


def _aggregate(pairs: Pairs, scope: Scope, folder: Path, n_shards: int) -> None:
    """Write aggregates, token texts and, last, the manifest of a finished reading."""
    parts: dict[str, list[Any]] = {f"{side}.{name}": [] for side in SIDES for name in PARTS}
    pair_ids: list[str] = []
    sizes: list[int] = []
    refused: list[dict[str, Any]] = []
    token_ids: set[int] = set()
    for number in range(n_shards):
        arrays, facts = open_arrays(shard_path(folder, number))
        pair_ids += facts["pair_ids"]
        sizes.append(len(facts["pair_ids"]))
        refused += facts["refused"]
        for side in SIDES:
            _add_side(parts, arrays, side, scope.n_latents)
            token_ids.update(np.unique(arrays[f"{side}.token_ids"]).tolist())
    if not pair_ids:
        raise ProductError("not one pair could be read", where=str(folder), found=_reasons(refused))
    write_json(folder / "tokens.json", {str(token): _printable(scope.token_text(token)) for token in sorted(token_ids)})
    token_texts.cache_clear()
    settings = {"layout": LAYOUT, "n_latents": scope.n_latents, "n_pairs": len(pair_ids), "scope_name": scope.name}
    settings |= {"shard_sizes": sizes, "refused": refused}
    inputs = {"pairs": pairs.fingerprint, "scope": scope.fingerprint}
    key = write_product_manifest(folder / "manifest.json", product="features", settings=settings, inputs=inputs)
    facts = {"fingerprint": key, "pair_ids": pair_ids}
    write_bytes(folder / "aggregates.safetensors", safetensors_bytes(_aggregate_arrays(parts), facts))


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _reasons(refused: Sequence[dict[str, Any]]) -> str:
    return ", ".join(sorted({str(entry["reason"]) for entry in refused})) or "no pairs"


def _add_side(parts: dict[str, list[Any]], arrays: dict[str, np.ndarray], side: str, n_latents: int) -> None:
    n_tokens = arrays[f"{side}.n_tokens"]
    freq, highest = _span_aggregate(table_of(arrays, side, n_latents), n_tokens)
    nothing = np.zeros(len(n_tokens), np.int32)
    counts = (arrays.get(f"{side}.n_cut", nothing), arrays.get(f"{side}.n_dropped", nothing))
    for name, value in zip(PARTS, (freq, highest, n_tokens, *counts), strict=True):
        parts[f"{side}.{name}"].append(value)


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


def _aggregate_arrays(parts: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for side in SIDES:
        freq = sparse.vstack(parts[f"{side}.freq"], format="csr")
        highest = sparse.vstack(parts[f"{side}.max"], format="csr")
        arrays[f"{side}.indptr"] = freq.indptr.astype(np.int64)
        arrays[f"{side}.indices"] = freq.indices.astype(np.int32)
        arrays[f"{side}.freq"], arrays[f"{side}.max"] = freq.data, highest.data
        for name in PARTS[2:]:
            arrays[f"{side}.{name}"] = np.concatenate(parts[f"{side}.{name}"])
    return arrays
