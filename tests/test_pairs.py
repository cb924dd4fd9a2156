"""Every shape and every way in which a preference file can be bad."""

from __future__ import annotations

import gzip
import json
import os
import random
import shlex
import sys
import time
import types
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tiltscope.errors import DataError, ProductError, UsageError
from tiltscope.pairs import REASONS, LoadSettings, Pairs, Turn, load_pairs, read_pairs, save_pairs

DATA = Path(os.environ.get("TILTSCOPE_DATA", str(Path(__file__).parents[1] / ".." / "shared" / "data")))
U, A = "user", "assistant"


def msg(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def good(i: int) -> dict[str, Any]:
    return {"prompt": f"Question {i}?", "chosen": f"Yes, {i}.", "rejected": f"No, {i}."}


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def with_bad(path: Path, *bad: Any) -> Pairs:
    """Load 100 good rows, then the bad ones (row numbers from 101 on)."""
    return load_pairs(jsonl(path, [good(i) for i in range(100)] + list(bad)))


SHAPES: dict[str, tuple[dict[str, Any], tuple[Turn, ...], str, str]] = {
    "explicit prompt, standard": (
        {"prompt": "Hi?", "chosen": "Yes", "rejected": "No"},
        (Turn(U, "Hi?"),),
        "Yes",
        "No",
    ),
    "implicit prompt, standard": (
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        (Turn(U, "The sky is"),),
        "blue.",
        "black.",
    ),
    "explicit prompt, conversational": (
        {"prompt": msg(("system", "Be."), (U, "Hi?")), "chosen": msg((A, "Yes")), "rejected": msg((A, "No"))},
        (Turn("system", "Be."), Turn(U, "Hi?")),
        "Yes",
        "No",
    ),
    "implicit prompt, conversational": (
        {"chosen": msg((U, "Hi?"), (A, "Yes")), "rejected": msg((U, "Hi?"), (A, "No"))},
        (Turn(U, "Hi?"),),
        "Yes",
        "No",
    ),
    "messages with the prompt inside": (
        {"prompt": "Hi?", "chosen": msg((U, "Hi?"), (A, "Yes")), "rejected": msg((U, "Hi?"), (A, "No")), "score": 2},
        (Turn(U, "Hi?"),),
        "Yes",
        "No",
    ),
    "Human/Assistant transcripts": (
        {
            "chosen": "\n\nHuman: Hi?\n\nAssistant: Yes?\n\nHuman: So?\n\nAssistant: Good.\n\nFine.",
            "rejected": "\n\nHuman: Hi?\n\nAssistant: Yes?\n\nHuman: So?\n\nAssistant: Bad.",
        },
        (Turn(U, "Hi?"), Turn(A, "Yes?"), Turn(U, "So?")),
        "Good.\n\nFine.",
        "Bad.",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_recognised_by_itself(shape: str, tmp_path: Path) -> None:
    record, prompt, chosen, rejected = SHAPES[shape]
    pairs = load_pairs(jsonl(tmp_path / "x.jsonl", [record]))
    pair = pairs.rows[0]
    assert (pairs.shape, pair.prompt, pair.chosen, pair.rejected) == (shape, prompt, chosen, rejected)
    assert pair.row == 1


def test_a_mixed_file_says_how_many_rows_have_each_shape(tmp_path: Path) -> None:
    pairs = load_pairs(jsonl(tmp_path / "x.jsonl", [good(1), good(2), SHAPES["implicit prompt, conversational"][0]]))
    assert pairs.shape == "explicit prompt, standard (2 rows), implicit prompt, conversational (1 rows)"


def test_other_ways_to_write_messages_are_read(tmp_path: Path) -> None:
    share_gpt = {"chosen": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes"}]}
    share_gpt["rejected"] = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "No"}]
    parts = [{"type": "text", "text": "Y"}, {"type": "text", "text": "es"}]
    wrapped = {
        "chosen": {"messages": [*msg((U, "Hi?")), {"role": A, "content": parts}]},
        "rejected": {"messages": msg((U, "Hi?"), (A, "No"))},
    }
    single = {"prompt": "Hi?", "chosen": msg((A, "Yes"))[0], "rejected": msg((A, "No"))[0]}
    hh_prompt = {"prompt": "\n\nHuman: Hi?\n\nAssistant:", "chosen": " Yes", "rejected": " No"}
    rows = load_pairs(jsonl(tmp_path / "x.jsonl", [share_gpt, wrapped, single, hh_prompt])).rows
    assert {(r.prompt, r.chosen.strip(), r.rejected.strip()) for r in rows} == {((Turn(U, "Hi?"),), "Yes", "No")}


def test_an_implicit_prompt_is_cut_at_a_line_rather_than_inside_a_sentence(tmp_path: Path) -> None:
    record = {"chosen": "Q: why?\nA: The sun.", "rejected": "Q: why?\nA: The moon."}
    pair = load_pairs(jsonl(tmp_path / "x.jsonl", [record])).rows[0]
    assert (pair.prompt_text, pair.chosen, pair.rejected) == ("Q: why?", "A: The sun.", "A: The moon.")


def test_columns_can_be_mapped_also_into_objects(tmp_path: Path) -> None:
    record = {"q": "Hi?", "answers": {"best": "Yes", "worst": ["No"]}, "a.b": 1, "n": 2}
    columns = {"prompt": "q", "chosen": "answers.best", "rejected": "answers.worst.0"}
    pair = load_pairs(jsonl(tmp_path / "x.jsonl", [record]), LoadSettings(columns=columns)).rows[0]
    assert (pair.prompt_text, pair.chosen, pair.rejected, pair.extra) == ("Hi?", "Yes", "No", {"a.b": 1, "n": 2})


CALL: dict[str, Any] = {"role": A, "content": "", "tool_calls": [{"type": "function", "function": {"name": "f"}}]}
BAD: list[tuple[str, Any]] = [
    ("not_an_object", [1, 2]),
    ("not_an_object", "text"),
    ("missing_key", {"prompt": "Hi?", "chosen": "Yes"}),
    ("not_text", {"prompt": "Hi?", "chosen": None, "rejected": "No"}),
    ("not_text", {"prompt": "Hi?", "chosen": "Yes", "rejected": 3}),
    ("not_text", {"prompt": 7, "chosen": "Yes", "rejected": "No"}),
    ("not_text", {"prompt": "Hi?", "chosen": "Yes", "rejected": msg((A, "No"))}),
    ("not_text", {"chosen": ["Hi", "Yes"], "rejected": ["Hi", "No"]}),
    ("not_text", {"prompt": "Hi?", "chosen": [{"role": A, "content": None}], "rejected": msg((A, "No"))}),
    ("unknown_role", {"prompt": "Hi?", "chosen": msg(("critic", "Yes")), "rejected": msg((A, "No"))}),
    ("lone_surrogate", {"prompt": "Hi?", "chosen": "Yes \ud800", "rejected": "No"}),
    ("lone_surrogate", {"prompt": "\udc00", "chosen": "Yes", "rejected": "No"}),
    ("no_answer", {"chosen": msg((A, "a"), (U, "Yes")), "rejected": msg((A, "a"), (U, "No"))}),
    ("empty_prompt", {"prompt": " \n", "chosen": "Yes", "rejected": "No"}),
    ("empty_prompt", {"chosen": "Yes it is", "rejected": "No it is not"}),
    ("empty_prompt", {"chosen": msg((A, "Yes")), "rejected": msg((A, "No"))}),
    ("empty_answer", {"prompt": "Hi?", "chosen": "", "rejected": "No"}),
    ("empty_answer", {"prompt": "Hi?", "chosen": "Yes", "rejected": " \n"}),
    ("empty_answer", {"prompt": msg((U, "Hi?")), "chosen": [], "rejected": msg((A, "No"))}),
    ("tool_calls", {"prompt": [*msg((U, "Hi?")), CALL, *msg(("tool", "42"))], "chosen": "Yes", "rejected": "No"}),
    ("tool_calls", {"prompt": "Hi?", "chosen": [CALL | {"content": None}], "rejected": msg((A, "No"))}),
    (
        "tool_calls",
        {"prompt": "Hi?", "chosen": msg((A, "Yes")), "rejected": [{**msg((A, ""))[0], "function_call": {"name": "f"}}]},
    ),
    ("not_text", {"prompt": "Hi?", "chosen": [{"role": A, "content": None}], "rejected": msg((A, "No"))}),
    ("prompts_differ", {"chosen": msg((U, "Hi?"), (A, "Yes")), "rejected": msg((U, "Ho?"), (A, "No"))}),
    ("prompts_differ", {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}),
    ("prompts_differ", {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "just text"}),
    ("prompts_differ", {"prompt": "Other?", **SHAPES["implicit prompt, conversational"][0]}),
    (
        "several_turns",
        {"prompt": msg((U, "a")), "chosen": msg((A, "b"), (A, "c")), "rejected": msg((A, "b"), (A, "d"))},
    ),
    (
        "several_turns",
        {
            "chosen": msg((U, "a"), (A, "b"), (U, "c"), (A, "d")),
            "rejected": msg((U, "a"), (A, "x"), (U, "c"), (A, "d")),
        },
    ),
    ("several_turns", {"chosen": msg((U, "a"), (A, "b"), (U, "c"), (A, "d")), "rejected": msg((U, "a"), (A, "x"))}),
    ("identical_answers", {"prompt": "Hi?", "chosen": "Yes", "rejected": "Yes\n"}),
    ("identical_answers", {"chosen": "Hi there", "rejected": "Hi there"}),
]


@pytest.mark.parametrize(("reason", "record"), BAD)
def test_a_bad_row_is_refused_alone_with_its_reason_and_number(reason: str, record: Any, tmp_path: Path) -> None:
    pairs = with_bad(tmp_path / "x.jsonl", record)
    assert len(pairs) == 100
    assert [(r.row, r.reason) for r in pairs.refused] == [(101, reason)]
    assert pairs.n_records == 101


def test_every_reason_has_an_explanation_and_a_test() -> None:
    elsewhere = {"not_utf8", "not_json", "ends_mid_record", "bad_csv", "undesirable"}
    assert {reason for reason, _ in BAD} | elsewhere == set(REASONS)


@pytest.mark.parametrize("splits", [[], ["test", "train"], ["only"]])
def test_a_folder_of_save_to_disk_is_named_with_the_line_that_converts_it(tmp_path: Path, splits: list[str]) -> None:
    (tmp_path / "my data").mkdir()
    for folder in [tmp_path / "my data" / split for split in splits] or [tmp_path / "my data"]:
        folder.mkdir(exist_ok=True)
        (folder / "data-00000-of-00001.arrow").write_bytes(b"\xff\xff\xff\xff")
        (folder / "dataset_info.json").write_text("{}")
        (folder / "state.json").write_text("{}")
    if splits:
        (tmp_path / "my data" / "dataset_dict.json").write_text("{}")
    with pytest.raises(DataError, match="save_to_disk") as caught:
        load_pairs(tmp_path / "my data")
    code = shlex.split(caught.value.hint.partition(": ")[2])[2]
    compile(code, "hint", "exec")
    taken = {0: "", 1: '["only"]', 2: '["train"]'}[len(splits)]
    assert f'load_from_disk("{tmp_path}/my data"){taken}.to_parquet("pairs.parquet")' in code


@pytest.mark.parametrize("indent", [None, 1])
def test_one_list_in_a_file_of_lines_is_told_to_be_renamed(tmp_path: Path, indent: int | None) -> None:
    (tmp_path / "my data.jsonl").write_text(json.dumps([good(i) for i in range(20)], indent=indent) + "\n")
    with pytest.raises(DataError, match="one JSON list") as caught:
        load_pairs(tmp_path / "my data.jsonl")
    words = shlex.split(caught.value.hint.removeprefix("rename it: "))
    assert words == ["mv", str(tmp_path / "my data.jsonl"), str(tmp_path / "my data.json")]
    assert len(load_pairs((tmp_path / "my data.jsonl").rename(words[2]))) == 20


def test_a_list_in_every_line_is_refused_line_by_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 of 2 records"):
        load_pairs(jsonl(tmp_path / "x.jsonl", [[good(1)], [good(2)]]))


def test_messages_that_could_call_a_tool_and_do_not_are_read(tmp_path: Path) -> None:
    row = {"prompt": "Hi?", "chosen": [{**msg((A, "Yes"))[0], "tool_calls": None}], "rejected": msg((A, "No"))}
    assert load_pairs(jsonl(tmp_path / "x.jsonl", [row])).rows[0].chosen == "Yes"  # as a table has a column of few


def test_control_characters_are_kept_as_they_are(tmp_path: Path) -> None:
    text = "a\x00b\x1b[31mc\x07"
    pairs = load_pairs(jsonl(tmp_path / "x.jsonl", [{"prompt": text, "chosen": text + "1", "rejected": "no"}]))
    assert pairs.rows[0].chosen == text + "1"
    save_pairs(pairs, tmp_path)
    assert read_pairs(tmp_path) == pairs


def test_broken_json_and_lines_that_are_not_utf8_are_refused_by_number(tmp_path: Path) -> None:
    lines = [json.dumps(good(i)).encode() for i in range(60)]
    lines[10], lines[20] = b'{"prompt": "x", "chosen"', lines[20].replace(b"Yes", b"Y\xe9s")
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines) + b"\n\n" + lines[0] + b"\n")
    pairs = load_pairs(path)
    assert [(r.row, r.reason) for r in pairs.refused] == [(11, "not_json"), (21, "not_utf8")]
    assert pairs.rows[-1].row == 62  # the line number, blank lines counted


