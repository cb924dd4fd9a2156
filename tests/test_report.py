"""The report: true sentences, nothing hidden, nothing executed, every cap announced, and fit to look at."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_study
from made_study import concept, hypothesis, region
from tiltscope.artifact import write_json
from tiltscope.behaviours import RULES
from tiltscope.errors import ProductError, UsageError
from tiltscope.report import headline, render_hypotheses, render_trace, show_product, visible, write_report
from tiltscope.report.content import calibration, families, gather
from tiltscope.report.text import Piece, excerpt, fit, number, percent, signed, token, width_of
from tiltscope.report.words import near_zero, place, wish

HIDDEN = re.compile("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\ufeff\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: tags with attributes, text outside <style>, and open tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "circle", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made_study.make(tmp_path_factory.mktemp("made") / "study")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def source(study: Path) -> str:
    return (study / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def of(name: str, by: str = "library", direction: str = "more", **changes: Any) -> dict[str, Any]:
    effect = 0.2 if direction == "more" else -0.2
    return hypothesis("g-L1", concept("L1", name, by, tokens=("**", " so")), effect, **changes)


# --- sentences --------------------------------------------------------------------------------------------------------


def test_a_headline_reads_as_promised() -> None:
    row = of("bold text", at_stake=0.31, equal_length_share=0.71)
    row["chosen_share"] = {"effect": 0.87, "ci_low": 0.84, "ci_high": 0.9}
    assert headline(row) == (
        "Training on this will teach: more bold text. It is at stake in 31 % of pairs, and the chosen side has more of "
        "it in 87 % of those [84, 90]; at equal length 71 %."
    )


@pytest.mark.parametrize(
    ("name", "by", "more", "less"),
    [
        ("bold text", "library", "more bold text", "less bold text"),
        ("bulleted list", "library", "more bulleted lists", "fewer bulleted lists"),
        ("emoji", "library", "more emoji", "fewer emoji"),
        ("apology", "library", "more apologies", "fewer apologies"),
        ("em dash", "library", "more em dashes", "fewer em dashes"),
        ("ellipsis", "library", "more ellipses", "fewer ellipses"),
        ("offer of more help", "library", "more offers of more help", "fewer offers of more help"),
        ("hedging words: “Perhaps”", "library", "more hedging words (“Perhaps”)", "fewer hedging words (“Perhaps”)"),
        ("heading (L1)", "library", "more headings", "fewer headings"),
        (
            "answers with bulleted list",
            "library",
            "more answers with bulleted lists",
            "fewer answers with bulleted lists",
        ),
        ("words “so”, “but”", "tokens", "more of the words “so”, “but”", "less of the words “so”, “but”"),
        ("phrase “feel free”", "tokens", "more of the phrase “feel free”", "less of the phrase “feel free”"),
        ("line break before “-”", "tokens", "more line breaks before “-”", "fewer line breaks before “-”"),
        ("words such as “a”", "tokens", "more words such as “a”", "fewer words such as “a”"),
        ("pleading tone", "some-model", "more of “pleading tone”", "less of “pleading tone”"),
        ("“quoted”", "some-model", "more of “quoted”", "less of “quoted”"),
    ],
)
def test_names_stand_in_the_sentence_with_the_right_grammar(name: str, by: str, more: str, less: str) -> None:
    for direction, said in (("more", more), ("less", less)):
        assert f"teach: {said}." in headline(of(name, by, direction))


def test_every_behaviour_of_the_library_makes_a_sentence() -> None:
    for rule in RULES:
        how, what, plural = wish(of(rule.name, direction="less"))
        assert how == ("fewer" if plural else "less"), rule.name
        assert ("They are" if plural else "It is") + " at stake" in headline(of(rule.name)), rule.name
        assert not re.search(r"\b(\w+)(s|es)s\b", what.split(" ")[-1]) or what.endswith("ess"), what


def test_a_concept_that_nobody_named_says_so_and_what_it_fires_on() -> None:
    said = headline(of("", "nobody"))
    assert "teach: more of an unnamed concept (L1, which fires on “**”, “␣so”). It is at stake" in said


def test_a_lean_away_says_only_where_the_chosen_side_rarely_has_it() -> None:
    assert "the chosen side has more of it in only 30 % of those" in headline(of("bold text", direction="less"))
    assert "only" not in headline(of("bold text", direction="less") | {"chosen_share": {"effect": 0.6}})
    never = {"chosen_share": {"effect": 0.0, "ci_low": 0.0, "ci_high": 0.29}}
    assert "more of it in none of those [0, 29]" in headline(of("bold text", direction="less") | never)


def test_a_region_speaks_of_its_pairs_and_of_the_excess() -> None:
    row = of("heading", view="region", estimand="delta") | {"region": region("K3", "around C4", "def")}
    said = headline(row)
    assert said.startswith(
        "In pairs of kind K3 (tokens “def”): training on this will teach: more headings than in other"
    )
    assert "at stake in 31 % of those pairs" in said
    assert "the excess over other pairs, length held fixed, is +0.200 [+0.170, +0.230]." in said


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("prompts about “oven”, “bake”", "When the prompt is about “oven”, “bake”"),
        ("prompts with web link", "When the prompt comes with web links (tokens “oven”)"),
        ("around P7", "When the prompt is of kind P7@10 (tokens “oven”)"),
        ("", "When the prompt is of kind P7@10 (tokens “oven”)"),
        ("cooking", "When the prompt is about cooking (tokens “oven”)"),
    ],
)
def test_a_prompt_finding_opens_with_its_kind_of_prompt(name: str, opening: str) -> None:
    row = of("emoji", view="prompt", estimand="shift") | {"region": region("P7@10", name, "oven")}
    assert place(row) == opening
    assert headline(row).startswith(f"{opening}: training on this will teach: more emoji than on other prompts.")


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("robust to length", "; at equal length 62 %."),
        ("not robust to length", "; at equal length 62 %, so length may be all of it."),
        ("inseparable from length", "; too few pairs have answers of like length to tell it from length."),
    ],
)
def test_the_length_verdict_is_part_of_the_sentence(verdict: str, said: str) -> None:
    assert headline(of("bold text", length=verdict, equal_length_share=0.62)).endswith(said)


def test_a_sentence_survives_numbers_that_are_not_defined() -> None:
    row = of("bold text", equal_length_share=None, at_stake=None)
    assert headline(row).endswith("The difference is +0.200 [+0.170, +0.230].")
    assert "None" not in headline(of("bold text") | {"chosen_share": {"effect": 0.5, "ci_low": None, "ci_high": None}})


# --- text and numbers -------------------------------------------------------------------------------------------------


def test_hidden_characters_are_written_out_and_others_stay() -> None:
    assert HIDDEN.search(made_study.HOSTILE)
    assert not HIDDEN.search(visible(made_study.HOSTILE))
    kept = "naïve — “ok”\tこんにちは 🎉 مرحبا\n"
    assert visible(kept) == kept
    assert visible("a\r\nb\rc") == "a\nb⟨U+000D⟩c"
    assert visible("x\U000e0041y\u3164z\u2028") == "x⟨U+E0041⟩y⟨U+3164⟩z⟨U+2028⟩"


def test_no_character_of_any_hidden_category_passes() -> None:
    hidden = [chr(n) for n in range(0x110000) if unicodedata.category(chr(n)) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")]
    shown = visible("".join(char for char in hidden if char not in "\n\t\r"))
    assert not set(hidden) & set(shown)


@pytest.mark.parametrize(
    ("share", "said"),
    [
        *((0.314, "31 %"), (0.0, "0 %"), (1.0, "100 %"), (0.004, "0.4 %")),
        *((0.0002, "< 0.1 %"), (0.9997, "> 99.9 %"), (0.996, "99.6 %"), (None, "–")),
    ],
)
def test_shares_read_as_percentages(share: float | None, said: str) -> None:
    assert percent(share) == said


def test_numbers_carry_a_true_sign_and_no_negative_zero() -> None:
    assert [signed(0.1234), signed(-0.1234), signed(-0.0001), signed(None)] == ["+0.123", "−0.123", "0.000", "–"]
    assert [number(12345), number(True), number(0.12345), number(None)] == ["12,345", "yes", "0.1235", "–"]


def test_text_is_fitted_by_columns_not_by_characters() -> None:
    assert width_of("日本") == 4
    assert [fit("日本語", 5), fit("ab", 4), fit("ab", 4, right=True)] == ["日本…", "ab  ", "  ab"]


def test_a_token_shows_its_spaces_and_breaks() -> None:
    assert token(" a\n\t\u200b") == "␣a⏎⇥⟨U+200B⟩"


def test_an_excerpt_keeps_the_marks_and_counts_what_it_leaves_out() -> None:
    text = "a" * 5000 + "HERE" + "b" * 5000
    pieces, left_out = excerpt(text, [[5000, 5004, 0.7]], limit=100)
    assert left_out == len(text) - 100
    assert Piece("HERE", 0.7) in pieces
    assert "characters]" in pieces[0].text
    assert "characters …]" in pieces[-1].text


def test_an_excerpt_chooses_the_stretch_with_most_marking() -> None:
    text = "x" * 3000
    pieces, _ = excerpt(text, [[10, 11, 0.1], [2000, 2010, 1.0], [2020, 2030, 1.0]], limit=100)
    assert [len(piece.text) for piece in pieces if piece.strength == 1.0] == [10, 10]


def test_marks_may_overlap_or_lie_outside() -> None:
    pieces, left_out = excerpt("abcdef", [[0, 3, 0.2], [2, 4, 0.9], [5, 99], [9, 12], [4, 4], [-2, 1, 0]], limit=100)
    assert [(piece.text, piece.strength) for piece in pieces] == [
        ("ab", 0.2),
        ("c", 0.9),
        ("d", 0.9),
        ("e", 0.0),
        ("f", 1.0),
    ]
    assert left_out == 0


# --- families and calibration -----------------------------------------------------------------------------------------


def test_families_are_ordered_by_the_interval_end_nearest_zero() -> None:
    wide = hypothesis("g-L1", concept("L1"), 0.5, width=0.45)
    narrow = hypothesis("g-L2", concept("L2"), -0.2, width=0.01)
    assert [rows[0]["id"] for rows in families([wide, narrow])] == ["g-L2", "g-L1"]
    assert near_zero({"ci_low": -0.1, "ci_high": 0.2}) == 0


def test_the_spokesman_of_a_family_is_confirmed() -> None:
    head = hypothesis("g-L1", concept("L1"), 0.5, confirmed=False)
    others = [hypothesis(f"g-L{n}", concept(f"L{n}"), 0.1 * n, family="g-L1") for n in (2, 3)]
    assert [[row["id"] for row in rows] for rows in families([head, *others])] == [["g-L3", "g-L2"]]


@pytest.mark.parametrize(
    ("share", "rejects", "state"),
    [
        (0.06, 0.1, "calibrated"),
        (0.061, 0.1, "not calibrated"),
        (0.05, 0.15, "not calibrated"),
        (0.05, 0.14, "calibrated"),
    ],
)
def test_calibration_holds_both_limits(share: float, rejects: float, state: str) -> None:
    null = {"null": "sharp", "view": "global", "share_p05": share, "any_rejection": rejects, "mc_se": 0.021}
    assert calibration([null])["state"] == state
    assert calibration([])["state"] == "not checked"


def test_a_share_that_few_draws_cannot_tell_from_the_limit_is_within_it() -> None:
    null = {"null": "sharp", "view": "prompt", "share_p05": 0.064, "any_rejection": 0.05, "mc_se": 0.021}
    assert calibration([null])["state"] == "not calibrated"
    assert calibration([null | {"share_se": 0.003}])["state"] == "calibrated"
    assert calibration([null | {"share_se": 0.001}])["state"] == "not calibrated"


def test_pairs_that_could_not_be_read_are_said_wherever_findings_are(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "s")
    lost = [
        {"pair_id": f"u{n}", "row": n, "reason": "prompt fills max_length", "found": "175 tokens"} for n in range(12)
    ]
    (study / "features").mkdir(exist_ok=True)
    write_json(study / "features" / "manifest.json", {"settings": {"refused": lost}})
    said = "12 of 512 accepted pairs were not read and are in no finding: prompt fills max_length (12)"
    assert said.replace("512", str(gather(study)["counts"]["n_pairs"] + 12)) in gather(study)["verdict"]["unread"]
    for text in (show_product(study), *(path.read_text() for path in write_report(study))):
        assert "pairs were not read" in " ".join(text.split())
    write_json(study / "features" / "manifest.json", {"settings": {"refused": []}})
    assert "not read" not in show_product(study)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_well_formed_and_every_headline_is_on_it(study: Path, page: Page) -> None:
    assert page.open == []
    for rows in families(made_study.hypotheses()):
        assert re.sub(r"\s+", " ", headline(rows[0])) in page.text.replace("\u00a0", " ")


def test_the_page_executes_and_fetches_nothing(source: str, page: Page) -> None:
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "img", "link", "base", "form", "input", "audio", "video"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset")], tag
        assert (attributes.get("href") or "#").startswith("#")
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import|@font-face|expression\(", style.group(1))


def test_the_policy_allows_the_one_style_by_its_hash_and_nothing_else(source: str, page: Page) -> None:
    policy = next(one["content"] for tag, one in page.tags if one.get("http-equiv") == "Content-Security-Policy")
    css = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert policy is not None
    assert css is not None
    digest = base64.b64encode(hashlib.sha256(css.group(1).encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_hostile_text_is_shown_and_never_obeyed(source: str, page: Page) -> None:
    assert "<script>alert(1)</script>" in page.text
    assert "<script" not in source
    assert "{{ 7*7 }}" in page.text
    assert not HIDDEN.search(source)


def test_no_form_of_the_report_holds_hidden_characters(study: Path) -> None:
    for name in ("report.html", "report.md", "report.json"):
        assert not HIDDEN.search((study / name).read_text(encoding="utf-8")), name


def test_every_link_inside_the_page_leads_somewhere(page: Page) -> None:
    ids = [one["id"] for _, one in page.tags if one.get("id")]
    assert len(ids) == len(set(ids))
    assert {str(one["href"])[1:] for _, one in page.tags if one.get("href")} <= set(ids)


def test_chosen_and_rejected_stand_beside_each_other_with_marks_and_rows(page: Page) -> None:
    assert "row 1" in page.text
    levels = {one["class"] for tag, one in page.tags if tag == "mark"}
    assert len(levels) > 1
    assert levels <= {"m1", "m2", "m3", "m4", "m5"}
    assert "1,500 of 4,925 characters, around the strongest marks." in page.text
    assert "rejected · does not show it" in page.text


def test_a_behaviour_counted_by_rule_is_not_told_in_latents(tmp_path: Path) -> None:
    by_rule = concept("L1", "em dash", "library") | {"id": "B-em_dash", "latents": [], "rule": "em_dash"}
    lean = {"rule": "em_dash", "measure": "present", "effect": 0.1, "ci_low": 0.05, "ci_high": 0.15, "holds": True}
    folder = made_study.make(tmp_path / "s", rows=[hypothesis("g-B-em_dash", by_rule, 0.1, namesake=lean)])
    write_report(folder)
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert "B-em_dash, counted by rule in the text; it has no latents" in text
    assert "0 latents" not in text


def test_every_cap_is_announced(page: Page) -> None:
    for said in (
        "6 of 6 families",
        "2 of 2, by id; not ranked",
        "(10 of 25, first in the file)",
        "2 of 2 example windows",
    ):
        assert said in page.text


def test_what_failed_is_visible_but_unranked(page: Page) -> None:
    assert "too few witnesses" in page.text
    assert "not confirmed; the halves disagree" in page.text


def test_refused_rows_are_told_with_reason_and_numbers(page: Page) -> None:
    assert "26 rows of the source were not taken." in page.text
    assert "5, 6, 7, 8, 9, 10, 11, 12, 13, 14" in page.text


def test_the_command_that_repeats_the_study_is_quoted_for_a_shell(page: Page) -> None:
    wanted = (
        "tiltscope audit 'data/pairs one.jsonl' --out study --sample 240 --model default --layer 15 --max-length 1024"
    )
    assert f"{wanted} --seed 0" in page.text


def test_nothing_confirmed_is_said_in_words_and_is_not_a_clean_bill(tmp_path: Path) -> None:
    rows = [row for row in made_study.hypotheses() if not row["confirmed"]]
    folder = made_study.make(tmp_path / "s", rows=rows)
    write_report(folder)
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert "Nothing was confirmed among" in text
    assert "That is not proof that these data teach nothing" in text
    assert "1 finding had too few witnesses" in text


def test_a_study_that_is_not_calibrated_says_so_first(tmp_path: Path) -> None:
    folder = made_study.make(tmp_path / "s")
    body = made_study.contrast()
    body["nulls"][3]["share_p05"] = 0.2
    made_study.write(folder / "contrast.json", body)
    write_report(folder, formats=["html"])
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert text.index("not calibrated") < text.index("Do not act on the findings below") < text.index("In all pairs")


def test_the_least_a_study_can_hold_makes_a_report_that_names_what_is_missing(tmp_path: Path) -> None:
    made_study.write(tmp_path / "hypotheses.json", made_study.hypotheses())
    write_report(tmp_path)
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    for name in ("study.json", "check.json", "contrast.json", "names.json", "evidence.json", "scope/scope.json"):
        assert name in text
    assert "not checked" in text


def test_json_and_markdown_say_what_the_page_says(study: Path) -> None:
    body = json.loads((study / "report.json").read_text(encoding="utf-8"))
    text = (study / "report.md").read_text(encoding="utf-8")
    assert [one["id"] for one in body["findings"]] == [rows[0]["id"] for rows in families(made_study.hypotheses())]
    for one in body["findings"]:
        assert f'<a id="{one["id"]}">' in text
    assert body["verdict"]["n_confirmed"] == 7
    assert body["verdict"]["n_tested"] == 1622 + 2410 + 803
    assert all("pair_ids" not in one["hypothesis"] for one in body["findings"])


def test_markdown_keeps_text_from_acting_as_markup(study: Path) -> None:
    text = (study / "report.md").read_text(encoding="utf-8")
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "\\<script\\>" in outside
    assert not re.search(r"(?<!\\)<script", outside)


def test_a_fence_in_a_text_cannot_end_its_block(tmp_path: Path) -> None:
    from tiltscope.report.markdown import _block

    block = _block("a\n```\n# b\n````")
    assert block.startswith("`````text\n")
    assert block.endswith("\n`````")


def test_the_same_study_gives_the_same_bytes(study: Path) -> None:
    before = [(study / f"report.{name}").read_bytes() for name in ("html", "md", "json")]
    write_report(study)
    assert [(study / f"report.{name}").read_bytes() for name in ("html", "md", "json")] == before


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="html, md, json"):
        write_report(Path("nowhere"), formats=["pdf"])


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("hypotheses.json", "{", "tiltscope contrast"),
        ("hypotheses.json", '[{"id": 1}]', "tiltscope contrast"),
        ("hypotheses.json", "{}", "tiltscope contrast"),
        ("refused.jsonl", '{"row": 1}', "tiltscope read"),
        ("names.json", "[", "tiltscope name"),
        ("check.json", "\x00", "tiltscope check"),
    ],
)
def test_a_damaged_product_is_refused_with_the_verb_to_rerun(tmp_path: Path, name: str, text: str, hint: str) -> None:
    folder = made_study.make(tmp_path / "s")
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ProductError, match=hint):
        write_report(folder)


def test_a_study_without_hypotheses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="tiltscope contrast"):
        write_report(tmp_path)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_draws_the_page_without_a_policy_violation(study: Path, tmp_path: Path, width: int) -> None:
    """The screenshot is styled (its card colour is not the default white-on-black) and the console has no violation."""
    picture = tmp_path / "page.png"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--enable-logging=stderr",
    ]
    size = [f"--window-size={width},900", f"--screenshot={picture}", f"--user-data-dir={tmp_path / 'profile'}"]
    url = (study / "report.html").resolve().as_uri()
    done = subprocess.run(["chromium", *flags, *size, url], capture_output=True, text=True, timeout=60)
    assert picture.stat().st_size > 20_000
    assert "Content Security Policy" not in done.stderr


# --- the terminal -----------------------------------------------------------------------------------------------------


def test_the_table_fits_the_terminal_and_keeps_ids_whole() -> None:
    text = render_hypotheses(made_study.hypotheses())
    assert max(width_of(line) for line in text.splitlines()) <= 80
    for rows in families(made_study.hypotheses()):
        assert rows[0]["id"] in text
    assert "6 of 6 families" in text
    assert "2 not confirmed (1 had too few witnesses)" in " ".join(text.split())
    assert not HIDDEN.search(text)


def test_a_limit_of_the_table_is_announced() -> None:
    assert "2 of 6 families" in render_hypotheses(made_study.hypotheses(), limit=2)
    assert "6 of 6 families" in render_hypotheses(made_study.hypotheses(), limit=0)


def test_nothing_confirmed_is_said_on_the_terminal_too() -> None:
    assert render_hypotheses([]).startswith("Nothing was confirmed.")


def test_a_trace_marks_the_firing_tokens_and_counts(study: Path) -> None:
    evidence = json.loads((study / "evidence.json").read_text())["g-L812"] | {"n_for": 412, "n_against": 31}
    text = render_trace(made_study.hypotheses()[0], evidence)
    assert "⟦**⟧a plan⟦**⟧" in text
    assert "Pairs that carry it: 4 of 412, strongest first" in text
    assert "Pairs drawn at random: 1 of 443" in text
    assert "700 of 4,925 characters" in text
    assert max(width_of(line) for line in text.splitlines()) <= 80
    assert not HIDDEN.search(text)


def test_colour_is_the_only_escape_a_trace_ever_holds(study: Path) -> None:
    evidence = json.loads((study / "evidence.json").read_text())["g-L812"]
    text = render_trace(made_study.hypotheses()[0], evidence, colour=True)
    assert "\x1b[1;4m**\x1b[0m" in text
    assert not HIDDEN.search(text.replace("\x1b[1;4m", "").replace("\x1b[0m", ""))


def test_every_product_can_be_shown(study: Path) -> None:
    made_study.write_tables(study, made_study.hypotheses())
    paths = [path for path in study.rglob("*") if path.is_file() and path.name != "pairs.manifest.json"]
    for path in [study, study / "scope", *paths]:
        for as_json in (False, True):
            text = show_product(path, as_json=as_json)
            assert text.strip(), path
            assert not HIDDEN.search(text), path
            if as_json and path.suffix in ("", ".json", ".jsonl", ".parquet", ".html", ".md"):
                json.loads(text)


def test_the_study_says_what_is_there_and_what_comes_next(study: Path) -> None:
    text = show_product(study)
    sentence = gather(study)["verdict"]["sentence"]
    assert sentence in " ".join(text.split())
    assert "were not read" not in text
    assert re.search(r"plan\.yaml\s+not there yet: tiltscope plan draft", text)
    assert "5 of 6 headlines" in text


def test_the_names_of_a_study_are_a_table(study: Path) -> None:
    assert re.search(r"L812\s+bold text\s+library\s+0\.91", show_product(study / "names.json"))


def test_a_path_that_is_no_product_is_refused_with_a_way_on(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"x")
    for path, hint in ((tmp_path, "audit"), (tmp_path / "photo.png", "one of"), (tmp_path / "gone", "lists what")):
        with pytest.raises(ProductError, match=hint):
            show_product(path)


@pytest.mark.parametrize("name", ["pairs.parquet", "sae.safetensors", "check.json", "refused.jsonl", "plan.yaml"])
def test_a_damaged_product_is_refused_when_shown(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{[\x00\xff damaged: [")
    with pytest.raises(ProductError, match=name.split(".")[0]):
        show_product(tmp_path / name)


def test_an_evaluation_and_a_comparison_are_shown_as_their_verbs_print_them(tmp_path: Path) -> None:
    from made_model import made_evaluation
    from tiltscope.evaluation import compare, write_comparison, write_evaluation
    from tiltscope.report.acts import render_comparison, render_evaluation

    arms = {name: [made_evaluation(tmp_path, name, rate, n_prompts=12)] for name, rate in (("a", 0.2), ("b", 0.8))}
    write_evaluation(arms["a"][0], tmp_path / "a")
    write_comparison(compare(arms), tmp_path / "ab" / "comparison.json")
    for folder, file, render in (("a", "evaluation", render_evaluation), ("ab", "comparison", render_comparison)):
        body = json.loads((tmp_path / folder / f"{file}.json").read_text())
        assert show_product(tmp_path / folder) == render(body)
        assert json.loads(show_product(tmp_path / folder, as_json=True)) == body


def test_the_header_of_a_tensor_file_is_shown_without_its_numbers(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"decoder": np.zeros((3, 4), np.float32)}, tmp_path / "sae.safetensors")
    assert re.search(r"decoder\s+F32 3×4", show_product(tmp_path / "sae.safetensors"))


def test_the_report_needs_no_torch_and_no_network() -> None:
    code = "import sys, tiltscope.report; assert not {'torch', 'jinja2', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def foretold(study: Path, features: str) -> None:
    trait = {"id": "bold", "name": "bold text", "now": 0.06, "after": 0.21, "low": 0.1, "high": 0.4, "push": 1.2}
    unit = {"latents": [3], "name": "bold <b>", "now": 0.1, "frequency_difference": 0.9}
    body = {"primary": "frequency_difference", "features": features, "n_pairs": 9, "n_own": 384, "outside": [7]}
    score = {"r2": 0.61, "low": 0.5, "high": 0.7, "spearman": 0.6, "r2_without": 0.5, "r2_line": None}
    card = {
        **{"primary": "frequency_difference", "features": features, "verdict": "scored", "why": "", "n_units": 80},
        **{"n_effective": 12.0, "n_prompts": 91, "n_seeds": 3, "repeat": 0.7, "ceiling": 0.88, "p_moved": 0.001},
        **{"scores": {"frequency_difference": score}, "nulls": {"swapped labels": 0.1}, "ceiling_elsewhere": 0.8},
    }
    local = {**card, "verdict": "nothing to predict", "why": "repeats agree at r = 0.11", "ceiling": 0.23}
    local["kinds"] = [{"id": "P3@20", "n_prompts": 18}]
    said = {"objective": "dpo", "said_by": "--objective"}
    card |= {"traits": [], "conditional": local, "objective": said}
    (study / "prediction").mkdir(exist_ok=True)
    (study / "prediction" / "forecast.json").write_text(json.dumps({**body, "traits": [trait], "units": [unit]}))
    (study / "prediction" / "card.json").write_text(json.dumps(card))


def told(study: Path) -> tuple[str, str]:
    write_report(study)
    return (study / "report.html").read_text(encoding="utf-8"), (study / "report.md").read_text(encoding="utf-8")


def test_a_forecast_and_its_card_stand_in_the_report_and_those_of_other_features_do_not(tmp_path: Path) -> None:
    study = made_study.make(tmp_path / "study")
    features = json.loads((study / "study.json").read_text()).get("features")
    foretold(study, features)
    page = told(study)[0]
    assert "Forecast of plain training" in page
    assert "bold &lt;b&gt;" in page
    assert "0.61 [+0.50, +0.70]" in page
    assert "null: swapped labels" in page
    assert "nothing to predict: repeats agree at r = 0.11" in page
    assert "Forecast of plain training" in told(study)[1]
    path = study / "prediction" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "n_in_study": 7}))
    assert "Careful: 7 of the 91 prompts are prompts of the study" in told(study)[0]
    foretold(study, "of another study")
    assert "Forecast of plain training" not in told(study)[0]


def test_no_bar_of_a_dry_run_lies_across_0_and_every_line_fits() -> None:
    from dataclasses import asdict

    from tiltscope.interventions import Scored, Wish, prepare
    from tiltscope.recipe import empty_recipe
    from tiltscope.report.acts import render_prepared

    chosen = np.array([4.0, 3, 0, 1, 0, 0])
    scored = Scored(chosen, np.array([0.0, 0, 2, 1, 0, 0]), np.ones(6, bool))
    shape = Wish("a concept with a name of some length, as clusters have", "suppress", "reward_shaping", 30.0)
    drop = Wish("drop", "suppress", "example_filtering", 0.2)
    done = prepare(empty_recipe(list("abcdef"), "dpo"), [(shape, scored), (drop, scored)])
    decisions = [asdict(one) | {"quality": None} for one in done.changes]
    meeting = {"overlaps": [asdict(one) for one in done.overlaps], "conflicts": [asdict(one) for one in done.conflicts]}
    rates = [{"name": "n" * 70, "start": 0.04, "plain": 0.06, "wanted": None, "reached": 1.0}]
    product = {"n_pairs": 6, "n_trained": 5, "objective": "dpo", "is_plain": False, "log": [], "rates": rates}
    lines = render_prepared(product | meeting | {"decisions": decisions}).splitlines()
    bars = [line.split() for line in lines if " … " in line]
    assert len(bars) == 8
    assert [bar[:3] for bar in bars if "0" in (bar[0], bar[2])] == [["−15.15", "…", "0"], ["0", "…", "+18.18"]]
    assert not [bar for bar in bars if bar[0][0] == "−" and bar[2][0] == "+"]
    counts = [(line.split()[0], line.split()[-1]) for line in lines if "█" in line]
    assert ("0", "3") in counts  # the pairs that the decision leaves as they are
    assert ("1.00", "5") in counts
    assert max(map(len, lines)) <= 80


def test_a_run_with_one_held_out_pair_is_told_without_a_spread() -> None:
    from dataclasses import asdict

    from tiltscope.report.acts import render_run
    from tiltscope.training.moved import HeldOut, moved
    from tiltscope.training.rows import TokenSequence

    chosen, rejected = TokenSequence((1,), (2, 3), (1, 1)), TokenSequence((1,), (4, 5), (1, 1))
    before, after = ({chosen.key: a, rejected.key: b} for a, b in ((-3.0, -3.0), (-2.0, -3.5)))
    found = moved(HeldOut(((chosen, rejected),)), before, after, None)
    run = {"folder": "out", "n_rows": 7, "n_steps": 1, "objective": "dpo", "losses": (), "dropped": {}}
    told = " ".join(render_run(run | {"n_cut_tokens": 0, "moved": asdict(found)}).split())
    assert "margin +1.500 nats one held-out pair cannot say whether" in told
