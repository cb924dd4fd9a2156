"""The types of a preference dataset, and the fixed list of reasons for which a row is refused.

In:  nothing.
Out: `Turn`, `Pair`, `Refusal`, `Pairs`, `LoadSettings`, `REASONS`.
Refuses: nothing; these are values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["REASONS", "LoadSettings", "Pair", "Pairs", "Refusal", "Turn", "with_instruction"]

REASONS: Mapping[str, str] = {
    "not_utf8": "the record is not UTF-8 text",
    "not_json": "the line is not JSON",
    "ends_mid_record": "the file ends in the middle of this record",
    "bad_csv": "the record does not have the columns of the header",
    "not_an_object": "the record is not an object with named fields",
    "missing_key": "a field that is needed is not there",
    "not_text": "a null, a number or another value stands where text is needed",
    "unknown_role": "a message has a role other than system, user, assistant or tool",
    "tool_calls": "a message calls a tool, and what it calls is not text that could be compared",
    "lone_surrogate": "the text holds half of a UTF-16 pair, which no tokenizer can read",
    "no_answer": "the last turn is not the assistant's",
    "empty_prompt": "there is no prompt before the answers",
    "empty_answer": "the chosen or the rejected answer is empty",
    "prompts_differ": "chosen and rejected do not answer the same prompt",
    "several_turns": "the answers differ before the last message, or span several messages",
    "undesirable": "its label says that the answer is one that was not wanted",
    "identical_answers": "chosen and rejected are the same answer, so the pair says nothing",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a prompt: role is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference: a prompt, the answer that won and the one that lost.

    `id` is 16 hex digits of the content (prompt turns, chosen, rejected), with `-2`, `-3` … for exact repeats, so it
    survives reordering and new versions of the file. `row` is the 1-based record number in the source file (the line
    number in JSONL). `group` names the witness: pairs of one group are not independent. `domain` is a source/category
    column's value or None.
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
    """One row that was not taken: its 1-based record number, a reason from `REASONS`, and what was found."""

    row: int
    reason: str
    found: str = ""


@dataclass(frozen=True)
class Pairs:
    """A dataset that was read: rows, what was refused and why, the shape recognised, and a content fingerprint.

    `n_records` counts the records of the source (accepted, refused and not sampled); `domain_column` names the column
    that `Pair.domain` came from.
    """

    rows: tuple[Pair, ...]
    refused: tuple[Refusal, ...]
    shape: str
    source: str
    fingerprint: str
    n_records: int = 0
    domain_column: str | None = None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class LoadSettings:
    """How to read a dataset."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Where prompt, chosen and rejected are found, for example {"chosen": "answers.best"}; dots go into objects."""
    group: str | None = None
    """A column whose equal values are one witness (a conversation, an annotator)."""
    domain: str | None = None
    """A source or category column; None takes the first of source, domain, category, dataset, subset that fits."""
    sample: int | None = None
    """How many pairs to keep, drawn uniformly and kept in file order; None keeps all."""
    seed: int = 0
    """The seed of the sample."""
    allow_refused: bool = False
    """Go on when more than 5 % of the records are refused."""


def with_instruction(prompt: Sequence[Turn], instruction: str) -> tuple[Turn, ...]:
    """Return the turns with an instruction after a blank line of the last user turn (a new one where there is none).

    >>> [turn.content for turn in with_instruction((Turn("user", "Why?"),), "Be brief.")]
    ['Why?\\n\\nBe brief.']
    """
    at = max((i for i, turn in enumerate(prompt) if turn.role == "user"), default=None)
    if at is None:
        return (*prompt, Turn("user", instruction))
    told = Turn("user", f"{prompt[at].content}\n\n{instruction}")
    return (*prompt[:at], told, *prompt[at + 1 :])
