"""Training: TRL's own losses with an empty recipe, the formula by hand with one, and nothing left behind."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra tiltscope[train]")
trl = pytest.importorskip("trl", reason="training needs the extra tiltscope[train]")
pytest.importorskip("peft", reason="training needs the extra tiltscope[train]")

from datasets import Dataset  # noqa: E402

from launcher import launched_twice  # noqa: E402
from tiltscope.errors import ProductError, UsageError  # noqa: E402
from tiltscope.lm import load_model, load_renderer  # noqa: E402
from tiltscope.lm.model import load_tokenizer, load_whole  # noqa: E402
from tiltscope.pairs import Pair, Turn  # noqa: E402
from tiltscope.recipe import Recipe, Steering  # noqa: E402
from tiltscope.training import StartingModel, TrainConfig, load_config, load_run, train  # noqa: E402
from tiltscope.training.build import build_trainer, give_rows, reference_sequences, start_logps  # noqa: E402
from tiltscope.training.models import _without_packing, layers_of  # noqa: E402
from tiltscope.training.rows import plain_sequence, split_held_out, token_rows  # noqa: E402
from tiltscope.training.steering import Steerer  # noqa: E402
from training_models import PLAIN, made_pairs, plain, start_of, vector  # noqa: E402

# TRL's own reference pass and peft ask transformers in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

PAIRS = made_pairs()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> StartingModel:
    return start_of(tmp_path_factory.mktemp("tiny"))


def ready(start: StartingModel, recipe: Recipe, out: Path, config: TrainConfig = PLAIN) -> Any:
    """A trainer with its rows, as `train` builds it."""
    tokens = token_rows(PAIRS, recipe, start.renderer)
    trainer = build_trainer(tokens, recipe, start, config, out)
    give_rows(trainer, tokens, start_logps(trainer, start, reference_sequences(tokens), out / "reference"))
    return trainer


def moved_away(model: Any, seed: int = 1) -> None:
    """Change all weights a little, so that policy and reference differ."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in model.parameters():
            part.add_(torch.randn(part.shape, generator=generator) * 0.02)


def loss_and_gradients(trainer: Any, rows: list[Any]) -> tuple[float, dict[str, Any]]:
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    loss.backward()
    return float(loss.detach()), {name: one.grad.clone() for name, one in trainer.model.named_parameters()}


