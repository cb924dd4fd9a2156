"""SFT data get a rejected side from the model itself, and then walk the whole street."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from test_walk import AUDIT, tiltscope
from tiltscope.errors import DataError, ProductError, UsageError
from tiltscope.pairs import LoadSettings, Turn, load_pairs, load_sft
from tiltscope.planting import generate_pairs
from tiltscope.study import open_study
from tiny import tiny_model_folder, tiny_tokenizer

pytest.importorskip("torch", reason="answering needs the extra tiltscope[torch]")

from tiltscope.answering import Answering, answer_sft

U, A = "user", "assistant"


def msg(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# --- reading ----------------------------------------------------------------------------------------------------------

SHAPES: list[dict[str, Any]] = [
    {"messages": msg((U, "Hi?"), (A, "Yes"))},
    {"prompt": "Hi?", "completion": "Yes"},
    {"prompt": msg((U, "Hi?")), "completion": msg((A, "Yes"))},
    {"prompt": "Hi?", "messages": msg((U, "Hi?"), (A, "Yes"))},
    {"messages": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes"}]},
]


@pytest.mark.parametrize("record", SHAPES)
def test_every_shape_of_sft_data_gives_a_prompt_and_one_answer(record: dict[str, Any], tmp_path: Path) -> None:
    (row,) = load_sft(jsonl(tmp_path / "x.jsonl", [record])).rows
    assert (row.prompt, row.chosen, row.rejected, row.extra) == ((Turn(U, "Hi?"),), "Yes", "", {})


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "x.jsonl", [{"instruction": "Hi?", "output": "Yes", "topic": "a"}])
    (row,) = load_sft(data, LoadSettings(columns={"prompt": "instruction", "chosen": "output"})).rows
    assert (row.prompt_text, row.chosen, row.extra) == ("Hi?", "Yes", {"topic": "a"})
    with pytest.raises(DataError, match="--map chosen="):
        load_sft(data)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"messages": msg((U, "Hi?"))}, "no_answer"),
        ({"messages": msg((A, "Yes"))}, "empty_prompt"),
        ({"messages": msg((U, "Hi?"), (A, " "))}, "empty_answer"),
        ({"messages": []}, "empty_answer"),
        ({"prompt": "Hi?", "completion": None}, "not_text"),
        ({"completion": "Yes"}, "missing_key"),
        ({"prompt": msg((U, "Hi?")), "completion": msg((A, "Yes"), (A, "No"))}, "several_turns"),
    ],
)
def test_what_is_no_example_is_refused_with_its_reason(record: dict[str, Any], reason: str, tmp_path: Path) -> None:
    good = [{"messages": msg((U, f"Hi {i}?"), (A, "Yes"))} for i in range(30)]
    pairs = load_sft(jsonl(tmp_path / "x.jsonl", [*good, record]))
    assert [(one.row, one.reason) for one in pairs.refused] == [(31, reason)]


def test_an_answer_that_was_not_wanted_is_never_chosen(tmp_path: Path) -> None:
    rows = [{"prompt": f"Hi {i}?", "completion": "Yes", "label": i % 2 == 0} for i in range(20)]
    data = jsonl(tmp_path / "x.jsonl", rows)
    with pytest.raises(DataError, match="10 of 20 records") as caught:
        load_sft(data)
    assert "its label says that the answer is one that was not wanted" in caught.value.found
    pairs = load_sft(data, LoadSettings(allow_refused=True))
    assert {(row.row % 2, row.extra["label"]) for row in pairs.rows} == {(1, True)}
    assert {one.reason for one in pairs.refused} == {"undesirable"}
    with pytest.raises(DataError, match="1 of 1 records"):
        load_sft(jsonl(data, [{"prompt": "Hi?", "completion": "No", "label": "False"}]))  # as a CSV file has it
    assert len(load_sft(jsonl(data, [{"prompt": "Hi?", "completion": "Yes", "label": 0}]))) == 1  # a class, perhaps


@pytest.mark.parametrize("record", SHAPES)
def test_a_preference_verb_names_the_one_that_makes_the_rejected_side(record: dict[str, Any], tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [record] * 3)
    with pytest.raises(DataError) as caught:
        load_pairs(path)
    assert str(caught.value).endswith(f"tiltscope answer {path} --out pairs.jsonl")


def test_a_command_in_a_hint_can_be_pasted_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "my data's (1).jsonl", [{"my prompt": "Hi?", "completion": "Yes"}] * 3)
    with pytest.raises(DataError) as caught:
        load_pairs(path, LoadSettings(columns={"prompt": "my prompt"}))
    words = ["tiltscope", "answer", str(path), "--map", "prompt=my prompt", "--out", "pairs.jsonl"]
    assert shlex.split(caught.value.hint) == words
    with pytest.raises(UsageError) as none:
        open_study(tmp_path / "my study")
    assert shlex.split(none.value.hint)[-2:] == ["--out", str(tmp_path / "my study")]


def test_the_hint_keeps_the_mapping_and_a_misspelt_rejected_is_still_a_misspelling(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"instruction": "Hi?", "output": "Yes"}])
    with pytest.raises(DataError, match="--map prompt=instruction --map chosen=output --out"):
        load_pairs(path, LoadSettings(columns={"prompt": "instruction", "chosen": "output"}))
    with pytest.raises(DataError, match="--map rejected=rejcted"):
        load_pairs(jsonl(path, [{"prompt": "Hi?", "chosen": "Yes", "rejcted": "No"}]))


# --- answering --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model_folder(tmp_path_factory.mktemp("tiny") / "model"))


def asked(model: str, **changes: Any) -> Answering:
    return Answering(**{"model": model, "max_new_tokens": 6, "max_length": 120, **changes})


DATA = [{"messages": msg((U, f"say {i} {'again ' * (i % 5)}"), (A, f"Yes, {i}.")), "talk": i // 2} for i in range(40)]


def test_the_file_is_ordinary_preference_data_with_the_datas_answer_chosen(model: str, tmp_path: Path) -> None:
    data = jsonl(
        tmp_path / "sft.jsonl", [*DATA, {**DATA[3], "messages": msg((U, DATA[3]["messages"][0]["content"]), (A, "No"))}]
    )
    seen: list[tuple[str, int, int]] = []
    product = answer_sft(
        load_sft(data), asked(model), tmp_path / "pairs.jsonl", progress=lambda *told: seen.append(told)
    )
    written = rows_of(tmp_path / "pairs.jsonl")
    pairs = load_pairs(tmp_path / "pairs.jsonl", LoadSettings(group="talk"))
    by_row = {row["sft_row"]: row for row in written}
    assert len(pairs) == product["n_pairs"] == len(written) == 41 - sum(one["n"] for one in product["left_out"])
    assert [pair.chosen for pair in pairs.rows] == [
        (DATA[pair.extra["sft_row"] - 1]["messages"][1]["content"] if pair.extra["sft_row"] < 41 else "No")
        for pair in pairs.rows
    ]
    assert by_row[41]["rejected"] == by_row[4]["rejected"]  # one prompt, one answer
    assert len({pair.group for pair in pairs.rows}) <= 20
    assert "messages" not in written[0]
    assert seen[-1] == ("answers", 40, 40)


def test_a_killed_run_goes_on_to_the_same_bytes(model: str, tmp_path: Path) -> None:
    pairs = load_sft(jsonl(tmp_path / "sft.jsonl", DATA))
    answer_sft(pairs, asked(model), tmp_path / "whole.jsonl")

    def kill(stage: str, done: int, total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_sft(pairs, asked(model), tmp_path / "killed.jsonl", progress=kill)
    lines = (tmp_path / "killed.jsonl.answers" / "answers.jsonl").read_bytes()
    (tmp_path / "killed.jsonl.answers" / "answers.jsonl").write_bytes(lines[:-9])  # a torn last line
    assert not (tmp_path / "killed.jsonl").exists()
    answer_sft(pairs, asked(model), tmp_path / "killed.jsonl")
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_other_settings_or_a_file_of_somebody_elses_are_not_written_over(model: str, tmp_path: Path) -> None:
    pairs = load_sft(jsonl(tmp_path / "sft.jsonl", DATA))
    with pytest.raises(UsageError, match="already"):
        answer_sft(pairs, asked(model), tmp_path / "sft.jsonl")
    answer_sft(pairs, asked(model), tmp_path / "pairs.jsonl")
    with pytest.raises(ProductError, match="another set of answers"):
        answer_sft(pairs, asked(model, seed=1), tmp_path / "pairs.jsonl")


def test_what_makes_no_pair_is_counted_and_left_out(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiltscope.lm

    rows = [
        {"prompt": "long " * 200, "completion": "Yes"},
        *({"prompt": f"{i}?", "completion": "Yes"} for i in range(3)),
    ]
    said = {"0?": "", "1?": " Yes\n", "2?": "No"}
    monkeypatch.setattr(tiltscope.lm, "generate", lambda policy, prompts, how: [[said[p[0].content]] for p in prompts])
    product = answer_sft(load_sft(jsonl(tmp_path / "sft.jsonl", rows)), asked(model), tmp_path / "pairs.jsonl")
    assert {one["reason"]: one["n"] for one in product["left_out"]} == {"prompt_too_long": 1, "empty": 1, "same": 1}
    assert [(row["chosen"], row["rejected"]) for row in rows_of(tmp_path / "pairs.jsonl")] == [("Yes", "No")]


# --- the street -------------------------------------------------------------------------------------------------------

TRAINING = """\
learning_rate: 1.0e-3
per_device_train_batch_size: 8
max_steps: 3
held_out_share: 0
save_steps: 0
bf16: false
"""
PLAN = """\
format_version: 1
made_from: {}
decisions:
  - {detector: {kind: rule, rule: bold}, action: suppress, strength: 1.0, reason: a test}
