"""Training: TRL's own losses with an empty recipe, the formula by hand with one, and nothing left behind."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra tiltscope[train]")
trl = pytest.importorskip("trl", reason="training needs the extra tiltscope[train]")
pytest.importorskip("peft", reason="training needs the extra tiltscope[train]")

from datasets import Dataset  # noqa: E402

from tiltscope.errors import ProductError, UsageError  # noqa: E402
from tiltscope.lm import load_model, load_renderer  # noqa: E402
from tiltscope.lm.model import load_tokenizer, load_whole  # noqa: E402
from tiltscope.pairs import Pair, Turn  # noqa: E402
from tiltscope.recipe import Recipe, Steering  # noqa: E402
from tiltscope.training import StartingModel, TrainConfig, load_config, load_run, train  # noqa: E402
from tiltscope.training.build import build_trainer, give_rows, reference_model, reference_sequences  # noqa: E402
from tiltscope.training.models import layers_of  # noqa: E402
from tiltscope.training.reference import kept_logps, summed_logps  # noqa: E402
from tiltscope.training.rows import plain_sequence, split_held_out, token_rows  # noqa: E402
from tiltscope.training.steering import Steerer  # noqa: E402
from training_models import PLAIN, made_pairs, plain, start_of, vector  # noqa: E402

PAIRS = made_pairs()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> StartingModel:
    return start_of(tmp_path_factory.mktemp("tiny"))


def ready(start: StartingModel, recipe: Recipe, out: Path, config: TrainConfig = PLAIN) -> Any:
    """A trainer with its rows, as `train` builds it."""
    tokens = token_rows(PAIRS, recipe, start.renderer)
    trainer = build_trainer(tokens, recipe, start, config, out)
    model = reference_model(trainer, start)
    give_rows(trainer, tokens, kept_logps(trainer, model, reference_sequences(tokens), out / "reference"))
    return trainer


def moved_away(model: Any, seed: int = 1) -> None:
    """Change all weights a little, so that policy and reference differ."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in model.parameters():
            part.add_(torch.randn(part.shape, generator=generator) * 0.02)


def loss_and_gradients(trainer: Any, rows: list[Any]) -> tuple[float, dict[str, Any]]:
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    loss.backward()
    return float(loss.detach()), {name: one.grad.clone() for name, one in trainer.model.named_parameters()}


def batch_loss(trainer: Any, rows: list[Any]) -> float:
    """The loss of these rows as a training step computes it, steering included; no optimiser step."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return float(trainer.training_step(trainer.model, trainer.data_collator(rows)).detach())


def same_gradients(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=1e-5, atol=1e-6) for name in one)


def messages(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def logps_by_hand(model: Any, prompt: Any, ids: Any, mask: Any = None) -> float:
    """Summed log-prob of an answer, from a plain forward pass."""
    whole = torch.tensor([[*prompt, *ids]])
    with torch.no_grad():
        table = torch.log_softmax(model(input_ids=whole).logits[0].double(), dim=-1)
    at = range(len(prompt) - 1, len(prompt) + len(ids) - 1)
    counted = mask if mask is not None else [1] * len(ids)
    return float(sum(m * table[i, token] for i, token, m in zip(at, ids, counted, strict=True)))


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


# --- an empty recipe is plain training --------------------------------------------------------------------------------


# TRL's own reference pass asks transformers in an old way.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_empty_recipe_is_trls_own_dpo_in_loss_and_gradient(start: StartingModel, tmp_path: Path) -> None:
    ours = ready(start, plain(PAIRS), tmp_path / "ours")
    tokenizer, _ = load_tokenizer(start.source, None)
    theirs = trl.DPOTrainer(
        model=load_whole(start.source, torch.float32, "cpu"),
        ref_model=load_whole(start.source, torch.float32, "cpu"),
        args=trl.DPOConfig(
            output_dir=str(tmp_path / "theirs"),
            beta=0.1,
            bf16=False,
            use_cpu=True,
            report_to=[],
            activation_checkpointing=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_list(
            [
                {
                    "prompt": messages(pair.prompt),
                    "chosen": [{"role": "assistant", "content": pair.chosen}],
                    "rejected": [{"role": "assistant", "content": pair.rejected}],
                }
                for pair in PAIRS
            ]
        ),
        processing_class=tokenizer,
    )
    mine, own = ours.train_dataset.to_list(), theirs.train_dataset.to_list()
    assert [row["prompt_ids"] + row["chosen_ids"] for row in own] == [
        row["chosen_prompt_ids"] + row["chosen_ids"] for row in mine
    ]
    for trainer in (ours, theirs):
        moved_away(trainer.model)
    for at in (slice(0, 4), slice(4, 9)):
        (our_loss, our_gradient), (loss, gradient) = (
            loss_and_gradients(trainer, rows[at]) for trainer, rows in ((ours, mine), (theirs, own))
        )
        assert our_loss == pytest.approx(loss, abs=1e-6)
        assert abs(loss - math.log(2)) > 1e-3  # or the two would agree whatever the loss is
        assert same_gradients(our_gradient, gradient)


def test_an_empty_recipe_is_trls_own_sft_in_loss_and_gradient(start: StartingModel, tmp_path: Path) -> None:
    ours = ready(start, plain(PAIRS, "sft"), tmp_path / "ours")
    tokenizer, _ = load_tokenizer(start.source, None)
    theirs = trl.SFTTrainer(
        model=load_whole(start.source, torch.float32, "cpu"),
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "theirs"),
            bf16=False,
            use_cpu=True,
            report_to=[],
            activation_checkpointing=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_list(
            [
                {"prompt": messages(pair.prompt), "completion": [{"role": "assistant", "content": pair.chosen}]}
                for pair in PAIRS
            ]
        ),
        processing_class=tokenizer,
    )
    mine, own = ours.train_dataset.to_list(), theirs.train_dataset.to_list()
    assert [(row["input_ids"], row["labels"]) for row in own] == [(row["input_ids"], row["labels"]) for row in mine]
    for at in (slice(0, 4), slice(4, 9)):
        (our_loss, our_gradient), (loss, gradient) = (
            loss_and_gradients(trainer, rows[at]) for trainer, rows in ((ours, mine), (theirs, own))
        )
        assert our_loss == pytest.approx(loss, abs=1e-6)
        assert same_gradients(our_gradient, gradient)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_trains_and_its_folder_opens(start: StartingModel, tmp_path: Path) -> None:
    config = replace(PLAIN, num_train_epochs=2.0)
    run = train(PAIRS, plain(PAIRS), start, config, tmp_path / "run")
    assert run.n_rows == len(PAIRS)
    assert run.n_steps == 6
    assert run.losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert run.losses[-1] < 0.5
    assert load_run(tmp_path / "run") == run
    assert load_model(str(run.model_folder)).renderer.template == start.renderer.template
    assert load_renderer(str(run.model_folder)).fingerprint == start.renderer.fingerprint
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    assert kept["versions"]["trl"].startswith("1.16.")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == run.n_steps
