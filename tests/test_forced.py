"""What a model makes of answers it did not write: openings and sentences are what one counts by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="asking a model needs the extra tiltscope[torch]")

import torch

from tiltscope.behaviours import RULES, rule
from tiltscope.errors import UsageError
from tiltscope.evaluation import (
    Evaluation,
    EvaluationSettings,
    as_markdown,
    buyer_content,
    buyer_html,
    buyer_markdown,
    read_comparison,
    read_evaluation,
)
from tiltscope.forced import (
    OPENINGS,
    STYLES,
    Forced,
    beginners,
    first_chance,
    forced_scores,
    held_out_nll,
    opening_part,
    openings,
    places,
    read_sentences,
    said,
    token_text,
    with_forced,
)
from tiltscope.lm import Branches, Renderer, branch_logps, load_policy, load_renderer, next_token_mass
from tiltscope.pairs import Pair, Turn, load_pairs
from tiltscope.proving import Asked, run_compare, run_evaluate, run_gate
from tiltscope.report.acts import render_evaluation
from tiny import CHATML, tiny_model_folder, tiny_tokenizer

ANSWER = """Sure! Here (in short) is what: it works.

# A title

- **Bold** words, and **more**
- two
 * three

1. one
2. two
| a | b |

It is 5 - 3, or 2 * 1, # not a title. 😀 End"""
BY_HAND = {
    **{"bold": 2, "bulleted_list": 3, "numbered_list": 2, "heading": 1, "table": 1, "horizontal_rule": 0},
    **{"emoji": 1, "exclamation": 1, "colon": 1, "parentheses": 1, "paragraph_break": 4},
}
TINY_STYLES = [style for style in STYLES if style != "horizontal_rule"]  # no token of the tiny vocabulary begins one
PAIRS = [
    Pair(f"{i:016x}", (Turn("user", f"say {what}"),), f"{what} is here. The {what} is there. What?", what, what, i + 1)
    for i, what in enumerate(
        ["code", "a garden", "the story", "python", "a number", "help", "hello", "you", "a list", "words", "all"]
    )
]


