"""YAML that a person wrote, with the line of every value.

In:  text and the name of its file.
Out: `Located` values: text, numbers, lists and mappings, each knowing file and line.
Refuses: invalid YAML, a key given twice, keys that are no text, anchors and aliases; always with file:line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltscope.errors import UsageError

__all__ = ["Located", "nearest", "parse_yaml", "read_yaml"]

_DEEPEST = 20


@dataclass(frozen=True)
class Located:
    """A value and where it stands. value: None, bool, int, float, str, tuple of `Located`, or dict of text to them."""

    value: Any
    file: str
    line: int

    def error(self, what: str, *, found: str = "", hint: str = "") -> UsageError:
        """Return a refusal that names this place."""
        return UsageError(what, where=f"{self.file}:{self.line}", found=found, hint=hint)

    def mapping(self, known: Iterable[str] | None = None) -> Mapping[str, Located]:
        """Return the mapping held here; with `known`, another key is refused with the nearest one."""
        if not isinstance(self.value, dict):
            raise self.error("keys and values are needed here", found=self.shown)
        names = None if known is None else list(known)
        for key, one in self.value.items():
            if names is not None and key not in names:
                raise one.error(f"there is no key {key!r} here", hint=nearest(key, names))
        return self.value

    def items(self) -> tuple[Located, ...]:
        """Return the list held here; a single value counts as a list of one."""
        return self.value if isinstance(self.value, tuple) else (self,)

    def text(self) -> str:
        """Return the text held here."""
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.error("text is needed here", found=self.shown)
        return self.value.strip()

    def number(self, *, low: float = float("-inf"), high: float = float("inf")) -> float:
        """Return the number held here, between low and high."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.error(f"a number from {low:g} to {high:g} is needed here", found=self.shown)
        return float(value)

    @property
    def shown(self) -> str:
        """The value in at most 80 characters."""
        kind = {dict: "a mapping", tuple: "a list", type(None): "nothing"}.get(type(self.value))
        return kind or repr(self.value)[:80]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "the nearest is …" for a name that is not among `known`, or what there is."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"the nearest: {', '.join(near)}"
    return f"there is: {', '.join(sorted(names)[:40])}" if names else "there is none"


def read_yaml(path: Path) -> Located:
    """Read a YAML file; raises `UsageError` when it is absent or not UTF-8."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("this file cannot be read", where=str(path), found=str(error)) from error


def parse_yaml(text: str, file: str) -> Located:
    """Parse YAML; an empty text is `Located(None)`.

    >>> parse_yaml("a: 1\\nb: [x]", "f.yaml").mapping()["b"].line
    2
    """
    import yaml

    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            here = Located(None, file, event.start_mark.line + 1 if event.start_mark else 1)
            if isinstance(event, yaml.AliasEvent):
                raise here.error("aliases (*name) are not read here")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise here.error("this YAML is nested too deeply")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return Located(None, file, 1) if node is None else _located(node, file)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else file
        raise UsageError("this is not valid YAML", where=where, found=str(error).replace("\n", " ")[:200]) from error


def _located(node: Any, file: str) -> Located:
    import yaml

    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return Located(tuple(_located(one, file) for one in node.value), file, line)
    if not isinstance(node, yaml.MappingNode):
        if node.tag.startswith("tag:yaml.org,2002:"):
            return Located(yaml.SafeLoader("").construct_object(node), file, line)
        raise Located(None, file, line).error("tags are not read here", found=node.tag)
    held: dict[str, Located] = {}
    for key, value in node.value:
        here = Located(getattr(key, "value", None), file, key.start_mark.line + 1)
        if not isinstance(key, yaml.ScalarNode):
            raise here.error("a key must be text")
        if key.value in held:
            raise here.error(f"the key {key.value!r} is given twice", found=f"first on line {held[key.value].line}")
        held[key.value] = _located(value, file)
    return Located(held, file, line)
