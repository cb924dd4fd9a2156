"""The behaviour library: rules that say where a text shows a behaviour.

In:  a text.
Out: `RULES`, `rule(id)` (of the library, or `says:` and a phrase), `harmful_looking(prompt)`, `sensitive_domain(…)`.
Refuses: an id that is not in the library (`UsageError` with the nearest one). Word rules are English.
"""

from __future__ import annotations

import difflib

from tiltscope.behaviours.refusal import REFUSAL, harmful_looking, sensitive_domain
from tiltscope.behaviours.rule import Rule
from tiltscope.behaviours.saying import LONGEST_PHRASE, SAYS, is_said, said, said_lines, saying
from tiltscope.behaviours.style import STYLE
from tiltscope.behaviours.wording import WORDING
from tiltscope.errors import UsageError

__all__ = [
    "LONGEST_PHRASE",
    "RULES",
    "SAYS",
    "Rule",
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
    """Return the rule with this id: one of the library, or `says:` and a phrase.

    Raises:
        UsageError: no rule has this id (names the nearest), or what follows `says:` is no phrase.

    >>> rule("bold").marks("a **b** c")
    [(2, 7)]
    """
    if id in _BY_ID:
        return _BY_ID[id]
    if id.startswith(SAYS):
        return saying(id.removeprefix(SAYS))
    near = difflib.get_close_matches(id, _BY_ID, n=1, cutoff=0.0)
    raise UsageError(f"there is no behaviour {id!r} in the library", hint=f"the nearest is {near[0]!r}")


def is_rule(id: str) -> bool:
    """Say whether `rule` knows this id."""
    return id in _BY_ID or id.startswith(SAYS)
