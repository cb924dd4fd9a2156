"""What a model gives to sentences it did not write: teacher forced, so that rare ones need no sampling.

Also plain trainings of any rows, and answers of the starting model, into which the sentences are put.

Sentences are asked at their place in an answer, several per prompt, which is read once for all of them. What planted
sentences gained by training is then a difference of log-probabilities (nats), with intervals over prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fault_data import joined
from poison import MAX_LENGTH, first
from steps import DRAWS

from tiltscope.artifact import read_json, write_json
from tiltscope.pairs import Pair, Turn

SENTENCES = 4
"""Asked per prompt and place."""


def whole_sentences(text: str) -> str:
    """An answer cut as the data were, without a last sentence that sampling left open."""
    text = first(text)
    end = max(text.rfind(mark) for mark in ".!?")
    return text[: end + 1] if end > 0 else text


def answers(path: Path, model: Path | None, prompts: Sequence[str], n: int = 1) -> dict[str, list[str]]:
    """{prompt: n answers of a model, None the embedded one}; kept in a file."""
    from tiltscope.lm import Sampling, generate, load_policy

    if not path.exists():
        policy = load_policy(str(model) if model else None, max_length=2 * MAX_LENGTH)
        texts = generate(policy, [(Turn("user", prompt),) for prompt in prompts], Sampling(n, 17, 0.7, 96))
        write_json(path, dict(zip(prompts, texts, strict=True)))
    return dict(read_json(path, verb=""))


def trained_on(
    rows: Sequence[Pair], run: Path, training: str, seed: int, *, reference: Path, objective: str = "dpo"
) -> Path:
    """Train plainly on these rows and return the model's folder; arms share what the start says of the pairs."""
    from tiltscope.recipe import empty_recipe
    from tiltscope.training import StartingModel, load_config, train

    config = run.parent / f"{objective}.yaml"
    config.write_text(training)
    start = StartingModel(None, None, MAX_LENGTH, reference)
    recipe = empty_recipe([pair.id for pair in rows], objective)
    train(rows, recipe, start, replace(load_config(config), seed=seed), run)
    return run / "model"


def read_through(model: Path | None, asked: Sequence[Mapping[str, Any]], held: Sequence[Pair]) -> dict[str, Any]:
    """Teacher forced, in the number format of training: what a model gives to every sentence and to held-out answers.

    logps: nats of each sentence; nll: per token of the chosen answers; margin: chosen minus rejected, nats. asked comes
    in runs of SENTENCES with one prompt and prefix, which is read once for all of them.
    """
    from tiltscope.lm import Branches, branch_logps, load_policy, response_logps

    policy = load_policy(str(model) if model else None, max_length=2 * MAX_LENGTH)
    texts, spans = [], []
    for one in asked:
        text = policy.renderer.render((Turn("user", one["prompt"]),), joined(one["prefix"], one["sentence"]))
        texts.append(text.ids)
        spans.append(text.response.positions[text.response.ends > len(one["prefix"])])
    runs = [slice(at, at + SENTENCES) for at in range(0, len(asked), SENTENCES)]
    nats = np.concatenate([branch_logps(policy, Branches.of(texts[run], spans[run])) for run in runs])
    chosen, rejected = (
        [policy.renderer.render(pair.prompt, text) for pair, text in zip(held, texts, strict=True)]
        for texts in ([pair.chosen for pair in held], [pair.rejected for pair in held])
    )
    n = [len(one.ids) - one.n_prompt_ids for one in chosen]
    both = [response_logps(policy, some) for some in (chosen, rejected)]
    return {"logps": nats.tolist(), "nll": (-both[0] / n).tolist(), "margin": (both[0] - both[1]).tolist()}


def ratio(top: np.ndarray, bottom: np.ndarray, *, paired: bool) -> list[float | None]:
    """[mean of top over mean of bottom, and its 95 % interval over prompts]; None where bottom's interval holds 0."""
    rng = np.random.default_rng(0)
    at = rng.integers(0, len(bottom), (DRAWS, len(bottom)))
    other = at if paired else rng.integers(0, len(top), (DRAWS, len(top)))
    below = bottom[at].mean(axis=1)
    if np.quantile(below, 0.025) <= 0 <= np.quantile(below, 0.975):
        return [None, None, None]
    low, high = np.quantile(top[other].mean(axis=1) / below, [0.025, 0.975])
    return [round(float(one), 4) for one in (top.mean() / bottom.mean(), low, high)]
