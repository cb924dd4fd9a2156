"""One record of any known shape becomes a prompt and two answers.

In:  an object with `chosen` and `rejected` (text or messages) and often `prompt`; or wherever `columns` says they are.
     Of SFT data: `messages`, or `prompt` and `completion`.
Out: `Draft`, or the refusal of the row.
Refuses: a record whose two answers are not one assistant message each after the same prompt. It never guesses a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiltscope.pairs.types import Refusal, Turn

__all__ = ["SFT_ANSWERS", "Draft", "column_value", "parse_row", "parse_sft_row", "peek"]

SFT_ANSWERS = ("messages", "completion")
"""Where SFT data hold their one answer."""

_ROLES = {
    **{"system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user"},
    **{"assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant"},
    **{"tool": "tool", "function": "tool", "ipython": "tool", "environment": "tool"},
}
_HH_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant|System):")
_MISSING = object()


class _Refused(Exception):
    """Carries a reason out of a nested read; never leaves this module."""

    def __init__(self, reason: str, found: str = "") -> None:
        self.reason, self.found = reason, found
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Draft:
    """A row that was understood: the prompt, both answers, the name of its shape and the columns not used."""

    row: int
    shape: str
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    record: Mapping[str, Any]


def peek(value: object) -> str:
    """Show a value in at most 80 characters; what is not text is shown as JSON has it."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 80 else text[:77] + "..."


def column_value(record: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """Return the value at a key or a dotted path, or the default; a key that holds the dots itself wins."""
    if path in record:
        return record[path]
    value: Any = record
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.lstrip("-").isdigit() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return default
    return value


def parse_row(row: int, record: object, columns: Mapping[str, str]) -> Draft | Refusal:
    """Read one record by its shape; `columns` maps prompt, chosen, rejected to other keys or dotted paths."""
    if not isinstance(record, Mapping):
        return Refusal(row, "not_an_object", peek(record))
    try:
        chosen = _field(record, columns, "chosen")
        rejected = _field(record, columns, "rejected")
        prompt = _field(record, columns, "prompt", needed="prompt" in columns)
        shape, turns, good, bad = _by_shape(prompt, chosen, rejected)
        _check(turns, {"chosen": good, "rejected": bad})
        if good.strip() == bad.strip():
            raise _Refused("identical_answers", peek(good))
    except _Refused as refused:
        return Refusal(row, refused.reason, refused.found)
    return Draft(row, shape, turns, good, bad, record)


def parse_sft_row(row: int, record: object, columns: Mapping[str, str]) -> Draft | Refusal:
    """Read one record that holds one answer, as `chosen`; `rejected` stays empty.

    The answer is in `messages` (its last turn), else in `completion`, or where `columns` maps `chosen`. One whose
    `label` is false (KTO) was not wanted: it is refused.
    """
    if not isinstance(record, Mapping):
        return Refusal(row, "not_an_object", peek(record))
    if str(record.get("label")).lower() == "false":
        return Refusal(row, "undesirable", f"label: {peek(record['label'])}")
    usual = next((name for name in SFT_ANSWERS if name in record), SFT_ANSWERS[0])
    try:
        answer = _as_messages(_field(record, {"chosen": usual, **columns}, "chosen"))
        alone = isinstance(answer, str) and not _is_transcript(answer)
        prompt = _field(record, columns, "prompt", needed=alone or "prompt" in columns)
        shape, turns, text, _ = _by_shape(prompt, answer, answer)
        _check(turns, {"answer": text})
    except _Refused as refused:
        return Refusal(row, refused.reason, refused.found)
    return Draft(row, f"{shape}, one answer", turns, text, "", record)


def _field(record: Mapping[str, Any], columns: Mapping[str, str], name: str, *, needed: bool = True) -> Any:
    path = columns.get(name, name)
    value = column_value(record, path, _MISSING)
    if value is not _MISSING:
        return value
    if needed:
        raise _Refused("missing_key", path)
    return None


_Parts = tuple[str, tuple[Turn, ...], str, str]


def _by_shape(prompt: Any, chosen: Any, rejected: Any) -> _Parts:
    """Send the three values to the reader of their shape."""
    chosen, rejected = _as_messages(chosen), _as_messages(rejected)
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(value, str | list):
            raise _Refused("not_text", f"{name}: {peek(value)}")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise _Refused("not_text", "one answer is text, the other a list of messages")
    if isinstance(chosen, list):
        return _conversational(prompt, _turns(chosen), _turns(rejected))
    if prompt is None:
        return _implicit(chosen, rejected)
    return _explicit(prompt, chosen, rejected)


def _as_messages(value: Any) -> Any:
    """Unwrap {"messages": [...]} and a single message."""
    if isinstance(value, Mapping):
        if isinstance(value.get("messages"), list):
            return value["messages"]
        if "role" in value or "from" in value:
            return [value]
    return value


def _turns(messages: Sequence[Any]) -> tuple[Turn, ...]:
    return tuple(_turn(message) for message in messages)


def _turn(message: Any) -> Turn:
    if not isinstance(message, Mapping):
        raise _Refused("not_text", f"a message is {peek(message)}")
    for key in ("tool_calls", "function_call"):
        if message.get(key):
            raise _Refused("tool_calls", f"{key}: {peek(message[key])}")
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if isinstance(content, list) and all(isinstance(p, Mapping) and isinstance(p.get("text"), str) for p in content):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise _Refused("not_text", f"the content of a message: {peek(content)}")
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise _Refused("unknown_role", peek(role))
    return Turn(_ROLES[role.lower()], content)


def _conversational(prompt: Any, chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> _Parts:
    """Messages: with the prompt apart, or (any user turn inside) with the prompt at the head of both lists."""
    before = _prompt_turns(prompt)
    inside = any(turn.role == "user" for turn in (*chosen, *rejected))
    if before and inside and chosen[: len(before)] != before:
        # TRL's explicit form has no user turn in a completion: the lists are whole conversations, and the prompt
        # column repeats (part of) them; a prompt that is nowhere in them is another prompt.
        said = {turn.content.strip() for turn in chosen}
        if not {turn.content.strip() for turn in before} <= said:
            raise _Refused("prompts_differ", "the prompt column is not in the messages")
    if not inside:
        chosen, rejected = before + chosen, before + rejected
    shape = "explicit prompt, conversational" if before and not inside else "messages with the prompt inside"
    if not before and inside:
        shape = "implicit prompt, conversational"
    turns, good, bad = _split(chosen, rejected, n_before=0 if inside else len(before))
    return shape, turns, good, bad


def _split(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...], *, n_before: int) -> tuple[tuple[Turn, ...], str, str]:
    """Take the last turn of each side as its answer; all before must be one prompt."""
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or len(turns) <= n_before:
            raise _Refused("empty_answer", f"{name} has no message")
    n_same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), -1)
    if chosen[:-1] != rejected[:-1]:
        at = n_same if n_same >= 0 else min(len(chosen), len(rejected)) - 1
        differ_in_prompt = chosen[at].role != "assistant" or rejected[at].role != "assistant"
        reason = "prompts_differ" if differ_in_prompt else "several_turns"
        raise _Refused(reason, f"from turn {at + 1} on, of {len(chosen)} and {len(rejected)}")
    if n_before and len(chosen) > n_before + 1:
        raise _Refused("several_turns", f"{len(chosen) - n_before} messages after the prompt")
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise _Refused("no_answer", f"roles {chosen[-1].role} and {rejected[-1].role}")
    return chosen[:-1], chosen[-1].content, rejected[-1].content


