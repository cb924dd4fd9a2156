"""The command line from a plan to a verdict, end to end on a tiny random model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher import launched_twice
from test_walk import AUDIT, tiltscope
from tiltscope.planting import generate_pairs
from tiny import tiny_model_folder

pytest.importorskip("trl", reason="training needs the extra tiltscope[train]")

TRAINING = """\
learning_rate: 1.0e-3
per_device_train_batch_size: 8
max_steps: 4
save_steps: 0
bf16: false
"""
RULE = """\
format_version: 1
made_from: {}
decisions:
  - detector: {{kind: rule, rule: bold}}
    action: {action}
    method: {method}
    {how}
    reason: a test
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, 120 planted pairs, and their study."""
    folder = tmp_path_factory.mktemp("walk_on")
    tiny_model_folder(folder / "model")
    rows, _ = generate_pairs(120, seed=2)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "training.yaml").write_text(TRAINING)
    tiltscope(*AUDIT, "--out", "study", "--max-length", 160, cwd=folder)
    return folder


def plan(place: Path, *, action: str = "suppress", method: str = "reward_shaping", how: str = "strength: 2.0") -> None:
    (place / "study" / "plan.yaml").write_text(RULE.format("{}", action=action, method=method, how=how))


def prepared(place: Path, *words: object) -> dict[str, Any]:
    return dict(json.loads(tiltscope("prepare", "study", "--json", *words, cwd=place).stdout))


def test_a_plan_walks_to_a_verdict(place: Path) -> None:
    plan(place)
    product = prepared(place)
    assert product["n_trained"] == product["n_pairs"] == 120
    assert "own definition" in product["decisions"][0]["quality"]
    for name, words in (("planned", ()), ("plain", ("--plain", "dpo"))):
        out = tiltscope("train", "study", "--out", name, "--config", "training.yaml", *words, cwd=place).stdout
        assert "4 steps (dpo)" in out
        assert "3 pairs held out: not trained on" in out
        assert "was plain training" not in out
    rows = [json.loads(line) for line in (place / "pairs.jsonl").read_text().splitlines()[:12]]
    rows = [{**row, "prompt": row["prompt"] + " Thanks." * (n % 2)} for n, row in enumerate(rows)]
    (place / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ("--behaviours", "bold,length", "--data", "asked.jsonl", "--prompts", 12, "-n", 2, "--max-new-tokens", 6)
    for name, model in (("base", "model"), ("planned", "planned/model"), ("plain", "plain/model")):
        shown = tiltscope("evaluate", model, "--out", f"eval-{name}", *asked, cwd=place).stdout
        assert "bold" in shown
        assert "nll" in shown
    other = ("evaluate", "model", "--out", "eval-base", "--behaviours", "emoji", "--data", "pairs.jsonl")
    assert "another evaluation" in tiltscope(*other, cwd=place, code=2).stderr
    arms = [f"{name}=eval-{name}" for name in ("base", "plain", "planned")]
    shown = tiltscope("compare", *arms, "--target", "bold", "--out", "comparison", cwd=place).stdout
    assert "planned against plain" in shown
    twice = tiltscope("compare", "a=eval-base", "b=eval-plain,eval-base", "--out", "no", cwd=place, code=2).stderr
    assert "found: in the arms a and b" in twice
    assert max(map(len, shown.splitlines())) <= 80
    gates = {"is at most 99 %": (0, "pass"), "is at least 99 %": (1, "fail"), "is at most 1 %": (5, "inconclusive")}
    for limit, (code, word) in gates.items():
        (place / "limits.yaml").write_text(f"limits:\n  bold: {limit}\n")
        shown = tiltscope("gate", "limits.yaml", "comparison", "--out", "verdict", cwd=place, code=code).stdout
        assert shown.startswith(word)
    names = ("verdict.json", "verdict.xml", "verdict.md", "buyer.md", "buyer.html")
    assert [name for name in names if not (place / "verdict" / name).exists()] == []
    assert "planned" in (place / "comparison" / "comparison.md").read_text()
    foretold = json.loads(tiltscope("predict", "study", "--objective", "sft", "--json", cwd=place).stdout)
    assert foretold["primary"] == "chosen_minus_own"
    words = ("predict", "study", "--before", "eval-base", "--after", "eval-plain")
    other = tiltscope(*words, "--objective", "sft", cwd=place, code=2).stderr
    assert "found: dpo, not sft" in other
    card = json.loads(tiltscope(*words, "--json", cwd=place, code=5).stdout)
    assert card["objective"] == {"objective": "dpo", "said_by": "the runs that were evaluated"}
    assert card["primary"] == "capped_difference"
    assert card["n_in_study"] == 6
    assert card["conditional"] is None  # 12 prompts hold no 8 of a kind and 8 of the rest


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("example_filtering", "strength: 0.1"),
        ("token_filtering", "side: null"),
        ("inoculation_prompting", "instruction: Use bold text."),
        ("inoculation_ratio", "{strength: 0.5, instruction: Use bold text.}"),
        ("reward_shaping", "aim_rate: start"),
    ],
)
def test_every_method_that_needs_no_scope_prepares_by_rule(place: Path, method: str, how: str) -> None:
    lines = how.strip("{}").replace(", ", "\n    ")
    plan(place, method=method, how=lines)
    change = prepared(place)["decisions"][0]
    assert change["method"] == method
    assert change["n_touched"] > 0


@pytest.mark.parametrize("method", ["activation_steering", "steering_ratio"])
def test_steering_takes_its_direction_from_the_scope(place: Path, method: str) -> None:
    plan(place, method=method, how="strength: 0.1\n    accept_weak: true")
    text = (place / "study" / "plan.yaml").read_text()
    text = text.replace("{kind: rule, rule: bold}", "{kind: latent, latent: 3}")
    scope = json.loads((place / "study" / "scope" / "scope.json").read_text())["fingerprint"]
    (place / "study" / "plan.yaml").write_text(text.replace("made_from: {}", f"made_from: {{scope: {scope}}}"))
    change = prepared(place)["decisions"][0]
    assert change["n_touched"] > 0
    assert bool(change["vectors"]) == (method == "activation_steering")
    assert bool(change["offsets_nats"]) == (method == "steering_ratio")


def test_steering_takes_its_direction_from_labelled_tokens_too(place: Path) -> None:
    plan(place, method="activation_steering", how="strength: 0.1\n    accept_weak: true")
    path = place / "study" / "plan.yaml"
    path.write_text(path.read_text().replace("{kind: rule, rule: bold}", "{kind: direction, labels: {rule: bold}}"))
    change = prepared(place)["decisions"][0]
    assert change["n_touched"] > 0
    assert change["vectors"]
    path.write_text(path.read_text().replace("{kind: direction, labels: {rule: bold}}", "{kind: rule, rule: bold}"))
    refused = tiltscope("prepare", "study", cwd=place, code=2).stderr
    assert "steering needs a direction" in refused
    assert "kind: direction" in refused


def test_a_plan_of_detectors_alone_acts_on_a_study_that_was_only_read(place: Path) -> None:
    words = ("--model", "model", "--max-length", 160, "--sae", "study/scope")
    tiltscope("read", "pairs.jsonl", "--out", "only-read", *words, cwd=place)
    text = RULE.format("{}", action="suppress", method="reward_shaping", how="strength: 2.0")
    (place / "only-read" / "plan.yaml").write_text(text)
    assert json.loads(tiltscope("prepare", "only-read", "--json", cwd=place).stdout)["n_trained"] == 120
    finding = text.replace("- detector: {kind: rule, rule: bold}", "- hypothesis: g-L3\n    concept: {latents: [3]}")
    (place / "only-read" / "plan.yaml").write_text(finding)
    refused = tiltscope("prepare", "only-read", cwd=place, code=2).stderr
    assert "no such finding" in refused
    assert "tiltscope contrast" in refused


def test_behaviours_of_ones_own_are_measured_beside_those_named(place: Path) -> None:
    own = "id: pirate\nname: pirate\ndefinition: Says arr.\nunit: share\nregex: 'arr+'\ntarget: set:chat\n"
    (place / "own.yaml").write_text(own)
    words = ("--behaviours", "bold", "--behaviours-file", "own.yaml", "--data", "pairs.jsonl", "--prompts", 4)
    tiltscope("evaluate", "model", "--out", "eval-own", *words, "--max-new-tokens", 4, cwd=place)
    body = json.loads((place / "eval-own" / "evaluation.json").read_text())
    assert {one["behaviour"] for one in body["scores"]} >= {"bold", "pirate"}


def test_openings_and_sentences_are_measured_in_held_out_answers_and_need_some(place: Path) -> None:
    (place / "sentences.yaml").write_text("hello: [hello you, sorry what]\n")
    words = ("--behaviours", "bold", "--openings", "--sentences", "sentences.yaml", "--max-new-tokens", 4)
    refused = tiltscope("evaluate", "model", "--out", "eval-forced", *words, cwd=place, code=2).stderr
    assert "found: no --data" in refused
    data = ("--data", "pairs.jsonl", "--prompts", 4)
    shown = tiltscope("evaluate", "model", "--out", "eval-forced", *words, *data, cwd=place).stdout
    assert "openings/bold" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    body = json.loads((place / "eval-forced" / "evaluation.json").read_text())
    assert {one["id"] for one in body["scores"]} >= {"bold", "nll", "openings/numbered_list", "said/hello"}


def test_an_empty_plan_is_plain_training_and_says_so(place: Path) -> None:
    (place / "study" / "plan.yaml").write_text("format_version: 1\nmade_from: {}\ndecisions: []\n")
    for path in (place / "study" / "recipe").glob("*"):
        path.unlink()
    words = ("train", "study", "--out", "empty", "--config", "training.yaml")
    refused = tiltscope(*words, cwd=place, code=2).stderr
    assert "tiltscope prepare study" in refused
    assert "tiltscope train study --plain dpo" in refused
    assert "this recipe is plain training" in tiltscope("prepare", "study", cwd=place).stdout
    assert "this was plain training" in tiltscope(*words, cwd=place).stdout


def test_a_behaviour_that_is_not_there_is_refused_with_the_nearest(place: Path) -> None:
    words = ("evaluate", "model", "--out", "none", "--behaviours", "bould", "--data", "pairs.jsonl")
    refused = tiltscope(*words, cwd=place, code=2).stderr
    assert "found: bould" in refused
    assert "the nearest: bold" in refused


def test_a_plan_that_holds_a_rule_of_the_library_is_prepared_trained_and_gated(place: Path) -> None:
    plan(place, how="aim_rate: start\n    hold: [exclamation]")
    assert "holding exclamation mark" in prepared(place)["decisions"][0]["name"]
    out = tiltscope("train", "study", "--out", "held", "--config", "training.yaml", cwd=place).stdout
    assert "4 steps (dpo)" in out
    tiltscope("gate", "held.yaml", "--draft", "--data", "study", cwd=place)
    assert "bold" in (place / "held.yaml").read_text()


def in_two_processes(place: Path, *words: str) -> str:
    """As on two GPUs: docs/training.md gives this command with a file of examples/configs in place of the options."""
    return launched_twice("-m", "tiltscope", *words, cwd=place)


def test_the_verb_trains_in_two_processes_and_speaks_once(place: Path) -> None:
    out = in_two_processes(place, "train", "study", "--out", "two", "--plain", "dpo", "--config", "training.yaml")
    assert out.count("4 steps (dpo)") == 1
    assert (place / "two" / "model" / "config.json").exists()


def test_two_processes_read_what_one_reads_to_the_byte_and_speak_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in the two: more threads add in another order
    words = ("read", "pairs.jsonl", "--model", "model", "--seed", "3", "--out")
    tiltscope(*words, "read-by-one", cwd=place)
    assert in_two_processes(place, *words, "read-by-two").count("pairs") >= 1
    one, two = (
        {str(path.relative_to(place / name)): path.read_bytes() for path in (place / name).rglob("*.safetensors")}
        for name in ("read-by-one", "read-by-two")
    )
    assert sorted(one) == sorted(two)
    assert one == two


def test_undecided_findings_stop_a_recipe_until_somebody_says_so(place: Path) -> None:
    plan(place)
    path = place / "study" / "plan.yaml"
    path.write_text(path.read_text() + "  - detector: {kind: rule, rule: emoji}\n    action: undecided\n")
    refused = tiltscope("prepare", "study", cwd=place, code=2)
    assert "undecided" in refused.stderr
    assert "--allow-undecided" in refused.stderr
    assert "1 findings are undecided" in tiltscope("prepare", "study", "--allow-undecided", cwd=place).stdout


def test_a_recipe_of_an_older_plan_is_refused_with_the_verb_to_rerun(place: Path) -> None:
    plan(place)
    prepared(place)
    plan(place, how="strength: 3.0")
    refused = tiltscope("train", "study", "--out", "stale", "--config", "training.yaml", cwd=place, code=2)
    assert "tiltscope prepare" in refused.stderr


def test_a_plan_of_another_dataset_is_refused(place: Path) -> None:
    plan(place)
    path = place / "study" / "plan.yaml"
    path.write_text(path.read_text().replace("made_from: {}", "made_from: {pairs: '0123456789abcdef'}"))
    refused = tiltscope("prepare", "study", cwd=place, code=2)
    assert "0123456789abcdef" in refused.stderr


@pytest.mark.parametrize("method", ["reward_shaping", "token_filtering"])
def test_a_decision_on_what_no_answer_shows_is_refused_with_a_hint(place: Path, method: str) -> None:
    plan(place, method=method, how="strength: 1.0" if method == "reward_shaping" else "side: null")
    path = place / "study" / "plan.yaml"
    path.write_text(path.read_text().replace("{kind: rule, rule: bold}", "{kind: regex, pattern: never written}"))
    refused = tiltscope("prepare", "study", cwd=place, code=2).stderr
    assert "would touch nothing" in refused
    assert "plan.yaml:4" in refused
    assert "0 of 240 answers" in refused
    assert "tiltscope show study/check.json" in refused


def test_shaped_rows_are_exported_for_other_peoples_code(place: Path) -> None:
    plan(place)
    product = prepared(place, "--objective", "sft", "--export", "shaped")
    assert product["export"]["n_rows"] > 100
    assert any((place / "shaped").glob("*.parquet"))


def test_long_work_with_the_model_tells_how_far_it_is(place: Path) -> None:
    held = json.loads((place / "study" / "hypotheses.json").read_text())[0]["id"]
    scope = json.loads((place / "study" / "scope" / "scope.json").read_text())["fingerprint"]
    plan(place, how=f"aim_rate: 0.2\n    hold: [{held}]")
    path = place / "study" / "plan.yaml"
    path.write_text(path.read_text().replace("made_from: {}", f"made_from: {{scope: {scope}}}"))
    shutil.rmtree(place / "study" / "scores", ignore_errors=True)  # what another walk had the model answer already
    assert "the model's own answers:   8%" in tiltscope("prepare", "study", cwd=place).stderr
    plan(place, method="inoculation_ratio", how="strength: 0.5\n    instruction: [Use bold text., Write **so**.]")
    told = tiltscope("prepare", "study", "--export", "told", cwd=place).stderr
    for stage in ("instructions of decision 1:   0%", "log-probs (instructed):", "reference log-probs:   3%"):
        assert stage in told
    assert "decisions: 100%" in told  # the bar that the others interrupted


def test_a_rule_that_nothing_can_judge_is_not_passed(place: Path) -> None:
    (place / "both.yaml").write_text('limits:\n  bold: at most +99 points\n  data: no confirmed "more" of goblin\n')
    shown = tiltscope("gate", "both.yaml", "--data", "study", cwd=place, code=5).stdout
    assert "needs a comparison" in shown
    (place / "one.yaml").write_text("limits:\n  bold: at most +99 points\n")
    assert "COMPARISON" in tiltscope("gate", "one.yaml", "--data", "study", cwd=place, code=2).stderr


def test_a_drafted_gate_judges_the_audit_it_was_drafted_from(place: Path) -> None:
    plan(place)
    tiltscope("gate", "drafted.yaml", "--draft", "--data", "study", cwd=place)
    shown = tiltscope("gate", "drafted.yaml", "--data", "study", "--json", cwd=place, code=5).stdout
    outcomes = {one["rule"]: one["outcome"] for one in json.loads(shown)["results"]}
    assert outcomes.pop('data: no confirmed "more" of bold') == "pass"  # a random model confirms none
    assert set(outcomes.values()) == {"inconclusive"}  # rules that need a comparison
    assert "drafted.yaml" in tiltscope("gate", "drafted.yaml", "--draft", "--data", "study", cwd=place, code=2).stderr


def test_another_dataset_is_not_cleaned_by_row_numbers(place: Path) -> None:
    plan(place)
    rows = (place / "pairs.jsonl").read_text().splitlines()
    (place / "turned.jsonl").write_text("\n".join(reversed(rows)) + "\n")
    refused = tiltscope("clean", "turned.jsonl", "--study", "study", "--out", "no", "--no-audit", cwd=place, code=2)
    assert "not the file the study was made from" in refused.stderr
    assert not (place / "no" / "kept.jsonl").exists()


def test_a_decision_about_a_finding_that_is_not_there_is_refused(place: Path) -> None:
    plan(place)
    path = place / "study" / "plan.yaml"
    path.write_text(path.read_text().replace("  - detector", "  - hypothesis: g-L99999\n    detector"))
    assert "g-L99999" in tiltscope("prepare", "study", cwd=place, code=2).stderr


@pytest.mark.parametrize("words", [("--under", "fictoin"), ("--behaviours", "")])
def test_an_option_that_would_do_nothing_is_refused(place: Path, words: tuple[str, str]) -> None:
    tiltscope("evaluate", "model", "--out", "nothing", *words, cwd=place, code=2)


def test_clean_puts_carriers_aside_and_is_done_after_once(place: Path) -> None:
    plan(place)
    facts = json.loads(
        tiltscope("clean", "pairs.jsonl", "--study", "study", "--out", "clean", "--json", cwd=place).stdout
    )
    assert facts["n_kept"] + facts["n_quarantine"] == 120
    assert facts["n_quarantine"] > 0
    for line in (place / "clean" / "quarantine.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert "**" in str(row["chosen"])
    again = tiltscope(
        *("clean", "clean/kept.jsonl", "--study", "clean/study", "--plan", "study/plan.yaml", "--no-audit"),
        *("--out", "again", "--json"),
        cwd=place,
    )
    assert json.loads(again.stdout)["n_quarantine"] == 0
