"""A plan is folded over its methods, and what every decision changes is told: the free dry run.

In:  a recipe, wishes with what was measured for each, and (for examples) the texts.
Out: `Prepared`: the recipe, one `Change` per decision taken alone, overlaps and conflicts between them.
Refuses: an unknown method, and a plan that leaves no row to train on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tiltscope.errors import UsageError
from tiltscope.interventions.conflicts import Alone, Conflict, Overlap, conflicts, overlaps
from tiltscope.interventions.context import activation_steering, inoculation_prompting
from tiltscope.interventions.filtering import example_filtering, token_filtering
from tiltscope.interventions.shaping import inoculation_ratio, reward_shaping, steering_ratio
from tiltscope.interventions.wishes import Scored, Wish, refusal
from tiltscope.recipe import SIDES, Recipe, Spans, Steering

__all__ = ["METHODS", "Change", "Histogram", "Marked", "Prepared", "apply", "prepare"]

METHODS: dict[str, Callable[[Recipe, Wish, Scored], Recipe]] = {
    "reward_shaping": reward_shaping,
    "example_filtering": example_filtering,
    "token_filtering": token_filtering,
    "activation_steering": activation_steering,
    "steering_ratio": steering_ratio,
    "inoculation_prompting": inoculation_prompting,
    "inoculation_ratio": inoculation_ratio,
}
_EXAMPLES, _WINDOW_CHARS, _BINS = 10, 40, 8

Texts = Mapping[str, tuple[str, str]]  # pair id -> (chosen answer, rejected answer)


@dataclass(frozen=True)
class Histogram:
    """Counts between edges: len(edges) = len(counts) + 1. No bin lies across 0, and exact zeros are counted apart."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    n_zero: int


@dataclass(frozen=True)
class Marked:
    """One masked span with up to 40 characters around it."""

    pair_id: str
    side: str
    before: str
    marked: str
    after: str


@dataclass(frozen=True)
class Change:
    """What one decision changes by itself, before any other decision of the plan. Ids are pair ids."""

    name: str
    action: str
    method: str
    n_inside: int
    n_touched: int
    dropped: tuple[str, ...]
    down_weighted: tuple[str, ...]
    flipped: tuple[str, ...]
    n_answers_masked: int
    n_chars_masked: int
    examples: tuple[Marked, ...]
    offsets_nats: Histogram | None  # over the pairs inside; None without offsets
    weights: Histogram | None  # over the pairs inside; None without weights
    instructions: tuple[str, ...]
    vectors: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """The recipe of a plan, and what its decisions change, share and contradict."""

    recipe: Recipe
    changes: tuple[Change, ...]
    overlaps: tuple[Overlap, ...]
    conflicts: tuple[Conflict, ...]


def apply(recipe: Recipe, wish: Wish, scored: Scored) -> Recipe:
    """Return the recipe with one more decision, by the method the wish names. Raises `UsageError`."""
    method = METHODS.get(wish.method)
    if method is None:
        raise refusal(wish, "unknown method", found=repr(wish.method), hint=", ".join(METHODS))
    return method(recipe, wish, scored)


def prepare(recipe: Recipe, decided: Sequence[tuple[Wish, Scored]], *, texts: Texts | None = None) -> Prepared:
    """Fold the decisions over the recipe, in order: offsets add, weights multiply, masks unite.

    texts: pair id -> (chosen, rejected) answers, for marked examples and for token filtering.
    Raises `UsageError` where a decision cannot be carried out or where no row is left.
    """
    decided = [(wish, _with_texts(recipe, scored, texts)) for wish, scored in decided]
    done, alone = recipe, []
    for wish, scored in decided:
        done = apply(done, wish, scored)
        alone.append(Alone(wish, scored, recipe, apply(recipe, wish, scored)))
    changes = tuple(_change(one, texts) for one in alone)
    if not (done.weights > 0).any():
        raise _nothing_left(changes, len(recipe.pair_ids))
    return Prepared(done, changes, overlaps(alone), conflicts(alone))


def _with_texts(recipe: Recipe, scored: Scored, texts: Texts | None) -> Scored:
    if texts is None or scored.chosen_texts is not None:
        return scored
    missing = [one for one in recipe.pair_ids if one not in texts]
    if missing:
        raise UsageError("answers are missing among the texts", found=f"{len(missing)} pairs, first {missing[0]!r}")
    chosen, rejected = ([texts[one][i] for one in recipe.pair_ids] for i in range(2))
    return replace(scored, chosen_texts=chosen, rejected_texts=rejected)


