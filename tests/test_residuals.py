"""What tokens look like to the model is read once per layer, and in the order asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiltscope.artifact import write_json
from tiltscope.detectors import TokenVectors
from tiltscope.pairs import Pair, Turn
from tiltscope.residuals import Residuals

ROWS = [Pair(str(i), (Turn("user", "a"),), f"chosen {i}", f"rejected {i}", str(i), i + 1) for i in range(3)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The layers that the model was asked to read, in order; each answer's vector is its length."""
    asked: list[int | None] = []

    def of(self: Residuals, talks: list[tuple[object, str]], layer: int | None) -> list[TokenVectors]:
        asked.append(self.layer(layer))
        return [TokenVectors(np.full((1, 2), float(len(text)), np.float32), (0,), (1,)) for _, text in talks]

    monkeypatch.setattr(Residuals, "of", of)
    return asked


def test_detectors_on_one_layer_read_the_pairs_once(tmp_path: Path, read: list[int | None]) -> None:
    write_json(tmp_path / "study.json", {"max_length": 64, "layer": 4})
    residuals = Residuals(tmp_path, lambda stage, done, total: None)
    first = residuals.of_pairs(ROWS, None)
    assert residuals.of_pairs(ROWS, 4) is first
    residuals.of_pairs(ROWS, 2)
    assert read == [4, 2]


def test_both_answers_of_a_pair_are_found_by_its_id(tmp_path: Path, read: list[int | None]) -> None:
    write_json(tmp_path / "study.json", {"max_length": 64})
    held = Residuals(tmp_path, lambda stage, done, total: None).of_pairs(ROWS, None)
    assert {key: float(one.vectors[0, 0]) for key, one in held.items()} == {
        (row.id, side): float(len(getattr(row, side))) for row in ROWS for side in ("chosen", "rejected")
    }
    assert read == [None]
