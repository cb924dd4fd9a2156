"""The whole model: log-probs of answers, samples, and steering while a block of code runs.

In:  a model with its head, rendered conversations or prompt turns.
Out: summed log-probs in nats; sampled answers as text.
Refuses: to leave a hook behind, and to sample from a prompt that fills max_length.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from tiltscope.artifact import fingerprint
from tiltscope.lm.model import ModelSource, choose_dtype, find_model, load_tokenizer, load_whole
from tiltscope.lm.reading import length_batches
from tiltscope.lm.renderer import Rendered, Renderer
from tiltscope.pairs import Turn

__all__ = ["Policy", "Sampling", "Steer", "generate", "load_policy", "response_logps", "steered"]

Progress = Callable[[str, int, int], None]

LOGP_TOKENS_PER_BATCH = 2048


@dataclass(frozen=True)
class Policy:
    """A whole model that answers, with the renderer that reads for it."""

    source: ModelSource
    model: Any
    renderer: Renderer
    device: str
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """The Hub id, the folder's own name, or the default model's name."""
        return self.source.name

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the weights, the number format and the renderer."""
        return fingerprint(self.source.fingerprint, str(self.dtype), self.renderer.fingerprint)

    @cached_property
    def stop_ids(self) -> list[int]:
        """Where an answer ends: what the template writes after one, and the model's own end of text."""
        text = self.renderer.render((Turn("user", "a"),), "b")
        own = self.model.generation_config.eos_token_id
        ends = [own] if isinstance(own, int) else list(own or [])
        return list(dict.fromkeys([*text.ids[text.response.positions[-1] + 1 :][:1], *ends]))


@dataclass(frozen=True)
class Steer:
    """A vector (width,) added to the residual stream after `layer` (1 = after the first block)."""

    layer: int
    vector: np.ndarray


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: n of each prompt, one seed."""

    n: int = 1
    seed: int = 0
    temperature: float = 0.7
    """0 takes the likeliest token."""
    max_new_tokens: int = 160
    batch: int = 32


def load_policy(
    model: str | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    template: str | None = None,
    max_length: int = 1024,
) -> Policy:
    """Load a whole model; arguments as in `load_model`. Raises `ModelError`."""
    source = find_model(model)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = choose_dtype(dtype, device)
    renderer = Renderer(*load_tokenizer(source, template), max_length=max_length)
    return Policy(source, load_whole(source, kind, device), renderer, device, kind)


def response_logps(
    policy: Policy,
    texts: Sequence[Rendered],
    *,
    steer: Steer | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return the summed log-prob (nats) of each response, its end of turn included: (n_texts,) float64.

    With `steer` the vector is added to every token that predicts one of the response.
    """
    answers = np.zeros(len(texts))
    done = 0
    batches = length_batches([len(text.ids) for text in texts], tokens_per_batch=LOGP_TOKENS_PER_BATCH)
    for batch in batches:
        longest = max(len(texts[i].ids) for i in batch)
        padded = torch.tensor([[*texts[i].ids, *[0] * (longest - len(texts[i].ids))] for i in batch])
        starts = [texts[i].n_prompt_ids - 1 for i in batch]  # the token that predicts the first of the response
        with torch.inference_mode(), steered(policy.model, steer, starts):
            states = policy.model.model(input_ids=padded.to(policy.device), use_cache=False).last_hidden_state
            for row, i in enumerate(batch):
                answers[i] = _summed(policy, states[row], texts[i])
        done += len(batch)
        if progress:
            progress("log-probs", done, len(texts))
    return answers


def _summed(policy: Policy, states: torch.Tensor, text: Rendered) -> float:
    """The head sees only the positions that predict a response token."""
    ids = torch.tensor(text.ids[text.n_prompt_ids :], device=states.device)
    logits = policy.model.lm_head(states[text.n_prompt_ids - 1 : len(text.ids) - 1]).float()
    return -float(torch.nn.functional.cross_entropy(logits, ids, reduction="sum"))


@contextlib.contextmanager
def steered(model: Any, steer: Steer | None, starts: Sequence[int]) -> Iterator[None]:
    """Add a vector after a layer to every token from starts[row] on while the block runs; the hook leaves with it."""
    if steer is None:
        yield
        return

    def add(module: Any, inputs: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        at = torch.arange(states.shape[1], device=states.device)
        wanted = at[None, :] >= torch.tensor(list(starts), device=states.device)[:, None]
        vector = torch.as_tensor(steer.vector, dtype=states.dtype, device=states.device)
        changed = states + wanted[..., None] * vector
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    hook = model.model.layers[steer.layer - 1].register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def generate(
    policy: Policy,
    prompts: Sequence[Sequence[Turn]],
    sampling: Sampling | None = None,
    *,
    progress: Progress | None = None,
) -> list[list[str]]:
    """Return sampling.n answers to each prompt, in order; the same seed and prompts give the same answers.

    Raises `Unreadable` for a prompt that fills max_length or that the template refuses.
    """
    sampling = sampling or Sampling()
    ids = [list(_prompt_ids(policy, prompt)) for prompt in prompts]
    asked = [(i, ids[i]) for i in range(len(prompts)) for _ in range(sampling.n)]
    asked.sort(key=lambda one: (len(one[1]), one[0]))
    answers: list[list[str]] = [[] for _ in prompts]
    for start in range(0, len(asked), sampling.batch):
        batch = asked[start : start + sampling.batch]
        texts = _sample(policy, [one for _, one in batch], sampling, start)
        for (i, _), text in zip(batch, texts, strict=True):
            answers[i].append(text)
        if progress:
            progress("answers", min(start + sampling.batch, len(asked)), len(asked))
    return answers


def _prompt_ids(policy: Policy, prompt: Sequence[Turn]) -> tuple[int, ...]:
    text = policy.renderer.render(prompt, "")
    return text.ids[: text.n_prompt_ids]


def _sample(policy: Policy, prompts: Sequence[Sequence[int]], sampling: Sampling, salt: int) -> list[str]:
    longest = max(map(len, prompts))
    pad = policy.stop_ids[0]
    padded = torch.tensor([[*[pad] * (longest - len(one)), *one] for one in prompts], device=policy.device)
    mask = torch.tensor([[*[0] * (longest - len(one)), *[1] * len(one)] for one in prompts], device=policy.device)
    drawn: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        drawn = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
    with torch.random.fork_rng(devices=[policy.device] if policy.device.startswith("cuda") else []):
        torch.manual_seed(1_000_003 * sampling.seed + salt)
        with torch.inference_mode():
            out = policy.model.generate(
                input_ids=padded,
                attention_mask=mask,
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=policy.stop_ids,
                pad_token_id=pad,
                **drawn,
            )
    stops = set(policy.stop_ids)
    texts = []
    for row in out[:, longest:].tolist():
        end = next((at for at, one in enumerate(row) if one in stops), len(row))
        texts.append(str(policy.renderer.tokenizer.decode(row[:end], skip_special_tokens=True)).strip())
    return texts
