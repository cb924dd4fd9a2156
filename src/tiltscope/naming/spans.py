"""The distinct texts that names are learned from, in an order that does not know which answer won.

In:  pairs, features, the sides to read.
Out: `Spans`: one entry per distinct text (with its prompt), its half, its strengths, and where it came from.
Refuses: to know labels. Entries are ordered by a hash of prompt and text, and groups decide the half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope import stats
from tiltscope.concepts import FIRES_ABOVE, Concept
from tiltscope.errors import DataError
from tiltscope.features import Features, SpanFeatures
from tiltscope.pairs import Pair, Pairs

__all__ = ["Spans", "collect_spans", "membership"]


@dataclass(frozen=True)
class Spans:
    """Distinct texts in hash order.

    texts, pairs (the first pair that holds each), sides; keys (n,) uint64; explore (n,) bool; number[side] (n_pairs,)
    is a text's place here, or -1 where the same text was taken from another pair or side. strength (n, n_concepts)
    float32 is freq summed over a concept's latents; fires (n, n_concepts) bool; n_tokens (n,).
    """

    texts: tuple[str, ...]
    pairs: tuple[Pair, ...]
    sides: tuple[str, ...]
    keys: np.ndarray
    explore: np.ndarray
    number: dict[str, np.ndarray]
    strength: np.ndarray
    fires: np.ndarray
    n_tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


def membership(concepts: Sequence[Concept], n_latents: int) -> sparse.csr_array:
    """Return (n_latents, n_concepts) CSR float32 with 1 where a latent belongs to a concept."""
    rows = np.concatenate([np.asarray(c.latents, np.int64) for c in concepts] or [np.zeros(0, np.int64)])
    columns = np.repeat(np.arange(len(concepts)), [len(c.latents) for c in concepts])
    return sparse.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(n_latents, len(concepts)))


def collect_spans(
    pairs: Pairs, features: Features, concepts: Sequence[Concept], *, sides: Sequence[str], seed: int
) -> Spans:
    """Return the distinct texts of the sides with the strength of every concept in each.

    Raises:
        DataError: the features speak of pairs that are not in `pairs`.
    """
    by_id = {pair.id: pair for pair in pairs.rows}
    missing = [pair_id for pair_id in features.pair_ids if pair_id not in by_id]
    if missing:
        raise DataError(
            "the features speak of pairs that are not in this dataset",
            found=f"{len(missing)} unknown pair ids, the first is {missing[0]}",
            hint="read the dataset again: tiltscope read DATA --out STUDY",
        )
    rows = [by_id[pair_id] for pair_id in features.pair_ids]
    taken = _distinct(rows, sides, features, seed)
    number = {side: np.full(len(rows), -1, np.int64) for side in sides}
    for place, (_, side, row) in enumerate(taken):
        number[side][row] = place
    of_pair = stats.explore_mask(np.array([pair.group for pair in rows]), seed)
    explore = of_pair[np.array([row for _, _, row in taken], np.int64)]
    strength, share = _strengths(features, concepts, taken)
    return Spans(
        tuple(_text(rows[row], side) for _, side, row in taken),
        tuple(rows[row] for _, _, row in taken),
        tuple(side for _, side, _ in taken),
        np.array([key for key, _, _ in taken], np.uint64),
        explore,
        number,
        strength,
        _fires(share, explore, concepts),
        np.array([_summary(features, side).n_tokens[row] for _, side, row in taken], np.int64),
    )


def _text(pair: Pair, side: str) -> str:
    return pair.prompt_text if side == "prompt" else pair.chosen if side == "chosen" else pair.rejected


def _summary(features: Features, side: str) -> SpanFeatures:
    return {"prompt": features.prompt, "chosen": features.chosen, "rejected": features.rejected}[side]


def _distinct(rows: Sequence[Pair], sides: Sequence[str], features: Features, seed: int) -> list[tuple[int, str, int]]:
    """(key, side, row) of each distinct text that was read, sorted by key: labels and file order play no part."""
    first: dict[int, tuple[int, str, int]] = {}
    for side in sides:
        read = _summary(features, side).n_tokens
        for row, pair in enumerate(rows):
            if read[row]:
                context = "" if side == "prompt" else pair.prompt_text
                key = _hash(f"{seed}\x1f{context}\x1f{_text(pair, side)}")
                first.setdefault(key, (key, side, row))
    return sorted(first.values())


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _strengths(
    features: Features, concepts: Sequence[Concept], taken: Sequence[tuple[int, str, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """freq summed over latents, and the share of latents that fire on more than 1 % of the tokens."""
    member = membership(concepts, features.n_latents)
    sizes = np.array([max(1, len(c.latents)) for c in concepts], np.float32)
    strength = np.zeros((len(taken), len(concepts)), np.float32)
    share = np.zeros_like(strength)
    for side in {side for _, side, _ in taken}:
        here = np.array([place for place, (_, s, _) in enumerate(taken) if s == side])
        freq = sparse.csr_array(_summary(features, side).freq)[[taken[place][2] for place in here]]
        strength[here] = (freq @ member).toarray()
        above = sparse.csr_array(((freq.data > FIRES_ABOVE).astype(np.float32), freq.indices, freq.indptr), freq.shape)
        share[here] = (above @ member).toarray() / sizes
    return strength, share


def _fires(share: np.ndarray, explore: np.ndarray, concepts: Sequence[Concept]) -> np.ndarray:
    """A latent fires above 1 % of the tokens; a cluster when more of its latents do than in the median explore text."""
    if not explore.any():
        return share > 0
    cut = np.median(share[explore], axis=0)
    return share > np.where([len(c.latents) == 1 for c in concepts], 0.0, cut)
