"""The dull explanations of a lean: length, markdown, punctuation, single words.

In:  the texts of the pairs, and which of them are the explore half.
Out: one number per pair and baseline: chosen minus rejected.
Refuses: to learn the bag-of-words direction from the pairs it is asked of: each half is asked of what the other taught.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tiltscope.pairs import Pair

__all__ = ["BASELINES", "baseline_differences", "markdown_share", "punctuation_share"]

BASELINES = ("length", "markdown", "punctuation", "bag_of_words")

_MARKDOWN = re.compile(
    r"\*\*[^*\n]+\*\*|__[^_\n]+__|^\s{0,8}(?:[-*+•]|\d{1,3}[.)])\s|^#{1,6}\s.*$|^\s*\|.*\|\s*$|^\s*(?:-{3,}|\*{3,}|_{3,})\s*$"
    r"|`[^`\n]+`|^```.*$|\[[^\]\n]+\]\([^)\n]+\)",
    re.MULTILINE,
)
_PUNCTUATION = re.compile(r"[^\w\s]")


def markdown_share(text: str) -> float:
    """Return the share of characters inside markdown marks (bold, lists, headings, tables, rules, code, links)."""
    return sum(match.end() - match.start() for match in _MARKDOWN.finditer(text)) / max(len(text), 1)


def punctuation_share(text: str) -> float:
    """Return the share of characters that are neither word characters nor white space."""
    return len(_PUNCTUATION.findall(text)) / max(len(text), 1)


def baseline_differences(
    rows: Sequence[Pair], log_tokens_chosen: np.ndarray, log_tokens_rejected: np.ndarray, explore: np.ndarray
) -> dict[str, np.ndarray]:
    """Return chosen minus rejected per pair for each of `BASELINES`, each (n_pairs,) float64.

    length is in log tokens; markdown and punctuation are shares of characters; bag_of_words is the log-odds of "chosen"
    under a ridge logistic regression on word presence, fitted on the half (`explore` or not) that the pair is not in.
    """
    return {
        "length": log_tokens_chosen - log_tokens_rejected,
        "markdown": np.array([markdown_share(pair.chosen) - markdown_share(pair.rejected) for pair in rows]),
        "punctuation": np.array([punctuation_share(pair.chosen) - punctuation_share(pair.rejected) for pair in rows]),
        "bag_of_words": np.where(explore, _bag_of_words(rows, ~explore), _bag_of_words(rows, explore)),
    }


def _bag_of_words(rows: Sequence[Pair], learn: np.ndarray) -> np.ndarray:
    from scipy import sparse
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    learned_from = np.flatnonzero(learn).tolist()
    if len(learned_from) < 2:
        return np.zeros(len(rows))
    words = CountVectorizer(binary=True, min_df=2, max_features=20_000, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
    try:
        words.fit([text for i in learned_from for text in (rows[i].chosen, rows[i].rejected)])
    except ValueError:  # no word occurs twice: there is no direction to learn
        return np.zeros(len(rows))
    difference = words.transform([pair.chosen for pair in rows]) - words.transform([pair.rejected for pair in rows])
    train = difference[learned_from].astype(np.float64)
    both = sparse.vstack([train, -train]).tocsr()
    label = np.repeat([1, 0], len(learned_from))
    fitted = LogisticRegression(C=0.1, fit_intercept=False, max_iter=500, solver="liblinear").fit(both, label)
    return np.asarray(difference @ fitted.coef_.ravel(), np.float64)
