"""A preference file becomes `Pairs`: rows refused one by one, ids by content, witnesses by shared prompt.

In:  a source (see `records`) and `LoadSettings`.
Out: `Pairs`; of SFT data, pairs whose rejected side is still empty.
Refuses: a source of which no record, or less than 95 %, can be read, and columns that are nowhere (`DataError`).
"""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltscope.artifact import fingerprint, quoted
from tiltscope.errors import DataError, UsageError
from tiltscope.pairs.records import read_records
from tiltscope.pairs.shapes import SFT_ANSWERS, Draft, column_value, parse_row, parse_sft_row
from tiltscope.pairs.types import REASONS, LoadSettings, Pair, Pairs, Refusal, Turn

__all__ = ["load_pairs", "load_sft", "pairs_fingerprint", "prompt_name"]

_Parse = Callable[[int, object, Mapping[str, str]], Draft | Refusal]

_MAX_REFUSED = 0.05
_FIELDS = ("prompt", "chosen", "rejected")
_DOMAIN_COLUMNS = ("source", "domain", "category", "dataset", "subset")
_MAX_DOMAINS = 50  # a "source" column with more values than this names rows (URLs, ids), not kinds of data
_PROMPT_LIKE = ("question", "instruction", "input", "query", "context", "messages", "problem")


def load_pairs(source: str | Path, settings: LoadSettings | None = None) -> Pairs:
    """Read a preference dataset.

    Every refused record is in `Pairs.refused`. Ids and groups are made before sampling, so that a sample has the same
    ids and witnesses as the whole.

    Raises:
        DataError: nothing can be read, a needed column is nowhere, or more than 5 % of the records are refused.
        UsageError: a setting that cannot be used.
    """
    return _load(source, settings or LoadSettings(), parse_row)


def load_sft(source: str | Path, settings: LoadSettings | None = None) -> Pairs:
    """Read data with one answer per prompt: it becomes `chosen`, and `rejected` stays empty until a model answers.

    `messages` whose last turn is the assistant's, `prompt` and `completion` as text or messages, or wherever
    `settings.columns` maps prompt and chosen. Everything else is as in `load_pairs`, and raises the same.
    """
    return _load(source, settings or LoadSettings(), parse_sft_row)


def _load(source: str | Path, settings: LoadSettings, parse: _Parse) -> Pairs:
    _check_settings(settings)
    drafts, refused = _parse(source, settings.columns, parse)
    _check_columns(str(source), settings, drafts, refused)
    _check_refused(str(source), settings, drafts, refused)
    domain = settings.domain or _find_domain(drafts)
    rows = _pairs(drafts, settings, domain)
    shapes = Counter(draft.shape for draft in drafts).most_common()
    shape = shapes[0][0] if len(shapes) == 1 else ", ".join(f"{name} ({n:,} rows)" for name, n in shapes)
    kept = _sample(rows, settings)
    n_records = len(drafts) + len(refused)
    return Pairs(kept, tuple(refused), shape, str(source), pairs_fingerprint(kept), n_records, domain)


def pairs_fingerprint(rows: Iterable[Pair]) -> str:
    """Return 16 hex digits of the ids and groups, whatever the order of the rows."""
    return fingerprint(sorted((pair.id, pair.group) for pair in rows))


def prompt_name(prompt: Sequence[Turn]) -> str:
    """Return 16 hex digits of a prompt, whatever its case and white space: the group of a pair without --group."""
    return fingerprint([[turn.role, _normal(turn.content)] for turn in prompt])


def _check_settings(settings: LoadSettings) -> None:
    for name in settings.columns:
        if name not in _FIELDS:
            raise UsageError(f"--map knows prompt, chosen and rejected, not {name!r}", hint="--map chosen=COLUMN")
    if settings.sample is not None and settings.sample < 1:
        raise UsageError("a sample needs at least one pair", found=f"--sample {settings.sample}")


def _parse(source: str | Path, columns: Mapping[str, str], parse: _Parse) -> tuple[list[Draft], list[Refusal]]:
    drafts: list[Draft] = []
    refused: list[Refusal] = []
    for record in read_records(source):
        parsed = record.refusal or parse(record.row, record.value, columns)
        if isinstance(parsed, Refusal):
            found = f"{parsed.found}; the record has {_keys(record.value)}" if parsed.reason == "missing_key" else ""
            refused.append(replace(parsed, found=found) if found else parsed)
        else:
            drafts.append(parsed)
    if not drafts and not refused:
        raise DataError("this source holds no records", where=str(source))
    return drafts, refused


def _keys(record: Any) -> str:
    return ", ".join(str(key) for key in record)[:200] if isinstance(record, Mapping) else ""


def _check_columns(source: str, settings: LoadSettings, drafts: Sequence[Draft], refused: Sequence[Refusal]) -> None:
    """A column that is in no record at all is a spelling mistake, not bad rows."""
    lacking = [r for r in refused if r.reason == "missing_key"]
    if not drafts and lacking and len(lacking) >= 0.95 * len(refused):
        key, _, has = lacking[0].found.partition("; the record has ")
        columns = has.split(", ")
        if _one_answer(key, columns):
            raise DataError(
                "these rows have one answer each: there is no rejected side to compare with",
                where=source,
                found=f"columns {has}",
                hint=_answer_command(source, settings.columns),
            )
        names = {**dict.fromkeys(SFT_ANSWERS, "chosen"), **{path: name for name, path in settings.columns.items()}}
        raise _no_column(source, key, columns, f"--map {names.get(key, key)}=")
    for option, column in (("--group ", settings.group), ("--domain ", settings.domain)):
        if column and drafts and all(column_value(draft.record, column) is None for draft in drafts):
            raise _no_column(source, column, [str(key) for key in drafts[0].record], option)


