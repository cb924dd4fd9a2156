"""Pairs on disk: pairs.parquet, pairs.manifest.json, refused.jsonl.

In:  `Pairs` and the folder of a study.
Out: the three files, and the same `Pairs` back.
Refuses: files that are missing, damaged, of another format version, or not of one another (`ProductError`).
"""

from __future__ import annotations

import io
import json
from pathlib import Path

from tiltscope.artifact import read_manifest, write_bytes, write_manifest, write_text
from tiltscope.errors import ProductError
from tiltscope.pairs.load import pairs_fingerprint
from tiltscope.pairs.types import Pair, Pairs, Refusal, Turn

__all__ = ["read_pairs", "save_pairs"]


def save_pairs(pairs: Pairs, folder: Path) -> None:
    """Write pairs.parquet, refused.jsonl and, last, pairs.manifest.json into the folder, each atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([("role", pa.string()), ("content", pa.large_string())])
    types = {
        "id": pa.string(),
        "row": pa.int64(),
        "group": pa.string(),
        "domain": pa.string(),
        "prompt": pa.list_(turn),
    }
    texts = {name: pa.large_string() for name in ("chosen", "rejected", "extra")}
    table = pa.Table.from_pylist([_flat(pair) for pair in pairs.rows], schema=pa.schema(types | texts))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(folder / "pairs.parquet", sink.getvalue())
    lines = [json.dumps({"row": r.row, "reason": r.reason, "found": r.found}) + "\n" for r in pairs.refused]
    write_text(folder / "refused.jsonl", "".join(lines))
    settings = {
        "shape": pairs.shape,
        "source": pairs.source,
        "n_pairs": len(pairs),
        "n_refused": len(pairs.refused),
        "n_records": pairs.n_records,
        "domain_column": pairs.domain_column,
    }
    write_manifest(
        folder / "pairs.manifest.json", product="pairs", settings=settings, inputs={"pairs": pairs.fingerprint}
    )


def _flat(pair: Pair) -> dict[str, object]:
    return {
        "id": pair.id,
        "row": pair.row,
        "group": pair.group,
        "domain": pair.domain,
        "prompt": [{"role": turn.role, "content": turn.content} for turn in pair.prompt],
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "extra": json.dumps(pair.extra),
    }


def read_pairs(folder: Path) -> Pairs:
    """Read the pairs of a study.

    Raises:
        ProductError: the files are missing, damaged, of another version, or pairs.parquet is not the manifest's.
    """
    manifest = read_manifest(folder / "pairs.manifest.json", verb="read")
    settings = manifest["settings"]
    rows = _read_rows(folder / "pairs.parquet")
    found = pairs_fingerprint(rows)
    if found != manifest["inputs"]["pairs"] or len(rows) != settings["n_pairs"]:
        raise ProductError(
            "pairs.parquet is not the one its manifest was written for",
            where=str(folder),
            found=f"{found}, the manifest says {manifest['inputs']['pairs']}",
            hint="rerun: tiltscope read",
        )
    refused = _read_refused(folder / "refused.jsonl")
    names = ("n_records", "domain_column")
    n_records, domain_column = (settings[name] for name in names)
    return Pairs(rows, refused, settings["shape"], settings["source"], found, n_records, domain_column)


def _read_rows(path: Path) -> tuple[Pair, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        records = pq.read_table(path).to_pylist()
    except FileNotFoundError:
        raise ProductError(f"{path.name} is not there", where=str(path.parent), hint="rerun: tiltscope read") from None
    except (pa.ArrowException, OSError) as error:
        raise ProductError(
            f"{path.name} is damaged", where=str(path), found=str(error)[:200], hint="rerun: tiltscope read"
        ) from error
    return tuple(
        Pair(**{**one, "prompt": tuple(Turn(**turn) for turn in one["prompt"]), "extra": json.loads(one["extra"])})
        for one in records
    )


def _read_refused(path: Path) -> tuple[Refusal, ...]:
    try:
        return tuple(Refusal(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError, TypeError) as error:
        raise ProductError(
            f"{path.name} is missing or damaged", where=str(path), found=str(error)[:200], hint="rerun: tiltscope read"
        ) from error
