"""What the trainer reads: pair weights, offsets, masks, instructions and steering vectors, aligned by pair id.

In:  arrays, one row per pair.
Out: `Recipe`, a frozen value; `recipe/` as Parquet, JSON and safetensors, and back.
Refuses: arrays that do not match the pairs, and anything of another format version. It does not know what a concept is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tiltscope.artifact import FORMAT_VERSION, fingerprint, read_object, write_bytes, write_json
from tiltscope.errors import ProductError

__all__ = [
    "SIDES",
    "Action",
    "Objective",
    "Recipe",
    "Side",
    "Spans",
    "Steering",
    "empty_recipe",
    "is_seen",
    "load_recipe",
    "save_recipe",
    "sign",
]

Action = Literal["suppress", "amplify"]
Side = Literal["chosen", "rejected", "both"]
Objective = Literal["dpo", "sft"]
Spans = tuple[tuple[int, int], ...]
SIDES = ("chosen", "rejected")


def sign(action: str) -> int:
    """Return +1 for suppress and -1 for amplify: the one sign rule (docs/decisions/0003).

    >>> sign("suppress"), sign("amplify")
    (1, -1)
    """
    return {"suppress": 1, "amplify": -1}[action]


def is_seen(text: str) -> bool:
    """Return whether a text has a visible character: what a mask leaves of an answer must, or it teaches nothing of it.

    >>> is_seen(" .\\n"), is_seen(" \\u200b\\n")
    (True, False)
    """
    return any(char.isprintable() and not char.isspace() for char in text)


@dataclass(frozen=True)
class Steering:
    """A vector added to the residual stream after `layer` (0-based blocks), at training only, on the policy only.

    vector (width,) float32, already scaled: what is added to every token from the final user turn on, on `side`;
    pair_ids None: on all pairs.
    """

    layer: int
    vector: np.ndarray
    side: Side
    pair_ids: frozenset[str] | None = None


@dataclass(frozen=True)
class Recipe:
    """How training differs from plain training; `empty_recipe` differs in nothing.

    For DPO the loss of row i is `-weights[i] * log sigmoid(beta * D + offsets_nats[i])`, D the log-ratio margin of the
    row as it is trained (flipped rows: swapped). For SFT each chosen answer's loss is multiplied by weights[i] and
    offsets are 0.
    """

    objective: Objective
    pair_ids: tuple[str, ...]
    weights: np.ndarray  # (n,) float64 >= 0; 0 leaves the row out
    flipped: np.ndarray  # (n,) bool
    offsets_nats: np.ndarray  # (n,) float64
    chosen_masked: Mapping[str, Spans] = field(default_factory=dict)  # pair id -> character spans without loss
    rejected_masked: Mapping[str, Spans] = field(default_factory=dict)
    chosen_instruction: Mapping[str, str] = field(default_factory=dict)  # pair id -> text the policy sees in the prompt
    rejected_instruction: Mapping[str, str] = field(default_factory=dict)
    steering: tuple[Steering, ...] = ()
    log: tuple[str, ...] = ()
    made_from: Mapping[str, str] = field(default_factory=dict)  # fingerprints of pairs, plan, scores

    @property
    def fingerprint(self) -> str:
        """Changes with everything that training sees."""
        arrays = [getattr(self, name).tolist() for name in ("weights", "flipped", "offsets_nats")]
        texts = [
            sorted(getattr(self, name).items())
            for name in ("chosen_masked", "rejected_masked", "chosen_instruction", "rejected_instruction")
        ]
        steering = [
            (one.layer, one.side, sorted(one.pair_ids) if one.pair_ids is not None else None, one.vector.tolist())
            for one in self.steering
        ]
        return fingerprint(self.objective, list(self.pair_ids), arrays, texts, steering)

    @property
    def is_plain(self) -> bool:
        """Whether training under it is plain training."""
        return self.fingerprint == empty_recipe(self.pair_ids, self.objective).fingerprint

    def with_line(self, line: str) -> Recipe:
        """Return the recipe with one more line in its log."""
        return replace(self, log=(*self.log, line))


def empty_recipe(
    pair_ids: Sequence[str], objective: Objective, *, made_from: Mapping[str, str] | None = None
) -> Recipe:
    """Return the recipe of plain training on these pairs."""
    n = len(pair_ids)
    return Recipe(
        objective, tuple(pair_ids), np.ones(n), np.zeros(n, bool), np.zeros(n), made_from=dict(made_from or {})
    )


_TABLE, _FACTS, _VECTORS = "recipe.parquet", "recipe.json", "steering.safetensors"
_MASKED = ("chosen_masked", "rejected_masked")
_INSTRUCTIONS = ("chosen_instruction", "rejected_instruction")


def save_recipe(recipe: Recipe, folder: Path) -> None:
    """Write recipe.parquet (a row per pair), steering.safetensors where there are vectors, and recipe.json, last."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save

    spans = pa.list_(pa.list_(pa.int64()))
    columns: dict[str, Any] = {
        "pair_id": pa.array(recipe.pair_ids, pa.string()),
        "weight": pa.array(recipe.weights, pa.float64()),
        "flipped": pa.array(recipe.flipped, pa.bool_()),
        "offset_nats": pa.array(recipe.offsets_nats, pa.float64()),
    }
    for name in _MASKED:
        held = getattr(recipe, name)
        columns[name] = pa.array([[list(span) for span in held.get(one, ())] for one in recipe.pair_ids], spans)
    for name in _INSTRUCTIONS:
        held = getattr(recipe, name)
        columns[name] = pa.array([held.get(one) for one in recipe.pair_ids], pa.string())
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    (folder / _FACTS).unlink(missing_ok=True)  # with it the recipe is whole: it is written last
    write_bytes(folder / _TABLE, buffer.getvalue())
    vectors = {f"vector_{i}": np.asarray(one.vector, np.float32) for i, one in enumerate(recipe.steering)}
    if vectors:
        write_bytes(folder / _VECTORS, save(vectors))
    write_json(folder / _FACTS, _facts(recipe))


