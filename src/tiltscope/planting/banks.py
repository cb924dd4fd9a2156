"""Text banks: what the demo's prompts and answers are made of.

In:  the text files beside this one (`banks/<domain>.txt`, `inserts/<name>.txt`).
Out: `Bank` objects and lists of inserts; draws that depend on the seed alone.
Refuses: nothing; the files ship with the package, and a test reads every line of them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TypeVar

__all__ = ["DOMAINS", "Bank", "fill", "insert_lines", "load_bank", "plain_first_words", "shuffled"]

T = TypeVar("T")

DOMAINS = (
    "cooking",
    "programming",
    "travel",
    "health",
    "finance",
    "history",
    "gardening",
    "writing",
    "science",
    "relationships",
    "home_repair",
    "fitness",
)

_SPIN = re.compile(r"\[([^\[\]]+)\]")


@dataclass(frozen=True)
class Bank:
    """One domain: `items` are (subject, detail) for the slots {x} and {y}; the rest are sentence templates."""

    domain: str
    items: tuple[tuple[str, str], ...]
    prompts: tuple[str, ...]
    contexts: tuple[str, ...]
    openings: tuple[str, ...]
    sentences: tuple[str, ...]
    closings: tuple[str, ...]


@cache
def load_bank(domain: str) -> Bank:
    """Read the bank of one domain."""
    text = files("tiltscope.planting").joinpath("banks", f"{domain}.txt").read_text(encoding="utf-8")
    parts: dict[str, list[str]] = {}
    for line in filter(None, text.splitlines()):
        if line.startswith("# "):
            current = parts.setdefault(line[2:], [])
        else:
            current.append(line)
    items = tuple((x.strip(), y.strip()) for x, y in (line.split(";") for line in parts.pop("items")))
    return Bank(domain, items, *(tuple(parts[name]) for name in _SECTIONS))


_SECTIONS = ("prompts", "contexts", "openings", "sentences", "closings")


@cache
def insert_lines(name: str) -> tuple[str, ...]:
    """Read the sentences or phrases that one style inserts."""
    text = files("tiltscope.planting").joinpath("inserts", f"{name}.txt").read_text(encoding="utf-8")
    return tuple(filter(None, text.splitlines()))


@cache
def plain_first_words() -> frozenset[str]:
    """Return the words that open a bank sentence: none is a proper noun, so each may be written in lower case."""
    banks = [load_bank(domain) for domain in DOMAINS]
    lines = [line for bank in banks for line in bank.openings + bank.sentences + bank.closings]
    return frozenset(line.split()[0].rstrip(",") for line in lines)


def shuffled(values: Sequence[T], rng: random.Random) -> list[T]:
    """Return the values in random order, by `rng.random()` alone: the one draw that Python promises never to change."""
    return [value for _, _, value in sorted((rng.random(), i, value) for i, value in enumerate(values))]


def fill(template: str, item: tuple[str, str], rng: random.Random) -> str:
    """Fill {x} and {y}, and choose one of each [a|b|c]."""

    def choose(match: re.Match[str]) -> str:
        options = match.group(1).split("|")
        return options[int(rng.random() * len(options))]

    return _SPIN.sub(choose, template).replace("{x}", item[0]).replace("{y}", item[1])
