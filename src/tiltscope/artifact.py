"""Products on disk: atomic writes, fingerprints, manifests, staleness.

In:  bytes, text or JSON-able values and the folder of a study.
Out: files that are either whole or absent, each product beside a manifest that names its inputs.
Refuses: a product of another format version, and a product made from other inputs (`StaleProductError`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tiltscope.errors import ProductError, StaleProductError

__all__ = [
    "FORMAT_VERSION",
    "check_fresh",
    "claim",
    "file_fingerprint",
    "fingerprint",
    "quoted",
    "read_json",
    "read_manifest",
    "read_object",
    "write_bytes",
    "write_json",
    "write_manifest",
    "write_text",
]

FORMAT_VERSION = 1


def quoted(path: object) -> str:
    """Return a path (or a word) as a shell takes it, for the commands in hints."""
    return shlex.quote(str(path))


def fingerprint(*parts: object) -> str:
    """Return 16 hex digits that change when any part changes (arrays by content, mappings by sorted key)."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, bytes):
            digest.update(part)
        elif isinstance(part, str):
            digest.update(part.encode("utf-8", "surrogatepass"))
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
        digest.update(b"\x1f")
    return digest.hexdigest()[:16]


def file_fingerprint(path: Path) -> str:
    """Return 16 hex digits of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically; lone surrogates are written as their escapes."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, atomically; NaN and infinity are refused so that any reader can open it."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, verb: str) -> Any:
    """Read JSON that the verb `verb` wrote; a missing or damaged file names that verb."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProductError(
            f"{path.name} is not there yet", where=str(path.parent), hint=f"run: tiltscope {verb}"
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ProductError(
            f"{path.name} is damaged", where=str(path), found=str(error), hint=f"rerun: tiltscope {verb}"
        ) from error


def read_object(path: Path, *keys: str, verb: str) -> dict[str, Any]:
    """Read a JSON object that the verb `verb` wrote; anything else, or an object without these keys, is damaged."""
    body = read_json(path, verb=verb)
    lacking = sorted(set(keys) - set(body)) if isinstance(body, dict) else []
    if not isinstance(body, dict) or lacking:
        found = f"without {', '.join(lacking)}" if lacking else f"{type(body).__name__}, where an object should stand"
        raise ProductError(f"{path.name} is damaged", where=str(path), found=found, hint=f"rerun: tiltscope {verb}")
    return body


def write_manifest(path: Path, *, product: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Write the manifest of a finished product and return its fingerprint (settings and inputs, no clock)."""
    body = {
        "product": product,
        "format_version": FORMAT_VERSION,
        "settings": dict(settings),
        "inputs": dict(inputs),
    }
    body["fingerprint"] = fingerprint(body)
    write_json(path, body)
    return str(body["fingerprint"])


def read_manifest(path: Path, *, verb: str) -> dict[str, Any]:
    """Read a manifest; another format version is refused with the verb to rerun."""
    body = read_object(path, verb=verb)
    if body.get("format_version") != FORMAT_VERSION:
        raise ProductError(
            "this product was written by another format version",
            where=str(path),
            found=f"version {body.get('format_version')}, this Tiltscope reads {FORMAT_VERSION}",
            hint=f"rerun: tiltscope {verb}",
        )
    return read_object(path, "settings", "inputs", "fingerprint", verb=verb)


def check_fresh(manifest: Mapping[str, Any], inputs: Mapping[str, str], *, where: Path, verb: str) -> None:
    """Raise `StaleProductError` when a product's recorded inputs differ from the inputs at hand."""
    recorded = manifest.get("inputs", {})
    for name, now in inputs.items():
        if recorded.get(name) != now:
            raise StaleProductError(
                f"this product was made from other {name}",
                where=str(where),
                found=f"made from {recorded.get(name)}, at hand {now}",
                hint=f"rerun: tiltscope {verb}",
            )


def claim(folder: Path, asked: str, *, what: str, verb: str, found: str) -> None:
    """Write FOLDER/asked.json, the fingerprint of what is asked; a folder that was asked something else is refused."""
    path = folder / "asked.json"
    held = read_object(path, "asked", verb=verb)["asked"] if path.exists() else asked
    if held != asked:
        raise ProductError(
            f"this folder holds another {what}",
            where=str(folder),
            found=found,
            hint="give another --out, or remove this one",
        )
    write_json(path, {"asked": asked})
