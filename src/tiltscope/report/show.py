"""Any product of a study, on a terminal.

In:  the path of a study folder or of one product in it.
Out: `show_product`: a short text, or the product as JSON.
Refuses: a path that is no product, and a product that is damaged (`ProductError` with the next command).
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tiltscope.artifact import read_object
from tiltscope.errors import ProductError
from tiltscope.report.acts import render_comparison, render_evaluation
from tiltscope.report.content import calibration, families, load_hypotheses, verdict
from tiltscope.report.reading import preflight, unread_note, unread_rows
from tiltscope.report.terminal import render_hypotheses
from tiltscope.report.text import fit, number, one_line, percent, signed, visible, wrapped
from tiltscope.report.words import headline

__all__ = ["show_product"]

Row = Mapping[str, Any]

_PRODUCTS = (
    ("study.json", "read", "what was audited and how"),
    ("pairs.parquet", "read", "the accepted pairs"),
    ("refused.jsonl", "read", "the rows that were not taken"),
    ("check.json", "check", "the preflight checklist"),
    ("scope/scope.json", "read", "the autoencoder and its quality"),
    ("features/manifest.json", "read", "what the scope read"),
    ("hypotheses.json", "contrast", "the findings"),
    ("contrast.json", "contrast", "counts, split, calibration"),
    ("names.json", "name", "names and their evidence"),
    ("report.html", "report", "the report to open in a browser"),
    ("plan.yaml", "plan draft", "the decisions"),
)
_VALUES = 12  # entries of a list or mapping shown
_DEPTH = 3


def show_product(path: Path, *, as_json: bool = False) -> str:
    """Return any product of a study as text, or as JSON.

    Raises:
        ProductError: nothing is there, it is no product of Tiltscope, or it is damaged.
    """
    if not path.exists():
        raise ProductError("there is no such product", where=str(path), hint="tiltscope show STUDY lists what is there")
    if path.is_dir():
        path = _folder_face(path)
        if path.is_dir():
            return _as_json(_study(path)) if as_json else _study_text(path)
    reader = _READERS.get(path.name) or _READERS.get(path.suffix)
    if reader is None:
        known = ", ".join(name for name, _, _ in _PRODUCTS)
        raise ProductError("this is no product of Tiltscope", where=str(path), found=path.name, hint=f"one of: {known}")
    return reader(path, as_json)


_FACES = (
    *("scope.json", "manifest.json", "recipe.json", "run.json", "comparison.json", "evaluation.json", "cleaned.json"),
    *("verdict.json", "scores.json"),
)


def _folder_face(folder: Path) -> Path:
    """The file that speaks for a folder: a scope's scope.json, the features' manifest, or the study folder itself."""
    for face in _FACES:
        if (folder / face).exists():
            return folder / face
    if any((folder / name).exists() for name, _, _ in _PRODUCTS):
        return folder
    raise ProductError(
        "this folder is no study",
        where=str(folder),
        found="no product in it",
        hint="run: tiltscope audit DATA --out STUDY",
    )


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True)


def _study(study: Path) -> dict[str, Any]:
    """Which products of a study are there, and the findings in short."""
    products = {name: (study / name).exists() for name, _, _ in _PRODUCTS}
    out: dict[str, Any] = {"study": study.name, "products": products}
    if products["hypotheses.json"]:
        rows = load_hypotheses(study)
        grouped = families(rows)
        contrast = read_object(study / "contrast.json", verb="contrast") if products["contrast.json"] else {}
        out["n_hypotheses"] = len(rows)
        out["n_confirmed"] = sum(bool(row["confirmed"]) for row in rows)
        out["verdict"] = verdict(rows, contrast, len(grouped))["sentence"]
        out["calibration"] = calibration(contrast.get("nulls") or [])["state"]
        out["unread"] = unread_note(unread_rows(study), contrast)
        out["headlines"] = {str(family[0]["id"]): headline(family[0]) for family in grouped}
    return out


def _study_text(study: Path) -> str:
    body = _study(study)
    lines = [f"study {one_line(body['study'])}", ""]
    for name, verb, what in _PRODUCTS:
        there = body["products"][name]
        lines.append(f"  {fit(name, 24)} {what}" if there else f"  {fit(name, 24)} not there yet: tiltscope {verb}")
    if "headlines" in body:
        lines += ["", *wrapped(body["verdict"], 79)]
        lines += wrapped(body["unread"], 79) if body["unread"] else []
        if body["calibration"] == "not calibrated":
            lines += wrapped("Not calibrated: scrambled labels bring more than they should, see the report.", 79)
        shown = list(body["headlines"].values())[:5]
        for said in shown:
            lines += wrapped(said, 78, indent="- ")
        n = len(body["headlines"])
        lines += [f"{len(shown)} of {n} headlines, behaviours and words first, then the strongest"] if n else []
    return "\n".join(lines)


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        verbs = {name.split("/")[-1]: verb for name, verb, _ in _PRODUCTS}
        hint = f"rerun: tiltscope {verbs.get(path.name, 'audit')}"
        raise ProductError(f"{path.name} is damaged", where=str(path), found=str(error), hint=hint) from error


def _object(path: Path) -> dict[str, Any]:
    return read_object(path, verb={name: verb for name, verb, _ in _PRODUCTS}[path.name])


def _show_hypotheses(path: Path, as_json: bool) -> str:
    rows = load_hypotheses(path.parent) if path.name == "hypotheses.json" else _parsed(path)
    return _as_json(rows) if as_json else render_hypotheses(rows)


def _show_contrast(path: Path, as_json: bool) -> str:
    body = _object(path)
    if as_json:
        return _as_json(body)
    judged = calibration(body.get("nulls") or [])
    lines = _outline({key: value for key, value in body.items() if key != "nulls"})
    lines += ["", f"calibration: {judged['state']}. {judged['sentence']}"]
    for row in judged["rows"]:
        said = f"p < .05 in {percent(row['share_p05'])}, any rejection {percent(row['any_rejection'])}"
        lines.append(f"  {fit(visible(str(row['null'])), 9)} {fit(visible(str(row['view'])), 7)} {said}")
    return "\n".join(lines)


def _show_check(path: Path, as_json: bool) -> str:
    body = _object(path)
    if as_json:
        return _as_json(body)
    told = preflight(body) or {"facts": [], "items": [], "by_domain": []}
    keys = ("source", "n_records", "n_pairs", "n_refused", "n_groups")
    lines = _outline({key: body[key] for key in keys if key in body})
    lines += [line for fact in told["facts"] for line in wrapped(f"{fact['label']}: {fact['text']}", 80)]
    lines += [
        "",
        f"{fit('trait', 34)} {fit('chosen', 9, right=True)} {fit('rejected', 9, right=True)}  difference [95 %]",
    ]
    for one in told["items"]:
        rates = " ".join(fit(percent(one.get(key)), 9, right=True) for key in ("chosen_rate", "rejected_rate"))
        ends = f"[{signed(one.get('ci_low'), digits=2)}, {signed(one.get('ci_high'), digits=2)}]"
        name = one_line(str(one.get("name") or one.get("id")))
        lines.append(f"{fit(name, 34)} {rates}  {signed(one.get('difference'), digits=2)} {ends}")
    n = len(told["items"])
    return "\n".join([*lines, f"{n} of {n} traits; {len(told['by_domain'])} rows by domain are in --json"])


def _show_names(path: Path, as_json: bool) -> str:
    body = _object(path)
    if as_json:
        return _as_json(body)
    named = {key: one for key, one in body.items() if key != "_meta" and isinstance(one, Mapping)}
    lines = [f"{fit('id', 8)} {fit('name', 48)} {fit('by', 12)} score"]
    for key, one in named.items():
        score = one.get("name_score")
        said = "–" if score is None else f"{score:.2f}"
        by = one_line(str(one.get("named_by")))
        lines.append(f"{fit(one_line(key), 8)} {fit(one_line(str(one.get('name'))), 48)} {fit(by, 12)} {said}")
    return "\n".join([*lines, f"{len(named)} concepts; .5 is chance; the evidence of each is in --json"])


def _show_json(path: Path, as_json: bool) -> str:
    body = _parsed(path)
    return _as_json(body) if as_json else "\n".join(_outline(body))


def _show_evaluation(path: Path, as_json: bool) -> str:
    body = read_object(path, "name", "prompts", "n_missing", "scores", verb="evaluate")
    return _as_json(body) if as_json else render_evaluation(body)


def _show_comparison(path: Path, as_json: bool) -> str:
    body = read_object(path, "arms", "changes", verb="compare")
    return _as_json(body) if as_json else render_comparison(body)


def _outline(value: Any, *, depth: int = 0) -> list[str]:
    """Nested values as indented lines; long lists and deep branches are counted, not dropped."""
    pad = "  " * depth
    if isinstance(value, Mapping):
        pairs = [(one_line(str(key), limit=40), one) for key, one in value.items()]
    elif isinstance(value, (list, tuple)):
        pairs = [(str(place + 1), one) for place, one in enumerate(value)]
    else:
        return [pad + number(value)]
    lines: list[str] = []
    for key, one in pairs[:_VALUES] if depth else pairs[:200]:
        nested = isinstance(one, (Mapping, list, tuple)) and bool(one)
        if not nested:
            lines.append(f"{pad}{key}: {number(one) if not isinstance(one, (Mapping, list, tuple)) else 'none'}")
        elif depth + 1 >= _DEPTH:
            lines.append(f"{pad}{key}: {len(one)} entries (--json shows them)")
        else:
            lines += [f"{pad}{key}:", *_outline(one, depth=depth + 1)]
    shown = min(len(pairs), _VALUES if depth else 200)
    return [*lines, f"{pad}({shown} of {len(pairs)} entries, first ones)"] if shown < len(pairs) else lines


def _show_refused(path: Path, as_json: bool) -> str:
    rows = []
    for line_number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            where = f"{path}, line {line_number}"
            raise ProductError(
                f"{path.name} is damaged", where=where, found=str(error), hint="rerun: tiltscope read"
            ) from error
    if as_json:
        return _as_json(rows)
    reasons = Counter(one_line(str(row.get("reason"))) for row in rows)
    lines = [f"{len(rows)} rows refused"]
    for reason, count in reasons.most_common():
        numbers = [row.get("row") for row in rows if one_line(str(row.get("reason"))) == reason]
        listed = ", ".join(number(one) for one in numbers[:8])
        lines += [f"  {reason}: {count}; rows {listed}" + (f" ({8} of {count})" if count > 8 else "")]
    return "\n".join(lines)


def _show_parquet(path: Path, as_json: bool) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        rows = next(file.iter_batches(batch_size=5), None)
    except pa.ArrowException as error:
        raise ProductError(
            f"{path.name} is damaged", where=str(path), found=one_line(str(error)), hint="rerun: tiltscope audit"
        ) from error
    first = rows.to_pylist() if rows is not None else []
    names = {field.name: str(field.type) for field in file.schema_arrow}
    body = {"n_rows": file.metadata.num_rows, "columns": names, "first_rows": first}
    if as_json:
        return json.dumps(body, indent=1, ensure_ascii=True, default=str)
    lines = [f"{path.name}: {number(body['n_rows'])} rows", "columns:"]
    lines += [f"  {fit(one_line(name), 24)} {kind}" for name, kind in names.items()]
    lines.append(f"{len(first)} of {number(body['n_rows'])} rows, first in the file:")
    return "\n".join(lines + [f"  {one_line(str(row), limit=300)}" for row in first])


def _show_tensors(path: Path, as_json: bool) -> str:
    """The header of a safetensors file; its numbers stay where they are."""
    with path.open("rb") as stream:
        start = stream.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        head = stream.read(size) if 0 < size < 100_000_000 else b""
    try:
        body = json.loads(head)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ProductError(
            f"{path.name} is no safetensors file", where=str(path), found=str(error), hint="rerun: tiltscope read"
        ) from error
    tensors = {key: one for key, one in body.items() if key != "__metadata__"}
    if as_json:
        return _as_json(tensors)
    return "\n".join(
        f"{fit(one_line(key), 40)} {one.get('dtype')} {'×'.join(map(str, one.get('shape') or [])) or 'scalar'}"
        for key, one in sorted(tensors.items())
    )


def _show_yaml(path: Path, as_json: bool) -> str:
    import yaml

    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as error:
        hint = "mend the line, or move the file aside and run: tiltscope plan draft"
        raise ProductError(
            f"{path.name} is not valid YAML", where=str(path), found=one_line(str(error)), hint=hint
        ) from error
    return json.dumps(body, indent=1, ensure_ascii=True, default=str) if as_json else visible(text).rstrip()


def _show_text(path: Path, as_json: bool) -> str:
    text = path.read_text(encoding="utf-8", errors="replace")
    beside = path.with_suffix(".json")
    if as_json and beside.exists():
        return _show_json(beside, True)
    if path.suffix == ".html":
        return f"{path}: {number(len(text))} characters; open it in a browser"
    return visible(text).rstrip()


_READERS: dict[str, Callable[[Path, bool], str]] = {
    "hypotheses.json": _show_hypotheses,
    "contrast.json": _show_contrast,
    "check.json": _show_check,
    "names.json": _show_names,
    "evaluation.json": _show_evaluation,
    "comparison.json": _show_comparison,
    ".json": _show_json,
    ".jsonl": _show_refused,
    ".parquet": _show_parquet,
    ".safetensors": _show_tensors,
    ".yaml": _show_yaml,
    ".html": _show_text,
    ".md": _show_text,
}
