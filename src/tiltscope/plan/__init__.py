"""The plan: what a person decides may be learned from a dataset.

In:  a study folder after `contrast` (to draft), or a plan.yaml (to load).
Out: plan.yaml with every finding undecided; a `Plan` of `Decision`s, checked at the door.
Refuses: to decide, to lose what a person wrote, and to guess what a misspelt word was meant to be.
"""

from __future__ import annotations

from tiltscope.plan.decisions import ACTIONS, EFFECTS, METHODS, PLAN_SIDES, Decision, Plan
from tiltscope.plan.draft import draft_plan, unspoken, write_draft
from tiltscope.plan.loading import load_plan
from tiltscope.plan.spec import KINDS, DetectorSpec

__all__ = [
    "ACTIONS",
    "EFFECTS",
    "KINDS",
    "METHODS",
    "PLAN_SIDES",
    "Decision",
    "DetectorSpec",
    "Plan",
    "draft_plan",
    "load_plan",
    "unspoken",
    "write_draft",
]