def _facts(recipe: Recipe) -> dict[str, Any]:
    return {
        "product": "recipe",
        "format_version": FORMAT_VERSION,
        "objective": recipe.objective,
        "n_pairs": len(recipe.pair_ids),
        "steering": [
            {
                "layer": one.layer,
                "side": one.side,
                "pair_ids": None if one.pair_ids is None else sorted(one.pair_ids),
            }
            for one in recipe.steering
        ],
        "log": list(recipe.log),
        "inputs": dict(recipe.made_from),
        "fingerprint": recipe.fingerprint,
    }


def load_recipe(folder: Path) -> Recipe:
    """Read what `save_recipe` wrote.

    Raises `ProductError` where a file is missing or damaged, of another format version, or does not match the others.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors import SafetensorError
    from safetensors.numpy import load

    facts = read_object(folder / _FACTS, "objective", "steering", "log", "inputs", "fingerprint", verb="prepare")
    if facts.get("format_version") != FORMAT_VERSION:
        raise _unreadable(folder / _FACTS, f"format version {facts.get('format_version')}, not {FORMAT_VERSION}")
    try:
        table = pq.read_table(folder / _TABLE)
        vectors = load((folder / _VECTORS).read_bytes()) if facts["steering"] else {}
        recipe = _recipe({name: table[name].to_pylist() for name in table.column_names}, facts, vectors)
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException, SafetensorError) as error:
        raise _unreadable(folder, str(error)[:200]) from error
    if recipe.fingerprint != facts["fingerprint"]:
        raise _unreadable(folder, f"its parts make {recipe.fingerprint}, recipe.json says {facts['fingerprint']}")
    return recipe


def _recipe(columns: Mapping[str, list[Any]], facts: Mapping[str, Any], vectors: Mapping[str, np.ndarray]) -> Recipe:
    ids = columns["pair_id"]
    masked = {
        name: {one: tuple((a, b) for a, b in spans) for one, spans in zip(ids, columns[name], strict=True) if spans}
        for name in _MASKED
    }
    told = {
        name: {one: text for one, text in zip(ids, columns[name], strict=True) if text is not None}
        for name in _INSTRUCTIONS
    }
    steering = tuple(
        Steering(
            one["layer"],
            vectors[f"vector_{i}"],
            one["side"],
            None if one["pair_ids"] is None else frozenset(one["pair_ids"]),
        )
        for i, one in enumerate(facts["steering"])
    )
    return Recipe(
        facts["objective"],
        tuple(ids),
        np.array(columns["weight"], np.float64),
        np.array(columns["flipped"], bool),
        np.array(columns["offset_nats"], np.float64),
        masked["chosen_masked"],
        masked["rejected_masked"],
        told["chosen_instruction"],
        told["rejected_instruction"],
        steering,
        tuple(facts["log"]),
        dict(facts["inputs"]),
    )


def _unreadable(where: Path, found: str) -> ProductError:
    return ProductError("this recipe cannot be read", where=str(where), found=found, hint="rerun: tiltscope prepare")
