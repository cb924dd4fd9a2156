"""Training: pairs and a recipe in, a run folder out, on TRL's trainers.

In:  pairs, a `Recipe`, the starting model, settings, a folder.
Out: `Run`: model/ (weights, tokenizer, chat template: `load_model` opens it), adapter/ under LoRA, metrics.jsonl, and
     run.json, written last, with the settings, the fingerprint of every input, and whether training moved the model.
Refuses: a folder that holds another run. A stopped run goes on from its last whole checkpoint, to the same weights.

Nothing of an intervention is in the saved model: no hook, no instruction, no vector, the same chat template.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tiltscope.artifact import FORMAT_VERSION, fingerprint, read_manifest, write_json, write_text
from tiltscope.errors import ProductError
from tiltscope.pairs import Pair
from tiltscope.recipe import Recipe
from tiltscope.training.build import build_trainer, give_rows, reference_model, reference_sequences, start_logps
from tiltscope.training.config import TrainConfig
from tiltscope.training.models import StartingModel, layers_of, save_tokenizer, without_bars
from tiltscope.training.moved import HeldOutStates, Moved, held_out, moved
from tiltscope.training.reference import summed_logps
from tiltscope.training.rows import TokenRows, split_held_out, token_rows
from tiltscope.training.steering import Steerer
from tiltscope.training.trainers import WHOLE, Progress, last_checkpoint, not_written

__all__ = ["Run", "load_run", "train"]

VERB, STARTED = "train", "started.json"
PACKAGES = ("tiltscope", "torch", "transformers", "trl", "peft", "accelerate")


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    objective: str
    n_rows: int
    n_steps: int
    dropped: Mapping[str, int]
    """How many pairs were not trained on, by reason."""
    n_cut_tokens: int
    """Answer tokens beyond max_length."""
    losses: tuple[float, ...]
    """One per step, mean over the global batch."""
    moved: Moved
    fingerprint: str

    @property
    def model_folder(self) -> Path:
        """What `load_model` opens; under FSDP with LoRA there is only `adapter_folder`."""
        return self.folder / "model"

    @property
    def adapter_folder(self) -> Path | None:
        """The adapter as peft saves it, or None."""
        return self.folder / "adapter" if (self.folder / "adapter").is_dir() else None


def train(
    rows: Sequence[Pair],
    recipe: Recipe,
    start: StartingModel,
    config: TrainConfig,
    out: Path,
    *,
    progress: Progress | None = None,
) -> Run:
    """Train on the pairs as the recipe says and save the run in `out`; under `accelerate launch`, in each process.

    The same call on a folder with a stopped run goes on where it stopped, and on a finished one returns it.
    `progress(stage, done, total)` is called on the main process.

    Raises `UsageError` (no row left, a module or layer that is not there, divergence), `ModelError`, and `ProductError`
    (a folder of another run, a full disk).
    """
    training_rows, kept_out = split_held_out(rows, config.held_out_share)
    tokens = token_rows(training_rows, recipe, start.renderer)
    facts = _facts(rows, recipe, start, config)
    if (found := _finished(out, facts)) is not None:
        return found
    trainer = build_trainer(tokens, recipe, start, config, out / "checkpoints")
    trainer.progress = progress
    if trainer.accelerator.is_main_process:
        write_json(out / STARTED, facts)
    with without_bars():
        return _run(trainer, _Work(out, facts, start, tokens), recipe, kept_out)


@dataclass(frozen=True)
class _Work:
    """Where a run goes, what it was made from, and what it starts from."""

    out: Path
    facts: Mapping[str, Any]
    start: StartingModel
    tokens: TokenRows


def _run(trainer: Any, work: _Work, recipe: Recipe, kept_out: Sequence[Pair]) -> Run:
    pairs = held_out(kept_out, work.start.renderer)
    logps = start_logps(trainer, work.start, reference_sequences(work.tokens), work.out / "reference")
    give_rows(trainer, work.tokens, logps)
    # Read in the same batches as afterwards: a model that did not move then gives the same numbers to the bit.
    before = summed_logps(trainer, reference_model(trainer, work.start), pairs.sequences)
    trainer.kept_reference = None
    states = None if trainer.is_fsdp_enabled or not pairs.pairs else HeldOutStates(trainer, pairs)
    _train(trainer, recipe, work.out / "checkpoints")
    after = summed_logps(trainer, trainer.model_wrapped, pairs.sequences)
    how_far = moved(pairs, before, after, states.kl_per_token(trainer) if states else None)
    return _save(trainer, work, how_far)


def _facts(rows: Sequence[Pair], recipe: Recipe, start: StartingModel, config: TrainConfig) -> dict[str, Any]:
    """What a run is made from; two runs with the same facts are the same run."""
    settings = dataclasses.asdict(config)
    inputs = {
        "pairs": fingerprint([pair.id for pair in rows]),
        "recipe": recipe.fingerprint,
        "model": start.source.fingerprint,
        "renderer": start.renderer.fingerprint,
        "template": start.renderer.template_fingerprint,
    }
    # How often a run is saved does not change it.
    decisive = {name: value for name, value in settings.items() if name != "save_steps"}
    return {
        "product": "run",
        "format_version": FORMAT_VERSION,
        "objective": recipe.objective,
        "settings": settings,
        "max_length": start.max_length,
        "model": start.source.name,
        "inputs": inputs,
        "fingerprint": fingerprint(decisive, inputs, recipe.objective),
    }


def _finished(out: Path, facts: Mapping[str, Any]) -> Run | None:
    """Return the run that is in the folder already; refuse a folder of another run, finished or not."""
    marker = out / "run.json" if (out / "run.json").exists() else out / STARTED
    if not marker.exists():
        return None
    found = read_manifest(marker, verb=VERB)
    if found["fingerprint"] != facts["fingerprint"]:
        raise ProductError(
            "this folder holds another run",
            where=str(out),
            found=f"run {found['fingerprint']}, asked for {facts['fingerprint']}",
            hint="give another folder, or remove this one",
        )
    return load_run(out) if marker.name == "run.json" else None


def _train(trainer: Any, recipe: Recipe, checkpoints: Path) -> None:
    if trainer.accelerator.is_main_process:
        for folder in checkpoints.glob("checkpoint-*"):
            if not (folder / WHOLE).exists():
                shutil.rmtree(folder)
    trainer.accelerator.wait_for_everyone()
    last = last_checkpoint(checkpoints)
    if recipe.steering:
        trainer.steerer = Steerer(layers_of(trainer.model), recipe.steering)
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    finally:
        if trainer.steerer is not None:
            trainer.steerer.remove()
            trainer.steerer = None


def _save(trainer: Any, work: _Work, how_far: Moved) -> Run:
    history = [one for one in trainer.state.log_history if "loss" in one]
    run = Run(
        work.out,
        str(work.facts["objective"]),
        len(work.tokens.rows),
        int(trainer.state.global_step),
        dict(work.tokens.dropped),
        work.tokens.n_cut_tokens,
        tuple(float(one["loss"]) for one in history),
        how_far,
        str(work.facts["fingerprint"]),
    )
    try:
        _save_model(trainer, work.start, work.out)
    except (OSError, SafetensorError) as error:
        raise not_written(work.out / "model", error) from error
    if trainer.accelerator.is_main_process:
        write_text(work.out / "metrics.jsonl", "".join(json.dumps(one) + "\n" for one in history))
        write_json(work.out / "run.json", {**work.facts, "results": _results(run), "versions": _versions()})
        (work.out / STARTED).unlink(missing_ok=True)
        shutil.rmtree(work.out / "checkpoints", ignore_errors=True)  # three times the model, and nothing to resume
    trainer.accelerator.wait_for_everyone()
    return run


def _results(run: Run) -> dict[str, Any]:
    return {
        "n_rows": run.n_rows,
        "n_steps": run.n_steps,
        "dropped": dict(run.dropped),
        "n_cut_tokens": run.n_cut_tokens,
        "losses": list(run.losses),
        "moved": dataclasses.asdict(run.moved),
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def _save_model(trainer: Any, start: StartingModel, out: Path) -> None:
    """Write model/ and adapter/. A sharded model is gathered by TRL; a sharded adapter is not merged."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.config, base.generation_config = trainer.own_settings
    folder = out / ("adapter" if base is not model else "model")
    if trainer.is_fsdp_enabled:
        trainer.save_model(str(folder))
        (folder / "training_args.bin").unlink(missing_ok=True)
    if not trainer.accelerator.is_main_process:
        return
    if not trainer.is_fsdp_enabled:
        model.save_pretrained(folder)
        if base is not model:
            model.merge_and_unload().save_pretrained(out / "model")
    save_tokenizer(start, folder if trainer.is_fsdp_enabled else out / "model")


def load_run(folder: Path) -> Run:
    """Read a finished run. Raises `ProductError`."""
    facts = read_manifest(folder / "run.json", verb=VERB)
    try:
        results = facts["results"]
        return Run(
            folder,
            facts["objective"],
            results["n_rows"],
            results["n_steps"],
            results["dropped"],
            results["n_cut_tokens"],
            tuple(results["losses"]),
            Moved(**results["moved"]),
            facts["fingerprint"],
        )
    except (KeyError, TypeError) as error:
        raise ProductError(
            "this run cannot be read", where=str(folder / "run.json"), found=str(error)[:200], hint="train again"
        ) from error
