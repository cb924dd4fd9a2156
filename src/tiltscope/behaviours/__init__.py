"""The behaviour library: rules that say where a text shows a behaviour.

In:  a text.
Out: `RULES`, `rule(id)` (of the library, `often:3:` and one of those, or `says:` and a phrase),
     `harmful_looking(prompt)`, `sensitive_domain(…)`.
Refuses: an id that is not in the library (`UsageError` with the nearest one). Word rules are English.
"""

from __future__ import annotations

import difflib
import re

from tiltscope.behaviours.refusal import REFUSAL, harmful_looking, sensitive_domain
from tiltscope.behaviours.rule import OFTEN, Rule
from tiltscope.behaviours.saying import LONGEST_PHRASE, SAYS, is_said, said, said_lines, saying
from tiltscope.behaviours.style import STYLE
from tiltscope.behaviours.wording import WORDING
from tiltscope.errors import UsageError

__all__ = [
    "LONGEST_PHRASE",
    "OFTEN",
    "RULES",
    "SAYS",
    "Rule",
    "counted",
    "harmful_looking",
    "is_rule",
    "is_said",
    "rule",
    "said",
    "said_lines",
    "sensitive_domain",
]

RULES: tuple[Rule, ...] = STYLE + REFUSAL + WORDING
_BY_ID = {one.id: one for one in RULES}


def rule(id: str) -> Rule:
    """Return the rule with this id: one of the library, `often:3:` and one of those, or `says:` and a phrase.

    `often:3:bold` fires where bold text does, in texts where it does so three times or more (2 to 999).

    Raises:
        UsageError: no rule has this id (names the nearest), or what follows `says:` is no phrase.

    >>> rule("bold").marks("a **b** c")
    [(2, 7)]
    """
    if id in _BY_ID:
        return _BY_ID[id]
    if id.startswith(SAYS):
        return saying(id.removeprefix(SAYS))
    base, n_marks = counted(id)
    if n_marks > 1 and base in _BY_ID:
        return _BY_ID[base].often(n_marks)
    near = difflib.get_close_matches(id.rpartition(":")[2], _BY_ID, n=1, cutoff=0.0)[0]
    if id.startswith(OFTEN):
        near = f"{OFTEN}{max(n_marks, 2)}:{near}"
    raise UsageError(f"there is no behaviour {id!r} in the library", hint=f"the nearest is {near!r}")


def is_rule(id: str) -> bool:
    """Say whether `rule` knows this id."""
    return id.startswith(SAYS) or counted(id)[0] in _BY_ID


def counted(id: str) -> tuple[str, int]:
    """Return the id of the library's rule that an id speaks of, and how many marks of it there must be.

    >>> counted("often:3:bold"), counted("bold")
    (('bold', 3), ('bold', 1))
    """
    found = re.fullmatch(rf"{OFTEN}([2-9]|[1-9]\d{{1,2}}):(\w+)", id)
    return (found[2], int(found[1])) if found else (id, 1)
