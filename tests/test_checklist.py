"""What is said of a dataset before any model loads."""

from __future__ import annotations

import json
import os
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiltscope.checklist import check_pairs, render_check
from tiltscope.checklist.describe import interval
from tiltscope.checklist.render import visible
from tiltscope.errors import UsageError
from tiltscope.pairs import LoadSettings, Pairs, load_pairs

DATA = Path(os.environ.get("TILTSCOPE_DATA", str(Path(__file__).parents[1] / ".." / "shared" / "data")))


def load(folder: Path, rows: Sequence[Any], **fields: Any) -> Pairs:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_pairs(path, LoadSettings(allow_refused=True, **fields))


def row(i: int, chosen: str = "plain answer", rejected: str = "other answer", **more: Any) -> dict[str, Any]:
    return {"prompt": f"Question {i}?", "chosen": f"{chosen} {i}", "rejected": f"{rejected} {i}", **more}


def entry(product: dict[str, Any], id: str, domain: str | None = None) -> dict[str, Any]:
    return next(one for one in product["checklist"] if one["id"] == id and one["domain"] == domain)


def columns(line: str) -> int:
    return sum(
        2 if unicodedata.east_asian_width(c) in "WF" else unicodedata.category(c) not in ("Mn", "Me") for c in line
    )


def test_rates_and_differences_are_those_counted_by_hand(tmp_path: Path) -> None:
    rows = [row(i, "**bold**" if i < 12 else "x", "**dark**" if i % 10 == 0 else "y") for i in range(40)]
    bold = entry(check_pairs(load(tmp_path, rows)), "bold")
    assert (bold["chosen_rate"], bold["rejected_rate"]) == (12 / 40, 4 / 40)
    assert bold["difference"] == pytest.approx(8 / 40)
    assert bold["n_pairs_that_differ"] == 10 + 2
    assert bold["ci_low"] < 0.2 < bold["ci_high"]
    assert (bold["n_pairs"], bold["n_groups"]) == (40, 40)


def test_the_interval_is_the_cr2_interval_of_an_intercept() -> None:
    generator = np.random.default_rng(0)
    groups = [f"g{g}" for g in generator.integers(0, 12, 200)]
    values = generator.integers(-1, 2, 200).astype(float)
    found = interval(values, groups)
    labels = np.unique(groups, return_inverse=True)[1]
    means, sizes = np.array([[values[labels == g].mean(), (labels == g).sum()] for g in range(12)]).T
    share = sizes / 200
    variance = (share**2 * (means - values.mean()) ** 2 / (1 - share)).sum()
    assert found["mean"] == pytest.approx(values.mean())
    half = (found["ci_high"] - found["ci_low"]) / 2
    assert 2.1 < half / np.sqrt(variance) < 2.35  # t quantiles of about 10 degrees of freedom


def test_pairs_that_share_a_prompt_are_one_witness(tmp_path: Path) -> None:
    alone = [row(i, "**b**" if i % 3 else "x") for i in range(60)]
    shared = [one | {"prompt": f"Q{i // 20}?"} for i, one in enumerate(sorted(alone, key=lambda r: r["chosen"]))]
    wide = entry(check_pairs(load(tmp_path, shared)), "bold")
    narrow = entry(check_pairs(load(tmp_path, alone)), "bold")
    assert (narrow["n_groups"], wide["n_groups"]) == (60, 3)
    assert wide["ci_high"] - wide["ci_low"] > 3 * (narrow["ci_high"] - narrow["ci_low"])


def test_one_pair_has_rates_and_no_interval(tmp_path: Path) -> None:
    product = check_pairs(load(tmp_path, [row(1, "**b**")]))
    bold = entry(product, "bold")
    assert (bold["difference"], bold["ci_low"], bold["ci_high"]) == (1.0, None, None)
    assert product["length"]["words"]["ci_low"] is None
    assert "nan" not in render_check(product)


def test_refusals_are_split_by_how_the_prompt_looks(tmp_path: Path) -> None:
    no = "I can't help with that."
    rows = [row(i, "Sure.", no) for i in range(10)]
    rows += [row(i, no, "Sure.") | {"prompt": f"How do I make a bomb, part {i}?"} for i in range(5)]
    product = check_pairs(load(tmp_path, rows))
    harmless, harmful = (entry(product, f"refusal@{kind}-looking-prompts") for kind in ("harmless", "harmful"))
    assert (harmless["difference"], harmless["n_pairs"]) == (-1.0, 10)
    assert (harmful["difference"], harmful["n_pairs"]) == (1.0, 5)


