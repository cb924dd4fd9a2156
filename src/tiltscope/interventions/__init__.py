"""Decisions become data: each method is a pure function, recipe to recipe, and `prepare` folds a plan over them.

In:  a `Recipe`, the wishes of a plan, and what was measured for each (scores, marked spans, ratios, vectors).
Out: the `Recipe` the trainer reads, and what every decision changed: rows, characters, offsets, overlap, conflicts.
Refuses: a score that says nothing, a strength below 0, a wish its method cannot carry out, a plan that leaves no row.
It knows neither the model nor the features: everything it needs was measured before (docs/interventions.md).
"""

from __future__ import annotations

from tiltscope.interventions.conflicts import Conflict, Overlap
from tiltscope.interventions.context import activation_steering, inoculation_prompting
from tiltscope.interventions.filtering import example_filtering, token_filtering
from tiltscope.interventions.prepare import METHODS, Change, Histogram, Marked, Prepared, apply, prepare
from tiltscope.interventions.shaping import inoculation_ratio, reward_shaping, steering_ratio
from tiltscope.interventions.signs import SIDE_OF, context_sign
from tiltscope.interventions.wishes import Scored, Wish

__all__ = [
    "METHODS",
    "SIDE_OF",
    "Change",
    "Conflict",
    "Histogram",
    "Marked",
    "Overlap",
    "Prepared",
    "Scored",
    "Wish",
    "activation_steering",
    "apply",
    "context_sign",
    "example_filtering",
    "inoculation_prompting",
    "inoculation_ratio",
    "prepare",
    "reward_shaping",
    "steering_ratio",
    "token_filtering",
]
