"""A small scope for tests: its latents are regular expressions, so the truth is known, without torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import sparse

from tiltscope.artifact import fingerprint
from tiltscope.features import Conversation, ConversationCodes, Features, SpanCodes, read_features
from tiltscope.pairs import Pair, Pairs, Turn

Latent = str | Callable[[str], list[tuple[int, int]]]
_WORDS: dict[str, int] = {}  # one vocabulary for all scopes, so that shards read before can be read on
_TOKEN = re.compile(r"\n+| ?\w+| ?[^\w\s]|[^\S\n]+")


@dataclass
class DoubleScope:
    """Latent f fires with activation 1 to 2 on every token (word, mark or line break) that overlaps its matches."""

    latents: Sequence[Latent]
    name: str = "double"
    words: dict[str, int] = field(default_factory=lambda: _WORDS)
    fingerprint: str = "double"

    @property
    def n_latents(self) -> int:
        return len(self.latents)

    def token_text(self, token_id: int) -> str:
        return next(word for word, number in self.words.items() if number == token_id)

    def span(self, text: str) -> SpanCodes:
        tokens = list(_TOKEN.finditer(text))
        ids = [self.words.setdefault(token.group(), len(self.words)) for token in tokens]
        starts, ends = np.array([token.span() for token in tokens], np.int32).reshape(-1, 2).T
        codes = np.zeros((len(tokens), self.n_latents), np.float32)
        for latent, detector in enumerate(self.latents):
            for start, end in (
                [m.span() for m in re.finditer(detector, text)] if isinstance(detector, str) else detector(text)
            ):
                for row in np.flatnonzero((starts < end) & (ends > start)):
                    codes[row, latent] = 1 + draw(f"{text}{row}")
        return SpanCodes(np.array(ids, np.int32), starts, ends, sparse.csr_array(codes))

    def encode(self, conversations: Sequence[Conversation]) -> list[ConversationCodes]:
        prompts = ["\n\n".join(turn.content for turn in one.prompt) for one in conversations]
        return [
            ConversationCodes(self.span(prompt), self.span(one.response), 0, 0)
            for prompt, one in zip(prompts, conversations, strict=True)
        ]


def draw(text: str) -> float:
    """A number between 0 and 1 that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4]) / 2**32


def at_random(share: float) -> Latent:
    """A latent that fires on a share of the words, whatever they say."""
    return lambda text: [m.span() for m in re.finditer(r"\w+", text) if draw(f"{m.start()}{text}") < share]


def make_pairs(rows: Sequence[tuple[str, str, str]], *, flip: bool = False) -> Pairs:
    """Pairs from (prompt, chosen, rejected); `flip` exchanges the answers and keeps ids and groups."""
    pairs = []
    for number, (prompt, chosen, rejected) in enumerate(rows, 1):
        answers = (rejected, chosen) if flip else (chosen, rejected)
        pairs.append(Pair(f"{number:016x}", (Turn("user", prompt),), *answers, f"group of {prompt}", number))
    return Pairs(tuple(pairs), (), "explicit", "double", fingerprint([(p.chosen, p.rejected) for p in pairs]))


def read_double(pairs: Pairs, latents: Sequence[Latent], folder: Path) -> Features:
    """Read pairs through a `DoubleScope` with these latents into a folder."""
    return read_features(pairs, DoubleScope(latents), folder)
