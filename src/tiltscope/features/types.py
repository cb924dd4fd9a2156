"""The values of a reading: what a scope encodes and says, and what is kept of every span.

In:  nothing: `reading` and `store` make these.
Out: frozen values; arrays are aligned by pair id.
Refuses: nothing but a side that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope.errors import UsageError
from tiltscope.pairs import Turn

__all__ = [
    "SIDES",
    "Conversation",
    "ConversationCodes",
    "Progress",
    "Scope",
    "SpanCodes",
    "SpanFeatures",
    "TokenTable",
    "UnreadPair",
    "check_side",
]

SIDES = ("prompt", "chosen", "rejected")


Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as a long reading goes on."""


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


def check_side(side: str) -> None:
    """Raise `UsageError` where this is no side."""
    if side not in SIDES:
        raise UsageError("there is no such side", found=side, hint=f"one of {', '.join(SIDES)}")
