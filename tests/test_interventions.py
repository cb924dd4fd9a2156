"""Decisions become data: formulas by hand, signs on an exact model that learns in a moment, and what a plan changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tiltscope.errors import UsageError
from tiltscope.interventions import METHODS, SIDE_OF, Scored, Wish, apply, context_sign, prepare
from tiltscope.interventions.filtering import flip
from tiltscope.recipe import Recipe, Spans, empty_recipe

# --- the exact model --------------------------------------------------------------------------------------------------
# Four answers: trait no/yes x neighbour no/yes. An answer is a text of two characters, "T" or "." and "N" or ".", and
# two "tokens": log pi(y) = log pi(trait) + log pi(neighbour | trait). Instructions and vectors shift the four logits.

ANSWERS = ("..", ".N", "T.", "TN")
TRAIT = np.array([0.0, 0.0, 1.0, 1.0])
NEIGHBOUR = np.array([0.0, 1.0, 0.0, 1.0])
START = np.log([0.40, 0.25, 0.15, 0.20])  # trait at .35, neighbour at .45
SWAY = 1.5  # what the instruction adds to the logits of answers with the trait
BETA = 0.5
N = 600


def softmax(logits: np.ndarray) -> np.ndarray:
    raw = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raw / raw.sum(axis=-1, keepdims=True))


@dataclass(frozen=True)
class LogProbs:
    """values (n,) log pi of the kept tokens; slopes (n, 4) of them in the logits."""

    values: np.ndarray
    slopes: np.ndarray


def log_probs(logits: np.ndarray, answers: np.ndarray, keep: np.ndarray) -> LogProbs:
    """Log-probs of answers (n,) under logits (n, 4), of the tokens that keep (n, 2) keeps."""
    p, rows = softmax(logits), np.arange(len(answers))
    alike = TRAIT[answers][:, None] == TRAIT  # (n, 4): answers with the same first token
    part = (p * alike).sum(axis=1, keepdims=True)
    first, whole = np.log(part[:, 0]), np.log(p[rows, answers])
    first_slope, whole_slope = p * alike / part - p, np.eye(4)[answers] - p
    values = keep[:, 0] * first + keep[:, 1] * (whole - first)
    return LogProbs(values, keep[:, :1] * first_slope + keep[:, 1:] * (whole_slope - first_slope))


@dataclass(frozen=True)
class Data:
    """Pairs of answers (numbers of ANSWERS), the chosen ones preferred for their trait and, less, their neighbour."""

    chosen: np.ndarray
    rejected: np.ndarray
    ids: tuple[str, ...]

    def scored(self, values: np.ndarray = TRAIT, **fields: object) -> Scored:
        ratio = np.log(softmax(START + SWAY * TRAIT)) - np.log(softmax(START))
        marked = {side: self.marked(getattr(self, side)) for side in ("chosen", "rejected")}
        scored = Scored(
            values[self.chosen],
            values[self.rejected],
            np.ones(len(self.ids), bool),
            chosen_spans=marked["chosen"],
            rejected_spans=marked["rejected"],
            ratio_chosen=ratio[self.chosen],
            ratio_rejected=ratio[self.rejected],
            vector=TRAIT / np.sqrt(2),
            layer=0,
            norm=1.0,
            instruction="Show the trait.",
        )
        return replace(scored, **fields)  # type: ignore[arg-type]

    def marked(self, answers: np.ndarray) -> dict[str, Spans]:
        return {one: ((0, 1),) for one, answer in zip(self.ids, answers, strict=True) if TRAIT[answer]}

    @property
    def texts(self) -> dict[str, tuple[str, str]]:
        rows = zip(self.ids, self.chosen, self.rejected, strict=True)
        return {one: (ANSWERS[c], ANSWERS[r]) for one, c, r in rows}


def made(likes_trait: float = 0.8, n: int = N) -> Data:
    """Pairs of unlike answers of the start, labelled by a Bradley-Terry judge; SFT data are the chosen ones."""
    rng = np.random.default_rng(7)
    drawn = rng.choice(4, size=(4 * n, 2), p=softmax(START))
    drawn = drawn[drawn[:, 0] != drawn[:, 1]][:n]
    reward = likes_trait * TRAIT + 0.6 * NEIGHBOUR
    gap = reward[drawn[:, 0]] - reward[drawn[:, 1]]
    keeps = rng.random(n) < 1 / (1 + np.exp(-gap))
    chosen, rejected = np.where(keeps, drawn[:, 0], drawn[:, 1]), np.where(keeps, drawn[:, 1], drawn[:, 0])
    return Data(chosen, rejected, tuple(f"p{i:04d}" for i in range(n)))


def keeps(recipe: Recipe, side: str) -> np.ndarray:
    """(n, 2) which of the two tokens of each answer have loss."""
    masked: Mapping[str, Spans] = getattr(recipe, f"{side}_masked")
    return np.array(
        [[not any(a <= k < b for a, b in masked.get(one, ())) for k in (0, 1)] for one in recipe.pair_ids], float
    )


def shift(recipe: Recipe, side: str) -> np.ndarray:
    """(n, 4) what instructions and vectors add to the policy's logits on one side of the rows as they are trained."""
    told = getattr(recipe, f"{side}_instruction")
    added = np.array([[SWAY] if one in told else [0.0] for one in recipe.pair_ids]) * TRAIT
    for one in recipe.steering:
        if one.side in (side, "both"):
            here = [one.pair_ids is None or pair in one.pair_ids for pair in recipe.pair_ids]
            added = added + np.array(here)[:, None] * one.vector
    return np.asarray(added)


