"""Traits written into pairs, with an answer key: for the demo, for benches, and for whoever doubts a finding.

In:  a seed (`generate_pairs`, `write_demo`), or pairs of your own (`plant`).
Out: pairs, and the `AnswerKey` that says which side of which pair carries which trait.
Refuses: counts that the pairs at hand cannot carry exactly (`UsageError`); it never plants fewer in silence.
"""

from __future__ import annotations

from tiltscope.planting.demo import DEMO_TRAITS, bundled_demo, bundled_key, generate_pairs, key_path, write_demo
from tiltscope.planting.inject import plant
from tiltscope.planting.key import AnswerKey, KeyedPair, PlantedTrait, Tally, load_key, recount
from tiltscope.planting.styles import STYLES, Style, saying_one_of

__all__ = [
    "DEMO_TRAITS",
    "STYLES",
    "AnswerKey",
    "KeyedPair",
    "PlantedTrait",
    "Style",
    "Tally",
    "bundled_demo",
    "bundled_key",
    "generate_pairs",
    "key_path",
    "load_key",
    "plant",
    "recount",
    "saying_one_of",
    "write_demo",
]
