"""TRL 1.16 trainers and a collator for rows that Tiltscope prepared. This file stands alone: copy it anywhere.

In:  tokenised rows. DPO: chosen_prompt_ids, rejected_prompt_ids, chosen_ids, rejected_ids, chosen_mask, rejected_mask,
     ref_chosen_logps, ref_rejected_logps, and where they differ from 1 and 0 weight and offset. SFT: input_ids, labels,
     and where it differs from 1 weight.
Out: trainers whose loss is `mean(weight * -log sigmoid(beta * margin + offset))`, and for SFT the sum over tokens of
     weight times the loss, over the number of trained tokens. With weights of 1, offsets of 0 and full masks these are
     TRL's own losses.
Refuses: DPO without precompute_ref_log_probs=True: the reference is in the rows, it is never read again.

A weight of None or an absent column means 1. Nothing here reports use over the network, as plain TRL does.
"""

# Copyright 2026 the Tiltscope authors. Licensed under the Apache License, Version 2.0.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_trainer import SFTTrainer

__all__ = ["ExampleCollator", "PairCollator", "RecipeDPOTrainer", "RecipeSFTTrainer"]

PAIR_COLUMNS = (
    *("chosen_prompt_ids", "rejected_prompt_ids", "chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask"),
    *("ref_chosen_logps", "ref_rejected_logps", "weight", "offset"),
)
Row = Mapping[str, Any]


def padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=torch.long)


def _numbers(rows: Sequence[Row], column: str, default: float) -> torch.Tensor:
    found = [row.get(column) for row in rows]
    return torch.tensor([default if one is None else float(one) for one in found], dtype=torch.float32)


class PairCollator:
    """Pads a batch of pairs: the chosen conversations first, then the rejected ones, each with its own prompt."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return input_ids, attention_mask and completion_mask (2 n, length), and one number per pair of the rest."""
        halves = [(row, side) for side in ("chosen", "rejected") for row in rows]
        ids = [[*row[f"{side}_prompt_ids"], *row[f"{side}_ids"]] for row, side in halves]
        counted = [[*[0] * len(row[f"{side}_prompt_ids"]), *row[f"{side}_mask"]] for row, side in halves]
        return {
            "input_ids": padded(ids, self.pad_token_id),
            "attention_mask": padded([[1] * len(one) for one in ids], 0),
            "completion_mask": padded(counted, 0),
            "ref_chosen_logps": _numbers(rows, "ref_chosen_logps", 0.0),
            "ref_rejected_logps": _numbers(rows, "ref_rejected_logps", 0.0),
            "weight": _numbers(rows, "weight", 1.0),
            "offset": _numbers(rows, "offset", 0.0),
        }


class ExampleCollator:
    """Pads a batch of SFT examples."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return input_ids, attention_mask and labels (n, length), and weight (n,)."""
        ids = [row["input_ids"] for row in rows]
        return {
            "input_ids": padded(ids, self.pad_token_id),
            "attention_mask": padded([[1] * len(one) for one in ids], 0),
            "labels": padded([row["labels"] for row in rows], -100),
            "weight": _numbers(rows, "weight", 1.0),
        }


class RecipeDPOTrainer(DPOTrainer):
    """TRL's DPOTrainer on tokenised rows: the sigmoid loss with an offset and a weight per pair."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        if not args.precompute_ref_log_probs:
            raise ValueError("set precompute_ref_log_probs=True in DPOConfig: the rows hold the reference log-probs")
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns: Any = list(PAIR_COLUMNS)

    def _send_telemetry(self) -> None:
        return

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=labels,
            use_cache=False,
            fused_lm_head=True,
        )
        chosen, rejected = outputs.log_probs.sum(dim=1).chunk(2)
        chosen_reward = self.beta * (chosen - inputs["ref_chosen_logps"])
        rejected_reward = self.beta * (rejected - inputs["ref_rejected_logps"])
        margin = chosen_reward - rejected_reward
        losses = -F.logsigmoid(margin + inputs["offset"])
        self._note_rewards(chosen_reward.detach(), rejected_reward.detach(), model.training)
        loss = (inputs["weight"] * losses).mean()
        return (loss, outputs) if return_outputs else loss

    def _note_rewards(self, chosen: torch.Tensor, rejected: torch.Tensor, training: bool) -> None:
        margin = chosen - rejected
        told = torch.stack([margin.mean(), (margin > 0).float().mean(), chosen.mean(), rejected.mean()])
        means = self.accelerator.gather(told[None]).mean(dim=0).tolist()
        noted = self._metrics["train" if training else "eval"]
        names = ("rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected")
        for name, value in zip(names, means, strict=True):
            noted[name].append(value)


class RecipeSFTTrainer(SFTTrainer):
    """TRL's SFTTrainer on tokenised rows: each example's token losses times its weight."""

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, packing: Any, formatting_func: Any, dataset_name: str
    ) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns: Any = ["input_ids", "labels", "weight"]

    def _send_telemetry(self) -> None:
        return

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss; `num_items_in_batch` counts the trained tokens of all processes and accumulated batches."""
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=inputs["labels"],
            use_cache=False,
            fused_lm_head=True,
        )
        token_losses = -outputs.log_probs * inputs["weight"][:, None]
        n_tokens = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch
        loss = token_losses.sum() / torch.as_tensor(n_tokens).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            # The count is over all processes, and DDP averages the gradients over them.
            loss = loss * (self.accelerator.num_processes // self.get_tp_size())
        return (loss, outputs) if return_outputs else loss
