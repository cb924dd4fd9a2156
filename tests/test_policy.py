"""Log-probs, samples and steering of a whole model, against naive loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the model side needs the extra tiltscope[torch]")

from tiltscope.lm import Policy, Sampling, Steer, generate, load_policy, response_logps, steered  # noqa: E402
from tiltscope.pairs import Turn  # noqa: E402
from tiny import tiny_model_folder  # noqa: E402

PROMPTS = [(Turn("user", "hello you"),), (Turn("system", "be kind"), Turn("user", "how are you there now")), ()]
TALKS = [((Turn("user", "hello"),), "all right"), ((Turn("user", "what is it"),), "it is **bold** and the end")]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tiny_model_folder(Path(tmp_path_factory.mktemp("tiny")))
    return load_policy(str(folder), device="cpu", dtype="float32", max_length=128)


def naive(policy: Policy, text: Any) -> float:
    logits = policy.model(input_ids=torch.tensor([text.ids])).logits[0].detach().float().log_softmax(-1)
    return sum(float(logits[at - 1, text.ids[at]]) for at in range(text.n_prompt_ids, len(text.ids)))


def test_log_probs_are_those_of_a_plain_forward_pass_in_any_batch(policy: Policy) -> None:
    texts = [policy.renderer.render(*talk) for talk in TALKS]
    assert response_logps(policy, texts) == pytest.approx([naive(policy, text) for text in texts], rel=1e-5)
    assert response_logps(policy, texts[1:])[0] == pytest.approx(naive(policy, texts[1]), rel=1e-5)


def test_steering_changes_log_probs_and_leaves_no_hook(policy: Policy) -> None:
    texts = [policy.renderer.render(*talk) for talk in TALKS]
    before = response_logps(policy, texts)
    vector = np.ones(32, np.float32)
    changed = response_logps(policy, texts, steer=Steer(2, vector))
    assert np.all(np.abs(changed - before) > 1e-3)
    assert response_logps(policy, texts, steer=Steer(2, 0 * vector)) == pytest.approx(before, rel=1e-6)
    assert response_logps(policy, texts) == pytest.approx(before, rel=1e-6)


def test_steering_reaches_the_response_and_no_token_before_it(policy: Policy) -> None:
    ids = torch.tensor([policy.renderer.render(*TALKS[1]).ids])
    seen: dict[str, Any] = {}

    def keep(module: Any, inputs: Any, output: Any) -> None:
        seen["states"] = (output[0] if isinstance(output, tuple) else output).clone()

    plain_hook = policy.model.model.layers[2].register_forward_hook(keep)
    with torch.inference_mode():
        policy.model(input_ids=ids)
        before = seen["states"]
        with steered(policy.model, Steer(2, np.ones(32, np.float32)), [5]):
            policy.model(input_ids=ids)
    plain_hook.remove()
    moved = (seen["states"] - before).abs().amax(-1)[0] > 1e-6
    assert not moved[:5].any()
    assert moved[5:].all()


def test_a_hook_leaves_also_when_the_block_fails(policy: Policy) -> None:
    with pytest.raises(KeyboardInterrupt), steered(policy.model, Steer(1, np.ones(32, np.float32)), [0]):
        raise KeyboardInterrupt
    assert not policy.model.model.layers[0]._forward_hooks


def test_greedy_answers_are_the_likeliest_tokens_one_by_one(policy: Policy) -> None:
    answers = generate(policy, PROMPTS[:2], Sampling(temperature=0, max_new_tokens=6))
    for prompt, (answer,) in zip(PROMPTS[:2], answers, strict=True):
        rendered = policy.renderer.render(prompt, "")
        ids = list(rendered.ids[: rendered.n_prompt_ids])
        grown: list[int] = []
        for _ in range(6):
            following = int(policy.model(input_ids=torch.tensor([ids + grown])).logits[0, -1].argmax())
            if following in policy.stop_ids:
                break
            grown.append(following)
        assert answer == policy.renderer.tokenizer.decode(grown, skip_special_tokens=True).strip()


def test_the_same_seed_draws_the_same_answers_and_another_seed_others(policy: Policy) -> None:
    asked = Sampling(n=3, seed=1, temperature=1.0, max_new_tokens=8, batch=4)
    first = generate(policy, PROMPTS[:2], asked)
    assert [len(one) for one in first] == [3, 3]
    assert generate(policy, PROMPTS[:2], asked) == first
    assert generate(policy, PROMPTS[:2], Sampling(n=3, seed=2, temperature=1.0, max_new_tokens=8, batch=4)) != first


def test_drawing_leaves_the_state_of_chance_as_it_was(policy: Policy) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    generate(policy, PROMPTS[:1], Sampling(max_new_tokens=2))
    assert torch.equal(torch.rand(3), expected)