@dataclass(frozen=True)
class Loss:
    value: float
    slope: np.ndarray  # (4,)


def loss(recipe: Recipe, data: Data, logits: np.ndarray) -> Loss:
    """The loss of docs/interventions.md on the exact model, read from nothing but the recipe.

    Masks belong to their text; offsets, instructions and vectors to the row as it is trained, as in the trainer.
    """
    n, w, margin, slope = len(recipe.pair_ids), recipe.weights, 0.0, np.zeros((1, 4))
    for side, way in (("chosen", 1.0), ("rejected", -1.0)):
        other = "rejected" if side == "chosen" else "chosen"
        answers = np.where(recipe.flipped, getattr(data, other), getattr(data, side))
        keep = np.where(recipe.flipped[:, None], keeps(recipe, other), keeps(recipe, side))
        policy = log_probs(logits + shift(recipe, side), answers, keep)
        if recipe.objective == "sft":
            return Loss(float(-(w * policy.values).mean()), -(w[:, None] * policy.slopes).mean(axis=0))
        reference = log_probs(np.tile(START, (n, 1)), answers, keep)
        margin = margin + way * (policy.values - reference.values)
        slope = slope + way * policy.slopes
    inner = BETA * margin + recipe.offsets_nats
    pull = w * BETA / (1 + np.exp(inner))
    return Loss(float((w * np.logaddexp(0, -inner)).mean()), -(pull[:, None] * slope).mean(axis=0))


def trained(recipe: Recipe, data: Data, steps: int = 60) -> dict[str, float]:
    """Train by gradient descent from START and return the rates of both traits without any context."""
    logits, rate = START.copy(), 2.0
    for _ in range(steps):
        logits = logits - rate * loss(recipe, data, logits).slope
    p = softmax(logits)
    return {"trait": float(p @ TRAIT), "neighbour": float(p @ NEIGHBOUR)}


DATA = made()
PLAIN = {objective: trained(empty_recipe(DATA.ids, objective), DATA) for objective in ("dpo", "sft")}  # type: ignore[arg-type]


def after(objective: str, wish: Wish, **fields: object) -> dict[str, float]:
    start = empty_recipe(DATA.ids, objective)  # type: ignore[arg-type]
    recipe = prepare(start, [(wish, DATA.scored(**fields))], texts=DATA.texts).recipe  # type: ignore[arg-type]
    return trained(recipe, DATA)


# --- signs ------------------------------------------------------------------------------------------------------------

STRENGTH = {
    "reward_shaping": 0.4,
    "example_filtering": 0.15,
    "activation_steering": 1.5,
    "steering_ratio": 0.4,
    "inoculation_ratio": 0.4,
}


def wish(method: str, action: str, **fields: object) -> Wish:
    one = Wish("trait", action, method, STRENGTH.get(method))  # type: ignore[arg-type]
    return replace(one, **fields)  # type: ignore[arg-type]


BOTH_WAYS = [
    *[("dpo", one, {}) for one in METHODS if one != "token_filtering"],
    *[("dpo", "example_filtering", {"effect": effect}) for effect in ("down", "flip")],
    ("dpo", "activation_steering", {"side": "both"}),
    ("dpo", "activation_steering", {"side": "chosen"}),
    ("dpo", "activation_steering", {"side": "rejected"}),
    *[("sft", one, {}) for one in METHODS if one not in ("token_filtering", "inoculation_prompting")],
    ("sft", "example_filtering", {"effect": "down"}),
]


@pytest.mark.parametrize(("objective", "method", "fields"), BOTH_WAYS)
def test_the_trait_goes_down_under_suppress_and_up_under_amplify(
    objective: str, method: str, fields: dict[str, object]
) -> None:
    plain = PLAIN[objective]["trait"]
    down = after(objective, wish(method, "suppress", **fields))
    up = after(objective, wish(method, "amplify", **fields))
    assert down["trait"] < plain - 0.02
    assert up["trait"] > plain + 0.02
    for rates in (down, up):  # the neighbour is measured too, and moves less than the trait
        assert abs(rates["neighbour"] - PLAIN[objective]["neighbour"]) < abs(rates["trait"] - plain)


@pytest.mark.parametrize("objective", ["dpo", "sft"])
def test_masked_tokens_are_not_learned_and_their_neighbour_is(objective: str) -> None:
    everywhere: dict[str, Spans] = {one: ((0, 1),) for one in DATA.ids}  # where the trait is decided, shown or not
    marks = {"chosen_spans": everywhere, "rejected_spans": everywhere}
    rates = after(objective, wish("token_filtering", "suppress"), **marks)
    assert rates["trait"] < PLAIN[objective]["trait"] - 0.02
    assert rates["neighbour"] > softmax(START) @ NEIGHBOUR + 0.02


