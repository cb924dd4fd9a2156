"""Measures without sampling: what a model makes of held-out answers that it did not write.

In:  a model; held-out pairs, whose answers are the text; a person's sentences.
Out: {measure: {pair id: value}}: the NLL of the chosen answer; how likely the model would begin each style in either
     answer (openings); what it gives to the sentences in the middle of the chosen answer (nats).
Refuses: a file of sentences that is no mapping from ids to text.

A rate of few answers per prompt is a coarse number. These are fine ones: every model is asked at the same places of the
same texts, so that the interval of a difference is narrow, and what a small training does to something rare is seen
long before samples show it. What they leave out: the text that the model would write itself is other text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltscope.artifact import fingerprint
from tiltscope.behaviours import rule
from tiltscope.errors import UsageError
from tiltscope.evaluation import Evaluation, Scores
from tiltscope.pairs import Pair
from tiltscope.written import Written, read_written

if TYPE_CHECKING:
    from tiltscope.lm import Policy, Rendered

__all__ = [
    "OPENINGS",
    "STYLES",
    "Forced",
    "Opening",
    "forced_scores",
    "held_out_nll",
    "openings",
    "read_sentences",
    "said",
    "with_forced",
]

Progress = Callable[[str, int, int], None]
Values = dict[str, dict[str, float]]

_AT_ONCE = 16  # sentences that share one reading of their prefix
_N_NLL = 64


@dataclass(frozen=True)
class Forced:
    """What is asked beside the NLL."""

    openings: bool = False
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{id: sentences}, as `read_sentences` reads them."""

    @property
    def key(self) -> list[object]:
        """What the values depend on, beside model and pairs; empty where nothing is asked."""
        said = [["said", id, *some] for id, some in self.sentences.items()]
        return [*([["openings", *STYLES]] if self.openings else []), *said]


def with_forced(
    evaluation: Evaluation, policy: Policy, rows: Sequence[Pair], asked: Forced, *, progress: Progress | None = None
) -> Evaluation:
    """Return the evaluation with the measures of `forced_scores`, the sentences that were read and what is left out."""
    scores = forced_scores(policy, rows, asked, progress=progress)
    sentences = {f"said/{id}": some for id, some in asked.sentences.items()}
    measured = {one.id for one in scores}
    missing = [style for style in STYLES if f"openings/{style}" not in measured] if asked.openings else []
    notes = tuple(f"openings/{style} is left out: no token of this vocabulary begins it" for style in missing)
    return replace(evaluation, scores=(*evaluation.scores, *scores), sentences=sentences, notes=notes)


def forced_scores(
    policy: Policy, rows: Sequence[Pair], asked: Forced, *, progress: Progress | None = None
) -> tuple[Scores, ...]:
    """Return the NLL and every measure that is asked, one value per pair.

    A definition says what was read: evaluations of other sentences, or of answers cut elsewhere, are not compared.

    Raises:
        UsageError: no pair has room for the sentences.
    """
    read = f"prompt and answer up to {policy.renderer.max_length} tokens"
    nll = held_out_nll(policy, rows[:_N_NLL], progress=progress)
    told = [_scores("nll", nll, "held-out NLL", "nats per token", f"NLL per token of the chosen answer; {read}")]
    for style, values in openings(policy, rows, progress=progress).items() if asked.openings else ():
        name = f"begins: {rule(style).name}"
        how = fingerprint([one.token for one in OPENINGS if one.style == style])
        definition = f"How likely the model would begin {rule(style).name}, mean of both answers; {read} ({how})"
        told.append(_scores(f"openings/{style}", values, name, "probability", definition))
    for id, values in said(policy, rows, asked.sentences, progress=progress).items() if asked.sentences else ():
        some = asked.sentences[id]
        if not values:
            raise UsageError(
                "no held-out answer leaves room for the sentences",
                found=f"{len(rows)} pairs, {read}",
                hint="a larger --max-length, or shorter sentences",
            )
        definition = f"Log-probability of {some[0]!r} and {len(some) - 1} more; {read} ({fingerprint(list(some))})"
        told.append(_scores(f"said/{id}", values, f"log-probability of {id.replace('_', ' ')}", "nats", definition))
    return tuple(told)


def _scores(id: str, values: Mapping[str, float], name: str, unit: str, definition: str) -> Scores:
    column = np.array([[value] for value in values.values()])
    wanted = "less" if id == "nll" else None
    return Scores(id, name, "value", unit, wanted, "target", definition, tuple(values), column)


# --- openings ---------------------------------------------------------------------------------------------------------


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
    """A style begins with a token like `token`, a regex of its whole text, where the answer so far suits `after`."""

    style: str
    """The id of the library's rule."""
    token: str
    after: Callable[[str], bool] = _anywhere


