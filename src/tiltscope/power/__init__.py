"""How small a trait would this audit have found? Known traits are planted into a study's own pairs and looked for.

In:  an audited study (pairs, features, its fixed scope) and which traits, shares and repeats to try.
Out: per trait and share whether it was found, where in the list, and the smallest share that was; STUDY/power/.
Refuses: traits that the data show often, a study without an audit, another scope.
"""

from __future__ import annotations

from tiltscope.power.grid import PowerSettings, run_power
from tiltscope.power.planted import Aligned, Grown, Planting, Readings, grow, read_again
from tiltscope.power.speaking import SPEAKS_FROM, disparity_change, lean_of, put_there, speaks
from tiltscope.power.table import render_power

__all__ = [
    "SPEAKS_FROM",
    "Aligned",
    "Grown",
    "Planting",
    "PowerSettings",
    "Readings",
    "disparity_change",
    "grow",
    "lean_of",
    "put_there",
    "read_again",
    "render_power",
    "run_power",
    "speaks",
]
