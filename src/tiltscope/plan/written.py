"""YAML as it was written: every value with the line it stands on.

In:  the bytes of a YAML file.
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

from tiltscope.errors import DataError, UsageError

__all__ = ["Written", "nearest", "read_written"]


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
            return f"a mapping with the keys {', '.join(self.value)}"[:200]
        if isinstance(self.value, list):
            return f"a list of {len(self.value)}"
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

    def mapping(self, key: str, known: Collection[str]) -> Written:
        """Return this mapping if it has no other keys than the known ones."""
        if not isinstance(self.value, dict):
            raise self.refused(f"{key} is not a mapping (key: value)")
        for name, held in self.value.items():
            if name not in known:
                raise held.refused(f"{key} has no key {name!r}", found=name, hint=nearest(name, known))
        return self

    def items(self, key: str) -> list[Written]:
        """Return the entries of this list."""
        if not isinstance(self.value, list):
            raise self.refused(f"{key} is not a list", hint=f"write {key}: [one, two]")
        return list(self.value)

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

    def number(self, key: str) -> float:
        """Return this scalar as a finite number; 1e-1, which YAML 1.1 reads as text, is one."""
        if isinstance(self.value, str) and re.fullmatch(r"[-+]?[0-9.]+[eE][-+]?[0-9]+", self.value):
            return replace(self, value=float(self.value)).number(key)
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.refused(f"{key} is not a number")
        if not math.isfinite(self.value):
            raise self.refused(f"{key} is not a finite number")
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
    """Name the known word that is most like this one.

    >>> nearest("methd", ["method", "action"])
    "the nearest is 'method'"
    """
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.0)
    return f"the nearest is {near[0]!r}" if near else "there is none"


def read_written(path: Path) -> Written:
    """Read a YAML file.

    Raises:
        UsageError: there is no such file; a key is written twice; an alias or a tag beyond plain data.
        DataError: not UTF-8, or not YAML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read", where=str(path), found=error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text", where=str(path), found=str(error)) from None
    except yaml.YAMLError as error:
        raise DataError(f"{path.name} is not valid YAML", where=_where(path, error), found=_said(error)) from None
    except RecursionError:
        raise DataError(f"{path.name} is nested too deeply", where=str(path)) from None
    if node is None:
        raise DataError(f"{path.name} is empty", where=str(path))
    return _written(node, str(path), set())


def _where(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{path}:{mark.line + 1}" if mark else str(path)


def _said(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error)[:200]


def _written(node: yaml.Node, file: str, seen: set[int]) -> Written:
    where = f"{file}:{node.start_mark.line + 1}"
    if id(node) in seen:
        raise UsageError("an alias (*name) stands here; a plan is written out", where=where)
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        return Written(where, _mapping(node, file, seen))
    if isinstance(node, yaml.SequenceNode):
        return Written(where, [_written(one, file, seen) for one in node.value])
    try:
        value = yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        said = _said(error) if isinstance(error, yaml.YAMLError) else str(error)
        raise UsageError("this value cannot be read as plain data", where=where, found=said) from None
    return Written(where, value, str(node.value))


def _mapping(node: yaml.MappingNode, file: str, seen: set[int]) -> dict[str, Written]:
    found: dict[str, Written] = {}
    for key, value in node.value:
        where = f"{file}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise UsageError("a key is a word, not a list or a mapping", where=where)
        if key.value in found:
            raise UsageError(f"{key.value} is written twice", where=where, found=f"first at {found[key.value].where}")
        held = _written(value, file, seen)
        # A scalar is cited where its key stands; what it holds inside keeps lines of its own.
        found[key.value] = Written(where, held.value, held.text)
    return found
