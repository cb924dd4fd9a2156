"""A language model and an autoencoder become a scope.

In:  conversations. Out: per span its read tokens and the latents that fire on each.
Refuses: an autoencoder made for another model, layer or template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope.artifact import fingerprint, write_bytes
from tiltscope.errors import ModelError
from tiltscope.features import Conversation, ConversationCodes, SpanCodes
from tiltscope.lm import LanguageModel, Rendered, Unreadable, hidden_states
from tiltscope.sae.autoencoder import Sae


@dataclass(frozen=True)
class Residuals:
    """The residuals of some conversations: per text its prompt's rows (where wanted), then its response's, stacked."""

    texts: list[Rendered | Unreadable]
    n_prompt: list[int]
    n_response: list[int]
    states: torch.Tensor

    def response_owner(self) -> np.ndarray:
        """Return for each row of `states` the number of the text whose response it belongs to, or -1."""
        owner = [np.zeros(0, np.int64)]
        for number, (n_prompt, n_response) in enumerate(zip(self.n_prompt, self.n_response, strict=True)):
            owner += [np.full(n_prompt, -1, np.int64), np.full(n_response, number, np.int64)]
        return np.concatenate(owner)


def _render(lm: LanguageModel, conversation: Conversation) -> Rendered | Unreadable:
    try:
        return lm.renderer.render(conversation.prompt, conversation.response)
    except Unreadable as refusal:
        return refusal


def _positions(text: Rendered | Unreadable, conversation: Conversation) -> tuple[np.ndarray, np.ndarray]:
    """Return the read positions of (prompt, response)."""
    nothing = np.zeros(0, np.int64)
    if isinstance(text, Unreadable):
        return nothing, nothing
    return (text.prompt.positions if conversation.wants_prompt else nothing), text.response.positions


def cache_path(lm: LanguageModel, conversations: Sequence[Conversation], folder: Path) -> Path:
    content = [[asdict(turn) for turn in c.prompt] + [c.response, c.wants_prompt] for c in conversations]
    return folder / f"{fingerprint(lm.fingerprint, content)}.safetensors"


def read_residuals(
    lm: LanguageModel, conversations: Sequence[Conversation], cache: Path | None = None, *, store: bool = False
) -> Residuals:
    """Return the residuals of conversations, from `cache` where it has them; with `store`, put them there.

    They are kept in the model's own number format, so a cached reading is the same to the bit.
    """
    texts = [_render(lm, conversation) for conversation in conversations]
    places = [_positions(text, conversation) for text, conversation in zip(texts, conversations, strict=True)]
    n_prompt, n_response = [len(p) for p, _ in places], [len(r) for _, r in places]
    path = cache_path(lm, conversations, cache) if cache else None
    if path and path.is_file():
        return Residuals(texts, n_prompt, n_response, _load_states(path))
    states = _compute_states(lm, texts, [np.concatenate(place) for place in places])
    if path and store:
        from safetensors.torch import save

        write_bytes(path, bytes(save({"states": states})))
    return Residuals(texts, n_prompt, n_response, states)


def _load_states(path: Path) -> torch.Tensor:
    from safetensors.torch import load_file

    return load_file(path)["states"]


def _compute_states(
    lm: LanguageModel, texts: Sequence[Rendered | Unreadable], places: Sequence[np.ndarray]
) -> torch.Tensor:
    """Run the model over the readable texts and keep the residuals at `places`: (n_tokens, width), model's dtype."""
    starts = np.concatenate([[0], np.cumsum([len(place) for place in places])])
    states = torch.zeros((int(starts[-1]), lm.width), dtype=lm.dtype)
    readable = [i for i, text in enumerate(texts) if isinstance(text, Rendered) and len(places[i])]
    ids = [text.ids for i in readable if isinstance(text := texts[i], Rendered)]
    for number, hidden in hidden_states(lm, ids):
        i = readable[number]
        states[int(starts[i]) : int(starts[i + 1])] = hidden[torch.as_tensor(places[i], device=hidden.device)].cpu()
    return states


class LmSaeScope:
    """A language model read at one layer through an autoencoder; implements the Scope protocol of `features`."""

    def __init__(self, lm: LanguageModel, sae: Sae, *, cache: Path | None = None) -> None:
        _check_match(lm, sae)
        self._lm, self._sae, self._cache = lm, sae.to(lm.device), cache
        self.name = f"{lm.name}, layer {lm.layer} of {lm.n_layers}, {sae.n_latents} latents"
        self.fingerprint = fingerprint(lm.fingerprint, sae.fingerprint)
        self.n_latents = sae.n_latents

    def encode(self, conversations: Sequence[Conversation]) -> list[ConversationCodes]:
        """Read conversations, in order; those that cannot be rendered come back with `refused` set."""
        read = read_residuals(self._lm, conversations, self._cache)
        keeps = self._sae.keeps(read.states)
        codes = self._sae.encode(read.states)
        found: list[ConversationCodes] = []
        at = 0
        for number, text in enumerate(read.texts):
            middle = at + read.n_prompt[number]
            end = middle + read.n_response[number]
            found.append(self._codes(text, (codes, keeps), at, middle, end))
            at = end
        return found

    def token_text(self, token_id: int) -> str:
        """The text of one token id, as a person would read it."""
        return self._lm.renderer.token_text(token_id)

    def _codes(
        self, text: Rendered | Unreadable, read: tuple[sparse.csr_array, np.ndarray], at: int, middle: int, end: int
    ) -> ConversationCodes:
        codes, keeps = read
        if isinstance(text, Unreadable):
            none = np.zeros(0, np.int32)
            empty = SpanCodes(none, none, none, codes[:0])
            return ConversationCodes(empty, empty, 0, 0, refused=text.reason, found=text.found)
        ids = np.asarray(text.ids, np.int32)
        spans = []
        for span, low, high in ((text.prompt, at, middle), (text.response, middle, end)):
            kept = np.flatnonzero(keeps[low:high])
            chosen = span.positions[kept]
            spans.append(SpanCodes(ids[chosen], span.starts[kept], span.ends[kept], codes[low + kept]))
        n_dropped = int(np.count_nonzero(~keeps[middle:end]))
        return ConversationCodes(spans[0], spans[1], text.n_cut, n_dropped)


def _check_match(lm: LanguageModel, sae: Sae) -> None:
    facts = (
        ("model", sae.model_fingerprint, lm.source.fingerprint),
        ("layer", sae.layer, lm.layer),
        ("chat template or tokenizer", sae.template_fingerprint, lm.renderer.template_fingerprint),
        ("width", int(sae.w_enc.shape[0]), lm.width),
    )
    for name, made_for, at_hand in facts:
        if made_for != at_hand:
            raise ModelError(
                f"this autoencoder was trained for another {name}",
                found=f"made for {made_for}, at hand {at_hand}",
                hint="read with the model, layer and template it was trained with, or train one: --sae train",
            )
