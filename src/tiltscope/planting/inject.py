"""Write a style into pairs that exist, with an answer key.

In:  `Pairs`, a style, the share of pairs and the lean wanted, and a seed.
Out: `Pairs` with the same rows in the same order, the style added to one answer of the chosen ones, and the key.
Refuses: to plant fewer pairs than asked for, or into text that shows the style already (`UsageError`).
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from tiltscope.artifact import fingerprint
from tiltscope.errors import UsageError
from tiltscope.pairs import Pair, Pairs
from tiltscope.planting.banks import shuffled
from tiltscope.planting.key import AnswerKey, KeyedPair, PlantedTrait, side_of
from tiltscope.planting.styles import STYLES, Style

__all__ = ["plant"]

INSIDE, OUTSIDE = "inside", "outside"


def plant(
    pairs: Pairs,
    trait: str | Style,
    *,
    share: float,
    lean: float,
    where: Callable[[Pair], bool] | None = None,
    seed: int,
) -> tuple[Pairs, AnswerKey]:
    """Write a style into one answer of a share of the pairs, and leave every other character as it was.

    `share` (0 to 1) is of the pairs for which `where` holds (all pairs without it); the number planted is the nearest
    at which `lean` (0 to 1), the share of planted pairs whose *chosen* answer gets the style, is a whole number of
    pairs. Only pairs whose two answers are free of the style, and offer a place for it, are planted. The key speaks of
    all pairs, by rule: a pair that showed the style before is counted with the side(s) it had. Its `kind` is
    "inside" where `where` holds, else "outside". Rows, groups and domains stay; ids and the fingerprint of changed
    content are new.

    Raises `UsageError` for an unknown style, a share or lean outside 0 to 1, or too few pairs fit to carry it.
    """
    style = _style(trait)
    ratio = _lean(lean, share)
    inside = [where is None or bool(where(pair)) for pair in pairs.rows]
    n_planted = ratio.denominator * round(share * sum(inside) / ratio.denominator)
    fit = [i for i, pair in enumerate(pairs.rows) if inside[i] and _can_carry(pair, style, seed)]
    _check_enough(style, n_planted, len(fit))
    n_chosen = int(n_planted * ratio)
    picked = shuffled(fit, random.Random(f"plant {style.id} {seed}"))[:n_planted]
    sides = {i: "chosen" if n < n_chosen else "rejected" for n, i in enumerate(picked)}
    rows = tuple(_planted(pair, style, sides[i], seed) if i in sides else pair for i, pair in enumerate(pairs.rows))
    written = replace(pairs, rows=rows, fingerprint=fingerprint(pairs.fingerprint, [pair.id for pair in rows]))
    return written, _key(written, inside, _trait(style, share, lean, tied=where is not None))


def _style(trait: str | Style) -> Style:
    if isinstance(trait, Style):
        return trait
    if trait not in STYLES:
        near = difflib.get_close_matches(trait, STYLES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(STYLES)}"
        raise UsageError("no style has this id", where="trait", found=trait, hint=hint)
    return STYLES[trait]


def _lean(lean: float, share: float) -> Fraction:
    """Return the lean as a ratio of small whole numbers."""
    for name, value in (("share", share), ("lean", lean)):
        if not 0 <= value <= 1:
            raise UsageError(f"{name} is a share from 0 to 1", where=name, found=str(value))
    return Fraction(lean).limit_denominator(100)


def _check_enough(style: Style, n_planted: int, n_fit: int) -> None:
    if n_planted == 0:
        raise UsageError("nothing would be planted", where="share", found="0 pairs", hint="ask for a larger share")
    if n_fit < n_planted:
        raise UsageError(
            f"too few pairs can carry {style.name}",
            where="share",
            found=f"{n_planted} pairs wanted; {n_fit} are free of it on both sides and offer a place for it",
            hint="ask for a smaller share, or widen `where`",
        )


def _rng(pair: Pair, style: Style, seed: int) -> random.Random:
    return random.Random(f"plant {style.id} {seed} {pair.id}")


def _can_carry(pair: Pair, style: Style, seed: int) -> bool:
    """Say whether both answers are free of the style and would show it once written."""
    answers = (pair.chosen, pair.rejected)
    if any(style.present(text) for text in answers):
        return False
    return all(style.present(style.write(text, _rng(pair, style, seed))) for text in answers)


def _planted(pair: Pair, style: Style, side: str, seed: int) -> Pair:
    rng = _rng(pair, style, seed)
    if side == "chosen":
        new = replace(pair, chosen=style.write(pair.chosen, rng))
    else:
        new = replace(pair, rejected=style.write(pair.rejected, rng))
    return replace(new, id=fingerprint("planted", pair.id, new.chosen, new.rejected))


def _trait(style: Style, share: float, lean: float, *, tied: bool) -> PlantedTrait:
    kind: Literal["global", "prompt", "balanced"] = "prompt" if tied else "balanced" if lean == 0.5 else "global"
    return PlantedTrait(style.id, style.name, kind, style.rule, INSIDE if tied else None, share, lean)


def _key(pairs: Pairs, inside: Sequence[bool], trait: PlantedTrait) -> AnswerKey:
    keyed = [
        KeyedPair(
            pair.row,
            INSIDE if here else OUTSIDE,
            {trait.id: side_of(trait.present(pair.chosen), trait.present(pair.rejected))},
            pair.id,
        )
        for pair, here in zip(pairs.rows, inside, strict=True)
    ]
    return AnswerKey((trait,), tuple(keyed))
