"""A preference file becomes `Pairs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a prompt: role is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference: a prompt, the answer that won and the one that lost.

    `id` is 16 hex digits of the content (prompt turns, chosen, rejected), with `-2`, `-3` … for exact repeats, so it
    survives reordering and new versions of the file. `row` is the 1-based record number in the source file. `group`
    names the witness: pairs of one group are not independent. `domain` is a source/category column's value or None.
    """

    id: str
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    group: str
    row: int
    domain: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt_text(self) -> str:
        """The contents of all prompt turns joined by a blank line; token offsets of the prompt span point into it."""
        return "\n\n".join(turn.content for turn in self.prompt)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One row that was not taken: its 1-based record number, a reason from a fixed list, and what was found."""

    row: int
    reason: str
    found: str = ""


@dataclass(frozen=True)
class Pairs:
    """A dataset that was read: rows, what was refused and why, the shape recognised, and a content fingerprint."""

    rows: tuple[Pair, ...]
    refused: tuple[Refusal, ...]
    shape: str
    source: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.rows)