def test_masking_what_shows_the_trait_leaves_what_its_absence_teaches() -> None:
    # docs/interventions/token-filtering.md: what stands in that place in the rejected answer still loses
    assert after("dpo", wish("token_filtering", "suppress"))["trait"] > softmax(START) @ TRAIT + 0.02
    assert after("sft", wish("token_filtering", "suppress"))["trait"] < PLAIN["sft"]["trait"] - 0.02


def test_an_offset_never_reverses_a_pair() -> None:
    # docs/interventions/reward-shaping.md: where no rejected answer has the trait, the start is the floor
    rows = (TRAIT[DATA.chosen] == 1) & (TRAIT[DATA.rejected] == 0)
    data = Data(DATA.chosen[rows], DATA.rejected[rows], tuple(np.array(DATA.ids)[rows].tolist()))
    start = empty_recipe(data.ids, "dpo")
    for strength in (1.0, 5.0, 50.0):
        recipe = apply(start, wish("reward_shaping", "suppress", strength=strength), data.scored())
        assert trained(recipe, data)["trait"] >= softmax(START) @ TRAIT - 1e-9


def test_an_instruction_in_the_training_prompt_only_takes_the_trait_out_of_sft() -> None:
    rates = after("sft", wish("inoculation_prompting", "suppress"))
    assert rates["trait"] < PLAIN["sft"]["trait"] - 0.02


def test_plain_training_learns_the_trait() -> None:
    for objective in ("dpo", "sft"):
        assert PLAIN[objective]["trait"] > softmax(START) @ TRAIT + 0.05


def test_the_slope_of_the_exact_model_is_that_of_its_loss() -> None:
    start = empty_recipe(DATA.ids, "dpo")
    recipe = prepare(start, [(wish("activation_steering", "suppress"), DATA.scored())]).recipe
    at = START + np.array([0.1, -0.2, 0.3, 0.0])
    steps = 1e-5 * np.eye(4)
    slope = [(loss(recipe, DATA, at + e).value - loss(recipe, DATA, at - e).value) / 2e-5 for e in steps]
    np.testing.assert_allclose(loss(recipe, DATA, at).slope, slope, atol=1e-8)


def test_the_table_of_signs() -> None:
    table = {
        (action, side): context_sign(action, side) for action in SIDE_OF for side in ("chosen", "rejected", "both")
    }
    assert table == {
        ("suppress", "chosen"): 1,
        ("suppress", "rejected"): -1,
        ("suppress", "both"): 1,
        ("amplify", "chosen"): -1,
        ("amplify", "rejected"): 1,
        ("amplify", "both"): -1,
    }
    assert {action: context_sign(action, side) for action, side in SIDE_OF.items()} == {"suppress": 1, "amplify": 1}


# --- formulas, by hand ------------------------------------------------------------------------------------------------

IDS = ("a", "b", "c", "d")
CHOSEN = np.array([3.0, 1.0, 0.0, 2.0])
REJECTED = np.array([0.0, 1.0, 2.0, 0.0])
S_MEAN, S_SD = 1.125, np.sqrt(np.mean((np.concatenate([CHOSEN, REJECTED]) - 1.125) ** 2))


def small(**fields: object) -> Scored:
    return replace(Scored(CHOSEN, REJECTED, np.ones(4, bool)), **fields)  # type: ignore[arg-type]


def dpo() -> Recipe:
    return empty_recipe(IDS, "dpo")


def sft() -> Recipe:
    return empty_recipe(IDS, "sft")


@pytest.mark.parametrize(("action", "way"), [("suppress", 1), ("amplify", -1)])
def test_the_offset_of_reward_shaping_by_hand(action: str, way: int) -> None:
    recipe = apply(dpo(), wish("reward_shaping", action, strength=2.0), small())
    np.testing.assert_allclose(recipe.offsets_nats, way * 2 * (CHOSEN - REJECTED) / S_SD)
    assert recipe.weights.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("action", "way"), [("suppress", -1), ("amplify", 1)])
def test_the_weight_of_reward_shaping_by_hand(action: str, way: int) -> None:
    recipe = apply(sft(), wish("reward_shaping", action, strength=3.0), small())
    raw = np.minimum(np.exp(way * 3 * (CHOSEN - S_MEAN) / S_SD), 10)
    assert (raw == 10).any()  # the clip is at work
    np.testing.assert_allclose(recipe.weights, raw / raw.mean())
    assert recipe.offsets_nats.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("method", ["steering_ratio", "inoculation_ratio"])
def test_the_ratio_forms_by_hand(method: str) -> None:
    a_chosen, a_rejected = np.array([0.5, -1.0, 0.0, 2.0]), np.array([0.0, 1.0, 0.5, -0.5])
    scored = small(ratio_chosen=a_chosen, ratio_rejected=a_rejected)
    recipe = apply(dpo(), wish(method, "amplify", strength=1.5), scored)
    np.testing.assert_allclose(recipe.offsets_nats, -1.5 * (a_chosen - a_rejected))
    every = np.concatenate([a_chosen, a_rejected])
    raw = np.exp(-1.5 * (a_chosen - every.mean()) / every.std())
    recipe = apply(sft(), wish(method, "suppress", strength=1.5), scored)
    np.testing.assert_allclose(recipe.weights, np.minimum(raw, 10) / np.minimum(raw, 10).mean())
    alone = apply(sft(), wish(method, "suppress", strength=1.5), replace(scored, ratio_rejected=None))
    raw = np.exp(-1.5 * (a_chosen - a_chosen.mean()) / a_chosen.std())
    np.testing.assert_allclose(alone.weights, np.minimum(raw, 10) / np.minimum(raw, 10).mean())


