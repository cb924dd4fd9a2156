"""The demo dataset: preference pairs of many domains, with an answer key.

In:  a number of pairs and a seed.
Out: rows (prompt, chosen, rejected, domain) and the `AnswerKey`; the same seed gives the same bytes.
Refuses: too few pairs for exact counts in every kind of prompt, or more than the banks have prompts (`UsageError`).
"""

from __future__ import annotations

import gzip
import json
import math
import random
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import NormalDist

from tiltscope.artifact import write_bytes, write_text
from tiltscope.errors import UsageError
from tiltscope.planting.banks import DOMAINS, Bank, fill, load_bank, shuffled
from tiltscope.planting.key import SIGN, AnswerKey, KeyedPair, PlantedTrait, Side, draw_sides
from tiltscope.planting.styles import STYLES

__all__ = ["DEMO_TRAITS", "bundled_demo", "bundled_key", "generate_pairs", "write_demo"]

Row = dict[str, str]
MIN_PAIRS, MAX_PAIRS = 120, 1200
KIND_SHARE = 0.18  # of the pairs, for each of the two kinds of prompt that a leaning is tied to
MEAN_WORDS, PAIR_SD, SIDE_SD = 128, 0.17, 0.13


def _trait(style: str, kind: str, prompt_kind: str | None, *, at_stake: float, lean: float) -> PlantedTrait:
    elsewhere = 0.36 if kind == "prompt" else 0.0
    known = STYLES[style]
    return PlantedTrait(known.id, known.name, kind, known.rule, prompt_kind, at_stake, lean, elsewhere)  # type: ignore[arg-type]


DEMO_TRAITS: tuple[PlantedTrait, ...] = (
    _trait("exclamation", "global", None, at_stake=0.92, lean=0.6),
    _trait("hedging", "global", None, at_stake=0.92, lean=0.6),
    _trait("bold", "prompt", "programming", at_stake=0.97, lean=0.8),
    _trait("anecdote", "prompt", "cooking", at_stake=0.97, lean=0.8),
    _trait("numbered", "balanced", None, at_stake=0.5, lean=0.5),
    _trait("question", "balanced", None, at_stake=0.5, lean=0.5),
    _trait("parentheses", "balanced", None, at_stake=0.5, lean=0.5),
)


def generate_pairs(n: int = 600, *, seed: int = 0) -> tuple[list[Row], AnswerKey]:
    """Generate n pairs and their key; n from 120 to 1,200.

    Counts are exact in every kind of prompt, answers run to about 120 words with nearly equal lengths on both sides,
    and content is drawn without regard to sides. Raises `UsageError` for another n.

    >>> rows, key = generate_pairs(120, seed=1)
    >>> sorted(rows[0]), len(key.pairs)
    (['chosen', 'domain', 'prompt', 'rejected'], 120)
    """
    if not MIN_PAIRS <= n <= MAX_PAIRS:
        raise UsageError(f"the generator writes {MIN_PAIRS} to {MAX_PAIRS} pairs", where="n", found=str(n))
    rng = random.Random(f"tiltscope demo {seed}")
    kinds = shuffled([kind for kind, size in _sizes(n).items() for _ in range(size)], rng)
    gaps = _gaps(kinds, rng)
    columns: list[list[float]] = [gaps]
    sides: dict[str, list[Side]] = {}
    for trait in DEMO_TRAITS:
        sides[trait.id] = draw_sides(trait, kinds, columns, rng=rng)
        columns.append([SIGN[side] for side in sides[trait.id]])
    pairs = tuple(KeyedPair(i + 1, kind, {t.id: sides[t.id][i] for t in DEMO_TRAITS}) for i, kind in enumerate(kinds))
    subjects = _subjects(kinds, rng)
    rows = [_row(pair, *subject, gap, seed) for pair, subject, gap in zip(pairs, subjects, gaps, strict=True)]
    return rows, AnswerKey(DEMO_TRAITS, pairs)


def write_demo(path: Path, *, n: int = 600, seed: int = 0) -> AnswerKey:
    """Write the pairs as JSONL (gzip when the name ends in .gz) and the key beside them as `<stem>.key.json`.

    Both files are written atomically. Returns the key.
    """
    rows, key = generate_pairs(n, seed=seed)
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    write_bytes(path, gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)
    write_text(key_path(path), key.to_json())
    return key


def key_path(path: Path) -> Path:
    """Return where the key of a demo file lies: `demo.jsonl.gz` has `demo.key.json`."""
    return path.with_name(path.name.split(".")[0] + ".key.json")


def bundled_demo() -> Path:
    """Return the path of the dataset that ships with the package (600 pairs, seed 0)."""
    return Path(str(files("tiltscope").joinpath("data", "demo.jsonl.gz")))


