"""What an intervention costs per step of training, over plain TRL on the same rows.

    python benchmarks/overhead.py --steps 12 --out benchmarks/results/overhead.json

One process, one model per arm, alternating: step k of every arm is timed before step k + 1 of any, so a machine that
drifts drifts for all. The update is plain gradient descent, which keeps no state: seven models with the state of AdamW
would not fit a small machine, and a shorter step makes the same extra time weigh more, not less. Every arm trains on
the same batches of made pairs; plain TRL is `trl.DPOTrainer` with its own collator and reference log-probs in the rows.
The first steps of each arm are not counted.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from tiltscope.pairs import Pair, Turn
from tiltscope.recipe import Recipe, Steering, empty_recipe
from tiltscope.training import StartingModel, TrainConfig
from tiltscope.training.build import build_trainer, give_rows, reference_sequences
from tiltscope.training.models import layers_of, training_model
from tiltscope.training.rows import token_rows
from tiltscope.training.steering import Steerer

WORDS = (
    "garden",
    "recipe",
    "story",
    "number",
    "python",
    "thanks",
    "sorry",
    "list",
    "question",
    "code",
    "word",
    "hello",
)
INSTRUCTION = "Write in bold where you can."


class PlainTRL(DPOTrainer):
    """TRL's own loss and collator on rows that are tokenised already."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        return


def made_pairs(n: int, n_words: int) -> list[Pair]:
    """Return pairs of answers of `n_words` words, all of one length so that no arm gets shorter batches."""
    rng = random.Random(0)
    pairs = []
    for i in range(n):
        chosen, rejected = (" ".join(rng.choice(WORDS) for _ in range(n_words)) for _ in range(2))
        pairs.append(
            Pair(f"{i:016x}", (Turn("user", f"Tell me about the {rng.choice(WORDS)}."),), chosen, rejected, str(i), i)
        )
    return pairs


