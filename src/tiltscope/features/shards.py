"""Shards of token codes on disk.

In:  the codes of many spans; the folder of a reading.
Out: the bytes of a file, and `TokenTable`s read back.
Refuses: a file that is missing or damaged, and features that were read anew meanwhile (`ProductError`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope.artifact import read_json, read_manifest
from tiltscope.errors import ProductError
from tiltscope.features.types import SpanCodes, TokenTable

__all__ = [
    "LAYOUT",
    "cached_table",
    "is_written",
    "open_arrays",
    "read_table",
    "safetensors_bytes",
    "shard_path",
    "shard_sizes",
    "side_arrays",
    "table_of",
    "token_texts",
]

LAYOUT = 1
_FACTS = "tiltscope"
_LARGEST_HALF = 65504.0
_SMALLEST_HALF = np.float16(2.0**-14)


def shard_path(folder: Path, number: int) -> Path:
    """Return where a shard lies."""
    return folder / "shards" / f"{number:05d}.safetensors"


def open_arrays(path: Path, *, only_facts: bool = False) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the facts of a file; raises `ProductError` where it is missing or damaged."""
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


def is_written(path: Path, key: str) -> bool:
    """Return whether this shard is there, whole, and made from these inputs."""
    try:
        return bool(open_arrays(path, only_facts=True)[1].get("key") == key)
    except ProductError:
        return False


def safetensors_bytes(arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> bytes:
    """Return a file's content; the facts are one metadata entry, since the order of several is not fixed."""
    from safetensors.numpy import save

    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return bytes(save(plain, {_FACTS: json.dumps(facts, sort_keys=True)}))


def side_arrays(side: str, spans: Sequence[SpanCodes], n_latents: int) -> dict[str, np.ndarray]:
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


def table_of(arrays: dict[str, np.ndarray], side: str, n_latents: int) -> TokenTable:
    """Return the tokens of one side of a shard."""
    indptr = arrays[f"{side}.indptr"]
    values = arrays[f"{side}.values"].astype(np.float32)
    parts = (values, arrays[f"{side}.indices"].astype(np.int32), indptr)
    codes = sparse.csr_array(parts, shape=(len(indptr) - 1, n_latents))
    pair, token_ids, starts, ends = (arrays[f"{side}.{name}"] for name in ("pair", "token_ids", "starts", "ends"))
    return TokenTable(pair, token_ids, starts, ends, codes)


def read_table(path: Path, side: str, n_latents: int) -> TokenTable:
    """Return the tokens of one side from the file of a shard; raises `ProductError`."""
    return table_of(open_arrays(path)[0], side, n_latents)


@lru_cache(maxsize=12)
def cached_table(path: Path, side: str, n_latents: int, written_ns: int) -> TokenTable:
    """Return what `read_table` does, from memory while the file has the same time of writing."""
    return read_table(path, side, n_latents)


@lru_cache(maxsize=4)
def shard_sizes(folder: Path, fingerprint_: str) -> tuple[int, ...]:
    """Return the pairs per shard; raises `ProductError` where the folder now holds other features."""
    manifest = read_manifest(folder / "manifest.json", verb="read")
    if manifest["fingerprint"] != fingerprint_:
        raise ProductError("these features were read anew meanwhile", where=str(folder), hint="load them again")
    return tuple(manifest["settings"]["shard_sizes"])


@lru_cache(maxsize=4)
def token_texts(folder: Path) -> dict[str, str]:
    """Return the text of every token id that occurs; raises `ProductError`."""
    texts: dict[str, str] = read_json(folder / "tokens.json", verb="read")
    return texts