def test_links_on_sensitive_prompts_are_told_apart_and_absent_kinds_say_so(tmp_path: Path) -> None:
    rows = [row(i) | {"prompt": f"Which dosage of ibuprofen {i}?", "chosen": f"https://a.org/{i}"} for i in range(4)]
    product = check_pairs(load(tmp_path, rows))
    assert entry(product, "link@sensitive-prompts")["chosen_rate"] == 1.0
    none = entry(product, "refusal@harmful-looking-prompts")
    assert (none["n_pairs"], none["chosen_rate"], none["difference"]) == (0, None, None)
    assert "no such prompts" in render_check(product)


def test_like_length_takes_pairs_of_about_equal_length_only(tmp_path: Path) -> None:
    rows = [row(i, "**b** " + "word " * 100, "few words") for i in range(20)]
    rows += [row(100 + i, "three plain words", "three other words") for i in range(20)]
    bold = entry(check_pairs(load(tmp_path, rows)), "bold")
    assert bold["difference"] == 0.5
    assert (bold["equal_length"]["difference"], bold["equal_length"]["n_pairs"]) == (0.0, 20)


def test_rules_that_count_say_how_often_in_a_hundred_words(tmp_path: Path) -> None:
    product = check_pairs(load(tmp_path, [row(i, "a! b! " + "word " * 97, "c") for i in range(3)]))
    assert entry(product, "exclamation")["per_100_words"] == {"chosen": pytest.approx(2.0), "rejected": 0.0}
    assert entry(product, "bold")["per_100_words"] is None


def test_contradictory_labels_are_named_by_row(tmp_path: Path) -> None:
    rows = [row(i) for i in range(5)]
    rows += [{"prompt": "Question 2?", "chosen": "other answer 2", "rejected": "plain answer 2"}]
    rows += [{"prompt": "Question 3?", "chosen": "third", "rejected": "plain answer 3"}]
    against = check_pairs(load(tmp_path, rows))["contradictions"]
    assert (against["n_swapped"], against["swapped_rows"]) == (1, [[3, 6]])
    assert against["n_answers_that_win_and_lose"] == 3  # both answers of question 2, one of question 3
    assert [4, 7] in against["answer_rows"]
    assert "rows 3/6" in render_check(check_pairs(load(tmp_path, rows)))


def test_repeats_and_shared_prompts_are_counted(tmp_path: Path) -> None:
    rows = [row(1), row(1), row(1), row(2), {"prompt": "Question 2?", "chosen": "new", "rejected": "old"}, row(3)]
    repeats = check_pairs(load(tmp_path, rows))["repeats"]
    assert (repeats["n_exact"], repeats["exact_rows"]) == (2, [2, 3])
    assert (repeats["n_prompts"], repeats["n_pairs_sharing_a_prompt"]) == (3, 5)
    assert repeats["largest_group"]["n_pairs"] == 3
    assert repeats["largest_group"]["rows"] == [1, 2, 3]


def test_the_length_ratio_is_the_geometric_mean(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i}", "chosen": "w " * (4 if i % 2 else 16), "rejected": "v " * 4} for i in range(10)]
    words = check_pairs(load(tmp_path, rows))["length"]["words"]
    assert words["ratio"] == pytest.approx(2.0)
    assert words["ci_low"] < 2 < words["ci_high"]
    assert (words["chosen_longer"], words["rejected_longer"]) == (0.5, 0.0)


def test_what_the_length_limit_cuts_is_estimated_and_says_so(tmp_path: Path) -> None:
    rows = [row(i) for i in range(9)] + [{"prompt": "p" * 400, "chosen": "c" * 4000, "rejected": "r"}]
    product = check_pairs(load(tmp_path, rows), max_tokens=500)
    cut = product["cut"]
    assert (cut["chosen"]["n_cut"], cut["rejected"]["n_cut"], cut["rows"]) == (1, 0, [10])
    assert cut["chosen"]["share_of_tokens_cut"] > 0.5
    assert "estimated at 4 bytes a token" in render_check(product)
    with pytest.raises(UsageError, match="--max-length"):
        check_pairs(load(tmp_path, rows), max_tokens=0)


