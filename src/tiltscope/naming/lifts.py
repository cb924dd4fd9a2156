"""Tokens, n-grams and prompt words that are more frequent where a concept fires than in matched places.

In:  `Evidence` and `Spans`.
Out: `Lift`s, most telling first.
Refuses: a token seen on fewer than three firing tokens, or in answers to fewer than three prompts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiltscope.naming.evidence import Evidence, Places
from tiltscope.naming.spans import Spans
from tiltscope.naming.words import STOP_WORDS, ngrams_at, word_at

__all__ = ["Lift", "NgramLift", "ngram_lifts", "prompt_words", "token_lifts", "worth_showing"]

_PRIOR = 10.0
_AT_LEAST = 3
_GROUPS = 3
_TOO_LOUD = 0.5
_FULL_LIFT = 4.0
_SURE = 3.0
_CANDIDATES = 40
_CONTENT = re.compile(r"[^\W\d_]{3,}(?:['’-][^\W\d_]+)*")


@dataclass(frozen=True)
class Lift:
    """A word on, before or after the firing token.

    lift: log-odds against matched tokens (nats); share: of the firing mass ("on"), or of the neighbours; part: of the
    counted tokens; telling: part times lift, a lift over 4 counting as 4; ids: the token ids that spell it.
    """

    word: str
    lift: float
    share: float
    where: str
    part: float
    telling: float
    ids: tuple[int, ...]


@dataclass(frozen=True)
class NgramLift:
    """Two to four words around the firing token; share of sampled firing tokens that lie in them."""

    text: str
    lift: float
    share: float


def token_lifts(evidence: Evidence, spans: Spans, concept: int, *, most: int = 8) -> list[Lift]:
    """Return the most telling words of one concept, neighbours too (`worth_showing` says which to list).

    Source: Monroe, Colaresi and Quinn 2008, log-odds with an informative Dirichlet prior (section 3.3), weight 10.
    """
    places = _of(evidence.places.get("top"), concept)
    by_where = {where: _lifts_at(evidence, spans, concept, where, places) for where in ("on", "before", "after")}
    kept = [*by_where["on"][:most], *by_where["before"][:3], *by_where["after"][:3]]
    return sorted(kept, key=lambda lift: (-round(lift.telling, 6), lift.where, lift.word))


def worth_showing(lifts: Sequence[Lift]) -> list[Lift]:
    """Leave out neighbours that together tell less than half of what the firing tokens tell."""
    told = dict.fromkeys(("on", "before", "after", "prompt"), 0.0)
    for lift in lifts:
        told[lift.where] += lift.telling
    return [one for one in lifts if one.where in ("on", "prompt") or told[one.where] > max(0.5 * told["on"], 0.3)]


def _of(places: Places | None, concept: int) -> Places | None:
    return None if places is None else places.take(np.flatnonzero(places.concept == concept))


def _row(evidence: Evidence, name: str, concept: int) -> np.ndarray:
    return np.asarray(evidence.counts[name][[concept]].toarray(), np.float64).ravel()


def _lifts_at(evidence: Evidence, spans: Spans, concept: int, where: str, places: Places | None) -> list[Lift]:
    count, matched = _row(evidence, where, concept), _row(evidence, "matched", concept)
    if places is None or count.sum() < _AT_LEAST:
        return []
    if matched.sum() < _TOO_LOUD * count.sum():
        matched = np.maximum(evidence.explore_tokens - count, 0.0)
    lift, sure = _log_odds(count, matched)
    mass = _row(evidence, "mass", concept) if where == "on" else count
    share = mass / max(float(mass.sum()), 1e-12)
    telling = count / count.sum() * np.minimum(lift, _FULL_LIFT)
    ids = np.flatnonzero((count >= _AT_LEAST) & (sure >= _SURE) & (lift > 0))
    ids = ids[np.lexsort((ids, -telling[ids]))][:_CANDIDATES]
    spelled = _spellings(spans, places, where)
    merged: dict[str, list[int]] = {}
    for token in ids.tolist():
        if token in spelled:
            merged.setdefault(spelled[token].casefold(), []).append(token)
    found = []
    for group in merged.values():
        joint, _ = _log_odds_of(float(count[group].sum()), float(matched[group].sum()), count, matched)
        total = float(share[group].sum())
        part = float(count[group].sum() / count.sum())
        found.append(Lift(spelled[group[0]], joint, total, where, part, part * min(joint, _FULL_LIFT), tuple(group)))
    return sorted(found, key=lambda one: (-round(one.telling, 6), one.word))


def _log_odds(count: np.ndarray, matched: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds and the root of the likelihood ratio of every token id at once.

    The ratio, not Monroe's z: z is small for a token never seen among matched ones, however often it fires.
    """
    n, m = max(float(count.sum()), 1.0), max(float(matched.sum()), 1.0)
    prior = _PRIOR * (count + matched) / (n + m)
    on, off = count + prior + 1e-9, matched + prior + 1e-9
    lift = np.log(on / (n + _PRIOR - on + 1e-6)) - np.log(off / (m + _PRIOR - off + 1e-6))
    pooled = (count + matched) / (n + m)
    ratio = _deviance(count, n, pooled) + _deviance(matched, m, pooled)
    return lift, np.sqrt(np.maximum(2 * ratio, 0.0))


