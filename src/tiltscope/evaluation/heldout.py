"""Were the prompts of an evaluation held out of what a model was trained on?

In:  an evaluation; the pairs that were trained on.
Out: how many of its prompts the pairs hold.
Refuses: an evaluation of which every prompt is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tiltscope.errors import UsageError
from tiltscope.evaluation.evaluate import Evaluation
from tiltscope.pairs import Pair, Turn

__all__ = ["prompts_in"]


def prompts_in(evaluation: Evaluation, rows: Iterable[Pair]) -> int:
    """Return how many prompts of the evaluation are prompts of these pairs; white space does not count.

    Raises:
        UsageError: all of them are.
    """
    known = {_words(row.prompt) for row in rows}
    n = sum(_words(one.turns) in known for one in evaluation.prompts)
    if n == len(evaluation.prompts):
        raise UsageError(
            "every prompt of this evaluation is one of the study's pairs",
            where=evaluation.name,
            found=f"{n} of {n}: what was trained on says nothing of other prompts",
            hint="tiltscope evaluate MODEL --out EVAL --data DATA --not-in STUDY",
        )
    return n


def _words(turns: Sequence[Turn]) -> tuple[tuple[str, str], ...]:
    return tuple((turn.role, " ".join(turn.content.split())) for turn in turns)
