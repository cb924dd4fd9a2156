"""Answer functions that are not models: a text per prompt, with traits at known rates; for tests only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tiltscope.behaviours.measured import Behaviour, Prompt, as_prompts, behaviour, on_prompts
from tiltscope.evaluation import Evaluation, EvaluationSettings, evaluate
from tiltscope.pairs import Turn

PLAIN = "You could try it in the morning and see how it goes"


@dataclass
class MadeModel:
    """Answers with `bold` at a rate, from a stream of its own per call."""

    bold: float = 0.0
    salt: str = ""
    calls: list[int] = field(default_factory=list)

    def __call__(
        self, prompts: Sequence[tuple[Turn, ...]], *, n: int, seed: int, temperature: float, max_new_tokens: int
    ) -> list[list[str | None]]:
        self.calls.append(len(prompts))
        draw = random.Random(f"{self.salt} {seed}")
        return [[PLAIN + (" **now**." if draw.random() < self.bold else ".") for _ in range(n)] for _ in prompts]


def made_prompts(n: int) -> tuple[Prompt, ...]:
    return as_prompts([f"Question number {i}?" for i in range(n)], "made")


def bold_only() -> tuple[Behaviour, ...]:
    return on_prompts([behaviour("bold")], {"target": ("made",)})


def made_evaluation(
    folder: Path,
    name: str,
    rate: float,
    *,
    n_prompts: int = 60,
    n_answers: int = 2,
    behaviours: Sequence[Behaviour] = (),
) -> Evaluation:
    settings = EvaluationSettings(name, n_answers=n_answers)
    model = MadeModel(rate, salt=name)
    return evaluate(model, behaviours or bold_only(), made_prompts(n_prompts), settings, folder=folder / name)