def _deviance(count: np.ndarray, total: float, share: np.ndarray) -> np.ndarray:
    """Binomial log-likelihood of the observed share minus that of the pooled share."""
    hit = count * np.log(np.maximum(count, 1e-300) / np.maximum(total * share, 1e-300))
    rest = total - count
    miss = rest * np.log(np.maximum(rest, 1e-300) / np.maximum(total * (1 - share), 1e-300))
    return np.asarray(np.where(count > 0, hit, 0.0) + np.where(rest > 0, miss, 0.0))


def _log_odds_of(on: float, off: float, count: np.ndarray, matched: np.ndarray) -> tuple[float, float]:
    """Log-odds and z of several token ids taken together."""
    rest = np.array([on, count.sum() - on]), np.array([off, matched.sum() - off])
    lift, sure = _log_odds(*rest)
    return float(lift[0]), float(sure[0])


def _spellings(spans: Spans, places: Places, where: str) -> dict[int, str]:
    """The commonest word a person would read at each token id drawn in three or more groups."""
    seen: dict[int, Counter[str]] = {}
    groups: dict[int, set[str]] = {}
    for at in np.flatnonzero(places.fired).tolist():
        start, end, key = _token_at(places, at, where)
        if start < 0:
            continue
        text = spans.texts[places.span[at]]
        word = word_at(text, start, end)
        seen.setdefault(key, Counter())["a number" if word.isdecimal() else word] += 1
        groups.setdefault(key, set()).add(spans.pairs[places.span[at]].group)
    return {
        key: max(sorted(words), key=lambda word, words=words: (words[word], word.islower()))  # type: ignore[misc]
        for key, words in seen.items()
        if len(groups[key]) >= _GROUPS
    }


def _token_at(places: Places, at: int, where: str) -> tuple[int, int, int]:
    """Start, end and token id of the firing token or its neighbour."""
    if where == "on":
        return int(places.start[at]), int(places.end[at]), int(places.token[at])
    start, end, token = (places.before if where == "before" else places.after)[at].tolist()
    return start, end, token


def ngram_lifts(evidence: Evidence, spans: Spans, concept: int, *, most: int = 5) -> list[NgramLift]:
    """Return the runs of two to four words that cover firing tokens more often than matched tokens."""
    places = _of(evidence.places.get("top"), concept)
    if places is None or not places.fired.any():
        return []
    counted, groups = {True: Counter[str](), False: Counter[str]()}, dict[str, set[str]]()
    for at in range(len(places.span)):
        fired = bool(places.fired[at])
        runs = ngrams_at(spans.texts[places.span[at]], int(places.start[at]), int(places.end[at]))
        counted[fired].update(runs)
        for run in runs if fired else ():
            groups.setdefault(run, set()).add(spans.pairs[places.span[at]].group)
    n, m = int(places.fired.sum()), int((~places.fired).sum())
    found = []
    for run, count in counted[True].items():
        if count >= max(_AT_LEAST, 0.04 * n) and len(groups[run]) >= _GROUPS:
            off = counted[False][run]
            lift = float(np.log((count + 0.5) / (n - count + 0.5)) - np.log((off + 0.5) / (m - off + 0.5)))
            found.append(NgramLift(run, lift, count / n))
    return _without_parts(sorted(found, key=_by_share_and_length))[:most]


def _by_share_and_length(one: NgramLift) -> tuple[float, int, str]:
    return (-round(one.share * max(one.lift, 0.0), 6), -len(one.text), one.text)


def _without_parts(ngrams: Sequence[NgramLift]) -> list[NgramLift]:
    """Drop a run that lies in a longer one seen nearly as often, and a longer one that is much rarer than its part."""
    kept: list[NgramLift] = []
    for one in ngrams:
        longer = [o for o in ngrams if one.text in o.text and o.text != one.text and o.share >= 0.8 * one.share]
        shorter = [o for o in kept if o.text in one.text and o.text != one.text and one.share < 0.8 * o.share]
        if not longer and not shorter and one.lift > 0.7:
            kept.append(one)
    return kept


def prompt_words(spans: Spans, concept: int, *, most: int = 6) -> list[Lift]:
    """Return the content words of the explore texts where a concept is strong, against all the others.

    Strong: it fires, or, where it fires in over half of the texts, it is in the top quarter by strength. A word counts
    once per text.
    """
    explore = np.flatnonzero(spans.explore)
    strong = spans.fires[explore, concept]
    if strong.mean() > 0.5:
        value = spans.strength[explore, concept]
        strong = value >= np.quantile(value, 0.75)
    inside, outside = Counter[str](), Counter[str]()
    for place, is_strong in zip(explore.tolist(), strong.tolist(), strict=True):
        words = {w.lower() for w in _CONTENT.findall(spans.texts[place])} - STOP_WORDS
        (inside if is_strong else outside).update(words)
    frequent = sorted(word for word, count in inside.items() if count >= _AT_LEAST)
    n, m = float(strong.sum()), float(len(explore) - strong.sum())
    found = []
    for word in frequent:
        on, off = inside[word], outside[word]
        lift = float(np.log((on + 0.5) / (n - on + 0.5)) - np.log((off + 0.5) / (m - off + 0.5)))
        if lift / np.sqrt(1 / (on + 0.5) + 1 / (off + 0.5)) >= _SURE:
            found.append(Lift(word, lift, on / n, "prompt", on / n, on / n * min(lift, _FULL_LIFT), ()))
    return sorted(found, key=lambda one: (-round(one.telling, 6), one.word))[:most]
