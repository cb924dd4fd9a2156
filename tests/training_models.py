"""Pairs, a tiny model's folder and settings for tests of training and export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltscope.pairs import Pair, Turn
from tiltscope.recipe import Recipe, empty_recipe
from tiltscope.training import StartingModel, TrainConfig
from tiny import tiny_model_folder

NOUNS = ("recipe", "garden", "story", "code", "number", "question", "word", "thanks", "use", "hello", "user", "sorry")
PLAIN = TrainConfig(learning_rate=1e-3, bf16=False, save_steps=0, held_out_share=0.0, warmup_ratio=0.0)


def made_pairs(n: int = 12) -> list[Pair]:
    """Return pairs whose answers and prompts have different lengths; every third prompt has more than one turn."""
    pairs = []
    for i in range(n):
        word = NOUNS[i % len(NOUNS)]
        prompt: tuple[Turn, ...] = (Turn("user", f"how is the {word} {'of it ' * (i % 4)}?"),)
        if i % 3 == 0:
            prompt = (Turn("system", "be **bold**"), Turn("user", "hello"), Turn("assistant", "hello you"), *prompt)
        chosen = f"the {word} is **{word}** {'and all ' * (i % 3)}!"
        pairs.append(Pair(f"{i:016x}", prompt, chosen, f"sorry, no {word}{' but' * (i % 5)}", f"g{i}", i + 1))
    return pairs


def plain(pairs: list[Pair], objective: Any = "dpo", **changes: Any) -> Recipe:
    """Return the empty recipe of these pairs, with changes."""
    return replace(empty_recipe([pair.id for pair in pairs], objective), **changes)


def start_of(folder: Path) -> StartingModel:
    """Return a tiny random llama in this folder."""
    if not (folder / "config.json").exists():
        tiny_model_folder(folder)
    return StartingModel(str(folder))


def vector(seed: int = 0, length: float = 3.0) -> np.ndarray:
    """Return a steering vector of the tiny model."""
    found = np.random.default_rng(seed).normal(size=32).astype(np.float32)
    return found * (length / np.linalg.norm(found))
