"""What can be said of preference pairs before any model loads.

In:  `Pairs`.
Out: a JSON-able product (`check_pairs`), and its terminal form (`render_check`).
Refuses: to judge. Rates of surface traits with intervals; whether a lean is wanted is for a person to say.
"""

from __future__ import annotations

from typing import Any

from tiltscope.checklist.describe import describe
from tiltscope.checklist.preflight import preflight
from tiltscope.checklist.render import render_check
from tiltscope.errors import UsageError
from tiltscope.pairs import Pairs

__all__ = ["check_pairs", "render_check"]


def check_pairs(pairs: Pairs, *, max_tokens: int = 1024, seed: int = 0) -> dict[str, Any]:
    """Describe a dataset and run the preflight checklist; docs/data.md lists the fields.

    `max_tokens` is the length at which reading and training will cut; without a tokenizer what it cuts is an estimate
    from UTF-8 bytes. `seed` draws the sample pairs. Rates and shares lie in 0 … 1, differences in -1 … 1; intervals are
    95 %, with one witness per group (CR2), null where they cannot be computed.

    Raises:
        UsageError: `max_tokens` is below 1.
    """
    if max_tokens < 1:
        raise UsageError("a length limit is at least one token", found=str(max_tokens), hint="--max-length 1024")
    return {"format_version": 1, **describe(pairs, max_tokens=max_tokens, seed=seed), "checklist": preflight(pairs)}
