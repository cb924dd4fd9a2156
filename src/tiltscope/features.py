"""Pairs read through a scope become `Features`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy import sparse

from tiltscope.pairs import Turn

SIDES = ("prompt", "chosen", "rejected")


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
    """What a scope encodes: prompt turns and one response."""

    prompt: tuple[Turn, ...]
    response: str


@dataclass(frozen=True)
class ConversationCodes:
    """What a scope says of one conversation; `n_cut` response tokens were beyond max_length, `n_dropped` were outliers."""

    prompt: SpanCodes
    response: SpanCodes
    n_cut: int
    n_dropped: int


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

    freq is the share of the span's read tokens on which the latent fires (0 to 1), max its highest activation.
    """

    freq: sparse.csr_array
    max: sparse.csr_array
    n_tokens: np.ndarray


@dataclass(frozen=True)
class TokenTable:
    """The tokens of many spans of one kind, flat: row t belongs to pair number `pair[t]` (index into Features.pair_ids)."""

    pair: np.ndarray
    token_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    codes: sparse.csr_array


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

    def tables(self, side: str) -> Iterator[TokenTable]:
        """Yield the token tables of one side ("prompt", "chosen" or "rejected"), shard by shard."""
        raise NotImplementedError

    def span(self, pair_id: str, side: str) -> SpanCodes:
        """Return the token codes of one span; raises `UsageError` for an unknown pair id."""
        raise NotImplementedError

    def token_text(self, token_id: int) -> str:
        """Return the text of a token id that occurs in these features."""
        raise NotImplementedError
