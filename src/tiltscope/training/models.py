"""The model to start from, as a trainer needs it, and the folder that a trained one is saved to.

In:  a model's source, settings.
Out: a model in training precision, with an adapter where one is asked for; folders that `load_model` opens.
Refuses: adapters on modules that the model does not have.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers

from tiltscope.errors import UsageError
from tiltscope.lm import ModelSource, Renderer
from tiltscope.lm.model import find_model, load_tokenizer, load_whole
from tiltscope.training.config import TrainConfig

__all__ = ["StartingModel", "layers_of", "lora_settings", "save_tokenizer", "training_model", "without_bars"]


@dataclass(frozen=True)
class StartingModel:
    """The model that training starts from and that is the reference."""

    model: str | None = None
    """None for the embedded default, a folder of safetensors, or a Hub id."""
    template: str | None = None
    """One of tiltscope.lm.TEMPLATES or a file; None takes the tokenizer's own."""
    max_length: int = 1024
    """Tokens of a conversation that are trained on; the answer's end is cut, and counted."""
    reference_folder: Path | None = None
    """Where the starting model's log-probs are kept, for several runs to share; None keeps them in the run."""

    @cached_property
    def source(self) -> ModelSource:
        """Where its files are. Raises `ModelError`."""
        return find_model(self.model)

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of reading and evaluation. Raises `ModelError`."""
        return Renderer(self.tokenizer(), self._loaded[1], max_length=self.max_length)

    @cached_property
    def _loaded(self) -> tuple[Any, str]:
        return load_tokenizer(self.source, self.template)

    def tokenizer(self) -> Any:
        """Return a fresh copy of the tokenizer as it was loaded; to load it again takes seconds for a GGUF file."""
        return copy.deepcopy(self._loaded[0])


def training_model(source: ModelSource, config: TrainConfig) -> Any:
    """Load the whole model on the CPU: float32, or bfloat16 where it is frozen under an adapter and bf16 is set."""
    dtype = torch.bfloat16 if config.bf16 and config.lora_r else torch.float32
    loaded = load_whole(source, dtype, "cpu")
    return _without_packing(loaded) if source.gguf else loaded


def _without_packing(loaded: Any) -> Any:
    """Return a model that does not claim to be packed: its saved folder then opens as plain safetensors."""
    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    build: Any = transformers.AutoModelForCausalLM
    fresh = build.from_config(config, dtype=loaded.dtype, trust_remote_code=False)
    fresh.load_state_dict(loaded.state_dict())
    fresh.generation_config = loaded.generation_config
    return fresh.eval()


def layers_of(model: Any) -> Any:
    """Return the decoder's blocks, under an adapter as well."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.model.layers


def lora_settings(model: Any, config: TrainConfig) -> Any:
    """Return peft's settings, or None where all weights are trained. Raises `UsageError`."""
    if not config.lora_r:
        return None
    from peft import LoraConfig

    there = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    there.discard("lm_head")
    missing = [name for name in config.lora_target_modules if name not in there]
    if missing:
        raise UsageError(
            "this model has no such modules to put an adapter on",
            where="lora_target_modules",
            found=", ".join(missing),
            hint=f"it has: {', '.join(sorted(there))}",
        )
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=2 * config.lora_r,
        lora_dropout=0.0,
        target_modules=list(config.lora_target_modules),
        task_type="CAUSAL_LM",
    )


def save_tokenizer(start: StartingModel, folder: Path) -> None:
    """Write the tokenizer as it was loaded, with the chat template that was trained with."""
    tokenizer = start.tokenizer()
    tokenizer.chat_template = start.renderer.template
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Silence the bars that transformers draws on stderr while it writes a model."""
    from transformers.utils import logging

    were_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    try:
        yield
    finally:
        if were_on:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