"""


def test_sft_data_walk_to_a_trained_model(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="training needs the extra tiltscope[train]")
    tiny_model_folder(tmp_path / "model")
    made, _ = generate_pairs(120, seed=3)
    prompts = [one["prompt"] if isinstance(one["prompt"], str) else one["prompt"][-1]["content"] for one in made]
    data = [{"prompt": prompt, "completion": one["chosen"]} for prompt, one in zip(prompts, made, strict=True)]
    jsonl(tmp_path / "sft.jsonl", data)
    refused = tiltscope("audit", "sft.jsonl", "--model", "model", "--out", "study", cwd=tmp_path, code=2)
    assert refused.stderr.rstrip().endswith("tiltscope answer sft.jsonl --out pairs.jsonl")
    words = ("answer", "sft.jsonl", "--model", "model", "--max-new-tokens", 12)
    shown = tiltscope(*words, "--out", "pairs.jsonl", cwd=tmp_path)
    assert "answers" in shown.stderr
    assert "next: tiltscope audit pairs.jsonl" in shown.stdout
    answers = {row["chosen"] for row in rows_of(tmp_path / "pairs.jsonl")}
    assert answers <= {str(row["completion"]) for row in data}
    tiltscope(*AUDIT, "--out", "study", cwd=tmp_path)
    (tmp_path / "study" / "plan.yaml").write_text(PLAN)
    tiltscope("measure", "study", cwd=tmp_path)
    prepare = ("prepare", "study", "--allow-undecided", "--objective", "sft", "--export", "shaped", "--json")
    product = json.loads(tiltscope(*prepare, cwd=tmp_path).stdout)
    assert product["objective"] == "sft"
    assert trained_texts(tmp_path / "shaped" / "train.parquet") <= answers
    (tmp_path / "training.yaml").write_text(TRAINING)
    for name, extra in (("planned", ()), ("plain", ("--plain", "sft"))):
        out = tiltscope("train", "study", "--out", name, "--config", "training.yaml", *extra, cwd=tmp_path).stdout
        assert f"{product['n_pairs']} rows, 3 steps (sft)" in out


def trained_texts(table: Path) -> set[str]:
    """What gets a loss: the labels of the rows that training sees, as text."""
    import pyarrow.parquet as pq

    tokenizer = tiny_tokenizer()
    labels = [[id for id in row if id != -100] for row in pq.read_table(table)["labels"].to_pylist()]
    return {tokenizer.decode(ids, skip_special_tokens=True).rstrip("\n") for ids in labels}
