"""Sparse autoencoders over a model's residual stream: loaded, trained, and read through.

In:  a language model, pairs, residuals. Out: `Sae`, `LmSaeScope`, `Features`.
Refuses: an autoencoder made for another model, layer or template; pickled weights.
"""

from __future__ import annotations

from tiltscope.sae.autoencoder import FORMAT, NORM_CUT, Sae, load_sae, save_sae
from tiltscope.sae.reading import ReadSettings, open_scope, read_ahead, read_with_sae
from tiltscope.sae.scope import LmSaeScope
from tiltscope.sae.timing import estimate
from tiltscope.sae.training import SaeTraining, TokenPool, train_sae

__all__ = [
    "FORMAT",
    "NORM_CUT",
    "LmSaeScope",
    "ReadSettings",
    "Sae",
    "SaeTraining",
    "TokenPool",
    "estimate",
    "load_sae",
    "open_scope",
    "read_ahead",
    "read_with_sae",
    "save_sae",
    "train_sae",
]
