"""Behaviours as measured things: a definition, a detector, prompts of its own, and where the detector is known to err.

In:  the library's own files, and YAML files that a person adds.
Out: `Behaviour`, `library()`, `behaviour(id)`, `load_behaviours(path)`; `Prompt`s by set.
Refuses: an unknown key, set, rule or expression, with file:line and the nearest name. It does not ask a model anything.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from tiltscope.behaviours import RULES, rule
from tiltscope.errors import UsageError
from tiltscope.pairs import Turn
from tiltscope.written import Written, nearest, parse_written, read_written

__all__ = [
    "ROLES",
    "Behaviour",
    "Detector",
    "KnownFailure",
    "Prompt",
    "as_prompts",
    "behaviour",
    "library",
    "load_behaviours",
    "on_prompts",
    "prompt_set",
    "prompt_sets",
    "prompts_of",
]

Unit = Literal["share", "count", "value"]
ROLES = ("target", "neighbouring", "unrelated")
"""target: prompts on which it may show; neighbouring: alike, where a change would be a spill; unrelated: far away."""


@dataclass(frozen=True)
class Prompt:
    """A prompt of an evaluation: its set, its turns, and what a check needs to know (the right sum, the rule asked)."""

    id: str
    set: str
    turns: tuple[Turn, ...]
    check: Mapping[str, str | int] = field(default_factory=dict, compare=False)

    @property
    def text(self) -> str:
        """The contents of all turns, joined by a blank line."""
        return "\n\n".join(turn.content for turn in self.turns)


Scorer = Callable[[Prompt, str], float]


@dataclass(frozen=True)
class Detector:
    """How an answer is scored. `kind`: rule, regex, callable, or judge (a question for a model, no rule of its own)."""

    kind: Literal["rule", "regex", "callable", "judge"]
    what: str
    score: Scorer | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class KnownFailure:
    """An answer of which the detector says the wrong thing; the tests hold it to this record."""

    text: str
    truth: bool
    why: str = ""


@dataclass(frozen=True)
class Behaviour:
    """What is measured. `sets` maps each role to names of prompt sets; `own` are prompts that came with its file.

    unit "share": a score is 0 or 1 (or nan: cannot say); "count": how often it shows; "value": any number, in
    `unit_name`. `wanted`: the direction a person would call good, or None.
    """

    id: str
    name: str
    definition: str
    unit: Unit
    wanted: Literal["more", "less"] | None
    detector: Detector
    sets: Mapping[str, tuple[str, ...]]
    own: tuple[Prompt, ...] = ()
    judge: str = ""
    unit_name: str = ""
    known_failures: tuple[KnownFailure, ...] = ()

    def score(self, prompt: Prompt, text: str) -> float:
        """Return the score of one answer; nan where the detector cannot say."""
        if self.detector.score is None:
            return math.nan
        value = float(self.detector.score(prompt, text))
        return float(value > 0) if self.unit == "share" and not math.isnan(value) else value


# --- prompt sets ------------------------------------------------------------------------------------------------------


def _data(name: str) -> str:
    return files("tiltscope.behaviours").joinpath("prompts").joinpath(name).read_text(encoding="utf-8")


def as_prompts(texts: Iterable[str | Sequence[Turn]], set: str) -> tuple[Prompt, ...]:
    """Return prompts of a set, one user turn each where only text is given; ids are `set/number`, from 1."""
    turns = [(Turn("user", one),) if isinstance(one, str) else tuple(one) for one in texts]
    return tuple(Prompt(f"{set}/{number}", set, one) for number, one in enumerate(turns, start=1))


def prompt_sets() -> tuple[str, ...]:
    """Return the names of the committed prompt sets."""
    folder = files("tiltscope.behaviours").joinpath("prompts")
    plain = sorted(one.name.removesuffix(".txt") for one in folder.iterdir() if one.name.endswith(".txt"))
    return (*plain, "arithmetic", "instructions")


@cache
def prompt_set(name: str) -> tuple[Prompt, ...]:
    """Return the prompts of a committed set; raises `UsageError` naming the nearest sets."""
    from tiltscope.behaviours import capability

    if name in ("arithmetic", "instructions"):
        return capability.arithmetic() if name == "arithmetic" else capability.instructions()
    if name not in prompt_sets():
        raise UsageError(f"there is no prompt set {name!r}", hint=nearest(name, prompt_sets()))
    lines = [line.strip() for line in _data(f"{name}.txt").splitlines()]
    return as_prompts([line for line in lines if line and not line.startswith("#")], name)


def prompts_of(behaviours: Sequence[Behaviour], *, roles: Sequence[str] = ROLES) -> tuple[Prompt, ...]:
    """Return every prompt that these behaviours need in these roles, each once.

    Names of sets that are not committed (a person's own prompts) are left to the caller to add.
    """
    found: dict[str, Prompt] = {}
    for one in behaviours:
        wanted = [name for role in roles for name in one.sets.get(role, ())]
        own = {prompt.set: [p for p in one.own if p.set == prompt.set] for prompt in one.own}
        for name in wanted:
            known: Sequence[Prompt] = own.get(name) or (prompt_set(name) if name in prompt_sets() else ())
            found |= {prompt.id: prompt for prompt in known}
    return tuple(found.values())


def on_prompts(behaviours: Sequence[Behaviour], sets: Mapping[str, tuple[str, ...]]) -> tuple[Behaviour, ...]:
    """Return the behaviours with other sets in some roles, say {"target": ("held_out",)}."""
    return tuple(replace(one, sets={**one.sets, **sets}) for one in behaviours)


# --- behaviours from YAML ---------------------------------------------------------------------------------------------

_KEYS = (
    *("id", "name", "definition", "unit", "unit_name", "wanted", "rule", "regex", "callable", "judge"),
    *(*ROLES, "known_failures"),
)


@cache
def library() -> tuple[Behaviour, ...]:
    """Return the behaviours that come with Tiltscope."""
    return _behaviours(parse_written(_data("behaviours.yaml"), "behaviours.yaml"))


def behaviour(id: str, own: Sequence[Behaviour] = ()) -> Behaviour:
    """Return a behaviour by its id: one of `own`, or of the library.

    Raises:
        UsageError: none has this id; names the nearest.
    """
    found = {one.id: one for one in (*library(), *own)}
    if id in found:
        return found[id]
    where = "the behaviour library" + (" and your own" if own else "")
    raise UsageError(f"there is no measured behaviour {id!r}", where=where, found=id, hint=nearest(id, found))


def load_behaviours(path: Path) -> tuple[Behaviour, ...]:
    """Read a person's behaviours: a YAML file with one behaviour, or a list of them (docs/evaluation.md).

    `callable: package.module:function` imports that module: read such files only from people you trust.

    Raises:
        UsageError: the file cannot be used; with file:line, the key and the nearest known one.
    """
    return _behaviours(read_written(path))


def _behaviours(body: Written) -> tuple[Behaviour, ...]:
    made = [_behaviour(one) for one in body.entries()]
    seen: dict[str, int] = {}
    for here, one in zip(body.entries(), made, strict=True):
        if one.id in seen:
            raise here.refused(f"the behaviour {one.id!r} is given twice", found=f"first on line {seen[one.id]}")
        seen[one.id] = here.line
    return tuple(made)


def _behaviour(body: Written) -> Behaviour:
    keys = body.mapping("a behaviour", _KEYS)
    for needed in ("id", "definition", "unit", "target"):
        if needed not in keys:
            raise body.refused(f"the key {needed!r} is missing")
    id = keys["id"].prose()
    if not re.fullmatch(r"[a-z][a-z0-9_]*", id):
        raise keys["id"].refused("an id is lower-case letters, digits and _", found=id)
    unit = _one_of(keys["unit"], get_args(Unit))
    wanted = _one_of(keys["wanted"], ("more", "less")) if keys.get("wanted", body).value in ("more", "less") else None
    if "wanted" in keys and wanted is None and keys["wanted"].value is not None:
        raise keys["wanted"].refused("wanted is more, less, or left out", found=keys["wanted"].shown)
    own: list[Prompt] = []
    sets = {role: _sets(keys[role], f"{id}_{role}", own) for role in ROLES if role in keys}
    return Behaviour(
        id,
        keys["name"].prose() if "name" in keys else id.replace("_", " "),
        keys["definition"].prose(),
        unit,  # type: ignore[arg-type]
        wanted,  # type: ignore[arg-type]
        _detector(body, unit),
        sets,
        tuple(own),
        keys["judge"].prose() if "judge" in keys else "",
        keys["unit_name"].prose() if "unit_name" in keys else "",
        _failures(keys["known_failures"]) if "known_failures" in keys else (),
    )


def _one_of(here: Written, known: Sequence[str]) -> str:
    if here.value not in known:
        raise here.refused(f"one of {', '.join(known)} is needed here", found=here.shown)
    return str(here.value)


def _sets(here: Written, name: str, own: list[Prompt]) -> tuple[str, ...]:
    """Names of sets (`set: everyday`), and prompts written out, which become a set of their own."""
    names, texts = [], []
    for one in here.entries():
        text = one.prose()
        wanted = text.removeprefix("set:").strip()
        if not text.startswith("set:"):
            texts.append(text)
        elif wanted in prompt_sets():
            names.append(wanted)
        else:
            raise one.refused(f"there is no prompt set {wanted!r}", hint=nearest(wanted, prompt_sets()))
    own.extend(as_prompts(texts, name))
    return (*names, name) if texts else tuple(names)


def _failures(here: Written) -> tuple[KnownFailure, ...]:
    made = []
    for one in here.entries():
        keys = one.mapping("a known failure", ("text", "truth", "why"))
        if "text" not in keys or not isinstance(keys.get("truth", one).value, bool):
            raise one.refused("a known failure has a text, and truth: true or false")
        made.append(KnownFailure(str(keys["text"].value), keys["truth"].value, str(keys["why"].value or "")))
    return tuple(made)


# --- detectors --------------------------------------------------------------------------------------------------------


def _detector(body: Written, unit: str) -> Detector:
    keys = body.mapping("a behaviour")
    given = [kind for kind in ("rule", "regex", "callable") if kind in keys]
    if len(given) > 1:
        raise keys[given[1]].refused(f"one detector is enough: {' and '.join(given)} are given")
    if not given:
        if "judge" not in keys:
            raise body.refused("a detector is missing", hint="give rule, regex, callable or judge")
        return Detector("judge", keys["judge"].prose())
    here = keys[given[0]]
    if given[0] == "rule":
        return _by_rule(here, unit)
    return _by_regex(here, unit) if given[0] == "regex" else _by_callable(here)


def _by_rule(here: Written, unit: str) -> Detector:
    ids = [one.prose() for one in here.entries()]
    for one, id in zip(here.entries(), ids, strict=True):
        if id not in {known.id for known in RULES}:
            raise one.refused(f"there is no rule {id!r}", hint=nearest(id, [known.id for known in RULES]))
    rules = [rule(id) for id in ids]

    def score(prompt: Prompt, text: str) -> float:
        if unit == "share":
            return float(any(one.present(text) for one in rules))
        return float(sum(len(one.marks(text)) for one in rules))

    return Detector("rule", " or ".join(ids), score)


def _by_regex(here: Written, unit: str) -> Detector:
    source = here.prose()
    try:
        pattern = re.compile(source, re.MULTILINE)
    except re.error as error:
        raise here.refused("this is no regular expression", found=f"{source}: {error}") from error

    def score(prompt: Prompt, text: str) -> float:
        if unit == "share":
            return float(pattern.search(text) is not None)
        return float(sum(1 for _ in pattern.finditer(text)))

    return Detector("regex", source, score)


def _by_callable(here: Written) -> Detector:
    """`module:function`; the function takes the answer, or (prompt, answer), and returns a number."""
    module, _, name = here.prose().partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise here.refused("this function cannot be imported", found=f"{here.prose()}: {error}") from error
    if not callable(function):
        raise here.refused("this is not a function", found=here.prose())
    return Detector("callable", here.prose(), _two_arguments(function))


def _two_arguments(function: Callable[..., float]) -> Scorer:
    import inspect

    if len(inspect.signature(function).parameters) >= 2:
        return function
    return lambda prompt, text: function(text)
