"""LIMITS.yaml: what must not move, as rules.

In:  a YAML file that a person wrote.
Out: `Limits`: settings, and rules as values.
Refuses: an empty gate, an unknown key, and a rule outside the grammar, with file:line and what would have been read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tiltscope.written import Written, nearest, read_written

__all__ = ["GRAMMAR", "DataRule", "Limits", "Rule", "read_limits"]

GRAMMAR = """\
at most +2 points vs base      no more than two points (of a hundred) above base; shares
at most +1 %                   no more than one per cent above it; counts and values
at most +0.5                   no more than 0.5 above it, in the behaviour's own unit; counts and values
at least -2 points             the same from below
within 3 points                neither way
not lower, not higher          the same with the tolerance of the settings (2 points, or 2 %)
not lower by more than 0.5     the same with a tolerance of its own, in points, % or the behaviour's own unit
is at most 10 %                the level itself, whatever base does; shares (counts and values: a number)
is at least 90 %
For data:   no confirmed "more" of bold          no confirmed "less" of bold          no confirmed lean of bold
For data:   no new lean                          no new lean in 5 % of pairs
For data.NAME:   lean at most +0.05              lean at least -0.05                  lean within 0.05"""

_NUMBER = r"(?P<number>[+-]?\d+(?:\.\d+)?)"
_VERSUS = r"(?: (?:vs|versus|of) (?P<versus>[\w.-]+))?"
_UNIT = r"(?: ?(?P<unit>points?|%))?"
_CHANGE = re.compile(rf"(?P<how>at most|at least|within) {_NUMBER}{_UNIT}{_VERSUS}")
_NOT = re.compile(rf"not (?P<how>lower|higher){_VERSUS}(?: by more than (?P<number>\d+(?:\.\d+)?){_UNIT})?")
_LEVEL = re.compile(rf"is (?P<how>at most|at least) {_NUMBER}{_UNIT}")
_CONFIRMED = re.compile(r"no confirmed (?P<way>[\"'“]?(?:more|less)[\"'”]?|lean) of (?P<what>.+)")
_NEW = re.compile(r"no new lean(?: in (?P<share>\d+(?:\.\d+)?) ?% of pairs)?")
_LEAN = re.compile(rf"lean (?P<how>at most|at least|within) {_NUMBER}")

_SEEN = 10
"""Per cent of pairs: what `no new lean` must be able to see where the rule does not say."""

Unit = Literal["points", "%", ""]


@dataclass(frozen=True)
class Rule:
    """A limit on one behaviour: `low` to `high` is allowed (either may be infinite).

    kind "change": the difference from `versus`; "relative": the same as a share of it; "level": the level itself.
    Ends are in shares (0.02) for points and %. tolerance: the ends are the settings' tolerance, 2 points or 2 %.
    """

    name: str
    text: str
    where: str
    kind: Literal["change", "relative", "level"]
    low: float
    high: float
    unit: Unit
    versus: str | None = None
    tolerance: bool = False


@dataclass(frozen=True)
class DataRule:
    """A limit on data: no confirmed finding of these directions about `what`, or its lean within low and high.

    seen: for "no new lean", the share of pairs (0 to 1) in which a new lean must be visible for a pass.
    """

    name: str
    text: str
    where: str
    what: str
    directions: tuple[str, ...] = ()
    low: float = float("-inf")
    high: float = float("inf")
    seen: float | None = None


@dataclass(frozen=True)
class Limits:
    """A gate. arm None: the last one; versus None: the first; tolerance in points and per cent."""

    rules: tuple[Rule, ...]
    data_rules: tuple[DataRule, ...]
    file: str
    arm: str | None = None
    versus: str | None = None
    tolerance: float = 2.0
    min_prompts: int = 10
    min_seeds: int = 1


_SETTINGS = ("arm", "versus", "tolerance", "min_prompts", "min_seeds")


def read_limits(path: Path) -> Limits:
    """Read a gate.

    Raises:
        UsageError: it cannot be read, is empty, or holds something else than rules; with file:line.
    """
    body = read_written(path)
    hint = "write one rule per line under `limits:`, or draft it: tiltscope gate --draft"
    if body.value is None:
        raise body.refused("this gate is empty", hint=hint)
    keys = body.mapping("a gate", ("limits", "settings"))
    if "limits" not in keys or not keys["limits"].value:
        raise body.refused("this gate has no limits", hint=hint)
    found = list(_rules(keys["limits"]))
    settings = _settings(keys["settings"]) if "settings" in keys else {}
    rules = tuple(one for one in found if isinstance(one, Rule))
    data = tuple(one for one in found if isinstance(one, DataRule))
    held = {name: settings[name].prose() for name in ("arm", "versus") if name in settings}
    counts = {
        name: int(settings[name].number(name, low=1, high=1e6))
        for name in ("min_prompts", "min_seeds")
        if name in settings
    }
    tolerance = settings["tolerance"].number("tolerance", low=0, high=100) if "tolerance" in settings else 2.0
    return Limits(
        rules,
        data,
        str(path),
        held.get("arm"),
        held.get("versus"),
        tolerance,
        counts.get("min_prompts", 10),
        counts.get("min_seeds", 1),
    )


def _settings(here: Written) -> dict[str, Written]:
    return here.mapping("settings", _SETTINGS)


def _rules(here: Written) -> Iterator[Rule | DataRule]:
    for name, value in here.mapping("limits").items():
        for one in value.entries():
            text = " ".join(one.prose().split())
            if name == "data" or name.startswith("data."):
                yield _data_rule(name, text, one)
            else:
                yield _rule(name, text, one)


def _rule(name: str, text: str, here: Written) -> Rule:
    where = here.where
    if match := _LEVEL.fullmatch(text):
        unit = _unit(match["unit"])
        if unit == "points":
            raise here.refused("a level is given in %", found=text, hint=f"is {match['how']} {match['number']} %")
        number = float(match["number"]) / (100 if unit else 1)
        low, high = _ends(match["how"], number)
        return Rule(name, text, where, "level", low, high, unit)
    if match := _NOT.fullmatch(text):
        return _not(name, text, where, match)
    match = _CHANGE.fullmatch(text)
    if match is None:
        raise here.refused("this rule cannot be read", found=f"{name}: {text}", hint=_nearest_form(text))
    unit = _unit(match["unit"])
    number = float(match["number"]) / (100 if unit else 1)
    if match["how"] == "within" and number < 0:
        raise here.refused("`within` takes a number above 0", found=text)
    low, high = _ends(match["how"], number)
    kind: Literal["change", "relative"] = "relative" if unit == "%" else "change"
    return Rule(name, text, where, kind, low, high, unit, match["versus"])


def _not(name: str, text: str, where: str, match: re.Match[str]) -> Rule:
    """`not lower`, `not higher`: one end; its distance comes from the settings unless it is written out."""
    unit = _unit(match["unit"])
    width = float(match["number"]) / (100 if unit else 1) if match["number"] else 0.0
    low, high = (-width, float("inf")) if match["how"] == "lower" else (float("-inf"), width)
    kind: Literal["change", "relative"] = "relative" if unit == "%" else "change"
    return Rule(name, text, where, kind, low, high, unit, match["versus"], tolerance=not match["number"])


def _data_rule(name: str, text: str, here: Written) -> DataRule:
    where = here.where
    if name == "data" and (match := _CONFIRMED.fullmatch(text)):
        way = match["way"].strip("\"'“”")
        directions = ("more", "less") if way == "lean" else (way,)
        return DataRule(name, text, where, match["what"].strip(), directions)
    if name == "data" and (match := _NEW.fullmatch(text)):
        return DataRule(name, text, where, "", seen=float(match["share"] or _SEEN) / 100)
    if name.startswith("data.") and (match := _LEAN.fullmatch(text)):
        low, high = _ends(match["how"], float(match["number"]))
        if low > high:
            raise here.refused("`within` takes a number above 0", found=text)
        return DataRule(name, text, where, name.removeprefix("data."), (), low, high)
    raise here.refused("this rule about data cannot be read", found=f"{name}: {text}", hint=_nearest_form(text))


def _ends(how: str, number: float) -> tuple[float, float]:
    if how == "within":
        return -number, number
    return (float("-inf"), number) if how == "at most" else (number, float("inf"))


def _unit(text: str | None) -> Unit:
    return "" if not text else "%" if text == "%" else "points"


def _nearest_form(text: str) -> str:
    forms = [line.split("  ")[0].strip() for line in GRAMMAR.splitlines()]
    forms = [part.strip() for form in forms for part in form.split(", ")]
    return nearest(text, [form for form in forms if form and not form.startswith("For ")])
