"""The preflight checklist: surface traits of chosen against rejected answers, one witness per group.

In:  `Pairs` and the behaviour library.
Out: one entry per trait (whole, by domain, and for some kinds of prompt), JSON-able.
Refuses: to test. Intervals are 95 % each, so about one in twenty traits without any lean looks as if it had one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiltscope.behaviours import Rule, harmful_looking, rule, sensitive_domain
from tiltscope.checklist.describe import interval, shown_domains
from tiltscope.pairs import Pair, Pairs

__all__ = ["CHECKED", "preflight"]

CHECKED: tuple[str, ...] = (
    "bold",
    "italic",
    "emoji",
    "heading",
    "bulleted_list",
    "numbered_list",
    "table",
    "horizontal_rule",
    "em_dash",
    "exclamation",
    "agreement",
    "praise",
    "refusal",
    "link",
    "citation",
    "benchmark",
    "hedge",
    "certainty",
)
_LIKE_LENGTH = 0.2  # |log(words chosen / words rejected)| under this: the two answers are about equally long


@dataclass(frozen=True)
class _Marks:
    """One rule on all pairs: how often it fires (rules that count) or whether (rules that do not); (n_pairs, 2)."""

    rule: Rule
    fired: np.ndarray


@dataclass(frozen=True)
class _Frame:
    """What all entries share, per pair: group, log length ratio, words on both sides (n_pairs, 2)."""

    groups: np.ndarray
    log_ratio: np.ndarray
    words: np.ndarray


def preflight(pairs: Pairs) -> list[dict[str, Any]]:
    """Return the checklist: every trait on all pairs, then by kind of prompt, then by domain."""
    rows = pairs.rows
    frame = _frame(rows)
    marks = {name: _run(rule(name), rows) for name in CHECKED}
    everywhere = np.ones(len(rows), dtype=bool)
    entries = [_entry(one, frame, everywhere) for one in marks.values()]
    entries += _by_prompt(rows, frame, marks)
    for domain in shown_domains(rows):
        inside = np.array([pair.domain == domain for pair in rows])
        entries += [{**_entry(one, frame, inside), "domain": domain} for one in marks.values()]
    return entries


def _frame(rows: Sequence[Pair]) -> _Frame:
    words = np.array([[len(pair.chosen.split()), len(pair.rejected.split())] for pair in rows], dtype=np.float64)
    words = np.maximum(words, 1.0)
    return _Frame(np.array([pair.group for pair in rows]), np.log(words[:, 0] / words[:, 1]), words)


def _run(one: Rule, rows: Sequence[Pair]) -> _Marks:
    """Apply a rule to both sides; an answer that occurs in several pairs is read once."""
    read: Callable[[str], int] = (lambda text: len(one.marks(text))) if one.unit == "count" else one.present
    known: dict[str, int] = {}
    for pair in rows:
        for text in (pair.chosen, pair.rejected):
            if text not in known:
                known[text] = int(read(text))
    fired = np.array([[known[pair.chosen], known[pair.rejected]] for pair in rows], dtype=np.float64)
    return _Marks(one, fired)


def _by_prompt(rows: Sequence[Pair], frame: _Frame, marks: dict[str, _Marks]) -> list[dict[str, Any]]:
    """Refusals by how the prompt looks; links and citations where the prompt speaks of a sensitive matter."""
    user_texts = ["\n\n".join(turn.content for turn in pair.prompt if turn.role == "user") for pair in rows]
    harmful = np.array([harmful_looking(text) for text in user_texts])
    sensitive = np.array([sensitive_domain(text) is not None for text in user_texts])
    kinds = (
        ("refusal", "harmless-looking prompts", ~harmful),
        ("refusal", "harmful-looking prompts", harmful),
        ("link", "sensitive prompts", sensitive),
        ("citation", "sensitive prompts", sensitive),
    )
    return [_entry(marks[name], frame, inside, kind=kind) for name, kind, inside in kinds]


def _entry(marks: _Marks, frame: _Frame, inside: np.ndarray, *, kind: str | None = None) -> dict[str, Any]:
    """One line of the checklist over the pairs `inside`."""
    present = (marks.fired[inside] > 0).astype(np.float64)
    groups, like = frame.groups[inside], np.abs(frame.log_ratio[inside]) < _LIKE_LENGTH
    difference = present[:, 0] - present[:, 1]
    rates = [float(rate) for rate in present.mean(axis=0)] if len(present) else [None, None]
    one = marks.rule
    return {
        "id": one.id if kind is None else f"{one.id}@{kind.replace(' ', '-')}",
        "name": one.name if kind is None else f"{one.name}, {kind}",
        "family": one.family,
        "domain": None,
        "prompts": kind,
        "chosen_rate": rates[0],
        "rejected_rate": rates[1],
        **_renamed(interval(difference, groups)),
        "n_pairs_that_differ": int((difference != 0).sum()),
        "equal_length": _renamed(interval(difference[like], groups[like])),
        "per_100_words": _density(marks, frame, inside) if one.unit == "count" else None,
    }


def _renamed(estimate: dict[str, Any]) -> dict[str, Any]:
    return {"difference": estimate["mean"], **{key: value for key, value in estimate.items() if key != "mean"}}


def _density(marks: _Marks, frame: _Frame, inside: np.ndarray) -> dict[str, float | None]:
    """How often a rule that counts fires in 100 words, on either side."""
    fired, words = marks.fired[inside].sum(axis=0), frame.words[inside].sum(axis=0)
    per = [float(100 * f / w) if w else None for f, w in zip(fired, words, strict=True)]
    return {"chosen": per[0], "rejected": per[1]}
