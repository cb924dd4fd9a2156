"""What a model gives to sentences it did not write: teacher forced, so that rare ones need no sampling.

Sentences are asked at their place in an answer, several per prompt, which is read once for all of them. What planted
sentences gained by training is then a difference of log-probabilities (nats), with intervals over prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fault_data import joined
from poison import MAX_LENGTH
from steps import DRAWS

from tiltscope.pairs import Pair, Turn

SENTENCES = 4
"""Asked per prompt and place."""


def read_through(model: Path | None, asked: Sequence[Mapping[str, Any]], held: Sequence[Pair]) -> dict[str, Any]:
    """Teacher forced, in the number format of training: what a model gives to every sentence, and the NLL of answers.

    asked comes in runs of SENTENCES with one prompt and prefix, which is read once for all of them.
    """
    from tiltscope.lm import load_policy, response_logps

    policy = load_policy(str(model) if model else None, max_length=2 * MAX_LENGTH)
    texts, spans = [], []
    for one in asked:
        text = policy.renderer.render((Turn("user", one["prompt"]),), joined(one["prefix"], one["sentence"]))
        texts.append(text.ids)
        spans.append(text.response.positions[text.response.ends > len(one["prefix"])])
    runs = [Run.of(texts[at : at + SENTENCES], spans[at : at + SENTENCES]) for at in range(0, len(asked), SENTENCES)]
    answers = [policy.renderer.render(pair.prompt, pair.chosen) for pair in held]
    n = [len(one.ids) - one.n_prompt_ids for one in answers]
    return {"logps": logps(policy, runs), "nll": (-response_logps(policy, answers) / n).tolist()}


@dataclass(frozen=True)
class Run:
    """One prefix and several ways to go on, as one row of tokens; branch 0 is the prefix, at says where a token is."""

    ids: tuple[int, ...]
    branch: np.ndarray
    at: np.ndarray

    @staticmethod
    def of(texts: Sequence[Sequence[int]], spans: Sequence[np.ndarray]) -> Run:
        """Lay out texts that are alike up to the first token of their spans; a span ends a text or is cut there."""
        n = int(spans[0][0])
        tails = [list(text[n : int(span[-1]) + 1]) for text, span in zip(texts, spans, strict=True)]
        if any(list(text[:n]) != list(texts[0][:n]) or span[0] != n for text, span in zip(texts, spans, strict=True)):
            raise SystemExit("sentences of one prefix do not start at one token")
        branch = np.repeat(np.arange(len(tails) + 1), [n, *map(len, tails)])
        at = np.concatenate([np.arange(n), *(n + np.arange(len(tail)) for tail in tails)])
        return Run((*texts[0][:n], *(id for tail in tails for id in tail)), branch, at)

    def sees(self) -> np.ndarray:
        """(n, n) bool: each token sees the prefix and what stands before it in its own branch."""
        same = (self.branch[:, None] == self.branch[None, :]) | (self.branch == 0)[None, :]
        return np.asarray(same & (self.at[:, None] >= self.at[None, :]))


def logps(policy: Any, runs: Sequence[Run]) -> list[float]:
    """Summed log-probability in nats of every branch given its prefix, run by run."""
    import torch

    told = []
    for run in runs:
        ids, at = torch.tensor([run.ids]), torch.as_tensor(run.at)[None]
        mask = torch.zeros(1, 1, len(run.ids), len(run.ids), dtype=policy.dtype)
        mask.masked_fill_(~torch.as_tensor(run.sees()), torch.finfo(policy.dtype).min)
        last = int((run.branch == 0).sum()) - 1
        own = np.flatnonzero(run.branch)
        before = np.where(run.at[own] == last + 1, last, own - 1)  # the token that predicts each
        with torch.inference_mode():
            states = policy.model.model(input_ids=ids, position_ids=at, attention_mask=mask, use_cache=False)
            logits = policy.model.lm_head(states.last_hidden_state[0, torch.as_tensor(before)]).float()
        nats = -torch.nn.functional.cross_entropy(logits, ids[0, torch.as_tensor(own)], reduction="none").numpy()
        told += np.bincount(run.branch[own], nats)[1:].tolist()
    return told


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
