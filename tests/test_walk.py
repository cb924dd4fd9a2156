"""The command line end to end, on a tiny random model: products, exit codes, messages, resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiltscope.planting import generate_pairs
from tiny import tiny_model_folder

COMMAND = [sys.executable, "-W", "error", "-c", "from tiltscope.cli import run; run()"]
PRODUCTS = [
    "study.json",
    "pairs.parquet",
    "pairs.manifest.json",
    "check.json",
    "scope/sae.safetensors",
    "scope/scope.json",
    "features/manifest.json",
    "hypotheses.json",
    "hypotheses.parquet",
    "concepts.json",
    "contrast.json",
    "names.json",
    "report.html",
    "report.md",
    "report.json",
    "plan.yaml",
]


def tiltscope(*words: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own and check its exit code."""
    done = subprocess.run([*COMMAND, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model and 160 planted pairs."""
    folder = tmp_path_factory.mktemp("walk")
    tiny_model_folder(folder / "model")
    rows, _ = generate_pairs(160, seed=1)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


AUDIT = ("audit", "pairs.jsonl", "--model", "model", "--draws", 20)


@pytest.fixture(scope="module")
def study(place: Path) -> Path:
    tiltscope(*AUDIT, "--out", "study", cwd=place)
    return place / "study"


def test_an_audit_leaves_every_product(study: Path) -> None:
    assert [name for name in PRODUCTS if not (study / name).exists()] == []


def test_hypotheses_have_every_documented_field(study: Path) -> None:
    hypotheses: list[dict[str, Any]] = json.loads((study / "hypotheses.json").read_text())
    wanted = [
        "id",
        "view",
        "concept",
        "region",
        "direction",
        "estimand",
        "effect",
        "ci_low",
        "ci_high",
        "d",
        "z",
        "p",
        "q",
        "delta_displayed",
        "equal_length",
        "at_stake",
        "chosen_share",
        "n_pairs",
        "n_groups",
        "half_a",
        "half_b",
        "confirmed",
        "baselines",
        "pair_ids",
    ]
    assert hypotheses
    for hypothesis in hypotheses:
        assert not set(wanted) - set(hypothesis)
        assert not {"id", "name", "named_by", "name_score", "latents", "top_tokens"} - set(hypothesis["concept"])
        assert {"length", "markdown", "bag_of_words"} <= set(hypothesis["baselines"])


def test_a_finished_audit_is_not_done_again_and_keeps_the_persons_plan(place: Path, study: Path) -> None:
    before = (study / "hypotheses.json").read_bytes()
    features = (study / "features" / "manifest.json").stat().st_mtime_ns
    (study / "plan.yaml").write_text((study / "plan.yaml").read_text() + "# mine\n")
    tiltscope(*AUDIT, "--out", "study", cwd=place)
    assert (study / "hypotheses.json").read_bytes() == before
    assert (study / "features" / "manifest.json").stat().st_mtime_ns == features
    assert (study / "plan.yaml").read_text().endswith("# mine\n")


def test_an_audit_killed_twice_gives_the_same_bytes(place: Path, study: Path) -> None:
    for seconds in (6.0, 9.0):
        running = subprocess.Popen(
            [*COMMAND, *map(str, AUDIT), "--out", "killed"],
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        running.send_signal(signal.SIGKILL)
        running.wait()
    tiltscope(*AUDIT, "--out", "killed", cwd=place)
    for product in ("hypotheses.json", "concepts.json", "names.json"):
        assert (place / "killed" / product).read_bytes() == (study / product).read_bytes(), product


@pytest.mark.parametrize(
    "damaged",
    [
        ("pairs.parquet", "features/manifest.json", "features/shards/00000.safetensors", "scope/scope.json"),
        ("features/tokens.json", "hypotheses.parquet", "names.json"),
        ("study.json", "scope/sae.safetensors", "hypotheses.json", "concepts.json"),
    ],
)
def test_products_cut_off_halfway_are_made_again_by_the_same_audit(
    damaged: tuple[str, ...], place: Path, study: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    whole = {name: (copy / name).read_bytes() for name in (*damaged, "hypotheses.json", "concepts.json", "names.json")}
    for name in damaged:
        (copy / name).write_bytes(whole[name][: len(whole[name]) // 2])
    tiltscope(*AUDIT, "--out", copy, cwd=place)
    for name, content in whole.items():
        assert (copy / name).read_bytes() == content, name


def test_a_product_that_is_not_what_its_name_says_is_damaged_not_our_fault(place: Path, study: Path) -> None:
    copy = place / "replaced"
    shutil.copytree(study, copy)
    for name, words in (
        ("names.json", ("show", "replaced/names.json")),
        ("contrast.json", ("plan", "draft", "replaced", "--overwrite")),
        ("concepts.json", ("diff", "replaced", "study")),
        ("scope/scope.json", ("report", "replaced")),
        ("features/manifest.json", ("diff", "study", "replaced")),
    ):
        (copy / name).write_text("[1]")
        assert f"{Path(name).name} is damaged" in tiltscope(*words, cwd=place, code=2).stderr
        shutil.copy(study / name, copy / name)


def test_findings_of_an_older_reading_are_not_told_as_if_of_the_new(place: Path, study: Path) -> None:
    shutil.copytree(study, place / "reread")
    first = json.loads((study / "hypotheses.json").read_text())[0]["id"]
    tiltscope("read", "pairs.jsonl", "--model", "model", "--layer", 3, "--out", "reread", cwd=place)
    for words in (
        ("trace", first, "--study", "reread"),
        ("name", "reread"),
        ("report", "reread"),
        ("plan", "draft", "reread", "--overwrite"),
        ("diff", "reread", "study"),
    ):
        refused = tiltscope(*words, cwd=place, code=2).stderr
        assert "made from other features" in refused
        assert "tiltscope contrast reread" in refused


def test_another_contrast_takes_away_the_names_and_evidence_of_the_old(place: Path, study: Path) -> None:
    shutil.copytree(study, place / "again")
    tiltscope("contrast", "again", "--draws", 21, cwd=place)
    assert not (place / "again" / "names.json").exists()
    assert not (place / "again" / "evidence.json").exists()


def test_a_study_that_no_longer_says_whose_it_is_is_not_overwritten(place: Path, study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    (copy / "pairs.manifest.json").write_text("{")
    refused = tiltscope(*AUDIT, "--out", copy, cwd=place, code=2)
    assert "choose another --out" in refused.stderr


def test_the_plan_draft_decides_nothing(study: Path) -> None:
    plan = yaml.safe_load((study / "plan.yaml").read_text())
    assert all(entry["action"] == "undecided" for entry in plan["decisions"])


def test_each_verb_prints_text_and_json(place: Path, study: Path) -> None:
    first = json.loads((study / "hypotheses.json").read_text())[0]["id"]
    shutil.copytree(study, place / "printed")
    for words in (
        ("show", "study"),
        ("check", "pairs.jsonl"),
        ("trace", first),
        ("diff", "study", "study"),
        ("report", "printed"),
        ("plan", "draft", "printed", "--overwrite"),
    ):
        text = tiltscope(*words, cwd=place).stdout
        assert text.strip()
        assert max(map(len, text.splitlines())) <= 100
        json.loads(tiltscope(*words, "--json", cwd=place).stdout)


def test_an_unknown_hypothesis_names_the_nearest(place: Path, study: Path) -> None:
    assert "nearest" in tiltscope("trace", "g-nothing", cwd=place, code=2).stderr


def test_a_study_holds_one_dataset(place: Path, study: Path) -> None:
    refused = tiltscope(
        "audit", "pairs.jsonl", "--model", "model", "--sample", 100, "--out", "study", cwd=place, code=2
    )
    assert "another" in refused.stderr
    assert "--out" in refused.stderr


def test_a_missing_file_is_bad_input_not_a_traceback(place: Path) -> None:
    refused = tiltscope("audit", "nowhere.jsonl", cwd=place, code=2)
    assert "Traceback" not in refused.stderr
    assert "nowhere.jsonl" in refused.stderr


def test_a_study_that_is_not_there_names_the_verb_that_makes_it(place: Path) -> None:
    assert "tiltscope audit" in tiltscope("contrast", "no-study", cwd=place, code=2).stderr


def test_too_few_prompts_are_inconclusive(place: Path) -> None:
    rows, _ = generate_pairs(160, seed=1)
    (place / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:12]))
    done = tiltscope("audit", "few.jsonl", "--model", "model", "--out", "few", cwd=place, code=5)
    assert "too few" in done.stderr


def test_an_unsupported_model_says_what_is_supported(place: Path) -> None:
    other = place / "other"
    other.mkdir(exist_ok=True)
    (other / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    refused = tiltscope("read", "pairs.jsonl", "--model", "other", "--out", "s2", cwd=place, code=2)
    assert "llama" in refused.stderr
    assert "qwen2" in refused.stderr


def test_a_map_that_is_no_pair_of_names_is_usage(place: Path) -> None:
    assert "--map" in tiltscope("check", "pairs.jsonl", "--map", "chosen", cwd=place, code=2).stderr


def test_a_field_mapped_to_two_columns_is_usage(place: Path) -> None:
    refused = tiltscope("check", "pairs.jsonl", "--map", "chosen=a", "--map", "chosen=b", cwd=place, code=2)
    assert "a and b as chosen" in refused.stderr


def test_a_negative_seed_is_usage(place: Path) -> None:
    assert "--seed" in tiltscope("check", "pairs.jsonl", "--seed", -1, cwd=place, code=2).stderr


def test_no_dataset_is_not_the_folder_one_stands_in(place: Path) -> None:
    assert "no dataset is given" in tiltscope("check", "", cwd=place, code=2).stderr


def test_a_device_that_is_not_there_is_refused_by_name(place: Path) -> None:
    refused = tiltscope(
        "read", "pairs.jsonl", "--model", "model", "--device", "nonsense", "--out", "s3", cwd=place, code=2
    )
    assert "nonsense" in refused.stderr
    assert "--device cpu" in refused.stderr


def test_a_refusal_shows_control_characters_of_the_data_instead_of_sending_them(place: Path) -> None:
    row = {"prompt": "q", "chosen": "\x1b]0;owned\x07 same", "rejected": "\x1b]0;owned\x07 same"}
    (place / "escapes.jsonl").write_text(json.dumps(row) + "\n")
    refused = tiltscope("check", "escapes.jsonl", cwd=place, code=2)
    assert "\x07" not in refused.stderr
    assert "U+0007" in refused.stderr


def test_a_refusal_fits_the_terminal_and_breaks_no_command_path_or_id(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tiltscope.cli import _complain
    from tiltscope.errors import UsageError

    path, id = "/data/" + "a-very-long-folder/" * 5 + "plan.yaml:12", "0123456789abcdef" * 2
    command = "tiltscope audit other.jsonl --sae study/scope --out another-study"
    error = UsageError(
        "a refusal that says at some length what is wrong with what was asked of this verb",
        where=path,
        found=f"{id} and {id} and {id} of the study at hand, which are more words than a line of text holds",
        hint=f"audit it first, through the same autoencoder: {command}; then prepare it",
    )
    for columns, width in (("80", 80), ("300", 100)):
        monkeypatch.setenv("COLUMNS", columns)
        _complain(error)
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if len(line) > width and path not in line] == []
        assert [sum(part in line for line in lines) for part in (path, command)] == [1, 1]
        assert sum(line.count(id) for line in lines) == 3
        assert all(line.startswith(("error: ", "  where: ", "  found: ", "  hint:  ", " " * 7)) for line in lines)


def test_a_template_that_no_text_survives_is_refused_with_the_reason(place: Path) -> None:
    (place / "loud.jinja").write_text("{% for message in messages %}{{ message.content | upper }}{% endfor %}")
    words = ("read", "pairs.jsonl", "--model", "model", "--template", "loud.jinja", "--out", "s4")
    refused = tiltscope(*words, cwd=place, code=2).stderr
    assert "160 × template" in refused
    assert "--template" in refused


def test_an_interrupt_exits_130(place: Path) -> None:
    running = subprocess.Popen(
        [*COMMAND, *map(str, AUDIT), "--out", "interrupted"],
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ,
        text=True,
        # A shell that runs the tests in the background has them ignore interrupts, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 60
    while not (place / "interrupted" / "check.json").exists() and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, message = running.communicate(timeout=60)
    assert running.returncode == 130, message
    assert "goes on where" in message


def test_estimate_says_how_long_and_writes_nothing(place: Path) -> None:
    text = tiltscope(*AUDIT, "--out", "unwritten", "--estimate", cwd=place).stdout
    assert "min" in text
    assert not (place / "unwritten").exists()


def test_a_new_version_is_read_through_the_same_autoencoder_and_compared(place: Path, study: Path) -> None:
    rows = (place / "pairs.jsonl").read_text().splitlines(keepends=True)
    (place / "pairs-v2.jsonl").write_text("".join(rows[20:]))
    tiltscope("audit", "pairs-v2.jsonl", *AUDIT[2:], "--sae", "study/scope", "--out", "v2", cwd=place)
    compared = json.loads(tiltscope("diff", "study", "v2", "--json", cwd=place).stdout)
    assert compared["rows"]["n_removed"] == 20
    assert compared["rows"]["n_added"] == 0


def test_a_qwen2_model_is_read_and_studies_of_two_scopes_are_not_compared(place: Path, study: Path) -> None:
    tiny_model_folder(place / "qwen", "qwen2")
    rows = (place / "pairs.jsonl").read_text().splitlines(keepends=True)
    (place / "some.jsonl").write_text("".join(rows[:60]))
    tiltscope("audit", "some.jsonl", "--model", "qwen", "--draws", 20, "--out", "q2", cwd=place)
    assert json.loads((place / "q2" / "scope" / "scope.json").read_text())["model"]["family"] == "qwen2"
    assert "--sae" in tiltscope("diff", "study", "q2", cwd=place, code=2).stderr


def test_power_plants_in_the_studys_own_pairs_and_prints_what_was_found(place: Path, study: Path) -> None:
    words = ("power", "study", "--traits", "praise", "--shares", "20", "--repeats", 1)
    assert "20 %" in tiltscope(*words, cwd=place).stdout
    product = json.loads(tiltscope(*words, "--json", cwd=place).stdout)
    assert product["traits"][0]["cells"][0]["n_planted"] == 32
    assert (study / "power" / "power.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("study", "--traits", "goblni"), "did you mean goblin"),
        (("study", "--shares", "80"), "at most 50 %"),
        (("study", "--shares", "many"), "--shares takes percentages"),
        (("nowhere",), "there is no such study"),
    ],
)
def test_power_refuses_what_it_cannot_plant(words: tuple[str, ...], message: str, place: Path, study: Path) -> None:
    assert message in tiltscope("power", *words, cwd=place, code=2).stderr
