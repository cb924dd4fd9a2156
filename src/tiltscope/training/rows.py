"""Pairs and a recipe, as the tokens that are trained on.

In:  pairs, a recipe aligned with them by pair id, and the renderer that reading and evaluation use as well.
Out: `TokenRows`: per row two answers (SFT: one) as ids, each with what counts in the loss, the prompt that the policy
     sees, the prompt that the reference sees, and where steering starts; and how many rows fell out, by reason.
Refuses: pairs that the recipe does not know, and a set of rows of which none is left.

Masks belong to the pair's own chosen and rejected text. Offsets, instructions and steering belong to the row as it is
trained: in a flipped row the pair's rejected answer is the chosen one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from tiltscope.artifact import fingerprint
from tiltscope.errors import UsageError
from tiltscope.lm import Rendered, Renderer, Unreadable
from tiltscope.pairs import Pair, Turn, with_instruction
from tiltscope.recipe import SIDES, Recipe, Spans, is_seen

__all__ = ["TokenAnswer", "TokenRow", "TokenRows", "TokenSequence", "plain_sequence", "split_held_out", "token_rows"]

HELD_OUT_PAIRS = 200


@dataclass(frozen=True)
class TokenSequence:
    """A conversation whose log-prob is summed over the answer's tokens where `mask` is 1."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    mask: tuple[int, ...]

    @property
    def key(self) -> str:
        """Changes with everything that the summed log-prob depends on, but the model."""
        return fingerprint([self.prompt_ids, self.ids, self.mask])


@dataclass(frozen=True)
class TokenAnswer:
    """One side of a row. `steer_from` counts from the start of the prompt; `steered` has bit k for vector k."""

    policy: TokenSequence
    reference: TokenSequence
    steer_from: int
    steered: int
    n_cut: int


@dataclass(frozen=True)
class TokenRow:
    """A row as it is trained; `rejected` is None for SFT."""

    pair_id: str
    chosen: TokenAnswer
    rejected: TokenAnswer | None
    weight: float
    offset: float


@dataclass(frozen=True)
class TokenRows:
    """The rows, how many fell out by reason, and how many answer tokens lay beyond max_length."""

    rows: tuple[TokenRow, ...]
    dropped: Mapping[str, int]
    n_cut_tokens: int


class _Dropped(Exception):
    """One row that cannot be trained on; the message is its reason."""


def token_rows(rows: Sequence[Pair], recipe: Recipe, renderer: Renderer) -> TokenRows:
    """Return the pairs as the recipe trains them, in their own order.

    Rows of weight 0 are left out. Raises `UsageError` where a pair is not in the recipe, or where no row is left.
    """
    at = {pair_id: i for i, pair_id in enumerate(recipe.pair_ids)}
    strange = [pair.id for pair in rows if pair.id not in at]
    if strange:
        raise UsageError(
            "the recipe was made for other pairs",
            found=f"{len(strange)} of {len(rows)} pairs are not in it, the first is {strange[0]}",
            hint="rerun: tiltscope prepare",
        )
    kept: list[TokenRow] = []
    dropped: Counter[str] = Counter()
    for pair in rows:
        try:
            kept.append(_token_row(pair, at[pair.id], recipe, renderer))
        except (_Dropped, Unreadable) as error:
            dropped[error.reason if isinstance(error, Unreadable) else str(error)] += 1
    if not kept:
        raise _nothing_left(dropped, recipe)
    n_cut = sum(side.n_cut for row in kept for side in (row.chosen, row.rejected) if side)
    return TokenRows(tuple(kept), dict(dropped), n_cut)


def _nothing_left(dropped: Counter[str], recipe: Recipe) -> UsageError:
    """Say why no row is left: all pairs are held out, no answer can be rendered, or the recipe takes everything."""
    if not dropped:
        found, hint = "all pairs are held out", "train on more pairs, or write held_out_share: 0 into the --config file"
    else:
        found = ", ".join(f"{n} {reason}" for reason, n in dropped.most_common())
        hint = "look at the weights and masks of this recipe: tiltscope prepare"
        if recipe.is_plain:
            hint = "read these pairs with a larger --max-length or another --template: tiltscope read"
    return UsageError("no row is left to train on", found=found, hint=hint)


def _token_row(pair: Pair, i: int, recipe: Recipe, renderer: Renderer) -> TokenRow:
    if recipe.weights[i] == 0:
        raise _Dropped("weight 0")
    texts = {"chosen": (pair.chosen, recipe.chosen_masked), "rejected": (pair.rejected, recipe.rejected_masked)}
    own = SIDES[::-1] if recipe.flipped[i] else SIDES
    answers: list[TokenAnswer] = []
    for side, source in zip(SIDES, own, strict=True):
        if side == "rejected" and recipe.objective == "sft":
            break
        text, masked = texts[source]
        told = (recipe.chosen_instruction if side == "chosen" else recipe.rejected_instruction).get(pair.id)
        answer = _answer(pair.prompt, told, text, masked.get(pair.id, ()), renderer)
        answers.append(replace(answer, steered=_steered(recipe, pair.id, side)))
    rejected = answers[1] if len(answers) > 1 else None
    return TokenRow(pair.id, answers[0], rejected, float(recipe.weights[i]), float(recipe.offsets_nats[i]))


