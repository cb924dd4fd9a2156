"""YAML as it was written: every value with the line it stands on.

In:  a YAML file that a person wrote, or its text.
Out: `Written` values: mappings, lists and scalars that know their file and line.
Refuses: what is not YAML or not UTF-8, a key that is written twice, aliases, and tags beyond plain data.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tiltscope.errors import UsageError

__all__ = ["Written", "nearest", "parse_written", "read_written"]

_DEEPEST = 20


@dataclass(frozen=True)
class Written:
    """A value and its place: `where` is "file:line"; value is a scalar, a list of `Written` or {key: `Written`}.

    `text` is a scalar exactly as it was written (`007`, `no`), for keys that hold text.
    """

    where: str
    value: Any
    text: str = ""

    def refused(self, what: str, *, found: str = "", hint: str = "") -> UsageError:
        """The error to raise about this value."""
        return UsageError(what, where=self.where, found=found or self.shown, hint=hint)

    @property
    def shown(self) -> str:
        """The value in few words, for an error."""
        if isinstance(self.value, dict):
            return f"a mapping with the keys {', '.join(self.value)}"[:200] if self.value else "an empty mapping"
        if isinstance(self.value, list):
            return f"a list of {len(self.value)}" if self.value else "an empty list"
        return "null" if self.value is None else repr(self.text)[:200]

    @property
    def line(self) -> int:
        return int(self.where.rpartition(":")[2])

    @property
    def is_null(self) -> bool:
        return self.value is None

    def get(self, key: str) -> Written | None:
        """The value under a key of a mapping; None where the key is missing or its value is null."""
        held: Written | None = self.value.get(key)
        return None if held is None or held.is_null else held

    def mapping(self, key: str, known: Collection[str] | None = None) -> dict[str, Written]:
        """Return the values of this mapping by key; with `known`, another key is refused with the nearest one."""
        if not isinstance(self.value, dict):
            raise self.refused(f"{key} is not a mapping: keys and values are needed here")
        for name, held in self.value.items():
            if known is not None and name not in known:
                raise held.refused(f"there is no key {name!r} in {key}", found=name, hint=nearest(name, known))
        return self.value

    def items(self, key: str) -> list[Written]:
        """Return the entries of this list."""
        if not isinstance(self.value, list):
            raise self.refused(f"{key} is not a list", hint=f"write {key}: [one, two]")
        return list(self.value)

    def entries(self) -> list[Written]:
        """Return the entries of this list; a value alone counts as a list of one."""
        return list(self.value) if isinstance(self.value, list) else [self]

    def prose(self) -> str:
        """Return the text held here, without blanks around it; a number or nothing is no text."""
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.refused("text is needed here")
        return self.value.strip()

    def string(self, key: str) -> str:
        """Return this scalar as it was written."""
        if isinstance(self.value, list | dict):
            raise self.refused(f"{key} is not a text")
        return "" if self.is_null else self.text

    def choice(self, key: str, known: Sequence[str]) -> str:
        """Return this scalar if it is one of the known words."""
        word = self.string(key)
        if word not in known:
            hint = f"{nearest(word, known)}; one of {', '.join(known)}"
            raise self.refused(f"{key} has no value {word!r}", found=self.shown, hint=hint)
        return word

    def number(self, key: str, *, low: float = -math.inf, high: float = math.inf) -> float:
        """Return this scalar as a finite number from low to high; 1e-1, which YAML 1.1 reads as text, is one."""
        if isinstance(self.value, str) and re.fullmatch(r"[-+]?[0-9.]+[eE][-+]?[0-9]+", self.value):
            return replace(self, value=float(self.value)).number(key, low=low, high=high)
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.refused(f"{key} is not a number")
        if not math.isfinite(self.value):
            raise self.refused(f"{key} is not a finite number")
        if not low <= self.value <= high:
            raise self.refused(f"{key} is not a number from {low:g} to {high:g}")
        return float(self.value)

    def whole(self, key: str) -> int:
        """Return this scalar as a whole number of at least 0."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 0:
            raise self.refused(f"{key} is not a whole number of 0 or more")
        return self.value

    def flag(self, key: str) -> bool:
        """Return this scalar as true or false."""
        if not isinstance(self.value, bool):
            raise self.refused(f"{key} is neither true nor false")
        return self.value


def nearest(word: str, known: Collection[str]) -> str:
    """Name the known words that are most like this one; where none is, what there is.

    >>> nearest("methd", ["method", "action"])
    'the nearest: method'
    """
    near = difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.5)
    if near:
        return f"the nearest: {', '.join(near)}"
    return f"there is: {', '.join(sorted(known)[:40])}" if known else "there is none"


def read_written(path: Path) -> Written:
    """Read a YAML file; an empty one is null on line 1.

    Raises:
        UsageError: there is no such file, or it is not UTF-8; and as `parse_written`.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read", where=str(path), found=error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path.name} is not UTF-8 text", where=str(path), found=str(error)) from None
    return parse_written(text, str(path))


def parse_written(text: str, file: str) -> Written:
    """Read YAML that stands in this file.

    >>> parse_written("a: 1\\nb: [x]", "f.yaml").mapping("f")["b"].where
    'f.yaml:2'

    Raises:
        UsageError: not YAML, or nested too deeply; a key is written twice; an alias or a tag beyond plain data.
    """
    name = Path(file).name
    try:
        node = _compose(text, file)
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is not valid YAML", where=_where(file, error), found=_said(error)) from None
    return Written(f"{file}:1", None) if node is None else _written(node, file)


def _compose(text: str, file: str) -> yaml.Node | None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{file}:{event.start_mark.line + 1}" if event.start_mark else file
        if isinstance(event, yaml.AliasEvent):
            raise UsageError("aliases (*name) are not read: write it out", where=where)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise UsageError("this YAML is nested too deeply", where=where)
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _where(file: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{file}:{mark.line + 1}" if mark else file


def _said(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error)[:200]


def _written(node: yaml.Node, file: str) -> Written:
    where = f"{file}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        return Written(where, _mapping(node, file))
    if isinstance(node, yaml.SequenceNode):
        return Written(where, [_written(one, file) for one in node.value])
    try:
        value = yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        said = _said(error) if isinstance(error, yaml.YAMLError) else str(error)
        raise UsageError("this value cannot be read as plain data", where=where, found=said) from None
    return Written(where, value, str(node.value))


def _mapping(node: yaml.MappingNode, file: str) -> dict[str, Written]:
    found: dict[str, Written] = {}
    for key, value in node.value:
        where = f"{file}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise UsageError("a key is a word, not a list or a mapping", where=where)
        if key.value in found:
            raise UsageError(f"{key.value} is written twice", where=where, found=f"first at {found[key.value].where}")
        held = _written(value, file)
        # A scalar is cited where its key stands; what it holds inside keeps lines of its own.
        found[key.value] = Written(where, held.value, held.text)
    return found