def batch_loss(trainer: Any, rows: list[Any]) -> float:
    """The loss of these rows as a training step computes it, steering included; no optimiser step."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return float(trainer.training_step(trainer.model, trainer.data_collator(rows)).detach())


def same_gradients(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=1e-5, atol=1e-6) for name in one)


def messages(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def logps_by_hand(model: Any, prompt: Any, ids: Any, mask: Any = None) -> float:
    """Summed log-prob of an answer, from a plain forward pass."""
    whole = torch.tensor([[*prompt, *ids]])
    with torch.no_grad():
        table = torch.log_softmax(model(input_ids=whole).logits[0].double(), dim=-1)
    at = range(len(prompt) - 1, len(prompt) + len(ids) - 1)
    counted = mask if mask is not None else [1] * len(ids)
    return float(sum(m * table[i, token] for i, token, m in zip(at, ids, counted, strict=True)))


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


# --- an empty recipe is plain training --------------------------------------------------------------------------------


def test_an_empty_recipe_is_trls_own_dpo_in_loss_and_gradient(start: StartingModel, tmp_path: Path) -> None:
    ours = ready(start, plain(PAIRS), tmp_path / "ours")
    tokenizer, _ = load_tokenizer(start.source, None)
    theirs = trl.DPOTrainer(
        model=load_whole(start.source, torch.float32, "cpu"),
        ref_model=load_whole(start.source, torch.float32, "cpu"),
        args=trl.DPOConfig(
            output_dir=str(tmp_path / "theirs"),
            beta=0.1,
            bf16=False,
            use_cpu=True,
            report_to=[],
            activation_checkpointing=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_list(
            [
                {
                    "prompt": messages(pair.prompt),
                    "chosen": [{"role": "assistant", "content": pair.chosen}],
                    "rejected": [{"role": "assistant", "content": pair.rejected}],
                }
                for pair in PAIRS
            ]
        ),
        processing_class=tokenizer,
    )
    mine, own = ours.train_dataset.to_list(), theirs.train_dataset.to_list()
    assert [row["prompt_ids"] + row["chosen_ids"] for row in own] == [
        row["chosen_prompt_ids"] + row["chosen_ids"] for row in mine
    ]
    for trainer in (ours, theirs):
        moved_away(trainer.model)
    for at in (slice(0, 4), slice(4, 9)):
        (our_loss, our_gradient), (loss, gradient) = (
            loss_and_gradients(trainer, rows[at]) for trainer, rows in ((ours, mine), (theirs, own))
        )
        assert our_loss == pytest.approx(loss, abs=1e-6)
        assert abs(loss - math.log(2)) > 1e-3  # or the two would agree whatever the loss is
        assert same_gradients(our_gradient, gradient)


def test_an_empty_recipe_is_trls_own_sft_in_loss_and_gradient(start: StartingModel, tmp_path: Path) -> None:
    ours = ready(start, plain(PAIRS, "sft"), tmp_path / "ours")
    tokenizer, _ = load_tokenizer(start.source, None)
    theirs = trl.SFTTrainer(
        model=load_whole(start.source, torch.float32, "cpu"),
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "theirs"),
            bf16=False,
            use_cpu=True,
            report_to=[],
            activation_checkpointing=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_list(
            [
                {"prompt": messages(pair.prompt), "completion": [{"role": "assistant", "content": pair.chosen}]}
                for pair in PAIRS
            ]
        ),
        processing_class=tokenizer,
    )
    mine, own = ours.train_dataset.to_list(), theirs.train_dataset.to_list()
    assert [(row["input_ids"], row["labels"]) for row in own] == [(row["input_ids"], row["labels"]) for row in mine]
    for at in (slice(0, 4), slice(4, 9)):
        (our_loss, our_gradient), (loss, gradient) = (
            loss_and_gradients(trainer, rows[at]) for trainer, rows in ((ours, mine), (theirs, own))
        )
        assert our_loss == pytest.approx(loss, abs=1e-6)
        assert same_gradients(our_gradient, gradient)


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_at_once", [4096, 5])
def test_the_compact_head_gives_the_loss_and_gradients_of_trls_own(
    start: StartingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr("tiltscope.training.head._ROWS", rows_at_once)
    recipe = plain(PAIRS)
    ours = ready(start, recipe, tmp_path / "ours")
    monkeypatch.setattr("tiltscope.training.build.compact_head", lambda model: None)
    theirs = ready(start, recipe, tmp_path / "theirs")
    rows = list(ours.train_dataset)[:4]
    found = []
    for trainer in (ours, theirs):
        moved_away(trainer.model)
        found.append(loss_and_gradients(trainer, rows))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert same_gradients(found[0][1], found[1][1])


def test_a_run_trains_and_its_folder_opens(start: StartingModel, tmp_path: Path) -> None:
    config = replace(PLAIN, num_train_epochs=2.0)
    run = train(PAIRS, plain(PAIRS), start, config, tmp_path / "run")
    assert run.n_rows == len(PAIRS)
    assert run.n_steps == 6
    assert run.losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert run.losses[-1] < 0.5
    assert load_run(tmp_path / "run") == run
    assert load_model(str(run.model_folder)).renderer.template == start.renderer.template
    assert load_renderer(str(run.model_folder)).fingerprint == start.renderer.fingerprint
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    assert kept["versions"]["trl"].startswith("1.16.")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == run.n_steps


# --- what a recipe changes --------------------------------------------------------------------------------------------


def test_weights_offsets_masks_flips_and_instructions_follow_the_formula(start: StartingModel, tmp_path: Path) -> None:
    """-w log sigmoid(beta D + offset), with every number of D from a plain forward pass."""
    rng = np.random.default_rng(0)
    weights, offsets = rng.uniform(0.2, 3, len(PAIRS)), rng.normal(0, 4, len(PAIRS))
    flipped = np.arange(len(PAIRS)) % 4 == 1
    recipe = plain(
        PAIRS,
        weights=weights,
        offsets_nats=offsets,
        flipped=flipped,
        chosen_masked={pair.id: ((0, 6), (9, 11)) for pair in PAIRS[::2]},
        rejected_masked={pair.id: ((3, 4),) for pair in PAIRS[::3]},
        chosen_instruction={pair.id: "use **bold**" for pair in PAIRS[:6]},
        rejected_instruction={pair.id: "sorry?" for pair in PAIRS[4:8]},
    )
    trainer = ready(start, recipe, tmp_path)
    moved_away(trainer.model)
    policy, reference = trainer.model, load_whole(start.source, torch.float32, "cpu")
    expected = []
    for i, pair in enumerate(PAIRS):
        sides = [("chosen", recipe.chosen_masked), ("rejected", recipe.rejected_masked)]
        gains = []
        for (side, masked), told in zip(
            sides[::-1] if flipped[i] else sides, (recipe.chosen_instruction, recipe.rejected_instruction), strict=True
        ):
            text = start.renderer.render(pair.prompt, getattr(pair, side))
            prompt, ids = text.ids[: text.n_prompt_ids], text.ids[text.n_prompt_ids :]
            hidden = {
                int(at) - text.n_prompt_ids
                for at, a, b in zip(text.response.positions, text.response.starts, text.response.ends, strict=True)
                for c, d in masked.get(pair.id, ())
                if set(range(a, b)) & set(range(c, d))
            }
            mask = [int(at not in hidden) for at in range(len(ids))]
            turns = pair.prompt
            if pair.id in told:
                last = turns[-1]
                turns = (*turns[:-1], Turn("user", last.content + "\n\n" + told[pair.id]))
            seen = start.renderer.render(turns, getattr(pair, side))
            policy_prompt = seen.ids[: seen.n_prompt_ids]
            gains.append(logps_by_hand(policy, policy_prompt, ids, mask) - logps_by_hand(reference, prompt, ids, mask))
        expected.append(-weights[i] * log_sigmoid(0.1 * (gains[0] - gains[1]) + offsets[i]))
    rows = trainer.train_dataset.to_list()
    for at in (slice(0, 5), slice(5, 12)):
        assert loss_and_gradients(trainer, rows[at])[0] == pytest.approx(np.mean(expected[at]), rel=1e-5)


def test_a_reference_shifted_by_the_offset_is_the_offset(start: StartingModel, tmp_path: Path) -> None:
    offsets = np.linspace(-5, 5, len(PAIRS))
    trainer = ready(start, plain(PAIRS, offsets_nats=offsets), tmp_path)
    rows = trainer.train_dataset.to_list()
    shifted = [
        {**row, "ref_chosen_logps": row["ref_chosen_logps"] - row["offset"] / 0.1, "offset": None} for row in rows
    ]
    (ours, gradient), (theirs, other) = (loss_and_gradients(trainer, one) for one in (rows, shifted))
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert all(torch.allclose(gradient[name], other[name], atol=1e-5) for name in gradient)


def test_rows_of_weight_0_are_left_out_before_batching(start: StartingModel, tmp_path: Path) -> None:
    weights = np.ones(len(PAIRS))
    weights[3:6] = 0
    trainer = ready(start, plain(PAIRS, weights=weights), tmp_path)
    assert len(trainer.train_dataset) == len(PAIRS) - 3
    assert token_rows(PAIRS, plain(PAIRS, weights=weights), start.renderer).dropped == {"weight 0": 3}


def test_sft_weights_multiply_each_examples_token_losses(start: StartingModel, tmp_path: Path) -> None:
    weights = np.linspace(0.1, 3, len(PAIRS))
    recipe = plain(
        PAIRS, "sft", weights=weights, chosen_masked={PAIRS[1].id: ((0, 5),)}, chosen_instruction={PAIRS[0].id: "use!"}
    )
    trainer = ready(start, recipe, tmp_path)
    rows = trainer.train_dataset.to_list()
    total, n_tokens = 0.0, 0
    for row, weight in zip(rows, weights, strict=True):
        n_prompt = next(i for i, label in enumerate(row["labels"]) if label != -100)
        n_prompt = len(row["input_ids"]) - len([x for x in row["labels"][n_prompt:]])
        mask = [int(label != -100) for label in row["labels"][n_prompt:]]
        ids = row["input_ids"]
        total -= weight * logps_by_hand(trainer.model, ids[:n_prompt], ids[n_prompt:], mask)
        n_tokens += sum(mask)
    assert loss_and_gradients(trainer, rows)[0] == pytest.approx(total / n_tokens, rel=1e-5)
    told = start.renderer.tokenizer.decode(rows[0]["input_ids"])
    assert "use!<|im_end|>" in told
    masked = [one for one, label in zip(rows[1]["input_ids"], rows[1]["labels"], strict=True) if label == -100]
    assert start.renderer.tokenizer.decode(masked).endswith("the garden")  # whole tokens that overlap "the g"


def test_the_instruction_stands_after_a_blank_line_and_the_reference_does_not_see_it(start: StartingModel) -> None:
    recipe = plain(PAIRS, chosen_instruction={pair.id: "be **bold** in it" for pair in PAIRS})
    row = token_rows(PAIRS, recipe, start.renderer).rows[1]
    decode = start.renderer.tokenizer.decode
    assert (
        decode(row.chosen.policy.prompt_ids).count(f"{PAIRS[1].prompt[-1].content}\n\nbe **bold** in it<|im_end|>") == 1
    )
    assert row.rejected is not None
    for other in (row.chosen.reference, row.rejected.policy, row.rejected.reference):
        assert "be **bold** in it" not in decode(other.prompt_ids)
    assert row.chosen.policy.ids == row.chosen.reference.ids


def test_an_instruction_that_cuts_the_answer_cuts_it_for_the_reference_too(start: StartingModel) -> None:
    long = Pair("f" * 16, (Turn("user", "hello"),), "the answer " * 30, "no", "g", 1)
    room = len(start.renderer.render(long.prompt, long.chosen).ids)
    tight = load_renderer(start.model, max_length=room)
    row = token_rows([long], plain([long], chosen_instruction={long.id: "and use it all"}), tight).rows[0]
    assert len(row.chosen.policy.prompt_ids) + len(row.chosen.policy.ids) == room
    assert row.chosen.policy.ids == row.chosen.reference.ids
    assert row.chosen.n_cut > 0


def test_a_row_whose_mask_leaves_no_token_is_dropped_and_counted(start: StartingModel) -> None:
    everything = {PAIRS[2].id: ((0, 500),)}
    tokens = token_rows(PAIRS, plain(PAIRS, rejected_masked=everything), start.renderer)
    assert tokens.dropped == {"mask leaves no visible token of an answer": 1}
    assert [row.pair_id for row in tokens.rows] == [pair.id for i, pair in enumerate(PAIRS) if i != 2]


def test_a_row_whose_mask_leaves_white_space_alone_is_dropped_too(start: StartingModel) -> None:
    bold = replace(PAIRS[2], chosen="**all bold**  \n\n")
    masked = {bold.id: ((0, len("**all bold**")),)}
    rows = [*PAIRS[:2], bold]
    assert token_rows(rows, plain(rows, chosen_masked=masked), start.renderer).dropped == {
        "mask leaves no visible token of an answer": 1
    }
    said = [*PAIRS[:2], replace(bold, chosen="**all bold** and so on")]
    assert token_rows(said, plain(said, chosen_masked=masked), start.renderer).dropped == {}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"weights": np.zeros(len(PAIRS))}, "12 weight 0"),
        ({"chosen_masked": {pair.id: ((0, 500),) for pair in PAIRS}}, "12 mask leaves no visible token of an answer"),
    ],
    ids=["weights", "masks"],
)
def test_a_recipe_that_leaves_no_row_is_refused(start: StartingModel, tmp_path: Path, changes: Any, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        train(PAIRS, plain(PAIRS, **changes), start, PLAIN, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_other_pairs_is_refused(start: StartingModel) -> None:
    with pytest.raises(UsageError, match="made for other pairs"):
        token_rows(PAIRS, plain(PAIRS[1:]), start.renderer)


# --- steering ---------------------------------------------------------------------------------------------------------


def steered_by_hand(model: Any, prompt: Any, ids: Any, start_at: int, layer: int, added: np.ndarray) -> float:
    def hook(module: Any, inputs: Any, output: Any) -> Any:
        output[:, start_at:] += torch.as_tensor(added)
        return output

    handle = layers_of(model)[layer].register_forward_hook(hook)
    try:
        return logps_by_hand(model, prompt, ids)
    finally:
        handle.remove()


def test_steering_changes_the_policy_on_its_side_and_rows_only(start: StartingModel, tmp_path: Path) -> None:
    ids = frozenset(pair.id for pair in PAIRS[:2])
    recipe = plain(PAIRS, steering=(Steering(1, vector(), "chosen", ids), Steering(2, vector(1), "both", None)))
    trainer = ready(start, recipe, tmp_path)
    base = ready(start, plain(PAIRS), tmp_path / "plain")
    rows, unsteered = trainer.train_dataset.to_list(), base.train_dataset.to_list()
    assert [row["ref_chosen_logps"] for row in rows] == [row["ref_chosen_logps"] for row in unsteered]
    trainer.steerer = Steerer(layers_of(trainer.model), recipe.steering[:1])
    expected = []
    for i, row in enumerate(rows[:4]):
        gains = []
        for side in ("chosen", "rejected"):
            prompt, answer = row[f"{side}_prompt_ids"], row[f"{side}_ids"]
            value = logps_by_hand(base.model, prompt, answer)
            if side == "chosen" and i < 2:
                begins = "".join(start.renderer.tokenizer.decode([one]) for one in prompt[: row["chosen_steer"][0]])
                assert begins.endswith("user\n")
                assert begins.count("user\n") == sum(turn.role == "user" for turn in PAIRS[i].prompt)
                value = steered_by_hand(base.model, prompt, answer, row["chosen_steer"][0], 1, vector())
            gains.append(value - row[f"ref_{side}_logps"])
        expected.append(-log_sigmoid(0.1 * (gains[0] - gains[1])))
    assert batch_loss(trainer, rows[:4]) == pytest.approx(np.mean(expected), rel=1e-5)
    assert abs(np.mean(expected) - math.log(2)) > 1e-3
    assert trainer.steerer.bits is None
    assert loss_and_gradients(trainer, unsteered[:4] and rows[:4])[0] == pytest.approx(math.log(2), abs=1e-5)
    trainer.steerer.remove()
    assert not any(block._forward_hooks for block in layers_of(trainer.model))


def test_steering_is_the_same_when_activations_are_computed_twice(start: StartingModel, tmp_path: Path) -> None:
    recipe = plain(PAIRS, steering=(Steering(1, vector(), "both", None),))
    gradients = []
    for twice in (False, True):
        trainer = ready(start, recipe, tmp_path / str(twice))
        if twice:
            trainer.model.activation_checkpointing_enable()
        trainer.steerer = Steerer(layers_of(trainer.model), recipe.steering)
        moved_away(trainer.model)
        batch_loss(trainer, trainer.train_dataset.to_list()[:4])
        gradients.append({name: one.grad.clone() for name, one in trainer.model.named_parameters()})
    assert same_gradients(gradients[0], gradients[1])


def test_sft_steers_the_answer_that_is_trained(start: StartingModel, tmp_path: Path) -> None:
    recipe = plain(PAIRS, "sft", steering=(Steering(0, vector(), "chosen", None),))
    trainer = ready(start, recipe, tmp_path)
    rows = trainer.train_dataset.to_list()[:4]
    without = batch_loss(trainer, rows)
    trainer.steerer = Steerer(layers_of(trainer.model), recipe.steering)
    assert abs(batch_loss(trainer, rows) - without) > 1e-3


def test_nothing_of_an_intervention_remains_in_the_saved_model(start: StartingModel, tmp_path: Path) -> None:
    secret = "be **bold** in it"
    recipe = plain(
        PAIRS,
        steering=(Steering(1, vector(), "chosen", None),),
        chosen_instruction={pair.id: secret for pair in PAIRS},
    )
    run = train(PAIRS, recipe, start, PLAIN, tmp_path / "run")
    assert start.model is not None
    names = {path.name for path in run.model_folder.iterdir()}
    assert names == {path.name for path in Path(start.model).iterdir()}
    for path in run.model_folder.iterdir():
        assert secret.encode() not in path.read_bytes()
    assert (run.model_folder / "chat_template.jinja").read_bytes() == (
        Path(start.model) / "chat_template.jinja"
    ).read_bytes()
    own, new = (json.loads((folder / "config.json").read_text()) for folder in (Path(start.model), run.model_folder))
    assert own == new
    loaded = load_whole(StartingModel(str(run.model_folder)).source, torch.float32, "cpu")
    assert set(loaded.state_dict()) == set(load_whole(start.source, torch.float32, "cpu").state_dict())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in loaded.modules())
    ids = torch.tensor([list(start.renderer.render(PAIRS[0].prompt, PAIRS[0].chosen).ids)])
    with torch.no_grad():
        kept = dict(_tensors(run.model_folder))
        fresh = type(loaded)(loaded.config)
        fresh.load_state_dict(kept)
        assert torch.equal(loaded(input_ids=ids).logits, fresh(input_ids=ids).logits)


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    from safetensors.torch import load_file

    yield from load_file(folder / "model.safetensors").items()


@pytest.mark.parametrize(
    ("one", "what"),
    [
        (Steering(4, vector(), "chosen"), "no such layer"),
        (Steering(1, np.ones(5, np.float32), "chosen"), "does not fit"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(start: StartingModel, tmp_path: Path, one: Steering, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        train(PAIRS, plain(PAIRS, steering=(one,)), start, PLAIN, tmp_path / "run")


# --- adapters ---------------------------------------------------------------------------------------------------------


def test_an_adapter_is_saved_alone_and_merged(start: StartingModel, tmp_path: Path) -> None:
    config = replace(PLAIN, lora_r=4, lora_target_modules=("q_proj", "v_proj"), learning_rate=1e-2)
    run = train(PAIRS, plain(PAIRS), start, config, tmp_path / "run")
    assert run.adapter_folder is not None
    assert {path.name for path in run.adapter_folder.iterdir()} >= {"adapter_model.safetensors", "adapter_config.json"}
    own, merged = (dict(_tensors(folder)) for folder in (Path(str(start.model)), run.model_folder))
    changed = {name for name in own if not torch.equal(own[name], merged[name])}
    assert changed == {name for name in own if "q_proj" in name or "v_proj" in name}
    assert load_model(str(run.model_folder)).renderer.fingerprint == start.renderer.fingerprint


def test_an_adapter_on_a_module_that_is_not_there_names_those_that_are(start: StartingModel, tmp_path: Path) -> None:
    config = replace(PLAIN, lora_r=4, lora_target_modules=("q_proj", "c_attn"))
    with pytest.raises(UsageError, match=r"c_attn[\s\S]*it has: down_proj, gate_proj, k_proj"):
        train(PAIRS, plain(PAIRS), start, config, tmp_path / "run")


def test_a_packed_models_saved_folder_is_plain_safetensors(start: StartingModel, tmp_path: Path) -> None:
    from transformers import LlamaConfig

    packed = load_whole(start.source, torch.float32, "cpu")
    packed.config.quantization_config = {"quant_method": "gguf"}
    fresh = _without_packing(packed)
    fresh.save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    assert isinstance(fresh.config, LlamaConfig)
    assert all(torch.equal(one, fresh.state_dict()[name]) for name, one in packed.state_dict().items())


# --- did it move? -----------------------------------------------------------------------------------------------------


def test_held_out_groups_are_whole_and_do_not_depend_on_the_order(start: StartingModel) -> None:
    pairs = [replace(pair, group=f"g{i // 3}") for i, pair in enumerate(made_pairs(90))]
    used, kept = split_held_out(pairs, 0.3)
    assert {pair.group for pair in used} & {pair.group for pair in kept} == set()
    assert 10 <= len(kept) <= 50
    assert {pair.id for pair in split_held_out(pairs[::-1], 0.3)[1]} == {pair.id for pair in kept}
    assert split_held_out(pairs, 0.0)[1] == []
    many = [replace(pair, group=f"g{i}") for i, pair in enumerate(made_pairs(1000))]
    assert len(split_held_out(many, 0.5)[1]) == 200


def test_the_end_of_training_says_whether_it_moved_the_model(start: StartingModel, tmp_path: Path) -> None:
    pairs = made_pairs(40)
    config = replace(PLAIN, held_out_share=0.3)
    still, far = (
        train(pairs, plain(pairs), start, replace(config, learning_rate=rate), tmp_path / name).moved
        for rate, name in ((0.0, "still"), (1e-3, "far"))
    )
    assert (still.accuracy, still.margin_nats) == (0.5, 0.0)
    assert still.kl_nats_per_token == pytest.approx(0, abs=1e-6)
    assert "did not move" in still.note
    assert far.accuracy is not None
    assert far.accuracy > 0.8
    assert far.kl_nats_per_token is not None
    assert far.kl_nats_per_token > 0.01
    assert far.note == "training moved the held-out preference towards the chosen answers"
    assert far.n_pairs == still.n_pairs > 5


def test_margin_and_divergence_agree_with_plain_forward_passes(start: StartingModel, tmp_path: Path) -> None:
    pairs = made_pairs(40)
    run = train(pairs, plain(pairs), start, replace(PLAIN, held_out_share=0.2), tmp_path / "run")
    kept = split_held_out(pairs, 0.2)[1]
    before = load_whole(start.source, torch.float32, "cpu")
    after = load_whole(StartingModel(str(run.model_folder)).source, torch.float32, "cpu")
    margins, divergences = [], []
    for pair in kept:
        gains = []
        for side in ("chosen", "rejected"):
            text = plain_sequence(pair, side, start.renderer)
            gains.append(
                logps_by_hand(after, text.prompt_ids, text.ids) - logps_by_hand(before, text.prompt_ids, text.ids)
            )
            with torch.no_grad():
                now, then = (
                    torch.log_softmax(model(input_ids=torch.tensor([[*text.prompt_ids, *text.ids]])).logits[0], -1)
                    for model in (after, before)
                )
            at = slice(len(text.prompt_ids) - 1, -1)
            divergences += (now.exp() * (now - then)).sum(-1)[at].tolist()
        margins.append(gains[0] - gains[1])
    assert run.moved.margin_nats == pytest.approx(np.mean(margins), rel=1e-4)
    assert run.moved.accuracy == np.mean(np.array(margins) > 0)
    assert run.moved.kl_nats_per_token == pytest.approx(np.mean(divergences), rel=1e-3)
    assert run.moved.n_kl_tokens == len(divergences)


def test_the_moved_check_reads_held_out_pairs_plainly(start: StartingModel, tmp_path: Path) -> None:
    """Offsets, masks, instructions and steering of held-out pairs change nothing of the check."""
    pairs = made_pairs(40)
    kept = split_held_out(pairs, 0.2)[1]
    told = plain(
        pairs,
        offsets_nats=np.array([50.0 * (pair in kept) for pair in pairs]),
        chosen_masked={pair.id: ((0, 4),) for pair in kept},
        chosen_instruction={pair.id: "use" for pair in kept},
    )
    runs = [
        train(pairs, recipe, start, replace(PLAIN, held_out_share=0.2), tmp_path / name)
        for recipe, name in ((plain(pairs), "plain"), (told, "told"))
    ]
    assert runs[0].moved == runs[1].moved


# --- stopping, resuming, failing --------------------------------------------------------------------------------------


class Killed(Exception):
    """A run that ends in the middle."""


def killed_at(step: int) -> Any:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "training" and done == step:
            raise Killed

    return progress


@pytest.mark.parametrize(("objective", "lora_r"), [("dpo", 0), ("sft", 2)])
def test_a_stopped_run_goes_on_to_the_same_weights(
    start: StartingModel, tmp_path: Path, objective: str, lora_r: int
) -> None:
    config = replace(PLAIN, num_train_epochs=2.0, save_steps=2, lora_r=lora_r, gradient_accumulation_steps=1)
    recipe = plain(PAIRS, objective, weights=np.linspace(0.5, 2, len(PAIRS)))
    whole = train(PAIRS, recipe, start, config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(PAIRS, recipe, start, config, tmp_path / "broken", progress=killed_at(5))
    assert not (tmp_path / "broken" / "run.json").exists()
    steps: list[int] = []
    again = train(
        PAIRS,
        recipe,
        start,
        config,
        tmp_path / "broken",
        progress=lambda stage, done, total: steps.append(done) if stage == "training" else None,
    )
    assert steps == [5, 6]
    assert again.losses == whole.losses
    assert (again.model_folder / "model.safetensors").read_bytes() == (
        whole.model_folder / "model.safetensors"
    ).read_bytes()


def test_a_finished_run_is_returned_and_another_ones_folder_refused(start: StartingModel, tmp_path: Path) -> None:
    run = train(PAIRS, plain(PAIRS), start, PLAIN, tmp_path / "run")
    at = (run.model_folder / "model.safetensors").stat().st_mtime_ns
    assert train(PAIRS, plain(PAIRS), start, replace(PLAIN, save_steps=7), tmp_path / "run") == run
    assert (run.model_folder / "model.safetensors").stat().st_mtime_ns == at
    with pytest.raises(ProductError, match="another run"):
        train(PAIRS, plain(PAIRS), start, replace(PLAIN, beta=0.3), tmp_path / "run")


def test_half_a_checkpoint_is_not_resumed_from(start: StartingModel, tmp_path: Path) -> None:
    config = replace(PLAIN, num_train_epochs=2.0, save_steps=2)
    whole = train(PAIRS, plain(PAIRS), start, config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(PAIRS, plain(PAIRS), start, config, tmp_path / "run", progress=killed_at(5))
    (tmp_path / "run/checkpoints/checkpoint-4/whole.json").unlink()
    (tmp_path / "run/checkpoints/checkpoint-4/model.safetensors").write_bytes(b"half")
    assert train(PAIRS, plain(PAIRS), start, config, tmp_path / "run").losses == whole.losses


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 368128704 vs 368128596"),
    ],
)
def test_a_full_disk_is_told_and_the_earlier_checkpoint_kept(
    start: StartingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    config = replace(PLAIN, num_train_epochs=2.0, save_steps=2)
    whole = train(PAIRS, plain(PAIRS), start, config, tmp_path / "whole")
    save = torch.save

    def full(thing: Any, path: Any, *rest: Any) -> None:
        if "checkpoint-4" in str(path):
            raise error
        save(thing, path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(ProductError, match=r"could not be written[\s\S]*checkpoint-2 is whole"):
            train(PAIRS, plain(PAIRS), start, config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["checkpoint-2"]
    again = train(PAIRS, plain(PAIRS), start, config, tmp_path / "run")
    assert again.losses == whole.losses
    assert not (tmp_path / "run/checkpoints").exists()  # nothing is left to resume


def test_a_diverging_run_stops_with_advice_and_saves_nothing(start: StartingModel, tmp_path: Path) -> None:
    offsets = np.full(len(PAIRS), np.nan)
    with pytest.raises(UsageError, match=r"diverged[\s\S]*step 1[\s\S]*lower learning_rate"):
        train(PAIRS, plain(PAIRS, offsets_nats=offsets), start, PLAIN, tmp_path / "run")
    assert not (tmp_path / "run/model").exists()


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant_with_warmup"])
def test_a_training_of_one_step_moves_the_model(start: StartingModel, tmp_path: Path, schedule: str) -> None:
    config = replace(PLAIN, warmup_ratio=0.1, max_steps=1, lr_scheduler_type=schedule)
    train(PAIRS, plain(PAIRS), start, config, tmp_path / "run")
    (step,) = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text("utf-8").splitlines()]
    assert step["learning_rate"] == config.learning_rate


def test_where_no_row_is_left_the_reason_is_the_true_one(start: StartingModel) -> None:
    pairs = PAIRS[:1]
    with pytest.raises(UsageError, match=r"all pairs are held out[\s\S]*held_out_share: 0"):
        token_rows(split_held_out(pairs, 1.0)[0], plain(pairs), start.renderer)
    with pytest.raises(UsageError, match=r"1 weight 0[\s\S]*tiltscope prepare"):
        token_rows(pairs, plain(pairs, weights=np.zeros(1)), start.renderer)
    with pytest.raises(UsageError, match=r"1 prompt fills max_length[\s\S]*larger --max-length"):
        token_rows(pairs, plain(pairs), replace(start, max_length=8).renderer)


def test_the_reference_is_read_once_and_shared_by_content(
    start: StartingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = replace(start, reference_folder=tmp_path / "reference")
    first = train(PAIRS, plain(PAIRS), shared, PLAIN, tmp_path / "first")
    calls: list[str] = []
    flipped = plain(PAIRS, flipped=np.arange(len(PAIRS)) % 2 == 0, offsets_nats=np.ones(len(PAIRS)))
    train(PAIRS, flipped, shared, PLAIN, tmp_path / "second", progress=lambda stage, done, total: calls.append(stage))
    assert "reference log-probs" not in calls
    assert first.losses[0] == pytest.approx(math.log(2), abs=1e-5)
    masked = plain(PAIRS, chosen_masked={PAIRS[0].id: ((0, 3),)})
    train(PAIRS, masked, shared, PLAIN, tmp_path / "third", progress=lambda stage, done, total: calls.append(stage))
    assert "reference log-probs" in calls


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_come_from_yaml_with_trls_key_names(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("learning_rate: 1e-7\nbeta: 2\nlora_target_modules: [q_proj]\nbf16: false\n")
    assert load_config(tmp_path / "train.yaml") == TrainConfig(
        learning_rate=1e-7, beta=2.0, lora_target_modules=("q_proj",), bf16=False
    )
    (tmp_path / "train.yaml").write_text("")
    assert load_config(tmp_path / "train.yaml") == TrainConfig()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("learning_rat: 1", "nearest: learning_rate"),
        ("beta: large", "beta must be a number"),
        ("seed: 1.5", "seed must be a whole number"),
        ("bf16: 1", "bf16 must be true or false"),
        ("beta: .nan", "beta is out of range"),
        ("held_out_share: 0.9", "out of range"),
        ("lr_scheduler_type: linnear", "nearest: linear"),
        ("num_train_epochs: 0", "nothing to train"),
        ("- 1", "keys and values"),
        ("a: [", "not valid YAML"),
        ("lora_target_modules: q_proj", "a list of names"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "train.yaml").write_text(text)
    with pytest.raises(UsageError, match=found):
        load_config(tmp_path / "train.yaml")


@pytest.mark.parametrize("line", ["learning_rat: 1", "beta: large", "beta: 2000", "lr_scheduler_type: linnear"])
def test_a_refused_setting_names_its_file_and_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "train.yaml").write_text(f"# mine\nbf16: false\n{line}\n")
    with pytest.raises(UsageError) as caught:
        load_config(tmp_path / "train.yaml")
    assert caught.value.where == f"{tmp_path / 'train.yaml'}:3"
    assert caught.value.found
    assert caught.value.hint


# --- several processes ------------------------------------------------------------------------------------------------

SCRIPT = """
    import sys
    from dataclasses import replace
    from pathlib import Path

    import numpy as np

    sys.path.insert(0, sys.argv[1])
    from training_models import PLAIN, made_pairs, plain
    from tiltscope.training import StartingModel, train

    pairs = made_pairs(24)
    config = replace(PLAIN, per_device_train_batch_size=int(sys.argv[4]), save_steps=4)
    for objective in ("dpo", "sft"):
        recipe = plain(pairs, objective, weights=np.linspace(0.5, 2, len(pairs)))
        train(pairs, recipe, StartingModel(sys.argv[2]), config, Path(sys.argv[3]) / objective)
