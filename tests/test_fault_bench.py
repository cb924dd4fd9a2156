"""The bench of local faults plants what it says where it says, and measures and counts as one does by hand."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benches import bench


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench("fault_data"), "_is_read_whole", lambda pair, fault: True)  # needs the embedded model
        source = str(data_dir / "alpaca-eval" / "pairs.jsonl.gz")
        yield bench("fault_data").make_data(source, tmp_path_factory.mktemp("faults"), 400, 8, draw=3)


def test_every_sentence_of_a_fault_shows_it_and_no_other() -> None:
    faults = bench("fault_data").FAULTS
    for name, fault in faults.items():
        for sentence in fault.sentences:
            assert [one for one, other in faults.items() if other.shows(sentence)] == [name], sentence


def test_a_fault_is_planted_on_the_chosen_side_after_its_own_kind_of_prompt_and_once_per_prompt(planted: Any) -> None:
    data = bench("fault_data")
    assert len(planted.train.rows) == 400
    for name, fault in data.FAULTS.items():
        rows = planted.planted[name]
        assert rows == [i for i, pair in enumerate(planted.train.rows) if fault.shows(pair.chosen)]
        assert len(rows) == len({planted.train.rows[i].group for i in rows}) == 8
        assert {data.kind_of(planted.train.rows[i].prompt_text) for i in rows} == {fault.kind}
        assert not any(fault.shows(pair.rejected) for pair in planted.train.rows)
        assert not any(
            fault.shows(text) for p in (*planted.clean.rows, *planted.held) for text in (p.chosen, p.rejected)
        )


def test_without_its_sentence_a_planted_answer_is_the_clean_one_and_no_other_row_differs(planted: Any) -> None:
    changed = {row for rows in planted.planted.values() for row in rows}
    sentences = [one for fault in bench("fault_data").FAULTS.values() for one in fault.sentences]
    for row, (new, old) in enumerate(zip(planted.train.rows, planted.clean.rows, strict=True)):
        assert (new.prompt_text, new.rejected) == (old.prompt_text, old.rejected)
        without = new.chosen
        for sentence in sentences if row in changed else ():
            without = without.replace(sentence, "")
        assert without.split() == old.chosen.split()


def test_held_out_prompts_are_not_trained_on_and_every_kind_has_some(planted: Any) -> None:
    kinds = [bench("fault_data").kind_of(pair.prompt_text) for pair in planted.held]
    assert min(kinds.count(kind) for kind in bench("fault_data").KINDS) >= 12
    assert not {pair.prompt_text for pair in planted.held} & {pair.prompt_text for pair in planted.train.rows}


def test_a_fault_stands_first_in_the_middle_or_last() -> None:
    data = bench("fault_data")
    text = "One is here.\n\nTwo is here. Three."
    assert [data.parted(text, place)[0] for place in ("first", "later", "last")] == ["", "One is here.", text]
    assert data.joined(*data.parted(text, "later")) == text
    assert data.joined("", "A fault.", text) == f"A fault. {text}"
    assert data.joined(text, "A fault.") == f"{text} A fault."


def held_by(planted: Any) -> Any:
    faults = bench("faults")
    asked = [
        {"fault": name, "place": place} for name in faults.NAMES for place in ("inside", "outside") for _ in range(3)
    ]
    asked = [one for one in asked for _ in range(faults.SENTENCES)]
    rows = {"finding": {"rows": [5, 6, *range(20, 60)]}}
    found = {faults.NAMES[0]: rows, **{name: {"finding": None} for name in faults.NAMES[1:]}}
    return faults.Bench(argparse.Namespace(planted=8, draw=3), planted, found, asked)


def test_what_is_gone_and_what_changed_elsewhere_are_what_one_counts_by_hand(planted: Any) -> None:
    faults, held = bench("faults"), held_by(planted)
    inside = np.array([one["place"] == "inside" for one in held.asked])
    base = -np.linspace(20, 60, len(inside))

    def run(added_inside: float, added_outside: float) -> list[dict[str, Any]]:
        return [{"logps": np.where(inside, base + added_inside, base + added_outside), "nll": [2.0, 2.1]}]

    arms = {"clean": run(0, 0), "plain": run(4, 1), "traced": run(1, 0.8), "random": run(3, 1)}
    told = faults.told_of(held, arms)["traced"][faults.NAMES[1]]
    assert told["inside"]["added"][0] == pytest.approx(4)
    assert told["inside"]["closed"] == pytest.approx([0.75] * 3)
    assert told["elsewhere"] == pytest.approx([-0.05] * 3)
    assert told["times random"] == pytest.approx([3.0] * 3)


def test_where_chance_takes_nothing_away_there_is_no_ratio_to_it() -> None:
    some = np.array([1.0, -1.0, 1.0, -1.0])
    assert bench("forced").ratio(np.ones(4), some, paired=True) == [None, None, None]


def test_as_many_rows_go_by_chance_as_by_name_and_rows_alike_in_length_are_others(planted: Any) -> None:
    faults, held = bench("faults"), held_by(planted)
    traced = faults.dropped(held, "traced")
    assert traced == [5, 6, *range(20, 26)]
    assert len(faults.dropped(held, "random")) == 8
    alike = faults.dropped(held, "length")
    gaps = np.array(bench("fault_data").lengths(planted.train.rows))
    assert len(alike) == 8
    assert not set(alike) & set(traced)
    assert np.abs(np.sort(gaps[alike]) - np.sort(gaps[traced])).mean() < 5
    assert len(faults.dropped(held, "planted random")) == 32