@pytest.mark.parametrize("tail", [b'{"prompt": "x", "cho', '{"prompt": "é'.encode()[:-1]])
def test_a_file_that_ends_in_mid_record_says_so(tail: bytes, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [good(i) for i in range(30)])
    path.write_bytes(path.read_bytes() + tail)
    assert [(r.row, r.reason) for r in load_pairs(path).refused] == [(31, "ends_mid_record")]


def test_nested_and_gigantic_json_does_not_break_the_reader(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [good(i) for i in range(60)])
    path.write_bytes(path.read_bytes() + b"[" * 200_000 + b"\n" + b"9" * 5000 + b"\n")
    assert [r.reason for r in load_pairs(path).refused] == ["not_json", "not_json"]


def test_a_misspelt_key_names_the_nearest_and_the_option(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi?", "choosen": f"Yes {i}", "rejected": "No"} for i in range(3)]
    with pytest.raises(DataError) as caught:
        load_pairs(jsonl(tmp_path / "x.jsonl", rows))
    assert "'choosen'" in str(caught.value)
    assert "--map chosen=choosen" in str(caught.value)
    assert "columns prompt, choosen, rejected" in str(caught.value)


def test_a_misspelt_map_group_or_domain_column_is_named_too(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [good(i) | {"topic": "a"} for i in range(3)])
    with pytest.raises(DataError, match="--map prompt=prompt"):
        load_pairs(path, LoadSettings(columns={"prompt": "promt"}))
    with pytest.raises(DataError, match="--domain topic"):
        load_pairs(path, LoadSettings(domain="topics"))
    with pytest.raises(DataError, match="--group topic"):
        load_pairs(path, LoadSettings(group="topik"))
    with pytest.raises(UsageError, match="answer"):
        load_pairs(path, LoadSettings(columns={"answer": "x"}))


def test_a_prompt_in_a_column_of_another_name_is_not_guessed_but_hinted(tmp_path: Path) -> None:
    rows = [{"question": f"Q{i}?", "chosen": "Yes", "rejected": "No"} for i in range(3)]
    with pytest.raises(DataError, match="--map prompt="):
        load_pairs(jsonl(tmp_path / "x.jsonl", rows))


def test_more_than_five_percent_refused_stops_unless_allowed(tmp_path: Path) -> None:
    rows = [good(i) for i in range(94)] + [{"prompt": "Hi?", "chosen": None, "rejected": "No"}] * 6
    path = jsonl(tmp_path / "x.jsonl", rows)
    with pytest.raises(DataError) as caught:
        load_pairs(path)
    assert "6 of 100 records (6.0 %)" in str(caught.value)
    assert "rows 95, 96, 97, 98, 99 …" in str(caught.value)
    assert "--allow-refused" in str(caught.value)
    assert len(load_pairs(path, LoadSettings(allow_refused=True))) == 94
    assert len(load_pairs(jsonl(path, [good(94), *rows[:-1]])).refused) == 5


def test_nothing_readable_is_refused_even_when_refusals_are_allowed(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"prompt": "a", "chosen": 1, "rejected": 2}])
    with pytest.raises(DataError, match=r"100\.0 %"):
        load_pairs(path, LoadSettings(allow_refused=True))


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.parquet", "x.bin", "x.jsonl.gz"])
def test_an_empty_file_is_refused_with_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=name):
        load_pairs(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", b"\n \n"),
        ("x.json", b"[]"),
        ("x.csv", b"prompt,chosen,rejected\n"),
        ("x.jsonl.gz", gzip.compress(b"")),
    ],
)
def test_a_file_without_records_is_refused_with_its_name(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        load_pairs(tmp_path / name)


def test_one_row_is_enough(tmp_path: Path) -> None:
    assert len(load_pairs(jsonl(tmp_path / "x.jsonl", [good(1)]))) == 1


def test_answers_of_two_megabytes_are_read_quickly_in_every_text_shape(tmp_path: Path) -> None:
    big = "lorem ipsum " * 175_000
    rows: list[dict[str, Any]] = [{"prompt": "p", "chosen": big, "rejected": big + "x"}]
    rows += [{"chosen": f"q\n{big} a", "rejected": f"q\n{big} b"}]
    hh = f"\n\nHuman: q\n\nAssistant: {big}"
    rows += [{"chosen": hh, "rejected": hh + "x"}]
    path = jsonl(tmp_path / "x.jsonl", rows)
    started = time.perf_counter()
    pairs = load_pairs(path)
    assert time.perf_counter() - started < 3
    assert [len(p.rejected) > 0 for p in pairs.rows] == [True] * 3


def test_a_csv_field_of_two_megabytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("prompt,chosen,rejected\np," + "a" * 2_000_000 + ",b\n")
    assert len(load_pairs(path).rows[0].chosen) == 2_000_000


ROWS = [good(i) | {"note": 'naïve\nline, "q"'} for i in range(40)]


def _files(folder: Path) -> dict[str, Path]:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    cells = ["prompt,chosen,rejected,note"]
    cells += [",".join('"' + str(v).replace('"', '""') + '"' for v in row.values()) for row in ROWS]
    whole = json.dumps(ROWS, ensure_ascii=False)
    contents: dict[str, bytes] = {
        "a.jsonl": text.encode(),
        "a.ndjson": text.encode(),
        "a.json": whole.encode(),
        "lines.json": text.encode(),
        "wrapped.json": json.dumps({"data": ROWS, "version": 1}).encode(),
        "pretty.json": json.dumps({"rows": ROWS}, indent=2).encode(),
        "a.csv": "\n".join(cells).encode(),
        "a.jsonl.gz": gzip.compress(text.encode()),
        "a.json.gz": gzip.compress(whole.encode()),
        "a.csv.gz": gzip.compress("\n".join(cells).encode()),
        "a.jsonl.zst": zstandard.compress(text.encode()),
        "two-frames.jsonl.zst": zstandard.compress(text[:500].encode()) + zstandard.compress(text[500:].encode()),
        "a.csv.zst": zstandard.compress("\n".join(cells).encode()),
        "unknown-jsonl": text.encode(),
        "unknown-json.txt": whole.encode(),
        "unknown-csv.dat": "\n".join(cells).encode(),
        "unknown-gz": gzip.compress(text.encode()),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "unknown-parquet")
    return {path.name: path for path in folder.iterdir()}


def test_every_format_gives_the_same_pairs_whatever_the_file_is_called(tmp_path: Path) -> None:
    files = _files(tmp_path)
    assert len(files) == 19
    read = {name: load_pairs(path) for name, path in files.items()}
    assert {name for name, pairs in read.items() if pairs.rows != read["a.parquet"].rows} == set()
    assert read["a.jsonl"].rows[5].extra == {"note": 'naïve\nline, "q"'}


def test_a_folder_of_parquet_is_numbered_through(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for part in range(3):
        pq.write_table(
            pa.Table.from_pylist([good(i) for i in range(10 * part, 10 * part + 10)]), tmp_path / f"data/{part}.parquet"
        )
    assert [pair.row for pair in load_pairs(tmp_path).rows] == list(range(1, 31))


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data file"):
        load_pairs(tmp_path)


def test_parquet_with_messages_dates_and_bytes_is_read(tmp_path: Path) -> None:
    import datetime

    record = SHAPES["messages with the prompt inside"][0] | {
        "when": datetime.date(2026, 1, 2),
        "raw": b"x",
        "nan": float("nan"),
    }
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "x.parquet")
    pairs = load_pairs(tmp_path / "x.parquet")
    assert pairs.rows[0].extra["when"] == "2026-01-02"
    save_pairs(pairs, tmp_path)
    assert read_pairs(tmp_path) == pairs


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_truncated_archive_is_refused_with_its_name_and_what_was_readable(suffix: str, tmp_path: Path) -> None:
    noise = random.Random(0)
    rows = [good(i) | {"noise": noise.randbytes(2000).hex()} for i in range(500)]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    packed = gzip.compress(text) if suffix == "gz" else zstandard.compress(text)
    path = tmp_path / f"pairs.jsonl.{suffix}"
    path.write_bytes(packed[: len(packed) * 3 // 4])
    with pytest.raises(DataError, match=r"(?s)truncated.*pairs\.jsonl.*\d+ records were readable"):
        load_pairs(path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress("".join(json.dumps(good(i)) + "\n" for i in range(200)).encode()))
    packed[100:120] = bytes(20)
    (tmp_path / "x.jsonl.gz").write_bytes(packed)
    with pytest.raises(DataError, match="truncated or damaged"):
        load_pairs(tmp_path / "x.jsonl.gz")


@pytest.mark.parametrize("content", [b"PAR1 and nothing more", b"not parquet at all"])
def test_a_damaged_parquet_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(DataError, match="Parquet"):
        load_pairs(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.json", b'[{"prompt": "a"', "not whole JSON"),
        ("x.json", b'{"n": 3}', "of 1 records|no record has"),
        ("x.json", '[{"a": "é"}]'.encode("latin-1"), "not UTF-8"),
        ("x.jsonl", "{}".encode("utf-16"), "UTF-16"),
        ("x.bin", b"\x00\x01\x02\x03", "format"),
        ("x.jsonl", b"\xff\xfa" * 10, "100.0 %"),
    ],
)
def test_a_file_of_another_kind_says_what_it_is(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        load_pairs(tmp_path / name)


def test_bad_csv_rows_are_refused_one_by_one(tmp_path: Path) -> None:
    lines = [f"p{i},yes {i},no {i}".encode() for i in range(100)]
    lines[3], lines[5], lines[7] = b"p,only two", b"p,a,b,c", b"p,y\xe9s,no"
    path = tmp_path / "x.csv"
    path.write_bytes(b"prompt,chosen,rejected\n" + b"\n".join(lines) + b'\np,"open')
    reasons = [(r.row, r.reason) for r in load_pairs(path).refused]
    assert reasons == [(4, "bad_csv"), (6, "bad_csv"), (8, "not_utf8"), (101, "ends_mid_record")]


def test_a_missing_file_is_not_looked_up_anywhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_pairs(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no such file"):
        load_pairs("data/none.jsonl")


def _fake_datasets(monkeypatch: pytest.MonkeyPatch, splits: list[str], rows: Any) -> None:
    fake = types.ModuleType("datasets")
    fake.get_dataset_split_names = lambda name: splits  # type: ignore[attr-defined]
    fake.load_dataset = lambda name, split, streaming: rows(split)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)


def test_a_hub_id_is_streamed_from_its_train_split(monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_datasets(
        monkeypatch, ["test_prefs", "train_prefs"], lambda split: [good(1), good(2)] if split == "train_prefs" else []
    )
    assert [pair.row for pair in load_pairs("someone/pairs").rows] == [1, 2]


def test_a_hub_id_without_network_or_library_is_a_clear_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(split: str) -> Any:
        raise ConnectionError("no route")

    _fake_datasets(monkeypatch, ["train"], offline)
    with pytest.raises(DataError, match=r"(?s)could not be read from the Hub.*no route"):
        load_pairs("someone/pairs")
    _fake_datasets(monkeypatch, ["a", "b"], offline)
    with pytest.raises(DataError, match="several splits"):
        load_pairs("someone/pairs")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install"):
        load_pairs("someone/pairs")


def test_ids_and_groups_survive_a_new_order_and_repeats_are_numbered(tmp_path: Path) -> None:
    rows = [good(i % 7) for i in range(20)] + [good(i) | {"conv": i // 3} for i in range(30, 50)]
    one = load_pairs(jsonl(tmp_path / "a.jsonl", rows), LoadSettings(group="conv"))
    random.Random(1).shuffle(rows)
    two = load_pairs(jsonl(tmp_path / "b.jsonl", rows), LoadSettings(group="conv"))
    assert {(p.id, p.group) for p in one.rows} == {(p.id, p.group) for p in two.rows}
    assert one.fingerprint == two.fingerprint
    assert len({p.id for p in one.rows}) == len(one)
    assert {p.id[16:] for p in one.rows} == {"", "-2", "-3"}


def test_a_group_is_a_component_of_shared_prompts_and_declared_values(tmp_path: Path) -> None:
    prompts = ["Hello  World", "hello world", "ＨELLO world\n", "b", "c", "d", "e"]
    conv = ["1", None, None, "2", "2", "1", None]
    rows = [
        {"prompt": p, "chosen": f"x{i}", "rejected": "y", "conv": v, "source": "s"}
        for i, (p, v) in enumerate(zip(prompts, conv, strict=True))
    ]
    pairs = load_pairs(jsonl(tmp_path / "x.jsonl", rows), LoadSettings(group="conv"))
    g = [pair.group for pair in pairs.rows]
    assert g[0] == g[1] == g[2] == g[5]
    assert g[3] == g[4] != g[0]
    assert len(set(g)) == 3
    assert {pair.domain for pair in pairs.rows} == {"s"}  # sources never join witnesses


def test_the_domain_column_is_found_unless_it_names_every_row(tmp_path: Path) -> None:
    rows = [good(i) | {"source": f"http://x/{i}", "category": "ab"[i % 2]} for i in range(60)]
    path = jsonl(tmp_path / "x.jsonl", rows)
    assert load_pairs(path).domain_column == "category"
    assert load_pairs(path, LoadSettings(domain="source")).rows[3].domain == "http://x/3"


def test_a_sample_is_seeded_kept_in_order_and_keeps_ids_and_groups(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [good(i // 2) for i in range(200)])
    whole = {pair.row: pair for pair in load_pairs(path).rows}
    one = load_pairs(path, LoadSettings(sample=50, seed=3))
    assert one == load_pairs(path, LoadSettings(sample=50, seed=3))
    assert one.rows != load_pairs(path, LoadSettings(sample=50, seed=4)).rows
    assert [p.row for p in one.rows] == sorted(p.row for p in one.rows)
    assert all(whole[pair.row] == pair for pair in one.rows)
    assert len(one) == 50
    assert len(load_pairs(path, LoadSettings(sample=999))) == 200
    with pytest.raises(UsageError, match="sample"):
        load_pairs(path, LoadSettings(sample=0))


def test_pairs_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    rows = [good(i) | {"extra": {"a": [i, None]}, "source": "s"} for i in range(30)] + [
        {"prompt": "x", "chosen": "\ud800"}
    ]
    pairs = load_pairs(jsonl(tmp_path / "x.jsonl", rows))
    save_pairs(pairs, tmp_path / "study")
    assert read_pairs(tmp_path / "study") == pairs
    first = (tmp_path / "study" / "refused.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["row"] == 31


def test_damaged_or_exchanged_pairs_on_disk_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="tiltscope read"):
        read_pairs(tmp_path)
    save_pairs(load_pairs(jsonl(tmp_path / "x.jsonl", [good(1), good(2)])), tmp_path / "one")
    save_pairs(load_pairs(jsonl(tmp_path / "x.jsonl", [good(3)])), tmp_path / "two")
    (tmp_path / "one" / "pairs.parquet").write_bytes((tmp_path / "two" / "pairs.parquet").read_bytes())
    with pytest.raises(ProductError, match="is not the one"):
        read_pairs(tmp_path / "one")
    (tmp_path / "one" / "pairs.parquet").write_bytes(b"PAR1")
    with pytest.raises(ProductError, match="damaged"):
        read_pairs(tmp_path / "one")
    (tmp_path / "two" / "refused.jsonl").write_text("{")
    with pytest.raises(ProductError, match=r"refused\.jsonl"):
        read_pairs(tmp_path / "two")


@pytest.mark.skipif(not (DATA / "hh-rlhf").is_dir(), reason="hh-rlhf is not under $TILTSCOPE_DATA")
def test_hh_rlhf_is_read_whole_but_for_nine_rows() -> None:
    pairs = load_pairs(DATA / "hh-rlhf" / "harmless-base-test.jsonl.gz")
    assert (len(pairs), pairs.shape) == (2303, "Human/Assistant transcripts")
    reasons = [r.reason for r in pairs.refused]
    assert (reasons.count("several_turns"), reasons.count("empty_answer")) == (5, 4)


@pytest.mark.skipif(not (DATA / "alpaca-eval").is_dir(), reason="alpaca-eval is not under $TILTSCOPE_DATA")
def test_alpaca_eval_is_read_whole_with_600_witnesses() -> None:
    pairs = load_pairs(DATA / "alpaca-eval" / "pairs.jsonl.gz")
    assert (len(pairs), len(pairs.refused), len({p.group for p in pairs.rows})) == (8000, 0, 600)


def test_the_documentation_explains_every_reason() -> None:
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    assert [reason for reason, why in REASONS.items() if f"| `{reason}` | {why} |" not in text] == []
