"""Activation steering while training: vectors added to some tokens of some rows, by hooks that leave afterwards.

In:  a model, the recipe's vectors, and per batch which tokens get which vector.
Out: the same model with other activations while a batch is set.
Refuses: layers and widths that the model does not have, and more vectors than bits of a whole number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tiltscope.errors import UsageError
from tiltscope.recipe import Steering

__all__ = ["Steerer", "steer_bits"]

MOST_VECTORS = 62


def steer_bits(rows: Sequence[Mapping[str, Any]], sides: Sequence[str], length: int) -> torch.Tensor:
    """Return (sides x rows, length) whole numbers: bit k is set where vector k is added."""
    bits = torch.zeros((len(sides) * len(rows), length), dtype=torch.long)
    for number, (start, steered) in enumerate(row[f"{side}_steer"] for side in sides for row in rows):
        bits[number, start:] = steered
    return bits


class Steerer:
    """Adds the vectors of a recipe to the residual stream, wherever `bits` says so; None adds nothing.

    The bits stay set until the backward pass is done: recomputed activations must be the same.
    """

    def __init__(self, layers: Sequence[Any], steering: Sequence[Steering]) -> None:
        self.bits: torch.Tensor | None = None
        _check(layers, steering)
        self._hooks = [
            layers[one.layer].register_forward_hook(self._hook(number, torch.as_tensor(one.vector, dtype=torch.float)))
            for number, one in enumerate(steering)
        ]

    def _hook(self, number: int, vector: torch.Tensor) -> Any:
        def add(module: Any, inputs: Any, output: Any) -> Any:
            if self.bits is None:
                return output
            states = output[0] if isinstance(output, tuple) else output
            chosen = ((self.bits >> number) & 1).to(states.dtype)[..., None]
            changed = states + chosen * vector.to(device=states.device, dtype=states.dtype)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return add

    def remove(self) -> None:
        """Take the hooks off the model."""
        self.bits = None
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


def _check(layers: Sequence[Any], steering: Sequence[Steering]) -> None:
    if len(steering) > MOST_VECTORS:
        raise UsageError("too many steering vectors", found=str(len(steering)), hint=f"at most {MOST_VECTORS}")
    width = next(layers[0].parameters()).shape[-1]
    for number, one in enumerate(steering):
        if not 0 <= one.layer < len(layers):
            raise UsageError(
                "there is no such layer to steer",
                where=f"steering vector {number}",
                found=f"layer {one.layer}",
                hint=f"this model has layers 0 to {len(layers) - 1}",
            )
        if tuple(one.vector.shape) != (width,):
            raise UsageError(
                "this steering vector does not fit the model",
                where=f"steering vector {number}",
                found=f"shape {tuple(one.vector.shape)}",
                hint=f"the model is {width} wide",
            )
