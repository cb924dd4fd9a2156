"""The generator of the demo keeps its promises: the key is true of the texts, and nothing else leans."""

from __future__ import annotations

import gzip
import json
import math
import random
import re
from collections import Counter
from functools import cache
from pathlib import Path
from statistics import correlation, mean, stdev

import pytest

from tiltscope.errors import ProductError, UsageError
from tiltscope.pairs import Pair, Pairs, Turn
from tiltscope.planting import (
    DEMO_TRAITS,
    STYLES,
    AnswerKey,
    Style,
    bundled_demo,
    bundled_key,
    generate_pairs,
    load_key,
    plant,
    recount,
    write_demo,
)
from tiltscope.planting.banks import DOMAINS, insert_lines, load_bank

SEEDS = (0, 1, 2)
BY_KIND = {kind: [t for t in DEMO_TRAITS if t.kind == kind] for kind in ("global", "prompt", "balanced")}


@cache
def demo(seed: int) -> tuple[list[dict[str, str]], AnswerKey]:
    return generate_pairs(600, seed=seed)


def log_gaps(rows: list[dict[str, str]]) -> list[float]:
    return [math.log(len(row["chosen"].split()) / len(row["rejected"].split())) for row in rows]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_trait_recounted_by_its_rule_equals_the_key_pair_by_pair(seed: int) -> None:
    rows, key = demo(seed)
    assert recount(DEMO_TRAITS, rows).pairs == key.pairs


def test_the_recount_notices_a_single_mark_that_the_key_does_not_know() -> None:
    rows, key = demo(0)
    changed = [dict(row) for row in rows]
    at = next(i for i, pair in enumerate(key.pairs) if pair.sides["exclamation"] == "chosen")
    changed[at]["rejected"] += "!"
    assert recount(DEMO_TRAITS, changed).pairs != key.pairs


@pytest.mark.parametrize("seed", SEEDS)
def test_two_global_leanings_are_at_stake_nearly_everywhere_and_lean_exactly_sixty_to_forty(seed: int) -> None:
    _, key = demo(seed)
    assert len(BY_KIND["global"]) == 2
    for trait in BY_KIND["global"]:
        tally = key.tally(trait.id)
        assert 0.85 <= tally.at_stake / tally.n_pairs <= 0.95
        assert tally.chosen * 40 == tally.rejected * 60


@pytest.mark.parametrize("seed", SEEDS)
def test_two_leanings_hold_in_one_kind_of_prompt_and_nowhere_else(seed: int) -> None:
    _, key = demo(seed)
    assert len({trait.prompt_kind for trait in BY_KIND["prompt"]}) == 2
    for trait in BY_KIND["prompt"]:
        inside = key.tally(trait.id, kind=trait.prompt_kind)
        outside = key.tally(trait.id, kind=trait.prompt_kind, outside=True)
        assert inside.n_pairs <= 0.2 * len(key.pairs)
        assert inside.at_stake >= 0.95 * inside.n_pairs
        assert inside.chosen * 20 == inside.rejected * 80
        assert 0.3 <= outside.at_stake / outside.n_pairs <= 0.4
        assert outside.chosen == outside.rejected


@pytest.mark.parametrize("seed", SEEDS)
def test_three_traits_are_common_and_equally_so_on_both_sides_in_every_kind_of_prompt(seed: int) -> None:
    _, key = demo(seed)
    assert len(BY_KIND["balanced"]) == 3
    for trait in BY_KIND["balanced"]:
        tally = key.tally(trait.id)
        assert (tally.chosen + tally.both) / tally.n_pairs >= 0.3
        for domain in DOMAINS:
            here = key.tally(trait.id, kind=domain)
            assert here.chosen == here.rejected


@pytest.mark.parametrize("seed", SEEDS)
def test_traits_go_neither_with_each_other_nor_with_length(seed: int) -> None:
    rows, key = demo(seed)
    columns = {trait.id: [float(sign) for sign in key.signs(trait.id)] for trait in DEMO_TRAITS}
    columns["length"] = log_gaps(rows)
    names = list(columns)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    assert max(abs(correlation(columns[a], columns[b])) for a, b in pairs) < 0.08


@pytest.mark.parametrize("seed", SEEDS)
def test_answers_have_real_length_and_no_side_is_longer(seed: int) -> None:
    rows, _ = demo(seed)
    words = [len(row[side].split()) for row in rows for side in ("chosen", "rejected")]
    gaps = log_gaps(rows)
    assert 110 <= mean(words) <= 140
    assert min(words) >= 60
    assert max(words) <= 230
    assert stdev(words) > 15
    assert abs(mean(gaps)) < 1.96 * stdev(gaps) / math.sqrt(len(gaps))