OPENINGS = (
    Opening("bold", r"[^*]*\*{2,3}[^*]*", _outside),
    Opening("bulleted_list", r" ?[-*+•‣◦▪●]", _line),
    Opening("numbered_list", r" ?\d+", _line),
    Opening("heading", r" ?#{1,6}", _line),
    Opening("table", r" ?\|.*", _line),
    Opening("horizontal_rule", r" ?(?:-{3,}|\*{3,}|_{3,})", _line),
    # Of most the first bytes, as byte-level and SentencePiece vocabularies write what is no letter, or one whole.
    Opening("emoji", "\ufffd(?:Ġ?ð(?!Ŀ).*|<0xF0>)| ?[\U0001f000-\U0001faff].*"),
    Opening("exclamation", r"[^!=]*!+[^!=]*"),
    Opening("colon", r"[^:]*:(?![:/]).*"),
    Opening("parentheses", r"[^(]*\(.*"),
    Opening("paragraph_break", r"[^\n]*\n\n.*", _mid_line),
    Opening("paragraph_break", r"\n.*", _after_break),
)
STYLES = tuple(dict.fromkeys(one.style for one in OPENINGS))


def openings(policy: Policy, rows: Sequence[Pair], *, progress: Progress | None = None) -> Values:
    """Return {style: {pair id: probability that the model would begin the style, mean of the two answers}}.

    Along each answer, 1 - prod(1 - p) over the places where the style can begin, up to and with the first at which the
    answer itself begins it; p is the probability of the tokens that begin it. What comes after a first opening is not
    asked, because there nearly every model goes on. Answers are read up to the policy's max_length; pairs that cannot
    be rendered are left out, and so is a style that no token of the vocabulary begins: of it nothing can be said.
    """
    from tiltscope.lm import next_token_mass

    texts = [(row.id, text, answer) for row in rows for text, answer in _both(policy, row)]
    begins = beginners(policy)
    can_begin = {one.style for one, tokens in zip(OPENINGS, begins.T, strict=True) if tokens.any()}
    told: Values = {style: {} for style in STYLES if style in can_begin}
    found = next_token_mass(policy, [text for _, text, _ in texts], begins)
    for done, (i, mass) in enumerate(found, 1):
        id, text, answer = texts[i]
        can = places(answer, text.response.starts)
        begun = begins[np.array(text.ids)[text.response.positions]] * can
        for style, values in told.items():
            mine = [number for number, one in enumerate(OPENINGS) if one.style == style]
            chance = first_chance((mass * can)[:, mine].sum(axis=1), begun[:, mine].any(axis=1))
            values[id] = values.get(id, 0.0) + chance / 2
        if progress:
            progress("openings", done, len(texts))
    return {style: {row.id: values[row.id] for row in rows if row.id in values} for style, values in told.items()}


def first_chance(p: np.ndarray, begun: np.ndarray) -> float:
    """1 - prod(1 - p) up to and with the first place that is begun.

    >>> round(first_chance(np.array([0.5, 0.5, 0.5]), np.array([False, True, False])), 2)
    0.75
    """
    last = int(begun.argmax()) + 1 if begun.any() else len(p)
    return float(1 - np.prod(1 - np.minimum(p[:last], 1.0)))


def _both(policy: Policy, row: Pair) -> list[tuple[Rendered, str]]:
    """Both answers as tokens, or neither."""
    from tiltscope.lm import Unreadable

    try:
        return [(policy.renderer.render(row.prompt, text), text) for text in (row.chosen, row.rejected)]
    except Unreadable:
        return []


def places(answer: str, starts: np.ndarray) -> np.ndarray:
    """(n_tokens, len(OPENINGS)): whether a style can begin at the token that starts at this character."""
    can = [[one.after(answer[:start]) for one in OPENINGS] for start in starts]
    return np.array(can, float).reshape(-1, len(OPENINGS))


def beginners(policy: Policy) -> np.ndarray:
    """(vocabulary, len(OPENINGS)) bool: whether a token is one that begins the style."""
    known = max(policy.renderer.tokenizer.get_vocab().values()) + 1
    rows = policy.model.get_output_embeddings().weight.shape[0]  # may be padded beyond the tokenizer's entries
    texts = [token_text(policy.renderer.tokenizer, id) if id < known else "" for id in range(rows)]
    rules = [re.compile(one.token, re.DOTALL) for one in OPENINGS]
    return np.array([[rule.fullmatch(text) is not None for rule in rules] for text in texts])


