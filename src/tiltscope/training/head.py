"""Log-probs on a CPU: only tokens with a label meet the LM head, in the number format of the rest of the model.

In:  a model that TRL gave its fused head (`add_fused_lm_head`).
Out: the same model; on a CPU its log-probs come from a plain projection.
Refuses: heads with a soft cap or a scale of their own, which keep TRL's.

TRL 1.16 projects every position, padding and prompt too, where there is no Triton, and multiplies in float32 on the way
back: a quarter of a training step of a small model on a CPU, and more where rows are mostly padding. The values are
the same (tests/test_training.py).
"""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from trl.trainer.utils import FusedCausalLMOutput

__all__ = ["compact_head"]

_ROWS = 4096  # tokens projected at once: rows x vocabulary floats
_SCALED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def compact_head(model: Any) -> None:
    """Let the model project labelled tokens only where it runs on a CPU; elsewhere nothing changes."""
    text_config = model.config.get_text_config()
    if any(getattr(text_config, name, None) is not None for name in _SCALED):
        return
    fused = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **others: Any) -> Any:
        plain = labels is None or "shift_labels" in others or labels.device.type != "cpu"
        if not fused_lm_head or plain or getattr(text_config, "output_router_logits", False):
            return fused(*args, fused_lm_head=fused_lm_head, labels=labels, **others)
        others.pop("num_items_in_batch", None)
        hidden = self.base_model(*args, **(others | {"use_cache": False})).last_hidden_state[:, :-1]
        wanted = labels[:, 1:]
        mask = wanted != -100
        logps = _logps(hidden[mask], self.get_output_embeddings(), wanted[mask])
        full = logps.new_zeros(mask.shape).masked_scatter(mask, logps)
        return FusedCausalLMOutput(loss=-full.sum() / mask.sum().clamp(min=1), log_probs=full, label_mask=mask)

    model.forward = types.MethodType(forward, model)


def _logps(hidden: torch.Tensor, head: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return (n,) float32 log-probs of the labels; more than one chunk is projected again on the way back."""
    if len(hidden) <= _ROWS:
        return _chunk_logps(hidden, head.weight, head.bias, labels)
    parts = [
        checkpoint(_chunk_logps, some, head.weight, head.bias, own, use_reentrant=False)
        for some, own in zip(torch.split(hidden, _ROWS), torch.split(labels, _ROWS), strict=True)
    ]
    return torch.cat(parts)


def _chunk_logps(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, labels: torch.Tensor
) -> torch.Tensor:
    return -F.cross_entropy(F.linear(hidden, weight, bias).float(), labels, reduction="none")
