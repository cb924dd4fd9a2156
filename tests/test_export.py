"""Exported rows train to the same losses, without Tiltscope; the exporting room needs no torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch", reason="training needs the extra tiltscope[train]")
pytest.importorskip("trl", reason="training needs the extra tiltscope[train]")

from tiltscope.export import DPO_COLUMNS, SFT_COLUMNS
from tiltscope.recipe import Steering
from tiltscope.training import StartingModel, export, train
from training_models import PLAIN, made_pairs, plain, start_of, vector

PAIRS = made_pairs()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> StartingModel:
    return start_of(tmp_path_factory.mktemp("tiny"))


def shaped(objective: str) -> Any:
    """A recipe with everything that rows can carry."""
    offsets = np.linspace(-3, 3, len(PAIRS)) if objective == "dpo" else np.zeros(len(PAIRS))
    return plain(
        PAIRS,
        objective,
        weights=np.linspace(0, 2, len(PAIRS)),
        offsets_nats=offsets,
        flipped=np.arange(len(PAIRS)) % 5 == 2,
        chosen_masked={PAIRS[3].id: ((0, 4),)},
        chosen_instruction={PAIRS[4].id: "use it"},
    )


# A stranger's script: no tiltscope, the files of the folder, the settings of the run.
SCRIPT = """
    import json, sys, warnings
    sys.modules["tiltscope"] = None
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, SFTConfig, SFTTrainer

    dpo, weighted, plain, model = sys.argv[1:]
    sys.path.insert(0, dpo)
    from tiltscope_trl import ExampleCollator, PairCollator, RecipeDPOTrainer, RecipeSFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    common = dict(
        learning_rate=1e-3, per_device_train_batch_size=4, num_train_epochs=1, seed=0, bf16=False, use_cpu=True,
        report_to=[], logging_steps=1, save_strategy="no", activation_checkpointing=False, max_length=None,
        dataloader_pin_memory=False, disable_tqdm=True,
    )

    def losses(kind, config, folder, collator, settings):
        trainer = kind(
            model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
            args=config(folder + "/out", **common, **settings),
            train_dataset=Dataset.from_parquet(folder + "/train.parquet"),
            processing_class=tokenizer,
            data_collator=collator,
        )
        trainer.train()
        return [one["loss"] for one in trainer.state.log_history if "loss" in one]

    pad = tokenizer.pad_token_id
    settings = {"beta": 0.1, "precompute_ref_log_probs": True}
    found = [
        losses(RecipeDPOTrainer, DPOConfig, dpo, PairCollator(pad), settings),
        losses(RecipeSFTTrainer, SFTConfig, weighted, ExampleCollator(pad), {}),
        losses(SFTTrainer, SFTConfig, plain, None, {}),
    ]
    print("LOSSES " + json.dumps(found))
"""


def test_exported_rows_train_to_the_same_losses_without_tiltscope(start: StartingModel, tmp_path: Path) -> None:
    """DPO and weighted SFT with the file in the folder, SFT without weights with TRL as it is."""
    assert start.model is not None
    masked = plain(PAIRS, "sft", chosen_masked={PAIRS[3].id: ((0, 4),)}, chosen_instruction={PAIRS[4].id: "use it"})
    expected, folders = [], []
    for name, recipe in (("dpo", shaped("dpo")), ("weighted", shaped("sft")), ("plain", masked)):
        expected.append(train(PAIRS, recipe, start, PLAIN, tmp_path / "runs" / name).losses)
        made = export(PAIRS, recipe, start, PLAIN, tmp_path / name)
        assert made.plain == (name == "plain")
        assert made.columns == {"dpo": DPO_COLUMNS, "weighted": SFT_COLUMNS, "plain": SFT_COLUMNS[:2]}[name]
        folders.append(str(tmp_path / name))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), *folders, start.model],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("LOSSES ")]
    for theirs, ours in zip(json.loads(line.removeprefix("LOSSES ")), expected, strict=True):
        assert theirs == pytest.approx(ours, abs=1e-6)


def test_the_reference_is_shifted_on_the_chosen_side_by_offset_over_beta(start: StartingModel, tmp_path: Path) -> None:
    with_offset = shaped("dpo")
    tables = []
    for name, recipe in (("shaped", with_offset), ("plain", replace(with_offset, offsets_nats=np.zeros(len(PAIRS))))):
        made = export(PAIRS, recipe, start, replace(PLAIN, beta=0.5), tmp_path / name)
        tables.append(pq.read_table(made.folder / "train.parquet"))
        assert made.n_rows == len(PAIRS) - 1  # the first has weight 0
    chosen, rejected = ([np.array(table[f"ref_{side}_logps"]) for table in tables] for side in ("chosen", "rejected"))
    assert chosen[0] - chosen[1] == pytest.approx(-with_offset.offsets_nats[1:] / 0.5)
    assert (rejected[0] == rejected[1]).all()


def test_steering_is_said_to_be_left_out(start: StartingModel, tmp_path: Path) -> None:
    recipe = plain(PAIRS, "sft", steering=(Steering(2, vector(), "chosen", frozenset({PAIRS[0].id})),))
    made = export(PAIRS, recipe, start, PLAIN, tmp_path / "out")
    (told,) = made.left_out
    assert "after block 2 on the chosen side of 1 pairs" in told
    assert told in (tmp_path / "out/README.md").read_text()
    assert json.loads((tmp_path / "out/export.json").read_text())["left_out"] == [told]


def test_the_file_that_stands_alone_imports_nothing_of_tiltscope(start: StartingModel, tmp_path: Path) -> None:
    made = export(PAIRS, plain(PAIRS, "sft"), start, PLAIN, tmp_path / "out")
    code = ast.parse((made.folder / "tiltscope_trl.py").read_text())
    roots = {node.module.split(".")[0] for node in ast.walk(code) if isinstance(node, ast.ImportFrom) and node.module}
    roots |= {name.name.split(".")[0] for node in ast.walk(code) if isinstance(node, ast.Import) for name in node.names}
    assert roots == {"__future__", "collections", "torch", "trl", "typing"}


@pytest.mark.parametrize("name", ["dpo", "weighted", "plain"])
def test_the_readme_names_the_model_the_beta_and_a_script_that_parses(
    start: StartingModel, tmp_path: Path, name: str
) -> None:
    recipe = plain(PAIRS, "sft") if name == "plain" else shaped("dpo" if name == "dpo" else "sft")
    made = export(PAIRS, recipe, start, replace(PLAIN, beta=0.25), tmp_path / name)
    text = (made.folder / "README.md").read_text()
    assert start.source.fingerprint in text
    assert ("beta = 0.25" in text) == (name == "dpo")
    ast.parse(text.split("```python\n")[1].split("```")[0])
