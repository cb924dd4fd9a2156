"""Tiltscope: see which way preference data tilts your model before you train it."""

__version__ = "0.1.0"
