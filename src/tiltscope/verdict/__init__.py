"""May this go out? Limits against a comparison, or against an audit before any training.

In:  LIMITS.yaml, and a `Comparison` or the rows of hypotheses.json.
Out: one `Verdict`: an outcome per rule, an exit code (0 pass, 1 fail, 5 inconclusive), JSON, JUnit XML, Markdown.
Refuses: an empty or misspelt gate (`UsageError`, exit 2); to pass what was not measured or not measured well enough.
"""

from __future__ import annotations

from tiltscope.verdict.judging import Result, Verdict, judge, judge_data
from tiltscope.verdict.limits import GRAMMAR, DataRule, Limits, Rule, read_limits
from tiltscope.verdict.writing import as_json, as_junit, as_markdown, as_text, draft_limits, write_verdict

__all__ = [
    "GRAMMAR",
    "DataRule",
    "Limits",
    "Result",
    "Rule",
    "Verdict",
    "as_json",
    "as_junit",
    "as_markdown",
    "as_text",
    "draft_limits",
    "judge",
    "judge_data",
    "read_limits",
    "write_verdict",
]
