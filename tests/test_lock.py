"""What the scripts install is what pyproject.toml asks for, at exact versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def locked(*names: str) -> dict[str, str]:
    lines = [line for name in names for line in (ROOT / "requirements" / f"{name}.txt").read_text("utf-8").splitlines()]
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(str(pin.specifier).startswith("==") for pin in pins)
    return {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pins}


@pytest.mark.parametrize(
    ("asked", "files"),
    [
        (PROJECT["dependencies"], ("run",)),
        (PROJECT["optional-dependencies"]["torch"], ("run", "torch")),
        (PROJECT["optional-dependencies"]["train"][1:], ("run",)),  # the first is the torch extra itself
        (PROJECT["optional-dependencies"]["dev"], ("run", "test")),
    ],
    ids=["core", "torch", "train", "dev"],
)
def test_every_dependency_is_locked_within_its_range(asked: list[str], files: tuple[str, ...]) -> None:
    pins = locked(*files)
    for requirement in map(Requirement, asked):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in requirements/"
        assert requirement.specifier.contains(version), f"{requirement} does not allow the locked {version}"


def test_nothing_is_locked_twice() -> None:
    files = ("run", "test", "torch", "model")
    assert len(locked(*files)) == sum(len(locked(name)) for name in files)


def test_the_version_is_the_same_wherever_it_is_written() -> None:
    version = PROJECT["version"]
    assert re.search(rf'__version__ = "{re.escape(version)}"', (ROOT / "src/tiltscope/__init__.py").read_text("utf-8"))
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