def test_example_filtering_takes_the_pairs_the_concept_explains_most() -> None:
    # s(y+) - s(y-) in raw units: 3, 0, -2, 2
    drop = apply(dpo(), wish("example_filtering", "suppress", strength=0.5), small())
    assert drop.weights.tolist() == [0, 1, 1, 0]
    down = apply(dpo(), wish("example_filtering", "suppress", strength=0.25, effect="down"), small())
    assert down.weights.tolist() == [0.5, 1, 1, 1]
    turned = apply(dpo(), wish("example_filtering", "amplify", strength=0.25, effect="flip"), small())
    assert turned.flipped.tolist() == [False, False, True, False]


def test_example_filtering_never_takes_a_pair_that_does_not_lean_that_way() -> None:
    recipe = apply(dpo(), wish("example_filtering", "suppress", strength=0.9), small())
    assert recipe.weights.tolist() == [0, 1, 1, 0]
    assert "2 left out (not 4: no more rows lean that way)" in recipe.log[-1]


def test_example_filtering_of_sft_looks_at_the_example_alone() -> None:
    recipe = apply(sft(), wish("example_filtering", "suppress", strength=0.5), small())
    assert recipe.weights.tolist() == [0, 1, 1, 0]
    recipe = apply(sft(), wish("example_filtering", "amplify", strength=0.25), small())
    assert recipe.weights.tolist() == [1, 1, 0, 1]


def test_ties_at_the_cut_go_by_pair_id_and_are_told() -> None:
    scored = small(chosen=np.ones(4), rejected=np.zeros(4))
    backwards = replace(dpo(), pair_ids=("d", "c", "b", "a"))
    recipe = apply(backwards, wish("example_filtering", "suppress", strength=0.25), scored)
    assert recipe.weights.tolist() == [1, 1, 1, 0]
    assert "3 more have the same score as the last one" in recipe.log[-1]


def test_token_filtering_unites_spans_and_leaves_out_what_keeps_nothing() -> None:
    scored = small(
        chosen_spans={"a": ((2, 4), (0, 1)), "b": ((0, 3),)},
        rejected_spans={"c": ((1, 2),), "nobody": ((0, 9),)},
        chosen_texts=["abcdef", "abc", "abcd", "abcd"],
        rejected_texts=["abcde"] * 4,
    )
    masks = wish("token_filtering", "suppress")
    recipe = apply(replace(dpo(), chosen_masked={"a": ((1, 2),)}), masks, scored)
    assert recipe.chosen_masked == {"a": ((0, 4),), "b": ((0, 3),)}
    assert recipe.rejected_masked == {"c": ((1, 2),)}
    assert recipe.weights.tolist() == [1, 0, 1, 1]
    assert "3 answers masked in part, 1 pairs left out" in recipe.log[-1]
    assert apply(dpo(), replace(masks, side="rejected"), scored).chosen_masked == {}
    assert apply(sft(), masks, scored).rejected_masked == {}


def test_a_mask_that_leaves_white_space_alone_leaves_nothing() -> None:
    texts = ["**Yes**\n\n", "**Yes** \u200b", "**Yes**.", "plain"]
    marks: dict[str, Spans] = dict.fromkeys("abc", ((0, 7),))
    scored = small(chosen_spans=marks, chosen_texts=texts, rejected_texts=["no"] * 4)
    recipe = apply(dpo(), wish("token_filtering", "suppress"), scored)
    assert recipe.weights.tolist() == [0, 0, 1, 1]
    assert "2 pairs left out because an answer keeps no visible character" in recipe.log[-1]


def test_steering_adds_alpha_norms_along_the_direction_on_the_side_of_the_table() -> None:
    scored = small(vector=np.array([0.6, 0.8]), layer=7, norm=5.0)
    (one,) = apply(dpo(), wish("activation_steering", "suppress", strength=2.0), scored).steering
    assert (one.layer, one.side, one.pair_ids, one.vector.dtype) == (7, "chosen", None, np.float32)
    np.testing.assert_allclose(one.vector, [6.0, 8.0], rtol=1e-6)
    (one,) = apply(dpo(), wish("activation_steering", "amplify", strength=2.0), scored).steering
    assert one.side == "rejected"
    np.testing.assert_allclose(one.vector, [6.0, 8.0], rtol=1e-6)
    (one,) = apply(sft(), wish("activation_steering", "amplify", strength=2.0), scored).steering
    assert one.side == "chosen"  # SFT has no other side, so the vector turns round
    np.testing.assert_allclose(one.vector, [-6.0, -8.0], rtol=1e-6)


