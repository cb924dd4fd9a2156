"""Tasks of lm-evaluation-harness as measures, on a small double that answers as the real one (0.4.13) did."""

from __future__ import annotations

import importlib.util
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tiltscope.errors import UsageError
from tiltscope.harness import Harness, check_harness, harness_scores
from tiny import tiny_model_folder

pytest.importorskip("torch", reason="asking a model needs the extra tiltscope[torch]")

from tiltscope.lm import Policy, load_policy
from tiltscope.proving import Asked, run_compare, run_evaluate, run_gate

DOUBLE = {
    "__init__.py": """
        __version__ = "0.double"
        calls = []

        def simple_evaluate(model, tasks, limit, task_manager, log_samples):
            calls.append(tasks[0])
            if tasks == ["broken"]:
                raise ValueError("no data")
            right = float(model.model.lm_head.weight.flatten()[0] > 0)
            groups = {"pair": ["mc", "gen"]}
            samples = {name: _samples(name, right, limit or 12) for name in groups.get(tasks[0], tasks)}
            better = {"acc": True, "exact_match": True, "bleu": True, "loss": False}
            results = {tasks[0]: {"bleu,none": 0.25, "bleu_stderr,none": 0.5, "acc,none": 0.5}}
            return {"group_subtasks": groups, "samples": samples, "results": results,
                    "higher_is_better": {name: better for name in samples}}

        def _samples(name, right, n):
            made = []
            for i in range(n):
                one = {"doc_id": i, "doc_hash": f"{name:0<8}{i}"}
                if name == "mc":
                    made += [{**one, "filter": "none", "metrics": ["acc", "loss"], "acc": right, "loss": i / 8}]
                else:
                    made += [{**one, "filter": f, "metrics": ["exact_match", "bleu"], "exact_match": i % 2,
                              "bleu": ["a", "b"]} for f in ("none", "strict")]
            return made
    """,
    "tasks.py": """
        class TaskManager:
            def __init__(self, include_path=None):
                self.all_tasks = ["mc", "gen", "pair", "broken"] + ([include_path] if include_path else [])
    """,
    "models/__init__.py": "",
    "models/huggingface.py": """
        class HFLM:
            def __init__(self, pretrained, *, tokenizer, batch_size, trust_remote_code):
                assert trust_remote_code is False
                self.model = pretrained
    """,
}


@pytest.fixture
def lm_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The double, importable as lm_eval."""
    for name, code in DOUBLE.items():
        path = tmp_path / "double" / "lm_eval" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(tmp_path / "double")
    for name in [one for one in sys.modules if one.split(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    yield importlib.import_module("lm_eval")
    for name in [one for one in sys.modules if one.split(".")[0] == "lm_eval"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return load_policy(str(tiny_model_folder(tmp_path_factory.mktemp("tiny") / "model")))


def test_every_document_is_a_value_and_the_first_metric_has_the_tasks_name(
    lm_eval: Any, policy: Policy, tmp_path: Path
) -> None:
    acc, loss = harness_scores(policy, Harness(("mc",)), tmp_path)
    assert [(one.id, one.unit, one.wanted) for one in (acc, loss)] == [
        ("lm_eval/mc", "share", "more"),
        ("lm_eval/mc/loss", "value", "less"),
    ]
    assert acc.prompt_ids[1] == "mc/1-mc000000"
    assert loss.values[:, 0].tolist() == [i / 8 for i in range(12)]
    assert "0.double" in acc.definition


def test_filters_are_measures_of_their_own_and_an_aggregate_says_its_standard_error(
    lm_eval: Any, policy: Policy, tmp_path: Path
) -> None:
    made = {one.id: one for one in harness_scores(policy, Harness(("gen",), limit=4), tmp_path)}
    assert list(made) == ["lm_eval/gen", "lm_eval/gen/bleu", "lm_eval/gen/exact_match,strict"]
    assert made["lm_eval/gen"].values.shape == (4, 1)
    bleu = made["lm_eval/gen/bleu"]
    assert (bleu.values.tolist(), bleu.prompt_ids) == ([[0.25]], ("gen",))
    assert "standard error 0.5" in bleu.name


def test_the_documents_of_a_group_count_together(lm_eval: Any, policy: Policy, tmp_path: Path) -> None:
    made = {one.id: one for one in harness_scores(policy, Harness(("pair",)), tmp_path)}
    assert made["lm_eval/pair"].definition.startswith("acc of mc ")
    assert made["lm_eval/pair/exact_match"].prompt_ids[0].startswith("gen/0-")


def test_a_task_that_was_run_is_not_run_again(lm_eval: Any, policy: Policy, tmp_path: Path) -> None:
    first = harness_scores(policy, Harness(("mc",)), tmp_path)
    again = harness_scores(policy, Harness(("gen", "mc")), tmp_path)
    assert lm_eval.calls == ["mc", "gen"]
    assert again[-1].values.tolist() == first[-1].values.tolist()
    harness_scores(policy, Harness(("mc",), limit=3), tmp_path)
    assert lm_eval.calls == ["mc", "gen", "mc"]


def test_a_task_that_is_not_known_or_cannot_run_is_refused(lm_eval: Any, policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nearest: mc"):
        check_harness(Harness(("mcc",)))
    check_harness(Harness((str(tmp_path),), path=tmp_path))
    with pytest.raises(UsageError, match="ValueError: no data"):
        harness_scores(policy, Harness(("broken",)), tmp_path)


def test_without_the_harness_the_command_to_install_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lm_eval" else find(name))
    with pytest.raises(UsageError, match=r"pip install 'tiltscope\[lm-eval\]'"):
        run_evaluate(None, tmp_path / "out", Asked(harness=Harness(("mc",))))


def test_a_gate_speaks_of_a_task(lm_eval: Any, tmp_path: Path) -> None:
    arms = {}
    for name, seed in (("base", 0), ("planned", 3)):
        model = tiny_model_folder(tmp_path / f"model-{name}", seed=seed)
        asked = Asked(behaviours=("length",), max_new_tokens=2, harness=Harness(("mc",), limit=200))
        run_evaluate(str(model), tmp_path / name, asked)
        arms[name] = [tmp_path / name]
    heads = [json.loads((tmp_path / name / "evaluation.json").read_text())["scores"][-2] for name in arms]
    assert [one["id"] for one in heads] == ["lm_eval/mc"] * 2
    assert len({one["rate"]["mean"] for one in heads}) == 2  # the double finds one model right, the other wrong
    run_compare(arms, tmp_path / "comparison")
    way = "higher" if heads[0]["rate"]["mean"] == 0 else "lower"
    (tmp_path / "limits.yaml").write_text(f"limits:\n  lm_eval/mc: not {way} by more than 2 points\n")
    found = run_gate(tmp_path / "limits.yaml", comparison=tmp_path / "comparison", study=None, out=None)
    assert [one.outcome for one in found.results] == ["fail"]
    with pytest.raises(UsageError, match="weights"):
        run_evaluate("x", tmp_path / "other", Asked(harness=Harness(("mc",)), endpoint="http://127.0.0.1:1"))