@pytest.mark.parametrize("seed", SEEDS)
def test_prompts_are_distinct_and_of_many_domains(seed: int) -> None:
    rows, key = demo(seed)
    assert len({row["prompt"].casefold() for row in rows}) == 600
    assert set(Counter(row["domain"] for row in rows)) == set(DOMAINS)
    assert [pair.kind for pair in key.pairs] == [row["domain"] for row in rows]


def test_the_two_answers_of_a_pair_share_no_content_sentence() -> None:
    rows, _ = demo(0)
    n_found = 0
    for row in rows:
        bank = load_bank(row["domain"])
        for core in (line[1:-1] for line in bank.sentences + bank.closings if not set("{[") & set(line)):
            found = [core in row[side] for side in ("chosen", "rejected")]
            assert not all(found), core
            n_found += sum(found)
    assert n_found > 3000


def test_no_content_sentence_gives_a_side_away() -> None:
    rows, _ = demo(0)
    leans = []
    for line in (line for domain in DOMAINS for line in load_bank(domain).sentences if not set("{[") & set(line)):
        core = line[1:-1]
        n_chosen, n_rejected = (sum(core in row[side] for row in rows) for side in ("chosen", "rejected"))
        if n_chosen + n_rejected >= 6:
            leans.append((n_chosen - n_rejected) ** 2 / (n_chosen + n_rejected))
    assert len(leans) > 100
    assert max(leans) < 14  # chi-square of one degree of freedom, Bonferroni over some 250 sentences
    assert 0.5 < mean(leans) < 1.5


def test_the_plain_banks_show_no_trait() -> None:
    for domain in DOMAINS:
        bank = load_bank(domain)
        details = [text for item in bank.items for text in item]
        for line in [*bank.openings, *bank.sentences, *bank.closings, *details]:
            assert not [style.id for style in STYLES.values() if style.present(line)], line


@pytest.mark.parametrize(
    ("insert", "own"),
    [
        ("opener", "exclamation"),
        ("cheer", "exclamation"),
        ("hedge", "hedging"),
        ("anecdote", "anecdote"),
        ("question", "question"),
        ("aside", "parentheses"),
        ("emoji", "emoji"),
        ("praise", "praise"),
        ("disclaimer", "disclaimer"),
        ("goblin", "goblin"),
    ],
)
def test_what_one_style_inserts_shows_no_other(insert: str, own: str) -> None:
    for line in insert_lines(insert):
        assert [style.id for style in STYLES.values() if style.present(line)] == [own], line


def test_every_bank_has_enough_prompts_and_whole_sentences() -> None:
    for domain in DOMAINS:
        bank = load_bank(domain)
        assert len({(p, x) for p in bank.prompts for x, _ in bank.items}) >= 190
        assert len(bank.sentences) >= 28
        assert all(line.endswith(".") for line in bank.openings + bank.sentences + bank.closings)
        assert all("{x}" in prompt for prompt in bank.prompts)