def test_the_instruction_stands_on_the_side_of_the_table_below_earlier_ones() -> None:
    scored = small(instruction="Use bold.")
    start = replace(dpo(), chosen_instruction={"a": "Be short."})
    recipe = apply(start, wish("inoculation_prompting", "suppress"), scored)
    assert recipe.chosen_instruction == {"a": "Be short.\nUse bold."} | dict.fromkeys("bcd", "Use bold.")
    assert recipe.rejected_instruction == {}
    recipe = apply(dpo(), wish("inoculation_prompting", "amplify"), scored)
    assert recipe.rejected_instruction == dict.fromkeys(IDS, "Use bold.")


# --- walls every method keeps -----------------------------------------------------------------------------------------


def whole(**fields: object) -> Scored:
    """Everything that any method may ask for, over the four pairs."""
    scored = small(
        chosen_spans=dict.fromkeys(IDS, ((0, 2),)),
        rejected_spans=dict.fromkeys(IDS, ((0, 2),)),
        chosen_texts=["nine long"] * 4,
        rejected_texts=["nine long"] * 4,
        ratio_chosen=CHOSEN,
        ratio_rejected=REJECTED,
        vector=np.array([1.0, 0.0]),
        layer=1,
        norm=2.0,
        instruction="Use bold.",
    )
    return replace(scored, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["dpo", "sft"])
@pytest.mark.parametrize("method", METHODS)
def test_outside_its_region_a_decision_changes_nothing(method: str, objective: str) -> None:
    inside = np.array([False, True, False, True])  # the pair that leans most is outside
    start = empty_recipe(IDS, objective)  # type: ignore[arg-type]
    recipe = apply(start, wish(method, "suppress"), whole(inside=inside))
    assert recipe.fingerprint != start.fingerprint
    assert recipe.weights[~inside].tolist() == [1, 1]
    assert recipe.offsets_nats[~inside].tolist() == [0, 0]
    assert not recipe.flipped[~inside].any()
    touched = {*recipe.chosen_masked, *recipe.rejected_masked, *recipe.chosen_instruction, *recipe.rejected_instruction}
    assert touched <= {"b", "d"}
    assert all(one.pair_ids == frozenset("bd") for one in recipe.steering)
    if method in ("reward_shaping", "steering_ratio", "inoculation_ratio"):
        assert recipe.weights[inside].mean() == pytest.approx(1)
    nowhere = apply(start, wish(method, "suppress"), whole(inside=np.zeros(4, bool)))
    assert nowhere.fingerprint == start.fingerprint


@pytest.mark.parametrize("objective", ["dpo", "sft"])
@pytest.mark.parametrize("method", STRENGTH)
def test_strength_0_leaves_the_loss_unchanged(method: str, objective: str) -> None:
    start = empty_recipe(DATA.ids, objective)  # type: ignore[arg-type]
    recipe = apply(start, wish(method, "amplify", strength=0.0), DATA.scored())
    at = START + np.array([0.3, -0.1, 0.2, 0.0])
    assert loss(recipe, DATA, at).value == loss(start, DATA, at).value
    assert recipe.fingerprint == start.fingerprint


@pytest.mark.parametrize("method", STRENGTH)
@pytest.mark.parametrize("strength", [-0.5, float("nan"), float("inf"), None])
def test_a_strength_that_is_negative_missing_or_no_number_is_refused(method: str, strength: float | None) -> None:
    with pytest.raises(UsageError, match="strength") as caught:
        apply(dpo(), wish(method, "suppress", strength=strength), whole())
    assert "decision 'trait'" in str(caught.value)


@pytest.mark.parametrize("objective", ["dpo", "sft"])
@pytest.mark.parametrize("method", ["reward_shaping", "example_filtering"])
def test_a_score_that_is_the_same_for_every_answer_is_refused(method: str, objective: str) -> None:
    start = empty_recipe(IDS, objective)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"every answer has the same score(.|\n)*decision 'trait'"):
        apply(start, wish(method, "suppress"), whole(chosen=np.full(4, 0.1), rejected=np.full(4, 0.1)))