"""


def test_two_processes_train_as_one_at_the_same_global_batch(start: StartingModel, tmp_path: Path) -> None:
    """Under `accelerate launch`, with gloo: what runs on several GPUs runs here on two CPU processes."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    launched_twice(script, Path(__file__).parent, start.model, tmp_path / "two", 2, cwd=tmp_path)
    pairs = made_pairs(24)
    for objective in ("dpo", "sft"):
        recipe = plain(pairs, objective, weights=np.linspace(0.5, 2, len(pairs)))
        config = replace(PLAIN, per_device_train_batch_size=4)
        one = train(pairs, recipe, start, config, tmp_path / "one" / objective)
        two = load_run(tmp_path / "two" / objective)
        assert two.n_steps == 6
        assert two.losses == pytest.approx(one.losses, abs=1e-4)
        assert min(one.losses) < 0.9 * max(one.losses)  # the curve is no flat line
        weights = [dict(_tensors(run.model_folder)) for run in (one, two)]
        assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-4) for name in weights[0])


# --- what the documentation shows -------------------------------------------------------------------------------------

EXAMPLES = Path(__file__).parent.parent / "examples" / "configs"


@pytest.mark.parametrize(
    ("name", "n_gpus"), [("llama-3.1-8b-lora", 1), ("llama-3.1-8b", 8), ("70b-lora", 8), ("llama-3.1-8b-nodes", 32)]
)
def test_the_example_settings_load_and_make_a_global_batch_of_128(name: str, n_gpus: int) -> None:
    config = load_config(EXAMPLES / f"{name}.yaml")
    assert n_gpus * config.per_device_train_batch_size * config.gradient_accumulation_steps == 128


@pytest.mark.parametrize("name", ["ddp", "fsdp", "fsdp_nodes"])
def test_the_example_launch_files_are_read_by_accelerate(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(EXAMPLES / f"{name}.yaml")).num_processes in (8, 32)


def test_the_launch_commands_of_the_documentation_are_read_by_accelerate() -> None:
    from accelerate.commands.launch import launch_command_parser

    page = (EXAMPLES.parent.parent / "docs" / "training.md").read_text("utf-8")
    lines = [line.replace("RANK", "0").split() for line in page.splitlines() if line.startswith("accelerate launch")]
    assert len(lines) == 4
    for line in lines:
        args = launch_command_parser().parse_args(line[2:])
        assert args.module
        assert (args.training_script, args.training_script_args[0]) == ("tiltscope", "train")
        assert (EXAMPLES.parent.parent / args.config_file).exists()
    for name in set(re.findall(r"examples/configs/[\w.-]+", page)):
        assert (EXAMPLES.parent.parent / name).exists()