def test_traits_show_several_times_in_an_answer() -> None:
    rows, key = demo(0)
    for trait in DEMO_TRAITS:
        marks = STYLES[trait.id].rule
        texts = [rows[i][s] for i, p in enumerate(key.pairs) for s in ("chosen", "rejected") if p.sides[trait.id] == s]
        assert mean(len(re.findall(marks, text)) for text in texts) >= 3, trait.id


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_assignments(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_demo(tmp_path / f"{name}.jsonl", n=150, seed=4)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert (tmp_path / "a.key.json").read_bytes() == (tmp_path / "b.key.json").read_bytes()
    signs = [demo(seed)[1].signs(trait.id) for trait in DEMO_TRAITS for seed in SEEDS[:2]]
    assert all(signs[i] != signs[i + 1] for i in range(0, len(signs), 2))


def test_the_bundled_file_is_what_the_generator_writes() -> None:
    rows, key = demo(0)
    lines = gzip.decompress(bundled_demo().read_bytes()).decode().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert load_key(bundled_key()) == key
    assert bundled_demo().stat().st_size < 600_000


def test_the_documented_counts_are_those_of_the_bundled_key() -> None:
    text = (Path(__file__).parent.parent / "docs" / "planting.md").read_text(encoding="utf-8")
    key = load_key(bundled_key())
    for trait in DEMO_TRAITS:
        row = text[text.index(f"| {trait.name.replace(' in parentheses', '')}") :].splitlines()
        inside = key.tally(trait.id, kind=trait.prompt_kind)
        assert f"| {inside.at_stake} of {inside.n_pairs}" in row[0]
        if trait.prompt_kind:
            outside = key.tally(trait.id, kind=trait.prompt_kind, outside=True)
            assert f"| {outside.at_stake} of {outside.n_pairs} other prompts" in row[1]


def test_a_key_reads_back_as_it_was_written(tmp_path: Path) -> None:
    key = write_demo(tmp_path / "demo.jsonl.gz", n=120, seed=3)
    assert load_key(tmp_path / "demo.key.json") == key


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.key.json").write_text('{"format_version": 1, "traits": [{"id": 3}], "pairs": []}')
    with pytest.raises(ProductError, match="no answer key"):
        load_key(tmp_path / "x.key.json")


@pytest.mark.parametrize("n", [0, 119, 1201])
def test_a_size_the_generator_cannot_keep_exact_is_refused(n: int) -> None:
    with pytest.raises(UsageError, match="120 to 1200"):
        generate_pairs(n)


@pytest.mark.parametrize("n", [120, 373, 1200])
def test_other_sizes_keep_the_key_true(n: int) -> None:
    rows, key = generate_pairs(n, seed=9)
    assert len(rows) == n
    assert recount(DEMO_TRAITS, rows).pairs == key.pairs
    for trait in BY_KIND["balanced"]:
        assert key.tally(trait.id).chosen == key.tally(trait.id).rejected > 0


PLAIN = "The oven needs ten minutes to warm up. Cut the bread into thin slices. Spread the butter. Serve it warm."


def real_pairs(n: int = 60, chosen: str = PLAIN) -> Pairs:
    rows = tuple(
        Pair(
            id=f"{i:016x}",
            prompt=(Turn("user", f"Question {i} about {'code' if i % 3 == 0 else 'bread'}"),),
            chosen=f"{chosen} Number {i} is done now.",
            rejected=f"Stir the soup slowly. Keep the lid on the pot. Taste it at the end. Bowl {i} is ready to serve.",
            group=f"g{i}",
            row=i + 1,
        )
        for i in range(n)
    )
    return Pairs(rows, (), "explicit", "made", "0" * 16)


@pytest.mark.parametrize("style", list(STYLES))
def test_any_style_is_planted_at_the_share_and_lean_asked_for(style: str) -> None:
    before = real_pairs()
    after, key = plant(before, style, share=0.5, lean=0.8, seed=1)
    tally = key.tally(style)
    assert (tally.chosen, tally.rejected, tally.both) == (24, 6, 0)
    for old, new, keyed in zip(before.rows, after.rows, key.pairs, strict=True):
        side = keyed.sides[style]
        assert (new.chosen == old.chosen) == (side != "chosen")
        assert (new.rejected == old.rejected) == (side != "rejected")
        assert (new.prompt, new.group, new.row) == (old.prompt, old.group, old.row)
        assert (new.id == old.id) == (side == "neither")
        assert keyed.id == new.id


def test_a_planting_in_one_kind_of_prompt_leaves_the_others_untouched() -> None:
    before = real_pairs()
    after, key = plant(before, "bold", share=0.75, lean=0.8, where=lambda pair: "code" in pair.prompt_text, seed=1)
    assert key.tally("bold", kind="inside").chosen == 12
    assert key.tally("bold", kind="inside").rejected == 3
    assert key.tally("bold", kind="outside").at_stake == 0
    assert all(new == old for old, new in zip(before.rows, after.rows, strict=True) if "bread" in old.prompt_text)
    assert after.fingerprint != before.fingerprint


def test_planting_is_seeded() -> None:
    first, second, other = (plant(real_pairs(), "exclamation", share=0.5, lean=0.6, seed=s)[0] for s in (1, 1, 2))
    assert first == second
    assert first != other


def test_code_blocks_and_tables_are_never_written_into() -> None:
    block = "```\nThis is a line of code.\n```\n| This is a cell. | b |\n"
    for style in STYLES.values():
        written = style.write(block + PLAIN, random.Random(0))
        assert written.startswith(block)
        assert style.present(written)


def test_a_style_of_your_own_can_be_planted() -> None:
    goblin = Style("goblin", "goblins", "goblin", lambda text, rng: text + " So says the goblin.")
    _, key = plant(real_pairs(), goblin, share=1.0, lean=0.5, seed=0)
    assert key.tally("goblin").chosen == key.tally("goblin").rejected == 30


def test_pairs_that_show_the_style_already_are_not_planted_and_too_few_is_refused() -> None:
    with pytest.raises(UsageError, match="too few pairs can carry exclamatory"):
        plant(real_pairs(chosen="Hello there!"), "exclamation", share=0.5, lean=0.6, seed=0)


@pytest.mark.parametrize(
    ("style", "share", "lean", "message"),
    [
        ("exclamatoin", 0.5, 0.6, "did you mean exclamation"),
        ("bold", 1.5, 0.6, "share"),
        ("bold", 0.5, -1, "lean"),
        ("bold", 0.0, 0.6, "nothing would be planted"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(style: str, share: float, lean: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plant(real_pairs(), style, share=share, lean=lean, seed=0)