REFUSED = [
    ("dpo", wish("token_filtering", "amplify"), {}, "cannot amplify"),
    ("dpo", wish("token_filtering", "suppress", strength=1.0), {}, "no strength"),
    ("dpo", wish("token_filtering", "suppress"), {"chosen_texts": None}, "the chosen answers are not known"),
    ("dpo", wish("token_filtering", "suppress"), {"chosen_spans": {"a": ((4, 12),)}}, "outside its text"),
    ("dpo", wish("token_filtering", "suppress"), {"chosen_spans": {"a": ((4, 4),)}}, "outside its text"),
    ("sft", wish("token_filtering", "suppress", side="rejected"), {}, "chosen answer only"),
    ("sft", wish("activation_steering", "amplify", side="rejected"), {}, "chosen answer only"),
    ("sft", wish("inoculation_prompting", "amplify"), {}, "against the concept"),
    ("dpo", wish("inoculation_prompting", "amplify", side="chosen"), {}, "against the concept"),
    ("dpo", wish("inoculation_prompting", "suppress"), {"instruction": " "}, "no instruction"),
    ("sft", wish("example_filtering", "suppress", effect="flip"), {}, "no other side"),
    ("dpo", wish("example_filtering", "suppress", effect="melt"), {}, "unknown effect"),
    ("dpo", wish("example_filtering", "suppress", strength=1.0), {}, "below 1"),
    ("dpo", wish("reward_shaping", "suppress", side="chosen"), {}, "has no side"),
    ("dpo", wish("activation_steering", "suppress", side="left"), {}, "unknown side"),
    ("dpo", wish("activation_steering", "suppress"), {"vector": None}, "was not measured"),
    ("dpo", wish("activation_steering", "suppress"), {"vector": np.array([2.0, 0.0])}, "unit vector"),
    ("dpo", wish("steering_ratio", "suppress"), {"ratio_chosen": None}, "were not measured"),
    ("dpo", wish("steering_ratio", "suppress"), {"ratio_chosen": np.array([np.nan, 0, 0, 0])}, "do not fit"),
    ("dpo", wish("reward_shaping", "allow"), {}, "only suppress and amplify"),
    ("dpo", wish("pruning", "suppress"), {}, "unknown method"),
    ("dpo", wish("reward_shaping", "suppress"), {"chosen": np.zeros(3)}, "do not match"),
    ("dpo", wish("reward_shaping", "suppress"), {"rejected": np.full(4, np.nan)}, "not finite"),
    ("dpo", wish("reward_shaping", "suppress"), {"inside": np.ones(4)}, "true or false"),
]


@pytest.mark.parametrize(("objective", "one", "fields", "message"), REFUSED, ids=[row[3] for row in REFUSED])
def test_a_wish_that_cannot_be_carried_out_is_refused_by_name(
    objective: str, one: Wish, fields: dict[str, object], message: str
) -> None:
    start = empty_recipe(IDS, objective)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message) as caught:
        apply(start, one, whole(**fields))
    assert "decision 'trait'" in str(caught.value)


def test_sft_data_without_rejected_answers_are_standardised_over_the_chosen() -> None:
    recipe = apply(sft(), wish("reward_shaping", "suppress", strength=1.0), small(rejected=np.full(4, np.nan)))
    raw = np.exp(-(CHOSEN - CHOSEN.mean()) / CHOSEN.std())
    np.testing.assert_allclose(recipe.weights, raw / raw.mean())


# --- several decisions ------------------------------------------------------------------------------------------------


def named(name: str, method: str, action: str, **fields: object) -> Wish:
    return replace(wish(method, action, **fields), name=name)


def test_offsets_add_weights_multiply_and_a_dropped_row_stays_dropped() -> None:
    shape = (named("one", "reward_shaping", "suppress", strength=1.0), whole())
    ratio = (named("two", "steering_ratio", "suppress", strength=2.0), whole())
    drop = (named("three", "example_filtering", "suppress", strength=0.25), whole())
    halve = (named("four", "example_filtering", "suppress", strength=0.5, effect="down"), whole())
    recipe = prepare(dpo(), [shape, ratio, drop, halve]).recipe
    np.testing.assert_allclose(recipe.offsets_nats, (CHOSEN - REJECTED) * (1 / S_SD + 2))
    assert recipe.weights.tolist() == [0, 1, 1, 0.5]
    assert len(recipe.log) == 4
    one, two = (apply(sft(), row[0], row[1]).weights for row in (shape, ratio))
    np.testing.assert_allclose(prepare(sft(), [shape, ratio, drop]).recipe.weights, one * two * [0, 1, 1, 1])


FEW = Data(np.array([3, 2, 1, 2]), np.array([0, 3, 2, 1]), IDS)
FEW_EXCHANGED = Data(np.array([0, 2, 1, 2]), np.array([3, 3, 2, 1]), IDS)  # the first pair the other way round
FIRST = np.array([True, False, False, False])
AT = START + np.array([0.3, -0.1, 0.2, 0.0])


# Which rows are filtered depends on how they are trained at that time, so a flip after filtering is another plan.
FLIPS = [(one, True) for one in METHODS] + [(one, False) for one in METHODS if one != "example_filtering"]


def test_flipping_twice_is_as_never() -> None:
    flips = named("flips", "example_filtering", "suppress", strength=0.25, effect="flip")
    back = named("back", "example_filtering", "amplify", strength=0.25, effect="flip")
    assert prepare(dpo(), [(flips, whole())]).recipe.flipped.tolist() == FIRST.tolist()
    recipe = prepare(dpo(), [(flips, whole()), (back, whole(inside=FIRST))]).recipe
    assert not recipe.flipped.any()


@pytest.mark.parametrize(("method", "is_early"), FLIPS)
def test_a_flipped_row_trains_as_the_row_with_its_answers_exchanged(method: str, is_early: bool) -> None:
    """Also where the flip comes after the other decision. Unlike scores, so that no half of the rows cancels."""
    values = np.array([0.0, 0.5, 1.0, 2.0])
    score, exchanged = FEW.scored(values), FEW_EXCHANGED.scored(values)
    texts = {"chosen_texts": ["ab"] * 4, "rejected_texts": ["ab"] * 4}
    other = wish(method, "suppress") if method != "example_filtering" else wish(method, "suppress", effect="down")
    scored = replace(score, **texts)  # type: ignore[arg-type]
    recipe = apply(flip(dpo(), FIRST), other, scored) if is_early else flip(apply(dpo(), other, scored), FIRST)
    straight = apply(dpo(), other, replace(exchanged, **texts))  # type: ignore[arg-type]
    assert loss(recipe, FEW, AT).value == pytest.approx(loss(straight, FEW_EXCHANGED, AT).value)
    assert loss(recipe, FEW, AT).value != pytest.approx(loss(dpo(), FEW_EXCHANGED, AT).value)


