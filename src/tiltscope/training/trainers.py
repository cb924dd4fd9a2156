"""The trainers of tiltscope_trl.py, with steering, checkpoints that are whole or absent, and a stop on divergence.

In:  a model, tokenised rows, a recipe's steering vectors.
Out: TRL trainers that are ready to train.
Refuses: to go on after a loss or a gradient that is not a number, and to leave half a checkpoint behind.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from tiltscope.artifact import write_json
from tiltscope.errors import ProductError, UsageError
from tiltscope.recipe import SIDES
from tiltscope.training.steering import Steerer, steer_bits
from tiltscope.training.tiltscope_trl import ExampleCollator, PairCollator, RecipeDPOTrainer, RecipeSFTTrainer

__all__ = ["ExampleTrainer", "PairTrainer", "last_checkpoint", "not_written"]

Progress = Callable[[str, int, int], None]
WHOLE = "whole.json"


class SteeredPairs(PairCollator):
    """Also says which tokens are steered."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch of `PairCollator` and steer (2 n, length)."""
        batch = super().__call__(rows)
        return {**batch, "steer": steer_bits(rows, SIDES, batch["input_ids"].shape[1])}


class SteeredExamples(ExampleCollator):
    """Also says which tokens are steered."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch of `ExampleCollator` and steer (n, length)."""
        batch = super().__call__(rows)
        return {**batch, "steer": steer_bits(rows, SIDES[:1], batch["input_ids"].shape[1])}


class _Ours:
    """What both trainers share; stands before TRL's class."""

    steerer: Steerer | None = None
    progress: Progress | None = None
    kept_reference: Any = None
    own_settings: tuple[Any, Any] = (None, None)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep the numbers of a step, tell of it, and stop where they are not numbers."""
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise self._diverged(name, logs[name])
        super().log(logs, start_time)  # type: ignore[misc]
        state = self.state  # type: ignore[attr-defined]
        if self.progress and "loss" in logs and state.is_world_process_zero:
            self.progress("training", state.global_step, state.max_steps)

    def _diverged(self, name: str, value: float) -> UsageError:
        args = self.args  # type: ignore[attr-defined]
        return UsageError(
            "training diverged",
            where=f"step {self.state.global_step}",  # type: ignore[attr-defined]
            found=f"{name} is {value}",
            hint=f"lower learning_rate (now {args.learning_rate}) or max_grad_norm (now {args.max_grad_norm}), raise "
            "warmup_ratio, or look for extreme offsets and weights in the recipe",
        )

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One forward and backward pass, steered in both."""
        bits = inputs.pop("steer", None)
        if self.steerer is None:
            return super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        self.steerer.bits = bits
        try:
            return super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        finally:
            self.steerer.bits = None

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """A single step has no warm-up, which would leave it a learning rate of 0."""
        if num_training_steps == 1:
            self.args.warmup_steps = 0  # type: ignore[attr-defined]
        return super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]

    def create_model_card(self, model_name: Any = None, dataset_name: Any = None, tags: Any = None) -> None:
        """A run says what it is in run.json."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"  # type: ignore[attr-defined]
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            if self.args.should_save:  # type: ignore[attr-defined]
                write_json(folder / WHOLE, {"step": self.state.global_step})  # type: ignore[attr-defined]
        except (OSError, SafetensorError, RuntimeError) as error:
            # torch reports a full disk as a RuntimeError of its archive writer; others are not about writing.
            if isinstance(error, RuntimeError) and not any(name in str(error) for name in _ARCHIVE_WRITER):
                raise
            raise not_written(folder, error) from error


_ARCHIVE_WRITER = ("PytorchStreamWriter", "inline_container")


def not_written(folder: Path, error: Exception) -> ProductError:
    """Remove what was written of a folder and return the refusal."""
    shutil.rmtree(folder, ignore_errors=True)
    earlier = last_checkpoint(folder.parent)
    kept = f"{earlier.name} is whole: run the same command again" if earlier else "there is no earlier checkpoint"
    return ProductError(
        "the model could not be written",
        where=str(folder),
        found=str(error)[:200],
        hint=f"make room on the disk; {kept}",
    )


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end."""
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{WHOLE}")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


class PairTrainer(_Ours, RecipeDPOTrainer):  # type: ignore[misc]
    """Trains on pairs."""

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Under FSDP, TRL has loaded and sharded a reference here, which it drops at the end of its constructor."""
        self.kept_reference = self.ref_model
        return dataset


class ExampleTrainer(_Ours, RecipeSFTTrainer):  # type: ignore[misc]
    """Trains on examples."""
