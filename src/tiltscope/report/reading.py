"""How a study was made, and what was found before any model loaded.

In:  study.json, scope.json, check.json, refused.jsonl and the features' manifest of a study.
Out: what the report says of them, and the command that repeats the study.
Refuses: a damaged refused.jsonl (`ProductError`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tiltscope.artifact import read_object
from tiltscope.errors import ProductError
from tiltscope.report.text import number, one_line, percent, plain, visible

__all__ = ["commands", "preflight", "refused_rows", "scope_facts", "unread_note", "unread_rows"]

Row = Mapping[str, Any]

ROWS_LIMIT = 10  # row numbers shown per reason of refusal


def refused_rows(study: Path) -> dict[str, Any] | None:
    """Return the refused rows by reason, most frequent first; None where nothing was recorded."""
    path = study / "refused.jsonl"
    if not path.exists():
        return None
    try:
        return _by_reason(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    except (ValueError, KeyError, TypeError) as error:
        raise ProductError(
            "refused.jsonl is damaged", where=str(path), found=str(error), hint="rerun: tiltscope read"
        ) from error


def unread_rows(study: Path) -> dict[str, Any] | None:
    """Return the accepted rows that the scope could not read, as `refused_rows` does; None where nothing was read."""
    path = study / "features" / "manifest.json"
    if not path.exists():
        return None
    settings = read_object(path, "settings", verb="read")["settings"]
    return _by_reason(settings.get("refused") or [])


def unread_note(unread: Row | None, contrast: Row) -> str:
    """One sentence on the accepted rows that could not be read; "" where all were."""
    if not unread or not unread["n"]:
        return ""
    why = ", ".join(f"{one['reason']} ({number(one['n'])})" for one in unread["reasons"])
    more = (
        "; a larger --max-length reads them" if any("max_length" in one["reason"] for one in unread["reasons"]) else ""
    )
    n = f" of {number(contrast['n_pairs'] + unread['n'])}" if "n_pairs" in contrast else ""
    return f"{number(unread['n'])}{n} accepted pairs were not read and are in no finding: {why}{more}."


def _by_reason(entries: Iterable[Row]) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    rows: dict[str, list[Any]] = {}
    found: dict[str, str] = {}
    for one in entries:
        reason = visible(str(one["reason"]))
        reasons[reason] += 1
        rows.setdefault(reason, []).append(one.get("row"))
        found.setdefault(reason, one_line(str(one.get("found") or ""), limit=120))
    return {
        "n": sum(reasons.values()),
        "reasons": [
            {"reason": reason, "n": n, "rows": rows[reason][:ROWS_LIMIT], "found": found[reason]}
            for reason, n in reasons.most_common()
        ],
    }


def preflight(check: Any) -> dict[str, Any] | None:
    """Return the preflight checklist: traits on all pairs, traits by domain, and what else `check` found."""
    if not isinstance(check, Mapping):
        return None
    items = [plain(one) for one in check.get("checklist") or [] if isinstance(one, Mapping)]
    return {
        "items": [one for one in items if not one.get("domain")],
        "by_domain": [one for one in items if one.get("domain")],
        "facts": _facts(check),
    }


def _facts(check: Row) -> list[dict[str, str]]:
    """What `check` found beside the traits, each as a label and a sentence."""

    def part(*keys: str) -> Any:
        value: Any = check
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    told = [("shape", one_line(str(part("shape"))))] if part("shape") else []
    if part("length", "words"):
        words = part("length", "words")
        ends = f"[{number(words.get('ci_low'))}, {number(words.get('ci_high'))}]"
        medians = f"chosen {number(words.get('chosen_median'))}, rejected {number(words.get('rejected_median'))}"
        told.append(("length", f"median words: {medians}; ratio {number(words.get('ratio'))} {ends}"))
    if part("repeats"):
        shared = number(part("repeats", "n_pairs_sharing_a_prompt"))
        told.append(
            ("repeats", f"{number(part('repeats', 'n_exact'))} exact; {shared} pairs share a prompt with others")
        )
    if part("contradictions"):
        both = number(part("contradictions", "n_answers_that_win_and_lose"))
        swapped = number(part("contradictions", "n_swapped"))
        told.append(
            ("contradictions", f"{swapped} pairs stand there the other way round too; {both} answers win and lose")
        )
    if part("cut"):
        pairs, limit = number(part("cut", "n_pairs_cut")), number(part("cut", "max_tokens"))
        told.append(("cut", f"about {pairs} pairs are longer than {limit} tokens (estimated without a tokenizer)"))
    return [{"label": label, "text": text} for label, text in told]


def scope_facts(scope: Row) -> dict[str, Any]:
    """Return what the report says of the autoencoder, from scope.json; the whole file is in the folder."""

    def part(*keys: str) -> Any:
        value: Any = scope
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    if not scope:
        return {}
    unexplained = part("sae", "report", "unexplained_variance")
    loss = part("sae", "report", "loss_nats") or {}
    return {
        "model": plain(part("model", "name")),
        "model fingerprint": part("model", "fingerprint"),
        "layer": f"{part('layer')} of {part('n_layers')}",
        "latents": part("sae", "n_latents"),
        "active on a token": part("sae", "k"),
        "variance explained": None if unexplained is None else percent(1 - unexplained),
        "silent latents": percent(part("sae", "report", "silent_latents")),
        "loss in nats": "; ".join(f"{str(key).replace('_', ' ')} {number(loss[key])}" for key in loss),
        "max length": part("max_length"),
        "scope fingerprint": part("fingerprint"),
    }


def commands(study_name: str, settings: Row) -> list[str]:
    """Return the commands that make this study again, from what study.json records."""
    source = str(settings.get("source") or "DATA")
    bundled = source.replace("\\", "/").endswith("tiltscope/data/demo.jsonl.gz")
    words = ["tiltscope", "audit", "demo" if bundled else _shell(source), "--out", _shell(study_name)]
    for field_name, column in (settings.get("map") or {}).items():
        words += ["--map", _shell(f"{field_name}={column}")]
    for key in ("group", "domain", "sample", "model", "layer", "sae", "max_length", "template", "seed"):
        value = settings.get(key)
        if value is not None and value != "":
            words += [f"--{key.replace('_', '-')}", _shell(str(value))]
    if settings.get("allow_refused"):
        words.append("--allow-refused")
    return [" ".join(words)]


def _shell(word: str) -> str:
    safe = one_line(word)
    plain = safe and all(char.isalnum() or char in "._-/=:@+," for char in safe)
    return safe if plain else "'" + safe.replace("'", "'\"'\"'") + "'"
