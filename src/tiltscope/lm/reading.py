"""The residual stream after layer L, batch by batch, and the loss when it is replaced.

In:  a `LanguageModel`, token ids.
Out: residuals (n_tokens, width) of every text; mean next-token losses.
Refuses: nothing; layers after L and the LM head are neither loaded nor computed when reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from tiltscope.lm.model import LanguageModel, load_whole
from tiltscope.lm.renderer import Rendered

__all__ = ["TOKENS_PER_BATCH", "hidden_states", "length_batches", "response_losses"]

TOKENS_PER_BATCH = 4096


def length_batches(lengths: Sequence[int], *, tokens_per_batch: int = TOKENS_PER_BATCH) -> list[list[int]]:
    """Group positions of like length so that a padded batch holds at most `tokens_per_batch` tokens.

    >>> length_batches([5, 1, 5, 2], tokens_per_batch=10)
    [[0, 2], [3, 1]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        if batches and (len(batches[-1]) + 1) * max(1, lengths[batches[-1][0]]) <= tokens_per_batch:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def hidden_states(
    lm: LanguageModel, ids: Sequence[Sequence[int]], *, tokens_per_batch: int = TOKENS_PER_BATCH
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (which text, its residual stream after layer L: (n_tokens, width)), longest texts first.

    Texts are padded on the right and attention is causal, so padding cannot reach a text and no mask is needed. The
    same text in other company agrees to rounding of the number format (about 1e-6 in float32, 1e-2 in bfloat16).
    """
    for batch in length_batches([len(text) for text in ids], tokens_per_batch=tokens_per_batch):
        longest = len(ids[batch[0]])
        padded = torch.tensor([[*ids[i], *[0] * (longest - len(ids[i]))] for i in batch], dtype=torch.long)
        with torch.inference_mode():
            states = lm.model(input_ids=padded.to(lm.device), use_cache=False).last_hidden_state
        for row, i in enumerate(batch):
            yield i, states[row, : len(ids[i])]


Replace = Callable[[torch.Tensor], torch.Tensor]


def response_losses(lm: LanguageModel, texts: Sequence[Rendered], replaces: Sequence[Replace | None]) -> list[float]:
    """Return the mean next-token loss (nats) on response tokens, once per replacement of the residual after layer L.

    A replacement maps the residuals of the response tokens (n_tokens, width) to others; None leaves them. Loads the
    whole model: for a small held-out sample only.
    """
    whole = load_whole(lm.source, lm.dtype, lm.device)
    totals = np.zeros(len(replaces))
    n_tokens = 0
    with torch.inference_mode():
        for text in texts:
            for number, replace in enumerate(replaces):
                totals[number] += _response_loss(whole, text, lm.layer, replace)
            n_tokens += len(text.response.positions)
    return [float(total / max(1, n_tokens)) for total in totals]


def _response_loss(whole: Any, text: Rendered, layer: int, replace: Replace | None) -> float:
    """Return the summed loss of one text's response tokens with the residual stream there replaced."""
    positions = torch.as_tensor(text.response.positions, device=whole.device)

    def swap(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if replace is None:
            return output
        changed = output.clone()
        changed[0, positions] = replace(output[0, positions].float()).to(output.dtype)
        return changed

    hook = whole.model.layers[layer - 1].register_forward_hook(swap)
    try:
        ids = torch.tensor([text.ids], device=whole.device)
        states = whole.model(input_ids=ids, use_cache=False).last_hidden_state[0]
    finally:
        hook.remove()
    logits = whole.lm_head(states[positions - 1]).float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, positions], reduction="sum"))
