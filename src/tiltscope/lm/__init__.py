"""A language model: the one renderer that turns conversations into its tokens, reading up to a layer, and answering.

In:  the embedded default model, a local folder of safetensors or a Hub id; prompt turns and responses as text.
Out: token ids with the exact place of every read token in its text; the residual stream after layer L; log-probs and
     samples of the whole model, and what it would say next in a text it did not write.
Refuses: families it was not tested with, pickled weights, remote code, tokenizers without offsets, and chat templates
that rewrite what they are given. Layers after L and the LM head are neither loaded nor computed when reading.
"""

from __future__ import annotations

from tiltscope.lm.forced import Branches, branch_logps, next_token_mass
from tiltscope.lm.model import FAMILIES, TEMPLATES, LanguageModel, ModelSource, load_model, load_renderer
from tiltscope.lm.policy import Policy, Sampling, Steer, generate, load_policy, response_logps, steered
from tiltscope.lm.reading import TOKENS_PER_BATCH, hidden_states, length_batches, response_losses
from tiltscope.lm.renderer import Rendered, Renderer, TokenSpan, Unreadable

__all__ = [
    "FAMILIES",
    "TEMPLATES",
    "TOKENS_PER_BATCH",
    "Branches",
    "LanguageModel",
    "ModelSource",
    "Policy",
    "Rendered",
    "Renderer",
    "Sampling",
    "Steer",
    "TokenSpan",
    "Unreadable",
    "branch_logps",
    "generate",
    "hidden_states",
    "length_batches",
    "load_model",
    "load_policy",
    "load_renderer",
    "next_token_mass",
    "response_logps",
    "response_losses",
    "steered",
]
