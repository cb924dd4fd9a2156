"""How long a reading will take, from a short probe on these very pairs.

In:  pairs and settings. Out: seconds by stage. Refuses: what loading the model refuses.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tiltscope.features import Conversation, shard_conversations
from tiltscope.lm import LanguageModel, Rendered
from tiltscope.pairs import Pairs
from tiltscope.sae.autoencoder import Sae, load_sae
from tiltscope.sae.reading import REPORT_TOKENS, ReadSettings, load_for, training_plan
from tiltscope.sae.scope import Residuals, read_residuals
from tiltscope.sae.training import SaeTraining, TokenPool, train_sae

_PROBE_PAIRS = 8
_PROBE_STEPS = 4


def estimate(pairs: Pairs, settings: ReadSettings) -> dict[str, float]:
    """Return seconds for the stages loading, model, autoencoder and features; the probe itself takes a few of them.

    The probe reads eight pairs drawn with the seed and extrapolates by characters (a text counts for at most
    max_length tokens); the same machine under other load may take half or twice as long.
    """
    started = time.perf_counter()
    trained = None if settings.sae == "train" else load_sae(Path(settings.sae))
    lm = load_for(settings, trained)
    loading = time.perf_counter() - started
    drawn = np.random.default_rng(settings.seed).permutation(len(pairs.rows))[:_PROBE_PAIRS]
    probe = shard_conversations([pairs.rows[i] for i in drawn])
    read_residuals(lm, probe[:2])
    started = time.perf_counter()
    read = read_residuals(lm, probe)
    model = time.perf_counter() - started
    times = _times(pairs, probe, read, settings.max_length)
    plan = training_plan(lm, int(times * sum(read.n_response)), settings)
    sae, per_step = (trained, 0.0) if trained else _probe_training(read, plan, lm.device)
    autoencoder = plan.n_steps * per_step + (0.0 if trained else loading + _report_seconds(lm, model, read))
    started = time.perf_counter()
    sae.to(lm.device).encode(read.states)
    features = (time.perf_counter() - started) * times
    return {"loading": loading, "model": model * times, "autoencoder": autoencoder, "features": features}


def _times(pairs: Pairs, probe: list[Conversation], read: Residuals, max_length: int) -> float:
    """Return how many times the probe's tokens the whole dataset has."""
    characters = np.array([_characters(conversation) for conversation in probe], float)
    tokens = [len(text.ids) if isinstance(text, Rendered) else max_length for text in read.texts]
    per_token = max(characters.sum(), 1.0) / max(sum(tokens), 1)
    whole = np.array([_characters(conversation) for conversation in shard_conversations(pairs.rows)], float)
    return float(np.minimum(whole / per_token, max_length).sum() / np.minimum(characters / per_token, max_length).sum())


def _characters(conversation: Conversation) -> int:
    return 1 + len(conversation.response) + sum(len(turn.content) for turn in conversation.prompt)


def _probe_training(read: Residuals, plan: SaeTraining, device: str) -> tuple[Sae, float]:
    """Return an autoencoder of the planned size after a few steps on the probe's tokens, and seconds per step."""
    pool = TokenPool((read.states,), (np.arange(len(read.states)),))
    seconds: list[float] = []
    last = time.perf_counter()

    def clock(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds.append(now - last)
        last = now

    short = replace(plan, n_tokens=_PROBE_STEPS * plan.batch_tokens)
    sae = train_sae(pool, short, device=device, progress=clock)
    return sae, float(np.median(seconds[1:]))


def _report_seconds(lm: LanguageModel, model: float, read: Residuals) -> float:
    """Return what the loss with the reconstruction spliced in will take: three passes of the whole model."""
    n_tokens = sum(len(text.ids) for text in read.texts if isinstance(text, Rendered))
    return 3 * REPORT_TOKENS * model / max(n_tokens, 1) * lm.n_layers / lm.layer
