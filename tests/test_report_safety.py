"""The page is safe to open: it fetches nothing, runs nothing, hides nothing, and stays small."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import made_study
from tiltscope.report import render_hypotheses, render_trace, show_product, write_report
from tiltscope.report.text import width_of

HIDDEN = "\u202e\u202c\u200b\x1b"


class Page(HTMLParser):
    """Tags, attributes and the text outside of style of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return made_study.make(tmp_path / "s")


def source_of(study: Path) -> str:
    write_report(study)
    return (study / "report.html").read_text(encoding="utf-8")


def test_no_script_no_frame_and_nothing_from_elsewhere(study: Path) -> None:
    source = source_of(study)
    page = Page(source)
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & set(page.tags)
    assert "@import" not in source
    assert "url(" not in source
    fetching = {"src", "srcset", "action", "background", "poster", "data", "ping"}
    assert [one for one in page.attributes if one[1] in fetching or one[1].startswith("on")] == []
    assert all(value.startswith("#") for _, name, value in page.attributes if name in {"href", "xlink:href"})


def test_the_policy_forbids_what_the_page_does_not_need(study: Path) -> None:
    policies = [value for tag, name, value in Page(source_of(study)).attributes if (tag, name) == ("meta", "content")]
    (policy,) = [value for value in policies if "default-src" in value]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy  # so default-src holds: none


def test_text_from_the_data_is_shown_and_never_obeyed(study: Path) -> None:
    source = source_of(study)
    assert "<script>alert" not in source
    assert "&lt;script&gt;alert(1)" in source
    assert "{{ 7*7 }}" in source  # not 49: the text was never a template
    for name in ("report.html", "report.md", "report.json"):
        text = (study / name).read_text(encoding="utf-8")
        assert not any(char in text for char in HIDDEN), name


def test_every_link_of_the_page_leads_somewhere(study: Path) -> None:
    page = Page(source_of(study))
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, name, value in page.attributes if name == "href"} <= set(ids)


def test_findings_are_read_without_a_script_in_plain_words(study: Path) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", source_of(study))).replace("\xa0", " ")
    assert "Training on this will teach: more bold text" in text
    assert "fewer em dashes" in text


def test_two_hundred_families_make_a_page_that_opens_fast(tmp_path: Path) -> None:
    concepts = [made_study.concept(f"L{n}", f"habit {n}", "library", tokens=("a", "b")) for n in range(212)]
    rows = [made_study.hypothesis(f"g-{one['id']}", one, 0.4 - n / 1000) for n, one in enumerate(concepts)]
    study = made_study.make(tmp_path / "s", rows=rows)
    traced = {kind: [made_study.example(n, 1.0) for n in range(4)] for kind in ("for", "against", "random")}
    made_study.write(study / "evidence.json", {row["id"]: traced for row in rows[:60]})
    source = source_of(study)
    assert len(source.encode()) < 5_000_000
    ids = [value for _, name, value in Page(source).attributes if name == "id"]
    assert source.count("<article") == 30
    assert {row["id"] for row in rows} <= set(ids)  # the plan's links lead to the table for the rest
    for name in ("report.html", "report.md"):
        assert "30 of 212 families in full, behaviours and words first" in (study / name).read_text(encoding="utf-8")
    assert "g-L211" in (study / "report.md").read_text(encoding="utf-8")


def test_what_a_limit_leaves_out_is_announced(tmp_path: Path) -> None:
    weak = {"confirmed": False, "verdict": "not confirmed", "q": 0.4}
    concepts = [made_study.concept(f"L{n}") for n in range(301)]
    rows = [made_study.hypothesis(f"g-{one['id']}", one, 0.1, **weak) for one in concepts]
    assert "200 of 301" in source_of(made_study.make(tmp_path / "s", rows=rows))
    many = [made_study.hypothesis(f"g-{one['id']}", one, 0.1) for one in concepts]
    assert "20 of 301" in render_hypotheses(many)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_terminal_forms_fit_the_terminal_and_hide_nothing(width: int) -> None:
    rows = made_study.hypotheses()
    pairs = {kind: [made_study.example(n, 1.0) for n in range(4)] for kind in ("for", "against", "random")}
    for text in (render_hypotheses(rows, width=width), render_trace(rows[4], pairs, width=width)):
        assert [line for line in text.splitlines() if width_of(line) > width] == []
        assert not any(char in text for char in HIDDEN)


def test_every_product_of_a_study_can_be_shown(study: Path) -> None:
    from tiltscope.plan import write_draft

    write_report(study)
    write_draft(study)
    made_study.write_tables(study, made_study.hypotheses())
    products = [path for path in study.rglob("*") if path.is_file()]
    assert len(products) > 10
    for path in [study, study / "scope", *products]:
        for as_json in (False, True):
            text = show_product(path, as_json=as_json)
            assert text, path
            assert not any(char in text for char in HIDDEN), path
