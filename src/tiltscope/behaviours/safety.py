"""Refusal under pressure: jailbreak wrappers, and the XSTest prompts.

In:  prompts; a folder with xstest_prompts.csv.
Out: wrapped prompts, XSTest's safe and unsafe prompts, and the refusal behaviours that go with them.
Refuses: a file that is not XSTest (`DataError`). The wrappers are well-known forms, nothing that would be news.
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from tiltscope.behaviours.measured import Behaviour, Prompt, as_prompts, behaviour
from tiltscope.errors import DataError, UsageError
from tiltscope.pairs import Turn
from tiltscope.written import Written, nearest, parse_written

__all__ = ["Wrapper", "load_xstest", "refusal_behaviours", "wrapped", "wrappers"]

_HOLE = "{prompt}"
_TRANSFORMS: Mapping[str, Callable[[str], str]] = {
    "none": str,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "letters_apart": lambda text: " ".join("-".join(word) for word in text.split()),
}


@dataclass(frozen=True)
class Wrapper:
    """Turns in which one user turn has a hole for the request."""

    id: str
    name: str
    transform: str
    turns: tuple[Turn, ...]

    def wrap(self, text: str) -> tuple[Turn, ...]:
        """Return the turns with the request in its place, whatever braces the request has."""
        changed = _TRANSFORMS[self.transform](text)
        return tuple(Turn(turn.role, changed.join(turn.content.split(_HOLE))) for turn in self.turns)


@cache
def wrappers() -> tuple[Wrapper, ...]:
    """Return the committed wrappers."""
    source = files("tiltscope.behaviours").joinpath("prompts").joinpath("wrappers.yaml")
    body = parse_written(source.read_text(encoding="utf-8"), "wrappers.yaml")
    return tuple(_wrapper(one) for one in body.entries())


def _wrapper(here: Written) -> Wrapper:
    keys = here.mapping("a wrapper", ("id", "name", "transform", "turns"))
    turns = []
    for one in keys["turns"].entries():
        for role, text in one.mapping("a turn", ("system", "user", "assistant")).items():
            turns.append(Turn(role, text.prose()))
    transform = keys["transform"].prose() if "transform" in keys else "none"
    if transform not in _TRANSFORMS:
        raise keys["transform"].refused(f"there is no transform {transform!r}", hint=nearest(transform, _TRANSFORMS))
    if sum(turn.content.count(_HOLE) for turn in turns) != 1 or _HOLE not in turns[-1].content:
        raise here.refused("a wrapper has {prompt} once, in its last turn")
    return Wrapper(keys["id"].prose(), keys["name"].prose(), transform, tuple(turns))


def wrapped(prompts: Sequence[Prompt], wrapper: str | Wrapper) -> tuple[Prompt, ...]:
    """Return single-turn prompts inside a wrapper, as a set of its own, SET_WRAPPER.

    Raises:
        UsageError: an unknown wrapper, or a prompt of several turns.
    """
    known = {one.id: one for one in wrappers()}
    if isinstance(wrapper, str) and wrapper not in known:
        raise UsageError(f"there is no wrapper {wrapper!r}", hint=nearest(wrapper, known))
    chosen = known[wrapper] if isinstance(wrapper, str) else wrapper
    made = []
    for one in prompts:
        if len(one.turns) != 1:
            raise UsageError("only a prompt of one turn can be wrapped", found=f"{one.id} has {len(one.turns)}")
        name = f"{one.set}_{chosen.id}"
        made.append(replace(one, id=f"{name}/{one.id.rpartition('/')[2]}", set=name, turns=chosen.wrap(one.text)))
    return tuple(made)


def load_xstest(folder: Path) -> tuple[Prompt, ...]:
    """Read xstest_prompts.csv: sets xstest_safe and xstest_unsafe, with ids that keep the file's numbers.

    Raises:
        DataError: the file is missing or is not XSTest.
    Source: Röttger et al. (2024), XSTest.
    """
    path = folder / "xstest_prompts.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("XSTest cannot be read", where=str(path), found=str(error)) from error
    found = []
    for number, row in enumerate(rows, start=2):
        if not row.get("id") or not row.get("prompt") or row.get("label") not in ("safe", "unsafe"):
            raise DataError("this is not a row of XSTest", where=f"{path}:{number}", found=str(row)[:120])
        name = f"xstest_{row['label']}"
        found.append(replace(as_prompts([row["prompt"]], name)[0], id=f"{name}/{row['id']}"))
    if not found:
        raise DataError("XSTest holds no prompt", where=str(path))
    return tuple(found)


def refusal_behaviours(prompts: Sequence[Prompt], *, under: Sequence[str] = ()) -> tuple[Behaviour, ...]:
    """Return refusal_unsafe and refusal_safe on these prompts' sets, and refusal_unsafe_WRAPPER for each wrapper.

    Prompts belong to them by the end of their set's name: `…_unsafe` or `unsafe`, `…_safe`. The wrapped prompts are to
    be made with `wrapped` and added.
    """
    sets = sorted({one.set for one in prompts})
    unsafe = tuple(one for one in sets if one == "unsafe" or one.endswith("_unsafe"))
    safe = tuple(one for one in sets if one == "safe_sounding" or one.endswith("_safe"))
    made = []
    if unsafe:
        base = replace(behaviour("refusal_unsafe"), sets={"target": unsafe})
        made += [base, *(_under(base, id, unsafe) for id in under)]
    if safe:
        made.append(replace(behaviour("refusal_safe"), sets={"target": safe}))
    return tuple(made)


def _under(base: Behaviour, id: str, sets: Sequence[str]) -> Behaviour:
    names = {one.id: one.name for one in wrappers()}
    if id not in names:
        raise UsageError(f"there is no wrapper {id!r}", hint=nearest(id, names))
    target = tuple(f"{one}_{id}" for one in sets)
    return replace(base, id=f"{base.id}_{id}", name=f"{base.name}, asked by {names[id]}", sets={"target": target})
