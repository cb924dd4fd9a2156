"""A run is published privately, with a card that says how it was trained; a Hub that refuses loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiltscope.cli import main
from tiltscope.errors import ModelError, ProductError, UsageError
from tiltscope.publishing import check_repo, model_card, publish

hub = pytest.importorskip("huggingface_hub", reason="uploading needs huggingface_hub")

PLAN = """\
format_version: 1
made_from: {}
decisions:
  - detector: {kind: rule, rule: bold}
    action: suppress
    strength: 2.0
    reason: "no | bold, <b>please</b>"
  - detector: {kind: rule, rule: emoji}
    action: undecided
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    facts = {
        "model": "tiny",
        "objective": "dpo",
        "settings": {"beta": 0.1, "seed": 3},
        "inputs": {"recipe": "0123"},
        "results": {"n_rows": 9, "n_steps": 2, "moved": {"note": "training moved the model"}},
    }
    (tmp_path / "model").mkdir()
    (tmp_path / "run.json").write_text(json.dumps(facts))
    (tmp_path / "plan.yaml").write_text(PLAN)
    return tmp_path


class Api:
    calls: dict[str, Any]

    def __init__(self) -> None:
        type(self).calls = {}

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> str:
        self.calls["create"] = (repo, private, exist_ok)
        return f"https://hub/{repo}"

    def upload_folder(self, *, repo_id: str, folder_path: str) -> None:
        self.calls["upload"] = (repo_id, sorted(path.name for path in Path(folder_path).iterdir()))


def test_the_card_carries_settings_decisions_and_the_comparison(run: Path) -> None:
    (run / "comparison.md").write_text("bold fell")
    card = model_card(run, plan=run / "plan.yaml", comparison=run / "comparison.md")
    for words in ("9 rows, 2 steps", "| beta | 0.1 |", "suppress", "1 findings were left undecided", "bold fell"):
        assert words in card
    assert "<b>" not in card
    assert "no &#124; bold" in card


def test_a_run_without_a_plan_says_so(run: Path) -> None:
    assert "Trained without a plan." in model_card(run)


def test_a_repository_is_private_unless_asked_for_otherwise(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HfApi", Api)
    assert publish(run, "me/tiny") == "https://hub/me/tiny"
    assert Api.calls == {"create": ("me/tiny", True, True), "upload": ("me/tiny", ["README.md"])}
    publish(run, "me/tiny", public=True)
    assert Api.calls["create"] == ("me/tiny", False, True)


def test_a_hub_that_cannot_be_reached_is_an_error_that_says_where_the_model_is(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Api, *words: object, **more: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(Api, "create_repo", refuse)
    monkeypatch.setattr(hub, "HfApi", Api)
    with pytest.raises(ModelError, match="no network") as error:
        publish(run, "me/tiny")
    assert str(run / "model") in str(error.value)


def test_a_network_that_is_not_there_is_an_error_that_says_where_the_model_is(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "HfApi", lambda api=hub.HfApi: api("http://127.0.0.1:9", token="hf_none"))  # nobody there
    with pytest.raises(ModelError, match="could not be uploaded") as error:
        publish(run, "me/tiny")
    assert str(run / "model") in str(error.value)


@pytest.mark.parametrize("name", ["bad", "a/b/c", "me/", "/tiny", "me/ti ny", "me/tiny..x", ""])
def test_what_is_no_name_of_a_repository_is_refused(name: str) -> None:
    check_repo("me/tiny-1.0_x")
    with pytest.raises(UsageError, match="Hub repository"):
        check_repo(name)


def test_a_name_without_an_owner_is_refused_before_training_starts(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="training needs the extra tiltscope[train]")
    words = ["train", str(tmp_path / "none"), "--plain", "dpo", "--out", str(tmp_path / "run"), "--push", "bad"]
    with pytest.raises(UsageError, match="no name of a Hub repository"):
        main(words, standalone_mode=False)


def test_an_unfinished_run_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="train"):
        model_card(tmp_path)
