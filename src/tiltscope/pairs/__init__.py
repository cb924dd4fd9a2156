"""A preference file becomes `Pairs`.

In:  a file, a folder or a Hub id, in any of the shapes of docs/data.md.
Out: `Pairs` (rows, refused rows with reasons, shape, fingerprint), and the same on disk.
Refuses: a dataset that cannot be read as preference pairs (`DataError`); single rows one by one, with a reason.
"""

from __future__ import annotations

from tiltscope.pairs.load import load_pairs, load_sft, pairs_fingerprint, prompt_name
from tiltscope.pairs.store import read_pairs, save_pairs
from tiltscope.pairs.types import REASONS, LoadSettings, Pair, Pairs, Refusal, Turn, with_instruction

__all__ = [
    "REASONS",
    "LoadSettings",
    "Pair",
    "Pairs",
    "Refusal",
    "Turn",
    "load_pairs",
    "load_sft",
    "pairs_fingerprint",
    "prompt_name",
    "read_pairs",
    "save_pairs",
    "with_instruction",
]
