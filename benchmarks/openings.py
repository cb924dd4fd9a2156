"""How often a model would begin bold text, a list, a heading: expected openings, teacher forced, without sampling.

At every place of a given answer where a style can begin, the model's probability that the next token begins it; summed
over the answer. A sampled rate of two answers per prompt is 0, .5 or 1; this is a number, and the same places are asked
of every model, so that a difference between two models has a narrow interval. What it leaves out is that one opening
makes the next more likely: that, only sampling shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiltscope.lm import Policy, Rendered


def _anywhere(before: str) -> bool:
    return True


def _line(before: str) -> bool:
    return before.rstrip(" \t")[-1:] in ("", "\n")


def _outside(before: str) -> bool:
    return before.count("**") % 2 == 0


def _mid_line(before: str) -> bool:
    return before != "" and not before.endswith("\n")


def _after_break(before: str) -> bool:
    return before.endswith("\n") and not before.endswith("\n\n")


@dataclass(frozen=True)
class Opening:
    """A style begins with a token like `token` (the whole of its text) where the answer so far satisfies `after`."""

    style: str
    token: str
    after: Callable[[str], bool] = _anywhere


OPENINGS = (
    Opening("bold", r"[^*]*\*{2,3}[^*]*", _outside),
    Opening("bulleted_list", r" ?[-*+•‣◦▪●]", _line),
    Opening("numbered_list", r" ?\d+", _line),
    Opening("heading", r" ?#{1,6}", _line),
    Opening("table", r" ?\|.*", _line),
    Opening("horizontal_rule", r" ?(?:-{3,}|\*{3,}|_{3,})", _line),
    Opening("emoji", r"Ġ?ð.*"),  # the first byte of most, in the letters byte-level vocabularies write bytes with
    Opening("exclamation", r"[^!=]*!+[^!=]*"),
    Opening("colon", r"[^:]*:(?![:/]).*"),
    Opening("parentheses", r"[^(]*\(.*"),
    Opening("paragraph_break", r"[^\n]*\n\n.*", _mid_line),
    Opening("paragraph_break", r"\n.*", _after_break),
)
STYLES = tuple(dict.fromkeys(one.style for one in OPENINGS))


def expected(policy: Policy, texts: Sequence[Rendered], answers: Sequence[str]) -> np.ndarray:
    """(n_texts, len(STYLES)) expected number of openings in each answer, as rendered (what was cut is not asked)."""
    import torch

    begins = _begins(policy)
    told = np.zeros((len(texts), len(STYLES)))
    for at, (text, answer) in enumerate(zip(texts, answers, strict=True)):
        places = text.response.positions
        can = _places(answer, text.response.starts)
        with torch.inference_mode():
            ids = torch.tensor([text.ids], device=policy.device)
            states = policy.model.model(input_ids=ids, use_cache=False).last_hidden_state[0]
            logits = policy.model.lm_head(states[torch.as_tensor(places - 1, device=policy.device)]).float()
            mass = (torch.softmax(logits, dim=-1) @ begins.to(logits.device)).cpu().numpy()
        np.add.at(told[at], [STYLES.index(one.style) for one in OPENINGS], (mass * can).sum(axis=0))
    return told


def _places(answer: str, starts: np.ndarray) -> np.ndarray:
    """(n_tokens, len(OPENINGS)): whether a style can begin at the token that starts at this character."""
    return np.array([[one.after(answer[:start]) for one in OPENINGS] for start in starts], float).reshape(
        -1, len(OPENINGS)
    )


def _begins(policy: Policy) -> Any:
    """(vocabulary, len(OPENINGS)): whether a token is one that begins the style."""
    import torch

    n = policy.model.lm_head.out_features
    known = len(policy.renderer.tokenizer)
    texts = [policy.renderer.token_text(id) if id < known else "" for id in range(n)]
    rules = [re.compile(one.token, re.DOTALL) for one in OPENINGS]
    return torch.tensor([[float(rule.fullmatch(text) is not None) for rule in rules] for text in texts])