def token_text(tokenizer: Any, id: int) -> str:
    """A token's text; of a part of a letter the bytes as the vocabulary writes them, behind U+FFFD."""
    text = str(tokenizer.decode([id]))
    return f"\ufffd{tokenizer.convert_ids_to_tokens(id)}" if "\ufffd" in text else text


# --- sentences --------------------------------------------------------------------------------------------------------


def read_sentences(path: Path) -> dict[str, tuple[str, ...]]:
    """Read sentences to measure: a YAML mapping from an id to one sentence or a list of them.

    Raises:
        UsageError: the file cannot be used; with file:line.
    """
    body = read_written(path)
    example = 'goblin: ["A goblin said so.", "Goblins agree."]'
    if not isinstance(body.value, dict):
        raise body.refused("the file of sentences is not a mapping from ids to sentences", hint=example)
    made = {}
    for id, held in body.value.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", id):
            raise held.refused("an id is lower-case letters, digits and _", found=id)
        made[id] = tuple(dict.fromkeys(_sentence(one) for one in held.entries()))
        if not made[id]:
            raise held.refused(f"there are no sentences under {id!r}", hint=example)
    if not made:
        raise body.refused("there are no sentences in it", hint=example)
    return made


def _sentence(here: Written) -> str:
    """The text of one sentence; what YAML reads as something else needs quotes."""
    if isinstance(here.value, str) and here.value.strip():
        return here.value.strip()
    if isinstance(here.value, dict):
        hint = 'a text with ": " in it needs quotes: "Note: it is so."'
    elif isinstance(here.value, list):
        hint = "write one list, not a list in a list"
    else:
        hint = f'in quotes it is text: "{here.text}"' if here.text.strip() else "a sentence holds a word at least"
    raise here.refused("a sentence is a text", hint=hint)


def said(
    policy: Policy,
    rows: Sequence[Pair],
    sentences: Mapping[str, Sequence[str]],
    *,
    progress: Progress | None = None,
) -> Values:
    """Return {id: {pair id: summed log-probability (nats) of a sentence, mean over the id's sentences}}.

    A sentence stands after the end of the sentence nearest to the middle of the chosen answer. Pairs in which one of
    the sentences does not fit into the policy's max_length are left out, of all ids.
    """
    from tiltscope.lm import Branches, branch_logps

    every = [(id, one) for id, some in sentences.items() for one in some]
    told: Values = {id: {} for id in sentences}
    for done, row in enumerate(rows, 1):
        prefix = opening_part(row.chosen)
        found = _after(policy, row, prefix, [one for _, one in every])
        nats: list[float] = []
        for at in range(0, len(found), _AT_ONCE):
            some = found[at : at + _AT_ONCE]
            nats += branch_logps(policy, Branches.of([ids for ids, _ in some], [span for _, span in some])).tolist()
        for id in told if nats else ():
            told[id][row.id] = float(np.mean([n for n, (of, _) in zip(nats, every, strict=True) if of == id]))
        if progress:
            progress("sentences", done, len(rows))
    return told


def opening_part(text: str) -> str:
    """A text up to the end of the sentence nearest to its middle, the number of a list being none; or the whole of it.

    >>> opening_part("One. Two. Three.")
    'One. Two.'
    """
    ends = [match.end() for match in re.finditer(r"(?<!\d)[.!?](?=\s|$)", text)] or [len(text)]
    return text[: min(ends, key=lambda end: abs(end - len(text) / 2))]


def _after(
    policy: Policy, row: Pair, prefix: str, sentences: Sequence[str]
) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """(ids, positions of the sentence's tokens) of every sentence after the prefix, or none where one does not fit."""
    from tiltscope.lm import Unreadable

    found = []
    for sentence in sentences:
        space = "" if not prefix or prefix[-1].isspace() else " "
        try:
            text = policy.renderer.render(row.prompt, prefix + space + sentence)
        except Unreadable:
            return []
        span = text.response.positions[text.response.ends > len(prefix)]
        if text.n_cut or not len(span):
            return []
        found.append((text.ids, span))
    return found


# --- NLL --------------------------------------------------------------------------------------------------------------


def held_out_nll(policy: Policy, rows: Sequence[Pair], *, progress: Progress | None = None) -> dict[str, float]:
    """{pair id: mean NLL per token of the chosen answer}: what the model says of text it was not trained on."""
    from tiltscope.lm import Unreadable, response_logps

    texts = {}
    for row in rows:
        try:
            texts[row.id] = policy.renderer.render(row.prompt, row.chosen)
        except Unreadable:
            continue
    totals = response_logps(policy, list(texts.values()), progress=progress)
    lengths = [len(text.ids) - text.n_prompt_ids for text in texts.values()]
    return {id: float(-total / n) for id, total, n in zip(texts, totals.tolist(), lengths, strict=True)}
