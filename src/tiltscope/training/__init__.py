"""Training on TRL's trainers: a recipe compiled into data, two thin subclasses, and a folder that opens anywhere.

In:  pairs, a `Recipe`, the starting model, settings.
Out: `Run`; or the rows alone, exported for a stack of one's own.
Refuses: to know what a concept is; a recipe is weights, offsets, masks, instructions and vectors.
"""

from __future__ import annotations

from tiltscope.training.config import TrainConfig, load_config
from tiltscope.training.exporting import export
from tiltscope.training.models import StartingModel
from tiltscope.training.moved import Moved
from tiltscope.training.run import Run, load_run, train

__all__ = ["Moved", "Run", "StartingModel", "TrainConfig", "export", "load_config", "load_run", "train"]
