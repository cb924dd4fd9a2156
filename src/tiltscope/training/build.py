"""A TRL trainer from our settings, and the rows it reads.

In:  tokenised rows, the starting model, settings.
Out: a trainer that has not trained yet, and later the same with its rows.
Refuses: DeepSpeed (not tried; FSDP does the same).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.sft_config import SFTConfig

from tiltscope.errors import UsageError
from tiltscope.lm.model import load_whole
from tiltscope.recipe import Recipe
from tiltscope.training.config import TrainConfig
from tiltscope.training.head import compact_head
from tiltscope.training.models import StartingModel, lora_settings, training_model
from tiltscope.training.reference import kept_logps
from tiltscope.training.rows import TokenRows, TokenSequence, dataset_columns, example_columns
from tiltscope.training.tiltscope_trl import ExampleCollator, PairCollator
from tiltscope.training.trainers import ExampleTrainer, PairTrainer, SteeredExamples, SteeredPairs

__all__ = ["build_trainer", "give_rows", "reference_model", "reference_sequences", "start_logps"]


def build_trainer(tokens: TokenRows, recipe: Recipe, start: StartingModel, config: TrainConfig, folder: Path) -> Any:
    """Return the trainer of the recipe's objective, with its model; its rows come later, with `give_rows`."""
    model = training_model(start.source, config)
    lora = lora_settings(model, config)
    own = copy.deepcopy(model.config), copy.deepcopy(model.generation_config)
    tokenizer = start.tokenizer()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    collators = (SteeredPairs, SteeredExamples) if recipe.steering else (PairCollator, ExampleCollator)
    is_dpo = recipe.objective == "dpo"
    collator = collators[0 if is_dpo else 1](tokenizer.pad_token_id)
    # TRL looks at the columns of a first row; it is not trained on.
    first = TokenRows(tokens.rows[:1], {}, 0)
    trainer: Any = (PairTrainer if is_dpo else ExampleTrainer)(
        model=model,
        args=_arguments(recipe.objective, config, folder),
        data_collator=collator,
        train_dataset=_dataset(first, dict.fromkeys((one.key for one in reference_sequences(first)), 0.0)),
        processing_class=tokenizer,
        peft_config=lora,
    )
    compact_head(trainer.model.get_base_model() if lora else trainer.model)
    # The trainer changes the pad token and the cache in the model's configuration; the saved model keeps its own.
    trainer.own_settings = own
    if trainer.is_deepspeed_enabled:
        raise UsageError("DeepSpeed is not supported", hint="launch with FSDP: examples/configs/fsdp.yaml")
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(objective: str, config: TrainConfig, folder: Path) -> Any:
    on_gpu = torch.cuda.is_available()
    common: dict[str, Any] = {
        "output_dir": str(folder),
        "learning_rate": config.learning_rate,
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "num_train_epochs": config.num_train_epochs,
        "max_steps": config.max_steps or -1,
        "warmup_steps": config.warmup_ratio,  # a share of the steps where it is below 1
        "lr_scheduler_type": config.lr_scheduler_type,
        "seed": config.seed,
        "bf16": config.bf16,
        "max_grad_norm": config.max_grad_norm,
        "save_strategy": "steps" if config.save_steps else "no",
        "save_steps": config.save_steps or 500,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is not a number must be seen
        "use_cpu": not on_gpu,
        "ddp_find_unused_parameters": False,  # every weight takes part in every step
        "activation_checkpointing": on_gpu,
        "dataloader_pin_memory": on_gpu,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "report_to": [],
        "max_length": None,
    }
    if objective == "dpo":
        return DPOConfig(**common, beta=config.beta, precompute_ref_log_probs=True)
    return SFTConfig(**common)


def _dataset(tokens: TokenRows, logps: dict[str, float]) -> Dataset:
    pairs = tokens.rows[0].rejected is not None
    return Dataset.from_list(dataset_columns(tokens.rows, logps) if pairs else example_columns(tokens.rows))


def reference_sequences(tokens: TokenRows) -> list[TokenSequence]:
    """Return the conversations whose log-probs the reference is asked for; none for SFT."""
    return [side.reference for row in tokens.rows if row.rejected is not None for side in (row.chosen, row.rejected)]


def give_rows(trainer: Any, tokens: TokenRows, logps: dict[str, float]) -> None:
    """Give the trainer its rows, with the reference's log-probs."""
    trainer.train_dataset = _dataset(tokens, logps)


def start_logps(
    trainer: Any, start: StartingModel, sequences: Sequence[TokenSequence], folder: Path
) -> dict[str, float]:
    """Return the starting model's summed log-probs (nats) by key; call it before the first step.

    They are kept in the starting model's own folder, or in `folder`, apart for each model and number format.
    """
    kind = f"{start.source.fingerprint}-{trainer.model.dtype}-bf16={trainer.args.bf16}".replace("torch.", "")
    place = (start.reference_folder or folder) / kind
    return kept_logps(trainer, reference_model(trainer, start), sequences, place, progress=trainer.progress)


def reference_model(trainer: Any, start: StartingModel) -> Any:
    """Return the starting model: the policy before its first step, or under FSDP one of its own, in parts."""
    if not trainer.is_fsdp_enabled:
        return trainer.model.to(trainer.accelerator.device)
    if trainer.kept_reference is None:
        from trl.models.utils import prepare_fsdp
        from trl.trainer.utils import add_fused_lm_head

        whole = load_whole(start.source, trainer.model.dtype, "cpu")
        add_fused_lm_head(whole)
        trainer.kept_reference = prepare_fsdp(whole, trainer.accelerator)
    return trainer.kept_reference
