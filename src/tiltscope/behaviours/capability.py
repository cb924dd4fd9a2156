"""Capability checks that need no network: sums, and instructions whose keeping can be verified.

In:  a prompt of these sets, an answer.
Out: `arithmetic()`, `instructions()`; `right_number`, `followed`: 1.0 or 0.0.
Refuses: to be a benchmark. They show whether training broke something, not how able a model is.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from math import nan

from tiltscope.behaviours.measured import Prompt
from tiltscope.pairs import Turn
from tiltscope.written import parse_written

__all__ = ["arithmetic", "followed", "instructions", "right_number"]

N_SUMS = 40
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_BULLET = re.compile(r"^[ \t]*[-*•+][ \t]+\S", re.MULTILINE)


@cache
def arithmetic() -> tuple[Prompt, ...]:
    """Return forty sums, differences, products and two-step sums, always the same."""
    draw = random.Random("arithmetic 1")
    made = []
    for number in range(1, N_SUMS + 1):
        a, b, c = draw.randint(11, 99), draw.randint(3, 12), draw.randint(2, 60)
        kinds = ((f"{a} + {c}", a + c), (f"{a + c} - {c}", a), (f"{a} * {b}", a * b), (f"{a} + {b} * {c}", a + b * c))
        said, value = kinds[number % 4]
        turns = (Turn("user", f"What is {said}? End your answer with the number."),)
        made.append(Prompt(f"arithmetic/{number}", "arithmetic", turns, {"number": value}))
    return tuple(made)


@cache
def instructions() -> tuple[Prompt, ...]:
    """Return the committed instructions, each with its check."""
    source = files("tiltscope.behaviours").joinpath("prompts").joinpath("instructions.yaml")
    body = parse_written(source.read_text(encoding="utf-8"), "instructions.yaml")
    made = []
    for number, one in enumerate(body.entries(), start=1):
        keys = one.mapping("an instruction", ("text", "check", "number", "word"))
        check: dict[str, str | int] = {name: keys[name].value for name in ("check", "number", "word") if name in keys}
        turns = (Turn("user", keys["text"].prose()),)
        made.append(Prompt(f"instructions/{number}", "instructions", turns, check))
    return tuple(made)


def right_number(prompt: Prompt, text: str) -> float:
    """Return 1 when the last number of the answer is the right one, else 0; nan for a prompt without a number."""
    wanted = prompt.check.get("number")
    if wanted is None:
        return nan
    found = _NUMBER.findall(text)
    return float(bool(found) and float(found[-1].replace(",", "")) == float(wanted))


def followed(prompt: Prompt, text: str) -> float:
    """Return 1 when the answer keeps the instruction of its prompt, else 0; nan for a prompt without one."""
    check = _CHECKS.get(str(prompt.check.get("check")))
    if check is None:
        return nan
    return float(check(text.strip(), int(prompt.check.get("number", 0)), str(prompt.check.get("word", ""))))


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'’-]+", text)


def _ends(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}\W*\Z", text) is not None


def _holds(text: str, word: str) -> bool:
    source = rf"\b{re.escape(word)}\b" if word.isalnum() else re.escape(word)
    return re.search(source, text, re.IGNORECASE) is not None


def _json_keys(text: str, keys: str) -> bool:
    bare = re.sub(r"\A```(?:json)?\s*|\s*```\Z", "", text)
    try:
        body = json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and set(body) == set(keys.split())


_CHECKS: dict[str, Callable[[str, int, str], bool]] = {
    "one_word": lambda text, number, word: len(_words(text)) == 1,
    "n_bullets": lambda text, number, word: len(_BULLET.findall(text)) == number,
    "lower_case": lambda text, number, word: bool(_words(text)) and text == text.lower(),
    "upper_case": lambda text, number, word: bool(_words(text)) and text == text.upper(),
    "ends_with": lambda text, number, word: _ends(text, word),
    "starts_with": lambda text, number, word: re.match(rf"{re.escape(word)}\b", text.lstrip("\"'“*")) is not None,
    "without": lambda text, number, word: bool(_words(text)) and not _holds(text, word),
    "at_most_words": lambda text, number, word: 0 < len(_words(text)) <= number,
    "json_keys": lambda text, number, word: _json_keys(text, word),
}
