"""How to train: the few settings a person chooses, from a YAML file or as arguments.

In:  a YAML mapping with TRL's own key names where the meaning is the same.
Out: `TrainConfig`, a frozen value that was checked.
Refuses: unknown keys (it names the nearest), values of another type, and values out of range: with file and line.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltscope.errors import UsageError
from tiltscope.written import read_written

__all__ = ["TrainConfig", "load_config"]

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run; the defaults move the embedded default model with a few hundred pairs."""

    learning_rate: float = 2e-5
    """Peak learning rate of AdamW."""
    beta: float = 0.1
    """DPO only: strength of the pull to the reference, per nat of summed log-prob."""
    per_device_train_batch_size: int = 4
    """Rows per process and forward pass."""
    gradient_accumulation_steps: int = 1
    """Forward passes per step of the optimiser."""
    num_train_epochs: float = 1.0
    """Passes over the rows; max_steps, if not 0, wins."""
    max_steps: int = 0
    """Steps of the optimiser; 0 leaves it to num_train_epochs."""
    warmup_ratio: float = 0.1
    """Share of the steps over which the learning rate rises from 0; a training of one step has no warm-up."""
    lr_scheduler_type: str = "linear"
    """linear, cosine or constant_with_warmup: what the learning rate does after the warm-up."""
    seed: int = 0
    """Order of the rows and starting values of adapters."""
    bf16: bool = True
    """Compute in bfloat16 over float32 weights (over bfloat16 weights where they are frozen under an adapter)."""
    lora_r: int = 0
    """Rank of LoRA adapters, with lora_alpha = 2 r; 0 trains all weights."""
    lora_target_modules: tuple[str, ...] = LINEAR
    """Names of the linear modules that get an adapter."""
    save_steps: int = 200
    """Steps between checkpoints to resume from, two of which are kept; 0 writes none."""
    max_grad_norm: float = 1.0
    """Length to which longer gradients are cut."""
    held_out_share: float = 0.05
    """Share of the groups of pairs that is not trained on but asked whether training moved the model."""

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            _check(one.name, getattr(self, one.name), "training settings")
        if not self.max_steps and not self.num_train_epochs:
            hint = "max_steps: 500, or num_train_epochs: 1"
            raise UsageError(
                "nothing to train", where="training settings", found="max_steps 0, num_train_epochs 0", hint=hint
            )


_SCHEDULES = ("linear", "cosine", "constant_with_warmup")
_RANGES = {
    "learning_rate": (0.0, 1.0),
    "beta": (1e-6, 1000.0),
    "per_device_train_batch_size": (1, 4096),
    "gradient_accumulation_steps": (1, 1_000_000),
    "num_train_epochs": (0.0, 1000.0),
    "max_steps": (0, 100_000_000),
    "warmup_ratio": (0.0, 0.999),
    "seed": (0, 2**32 - 1),
    "lora_r": (0, 4096),
    "save_steps": (0, 100_000_000),
    "max_grad_norm": (1e-6, 1e6),
    "held_out_share": (0.0, 0.5),
}


def _check(name: str, value: Any, where: str) -> None:
    """Refuse a value out of range, or a word that is not known."""
    low, high = _RANGES.get(name, (-math.inf, math.inf))
    if name in _RANGES and not (math.isfinite(value) and low <= value <= high):
        raise UsageError(f"{name} is out of range", where=where, found=str(value), hint=f"{low:g} to {high:g}")
    if name == "lr_scheduler_type" and value not in _SCHEDULES:
        raise _not_known(value, _SCHEDULES, where)


def load_config(path: Path) -> TrainConfig:
    """Read a YAML file of settings; what it leaves out has its default. Raises `UsageError`."""
    top = read_written(path)
    if top.value is None:
        return TrainConfig()
    if not isinstance(top.value, dict):
        raise top.refused("training settings are keys and values", hint="learning_rate: 2e-5")
    kinds = {one.name: type(one.default) for one in dataclasses.fields(TrainConfig)}
    values: dict[str, Any] = {}
    for key, held in top.value.items():
        where = held.where
        if key not in kinds:
            raise _not_known(key, tuple(kinds), where)
        value = [one.value for one in held.value] if isinstance(held.value, list) else held.value
        values[key] = _typed(key, value, kinds[key], where)
        _check(key, values[key], where)
    try:
        return TrainConfig(**values)
    except UsageError as error:  # keys that do not go together
        raise UsageError(error.what, where=str(path), found=error.found, hint=error.hint) from error


def _typed(key: str, value: Any, kind: type, where: str) -> Any:
    """YAML reads 2e-5 as text and 1 as a whole number: both are fine where a number with a point is meant."""
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    elif kind is tuple and isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return tuple(value)
    elif type(value) is kind:
        return value
    told = {float: "a number", int: "a whole number", bool: "true or false", str: "text", tuple: "a list of names"}
    example = getattr(TrainConfig(), key)
    hint = f"{key}: {f'[{example[0]}]' if kind is tuple else str(example).lower()}"
    raise UsageError(f"{key} must be {told[kind]}", where=where, found=repr(value)[:100], hint=hint)


def _not_known(found: str, known: tuple[str, ...], where: str) -> UsageError:
    near = difflib.get_close_matches(found, known, n=1, cutoff=0.0)
    return UsageError(
        f"{found[:60]} is not known here",
        where=where,
        found=found[:60],
        hint=f"nearest: {near[0]}; known: {', '.join(known)}",
    )
