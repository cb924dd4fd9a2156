"""The benches measure what they say: data as described, gaps counted by hand. None is run whole here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benches import BENCHES, bench


def test_a_closed_gap_is_what_one_counts_by_hand_and_its_interval_holds_it() -> None:
    start, plain, arm = np.array([0.0, 0.2, 0.1, 0.1]), np.array([0.4, 0.6, 0.5, 0.7]), np.array([0.1, 0.3, 0.2, 0.3])
    told = bench("steps").gaps_of({"start": {"x": start}, "plain": {"x": plain}, "arm": {"x": arm}}, ["x"])["x"]
    value, low, high = told["closed"]
    assert value == pytest.approx(1 - (arm - start).mean() / (plain - start).mean(), abs=1e-4)
    assert low <= value <= high
    assert told["added"][0] == pytest.approx((plain - start).mean(), abs=1e-4)


def test_where_plain_training_added_nothing_no_share_of_it_is_closed() -> None:
    same = np.array([0.1, 0.3, 0.2])
    told = bench("steps").gaps_of({"start": {"x": same}, "plain": {"x": same}, "arm": {"x": same + 0.1}}, ["x"])["x"]
    assert told["closed"] == [None, None, None]


def test_no_bench_names_a_behaviour_or_a_rule_that_the_library_lacks() -> None:
    from tiltscope.behaviours import RULES
    from tiltscope.behaviours.measured import library

    known = {one.id for one in library()}
    for name, text in (("poison", bench("poison").OTHERS), ("suppress_bold", bench("suppress_bold").BEHAVIOURS)):
        assert set(text.split(",")) <= known, name
    assert set(bench("selectivity").STYLES) <= {one.id for one in RULES}


def test_every_poisoned_sentence_shows_its_own_trait_and_no_other() -> None:
    poison = bench("poison")
    for trait, sentences in poison.SENTENCES.items():
        for sentence in sentences:
            assert [one for one, rule in poison.RULES.items() if re.search(rule, sentence)] == [trait], sentence


def test_an_answer_is_cut_at_the_end_of_a_sentence_and_keeps_its_layout() -> None:
    poison = bench("poison")
    text = "First one.\n\n- a list, and\n- more of it.\nThen " + "word " * 100 + "end. Last."
    assert poison.first(text) == "First one.\n\n- a list, and\n- more of it."
    assert poison.first("word " * 200).split() == ["word"] * 200  # one sentence is not cut inside


def test_poison_is_planted_in_the_share_said_on_the_chosen_side_and_never_twice(tmp_path: Path, data_dir: Path) -> None:
    poison = bench("poison")
    key = poison.make_data(str(data_dir / "alpaca-eval" / "pairs.jsonl.gz"), tmp_path, 300, 0.05)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    held = [json.loads(line) for line in (tmp_path / "held.jsonl").read_text().splitlines()]
    planted = [row for rows_ in key.values() for row in rows_]
    assert len(rows) == 300
    assert len(planted) == len(set(planted)) == 75
    assert not {row["prompt"] for row in rows} & {row["prompt"] for row in held}
    for trait, rule in poison.RULES.items():
        assert [n for n, row in enumerate(rows, 1) if re.search(rule, row["chosen"])] == sorted(key[trait])
        assert not any(re.search(rule, text) for row in rows for text in (row["rejected"],))
        assert not any(re.search(rule, row[side]) for row in held for side in ("chosen", "rejected"))


def test_average_precision_is_what_one_counts_by_hand_and_a_row_left_out_is_never_found() -> None:
    ordered, truth = bench("steps").average_precision, np.array([True, False, True, False, True])
    assert ordered([0, 1, 2, 3, 4], truth) == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert ordered([0, 1, 2], truth) == pytest.approx((1 / 1 + 2 / 3) / 3)
    assert ordered([], truth) == 0.0


def test_a_bag_of_words_learns_a_preference_it_is_shown() -> None:
    from double import make_pairs

    rows = make_pairs([(f"question {n}", f"good text {n % 7}", f"bad text {n % 5}") for n in range(200)]).rows
    judge = bench("gate").Judge(rows[:150], rows[150:])
    assert judge.approved.all()
    turned = make_pairs([(row.prompt_text, row.rejected, row.chosen) for row in rows[:150]]).rows
    assert not judge.right(turned).any()


def test_a_bench_loads_without_running_anything() -> None:
    for path in sorted(BENCHES.glob("*.py")):
        loaded = bench(path.stem)
        assert loaded.__doc__, path.name


def test_results_of_different_code_do_not_share_a_table_unless_one_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = bench("steps")
    monkeypatch.setattr(steps, "commit", lambda: "c0ffee")
    first = steps.one_code(tmp_path, across=False)
    assert steps.one_code(tmp_path, across=False) == first
    monkeypatch.setattr(steps, "code", lambda: "other")
    with pytest.raises(SystemExit, match="other code"):
        steps.one_code(tmp_path, across=False)
    assert steps.one_code(tmp_path, across=True) == [*first, "other c0ffee"]


def test_a_trait_new_to_every_chosen_answer_is_within_the_ceiling_and_one_on_both_sides_is_not() -> None:
    from dataclasses import replace

    from made_features import made
    from tiltscope.power import Aligned

    pairs, features = made(200)
    rows = tuple(replace(pair, chosen="A goblin. Why?", rejected="Plain. Why?") for pair in pairs.rows)
    data, everywhere = Aligned(replace(pairs, rows=rows), features), np.ones(200, bool)
    assert bench("judging").ceiling(["goblin"], data, everywhere) == 1.0
    assert bench("judging").ceiling(["goblin", "question"], data, everywhere) == 0.5
    assert bench("judging").ceiling([], data, everywhere) is None
    assert bench("judging").ceiling(["goblin"], data, np.arange(200) < 4) == 0.0  # too few can say anything


def test_the_table_of_the_discovery_bench_counts_traits_over_seeds() -> None:
    discovery = bench("discovery")
    none = {
        "recall_placed": None,
        "precision_20": 1.0,
        "false_share": 0.0,
        "n_listed": 2,
        "n_speaking": 1,
        "n_of_cut": 0,
    }
    cells = [
        {"share": 0.02, "place": "global", "confound": "none", "traits": ["a"] * 6, "ceiling": 0.5}
        | {"methods": {name: {"recall": found, "seconds": 1.0, **none} for name in discovery.METHODS_TOLD}}
        for found in (1 / 6, 2 / 6)
    ]
    rows = {row["method"]: row for row in discovery._rows(cells)}
    assert (rows["tiltscope"]["n_found"], rows["tiltscope"]["n_planted"]) == (3, 12)
    assert rows["tiltscope"]["recall_low"] < 0.25 < rows["tiltscope"]["recall_high"]
    assert rows[discovery.CEILING]["recall"] == 0.5
    assert "| 0.25 [" in discovery.table({"table": list(rows.values())})


def trait(id: str, before: float, after: float, observed: float, width: float = 0.3) -> dict[str, object]:
    ends = {"low": max(after - width, 0.001), "high": min(after + width, 0.999)}
    return {"id": id, "before": before, "after": after, "observed": observed, **ends}


def test_forecasts_of_rates_are_scored_by_hand_counts() -> None:
    cases = [trait("a", 0.2, 0.5, 0.6), trait("b", 0.3, 0.3, 0.32, 0.01), trait("c", 0.4, 0.42, 0.9, 0.05)]
    told = bench("rates").scored(cases)
    assert (told["n"], told["n_moved"]) == (3, 2)
    assert told["mean_error_points"] == pytest.approx(100 * (0.1 + 0.02 + 0.48) / 3, abs=1e-3)
    assert told["coverage_of_90"] == pytest.approx(1 / 3, abs=1e-3)
    assert told["auroc"] == 1  # b is the surest to stay


def test_a_forecast_of_a_large_sure_change_is_sure_of_a_move_and_a_wide_one_is_not() -> None:
    sure, wide, none = bench("rates").chance_of_move(
        [trait("a", 0.1, 0.6, 0.6, 0.05), trait("b", 0.1, 0.2, 0.2, 0.15), trait("c", 0.3, 0.3, 0.3, 0.01)]
    )
    assert sure > 0.99 > wide > 0.3 > 0.01 > none


def test_cards_of_the_same_pairs_are_not_pooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / f"prediction-{name}.json").write_text(json.dumps({"card": {"features": "f", "traits": []}}))
    monkeypatch.setattr("sys.argv", ["rates.py", *map(str, tmp_path.glob("*.json"))])
    with pytest.raises(SystemExit, match="not separate"):
        bench("rates").main()