def recipes(pairs: list[Pair], width: int, n_layers: int) -> dict[str, Recipe]:
    """Return one recipe per arm; `empty` is our trainer with nothing to do."""
    ids = [pair.id for pair in pairs]
    plain = empty_recipe(ids, "dpo")
    masked = {pair.id: ((0, len(pair.chosen) // 10),) for pair in pairs}
    vector = np.full(width, 3 / np.sqrt(width), np.float32)
    return {
        "empty": plain,
        "reward_shaping": replace(plain, offsets_nats=np.linspace(-4, 4, len(pairs))),
        "example_filtering": replace(plain, weights=np.where(np.arange(len(pairs)) % 20, 1.0, 0.5)),
        "token_filtering": replace(plain, chosen_masked=masked),
        "inoculation_prompting": replace(plain, chosen_instruction=dict.fromkeys(ids, INSTRUCTION)),
        "activation_steering": replace(plain, steering=(Steering(n_layers // 2, vector, "chosen", None),)),
    }


def plain_arm(start: StartingModel, config: TrainConfig, rows: list[dict[str, Any]], folder: Path) -> Any:
    """Return TRL's own trainer on the rows of the empty arm."""
    tokenizer = start.tokenizer()
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    on_gpu = torch.cuda.is_available()
    trainer = PlainTRL(
        model=training_model(start.source, config),
        args=DPOConfig(
            str(folder),
            beta=config.beta,
            bf16=config.bf16,
            use_cpu=not on_gpu,
            activation_checkpointing=on_gpu,
            report_to=[],
            precompute_ref_log_probs=True,
            max_length=None,
            learning_rate=config.learning_rate,
        ),
        train_dataset=Dataset.from_list([{**row, "prompt_ids": row["chosen_prompt_ids"]} for row in rows]),
        processing_class=tokenizer,
    )
    return trainer


def arms(start: StartingModel, config: TrainConfig, pairs: list[Pair], folder: Path) -> dict[str, Any]:
    """Return a trainer per arm. The reference is 0 everywhere: its value costs nothing, its reading is no step."""
    model_config = training_model(start.source, config).config
    found: dict[str, Any] = {}
    for name, recipe in recipes(pairs, model_config.hidden_size, model_config.num_hidden_layers).items():
        tokens = token_rows(pairs, recipe, start.renderer)
        trainer = build_trainer(tokens, recipe, start, config, folder / name)
        give_rows(trainer, tokens, {one.key: 0.0 for one in reference_sequences(tokens)})
        if recipe.steering:
            trainer.steerer = Steerer(layers_of(trainer.model), recipe.steering)
        found[name] = trainer
    return {"plain_trl": plain_arm(start, config, found["empty"].train_dataset.to_list(), folder / "trl"), **found}


def step(trainer: Any, batch: list[dict[str, Any]], optimiser: Any) -> float:
    """Return the seconds of one step: collate, forward, backward, update."""
    began = time.perf_counter()
    inputs = {name: one.to(trainer.accelerator.device) for name, one in trainer.data_collator(batch).items()}
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    trainer.training_step(trainer.model, inputs)
    optimiser.step()
    optimiser.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(trainers: dict[str, Any], config: TrainConfig, n_steps: int, n_warm: int) -> dict[str, list[float]]:
    """Return the seconds of every counted step by arm; the order of arms turns with each step."""
    optimisers = {
        name: torch.optim.SGD(one.model.parameters(), lr=config.learning_rate) for name, one in trainers.items()
    }
    rows = {name: one.train_dataset.to_list() for name, one in trainers.items()}
    for one in trainers.values():
        one.model.to(one.accelerator.device)
    took: dict[str, list[float]] = {name: [] for name in trainers}
    names, size = list(trainers), config.per_device_train_batch_size
    for number in range(n_warm + n_steps):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            at = (number * size) % (len(rows[name]) - size + 1)
            seconds = step(trainers[name], rows[name][at : at + size], optimisers[name])
            if number >= n_warm:
                took[name].append(seconds)
    return took


def summary(took: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return per arm the median step and the median of its ratios, step by step, to plain TRL and to `empty`.

    `empty` is our trainer with nothing to do: on a CPU its output layer is cheaper than TRL's (training/head.py), which
    would hide what an intervention costs.
    """
    found = {}
    for name, values in took.items():
        found[name] = {"median_step_s": float(np.median(values))}
        for other in ("plain_trl", "empty"):
            ratios = np.array(values) / np.array(took[other])
            low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
            found[name] |= {f"ratio_to_{other}": middle, f"ratio_to_{other}_q25": low, f"ratio_to_{other}_q75": high}
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a folder or Hub id; default: the embedded model")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--words", type=int, default=120)
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    config = TrainConfig(
        per_device_train_batch_size=options.batch, bf16=not options.fp32, save_steps=0, held_out_share=0.0
    )
    pairs = made_pairs(options.batch * (options.warm + options.steps), options.words)
    with tempfile.TemporaryDirectory() as scratch:
        start = StartingModel(options.model)
        took = measure(arms(start, config, pairs, Path(scratch)), config, options.steps, options.warm)
    body = {
        "what": "seconds per DPO step by arm, alternating; ratios to plain TRL and to our trainer with nothing to do",
        "model": start.source.name,
        "settings": {name: getattr(options, name) for name in ("steps", "warm", "batch", "words", "fp32")},
        "machine": {
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        },
        "versions": {name: version(name) for name in ("tiltscope", "trl", "transformers", "torch")},
        "arms": summary(took),
        "steps_s": took,
    }
    options.out.write_text(json.dumps(body, indent=1) + "\n")
    for name, one in body["arms"].items():
        ratios = f"x{one['ratio_to_plain_trl']:.3f} of TRL, x{one['ratio_to_empty']:.3f} of empty"
        print(f"{name:24} {one['median_step_s']:8.3f} s  {ratios}")


if __name__ == "__main__":
    main()
