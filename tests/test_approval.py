"""A candidate against approved data: new leans are told with their rows, everything else is let pass."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy import sparse

from double import make_pairs, read_double
from test_difference import LATENTS, rows, save_fingerprint
from tiltscope import stats
from tiltscope.approval import new_leans, with_words
from tiltscope.artifact import write_json
from tiltscope.cli import main
from tiltscope.errors import StaleProductError, UsageError
from tiltscope.pairs import LoadSettings, Pairs, load_pairs, save_pairs
from tiltscope.power import Aligned
from tiltscope.study import Opened, open_study
from tiltscope.verdict import judge_data, read_limits

Text = tuple[str, str, str]
N = 300
BASE = rows(N, bold=0.8)
EDITED = range(20, 60)
BOLD, PLAIN, RARE = (f"L{LATENTS.index(word)}" for word in ("bold", "plain", "rare"))


def read(folder: Path, pairs: Pairs) -> Opened:
    """A study that was read and not audited."""
    folder.mkdir(parents=True)
    pairs = replace(pairs, fingerprint=save_fingerprint(pairs))
    save_pairs(pairs, folder)
    read_double(pairs, LATENTS, folder / "features")
    return open_study(folder)


def edited(*, word: str = "rare", evenly: bool = False) -> Pairs:
    """The word comes into 40 pairs, on the chosen side or evenly."""
    return added({number: word for number in EDITED}, rejected=EDITED[1::2] if evenly else ())


def added(words: Mapping[int, str], *, rejected: Collection[int] = (), base: Sequence[Text] = BASE) -> Pairs:
    """The base with a word more in some pairs, in the chosen answer or in the rejected one; each has another id."""
    texts = [list(one) for one in base]
    for number, word in words.items():
        texts[number][2 if number in rejected else 1] += f" {word}"
    made = make_pairs([(a, b, c) for a, b, c in texts])
    ids = [f"e{pair.id[1:]}" if number in words else pair.id for number, pair in enumerate(made.rows)]
    return replace(made, rows=tuple(replace(pair, id=id) for pair, id in zip(made.rows, ids, strict=True)))


def named(found: Mapping[str, Any]) -> set[int]:
    """Numbers of the pairs that are named."""
    return {row["row"] - 1 for row in found["rows"] if row["named"]}


def leans(found: Mapping[str, Any], *lists: str) -> list[str]:
    """Concepts that are listed; of the named lists where any is named."""
    return [one["concept"] for one in found["leans"] if not lists or one["list"] in lists]


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return read(tmp_path_factory.mktemp("approved") / "study", make_pairs(BASE))


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return read(tmp_path_factory.mktemp("bad") / "study", edited())


def test_what_leans_anew_is_listed_with_its_rows_and_words(approved: Opened, bad: Opened) -> None:
    found = with_words(new_leans(approved, bad), bad)
    assert leans(found) == ["W-rare", RARE]
    lean = found["leans"][1]
    assert (lean["list"], lean["direction"], lean["words"]) == ("latents", "more", ["rare"])
    assert lean["change"] == pytest.approx(len(EDITED) / N, abs=1e-6)
    assert named(found) == set(EDITED)


def test_a_behaviour_that_no_latent_shows_is_listed_by_name_with_its_rows(approved: Opened, tmp_path: Path) -> None:
    candidate = read(tmp_path / "emoji", edited(word="😀"))
    found = with_words(new_leans(approved, candidate), candidate)
    assert {one["concept"]: one["name"] for one in found["leans"]}["B-emoji"] == "emoji"
    assert all(one["latents"] == one["words"] == [] for one in found["leans"])
    assert named(found) == set(EDITED)


SHOUTED = [(prompt, chosen + " so!", rejected + " so!") for prompt, chosen, rejected in BASE]


def test_more_of_what_every_answer_shows_is_listed_with_its_rows_and_on_both_sides_let_pass(tmp_path: Path) -> None:
    approved = read(tmp_path / "base", make_pairs(SHOUTED))
    more = dict.fromkeys(EDITED, "well! so! so!")
    found = new_leans(approved, read(tmp_path / "more", added(more, base=SHOUTED)))
    assert leans(found, "behaviours") == ["N-exclamation-2"]
    assert next(one for one in found["leans"] if one["list"] == "behaviours")["name"].endswith("2 times or more")
    assert named(found) == set(EDITED)
    both = read(tmp_path / "both", added(more, base=SHOUTED, rejected=EDITED[1::2]))
    assert new_leans(approved, both)["leans"] == []


def test_a_behaviour_shown_and_shown_often_is_told_once(approved: Opened, tmp_path: Path) -> None:
    some = {number: "so! so! so!" if number % 3 == 0 else "so!" for number in EDITED}
    found = new_leans(approved, read(tmp_path / "new", added(some)))
    assert leans(found, "behaviours") == ["B-exclamation"]


def test_rows_of_two_new_things_are_named_also_where_one_is_rarer(approved: Opened, tmp_path: Path) -> None:
    rarer = range(100, 113)
    candidate = read(tmp_path / "two", added(dict.fromkeys(EDITED, "bold") | dict.fromkeys(rarer, "zebra")))
    found = new_leans(approved, candidate)
    assert {"W-bold", "W-zebra"} <= set(leans(found))
    assert set(rarer) <= named(found) <= {*EDITED, *rarer}


def test_a_behaviour_as_new_on_both_sides_is_let_pass(approved: Opened, tmp_path: Path) -> None:
    assert new_leans(approved, read(tmp_path / "both", edited(word="😀", evenly=True)))["leans"] == []


def test_rows_are_named_also_where_what_leans_anew_is_common(approved: Opened, tmp_path: Path) -> None:
    more = {number: "" if "plain" in BASE[number][1] else "plain" for number in range(20, 140)}
    found = new_leans(approved, read(tmp_path / "common", added(more)))
    assert leans(found) == ["W-plain", PLAIN]
    assert named(found) == {number for number, word in more.items() if word}


def test_a_row_is_named_for_what_it_adds_not_for_what_was_approved(approved: Opened, tmp_path: Path) -> None:
    bold = ["bold" in a and "bold" not in b for _, a, b in BASE]
    bad = [number for number in range(N) if "bold" not in BASE[number][1]][:40]
    other = [number for number in range(N) if bold[number]][:40]
    texts = dict.fromkeys(bad, "bold") | dict.fromkeys(other, "")
    found = new_leans(approved, read(tmp_path / "innocent", added(texts)))
    assert leans(found) == ["W-bold", BOLD]
    assert named(found) == set(bad)


def test_pairs_that_lean_nowhere_may_leave_and_pairs_that_lean_the_other_way_may_not(
    approved: Opened, tmp_path: Path
) -> None:
    u = np.array([int("bold" in a) - int("bold" in b) for _, a, b in BASE])
    for leaving, listed in ((0, []), (-1, [BOLD])):
        kept = [one for one, value in zip(make_pairs(BASE).rows, u, strict=True) if value != leaving]
        candidate = read(tmp_path / f"{leaving}", replace(make_pairs(BASE), rows=tuple(kept)))
        assert np.mean(u[u != leaving]) > np.mean(u) + 0.05
        assert leans(new_leans(approved, candidate), "latents") == listed


def test_as_much_of_it_on_both_sides_is_let_pass(approved: Opened, tmp_path: Path) -> None:
    found = new_leans(approved, read(tmp_path / "even", edited(evenly=True)))
    assert found["leans"] == found["rows"] == []


def test_a_lean_that_was_approved_and_a_study_against_itself_are_let_pass(approved: Opened) -> None:
    found = new_leans(approved, approved)
    assert found["leans"] == []
    # eight signs are alike by chance in 1 of 128 draws, nine in 1 of 256, ten in 1 of 512
    assert found["smallest"] == {"behaviours": 10, "words": 10, "latents": 9}


def test_a_lean_that_shrinks_is_let_pass(approved: Opened, tmp_path: Path) -> None:
    weaker = read(tmp_path / "weaker", make_pairs(rows(N, bold=0.5)))
    assert new_leans(approved, weaker)["leans"] == []
    assert leans(new_leans(weaker, approved), "latents") == [BOLD]


def test_a_lean_that_turned_round_is_listed(approved: Opened, tmp_path: Path) -> None:
    turned = read(tmp_path / "turned", make_pairs(rows(N, bold=0.2)))
    told = [(one["concept"], one["direction"]) for one in new_leans(approved, turned)["leans"] if one["latents"]]
    assert told == [(BOLD, "less")]


@pytest.mark.parametrize(
    ("kind", "word", "concept"),
    [("latents", "rare", RARE), ("behaviours", "😀", "B-emoji"), ("words", "zebra", "W-zebra")],
)
def test_as_few_pairs_as_it_says_are_seen(approved: Opened, tmp_path: Path, kind: str, word: str, concept: str) -> None:
    base = BASE[:250]
    least = int(new_leans(approved, read(tmp_path / "some", make_pairs(base)))["smallest"][kind])
    candidate = read(tmp_path / "least", added(dict.fromkeys(range(least), word), base=base))
    assert leans(new_leans(approved, candidate), kind) == [concept]


def test_what_no_latent_and_no_rule_of_the_library_sees_is_found_by_its_words(approved: Opened, tmp_path: Path) -> None:
    found = new_leans(approved, read(tmp_path / "named", added(dict.fromkeys(EDITED, "the Ashgrove Institute"))))
    assert leans(found) == ["W-the.ashgrove.institute"]
    assert named(found) == set(EDITED)
    even = dict.fromkeys(EDITED, "the Ashgrove Institute")
    assert leans(new_leans(approved, read(tmp_path / "evenly", added(even, rejected=EDITED[1::2])))) == []


def test_halves_of_one_dataset_are_seldom_told_apart(tmp_path: Path) -> None:
    marks = ["😀", "**b**", "(c)", "why?", "1,000", "perhaps"]
    rng = np.random.default_rng(0)
    words = {number: " ".join(one for one in marks if rng.random() < 0.3) for number in range(N)}
    whole = read(tmp_path / "whole", added(words, rejected=range(0, N, 3)))
    told = []
    for seed in range(60):
        first = stats.half_mask([pair.group for pair in whole.rows], seed)
        halves = (
            replace(whole, features=Aligned(whole.pairs, whole.features).take(np.flatnonzero(half)))
            for half in (first, ~first)
        )
        told.append(bool(new_leans(*halves, level=0.2)["leans"]))
    assert np.mean(told) <= 0.2 + 2 * (0.2 * 0.8 / 60) ** 0.5


def test_another_scope_is_refused(approved: Opened) -> None:
    other = replace(approved, features=replace(approved.features, scope_fingerprint="another"))
    with pytest.raises(StaleProductError, match="different scopes"):
        new_leans(approved, other)


# --- the test of thousands of changes ---------------------------------------------------------------------------------


def changes(u: np.ndarray, *, seed: int) -> stats.Changes:
    """Two halves of the rows of u (n, m), each row its own group."""
    n = len(u) // 2
    sign = np.repeat([-1.0, 1.0], n) / n
    return stats.change_test(sparse.csr_array(u * sign[:, None]), sign, u.mean(axis=0), n_draws=199, seed=seed)


def test_with_no_change_the_list_is_seldom_not_empty() -> None:
    rng = np.random.default_rng(0)
    draws = [changes(rng.choice([-1.0, 0.0, 1.0], (200, 60), p=[0.1, 0.6, 0.3]), seed=one) for one in range(200)]
    wrong = float(np.mean([(one.p(one.z) <= 0.05).any() for one in draws]))
    assert wrong <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


def test_the_effect_is_the_difference_of_the_means() -> None:
    u = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], (100, 5))
    found = changes(u, seed=0)
    np.testing.assert_allclose(found.effect, u[50:].mean(axis=0) - u[:50].mean(axis=0), atol=1e-12)
    scores = np.repeat([-1.0, 1.0], 50)[:, None] * (u - u.mean(axis=0))
    np.testing.assert_allclose(found.z, scores.sum(axis=0) / np.sqrt((scores**2).sum(axis=0)), atol=1e-9)


def test_a_column_that_never_fires_has_no_change() -> None:
    found = changes(np.zeros((40, 2)), seed=0)
    assert found.z.tolist() == [0.0, 0.0]
    assert found.p(found.z).tolist() == [1.0, 1.0]


# --- the gate ---------------------------------------------------------------------------------------------------------


def limits(folder: Path, rule: str = "no new lean") -> Path:
    path = folder / "limits.yaml"
    path.write_text(f"limits:\n  data: {rule}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("listed", "smallest", "rule", "wanted"),
    [
        (True, 12, "no new lean", "fail"),
        (False, 12, "no new lean", "pass"),
        (False, 12, "no new lean in 5 % of pairs", "pass"),
        (False, 12, "no new lean in 2 % of pairs", "inconclusive"),
        (False, 80, "no new lean", "inconclusive"),
    ],
)
def test_a_pass_needs_the_sight_to_fail(tmp_path: Path, listed: bool, smallest: int, rule: str, wanted: str) -> None:
    lean = {"list": "latents", "concept": RARE, "name": "", "before": 0.0, "after": 0.1, "change": 0.1}
    new = {"leans": [lean | {"latents": [3], "words": ["rare"]}] * listed, "rows": []}
    new |= {"n_latents": 9, "n_behaviours": 65, "n_words": 80, "n_candidate": 300}
    new |= {"smallest": {"latents": smallest, "behaviours": 9, "words": 10}}
    found = judge_data(read_limits(limits(tmp_path, rule)), [], study="s", fingerprint="f", new=new)
    assert found.outcome == wanted


def test_a_verdict_says_behaviours_by_name_then_words_then_latents(tmp_path: Path, approved: Opened) -> None:
    texts = dict.fromkeys(EDITED, "😀 rare")
    candidate = read(tmp_path / "both", added(texts))
    new = with_words(new_leans(approved, candidate), candidate)
    (one,) = judge_data(read_limits(limits(tmp_path)), [], study="s", fingerprint="f", new=new).results
    told = "1 behaviour, 1 word or phrase and 1 latent lean as the approved data do not"
    leaning = ("emoji (B-emoji)", "phrase “😀 rare”", "L3 (rare)")
    assert one.why == f"{told}: {'; '.join(f'{name} +0.000 → +0.133' for name in leaning)}"


def test_a_rule_about_new_leans_without_approved_data_stays_open(tmp_path: Path) -> None:
    (one,) = judge_data(read_limits(limits(tmp_path)), [], study="s", fingerprint="f").results
    assert one.outcome == "inconclusive"
    assert "--approved" in one.why


def test_a_misspelt_rule_about_new_leans_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no new lean"):
        read_limits(limits(tmp_path, "no new leans"))


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_gate_names_rows_and_clean_takes_them_out_once(approved: Opened, tmp_path: Path) -> None:
    texts = [(row.prompt_text, row.chosen, row.rejected) for row in edited().rows]
    data = tmp_path / "candidate.jsonl"
    lines = [json.dumps(dict(zip(("prompt", "chosen", "rejected"), one, strict=True))) for one in texts]
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    study = read(tmp_path / "candidate", load_pairs(data, LoadSettings())).folder
    write_json(study / "study.json", {"max_length": 100})
    gate = ("gate", limits(tmp_path), "--data", study, "--approved", approved.folder, "--out", tmp_path / "verdict")
    failed = run(*gate)
    assert failed.exit_code == 1, failed.output
    assert "L3 (rare)" in failed.output
    body = json.loads((tmp_path / "verdict" / "verdict.json").read_text())
    assert {number + 1 for number in EDITED} <= set(body["results"][0]["rows"])

    words = ("--verdict", tmp_path / "verdict", "--json")
    first = json.loads(run("clean", data, "--study", study, "--out", tmp_path / "once", *words).output)
    assert first["n_quarantine"] == len(body["results"][0]["pair_ids"])
    kept = tmp_path / "once" / "kept.jsonl"
    cleaned = read(tmp_path / "cleaned", load_pairs(kept, LoadSettings())).folder
    passed = run("gate", limits(tmp_path), "--data", cleaned, "--approved", approved.folder)
    assert passed.exit_code == 0, passed.output
    write_json(cleaned / "study.json", {"max_length": 100})
    again = json.loads(run("clean", kept, "--study", cleaned, "--out", tmp_path / "twice", *words).output)
    assert again["n_quarantine"] == 0
    assert (tmp_path / "twice" / "kept.jsonl").read_bytes() == kept.read_bytes()


def test_a_verdict_without_rows_cleans_nothing(approved: Opened, tmp_path: Path) -> None:
    write_json(tmp_path / "verdict.json", {"results": [{"rule": "r", "outcome": "pass", "pair_ids": []}]})
    write_json(approved.folder / "study.json", {"max_length": 100})
    words = ("clean", tmp_path / "x.jsonl", "--study", approved.folder, "--out", tmp_path / "out")
    refused = run(*words, "--verdict", tmp_path / "verdict.json")
    assert "names no rows" in str(refused.exception)
