"""Tiltscope: see which way preference data tilts your model before you train it.

    from tiltscope import load_pairs, check_pairs
    pairs = load_pairs("pairs.jsonl")
    check_pairs(pairs)

This is the shop window: every name below is imported from its room at first use, so `import tiltscope` costs nothing
and never needs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiltscope.checklist import check_pairs
    from tiltscope.concepts import Concept
    from tiltscope.errors import (
        DataError,
        GateError,
        InconclusiveError,
        ModelError,
        ProductError,
        StaleProductError,
        TiltscopeError,
        UsageError,
    )
    from tiltscope.features import Features, load_features, read_features
    from tiltscope.hypotheses import Hypothesis
    from tiltscope.pairs import Pair, Pairs, load_pairs
    from tiltscope.plan import draft_plan
    from tiltscope.planting import generate_pairs
    from tiltscope.report import write_report

__version__ = "0.1.0"

__all__ = [
    "Concept",
    "DataError",
    "Features",
    "GateError",
    "Hypothesis",
    "InconclusiveError",
    "ModelError",
    "Pair",
    "Pairs",
    "ProductError",
    "StaleProductError",
    "TiltscopeError",
    "UsageError",
    "check_pairs",
    "draft_plan",
    "generate_pairs",
    "load_features",
    "load_pairs",
    "read_features",
    "write_report",
]

_ROOMS = {
    "Concept": "concepts",
    "Features": "features",
    "Hypothesis": "hypotheses",
    "Pair": "pairs",
    "Pairs": "pairs",
    "check_pairs": "checklist",
    "draft_plan": "plan",
    "generate_pairs": "planting",
    "load_features": "features",
    "load_pairs": "pairs",
    "read_features": "features",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    """Import a name of the window from its room (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'tiltscope' has no attribute {name!r}")
    value = getattr(import_module(f"tiltscope.{_ROOMS.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
