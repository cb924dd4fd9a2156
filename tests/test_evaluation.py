"""Answers, rates, comparisons: planted rates are found, nulls stay quiet, and what is torn or missing is said."""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from double import read_double
from made_model import PLAIN, MadeModel, bold_only, made_evaluation, made_prompts
from tiltscope.behaviours.measured import Behaviour, behaviour
from tiltscope.cli import prove
from tiltscope.errors import DataError, InconclusiveError, ModelError, ProductError, UsageError
from tiltscope.evaluation import (
    Comparison,
    EndpointAnswers,
    Evaluation,
    EvaluationSettings,
    Judge,
    as_markdown,
    as_text,
    blinded,
    buyer_content,
    buyer_html,
    buyer_markdown,
    compare,
    crossed_mean,
    evaluate,
    prompts_in,
    read_comparison,
    read_evaluation,
    with_values,
    write_comparison,
    write_evaluation,
)
from tiltscope.pairs import LoadSettings, Pair, Turn, load_pairs, save_pairs
from tiltscope.proving import Asked, _held_out
from tiltscope.study import trained_on

# --- answers ----------------------------------------------------------------------------------------------------------


def test_answers_on_disk_are_not_asked_for_again(tmp_path: Path) -> None:
    settings = EvaluationSettings("made", n_answers=2, seeds=(0, 1), batch_size=4)
    first, again = MadeModel(0.5), MadeModel(0.5)
    one = evaluate(first, bold_only(), made_prompts(10), settings, folder=tmp_path)
    other = evaluate(again, bold_only(), made_prompts(10), settings, folder=tmp_path)
    assert (first.calls, again.calls) == ([4, 4, 2] * 2, [])
    assert one.fingerprint == other.fingerprint


