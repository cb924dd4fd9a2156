"""Exporting: the rows that `train` would train on, for a stack of one's own.

In:  pairs, a `Recipe`, the starting model, settings, a folder.
Out: `Exported`; training on it gives the losses of `train`.
Refuses: nothing that `train` does not; steering is left out, and said.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiltscope.artifact import fingerprint
from tiltscope.export import Exported, write_export
from tiltscope.pairs import Pair
from tiltscope.recipe import Recipe
from tiltscope.training.build import build_trainer, reference_sequences, start_logps
from tiltscope.training.config import TrainConfig
from tiltscope.training.models import StartingModel
from tiltscope.training.rows import TokenRows, dataset_columns, example_columns, split_held_out, token_rows
from tiltscope.training.trainers import Progress

__all__ = ["export"]


def export(
    rows: Sequence[Pair],
    recipe: Recipe,
    start: StartingModel,
    config: TrainConfig,
    folder: Path,
    *,
    progress: Progress | None = None,
) -> Exported:
    """Write the rows that `train` with the same arguments trains on, held-out pairs left out as there.

    For DPO the starting model is read once for its log-probs; they are shifted by -offset / beta on the chosen side.
    Raises what `train` raises before its first step.
    """
    tokens = token_rows(split_held_out(rows, config.held_out_share)[0], recipe, start.renderer)
    if recipe.objective == "dpo":
        logps = _reference(tokens, recipe, start, config, progress=progress)
        columns = [_shifted(row, config.beta) for row in dataset_columns(tokens.rows, logps)]
    else:
        columns = example_columns(tokens.rows)
    facts = {
        "objective": recipe.objective,
        "beta": config.beta if recipe.objective == "dpo" else None,
        "model": start.source.name,
        "max_length": start.max_length,
        "dropped": dict(tokens.dropped),
        "n_cut_tokens": tokens.n_cut_tokens,
        "inputs": {
            "pairs": fingerprint([pair.id for pair in rows]),
            "recipe": recipe.fingerprint,
            "model": start.source.fingerprint,
            "renderer": start.renderer.fingerprint,
        },
    }
    return write_export(columns, facts, folder, left_out=_left_out(recipe))


def _reference(
    tokens: TokenRows, recipe: Recipe, start: StartingModel, config: TrainConfig, *, progress: Progress | None
) -> dict[str, float]:
    # Adapters start at nothing: the reference is the same without, and needs no module to put them on.
    with tempfile.TemporaryDirectory() as scratch:
        trainer = build_trainer(tokens, replace(recipe, steering=()), start, config, Path(scratch))
        trainer.progress = progress
        return start_logps(trainer, start, reference_sequences(tokens), Path(scratch) / "reference")


def _shifted(row: dict[str, Any], beta: float) -> dict[str, Any]:
    return {**row, "ref_chosen_logps": row["ref_chosen_logps"] - row["offset"] / beta}


def _left_out(recipe: Recipe) -> list[str]:
    told = []
    for one in recipe.steering:
        n = len(recipe.pair_ids) if one.pair_ids is None else len(one.pair_ids)
        told.append(
            f"activation steering after block {one.layer} on the {one.side} side of {n} pairs: rows cannot carry a "
            "vector that is added while training; train with `tiltscope train`"
        )
    return told
