"""Residuals of the tokens of answers, read once for all that looks at the same layer.

In:  a study that was read, prompts with answers.
Out: `TokenVectors` per answer: the residual of every token that is read, with its characters.
Refuses: nothing; one layer of one study's pairs is kept in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiltscope.artifact import read_object
from tiltscope.detectors import TokenVectors
from tiltscope.pairs import Pair, Turn
from tiltscope.recipe import SIDES

__all__ = ["Residuals"]

Tell = Callable[[str, int, int], None]
Talk = tuple[Sequence[Turn], str]


class Residuals:
    """Reads through the starting model of the study in `folder`."""

    def __init__(self, folder: Path, tell: Tell) -> None:
        self._record = read_object(folder / "study.json", "max_length", verb="read")
        self._tell = tell
        self._held: tuple[int | None, dict[tuple[str, str], TokenVectors]] | None = None

    def layer(self, asked: int | None) -> int | None:
        """The layer asked for, else that of the study's scope."""
        return asked if asked is not None else self._record.get("layer")

    def of_pairs(self, rows: Sequence[Pair], layer: int | None) -> dict[tuple[str, str], TokenVectors]:
        """Return {(pair id, side): vectors} of both answers of every row."""
        wanted = self.layer(layer)
        if self._held is None or self._held[0] != wanted:
            found = self.of([(row.prompt, getattr(row, side)) for side in SIDES for row in rows], layer)
            keys = [(row.id, side) for side in SIDES for row in rows]
            self._held = wanted, dict(zip(keys, found, strict=True))
        return self._held[1]

    def of(self, talks: Sequence[Talk], layer: int | None) -> list[TokenVectors]:
        """Return the vectors (n_tokens, width) float32 of each answer's read tokens, in order."""
        from tiltscope.lm import hidden_states, load_model

        if not talks:
            return []
        lm = load_model(
            self._record.get("model"),
            layer=self.layer(layer),
            device=self._record.get("device"),
            template=self._record.get("template"),
            max_length=int(self._record["max_length"]),
        )
        texts = [lm.renderer.render(prompt, answer) for prompt, answer in talks]
        found: dict[int, Any] = {}
        for number, (i, states) in enumerate(hidden_states(lm, [text.ids for text in texts]), 1):
            self._tell("hidden states", number, len(texts))
            own = states[texts[i].response.positions].float().cpu().numpy().astype(np.float32)
            found[i] = TokenVectors(own, texts[i].response.starts, texts[i].response.ends)
        return [found[i] for i in range(len(texts))]
