"""A recipe goes to disk and comes back; a damaged one is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiltscope.errors import ProductError
from tiltscope.recipe import Recipe, Steering, empty_recipe, load_recipe, save_recipe, sign


def full() -> Recipe:
    return replace(
        empty_recipe(["a", "b", "c"], "dpo", made_from={"pairs": "12"}),
        weights=np.array([1.0, 0.0, 0.5]),
        flipped=np.array([False, False, True]),
        offsets_nats=np.array([0.25, -1.5, 0.0]),
        chosen_masked={"a": ((0, 3), (5, 9))},
        rejected_instruction={"c": "Use bold."},
        steering=(Steering(3, np.arange(4, dtype=np.float32), "chosen", frozenset({"b", "a"})),),
        log=("one line",),
    )


def test_suppress_is_plus_and_amplify_is_minus() -> None:
    assert (sign("suppress"), sign("amplify")) == (1, -1)
    with pytest.raises(KeyError):
        sign("allow")


def test_a_recipe_comes_back_as_it_was(tmp_path: Path) -> None:
    save_recipe(full(), tmp_path)
    back = load_recipe(tmp_path)
    assert back.fingerprint == full().fingerprint
    assert back.chosen_masked == {"a": ((0, 3), (5, 9))}
    assert back.rejected_instruction == {"c": "Use bold."}
    assert back.steering[0].pair_ids == frozenset({"a", "b"})
    assert back.log == ("one line",)
    assert back.made_from == {"pairs": "12"}


def test_the_fingerprint_sees_every_part_that_training_sees() -> None:
    base = full()
    changed = [
        replace(base, weights=np.ones(3)),
        replace(base, flipped=np.zeros(3, bool)),
        replace(base, offsets_nats=np.zeros(3)),
        replace(base, chosen_masked={}),
        replace(base, rejected_instruction={}),
        replace(base, steering=()),
        replace(base, objective="sft"),
    ]
    assert len({one.fingerprint for one in [base, *changed]}) == 8
    assert base.with_line("told").fingerprint == base.fingerprint


@pytest.mark.parametrize("name", ["recipe.parquet", "recipe.json", "steering.safetensors"])
def test_a_damaged_recipe_is_refused(tmp_path: Path, name: str) -> None:
    save_recipe(full(), tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])
    with pytest.raises(ProductError, match="prepare"):
        load_recipe(tmp_path)


def test_a_table_of_another_recipe_is_refused(tmp_path: Path) -> None:
    save_recipe(full(), tmp_path)
    save_recipe(replace(full(), weights=np.ones(3)), tmp_path / "other")
    (tmp_path / "recipe.parquet").write_bytes((tmp_path / "other" / "recipe.parquet").read_bytes())
    with pytest.raises(ProductError, match="recipe"):
        load_recipe(tmp_path)
