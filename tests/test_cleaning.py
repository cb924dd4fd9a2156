"""Quarantine: what carries a suppressed concept goes, everything comes back, and a second cleaning removes nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiltscope.cleaning import Suppressed, clean, merge_cleaned, write_cleaned
from tiltscope.errors import ProductError, UsageError
from tiltscope.pairs import LoadSettings, Pairs, load_pairs
from tiltscope.report.acts import render_cleaned


def record(number: int) -> dict[str, Any]:
    bold = number % 4 == 0
    chosen = f"Answer {number} is **bold**.\u2028Yes." if bold else f"Answer {number} is plain."
    rejected = f"Another {number}, **bold** too." if number % 8 == 0 else f"Another {number}."
    return {"prompt": f"Question {number}?", "chosen": chosen, "rejected": rejected, "note": {"n": number}}


def written(folder: Path, records: list[Any]) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records), encoding="utf-8")
    return path


def scored(pairs: Pairs, *, inside: np.ndarray | None = None) -> Suppressed:
    def count(texts: list[str]) -> np.ndarray:
        return np.array([float(text.count("**")) for text in texts])

    rows = pairs.rows
    return Suppressed("bold", count([p.chosen for p in rows]), count([p.rejected for p in rows]), 0.5, inside)


def test_pairs_whose_chosen_side_alone_has_it_are_quarantined(tmp_path: Path) -> None:
    pairs = load_pairs(written(tmp_path, [record(n) for n in range(40)]))
    found = clean([p.id for p in pairs.rows], [scored(pairs)])
    gone = {p.id for p in pairs.rows if "**" in p.chosen and "**" not in p.rejected}
    assert set(found.quarantine) == gone == set(found.reasons)
    assert len(gone) == 5
    assert len(found.kept) == 35
    assert next(iter(found.reasons.values()))[0].chosen == 2.0


def test_a_dataset_without_it_keeps_every_row(tmp_path: Path) -> None:
    pairs = load_pairs(written(tmp_path, [record(4 * n + 1) for n in range(20)]))
    found = clean([p.id for p in pairs.rows], [scored(pairs)])
    assert (len(found.kept), found.quarantine) == (20, ())


def sided(n_for: int, n_against: int) -> tuple[list[str], Suppressed]:
    """Pairs whose chosen answer has it more and more, then pairs whose rejected one has it."""
    scores = np.arange(1.0, n_for + n_against + 1)
    chosen = np.where(np.arange(len(scores)) < n_for, scores, 0.0)
    return [f"p{n:03d}" for n in range(len(scores))], Suppressed("it", chosen, scores - chosen, 0.5)


def test_balanced_takes_out_the_excess_furthest_apart_first_and_nothing_the_second_time() -> None:
    ids, one = sided(54, 23)
    found = clean(ids, [one], balanced=True)
    assert found.quarantine == tuple(ids[23:54])
    assert [asdict(side) for side in found.sides["it"]] == [
        {"for_it": 54, "against_it": 23},
        {"for_it": 23, "against_it": 23},
    ]
    stays = np.isin(ids, found.kept)
    again = replace(one, chosen=one.chosen[stays], rejected=one.rejected[stays])
    assert clean(list(found.kept), [again], balanced=True).quarantine == ()
    assert clean(ids, [sided(23, 54)[1]], balanced=True).quarantine == ()


def test_what_leans_the_other_way_after_cleaning_is_said(tmp_path: Path) -> None:
    def told(n_for: int, n_against: int, *, balanced: bool = False) -> str:
        ids, one = sided(n_for, n_against)
        found = clean(ids, [one], balanced=balanced)
        by_reason = {"it": len(found.quarantine)}
        sides = {name: {"before": asdict(a), "after": asdict(b)} for name, (a, b) in found.sides.items()}
        facts = {"n_kept": len(found.kept), "n_quarantine": len(found.quarantine), "n_passed": 0}
        return " ".join(render_cleaned(facts | {"by_reason": by_reason, "sides": sides}).split())

    assert "alone had it in 54, the rejected one in 23; kept: 0 and 23" in told(54, 23)
    assert "the other way: --balanced" in told(54, 23)
    assert "the other way" not in told(54, 23, balanced=True)
    assert "the other way" not in told(54, 2)


def test_only_pairs_inside_the_region_are_quarantined(tmp_path: Path) -> None:
    pairs = load_pairs(written(tmp_path, [record(n) for n in range(40)]))
    inside = np.arange(40) < 10
    assert len(clean([p.id for p in pairs.rows], [scored(pairs, inside=inside)]).quarantine) == 1


def test_merging_brings_the_original_records_back_in_order(tmp_path: Path) -> None:
    records = [record(n) for n in range(40)]
    path = written(tmp_path, records)
    pairs = load_pairs(path)
    counts = write_cleaned(clean([p.id for p in pairs.rows], [scored(pairs)]), pairs.rows, path, tmp_path / "out")
    assert (counts.n_kept, counts.n_quarantine, counts.n_passed) == (35, 5, 0)
    assert list(merge_cleaned(tmp_path / "out")) == records
    merged = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in merge_cleaned(tmp_path / "out"))
    assert merged.encode() == path.read_bytes()


def test_cleaning_twice_removes_nothing_more(tmp_path: Path) -> None:
    path = written(tmp_path, [record(n) for n in range(40)] + [record(4), record(4)])
    pairs = load_pairs(path)
    write_cleaned(clean([p.id for p in pairs.rows], [scored(pairs)]), pairs.rows, path, tmp_path / "one")
    again = load_pairs(tmp_path / "one" / "kept.jsonl")
    second = clean([p.id for p in again.rows], [scored(again)])
    assert second.quarantine == ()
    write_cleaned(second, again.rows, tmp_path / "one" / "kept.jsonl", tmp_path / "two")
    assert (tmp_path / "two" / "kept.jsonl").read_bytes() == (tmp_path / "one" / "kept.jsonl").read_bytes()


def test_records_that_are_no_pairs_pass_and_unreadable_rows_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, [record(n) for n in range(40)] + [{"prompt": "only"}])
    with path.open("a") as stream:
        stream.write("{broken\n")
    pairs = load_pairs(path, LoadSettings(allow_refused=True))
    counts = write_cleaned(clean([p.id for p in pairs.rows], [scored(pairs)]), pairs.rows, path, tmp_path / "out")
    assert (counts.n_passed, counts.n_unreadable) == (1, 1)
    facts = json.loads((tmp_path / "out" / "cleaned.json").read_text())
    assert facts["unreadable_rows"] == [42]
    assert list(merge_cleaned(tmp_path / "out"))[-1] == {"prompt": "only"}


def test_every_reason_names_row_score_and_threshold(tmp_path: Path) -> None:
    path = written(tmp_path, [record(n) for n in range(40)])
    pairs = load_pairs(path)
    write_cleaned(clean([p.id for p in pairs.rows], [scored(pairs)]), pairs.rows, path, tmp_path / "out")
    first = json.loads((tmp_path / "out" / "reasons.jsonl").read_text().splitlines()[0])
    assert first["row"] == 5
    assert first["reasons"] == [{"name": "bold", "chosen": 2.0, "rejected": 0.0, "threshold": 0.5}]


def test_a_damaged_quarantine_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, [record(n) for n in range(40)])
    pairs = load_pairs(path)
    write_cleaned(clean([p.id for p in pairs.rows], [scored(pairs)]), pairs.rows, path, tmp_path / "out")
    file = tmp_path / "out" / "quarantine.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in file.read_bytes().split(b"\n")[:-2]))
    with pytest.raises(ProductError, match="do not match"):
        list(merge_cleaned(tmp_path / "out"))


def test_a_source_that_lost_rows_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, [record(n) for n in range(40)])
    pairs = load_pairs(path)
    found = clean([p.id for p in pairs.rows], [scored(pairs)])
    with pytest.raises(UsageError, match="no longer holds"):
        write_cleaned(found, pairs.rows, written(tmp_path, [record(n) for n in range(30)]), tmp_path / "out")


def _one(**changes: Any) -> Suppressed:
    return Suppressed(**{"name": "x", "chosen": np.ones(2), "rejected": np.zeros(2), "threshold": 2.0} | changes)


@pytest.mark.parametrize(
    ("ids", "suppressed", "said"),
    [
        (["a", "b"], [], "nothing is suppressed"),
        (["a", "a"], [_one()], "twice"),
        (["a", "b", "c"], [_one()], "do not fit"),
        (["a", "b"], [_one(chosen=np.array([1.0, np.nan]))], "do not fit"),
        (["a", "b"], [_one(threshold=float("nan"))], "no number"),
        (["a", "b"], [_one(inside=np.ones(3, bool))], "region"),
        (["a", "b"], [_one(threshold=0.5)], "every row"),
    ],
)
def test_what_cannot_be_cleaned_is_refused(ids: list[str], suppressed: list[Suppressed], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        clean(ids, suppressed)
