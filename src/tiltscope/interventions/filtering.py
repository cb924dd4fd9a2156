"""Filtering: examples that teach a concept are dropped, down-weighted or flipped; tokens that carry it get no loss.

In:  a recipe, a wish, scores or marked character spans. Out: the recipe with weights, flips or masks.
Refuses: amplify by token filtering, flipping SFT examples, shares outside (0, 1), spans outside their text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tiltscope.interventions.signs import standard_scores, turned
from tiltscope.interventions.wishes import Scored, Wish, check, check_without_strength, refusal, strength_of
from tiltscope.recipe import SIDES, Recipe, Spans, is_seen, sign

__all__ = ["DOWN_WEIGHT", "example_filtering", "flip", "token_filtering", "unite"]

DOWN_WEIGHT = 0.5
_WORDS = {"drop": "left out", "down": "at half weight", "flip": "trained the other way round"}


def example_filtering(recipe: Recipe, wish: Wish, scored: Scored) -> Recipe:
    """Take the share rho of the pairs inside that the concept explains most, and drop, down-weight or flip them.

    Ranked by sign (s(y+) - s(y-)), of the row as it is trained; SFT: by sign s(y). A row that does not lean that way
    (SFT: is not beyond the average answer) is never taken, so fewer than rho may be; the log says so. Ties go by
    pair id.
    Raises `UsageError`.
    """
    check(recipe, wish, scored)
    share = strength_of(wish, below=1.0)
    if wish.effect not in _WORDS:
        raise refusal(wish, "unknown effect", found=repr(wish.effect), hint="drop, down, flip")
    if wish.effect == "flip" and recipe.objective == "sft":
        raise refusal(wish, "SFT examples have no other side to flip to", hint="effect: drop, or down")
    scores = standard_scores(wish, scored)
    lean = scores.chosen if recipe.objective == "sft" else turned(recipe) * (scores.chosen - scores.rejected)
    lean = sign(wish.action) * lean
    wanted = _count(share, int(scored.inside.sum()))
    rows = _highest(recipe.pair_ids, np.where(scored.inside & (lean > 0), lean, -np.inf), wanted)
    line = _filter_line(wish, rows, wanted, lean[scored.inside])
    if wish.effect == "flip":
        return flip(recipe, rows).with_line(line)
    by = 0.0 if wish.effect == "drop" else DOWN_WEIGHT
    return replace(recipe, weights=np.where(rows, recipe.weights * by, recipe.weights)).with_line(line)


def _count(share: float, n: int) -> int:
    return max(1, round(share * n)) if share > 0 and n > 0 else 0


def _highest(pair_ids: tuple[str, ...], lean: np.ndarray, count: int) -> np.ndarray:
    order = np.lexsort((np.array(pair_ids, dtype=str), -lean))[:count]
    rows = np.zeros(len(lean), bool)
    rows[order] = np.isfinite(lean[order])
    return rows


def _filter_line(wish: Wish, rows: np.ndarray, wanted: int, lean: np.ndarray) -> str:
    n = int(rows.sum())
    line = f"{wish.name}: {wish.action} by example filtering, {wish.strength:.3g} of {len(lean)} inside: "
    line += f"{n} {_WORDS[wish.effect]}"
    if n < wanted:
        line += f" (not {wanted}: no more rows lean that way)"
    elif n:
        cut = np.sort(lean)[::-1][n - 1]
        tied = int(np.isclose(lean, cut).sum() - np.isclose(np.sort(lean)[::-1][:n], cut).sum())
        line += f" ({tied} more have the same score as the last one)" if tied else ""
    return line


def flip(recipe: Recipe, rows: np.ndarray) -> Recipe:
    """Train these rows (n,) bool the other way round.

    Offsets are differences of the row as it is trained, so they change sign. Instructions and vectors belong to the
    chosen or rejected part of the row as it is trained, and masks to their text: they stay as they are.
    """
    offsets = np.where(rows, -recipe.offsets_nats, recipe.offsets_nats)
    return replace(recipe, flipped=recipe.flipped ^ rows, offsets_nats=offsets)


def token_filtering(recipe: Recipe, wish: Wish, scored: Scored) -> Recipe:
    """Give the marked spans no loss, on both sides unless the wish names one; it can only suppress.

    Spans unite with those of earlier decisions. A pair one of whose answers keeps no visible character (white space
    alone teaches nothing of it) is left out (weight 0) and counted in the log. Sides are those of the dataset, also on
    flipped rows. Raises `UsageError`.
    """
    check(recipe, wish, scored)
    check_without_strength(wish)
    if wish.action == "amplify":
        hint = "choose reward_shaping, activation_steering or inoculation_prompting"
        raise refusal(wish, "token filtering cannot amplify: it only takes tokens away", hint=hint)
    if recipe.objective == "sft" and wish.side == "rejected":
        raise refusal(wish, "SFT trains the chosen answer only", found="side: rejected", hint="side: chosen")
    rows = [(one, i) for i, one in enumerate(recipe.pair_ids) if scored.inside[i]]
    masked = {side: dict(getattr(recipe, f"{side}_masked")) for side in SIDES}
    empty: set[int] = set()
    for side in _sides(recipe, wish):
        empty |= _mask(masked[side], wish, scored, side, rows)
    weights = recipe.weights.copy()
    weights[sorted(empty)] = 0.0
    changed = replace(recipe, weights=weights, chosen_masked=masked["chosen"], rejected_masked=masked["rejected"])
    n = sum(
        getattr(recipe, f"{side}_masked").get(one) != spans for side in SIDES for one, spans in masked[side].items()
    )
    line = f"{wish.name}: suppress by token filtering: {n} answers masked in part"
    line += f", {len(empty)} pairs left out because an answer keeps no visible character" if empty else ""
    return changed.with_line(line)


def _sides(recipe: Recipe, wish: Wish) -> tuple[str, ...]:
    if recipe.objective == "sft":
        return ("chosen",)
    return SIDES if wish.side in (None, "both") else (str(wish.side),)


def _mask(masked: dict[str, Spans], wish: Wish, scored: Scored, side: str, rows: list[tuple[str, int]]) -> set[int]:
    """Unite the marked spans of one side into `masked`, and return the rows that keep nothing there."""
    spans: Mapping[str, Spans] = getattr(scored, f"{side}_spans")
    texts: Sequence[str] | None = getattr(scored, f"{side}_texts")
    if texts is None and spans:
        raise refusal(wish, f"the {side} answers are not known", hint="give the texts to prepare, or in Scored")
    empty = set()
    for one, i in rows:
        if not spans.get(one) or texts is None:
            continue
        masked[one] = unite((*masked.get(one, ()), *spans[one]))
        if masked[one][0][0] < 0 or masked[one][-1][1] > len(texts[i]) or any(a >= b for a, b in spans[one]):
            found = f"{spans[one][:3]} in {len(texts[i])} characters, {side} answer of pair {one!r}"
            raise refusal(wish, "a marked span lies outside its text", found=found, hint="rerun: tiltscope measure")
        if not is_seen(_left(texts[i], masked[one])):
            empty.add(i)
    return empty


def _left(text: str, masked: Spans) -> str:
    """What a text has outside these spans, which are sorted and do not overlap."""
    starts, ends = [0, *(end for _, end in masked)], [*(start for start, _ in masked), len(text)]
    return "".join(text[a:b] for a, b in zip(starts, ends, strict=True))


def unite(spans: Spans) -> Spans:
    """Return the union of character spans, sorted, without overlap.

    >>> unite(((5, 9), (0, 3), (2, 4)))
    ((0, 4), (5, 9))
    """
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