def test_the_input_is_never_changed() -> None:
    start = dpo()
    before = start.fingerprint
    prepare(start, [(named(one, one, "suppress"), whole()) for one in METHODS])
    assert start.fingerprint == before
    assert start.log == ()


def test_a_plan_that_leaves_no_pair_is_refused_with_who_takes_them() -> None:
    scored = whole(chosen=np.array([1.0, 2, 3, 4]), rejected=np.zeros(4))
    rest = whole(chosen=np.zeros(4), rejected=np.array([1.0, 2, 3, 4]))
    decided = [(named(one, "example_filtering", "suppress", strength=0.99), scored) for one in ("bold", "lists")]
    with pytest.raises(UsageError, match="leaves no pair to train on") as caught:
        prepare(dpo(), decided)
    assert "bold leaves out 4; lists leaves out 4" in str(caught.value)
    assert prepare(dpo(), [(decided[0][0], rest)]).recipe.weights.sum() == 4
    with pytest.raises(UsageError, match="began with weights of 0"):
        prepare(replace(dpo(), weights=np.zeros(4)), [])


# --- what a decision changes ------------------------------------------------------------------------------------------

TEXTS = {one: (f"{'x' * 50}**bold {one}**{'y' * 50}", "plain words here") for one in IDS}


def test_a_change_tells_rows_characters_and_marked_examples() -> None:
    chosen: dict[str, Spans] = {one: ((50, 60),) for one in "abc"}
    scored = whole(chosen_spans=chosen, rejected_spans={"d": ((0, 5),)}, chosen_texts=None, rejected_texts=None)
    prepared = prepare(dpo(), [(wish("token_filtering", "suppress"), scored)], texts=TEXTS)
    (change,) = prepared.changes
    assert (change.n_answers_masked, change.n_chars_masked, change.n_touched, change.n_inside) == (4, 35, 4, 4)
    assert [one.marked for one in change.examples] == ["**bold a**", "**bold b**", "**bold c**", "plain"]
    first, last = change.examples[0], change.examples[-1]
    assert (first.before, first.after) == ("x" * 40, "y" * 40)
    assert (last.pair_id, last.side, last.before, last.after) == ("d", "rejected", "", " words here")
    assert (change.offsets_nats, change.weights) == (None, None)


def test_no_more_than_ten_examples_are_shown_from_all_over() -> None:
    prepared = prepare(
        empty_recipe(DATA.ids, "dpo"), [(wish("token_filtering", "suppress"), DATA.scored())], texts=DATA.texts
    )
    examples = prepared.changes[0].examples
    assert len(examples) == 10
    assert {one.side for one in examples} == {"chosen", "rejected"}
    assert {one.marked for one in examples} == {"T"}


def test_a_change_tells_offsets_weights_and_rows() -> None:
    decided = [
        (named("shape", "reward_shaping", "suppress", strength=1.0), whole()),
        (named("drop", "example_filtering", "suppress", strength=0.25), whole()),
        (named("halve", "example_filtering", "suppress", strength=0.25, effect="down"), whole()),
        (named("flip", "example_filtering", "amplify", strength=0.25, effect="flip"), whole()),
        (named("steer", "activation_steering", "suppress"), whole()),
        (named("tell", "inoculation_prompting", "suppress"), whole()),
    ]
    shape, drop, halve, turn, steer, tell = prepare(dpo(), decided).changes
    assert shape.offsets_nats is not None
    assert (sum(shape.offsets_nats.counts), shape.offsets_nats.n_zero, len(shape.offsets_nats.edges)) == (3, 1, 9)
    assert 0.0 in shape.offsets_nats.edges  # no bin lies across it
    assert shape.offsets_nats.edges[-1] == pytest.approx(3 / S_SD)
    here = whole(inside=np.array([True, False, True, False]))
    (gated,) = prepare(dpo(), [(decided[0][0], here)]).changes
    assert gated.offsets_nats is not None
    assert (sum(gated.offsets_nats.counts) + gated.offsets_nats.n_zero, gated.n_inside) == (2, 2)
    assert shape.n_touched == 3  # one pair has the same score on both sides
    assert (drop.dropped, halve.down_weighted, turn.flipped) == (("a",), ("a",), ("c",))
    assert drop.weights is not None
    assert (sum(drop.weights.counts), drop.weights.n_zero) == (3, 1)
    assert steer.vectors == ("layer 1, chosen (all pairs): length 3",)
    assert tell.instructions == ("chosen (4 pairs): Use bold.",)
    assert all(one.lines for one in (shape, drop, halve, turn, steer, tell))


