"""Exported rows: what a recipe makes of the pairs, as files that TRL trains on without Tiltscope.

In:  tokenised rows as columns, and the facts they were made from.
Out: a folder with train.parquet, tiltscope_trl.py (the collator and two thin subclasses; it stands alone), README.md
     with the lines that train on it, and export.json, written last.
Refuses: nothing; what cannot be exported is written down in README.md and export.json.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from tiltscope.artifact import FORMAT_VERSION, fingerprint, write_bytes, write_json, write_text

__all__ = ["DPO_COLUMNS", "SFT_COLUMNS", "Exported", "write_export"]

DPO_COLUMNS = (
    *("chosen_prompt_ids", "rejected_prompt_ids", "chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask"),
    *("ref_chosen_logps", "ref_rejected_logps", "weight"),
)
SFT_COLUMNS = ("input_ids", "labels", "weight")
ROWS, SUBCLASSES, README, FACTS = "train.parquet", "tiltscope_trl.py", "README.md", "export.json"

_DPO = """\
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig
from tiltscope_trl import PairCollator, RecipeDPOTrainer

tokenizer = AutoTokenizer.from_pretrained(MODEL)
RecipeDPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32"),
    args=DPOConfig("out", beta={beta!r}, precompute_ref_log_probs=True, max_length=None),
    data_collator=PairCollator(tokenizer.pad_token_id),
    train_dataset=Dataset.from_parquet("train.parquet"),
    processing_class=tokenizer,
).train()
"""
_SFT = """\
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

SFTTrainer(
    model=MODEL,
    args=SFTConfig("out", max_length=None),
    train_dataset=Dataset.from_parquet("train.parquet"),
).train()
"""
_SFT_WEIGHTED = """\
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig
from tiltscope_trl import ExampleCollator, RecipeSFTTrainer

tokenizer = AutoTokenizer.from_pretrained(MODEL)
RecipeSFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32"),
    args=SFTConfig("out", max_length=None),
    data_collator=ExampleCollator(tokenizer.pad_token_id),
    train_dataset=Dataset.from_parquet("train.parquet"),
    processing_class=tokenizer,
).train()
"""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    objective: str
    n_rows: int
    columns: tuple[str, ...]
    plain: bool
    """True where unmodified TRL trains on the rows as the recipe says: SFT without weights."""
    left_out: tuple[str, ...]
    """What the recipe asks for and rows cannot carry, in words."""
    fingerprint: str


def write_export(
    rows: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
    folder: Path,
    *,
    left_out: Sequence[str] = (),
) -> Exported:
    """Write rows and everything to train on them; `facts` has objective, beta, inputs and whatever else is known.

    SFT rows whose weights are all 1 are written without the column: they then hold what plain TRL reads.
    """
    objective = str(facts["objective"])
    weighted = any(row["weight"] != 1 for row in rows)
    columns = DPO_COLUMNS if objective == "dpo" else SFT_COLUMNS if weighted else SFT_COLUMNS[:2]
    (folder / FACTS).unlink(missing_ok=True)  # with it the export is whole: it is written last
    write_bytes(folder / ROWS, _parquet(rows, columns))
    write_text(folder / SUBCLASSES, resources.files("tiltscope").joinpath("training", SUBCLASSES).read_text("utf-8"))
    plain = objective == "sft" and not weighted
    write_text(folder / README, _readme(facts, len(rows), plain, left_out))
    body = {
        "product": "export",
        "format_version": FORMAT_VERSION,
        **facts,
        "n_rows": len(rows),
        "columns": list(columns),
        "left_out": list(left_out),
    }
    print_of = fingerprint(body)
    write_json(folder / FACTS, {**body, "fingerprint": print_of})
    return Exported(folder, objective, len(rows), columns, plain, tuple(left_out), print_of)


def _parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    small = pa.list_(pa.int64())
    kinds = {name: small if name.endswith(("_ids", "_mask", "labels")) else pa.float64() for name in columns}
    table = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _readme(facts: Mapping[str, Any], n_rows: int, plain: bool, left_out: Sequence[str]) -> str:
    objective = facts["objective"]
    code = _DPO.format(beta=facts.get("beta")) if objective == "dpo" else _SFT if plain else _SFT_WEIGHTED
    lines = [
        f"# {n_rows} rows for {str(objective).upper()} with TRL 1.16",
        "",
        f"Tokenised for {facts.get('model', 'the starting model')} (fingerprint {facts['inputs'].get('model')}); "
        "ids of another tokenizer mean other text. MODEL below is that model.",
        "",
    ]
    if objective == "dpo":
        lines += [
            f"`ref_chosen_logps` is shifted by -offset / beta with beta = {facts.get('beta')}: train with this "
            "beta and no other. Unmodified TRL tokenises text again and reads the reference anew, so it needs the "
            f"subclass in `{SUBCLASSES}`, which does not need Tiltscope.",
            "",
        ]
    elif not plain:
        lines += [f"The rows have weights, which unmodified TRL ignores: use the subclass in `{SUBCLASSES}`.", ""]
    if left_out:
        lines += ["**Not in these rows:**", "", *[f"- {one}" for one in left_out], ""]
    return "\n".join([*lines, "```python", code.rstrip(), "```", ""])
