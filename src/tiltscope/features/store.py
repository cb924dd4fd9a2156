"""`Features`: what was read in a dataset, loaded from its folder.

In:  the folder that `read_features` wrote.
Out: `Features`: per span how often and how strongly every latent fires; token codes shard by shard.
Refuses: features made from other pairs or through another scope, and damaged ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope.artifact import check_fresh, read_manifest
from tiltscope.errors import ProductError, UsageError
from tiltscope.features.shards import cached_table, open_arrays, read_table, shard_path, shard_sizes, token_texts
from tiltscope.features.types import SIDES, SpanCodes, SpanFeatures, TokenTable, UnreadPair, check_side
from tiltscope.pairs import Pairs

__all__ = ["PARTS", "Features", "load_features"]

PARTS = ("freq", "max", "n_tokens", "n_cut", "n_dropped")


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
        check_side(side)
        at = 0
        for number, n_pairs in enumerate(self._shard_sizes):
            shard = read_table(shard_path(self.folder, number), side, self.n_latents)
            yield TokenTable(shard.pair + np.int32(at), shard.token_ids, shard.starts, shard.ends, shard.codes)
            at += n_pairs

    def span(self, pair_id: str, side: str) -> SpanCodes:
        """Return the token codes of one span; raises `UsageError` for an unknown pair id."""
        check_side(side)
        place = _places(self.pair_ids).get(pair_id)
        if place is None:
            raise UsageError("there is no such pair in these features", found=pair_id)
        ends = np.cumsum(self._shard_sizes)
        number = int(np.searchsorted(ends, place, side="right"))
        path = shard_path(self.folder, number)
        table = cached_table(path, side, self.n_latents, path.stat().st_mtime_ns if path.exists() else 0)
        first = 0 if number == 0 else int(ends[number - 1])
        low, high = np.searchsorted(table.pair, [place - first, place - first + 1])
        own = slice(int(low), int(high))
        return SpanCodes(table.token_ids[own], table.starts[own], table.ends[own], table.codes[own])

    def check_files(self) -> None:
        """Raise `ProductError` where a shard or the token texts are missing or cut off."""
        for number in range(len(self._shard_sizes)):
            open_arrays(shard_path(self.folder, number), only_facts=True)
        token_texts.cache_clear()
        token_texts(self.folder)

    def token_text(self, token_id: int) -> str:
        """Return the text of a token id that occurs in these features."""
        text = token_texts(self.folder).get(str(token_id))
        if text is None:
            raise UsageError("this token does not occur in these features", found=str(token_id))
        return text

    @property
    def _shard_sizes(self) -> tuple[int, ...]:
        return shard_sizes(self.folder, self.fingerprint)


def load_features(folder: Path, *, pairs: Pairs | None = None, scope_fingerprint: str | None = None) -> Features:
    """Load the features in `folder`; with `pairs` or `scope_fingerprint`, only if they were made from those.

    Raises `ProductError` for missing or damaged features, `StaleProductError` for features of other inputs.
    """
    manifest = read_manifest(folder / "manifest.json", verb="read")
    inputs = {"pairs": pairs.fingerprint} if pairs else {}
    inputs |= {"scope": scope_fingerprint} if scope_fingerprint else {}
    check_fresh(manifest, inputs, where=folder, verb="read")
    arrays, facts = open_arrays(folder / "aggregates.safetensors")
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


def _span_features(arrays: dict[str, np.ndarray], side: str, n_latents: int) -> SpanFeatures:
    indptr, indices = arrays[f"{side}.indptr"], arrays[f"{side}.indices"]
    shape = (len(indptr) - 1, n_latents)
    freq = sparse.csr_array((arrays[f"{side}.freq"], indices, indptr), shape=shape)
    freq.check_format(full_check=True)
    highest = sparse.csr_array((arrays[f"{side}.max"], indices.copy(), indptr.copy()), shape=shape)
    counts = [arrays[f"{side}.{name}"] for name in PARTS[2:]]
    for array in (freq.data, highest.data, *counts):
        array.flags.writeable = False
    return SpanFeatures(freq, highest, *counts)


@lru_cache(maxsize=4)
def _places(pair_ids: tuple[str, ...]) -> dict[str, int]:
    return {pair_id: place for place, pair_id in enumerate(pair_ids)}