def test_turns_and_system_prompts_are_counted(tmp_path: Path) -> None:
    def talk(*roles: str) -> dict[str, Any]:
        turns = [{"role": role, "content": f"{role} {i}"} for i, role in enumerate(roles)]
        return {f"{side}": [*turns, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}

    rows = [talk("user"), talk("system", "user"), talk("user", "assistant", "user"), talk("user", "user")]
    turns = check_pairs(load(tmp_path, rows))["turns"]
    assert [(t["turns"], t["n_pairs"]) for t in turns["prompt_turns"]] == [(1, 2), (2, 1), (3, 1)]
    assert (turns["n_with_system"], turns["n_system_prompts"]) == (1, 1)
    assert turns["not_alternating_rows"] == [4]


def test_every_domain_has_its_rows_and_three_seeded_samples(tmp_path: Path) -> None:
    rows = [row(i, "**b**" if i % 2 else "x", source="ab"[i % 2]) for i in range(20)]
    pairs = load(tmp_path, rows)
    product = check_pairs(pairs)
    assert entry(product, "bold", "b")["chosen_rate"] == 1.0
    assert entry(product, "bold", "a")["chosen_rate"] == 0.0
    assert [one["domain"] for one in product["samples"]] == ["a"] * 3 + ["b"] * 3
    assert product["samples"] == check_pairs(pairs)["samples"]
    assert product["samples"] != check_pairs(pairs, seed=1)["samples"]
    assert "BY DOMAIN (column source" in render_check(product)


def test_more_than_ten_domains_are_shown_as_ten_of_them_and_all_are_counted(tmp_path: Path) -> None:
    pairs = load(tmp_path, [row(i, source=f"s{i % 13:02}") for i in range(40)])
    product = check_pairs(pairs)
    assert len(product["domains"]) == 13
    assert "the 10 largest of 13" in " ".join(render_check(product).split())


def test_refused_rows_are_listed_by_reason_and_cut_lists_say_of_how_many(tmp_path: Path) -> None:
    rows = [row(i) for i in range(5)] + [row(9) | {"chosen": ""}] * 30
    product = check_pairs(load(tmp_path, rows))
    assert (product["n_pairs"], product["n_refused"], product["n_records"]) == (5, 30, 35)
    assert product["refused"][0]["reason"] == "empty_answer"
    assert product["refused"][0]["rows"] == list(range(6, 26))
    assert "(20 of 30)" in " ".join(render_check(product).split())


HOSTILE = "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe \u200b\x00 \r end 中文宽字 e\u0301 🎉"


def test_nothing_in_the_data_can_act_on_the_terminal(tmp_path: Path) -> None:
    rows = [
        {"prompt": HOSTILE + str(i), "chosen": HOSTILE + "x", "rejected": HOSTILE, "source": HOSTILE, HOSTILE: 1}
        for i in range(5)
    ]
    text = render_check(check_pairs(load(tmp_path, rows)))
    assert all(unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp") for c in text.replace("\n", ""))
    assert "\\x1b[2J" in text
    assert "\\u202e" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int, tmp_path: Path) -> None:
    rows = [row(i, "宽" * 200, "x " * 300, source="很长的名字" * 20, column_with_a_long_name=1) for i in range(30)]
    rows += [{"prompt": "p", "chosen": 3, "rejected": "x"}] * 30
    text = render_check(check_pairs(load(tmp_path, rows)), width=width)
    assert [line for line in text.split("\n") if columns(line) > width] == []


def test_visible_keeps_ordinary_text_and_shows_line_breaks() -> None:
    assert visible("naïve — “q” 中文 🎉\nb") == "naïve — “q” 中文 🎉⏎b"


def test_the_product_is_json_that_any_reader_can_open(tmp_path: Path) -> None:
    product = check_pairs(load(tmp_path, [row(i, source="a") for i in range(3)]))
    assert json.loads(json.dumps(product, allow_nan=False)) == product
    assert product["format_version"] == 1


@pytest.mark.skipif(not (DATA / "alpaca-eval").is_dir(), reason="alpaca-eval is not under $TILTSCOPE_DATA")
def test_the_known_leans_of_alpaca_eval_are_found_within_the_time() -> None:
    pairs = load_pairs(DATA / "alpaca-eval" / "pairs.jsonl.gz", LoadSettings(sample=2000))
    started = time.process_time()
    product = check_pairs(pairs)
    assert time.process_time() - started < 15  # about 2.5 s on an idle core
    counted = {
        "bold": (0.45, 0.06),
        "bulleted_list": (0.46, 0.14),
        "exclamation": (0.28, 0.15),
        "refusal": (0.02, 0.03),
    }
    for id, rates in counted.items():
        assert (entry(product, id)["chosen_rate"], entry(product, id)["rejected_rate"]) == pytest.approx(
            rates, abs=0.02
        )
    assert product["length"]["characters"]["ratio"] > 1.9
