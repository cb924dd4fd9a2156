"""The benches as modules: they import each other by name, so their folder has to be found while one is imported."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHES = Path(__file__).parent.parent / "benchmarks"


def bench(name: str) -> ModuleType:
    """Import a bench without running it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHES))
        return importlib.import_module(name)
