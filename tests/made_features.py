"""Features with a known truth, straight from random numbers: no model, no text to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from tiltscope.features import Features, SpanFeatures
from tiltscope.pairs import Pair, Pairs, Turn

N_TOPICS = 5


def made(
    n: int = 600, *, n_latents: int = 120, lean: float = 0.6, tied: float = 0.8, per_prompt: int = 1, seed: int = 0
) -> tuple[Pairs, Features]:
    """Latents 0-4: one global lean. 5-9: leans `tied` after prompts of topic 0, balanced elsewhere. 10-14: balanced.

    Latents 20-69 speak of the topic (ten each, in prompt and answers); the rest is noise. At .5 nothing is planted.
    """
    rng = np.random.default_rng(seed)
    topic = np.repeat(rng.integers(0, N_TOPICS, -(-n // per_prompt)), per_prompt)[:n]
    sides = np.zeros((2, n, n_latents))
    for start, probability in ((0, np.full(n, lean)), (5, np.where(topic == 0, tied, 0.5)), (10, np.full(n, 0.5))):
        at_stake = rng.random(n) < 0.8
        chosen_has = rng.random(n) < probability
        for latent in range(start, start + 5):
            works = rng.random(n) < 0.95
            sides[0, :, latent] = at_stake & chosen_has & works
            sides[1, :, latent] = at_stake & ~chosen_has & works
    about = (np.arange(20, 70)[None, :] - 20) // 10 == topic[:, None]
    for side in sides:
        side[:, 20:70] = np.where(about, rng.random((n, 50)) < 0.8, rng.random((n, 50)) < 0.02)
        side[:, 70:] = rng.random((n, n_latents - 70)) < 0.3
    prompt = np.zeros((n, n_latents))
    prompt[:, 20:70] = np.where(about, rng.random((n, 50)) < 0.8, rng.random((n, 50)) < 0.02)
    return _wrap([*sides, prompt], topic, per_prompt, rng)


def _wrap(
    sides: list[np.ndarray], topic: np.ndarray, per_prompt: int, rng: np.random.Generator
) -> tuple[Pairs, Features]:
    n = len(topic)
    rows = tuple(
        Pair(
            f"{i:016x}",
            (Turn("user", f"topic {topic[i]} question {i // per_prompt}"),),
            "one two",
            "one  two",  # says the same: phrases are not what is made here
            f"g{i // per_prompt}",
            i + 1,
        )
        for i in range(n)
    )
    lengths = rng.integers(80, 200, (3, n)).astype(np.int32)
    spans = [
        SpanFeatures(
            sparse.csr_array((side * 0.04).astype(np.float32)), sparse.csr_array(side.astype(np.float32)), length
        )
        for side, length in zip(sides, lengths, strict=True)
    ]
    features = Features(
        tuple(pair.id for pair in rows), *spans, sides[0].shape[1], "scope", "pairs", "features", Path("nowhere")
    )
    return Pairs(rows, (), "made", "made", "pairs"), features


def flipped(features: Features, which: np.ndarray) -> Features:
    """Swap chosen and rejected in some pairs."""
    from dataclasses import replace

    def mix(one: SpanFeatures, other: SpanFeatures) -> SpanFeatures:
        pick = which[:, None]
        freq, top = (np.where(pick, getattr(other, k).toarray(), getattr(one, k).toarray()) for k in ("freq", "max"))
        tokens = np.where(which, other.n_tokens, one.n_tokens)
        return SpanFeatures(sparse.csr_array(freq), sparse.csr_array(top), tokens)

    return replace(
        features, chosen=mix(features.chosen, features.rejected), rejected=mix(features.rejected, features.chosen)
    )
