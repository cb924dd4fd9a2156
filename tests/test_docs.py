"""The generated pages are those that the code generates, and every verb shows an example."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import click
import pytest

from tiltscope.cli import main

ROOT = Path(__file__).parent.parent


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
