"""Did training move the model? Held-out pairs, read plainly before and after.

In:  a trainer, held-out pairs that nothing was trained on.
Out: `Moved`: implicit accuracy, margin, and the mean KL divergence per answer token.
Refuses: nothing; without held-out pairs, or under FSDP, it says what was not measured.

The pairs are read without masks, instructions, offsets or steering, so runs of different recipes can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tiltscope.lm import Renderer, Unreadable
from tiltscope.pairs import Pair
from tiltscope.recipe import SIDES
from tiltscope.training.rows import TokenSequence, plain_sequence

__all__ = ["HeldOut", "HeldOutStates", "Moved", "held_out", "moved"]

KL_TOKENS = 4096
KL_TOKENS_PER_ANSWER = 128


@dataclass(frozen=True)
class Moved:
    """How far training moved the model on held-out pairs, in nats of summed log-prob against the starting model."""

    n_pairs: int
    accuracy: float | None
    """Share of held-out pairs whose chosen answer gained more log-prob than the rejected one; .5 for no movement."""
    margin_nats: float | None
    """Mean gain of the chosen answer minus gain of the rejected one."""
    margin_se_nats: float | None
    kl_nats_per_token: float | None
    """Mean KL(trained || start) over the next-token distributions on chosen and rejected answers."""
    n_kl_tokens: int
    note: str
    """What a person should know: that it moved, that it did not, or why it was not measured."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out pairs as tokens: (chosen, rejected) each."""

    pairs: tuple[tuple[TokenSequence, TokenSequence], ...]

    @property
    def sequences(self) -> list[TokenSequence]:
        """All answers."""
        return [one for pair in self.pairs for one in pair]


def held_out(rows: Sequence[Pair], renderer: Renderer) -> HeldOut:
    """Tokenise held-out pairs; pairs that cannot be rendered are left out."""
    found = []
    for pair in rows:
        try:
            chosen, rejected = (plain_sequence(pair, side, renderer) for side in SIDES)
        except Unreadable:
            continue
        found.append((chosen, rejected))
    return HeldOut(tuple(found))


class HeldOutStates:
    """What is kept of the starting model to compare next-token distributions: final states, and the head."""

    def __init__(self, trainer: Any, pairs: HeldOut) -> None:
        self.texts: list[TokenSequence] = []
        n_tokens = 0
        for one in pairs.sequences:
            if n_tokens >= KL_TOKENS:
                break
            self.texts.append(one)
            n_tokens += min(len(one.ids), KL_TOKENS_PER_ANSWER)
        self.head = _head(trainer).detach().float().cpu().clone()
        self.states = [_states(trainer, text) for text in self.texts]

    def kl_per_token(self, trainer: Any) -> tuple[float, int]:
        """Return the mean KL(now || then) in nats and the number of tokens it is a mean over."""
        head = _head(trainer).detach().float().cpu()
        total, n_tokens = 0.0, 0
        for text, before in zip(self.texts, self.states, strict=True):
            after = _states(trainer, text)
            now = torch.log_softmax(after @ head.T, dim=-1)
            then = torch.log_softmax(before @ self.head.T, dim=-1)
            total += float((now.exp() * (now - then)).sum())
            n_tokens += len(before)
        return total / max(1, n_tokens), n_tokens


def _head(trainer: Any) -> torch.Tensor:
    weight: torch.Tensor = trainer.model.get_output_embeddings().weight
    return weight


def _states(trainer: Any, text: TokenSequence) -> torch.Tensor:
    """Return the normalised final states that predict the first tokens of an answer: (n_tokens, width) float32."""
    model = trainer.model
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    ids = torch.tensor([[*text.prompt_ids, *text.ids]], device=trainer.accelerator.device)
    was_training = model.training
    model.eval()
    with torch.no_grad(), trainer.accelerator.autocast():
        states = base.model(input_ids=ids, use_cache=False).last_hidden_state[0]
    model.train(was_training)
    start = len(text.prompt_ids) - 1
    wanted: torch.Tensor = states[start : start + min(len(text.ids), KL_TOKENS_PER_ANSWER)]
    return wanted.float().cpu()


def moved(
    pairs: HeldOut, before: Mapping[str, float], after: Mapping[str, float], kl: tuple[float, int] | None
) -> Moved:
    """Return what held-out log-probs before and after training say."""
    if not pairs.pairs:
        return Moved(0, None, None, None, None, 0, "no pairs were held out: held_out_share is 0 or the groups are few")
    gains = np.array([[after[one.key] - before[one.key] for one in pair] for pair in pairs.pairs])
    margins = gains[:, 0] - gains[:, 1]
    se = float(margins.std(ddof=1) / np.sqrt(len(margins))) if len(margins) > 1 else None
    # A pair that nothing moved counts half, as a coin would.
    accuracy = float(((margins > 0) + 0.5 * (margins == 0)).mean())
    return Moved(
        len(margins), accuracy, float(margins.mean()), se, kl[0] if kl else None, kl[1] if kl else 0, _note(margins, se)
    )


def _note(margins: np.ndarray, se: float | None) -> str:
    mean = float(margins.mean())
    if not np.any(margins):
        return "training did not move the model: held-out log-probs are what they were"
    if se is None:
        return "one held-out pair cannot say whether training moved the preference: more rows, or more held_out_share"
    if abs(mean) < 2 * se:
        return (
            "training did not move the held-out preference beyond noise: more rows, steps or learning_rate, or a "
            "recipe that leaves nothing to learn"
        )
    return f"training moved the held-out preference {'towards' if mean > 0 else 'away from'} the chosen answers"
