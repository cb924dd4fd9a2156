"""The pages are true: generated ones are fresh, commands parse, examples load, and what is named or linked is there."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from tiltscope.behaviours import RULES
from tiltscope.cli import main
from tiltscope.interventions import METHODS
from tiltscope.plan import load_plan

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
INTERVENTIONS = [ROOT / "docs" / "interventions.md", *sorted((ROOT / "docs" / "interventions").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


@pytest.fixture(scope="module")
def make_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_command_line_is_fresh(make_docs: ModuleType) -> None:
    written = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert written == make_docs.page(), "run scripts/make_docs.py"


def test_every_verb_explains_itself_with_an_example_that_parses(make_docs: ModuleType) -> None:
    for path, command in make_docs.commands(main, ("tiltscope",)):
        if isinstance(command, click.Group):
            continue
        assert f"  {' '.join(path)} " in (command.help or ""), f"{path} has no example"
        lines = [line.split() for line in (command.help or "").splitlines() if line.startswith(f"  {' '.join(path)} ")]
        for words in lines:
            command.make_context(" ".join(path), words[len(path) :])  # parses the options, runs nothing


def test_every_option_says_what_it_does(make_docs: ModuleType) -> None:
    silent = [
        f"{' '.join(path)} {option.opts[0]}"
        for path, command in make_docs.commands(main, ("tiltscope",))
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []


# --- what a person would type -----------------------------------------------------------------------------------------


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words after `tiltscope` of every command on a page: in code blocks, under a launcher, and in the text."""
    text = page.read_text("utf-8")
    for _, block in FENCED.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if re.search(r"(^|-m |\s)tiltscope ", line) else []
            runs = words[:1] == ["tiltscope"] or words[:2] == ["$", "tiltscope"] or "=" in (words or [""])[0]
            if "tiltscope" in words and (runs or words[0] == "accelerate"):
                yield words[words.index("tiltscope") + 1 :]
    for inline in re.findall(r"`tiltscope ([^`]+)`", FENCED.sub("", text)):
        yield shlex.split(inline.replace("\n", " "))


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = main
    while isinstance(command, click.Group):
        assert words[0] in command.commands, f"there is no verb {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=lambda page: page.name)
def test_every_command_on_a_page_names_a_verb_and_options_that_are_there(page: Path) -> None:
    for line in command_lines(page):
        command, words = command_of(line)
        parser = command.make_parser(click.Context(command))  # knows names and numbers of values; opens no file
        _, left, _ = parser.parse_args(args=words)
        assert left == [], f"tiltscope {' '.join(line)}: too many arguments"


def test_the_commands_of_the_pages_are_found() -> None:
    found = {page.name: len(list(command_lines(page))) for page in PAGES}
    assert found["training.md"] > 8
    assert found["tutorial.md"] > 15
    command, words = command_of(["train", "study", "--outt", "run"])
    parser = command.make_parser(click.Context(command))
    with pytest.raises(click.NoSuchOption):
        parser.parse_args(args=words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_the_pages_leads_somewhere(page: Path) -> None:
    for target, heading in LINK.findall(FENCED.sub("", page.read_text("utf-8"))):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if heading and file.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", FENCED.sub("", file.read_text("utf-8")), re.MULTILINE)
            assert heading in {slug(title) for title in titles}, f"{page.name} links to {target}#{heading}"


def slug(title: str) -> str:
    """The anchor that a heading has on GitHub."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


# --- interventions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_and_every_function_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", text)) - there == set()
    for name in set(re.findall(r"`(tiltscope(?:\.\w+)+)`", text)):
        assert resolves(name), name


def resolves(name: str) -> bool:
    """Whether a dotted name is a module or in one; what needs an extra is not looked into without it."""
    try:
        pkgutil.resolve_name(name)
    except AttributeError:
        return False
    except ModuleNotFoundError as error:
        return not (error.name or "").startswith("tiltscope")
    return True


def plans(page: Path) -> list[str]:
    return [block for kind, block in FENCED.findall(page.read_text("utf-8")) if kind == "yaml"]


@pytest.mark.parametrize("page", INTERVENTIONS, ids=lambda page: page.name)
def test_every_plan_on_a_page_about_interventions_loads(page: Path, tmp_path: Path) -> None:
    for text in plans(page):
        path = tmp_path / "plan.yaml"
        path.write_text(text, encoding="utf-8")
        assert load_plan(path, known_ids=[rule.id for rule in RULES]).active


def test_every_method_has_a_plan_and_says_what_it_cannot_do() -> None:
    pages = {page.stem: page.read_text("utf-8") for page in INTERVENTIONS[1:]}
    written = "".join(text for page in INTERVENTIONS[1:] for text in plans(page))
    assert [method for method in METHODS if f"method: {method}\n" not in written] == []
    heads = ("**What.**", "**When.**", "**When not.**", "## Strength and units", "## What this cannot do")
    assert [(name, head) for name, text in pages.items() for head in heads if head not in text] == []