def _nothing_left(changes: Sequence[Change], n: int) -> UsageError:
    takers = [f"{one.name} leaves out {len(one.dropped)}" for one in changes if one.dropped]
    return UsageError(
        "this plan leaves no pair to train on",
        found=f"{n} pairs; " + ("; ".join(takers) or "the recipe began with weights of 0"),
        hint="lower the strength of example filtering, choose effect: down, or mask fewer tokens",
    )


def _change(alone: Alone, texts: Texts | None) -> Change:
    wish, inside, before, after = alone.wish, alone.scored.inside, alone.before, alone.after
    lost = after.weights < before.weights
    spans = {side: _new_spans(before, after, side) for side in SIDES}
    new_steering = after.steering[len(before.steering) :] if wish.method == "activation_steering" else ()
    return Change(
        name=wish.name,
        action=wish.action,
        method=wish.method,
        n_inside=int(inside.sum()),
        n_touched=int(alone.touched.sum()),
        dropped=_ids(before, lost & (after.weights == 0)),
        down_weighted=_ids(before, lost & (after.weights > 0)),
        flipped=_ids(before, after.flipped != before.flipped),
        n_answers_masked=sum(len(one) for one in spans.values()),
        n_chars_masked=sum(_chars(after, side) - _chars(before, side) for side in SIDES),
        examples=_examples(spans, texts) if texts else (),
        offsets_nats=_histogram((after.offsets_nats - before.offsets_nats)[inside]),
        weights=_histogram(after.weights[inside]) if (after.weights != before.weights).any() else None,
        instructions=_instructions(before, after),
        vectors=tuple(_vector_line(one) for one in new_steering),
        lines=after.log[len(before.log) :],
    )


def _ids(recipe: Recipe, rows: np.ndarray) -> tuple[str, ...]:
    return tuple(one for one, is_in in zip(recipe.pair_ids, rows, strict=True) if is_in)


def _new_spans(before: Recipe, after: Recipe, side: str) -> dict[str, Spans]:
    old: Mapping[str, Spans] = getattr(before, f"{side}_masked")
    new: Mapping[str, Spans] = getattr(after, f"{side}_masked")
    return {one: spans for one, spans in new.items() if old.get(one) != spans}


def _chars(recipe: Recipe, side: str) -> int:
    return sum(b - a for spans in getattr(recipe, f"{side}_masked").values() for a, b in spans)


def _examples(spans: Mapping[str, Mapping[str, Spans]], texts: Texts) -> tuple[Marked, ...]:
    """Return up to ten masked spans, the first of an answer each, evenly spread over the masked answers."""
    found = [(one, side, held[0]) for side, by_id in spans.items() for one, held in by_id.items()]
    picked = sorted({round(i) for i in np.linspace(0, len(found) - 1, min(_EXAMPLES, len(found)))})
    return tuple(_marked(found[i][0], found[i][1], found[i][2], texts) for i in picked)


def _marked(pair_id: str, side: str, span: tuple[int, int], texts: Texts) -> Marked:
    text = texts[pair_id][SIDES.index(side)]
    start, end = span
    before, after = text[max(0, start - _WINDOW_CHARS) : start], text[end : end + _WINDOW_CHARS]
    return Marked(pair_id, side, before, text[start:end], after)


def _histogram(values: np.ndarray) -> Histogram | None:
    """At most `_BINS` bins of about one width on each side of 0."""
    shown = values[values != 0]
    if len(shown) == 0:
        return None
    low, high = min(0.0, float(shown.min())), max(0.0, float(shown.max()))
    if low == 0 or high == 0:  # all on one side: from the smallest to the largest, one bin where they are the same
        edges = np.linspace(shown.min(), shown.max(), 1 + (_BINS if np.ptp(shown) else 1))
    else:
        n_below = min(_BINS - 1, max(1, round(_BINS * -low / (high - low))))
        edges = np.append(np.linspace(low, 0, n_below + 1), np.linspace(0, high, _BINS - n_below + 1)[1:])
    counts, _ = np.histogram(shown, bins=edges)
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()), int((values == 0).sum()))


def _instructions(before: Recipe, after: Recipe) -> tuple[str, ...]:
    lines = []
    for side in SIDES:
        old: Mapping[str, str] = getattr(before, f"{side}_instruction")
        new: Mapping[str, str] = getattr(after, f"{side}_instruction")
        fresh = [text for one, text in new.items() if old.get(one) != text]
        lines += [f"{side} ({fresh.count(text)} pairs): {text}" for text in sorted(set(fresh))]
    return tuple(lines)


def _vector_line(one: Steering) -> str:
    n = "all" if one.pair_ids is None else str(len(one.pair_ids))
    return f"layer {one.layer}, {one.side} ({n} pairs): length {float(np.linalg.norm(one.vector)):.4g}"