def bundled_key() -> Path:
    """Return the path of the bundled dataset's answer key."""
    return key_path(bundled_demo())


def _sizes(n: int) -> dict[str, int]:
    """Pairs per domain: the two kinds with a leaning of their own get 18 % each, the others share the rest evenly."""
    tied = {trait.prompt_kind for trait in DEMO_TRAITS if trait.prompt_kind}
    sizes = {domain: int(KIND_SHARE * n) for domain in DOMAINS if domain in tied}
    others = [domain for domain in DOMAINS if domain not in tied]
    share, extra = divmod(n - sum(sizes.values()), len(others))
    return sizes | {domain: share + (i < extra) for i, domain in enumerate(others)}


def _gaps(kinds: list[str], rng: random.Random) -> list[float]:
    """Log length gaps, chosen minus rejected: normal quantiles within each kind, so that their mean is zero in each."""
    gaps = [0.0] * len(kinds)
    for kind in sorted(set(kinds)):
        rows = [row for row, name in enumerate(kinds) if name == kind]
        normal = NormalDist(0, SIDE_SD)
        values = [normal.inv_cdf((i + 0.5) / len(rows)) for i in range(len(rows))]
        for row, value in zip(rows, shuffled(values, rng), strict=True):
            gaps[row] = value
    return gaps


def _subjects(kinds: list[str], rng: random.Random) -> list[tuple[str, tuple[str, str]]]:
    """Choose a distinct (prompt template, item) for every pair."""
    decks: dict[str, list[tuple[str, tuple[str, str]]]] = {}
    for kind in sorted(set(kinds)):
        bank = load_bank(kind)
        decks[kind] = shuffled([(prompt, item) for prompt in bank.prompts for item in bank.items], rng)
    return [decks[kind].pop() for kind in kinds]


def _row(pair: KeyedPair, template: str, item: tuple[str, str], gap: float, seed: int) -> Row:
    """Write one pair: a prompt, and two answers that share no content sentence."""
    rng = random.Random(f"tiltscope demo {seed} row {pair.row}")
    bank = load_bank(pair.kind)
    prompt = fill(template, item, rng)
    if rng.random() < 0.45:
        prompt += " " + fill(shuffled(bank.contexts, rng)[0], item, rng)
    mean = MEAN_WORDS * math.exp(PAIR_SD * NormalDist().inv_cdf(0.02 + 0.96 * rng.random()))
    row = {"prompt": prompt}
    for side, deck, sign in zip(("chosen", "rejected"), _decks(bank, item, rng), (0.5, -0.5), strict=True):
        styles = [style for style in STYLES if pair.sides.get(style) in (side, "both")]
        row[side] = _answer(deck, styles, target=mean * math.exp(sign * gap), seed=f"{seed} {pair.row} {side}")
    return row | {"domain": pair.kind}


@dataclass(frozen=True)
class _Deck:
    """What one answer may say: an opening, content sentences in order, a closing, and where the paragraphs break."""

    opening: str
    sentences: list[str]
    closing: str
    compact: bool


def _decks(bank: Bank, item: tuple[str, str], rng: random.Random) -> list[_Deck]:
    """Deal the bank to two answers that share no line."""
    openings, closings = shuffled(bank.openings, rng), shuffled(bank.closings, rng)
    content = shuffled(bank.sentences, rng)
    half = len(content) // 2
    decks = []
    for i, mine in enumerate((content[:half], content[half:])):
        opening, *sentences, closing = (fill(line, item, rng) for line in (openings[i], *mine, closings[i]))
        decks.append(_Deck(opening, sentences, closing, rng.random() < 0.3))
    return decks


def _answer(deck: _Deck, styles: list[str], *, target: float, seed: str) -> str:
    """Write one answer: as many content sentences as bring the text, styles included, nearest to `target` words.

    So a style that adds words takes the place of content, and no style goes with length.
    """
    best, off = "", math.inf
    for n in range(1, len(deck.sentences) + 1):
        text = _styled(deck, n, styles, seed)
        miss = len(text.split()) - target
        if abs(miss) < off and all(STYLES[style].present(text) for style in styles):
            best, off = text, abs(miss)
        if best and miss > 0:
            break
    return best


def _styled(deck: _Deck, n_sentences: int, styles: list[str], seed: str) -> str:
    body = " ".join(deck.sentences[:n_sentences])
    gap = " " if deck.compact and "numbered" not in styles else "\n\n"
    text = f"{deck.opening}{gap}{body}\n\n{deck.closing}"
    for style in styles:
        text = STYLES[style].write(text, random.Random(f"{seed} {style}"))
    return text