def _one_answer(key: str, columns: Sequence[str]) -> bool:
    """Whether what lacks `key` looks like SFT data, and not like a preference file with a misspelt column."""
    if key == "chosen":
        return bool(set(SFT_ANSWERS) & set(columns))
    return key == "rejected" and not _nearest(key, columns)


def _nearest(key: str, columns: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(key, columns, n=1, cutoff=0.5)), "")


def _answer_command(source: str, columns: Mapping[str, str]) -> str:
    """The command that lets the model write the rejected side."""
    named = "".join(f" --map {quoted(f'{name}={path}')}" for name, path in columns.items())
    return f"tiltscope answer {quoted(source)}{named} --out pairs.jsonl"


def _no_column(source: str, key: str, columns: Sequence[str], option: str) -> DataError:
    near = _nearest(key, columns)
    return DataError(
        f"no record has the field {key!r}" + (f"; the nearest is {near!r}" if near else ""),
        where=source,
        found="columns " + ", ".join(columns),
        hint=f"{option}{near or 'COLUMN'}",
    )


def _check_refused(source: str, settings: LoadSettings, drafts: Sequence[Draft], refused: Sequence[Refusal]) -> None:
    n = len(drafts) + len(refused)
    if drafts and (settings.allow_refused or len(refused) <= _MAX_REFUSED * n):
        return
    rows: dict[str, list[Refusal]] = {}
    for one in refused:
        rows.setdefault(one.reason, []).append(one)
    top = sorted(rows.items(), key=lambda item: -len(item[1]))[:3]
    found = "; ".join(_example(reason, ones) for reason, ones in top)
    share = f"{len(refused):,} of {n:,} records ({100 * len(refused) / n:.1f} %) cannot be used"
    raise DataError(share, where=source, found=found, hint=_hint(drafts, refused, settings))


def _example(reason: str, ones: Sequence[Refusal]) -> str:
    """One reason with its first row numbers and one thing that was found."""
    numbers = ", ".join(str(one.row) for one in ones[:5]) + (" …" if len(ones) > 5 else "")
    example = f"; for example {ones[0].found}" if ones[0].found else ""
    return f"{len(ones):,} × {REASONS[reason]} (rows {numbers}{example})"


def _hint(drafts: Sequence[Draft], refused: Sequence[Refusal], settings: LoadSettings) -> str:
    if drafts:
        return "mend these rows, or go on without them: --allow-refused"
    if refused[0].reason == "empty_prompt" and "prompt" not in settings.columns:
        return f"if the prompt is in a column of its own: --map prompt=COLUMN (often {', '.join(_PROMPT_LIKE[:3])})"
    return "no record could be used; see docs/data.md for the shapes that are read"


def _find_domain(drafts: Sequence[Draft]) -> str | None:
    """The first usual column name that holds few different texts."""
    for name in _DOMAIN_COLUMNS:
        values = {draft.record.get(name) for draft in drafts if isinstance(draft.record.get(name), str)}
        if 1 <= len(values) <= _MAX_DOMAINS:
            return name
    return None


def _pairs(drafts: Sequence[Draft], settings: LoadSettings, domain: str | None) -> tuple[Pair, ...]:
    used = {settings.columns.get(name, name).split(".")[0] for name in _FIELDS} | {*settings.columns.values()}
    used |= {*SFT_ANSWERS} if not any(draft.rejected for draft in drafts) else set()
    groups = _groups(drafts, settings.group)
    seen: Counter[str] = Counter()
    rows = []
    for draft, group in zip(drafts, groups, strict=True):
        turns = [[turn.role, turn.content] for turn in draft.prompt]
        id = fingerprint(turns, draft.chosen, draft.rejected)
        seen[id] += 1
        extra = {str(k): _jsonable(v) for k, v in draft.record.items() if k not in used}
        rows.append(
            Pair(
                id=id if seen[id] == 1 else f"{id}-{seen[id]}",
                prompt=draft.prompt,
                chosen=draft.chosen,
                rejected=draft.rejected,
                group=group,
                row=draft.row,
                domain=_label(column_value(draft.record, domain)) if domain else None,
                extra=extra,
            )
        )
    return tuple(rows)


def _jsonable(value: Any) -> Any:
    """The value as JSON has it; what JSON has no form for (dates, bytes, NaN) becomes text."""
    return json.loads(json.dumps(value, default=str), parse_constant=str)


def _label(value: Any) -> str | None:
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)
    return text.encode("utf-8", "backslashreplace").decode()


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _groups(drafts: Sequence[Draft], column: str | None) -> list[str]:
    """Connected components of equal normalised prompts and equal group values, named by their smallest prompt."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    nodes = [prompt_name(draft.prompt) for draft in drafts]
    for node, draft in zip(nodes, drafts, strict=True):
        value = _label(column_value(draft.record, column)) if column else None
        ends = sorted((root(node), root(node if value is None else f"~{value}")))
        parent[ends[1]] = ends[0]  # the smaller name leads; "~" sorts after every hex digit, so a prompt always leads
    return [root(node) for node in nodes]


def _sample(rows: tuple[Pair, ...], settings: LoadSettings) -> tuple[Pair, ...]:
    if settings.sample is None or settings.sample >= len(rows):
        return rows
    picked = np.random.default_rng(settings.seed).choice(len(rows), settings.sample, replace=False)
    return tuple(rows[i] for i in np.sort(picked))