def _answer(
    prompt: tuple[Turn, ...], instruction: str | None, text: str, masked: Spans, renderer: Renderer
) -> TokenAnswer:
    """An instruction makes the policy's prompt longer: both sums run over the answer tokens that are left to both."""
    plain = renderer.render(prompt, text)
    seen = prompt if instruction is None else _instructed(prompt, instruction)
    told = plain if instruction is None else renderer.render(seen, text)
    n_kept = min(len(one.ids) - one.n_prompt_ids for one in (plain, told))
    mask = _mask(told, text, n_kept, masked)
    policy = TokenSequence(told.ids[: told.n_prompt_ids], told.ids[told.n_prompt_ids :][:n_kept], mask)
    reference = TokenSequence(plain.ids[: plain.n_prompt_ids], plain.ids[plain.n_prompt_ids :][:n_kept], mask)
    return TokenAnswer(policy, reference, _last_turn_start(seen, told), 0, told.n_cut)


def _instructed(prompt: tuple[Turn, ...], instruction: str) -> tuple[Turn, ...]:
    if _last_user(prompt) is None:
        raise _Dropped("no user turn to put the instruction in")
    return with_instruction(prompt, instruction)


def _last_user(prompt: Sequence[Turn]) -> int | None:
    return max((i for i, turn in enumerate(prompt) if turn.role == "user"), default=None)


def _mask(rendered: Rendered, answer: str, n_kept: int, masked: Spans) -> tuple[int, ...]:
    """A token that overlaps a masked span does not count; the end of turn, which has no characters, always does.

    An answer of which only white space would count is dropped: it would teach nothing but where to break lines.
    """
    mask = np.ones(n_kept, np.int64)
    tokens = rendered.response
    places = tokens.positions - rendered.n_prompt_ids
    for start, end in masked:
        mask[places[(tokens.starts < end) & (tokens.ends > start) & (places < n_kept)]] = 0
    spans = zip(places.tolist(), tokens.starts.tolist(), tokens.ends.tolist(), strict=True)
    left = (answer[start:end] for place, start, end in spans if place < n_kept and mask[place])
    if masked and not any(map(is_seen, left)):
        raise _Dropped("mask leaves no visible token of an answer")
    return tuple(mask.tolist())


def _last_turn_start(prompt: Sequence[Turn], text: Rendered) -> int:
    """The first token of the last user turn's content; without one, the first of the answer."""
    at = _last_user(prompt)
    if at is None:
        return text.n_prompt_ids
    base = sum(len(turn.content) + len("\n\n") for turn in prompt[:at])
    inside = text.prompt.positions[text.prompt.starts >= base]
    return int(inside[0]) if len(inside) else text.n_prompt_ids


def _steered(recipe: Recipe, pair_id: str, side: str) -> int:
    bits = 0
    for number, one in enumerate(recipe.steering):
        if one.side in (side, "both") and (one.pair_ids is None or pair_id in one.pair_ids):
            bits |= 1 << number
    return bits


def plain_sequence(pair: Pair, side: str, renderer: Renderer) -> TokenSequence:
    """Return one answer of a pair without any recipe. Raises `Unreadable`."""
    text = renderer.render(pair.prompt, getattr(pair, side))
    ids = text.ids[text.n_prompt_ids :]
    return TokenSequence(text.ids[: text.n_prompt_ids], ids, (1,) * len(ids))


def split_held_out(rows: Sequence[Pair], share: float) -> tuple[list[Pair], list[Pair]]:
    """Return (rows to train on, held-out rows): whole groups by a hash of their name, at most 200 held-out pairs.

    A group falls on the same side whatever the other rows are, but for the limit.
    """
    place = {group: int(fingerprint("held out", group), 16) / 16**16 for group in {pair.group for pair in rows}}
    sizes = Counter(pair.group for pair in rows)
    held: set[str] = set()
    n_held = 0
    for group in sorted(place, key=lambda one: (place[one], one)):
        if place[group] >= share or n_held + sizes[group] > HELD_OUT_PAIRS:
            break
        held.add(group)
        n_held += sizes[group]
    return [p for p in rows if p.group not in held], [p for p in rows if p.group in held]


def dataset_columns(rows: Sequence[TokenRow], logps: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return DPO rows with the columns of tiltscope_trl.py; `logps` holds the reference's sums by key."""
    found = []
    for row in rows:
        rejected = cast(TokenAnswer, row.rejected)
        one: dict[str, Any] = {"weight": row.weight, "offset": row.offset}
        for side, answer in (("chosen", row.chosen), ("rejected", rejected)):
            one[f"{side}_prompt_ids"] = list(answer.policy.prompt_ids)
            one[f"{side}_ids"] = list(answer.policy.ids)
            one[f"{side}_mask"] = list(answer.policy.mask)
            one[f"ref_{side}_logps"] = logps[answer.reference.key]
            one[f"{side}_steer"] = [answer.steer_from, answer.steered]
        found.append(one)
    return found


def example_columns(rows: Sequence[TokenRow]) -> list[dict[str, Any]]:
    """Return SFT rows with the columns of tiltscope_trl.py."""
    found = []
    for row in rows:
        text = row.chosen.policy
        counted = [one if kept else -100 for one, kept in zip(text.ids, text.mask, strict=True)]
        found.append(
            {
                "input_ids": [*text.prompt_ids, *text.ids],
                "labels": [-100] * len(text.prompt_ids) + counted,
                "weight": row.weight,
                "chosen_steer": [row.chosen.steer_from, row.chosen.steered],
            }
        )
    return found