def copying(says: float) -> Any:
    """A model that gives the token that comes next a probability of `says`, and the rest to one that begins nothing."""
    renderer = Renderer(tiny_tokenizer(), CHATML, max_length=1000)
    filler = renderer.tokenizer.encode("a", add_special_tokens=False)[0]

    def model(input_ids: torch.Tensor, use_cache: bool) -> Any:
        following = input_ids.roll(-1, dims=1)
        mass = torch.full((*following.shape, 420), 1e-12)
        mass[..., filler] += 1 - says
        mass.scatter_add_(2, following[..., None], torch.full((*following.shape, 1), says))
        return SimpleNamespace(last_hidden_state=mass.log())

    head = SimpleNamespace(weight=torch.zeros(430, 1))
    whole = SimpleNamespace(model=model, lm_head=lambda x: torch.nn.functional.pad(x, (0, 10), value=-1e9))
    whole.get_output_embeddings = lambda: head  # longer than the vocabulary, as some models' are
    return SimpleNamespace(model=whole, renderer=renderer, device="cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


def policy_of(model: Path, **more: Any) -> Any:
    return load_policy(str(model), device="cpu", dtype="float32", **{"max_length": 256, **more})


@pytest.mark.parametrize("says", [1.0, 0.25])
def test_a_model_that_copies_a_text_begins_what_the_text_begins_as_surely_as_it_copies(says: float) -> None:
    pair = Pair("a", (Turn("user", "Say it."),), ANSWER, "nothing", "g", 1)
    told = openings(copying(says), [pair])
    found = {style: 2 * values["a"] for style, values in told.items()}  # mean of an answer and one without any
    assert found == pytest.approx({style: says * (BY_HAND[style] > 0) for style in TINY_STYLES}, abs=1e-3)


def test_a_style_that_no_token_begins_is_left_out_and_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiltscope.forced.token_text", lambda *given: token_text(*given).replace("#", "a"))
    empty = Evaluation("x", EvaluationSettings("x"), (), (), ())
    found = with_forced(empty, policy_of(model), PAIRS[:2], Forced(openings=True))
    ids = [one.id for one in found.scores]
    assert "openings/bold" in ids
    assert "openings/heading" not in ids
    assert "openings/heading is left out: no token of this vocabulary begins it" in found.notes


def test_a_style_may_begin_at_every_place_until_the_answer_begins_it_itself() -> None:
    p = np.array([0.1, 0.0, 0.2, 0.9, 0.5])
    assert first_chance(p, np.zeros(5, bool)) == pytest.approx(1 - 0.9 * 0.8 * 0.1 * 0.5)
    assert first_chance(p, np.array([False, False, True, True, False])) == pytest.approx(1 - 0.9 * 0.8)
    assert first_chance(p[:0], np.zeros(0, bool)) == 0.0


def test_nothing_opens_where_it_cannot() -> None:
    by_style = {one.style: one for one in OPENINGS if one.style != "paragraph_break"}
    assert not by_style["bold"].after("a **b")
    assert not by_style["bulleted_list"].after("so 5")
    assert by_style["numbered_list"].after("so\n  ")
    for style, token in (("bulleted_list", "**"), ("bulleted_list", "---"), ("bold", "*"), ("exclamation", "!=")):
        assert not re.fullmatch(by_style[style].token, token, re.DOTALL), (style, token)
    for token in ("\ufffdðŁĺ", "\ufffdĠð", "\ufffd<0xF0>", "😀", " 🎉"):
        assert re.fullmatch(by_style["emoji"].token, token, re.DOTALL), token
    assert not re.fullmatch(by_style["emoji"].token, "ð", re.DOTALL)  # a letter of Icelandic
    assert set(STYLES) <= {one.id for one in RULES}


def test_on_real_answers_openings_agree_with_the_rules_of_the_library(data_dir: Path) -> None:
    renderer = load_renderer(max_length=4000)
    rows = load_pairs(str(data_dir / "alpaca-eval" / "pairs.jsonl.gz")).rows[:300]
    rows_of_head = SimpleNamespace(weight=np.zeros((len(renderer.tokenizer), 1)))
    model = SimpleNamespace(get_output_embeddings=lambda: rows_of_head)
    begins = beginners(SimpleNamespace(renderer=renderer, model=model))  # type: ignore[arg-type]
    told = np.zeros((len(rows), len(STYLES)))
    for at, row in enumerate(rows):
        text = renderer.render(row.prompt, row.chosen)
        tokens = np.array(text.ids)[text.response.positions]
        found = (begins[tokens] * places(row.chosen, text.response.starts)).sum(axis=0)
        np.add.at(told[at], [STYLES.index(one.style) for one in OPENINGS], found)
    for style in ("bold", "bulleted_list", "numbered_list", "table", "emoji", "colon", "paragraph_break"):
        by_rule = [len(rule(style).marks(row.chosen)) for row in rows]
        assert np.corrcoef(told[:, STYLES.index(style)], by_rule)[0, 1] > 0.9, style


def test_masses_are_those_of_a_softmax_by_hand(model: Path) -> None:
    policy = policy_of(model, max_length=600)
    answers = [PAIRS[0].chosen, "the garden is hot. " * 40, ""]  # the second has more places than are asked at once
    texts = [policy.renderer.render(PAIRS[0].prompt, answer) for answer in answers]
    groups = np.zeros((420, 2), bool)
    groups[5:50, 0], groups[:, 1] = True, True
    for i, mass in next_token_mass(policy, texts, groups):
        logits = policy.model(input_ids=torch.tensor([texts[i].ids])).logits[0].detach().float()
        by_hand = torch.softmax(logits[texts[i].response.positions - 1], dim=-1)[:, 5:50].sum(dim=1)
        assert mass[:, 0] == pytest.approx(by_hand.numpy(), rel=1e-3)
        assert mass[:, 1] == pytest.approx(1.0, abs=1e-4)


def alone(policy: Any, ids: Sequence[int], span: Sequence[int]) -> float:
    """Nats of some tokens of a text that is read by itself."""
    logits = policy.model(input_ids=torch.tensor([list(ids)])).logits[0].detach().float().log_softmax(-1)
    return sum(float(logits[at - 1, ids[at]]) for at in span)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_sentences_that_share_a_prefix_get_what_each_would_get_alone(family: str, tmp_path: Path) -> None:
    policy = policy_of(tiny_model_folder(tmp_path, family))
    texts = [(1, 5, 6, 7, 8, 9), (1, 5, 6, 4, 3), (1, 5, 6, 9)]
    spans = [np.arange(3, len(text)) for text in texts]
    by_hand = [alone(policy, text, span) for text, span in zip(texts, spans, strict=True)]
    assert branch_logps(policy, Branches.of(texts, spans)) == pytest.approx(by_hand, rel=1e-4)
    # One text's sentence starts a token later, as where two tokenisations of the place differ.
    spans[0] = spans[0][1:]
    by_hand[0] = alone(policy, texts[0], spans[0])
    assert branch_logps(policy, Branches.of(texts, spans)) == pytest.approx(by_hand, rel=1e-4)


def test_what_a_model_gives_to_sentences_is_what_it_gives_to_their_tokens_in_the_middle_of_an_answer(
    model: Path,
) -> None:
    policy = policy_of(model)
    sentences = {"one": ["hello you", "sorry what"], "many": [f"the {word} is hot" for word in "abcdefghijklmnopqrs"]}
    told = said(policy, PAIRS, sentences)
    pair = PAIRS[2]
    by_hand = []
    for sentence in sentences["one"]:
        whole = policy.renderer.render(pair.prompt, f"{opening_part(pair.chosen)} {sentence}")
        n = len(policy.renderer.render(pair.prompt, opening_part(pair.chosen)).response.positions)
        by_hand.append(alone(policy, whole.ids, whole.response.positions[n:]))
    assert told["one"][pair.id] == pytest.approx(np.mean(by_hand), rel=1e-4)
    assert list(told["many"]) == [pair.id for pair in PAIRS]  # more sentences than are read at once


def test_a_pair_in_which_a_sentence_does_not_fit_is_left_out_of_every_measure(model: Path) -> None:
    long = Pair("f" * 16, (Turn("user", "say"),), "the story. " * 160, "a", "long", 9)
    told = said(policy_of(model), [*PAIRS[:2], long], {"a": ["hello you"], "b": ["the " * 60]})
    assert list(told["a"]) == list(told["b"]) == [pair.id for pair in PAIRS[:2]]


def test_nll_is_minus_the_mean_log_probability(model: Path) -> None:
    policy = policy_of(model)
    pair = PAIRS[0]
    text = policy.renderer.render(pair.prompt, pair.chosen)
    span = range(text.n_prompt_ids, len(text.ids))
    assert held_out_nll(policy, [pair])[pair.id] == pytest.approx(-alone(policy, text.ids, span) / len(span), rel=1e-4)


# --- through the verbs' functions -------------------------------------------------------------------------------------


def test_a_gate_speaks_of_openings_and_sentences(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": p.prompt[0].content, "chosen": p.chosen, "rejected": p.rejected} for p in PAIRS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    forced = Forced(openings=True, sentences={"hello": ("hello you",)})
    found: dict[str, Evaluation] = {}
    for name, seed in (("base", 0), ("planned", 3)):
        other = tiny_model_folder(tmp_path / f"model-{name}", seed=seed)
        asked = Asked(behaviours=("length",), data=str(data), max_new_tokens=2, forced=forced)
        found[name] = run_evaluate(str(other), tmp_path / name, asked)
    ids = [one.id for one in found["base"].scores]
    assert ids == ["length", "nll", *(f"openings/{style}" for style in TINY_STYLES), "said/hello"]
    made = run_compare({name: [tmp_path / name] for name in found}, tmp_path / "comparison")
    assert read_comparison(tmp_path / "comparison" / "comparison.json").fingerprint == made.fingerprint
    content = buyer_content(made)
    page, table = buyer_html(content), (tmp_path / "comparison" / "comparison.md").read_text()
    for text in (page, buyer_markdown(content), table):
        assert "not on answers of the models" in text
        assert "“begins: bold text” and the like" in text
        assert "1 sentence: “hello you”" in text
    assert "11 prompts in 1 group," in page
    assert "1 answer per prompt" in page
    assert "without sampling" not in as_markdown(replace(made, changes=made.changes[:1]))
    (tmp_path / "limits.yaml").write_text("limits:\n  openings/bold: within 1000\n  said/hello: within 1000\n")
    verdict = run_gate(tmp_path / "limits.yaml", comparison=tmp_path / "comparison", study=None, out=None)
    assert [one.outcome for one in verdict.results] == ["pass", "pass"]
    (tmp_path / "limits.yaml").write_text("limits:\n  said/hello: within 0.0001\n")
    verdict = run_gate(tmp_path / "limits.yaml", comparison=tmp_path / "comparison", study=None, out=None)
    assert verdict.results[0].outcome != "pass"


def test_other_sentences_and_answers_cut_elsewhere_are_not_compared(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": p.prompt[0].content, "chosen": p.chosen, "rejected": p.rejected} for p in PAIRS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ways: dict[str, Any] = {
        "base": {"forced": Forced(sentences={"hello": ("hello you",)})},
        "others": {"forced": Forced(sentences={"hello": ("sorry what",)})},
        "shorter": {"forced": Forced(sentences={"hello": ("hello you",)}), "max_length": 200},
    }
    for name, more in ways.items():
        asked = Asked(behaviours=("length",), data=str(data), max_new_tokens=2, **more)
        run_evaluate(str(model), tmp_path / name, asked)
    told = {
        "others": "said/hello: hello you and sorry what",
        "shorter": "nll: --max-length 1024 and 200",
    }
    for name, said_of_it in told.items():
        with pytest.raises(UsageError, match=said_of_it):
            run_compare({one: [tmp_path / one] for one in ("base", name)}, tmp_path / "comparison")


def test_sentences_for_which_no_answer_has_room_are_refused_with_what_to_do(model: Path) -> None:
    with pytest.raises(UsageError, match="larger --max-length"):
        forced_scores(policy_of(model, max_length=64), PAIRS, Forced(sentences={"long": ("the hot garden " * 40,)}))


def test_a_sentence_does_not_stand_behind_the_number_of_a_list() -> None:
    assert opening_part("First of all.\n1. Go on\n2. And on\n3. Here") == "First of all."
    assert opening_part("Wait! 2. Then go. Then stop") == "Wait! 2. Then go."
    assert opening_part("One thing") == "One thing"


def test_without_held_out_answers_or_weights_nothing_is_loaded(tmp_path: Path) -> None:
    for more in ({}, {"data": "x.jsonl", "endpoint": "http://127.0.0.1:1"}, {"data": "x.jsonl", "xstest": tmp_path}):
        with pytest.raises(UsageError, match="read the answers of a dataset"):
            run_evaluate("no-such-model", tmp_path / "out", Asked(forced=Forced(True), **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said_of_it"),
    [
        ("- one\n", "mapping"),
        ("Goblin: x\n", "lower-case"),
        ("goblin: []\n", "no sentences"),
        ("goblin: [a, '']\n", "a word at least"),
        ("", "mapping"),
        ("{}\n", "an empty mapping"),
        ("{}\n", "no sentences in it"),
        ("goblin: []\n", "under 'goblin'"),
        ("{a: [x.], b: []}\n", "under 'b'"),
        ("sure: [yes, no]\n", 'in quotes it is text: "yes"'),
        ("sure: [3]\n", 'in quotes it is text: "3"'),
        ("sure: [Note: goblins agree.]\n", "needs quotes"),
        ("sure: [[a]]\n", "not a list in a list"),
        ("sure:\n", "a word at least"),
    ],
)
def test_a_file_of_sentences_that_cannot_be_used_says_where(text: str, said_of_it: str, tmp_path: Path) -> None:
    path = tmp_path / "sentences.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said_of_it) as caught:
        read_sentences(path)
    assert "sentences.yaml:1" in str(caught.value)


def test_the_terminal_and_the_product_say_which_sentences_were_read(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "sentences.yaml"
    path.write_text('cut: [Hello you, or so, it is.]\nwhole:\n  - "Hello you, or so, it is."\n')
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": p.prompt[0].content, "chosen": p.chosen, "rejected": p.rejected} for p in PAIRS[:3]]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    forced = Forced(sentences=read_sentences(path))
    run_evaluate(str(model), tmp_path / "out", Asked(("length",), data=str(data), max_new_tokens=2, forced=forced))
    told = render_evaluation(json.loads((tmp_path / "out" / "evaluation.json").read_text()))
    assert "3 sentences: “Hello you” · “or so” · “it is.”" in told
    assert "1 sentence: “Hello you, or so, it is.”" in told
    assert read_evaluation(tmp_path / "out").sentences == {f"said/{id}": some for id, some in forced.sentences.items()}


def test_sentences_are_read_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "sentences.yaml"
    path.write_text("goblin: [A goblin said so., Goblins agree., Goblins agree.]\nsure: There is no doubt.\n")
    assert read_sentences(path) == {"goblin": ("A goblin said so.", "Goblins agree."), "sure": ("There is no doubt.",)}
