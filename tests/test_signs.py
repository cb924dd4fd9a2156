"""The one sign rule through real training: a planted trait goes down under suppress and up under amplify.

A tiny model that first learns to answer, and to obey "use stars", is then trained on pairs whose chosen answers have
the trait (stars) more often, plainly and under every method. Where a method amplifies by keeping a trait from being
unlearned (a vector or an instruction on the rejected side), the pairs teach against it. The trait's share among four
possible answers is exact: the model's own probabilities on prompts it was not trained on, without instruction, vector
or mask. A neighbouring trait (an exclamation mark) is measured beside it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("trl", reason="training needs the extra tiltscope[train]")

from tiltscope.interventions import Scored, Wish, prepare
from tiltscope.lm import (
    Steer,
    hidden_states,
    load_model,
    load_policy,
    response_logps,
)
from tiltscope.pairs import Pair, Turn, with_instruction
from tiltscope.recipe import Recipe, empty_recipe
from tiltscope.training import StartingModel, TrainConfig, train
from tiny import tiny_model_folder

ANSWERS = {(star, mark): ("**" if star else "") + "it is" + ("!" if mark else "") for star in (0, 1) for mark in (0, 1)}
ASK = "use stars"
LAYER = 2
WORDS = ("hello", "garden", "story", "code", "python", "number", "help", "recipe", "question", "list", "word", "time")
FAST = TrainConfig(
    learning_rate=2e-3, per_device_train_batch_size=16, bf16=False, save_steps=0, held_out_share=0.0, warmup_ratio=0.0
)


def prompts(n: int, seed: int) -> list[tuple[Turn, ...]]:
    rng = np.random.default_rng(seed)
    return [(Turn("user", " ".join(rng.choice(WORDS, 3).tolist())),) for _ in range(n)]


def draw(n: int, *, stars: float, seed: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    return [(int(a < stars), int(b < 0.5)) for a, b in rng.random((n, 2))]


def pairs(asked: list[tuple[Turn, ...]], chosen: list[tuple[int, int]], rejected: list[tuple[int, int]]) -> list[Pair]:
    both = zip(asked, chosen, rejected, strict=True)
    return [Pair(f"p{i}", p, ANSWERS[c], ANSWERS[r], f"g{i}", i + 1) for i, (p, c, r) in enumerate(both)]


# Offsets move where DPO ends: they are tested there. A vector or an instruction changes what a side teaches, and so the
# way there: tested early (trained to its end on these pairs, the other side alone still unlearns the trait).
CONFIGS = {
    "sft": replace(FAST, max_steps=10),
    "end": replace(FAST, learning_rate=1e-3, beta=2.0, max_steps=40),
    "early": replace(FAST, learning_rate=4e-4, beta=0.1, max_steps=8),
}


@dataclass(frozen=True)
class Bench:
    """A model that answers and obeys, pairs that teach stars, and what every method needs to have measured."""

    folder: Path
    model: Path
    data: dict[str, tuple[list[Pair], Scored]]
    """Pairs that teach "for" stars and "against" them, and what was measured of each."""

    def trained(self, name: str, recipe: Recipe, way: str, how: str) -> Path:
        start = StartingModel(str(self.model), max_length=64, reference_folder=self.folder / "reference")
        return train(self.data[way][0], recipe, start, CONFIGS[how], self.folder / name).model_folder

    def rates(self, model: Path) -> tuple[float, float]:
        """P(stars) and P(mark) among the four answers, on held-out prompts."""
        policy = load_policy(str(model), device="cpu", dtype="float32", max_length=64)
        asked = prompts(12, seed=99)
        texts = [policy.renderer.render(p, answer) for p in asked for answer in ANSWERS.values()]
        logps = response_logps(policy, texts).reshape(len(asked), -1)
        p = np.exp(logps - logps.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        stars, marks = np.array(list(ANSWERS)).T
        return float((p @ stars).mean()), float((p @ marks).mean())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = Path(tmp_path_factory.mktemp("signs"))
    tiny_model_folder(folder / "random")
    free, told = prompts(256, seed=1), [with_instruction(p, ASK) for p in prompts(256, seed=2)]
    answers = [*draw(256, stars=0.4, seed=3), *draw(256, stars=1.0, seed=4)]
    lessons = pairs([*free, *told], answers, draw(512, stars=0.4, seed=5))
    recipe = empty_recipe([row.id for row in lessons], "sft")
    model = train(
        lessons, recipe, StartingModel(str(folder / "random"), max_length=64),
        replace(FAST, learning_rate=1e-2, max_steps=120), folder / "obeys",
    ).model_folder  # fmt: skip
    sides = draw(160, stars=0.8, seed=7), draw(160, stars=0.3, seed=8)
    ways = {"for": pairs(prompts(160, seed=6), *sides), "against": pairs(prompts(160, seed=6), *reversed(sides))}
    return Bench(folder, model, {way: (rows, measured(model, rows)) for way, rows in ways.items()})


def measured(model: Path, rows: list[Pair]) -> Scored:
    """Scores, spans, ratios and a direction, as `measure` would have them."""
    policy = load_policy(str(model), device="cpu", dtype="float32", max_length=64)
    texts = {side: [getattr(row, side) for row in rows] for side in ("chosen", "rejected")}
    stars = {side: np.array([float("**" in text) for text in some]) for side, some in texts.items()}
    spans = {side: {r.id: ((0, 2),) for r in rows if "**" in getattr(r, side)} for side in texts}
    vector, norm = direction(model)

    def ratio(side: str, *, steer: bool) -> np.ndarray:
        plain = [policy.renderer.render(r.prompt, getattr(r, side)) for r in rows]
        told = (
            plain
            if steer
            else [policy.renderer.render(with_instruction(r.prompt, ASK), getattr(r, side)) for r in rows]
        )
        pushed = Steer(LAYER, 0.5 * norm * vector) if steer else None
        return response_logps(policy, told, steer=pushed) - response_logps(policy, plain)

    return Scored(
        stars["chosen"], stars["rejected"], np.ones(len(rows), bool), spans["chosen"], spans["rejected"],
        ratio("chosen", steer=False), ratio("rejected", steer=False),
        vector=vector.astype(np.float32), layer=LAYER - 1, norm=norm, instruction=ASK,
    )  # fmt: skip


def direction(model: Path) -> tuple[np.ndarray, float]:
    """What the instruction adds at the last token of a prompt: a unit vector, and the mean residual norm there."""
    lm = load_model(str(model), layer=LAYER, device="cpu", dtype="float32", max_length=64)
    asked = prompts(24, seed=11)
    ids = [lm.renderer.render(p, "").ids for p in (*asked, *(with_instruction(p, ASK) for p in asked))]
    ends = {i: states[len(ids[i]) - 1].numpy() for i, states in hidden_states(lm, ids)}
    states = np.stack([ends[i] for i in range(len(ids))])
    vector = states[24:].mean(axis=0) - states[:24].mean(axis=0)
    return vector / np.linalg.norm(vector), float(np.linalg.norm(states, axis=1).mean())


STRENGTHS = {
    "reward_shaping": 2.0,
    "example_filtering": 0.4,
    "token_filtering": None,
    "activation_steering": 0.5,
    "steering_ratio": 1.0,
    "inoculation_prompting": None,
    "inoculation_ratio": 1.0,
}
CANNOT_AMPLIFY = {("token_filtering", "dpo"), ("token_filtering", "sft"), ("inoculation_prompting", "sft")}
CASES = [
    (method, objective, action)
    for method, objective, action in itertools.product(STRENGTHS, ("dpo", "sft"), ("suppress", "amplify"))
    if action == "suppress" or (method, objective) not in CANNOT_AMPLIFY
    # With its tokens masked a trait is still taught by its absence in the other answer (docs/interventions).
    if (method, objective) != ("token_filtering", "dpo")
]


IN_CONTEXT = ("activation_steering", "inoculation_prompting")
Rates = dict[tuple[str, str], tuple[float, float]]


def setting(method: str, objective: str, action: str) -> tuple[str, str]:
    """How long to train, and whether the pairs teach for or against the trait."""
    if objective == "sft":
        return "sft", "for"
    if method in IN_CONTEXT:
        return "early", "against" if action == "amplify" else "for"
    return "end", "for"


@pytest.fixture(scope="module")
def plain(bench: Bench) -> Rates:
    ids = [row.id for row in bench.data["for"][0]]
    arms = [("sft", "for"), ("early", "for"), ("early", "against"), ("end", "for")]
    return {
        (how, way): bench.rates(
            bench.trained(f"plain-{how}-{way}", empty_recipe(ids, "sft" if how == "sft" else "dpo"), way, how)
        )
        for how, way in arms
    }


def test_plain_training_teaches_the_trait_or_takes_it_away(bench: Bench, plain: Rates) -> None:
    start, _ = bench.rates(bench.model)
    for (how, way), (stars, _) in plain.items():
        assert (stars > start + 0.1) if way == "for" else (stars < start - 0.1), how


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


@pytest.mark.parametrize(("method", "objective", "action"), CASES)
def test_the_trait_goes_where_the_plan_says(
    bench: Bench, plain: Rates, method: str, objective: str, action: str
) -> None:
    how, way = setting(method, objective, action)
    rows, scored = bench.data[way]
    wish = Wish("stars", action, method, STRENGTHS[method])  # type: ignore[arg-type]
    start = empty_recipe([row.id for row in rows], objective)  # type: ignore[arg-type]
    recipe = prepare(start, [(wish, scored)], texts={row.id: (row.chosen, row.rejected) for row in rows}).recipe
    stars, marks = bench.rates(bench.trained(f"{method}-{objective}-{action}", recipe, way, how))
    before = plain[how, way]
    moved, beside = logit(stars) - logit(before[0]), logit(marks) - logit(before[1])
    assert moved < -0.2 if action == "suppress" else moved > 0.2, f"stars {before[0]:.3f} -> {stars:.3f}"
    assert abs(beside) < abs(moved) + 0.1, f"marks {before[1]:.3f} -> {marks:.3f}"


def trained_to_the_end(bench: Bench, name: str, wish: Wish, way: str) -> float:
    rows, scored = bench.data[way]
    texts = {row.id: (row.chosen, row.rejected) for row in rows}
    recipe = prepare(empty_recipe([row.id for row in rows], "dpo"), [(wish, scored)], texts=texts).recipe
    return bench.rates(bench.trained(name, recipe, way, "end"))[0]


def test_masked_tokens_do_not_keep_dpo_from_teaching_a_trait(bench: Bench) -> None:
    start, _ = bench.rates(bench.model)
    assert trained_to_the_end(bench, "masked-end", Wish("stars", "suppress", "token_filtering"), "for") > start + 0.1


def test_an_instruction_does_not_amplify_at_the_end_of_dpo(bench: Bench) -> None:
    start, _ = bench.rates(bench.model)
    told = trained_to_the_end(bench, "told-end", Wish("stars", "amplify", "inoculation_prompting"), "against")
    assert told < start - 0.1