def _prompt_turns(prompt: Any) -> tuple[Turn, ...]:
    """A prompt as turns: messages, an HH transcript, or one user turn."""
    prompt = _as_messages(prompt)
    if prompt is None:
        return ()
    if isinstance(prompt, list):
        return _turns(prompt)
    if not isinstance(prompt, str):
        raise _Refused("not_text", f"prompt: {peek(prompt)}")
    if _is_transcript(prompt):
        turns = _transcript(prompt)
        return turns[:-1] if turns[-1] == Turn("assistant", "") else turns
    return (Turn("user", prompt),)


def _explicit(prompt: Any, chosen: str, rejected: str) -> _Parts:
    if _is_transcript(chosen) and _is_transcript(rejected):
        return _from_transcripts(chosen, rejected)
    shape = "explicit prompt, standard" if isinstance(prompt, str) else "prompt messages, answers as text"
    return shape, _prompt_turns(prompt), chosen, rejected


def _implicit(chosen: str, rejected: str) -> _Parts:
    """Whole texts: HH transcripts, or a shared beginning that is cut back to a line or word boundary.

    Source: TRL, `extract_prompt` (longest common prefix); it may cut inside a word, here it never does.
    """
    if _is_transcript(chosen) or _is_transcript(rejected):
        return _from_transcripts(chosen, rejected)
    shared = chosen[: _common_length(chosen, rejected)]
    if len(shared) < min(len(chosen), len(rejected)) or not shared[-1:].isspace():
        shared = shared[: max(shared.rfind("\n"), -1) + 1] or shared[: max(shared.rfind(" "), -1) + 1]
    if chosen == rejected:
        raise _Refused("identical_answers", "the whole texts are the same")
    turns = (Turn("user", shared.rstrip()),)
    return "implicit prompt, standard", turns, chosen[len(shared) :].lstrip(), rejected[len(shared) :].lstrip()


def _common_length(one: str, other: str) -> int:
    """Length of the longest common prefix, by bisection, so that megabytes cost milliseconds."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _is_transcript(text: str) -> bool:
    return text.lstrip().startswith(("Human:", "System:")) and "\n\nAssistant:" in text


def _transcript(text: str) -> tuple[Turn, ...]:
    parts = _HH_TURN.split(text)
    roles, contents = parts[1::2], parts[2::2]
    return tuple(Turn(_ROLES[r.lower()], c.strip()) for r, c in zip(roles, contents, strict=True))


def _from_transcripts(chosen: str, rejected: str) -> _Parts:
    if not (_is_transcript(chosen) and _is_transcript(rejected)):
        raise _Refused("prompts_differ", "one side is a Human/Assistant transcript, the other is not")
    turns, good, bad = _split(_transcript(chosen), _transcript(rejected), n_before=0)
    return "Human/Assistant transcripts", turns, good, bad


def _check(prompt: tuple[Turn, ...], answers: Mapping[str, str]) -> None:
    """Refuse what no model can be shown."""
    if not any(turn.content.strip() for turn in prompt if turn.role != "system"):
        raise _Refused("empty_prompt")
    for name, text in answers.items():
        if not text.strip():
            raise _Refused("empty_answer", f"{name} is {text!r:.40}")
    for text in (*(turn.content for turn in prompt), *answers.values()):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _Refused("lone_surrogate", f"U+{ord(text[error.start]):04X} at character {error.start}") from None