def test_overlap_is_the_share_of_pairs_both_touch_and_how_far_offsets_agree() -> None:
    left, right = np.array([True, True, True, False]), np.array([False, True, True, True])
    decided = [
        (named("left", "steering_ratio", "suppress"), whole(inside=left, ratio_chosen=np.array([1.0, 2, 4, 1]))),
        (named("right", "steering_ratio", "suppress"), whole(inside=right, ratio_chosen=np.array([1.0, 2, 4, 1]))),
        (named("drop", "example_filtering", "suppress", strength=0.25), whole()),
    ]
    first, second, third = prepare(dpo(), decided).overlaps
    assert (first.first, first.second, first.n_pairs, first.share) == ("left", "right", 2, 0.5)
    assert (second.n_pairs, second.correlation) == (1, None)
    assert (third.n_pairs, third.correlation) == (0, None)
    everywhere = [(one, replace(scored, inside=np.ones(4, bool))) for one, scored in decided[:2]]
    assert prepare(dpo(), everywhere).overlaps[0].correlation == pytest.approx(1.0)


def test_opposite_wishes_on_like_scores_are_a_conflict() -> None:
    down, up = named("bold", "reward_shaping", "suppress"), named("style", "steering_ratio", "amplify")
    (conflict,) = prepare(dpo(), [(down, whole()), (up, whole())]).conflicts
    assert "suppress and amplify on scores that correlate 1.00" in conflict.reason
    assert (conflict.first, conflict.second) == ("bold", "style")
    mirrored = whole(chosen=-CHOSEN, rejected=-REJECTED)
    assert prepare(dpo(), [(down, whole()), (up, mirrored)]).conflicts == ()
    assert len(prepare(dpo(), [(down, whole()), (replace(down, name="prose"), mirrored)]).conflicts) == 1


def test_the_same_wish_on_the_same_scores_by_two_methods_is_told_as_a_conflict() -> None:
    shape, steer = named("bold", "reward_shaping", "suppress"), named("bold", "steering_ratio", "suppress")
    (conflict,) = prepare(dpo(), [(shape, whole()), (steer, whole())]).conflicts
    assert "both suppress the same scores, by reward shaping and steering ratio" in conflict.reason
    here = np.array([True, True, False, False])
    assert prepare(dpo(), [(shape, whole(inside=here)), (steer, whole(inside=~here))]).conflicts == ()
    assert prepare(dpo(), [(shape, whole()), (steer, whole(chosen=CHOSEN + REJECTED))]).conflicts == ()


def test_opposite_wishes_on_scores_that_hardly_correlate_are_no_conflict() -> None:
    down, up = named("bold", "reward_shaping", "suppress"), named("lists", "reward_shaping", "amplify")
    other = whole(chosen=np.array([2.0, 2, 1, 0]), rejected=np.array([0.0, 1, 1, 1]))
    scores = (np.concatenate([one.chosen, one.rejected]) for one in (whole(), other))
    assert 0.1 < np.corrcoef(*scores)[0, 1] < 0.4
    assert prepare(dpo(), [(down, whole()), (up, other)]).conflicts == ()


def test_opposite_wishes_in_regions_that_do_not_meet_are_no_conflict() -> None:
    here = np.array([True, True, False, False])
    down, up = named("bold", "reward_shaping", "suppress"), named("style", "reward_shaping", "amplify")
    assert prepare(dpo(), [(down, whole(inside=here)), (up, whole(inside=~here))]).conflicts == ()


def test_leaving_out_what_another_decision_amplifies_is_a_conflict() -> None:
    other = whole(chosen=np.array([1.0, 0, 0, 1]), rejected=np.array([0.0, 1, 1, 0]))
    drop = named("drop", "example_filtering", "suppress", strength=0.25)
    reasons = [
        one.reason
        for one in prepare(dpo(), [(drop, whole()), (named("up", "reward_shaping", "amplify"), other)]).conflicts
    ]
    assert "the first leaves out or turns round 1 of the 2 pairs that teach what is amplified" in reasons
    away = whole(chosen=np.array([0.0, 1, 1, 0]), rejected=np.array([1.0, 0, 0, 1]))
    reasons = [
        one.reason
        for one in prepare(dpo(), [(drop, whole()), (named("up", "reward_shaping", "amplify"), away)]).conflicts
    ]
    assert reasons == []


def test_leaving_out_a_few_of_them_is_none() -> None:
    up = (named("up", "reward_shaping", "amplify"), DATA.scored(NEIGHBOUR))
    start = empty_recipe(DATA.ids, "dpo")
    few = (named("few", "example_filtering", "suppress", strength=0.02), DATA.scored())
    many = (named("many", "example_filtering", "suppress", strength=0.3), DATA.scored())
    assert prepare(start, [few, up]).conflicts == ()
    assert [one.first for one in prepare(start, [many, up]).conflicts] == ["many"]


def test_texts_that_lack_a_pair_are_refused() -> None:
    lengthless = whole(chosen_texts=None, rejected_texts=None)
    with pytest.raises(UsageError, match="answers are missing"):
        prepare(dpo(), [(wish("token_filtering", "suppress"), lengthless)], texts={"a": ("x", "y")})