def test_a_killed_run_loses_at_most_one_batch_and_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    settings = EvaluationSettings("made", n_answers=2, batch_size=4)

    class Dying(MadeModel):
        def __call__(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().__call__(*args, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        evaluate(Dying(0.5), bold_only(), made_prompts(12), settings, folder=tmp_path / "killed")
    path = tmp_path / "killed" / "answers.jsonl"
    assert len(path.read_text().splitlines()) == 16
    path.write_bytes(path.read_bytes()[:-25])  # the kill came while the last line was written
    model = MadeModel(0.5)
    resumed = evaluate(model, bold_only(), made_prompts(12), settings, folder=tmp_path / "killed")
    unbroken = evaluate(MadeModel(0.5), bold_only(), made_prompts(12), settings, folder=tmp_path / "whole")
    assert model.calls == [4, 4]
    assert resumed.fingerprint == unbroken.fingerprint
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {"key", "prompt_id", "seed", "index", "text"} == set(rows[0])


def test_another_model_or_temperature_shares_no_answers(tmp_path: Path) -> None:
    model = MadeModel(0.5)
    for settings in (EvaluationSettings("a"), EvaluationSettings("b"), EvaluationSettings("a", temperature=0.2)):
        evaluate(model, bold_only(), made_prompts(3), settings, folder=tmp_path)
    assert model.calls == [3, 3, 3]


def test_more_answers_are_added_to_those_there(tmp_path: Path) -> None:
    def asked(n: int, rate: float) -> Evaluation:
        settings = EvaluationSettings("a", n_answers=n)
        return evaluate(MadeModel(rate), bold_only(), made_prompts(3), settings, folder=tmp_path)

    first, more = asked(1, 0.0), asked(3, 1.0)
    assert (len(more.answers), more.n_missing) == (9, 0)
    assert [one.text for one in more.answers[::3]] == [one.text for one in first.answers]
    assert all("**" in str(one.text) for one in more.answers if one.index)
    assert asked(1, 1.0).fingerprint == first.fingerprint


def test_a_missing_answer_is_counted_and_asked_for_again(tmp_path: Path) -> None:
    def shy(prompts, *, n, seed, temperature, max_new_tokens):  # type: ignore[no-untyped-def]
        return [[None if i == 0 else PLAIN] for i in range(len(prompts))]

    settings = EvaluationSettings("shy", batch_size=5)
    found = evaluate(shy, bold_only(), made_prompts(10), settings, folder=tmp_path)
    assert found.n_missing == 2
    assert found.scores[0].rate.n_answers == 8
    full = evaluate(MadeModel(0.0), bold_only(), made_prompts(10), settings, folder=tmp_path)
    assert full.n_missing == 0


def test_a_model_that_never_answers_is_inconclusive_not_free_of_bold(tmp_path: Path) -> None:
    def mute(prompts, *, n, seed, temperature, max_new_tokens):  # type: ignore[no-untyped-def]
        return [[None] * n for _ in prompts]

    with pytest.raises(InconclusiveError):
        evaluate(mute, bold_only(), made_prompts(3), EvaluationSettings("mute"), folder=tmp_path)


@pytest.mark.parametrize("given", [[["a"]], [["a", "b"]] * 3, [["a"], ["b"], [3]], ["abc"] * 3])
def test_an_answer_function_that_gives_something_else_is_refused(tmp_path: Path, given: list[object]) -> None:
    with pytest.raises(ModelError):
        evaluate(lambda *a, **k: given, bold_only(), made_prompts(3), EvaluationSettings("odd"), folder=tmp_path)  # type: ignore[arg-type,return-value]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"key": 3}\n')
    with pytest.raises(UsageError, match=r"answers\.jsonl:1"):
        evaluate(MadeModel(), bold_only(), made_prompts(3), EvaluationSettings("x"), folder=tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [{"n_answers": 0}, {"seeds": ()}, {"seeds": (1, 1)}, {"temperature": -1}, {"temperature": 0, "n_answers": 2}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        EvaluationSettings("x", **wrong)  # type: ignore[arg-type]


# --- rates ------------------------------------------------------------------------------------------------------------


def test_a_planted_rate_lies_in_its_interval(tmp_path: Path) -> None:
    rate = made_evaluation(tmp_path, "planted", 0.3, n_prompts=200).scores[0].rate
    assert rate.low < 0.3 < rate.high
    assert rate.high - rate.low < 0.15
    assert (rate.n_answers, rate.n_prompts) == (400, 200)


def test_an_evaluation_comes_back_as_it_was(tmp_path: Path) -> None:
    made = with_values(
        made_evaluation(tmp_path, "m", 0.4, n_prompts=8),
        "nll",
        {"a": 1.5, "b": 2.5},
        name="NLL",
        unit_name="nats",
        wanted="less",
    )
    write_evaluation(made, tmp_path / "m")
    back = read_evaluation(tmp_path / "m")
    assert back.fingerprint == made.fingerprint
    assert [one.id for one in back.scores] == [one.id for one in made.scores]
    assert back.answers == made.answers


def test_an_evaluation_whose_answers_were_changed_is_refused(tmp_path: Path) -> None:
    write_evaluation(made_evaluation(tmp_path, "m", 0.4, n_prompts=8), tmp_path / "m")
    path = tmp_path / "m" / "answers.jsonl"
    path.write_text(path.read_text().replace("morning", "evening"))
    with pytest.raises(ProductError, match="cannot be read"):
        read_evaluation(tmp_path / "m")


# --- intervals over prompts and seeds ---------------------------------------------------------------------------------


def test_with_one_seed_the_interval_is_the_t_interval_over_prompts() -> None:
    from scipy import stats as scipy_stats

    d = np.random.default_rng(1).normal(0.3, 1, (1, 40))
    found = crossed_mean(d, witness=0)
    oracle = scipy_stats.ttest_1samp(d[0], 0)
    bounds = oracle.confidence_interval()
    assert [found.low, found.high, found.p] == pytest.approx([bounds.low, bounds.high, oracle.pvalue])


def test_variance_parts_are_those_of_a_two_way_analysis_of_variance() -> None:
    import pandas as pd
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    draw = np.random.default_rng(2)
    d = draw.normal(0, 1, (4, 30)) + draw.normal(0, 1, (4, 1)) + draw.normal(0, 1, (1, 30))
    frame = pd.DataFrame([{"y": d[s, p], "s": s, "p": p} for s in range(4) for p in range(30)])
    table = anova_lm(smf.ols("y ~ C(s) + C(p)", frame).fit())
    squares = table["mean_sq"]
    wanted = (squares["C(s)"] + squares["C(p)"] - squares["Residual"]) / d.size
    assert crossed_mean(d, witness=0).se ** 2 == pytest.approx(wanted)


@pytest.mark.parametrize(("sd_seed", "sd_prompt"), [(0.0, 1.0), (0.5, 0.5), (0.5, 0.0)])
def test_the_interval_covers_new_prompts_and_new_seeds(sd_seed: float, sd_prompt: float) -> None:
    draw = np.random.default_rng(3)
    n, covered = 600, 0
    for _ in range(n):
        d = draw.normal(0, sd_seed, (3, 1)) + draw.normal(0, sd_prompt, (1, 40)) + draw.normal(0, 1, (3, 40))
        found = crossed_mean(d, witness=0)
        covered += found.low <= 0 <= found.high
    assert covered / n >= 0.91


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("n_answers", [1, 8])
def test_rare_events_are_covered(rate: float, n_answers: int) -> None:
    """The same rare behaviour on both sides: an interval that leaves out 0 would be a false alarm."""
    draw = np.random.default_rng(7)
    n, missed = 500, 0
    for _ in range(n):
        one, other = draw.binomial(n_answers, rate, (2, 1, 60)) / n_answers
        found = crossed_mean(one - other, witness=1)
        missed += not found.low <= 0 <= found.high
    assert missed / n <= 0.07


def test_many_answers_are_not_widened_by_the_witnesses() -> None:
    draw = np.random.default_rng(8)
    d = draw.normal(0.2, 0.3, (1, 60))
    assert crossed_mean(d, witness=1).se <= 1.03 * crossed_mean(d, witness=0).se


def test_prompts_that_show_no_change_are_no_proof() -> None:
    few, many = crossed_mean(np.zeros((3, 20)), witness=1), crossed_mean(np.zeros((3, 400)), witness=1)
    assert few.high > 0.1
    assert many.high < 0.01
    assert math.isnan(crossed_mean(np.zeros((3, 20)), witness=0).low)


# --- comparisons ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_arms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Evaluation]]:
    folder = tmp_path_factory.mktemp("arms")
    arms = {"base": [made_evaluation(folder, "base", 0.3)]}
    arms["plain"] = [made_evaluation(folder, f"plain-{seed}", 0.7) for seed in range(3)]
    arms["planned"] = [made_evaluation(folder, f"planned-{seed}", 0.3) for seed in range(3)]
    return arms


def test_a_planted_change_is_found_and_an_absent_one_is_not(three_arms: dict[str, list[Evaluation]]) -> None:
    found = compare(three_arms, targets=["bold"])
    by_arms = {(one.arm, one.versus): one for one in found.changes}
    assert set(by_arms) == {("plain", "base"), ("planned", "base"), ("planned", "plain")}
    up, same, down = (by_arms[key] for key in (("plain", "base"), ("planned", "base"), ("planned", "plain")))
    assert up.difference.low < 0.4 < up.difference.high
    assert same.difference.low < 0 < same.difference.high
    assert down.difference.high < 0
    assert up.q < 0.001 < 0.05 < same.q
    assert up.is_target
    assert len(up.seed_differences) == 3
    assert up.before.n_seeds == 1
    assert up.after.n_seeds == 3
    assert "a single model" in up.notes[0]


def test_a_comparison_comes_back_as_it_was(three_arms: dict[str, list[Evaluation]], tmp_path: Path) -> None:
    made = compare(three_arms)
    write_comparison(made, tmp_path / "comparison.json")
    assert read_comparison(tmp_path / "comparison.json").fingerprint == made.fingerprint
    body = json.loads((tmp_path / "comparison.json").read_text())
    body["changes"][0]["difference"]["effect"] = -1.0
    (tmp_path / "comparison.json").write_text(json.dumps(body))
    with pytest.raises(ProductError):
        read_comparison(tmp_path / "comparison.json")


def test_a_comparison_made_before_there_were_sentences_is_still_read(
    three_arms: dict[str, list[Evaluation]], tmp_path: Path
) -> None:
    made = compare(three_arms)
    write_comparison(made, tmp_path / "comparison.json")
    body = json.loads((tmp_path / "comparison.json").read_text())
    assert body.pop("sentences") == {}
    (tmp_path / "comparison.json").write_text(json.dumps(body))
    assert read_comparison(tmp_path / "comparison.json").fingerprint == made.fingerprint
    told = replace(made, sentences={"said/a": ("One.", "Two.")})
    assert told.fingerprint != made.fingerprint


def test_two_seeds_against_three_are_refused(three_arms: dict[str, list[Evaluation]]) -> None:
    with pytest.raises(UsageError, match="different numbers of seeds"):
        compare({"plain": three_arms["plain"][:2], "planned": three_arms["planned"]})


def test_arms_that_were_asked_otherwise_are_refused(three_arms: dict[str, list[Evaluation]], tmp_path: Path) -> None:
    other = made_evaluation(tmp_path, "other", 0.3, n_prompts=59)
    with pytest.raises(UsageError, match="different prompts"):
        compare({"base": three_arms["base"], "other": [other]})


def test_the_same_evaluation_on_both_sides_is_refused(three_arms: dict[str, list[Evaluation]]) -> None:
    with pytest.raises(UsageError, match="are the same"):
        compare({"base": three_arms["base"], "planned": three_arms["base"]})


def test_an_unknown_target_is_refused(three_arms: dict[str, list[Evaluation]]) -> None:
    with pytest.raises(UsageError, match="was not measured"):
        compare(three_arms, targets=["blod"])


def test_relative_change_of_values_is_the_ratio(three_arms: dict[str, list[Evaluation]]) -> None:
    draw = np.random.default_rng(5)
    base = {f"t{i}": float(v) for i, v in enumerate(draw.normal(2.0, 0.3, 80))}
    worse = {id: value * 1.02 + float(draw.normal(0, 0.01)) for id, value in base.items()}
    arms = {
        "base": [with_values(three_arms["base"][0], "nll", base, name="NLL", unit_name="nats", wanted="less")],
        "planned": [with_values(three_arms["planned"][0], "nll", worse, name="NLL", unit_name="nats", wanted="less")],
    }
    change = next(one for one in compare(arms).changes if one.id == "nll")
    ratio = sum(worse.values()) / sum(base.values()) - 1
    assert change.relative.effect == pytest.approx(ratio)
    assert change.relative.low < 0.02 < change.relative.high
    assert change.relative.high - change.relative.low < 0.005


def test_examples_can_be_blinded_and_the_key_opens_them(three_arms: dict[str, list[Evaluation]]) -> None:
    examples = compare(three_arms, n_examples=6).examples
    shown, key = blinded(examples, seed=1)
    assert len(shown) == 6
    assert set(key.values()) == {"base", "planned"}
    for number, (one, plain) in enumerate(zip(shown, examples, strict=True), start=1):
        assert "base" not in (one.left, one.right)
        assert one.left_score is None
        assert (one.left_text if key[str(number)] == "base" else one.right_text) == plain.left_text


def test_prompts_that_were_trained_on_are_counted_and_an_evaluation_of_no_others_is_refused(tmp_path: Path) -> None:
    made = made_evaluation(tmp_path, "base", 0.3, n_prompts=12)
    rows = [Pair(f"{i:016x}", (Turn("user", f" Question  number {i}?\n"),), "a", "b", str(i), i) for i in range(5, 15)]
    assert prompts_in(made, rows) == 7
    assert prompts_in(made, [replace(one, prompt=(Turn("system", "s"), *one.prompt)) for one in rows]) == 0
    with pytest.raises(UsageError, match="--not-in STUDY"):
        prompts_in(replace(made, prompts=made.prompts[5:]), rows)


# --- for people -------------------------------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script> | `x` ``` [a](http://b) \u202etxet {{ 7*7 }}"


def hostile_comparison(tmp_path: Path) -> Comparison:
    def answer(prompts, *, n, seed, temperature, max_new_tokens):  # type: ignore[no-untyped-def]
        return [[HOSTILE + " **b**"] for _ in prompts]

    named = [replace(bold_only()[0], name=HOSTILE)]
    asked = EvaluationSettings(HOSTILE)
    evil = evaluate(answer, named, made_prompts(12), asked, folder=tmp_path / "evil")
    good = made_evaluation(tmp_path, "good", 0.2, n_prompts=12, n_answers=1, behaviours=named)
    return compare({"base": [good], HOSTILE: [evil]})


def test_tables_show_every_row_with_its_unit(three_arms: dict[str, list[Evaluation]]) -> None:
    text = as_text(compare(three_arms, targets=["bold"]))
    assert "planned against plain" in text
    assert "bold text (target)" in text
    assert text.count("points [") == 3
    assert "a single model" in text


def test_no_text_from_a_model_acts_as_markup(tmp_path: Path) -> None:
    found = hostile_comparison(tmp_path)
    content = buyer_content(found, audit={HOSTILE: HOSTILE})
    pages = {"html": buyer_html(content), "md": buyer_markdown(content), "table": as_markdown(found)}
    for name, page in pages.items():
        assert "\u202e" not in page, name
    assert "<script" not in pages["html"]
    assert "<script" not in pages["md"]
    assert "&&#" not in pages["md"] + pages["table"]  # nothing is escaped twice
    assert "&#60;script&#62;" in pages["md"]
    assert re.findall(r"<[^>]*\b(?:src|href|on\w+)=", pages["html"]) == []
    outside = pages["table"].split("````text")[0]
    assert "<script" not in outside
    assert "````text\n" in pages["table"]  # longer than the three backticks inside


def test_the_page_for_buyers_says_what_moved_and_what_was_not_tested(three_arms: dict[str, list[Evaluation]]) -> None:
    found = compare({"base": three_arms["base"], "plain": three_arms["plain"]}, targets=["bold"])
    said = {"product": "verdict", "outcome": "fail", "results": [{"outcome": "fail", "rule": "bold", "why": "rose"}]}
    page = buyer_markdown(buyer_content(found, verdict=said, audit={"pairs read": "400"}))
    assert "At least one limit is broken" in page
    moved = page.split("## What moved")[1].split("## What was not seen to move")[0]
    assert "bold text, aimed at" in moved
    assert "3 of 3" in moved
    assert "declines harmful requests" in page.split("## What was not tested")[1]
    assert "pairs read: 400" in page
    assert "3 separately trained models" in page


def test_without_an_audit_the_page_says_so(three_arms: dict[str, list[Evaluation]]) -> None:
    found = compare({"base": three_arms["base"], "planned": three_arms["planned"][:1]})
    page = buyer_html(buyer_content(found))
    assert "Nothing about an audit" in page
    assert "one run per arm was tested" in page
    assert buyer_content(found)["moved"] == []


# --- endpoints --------------------------------------------------------------------------------------------------------


class Server:
    """A chat-completions server on the loopback that answers what `reply(body, number)` says."""

    def __init__(self, reply: Callable[[dict[str, Any], int], bytes | str | None]) -> None:
        self.bodies: list[dict[str, Any]] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                bodies.append(body)
                said = reply(body, len(bodies))
                if said is None:
                    self.send_error(500)
                    return
                raw = (
                    said
                    if isinstance(said, bytes)
                    else json.dumps({"choices": [{"message": {"content": said}}]}).encode()
                )
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(BrokenPipeError):  # the other side has given up waiting
                    self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_an_endpoint_answers_with_its_own_seed_for_each_answer(tmp_path: Path) -> None:
    with Server(lambda body, number: f"{PLAIN} **{number}**") as server:
        model = EndpointAnswers(server.url, "m", timeout=5)
        settings = EvaluationSettings(model.name, n_answers=2)
        found = evaluate(model, bold_only(), made_prompts(3), settings, folder=tmp_path)
        assert found.scores[0].rate.mean == 1
        assert len(server.bodies) == 6
        assert len({(body["messages"][0]["content"], body["seed"]) for body in server.bodies}) == 6
        assert not model.failures


@pytest.mark.parametrize(
    "bad", [None, b"nonsense", b"[1]", b'{"choices": []}', b'{"choices": [{"message": {"content": 3}}]}']
)
def test_a_failing_endpoint_gives_no_answer_and_is_counted(tmp_path: Path, bad: bytes | None) -> None:
    with Server(lambda body, number: bad if number <= 2 else PLAIN) as server:
        model = EndpointAnswers(server.url, "m", timeout=5)
        found = evaluate(model, bold_only(), made_prompts(3), EvaluationSettings(model.name), folder=tmp_path)
    assert found.n_missing == 1
    assert sum(model.failures.values()) == 1
    assert found.scores[0].rate.n_answers == 2


def test_an_endpoint_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with Server(lambda body, number: None) as server:
        model = EndpointAnswers(server.url, "m", timeout=5, retries=0, give_up_after=3)
        with pytest.raises(ModelError, match="3 times in a row"):
            evaluate(model, bold_only(), made_prompts(9), EvaluationSettings(model.name), folder=tmp_path)
    assert len(server.bodies) == 3


def judged_behaviours() -> list[Behaviour]:
    return [replace(behaviour("cheerfulness"), sets={"target": ("made",)})]


def test_a_judge_is_a_second_opinion_with_abstentions_and_errors_apart(tmp_path: Path) -> None:
    replies = ['{"yes": true}', '{"yes": false}', '{"abstain": true}', '{"yes": "maybe"}', "yes", '{"yes": 1}']
    prompts = made_prompts(6)

    def reply(body: dict[str, Any], number: int) -> str:
        asked = json.loads(body["messages"][1]["content"])["prompt"][0][1]
        return replies[int(asked.split()[-1].strip("?"))]

    with Server(reply) as server:
        judge = Judge(server.url, "j", timeout=5)
        settings = EvaluationSettings("m")
        found = evaluate(MadeModel(), judged_behaviours(), prompts, settings, folder=tmp_path, judge=judge)
        counts = found.judged["cheerfulness_judged"]
        assert (counts.answered, counts.abstained, counts.errors) == (2, 1, 3)
        assert sum(counts.reasons.values()) == 3
        rule, judged = found.scores
        assert (rule.rate.mean, rule.rate.n_answers) == (0.0, 6)
        assert (judged.rate.mean, judged.rate.n_answers) == (0.5, 2)
        n_asked = len(server.bodies)
        evaluate(MadeModel(), judged_behaviours(), prompts, settings, folder=tmp_path, judge=judge)
        assert len(server.bodies) - n_asked == 3  # only the errors are asked again
        write_evaluation(found, tmp_path)
        assert read_evaluation(tmp_path).judged["cheerfulness_judged"] == counts


def test_a_judge_that_times_out_is_an_error_not_a_no(tmp_path: Path) -> None:
    def slow(body: dict[str, Any], number: int) -> str:
        time.sleep(0.3)
        return '{"yes": true}'

    with Server(slow) as server:
        judge = Judge(server.url, "j", timeout=0.05)
        found = evaluate(
            MadeModel(), judged_behaviours(), made_prompts(2), EvaluationSettings("m"), folder=tmp_path, judge=judge
        )
    assert dict(found.judged["cheerfulness_judged"].reasons) == {"timed out": 2}
    assert found.scores[1].rate.n_answers == 0


def test_the_key_of_an_endpoint_is_never_shown() -> None:
    shown = repr(Judge("http://127.0.0.1", "j", "secret")) + repr(EndpointAnswers("http://127.0.0.1", "m", "secret"))
    assert "secret" not in shown


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="web address"):
        Judge("file:///etc/passwd", "j")


# --- held-out prompts -------------------------------------------------------------------------------------------------


def conversations(folder: Path, n: int) -> tuple[Path, Path]:
    """N conversations of three prompts each as a file, and a study of all but the last two, read by conversation."""
    rows = [
        {"conv": f"c{i}", "prompt": f"question {i} {part}", "chosen": "one two", "rejected": "three"}
        for i in range(n)
        for part in "abc"
    ]
    whole, trained = folder / "all.jsonl", folder / "trained.jsonl"
    whole.write_text("".join(json.dumps({**row, "prompt": row["prompt"].upper()}) + "\n" for row in rows))
    trained.write_text("".join(json.dumps(row) + "\n" for row in rows[:-6]))
    pairs = load_pairs(trained, LoadSettings(group="conv"))
    save_pairs(pairs, folder / "study")
    read_double(pairs, ["one", "two"], folder / "study" / "features")
    return whole, folder / "study"


def test_no_prompt_of_a_study_is_asked_however_its_pairs_were_grouped(tmp_path: Path) -> None:
    whole, study = conversations(tmp_path, 7)
    asked = Asked(data=str(whole), leave_out=trained_on(study))
    texts = {row.prompt_text for row in _held_out(asked, lambda prompt: True)}
    assert texts == {f"QUESTION {i} {part}" for i in (5, 6) for part in "ABC"}


def asked_of(*words: str) -> Asked:
    """What the verb makes of these words."""
    verbs = prove.main.make_context("tiltscope", ["evaluate"])
    given = prove.evaluate.make_context("evaluate", ["model", "--out", "eval", *words], parent=verbs)
    asked: Asked = prove._asked(given.params)
    return asked


def test_data_are_asked_with_the_columns_and_groups_they_were_audited_with(tmp_path: Path) -> None:
    _, study = conversations(tmp_path, 7)
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    rows = [{"question" if key == "prompt" else key: one for key, one in json.loads(line).items()} for line in lines]
    rows[16]["question"] = "question 0 a"  # of a study's prompt the whole conversation, c5, is left out
    named = tmp_path / "named.jsonl"
    named.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="cannot be used") as caught:
        _held_out(asked_of("--data", str(named)), lambda prompt: True)
    assert "--map prompt=COLUMN" in caught.value.hint
    words = ("--data", str(named), "--map", "prompt=question", "--group", "conv", "--not-in", str(study))
    assert [row.prompt_text for row in _held_out(asked_of(*words), lambda prompt: True)] == ["QUESTION 6 A"]
    with pytest.raises(UsageError, match="how DATA is read"):
        asked_of("--map", "prompt=question")
