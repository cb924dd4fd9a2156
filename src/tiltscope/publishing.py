"""A run goes to a Hub repository, private unless said otherwise, with a card that says how it was trained.

In:  a run folder, and where there are any, the plan and a comparison.
Out: model/README.md, and the folder model/ uploaded.
Refuses: to publish without being asked, to make a repository public by default, and a run that is not finished.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiltscope.artifact import read_object, write_text
from tiltscope.errors import ModelError, UsageError
from tiltscope.plan import load_plan, unspoken

__all__ = ["check_repo", "model_card", "publish"]


def model_card(run: Path, *, plan: Path | None = None, comparison: Path | None = None) -> str:
    """Return the card of a run: what it started from, its settings, the decisions, and what moved.

    Raises `ProductError` where the run is not finished or a product is damaged.
    """
    facts = read_object(run / "run.json", "model", "objective", "settings", "inputs", "results", verb="train")
    lines = ["---", "library_name: transformers", "tags: [tiltscope, preference-data]", "---", ""]
    lines += [f"# Trained with Tiltscope from {_plain(facts['model'])}", ""]
    lines += [f"{facts['objective'].upper()}, {facts['results']['n_rows']} rows, {facts['results']['n_steps']} steps. "]
    lines += ["Nothing of an intervention (prompt, vector, mask) is part of this model.", "", "## Settings", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {_plain(value)} |" for name, value in facts["settings"].items())]
    lines += ["", "## Made from", "", *(f"- {name}: `{value}`" for name, value in facts["inputs"].items())]
    moved = facts["results"]["moved"]
    lines += ["", "## Did training move the model?", "", _plain(moved["note"])]
    lines += _decisions(plan) if plan is not None and plan.exists() else ["", "Trained without a plan."]
    if comparison is not None:
        table = comparison / "comparison.md" if comparison.is_dir() else comparison
        lines += ["", "## What changed", "", table.read_text(encoding="utf-8")]
    return "\n".join(lines) + "\n"


def _decisions(plan: Path) -> list[str]:
    loaded = load_plan(plan, known_ids=None)
    lines = [
        "",
        "## Decisions",
        "",
        "| concept | action | method | strength or aim | reason |",
        "|---|---|---|---|---|",
    ]
    for one in loaded.decisions:
        if one.action != "undecided":
            how = one.strength if one.strength is not None else one.aim_rate
            cells = (one.name, one.action, one.method or "", "" if how is None else how, one.reason)
            lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    n_open = len(loaded.undecided) + len(unspoken(plan.parent, loaded))
    return [*lines, "", f"{n_open} findings were left undecided, to plain training."]


def _plain(value: object) -> str:
    """A value in a Markdown table cell: nothing of it can become markup."""
    from tiltscope.report import visible

    text = " ".join(visible(str(value)).split())
    for char in "\\`*_[]<>#|":
        text = text.replace(char, f"&#{ord(char)};")
    return text


def check_repo(repo: str) -> None:
    """Raise `UsageError` where this is no OWNER/NAME of a Hub repository, before anything is trained for it."""
    part = r"(?![.-])[A-Za-z0-9._-]{1,96}(?<![.-])"
    if re.fullmatch(f"{part}/{part}", repo) is None or "--" in repo or ".." in repo:
        hint = f"--push OWNER/{repo}" if re.fullmatch(part, repo) else "letters, digits, -, _ and . : --push OWNER/NAME"
        raise UsageError("this is no name of a Hub repository", found=repo or "an empty name", hint=hint)


def publish(run: Path, repo: str, *, public: bool = False, cards: Mapping[str, Path | None] | None = None) -> str:
    """Upload RUN/model with its card and return the address; a new repository is private unless `public`.

    cards: `plan` and `comparison` for the card. Raises `ModelError` where the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # Its base is the error of the HTTP client, which is another one in every version (requests, httpx, httpx2); what
    # uploads large files raises RuntimeError.
    failures: tuple[type[Exception], ...] = (HfHubHTTPError.__mro__[1], HFValidationError, OSError, RuntimeError)

    held = dict(cards or {})
    write_text(run / "model" / "README.md", model_card(run, plan=held.get("plan"), comparison=held.get("comparison")))
    api: Any = HfApi()
    try:
        address = api.create_repo(repo, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=str(run / "model"))
    except failures as error:
        raise ModelError(
            "the model could not be uploaded; it is whole on this machine",
            where=repo,
            found=str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__,
            hint=f"log in with `hf auth login`, then the same command again; the model is in {run / 'model'}",
        ) from error
    return str(address)
