"""What a model does, and what training changed.

In:  a function from prompts to answers, behaviours, prompts.
Out: `Evaluation` per model, `Comparison` of arms, tables, examples side by side, a one-page report for buyers.
Refuses: to know what a model is: whoever answers is a function. Errors and abstentions are never answers.
"""

from __future__ import annotations

from tiltscope.evaluation.answers import Answer, AnswerFunction, EvaluationSettings
from tiltscope.evaluation.buyer import buyer_content, buyer_html, buyer_markdown
from tiltscope.evaluation.compare import Arm, Change, Comparison, compare, read_comparison, write_comparison
from tiltscope.evaluation.crossed import Estimate, crossed_mean
from tiltscope.evaluation.endpoint import EndpointAnswers
from tiltscope.evaluation.evaluate import (
    Evaluation,
    Rate,
    Scores,
    evaluate,
    read_evaluation,
    with_values,
    write_evaluation,
)
from tiltscope.evaluation.examples import Example, blinded
from tiltscope.evaluation.heldout import prompts_in
from tiltscope.evaluation.judge import Judge, JudgeCounts
from tiltscope.evaluation.tables import as_markdown, as_text

__all__ = [
    "Answer",
    "AnswerFunction",
    "Arm",
    "Change",
    "Comparison",
    "EndpointAnswers",
    "Estimate",
    "Evaluation",
    "EvaluationSettings",
    "Example",
    "Judge",
    "JudgeCounts",
    "Rate",
    "Scores",
    "as_markdown",
    "as_text",
    "blinded",
    "buyer_content",
    "buyer_html",
    "buyer_markdown",
    "compare",
    "crossed_mean",
    "evaluate",
    "prompts_in",
    "read_comparison",
    "read_evaluation",
    "with_values",
    "write_comparison",
    "write_evaluation",
]
