"""Pairs read through a scope become `Features`.

In:  `Pairs` and a `Scope` (a language model with an autoencoder, or a ten-line test double).
Out: shards of token codes on disk, and per span how often and how strongly every latent fires, aligned by pair id.
Refuses: features made from other pairs or through another scope.
"""

from __future__ import annotations

from tiltscope.features.reading import PAIRS_PER_SHARD, read_features, read_shards_ahead, shard_conversations
from tiltscope.features.store import Features, load_features
from tiltscope.features.types import (
    SIDES,
    Conversation,
    ConversationCodes,
    Progress,
    Scope,
    SpanCodes,
    SpanFeatures,
    TokenTable,
    UnreadPair,
)

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
    "read_shards_ahead",
    "shard_conversations",
]
