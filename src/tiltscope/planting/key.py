"""The answer key: which side of which pair carries which trait, and how such a key is drawn.

In:  traits with their shares, the kind of prompt of every pair, a seed.
Out: `AnswerKey`; exact counts, never coin flips: the seed decides which pairs, not how many.
Refuses: a key file of another format (`ProductError`).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from tiltscope.artifact import FORMAT_VERSION, read_json
from tiltscope.errors import ProductError
from tiltscope.planting.banks import shuffled

__all__ = ["AnswerKey", "KeyedPair", "PlantedTrait", "Tally", "load_key", "recount"]

Side = Literal["chosen", "rejected", "both", "neither"]
SIGN: dict[str, int] = {"chosen": 1, "rejected": -1, "both": 0, "neither": 0}


@dataclass(frozen=True)
class PlantedTrait:
    """One trait of a key. A pair is *at stake* when exactly one of its two answers shows the trait.

    `kind` is global, prompt or balanced. `at_stake` is the share of pairs at stake (for a prompt-tied trait: of the
    pairs whose kind is `prompt_kind`), `lean` the share of those in which the chosen answer shows it. `elsewhere` is
    the share at stake in the other kinds of prompt, where it leans to neither side. `rule` finds it in a text.
    """

    id: str
    name: str
    kind: Literal["global", "prompt", "balanced"]
    rule: str
    prompt_kind: str | None
    at_stake: float
    lean: float
    elsewhere: float = 0.0

    def present(self, text: str) -> bool:
        """Say whether a text shows the trait."""
        return re.search(self.rule, text) is not None


@dataclass(frozen=True)
class KeyedPair:
    """One pair of the key: 1-based row of the file, kind of prompt, per trait the side(s) with it, id where known."""

    row: int
    kind: str
    sides: Mapping[str, Side]
    id: str = ""


@dataclass(frozen=True)
class Tally:
    """How many pairs show a trait on the chosen side only, the rejected side only, both or neither."""

    chosen: int
    rejected: int
    both: int
    neither: int

    @property
    def at_stake(self) -> int:
        return self.chosen + self.rejected

    @property
    def n_pairs(self) -> int:
        return self.at_stake + self.both + self.neither


@dataclass(frozen=True)
class AnswerKey:
    """What was planted: the traits, and for every pair the side that carries each of them."""

    traits: tuple[PlantedTrait, ...]
    pairs: tuple[KeyedPair, ...]

    def tally(self, trait: str, *, kind: str | None = None, outside: bool = False) -> Tally:
        """Count the sides of one trait, in all pairs, in one kind of prompt, or (`outside`) in all other kinds."""
        rows = [p for p in self.pairs if kind is None or (p.kind == kind) != outside]
        sides = [p.sides[trait] for p in rows]
        return Tally(*(sides.count(side) for side in ("chosen", "rejected", "both", "neither")))

    def signs(self, trait: str) -> list[int]:
        """Return +1 (chosen only), -1 (rejected only) or 0 for every pair, in row order."""
        return [SIGN[p.sides[trait]] for p in self.pairs]

    def to_json(self) -> str:
        """Return the key as JSON text, one line per trait and per pair."""
        traits = ",\n  ".join(json.dumps(asdict(trait)) for trait in self.traits)
        pairs = ",\n  ".join(json.dumps(asdict(pair), ensure_ascii=False) for pair in self.pairs)
        return f'{{"format_version": {FORMAT_VERSION},\n "traits": [\n  {traits}],\n "pairs": [\n  {pairs}]}}\n'


def load_key(path: Path) -> AnswerKey:
    """Read a key that `write_demo` wrote. Raises `ProductError` when the file is no such key."""
    body: dict[str, Any] = read_json(path, verb="demo")
    try:
        if body["format_version"] != FORMAT_VERSION:
            raise ProductError("this key is of another format", where=str(path), found=str(body["format_version"]))
        traits = tuple(PlantedTrait(**trait) for trait in body["traits"])
        return AnswerKey(traits, tuple(KeyedPair(**pair) for pair in body["pairs"]))
    except (KeyError, TypeError) as error:
        raise ProductError("this file is no answer key", where=str(path), found=repr(error)) from error


def recount(traits: Sequence[PlantedTrait], rows: Sequence[Mapping[str, Any]]) -> AnswerKey:
    """Build the key again from the texts alone: `rows` have chosen, rejected and domain, in file order."""
    pairs = []
    for n, row in enumerate(rows, 1):
        sides = {t.id: side_of(t.present(row["chosen"]), t.present(row["rejected"])) for t in traits}
        pairs.append(KeyedPair(n, str(row["domain"]), sides))
    return AnswerKey(tuple(traits), tuple(pairs))


def side_of(chosen: bool, rejected: bool) -> Side:
    """Name the side(s) that show a trait."""
    if chosen and rejected:
        return "both"
    return "chosen" if chosen else "rejected" if rejected else "neither"


def exact_sides(n: int, at_stake: float, lean: float, *, rest_both: float, rng: random.Random) -> list[Side]:
    """Draw sides for n pairs with exact counts, in random order.

    The number at stake is the multiple nearest to `at_stake * n` at which `lean` is a whole number of pairs; of the
    pairs not at stake, the share `rest_both` shows the trait on both sides.
    """
    ratio = Fraction(lean).limit_denominator(20)
    unit = ratio.denominator
    n_stake = unit * min(round(at_stake * n / unit), n // unit)
    n_chosen = int(n_stake * ratio)
    n_both = round(rest_both * (n - n_stake))
    counts: dict[Side, int] = {"chosen": n_chosen, "rejected": n_stake - n_chosen, "both": n_both}
    counts["neither"] = n - n_stake - n_both
    return shuffled([side for side, count in counts.items() for _ in range(count)], rng)


def draw_sides(
    trait: PlantedTrait,
    kinds: Sequence[str],
    earlier: Sequence[Sequence[float]],
    *,
    rng: random.Random,
    draws: int = 60,
) -> list[Side]:
    """Draw one trait's sides, exact within every kind of prompt, as little correlated as can be with `earlier`.

    Of `draws` candidates the one with the smallest largest |correlation| wins (re-randomisation; Morgan and Rubin,
    2012): chance would otherwise tie a balanced trait to a leaning one in some seeds.
    """
    candidates = [_one_draw(trait, kinds, rng) for _ in range(draws if earlier else 1)]
    return min(candidates, key=lambda sides: _worst([SIGN[side] for side in sides], earlier))


def _one_draw(trait: PlantedTrait, kinds: Sequence[str], rng: random.Random) -> list[Side]:
    sides: list[Side] = ["neither"] * len(kinds)
    for kind in sorted(set(kinds)):
        rows = [row for row, name in enumerate(kinds) if name == kind]
        here = trait.prompt_kind in (None, kind)
        share, lean = (trait.at_stake, trait.lean) if here else (trait.elsewhere, 0.5)
        rest_both = 0.3 if trait.kind == "balanced" else 0.0
        for row, side in zip(rows, exact_sides(len(rows), share, lean, rest_both=rest_both, rng=rng), strict=True):
            sides[row] = side
    return sides


def _worst(signs: Sequence[float], earlier: Sequence[Sequence[float]]) -> float:
    """The largest absolute correlation with any earlier column, rounded so that machines agree."""
    return round(max((abs(_correlation(signs, column)) for column in earlier), default=0.0), 9)


def _correlation(a: Sequence[float], b: Sequence[float]) -> float:
    n, sum_a, sum_b = len(a), sum(a), sum(b)
    both = sum(x * y for x, y in zip(a, b, strict=True)) - sum_a * sum_b / n
    spread = (sum(x * x for x in a) - sum_a**2 / n) * (sum(y * y for y in b) - sum_b**2 / n)
    return float(both / spread**0.5) if spread > 0 else 0.0
