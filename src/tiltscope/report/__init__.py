"""Any product of a study becomes something a person can read.

In:  a study folder, or one product of it.
Out: `write_report` (one HTML file, Markdown, JSON), `headline` (one finding in plain words), and for the terminal
     `render_hypotheses`, `render_trace` and `show_product`.
Refuses: to compute a statistic. Text from data, models and endpoints is shown, never obeyed: markup is escaped, and
     characters that hide or reorder text are written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiltscope.errors import UsageError
from tiltscope.report.content import families
from tiltscope.report.show import show_product
from tiltscope.report.terminal import render_hypotheses, render_trace
from tiltscope.report.text import anchor, signed, visible, wrapped
from tiltscope.report.tree import relatives
from tiltscope.report.words import headline

__all__ = [
    "anchor",
    "families",
    "headline",
    "relatives",
    "render_hypotheses",
    "render_trace",
    "show_product",
    "signed",
    "visible",
    "wrapped",
    "write_report",
]

FORMATS = ("html", "md", "json")


def write_report(study: Path, *, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write report.html, report.md and report.json (or some of them) into a study and return their paths.

    Raises:
        UsageError: a format that is not one of html, md, json.
        ProductError: the study has no hypotheses.json, or a product is damaged.
    """
    from tiltscope.artifact import write_json, write_text
    from tiltscope.report.content import gather
    from tiltscope.report.markdown import markdown
    from tiltscope.report.page import html

    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UsageError(f"there is no report format {unknown[0]!r}", hint=f"one of: {', '.join(FORMATS)}")
    content = gather(study)
    written = []
    for name in dict.fromkeys(formats):
        path = study / f"report.{name}"
        if name == "json":
            write_json(path, content)
        else:
            write_text(path, html(content) if name == "html" else markdown(content))
        written.append(path)
    return written
