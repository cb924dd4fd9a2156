"""What does a candidate lean towards that the approved data did not, and which rows carry it?

In:  two readings through one scope: of data that a person approved, and of data that come after.
Out: `new_leans`: latents, behaviours of the library and words, whose lean is new, turned or stronger, one error rate
     for all of them, and the rows.
Refuses: readings through different scopes; to call anything new because it is frequent: only sides are compared.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope import stats
from tiltscope.behaviours import SAYS, counted
from tiltscope.concepts import Concept
from tiltscope.difference import check_one_scope, joint_groups
from tiltscope.known import behaviour_concepts, measured, often_concepts
from tiltscope.naming.words import word_at
from tiltscope.phrases import phrase_measures
from tiltscope.screening import Measures

if TYPE_CHECKING:
    from tiltscope.pairs import Pair
    from tiltscope.study import Opened

__all__ = ["BUDGET", "LEVEL", "new_leans", "with_words"]

LEVEL = 0.01
"""Of a hundred candidates that lean as the approved data do, about one is told to have a new lean."""

BUDGET = {"behaviours": 0.25, "words": 0.25, "latents": 0.5}
"""How the lists share the level: among some hundred behaviours a smaller change says something than among thousands."""

FEWEST_GROUPS, WORDS_SHARE = 12, 0.004
"""A word or phrase is looked at if it is at stake in so many groups of prompts, and in this share of them."""

_CHANCE = 0.15
"""Rows are named as long as no more than this share of them is what chance would bring, judged by the approved rows."""
_FEWEST, _TOLD = 5, 2.5
"""From so few rows, and from such a z, is read what else the rows share."""
_READ, _SHOWN = 40, 4


def new_leans(approved: Opened, candidate: Opened, *, level: float = LEVEL) -> dict[str, Any]:
    """Return every lean that moved away from zero since the approved data, and the rows that carry it.

    A lean is the mean over pairs of u = 1{chosen shows it} - 1{rejected shows it}, as in an audit; shown are latents
    (what was read of an answer), the behaviours of the library and words (by rule, in the whole answer). All pairs are
    used, because nothing is chosen on them first: which words there are depends on no label. The change is candidate
    minus approved; pairs that both hold add nothing to it. Of a change counts what leads away from zero, and prompts
    that left do not make a lean by leaving unless they leaned the other way; z and p are of that part. p is family-wise
    over all lists, which share the level by `BUDGET`: with no change anywhere, a list that is not empty has a chance of
    at most `level`.

    Returns:
        JSON-able: the counts; `smallest`, by list: in so many pairs what was never there must be on one side to be
        listed; leans (list, concept, name, latents, direction, before, after, change, z, p): behaviours, words,
        latents, of each list the surest first, of overlapping phrases one, of a behaviour shown and shown often one;
        rows (pair_id, row, score, named), strongest first, those that the approved data do not hold. A row is scored by
        what it adds to the approved rows of its prompt that it replaced. Rows that lean with the list show what else
        they share; by all of that every row is scored; of the named about one in seven stands there by chance.

    Raises:
        StaleProductError: the two were read through different scopes.
    """
    where = approved.folder, candidate.folder
    again = f"tiltscope read DATA --out {shlex.quote(str(candidate.folder))}"
    check_one_scope(approved.features, candidate.features, where=where, hint=again)
    latents = tuple(Concept(f"L{latent}", (latent,)) for latent in range(candidate.features.n_latents))
    behaviours = *behaviour_concepts(), *often_concepts([*approved.rows, *candidate.rows])
    known, words = (*behaviours, *latents), _words_at_stake(approved, candidate)
    concepts, n_old = (*known, *words.concepts), len(approved.features.pair_ids)
    said = words.u.tocsr()
    sides = _Sides(concepts, _Side.of(approved, known, said[:n_old]), _Side.of(candidate, known, said[n_old:]))
    tested = sides.tested(level)
    listed = np.flatnonzero(tested.p <= level).tolist()
    listed.sort(key=lambda at: (list(BUDGET).index(_list_of(concepts[at])), -abs(tested.z[at])))
    shown = _told_once(listed, concepts)
    return {
        "level": level,
        "n_latents": candidate.features.n_latents,
        "n_behaviours": len(behaviours),
        "n_words": len(words.concepts),
        "n_approved": len(sides.old.groups),
        "n_candidate": len(sides.new.groups),
        "n_added": len(set(sides.new.pair_ids) - set(sides.old.pair_ids)),
        "smallest": tested.smallest,
        "leans": [_told(at, sides, tested) for at in shown],
        "rows": _rows(candidate, sides, np.where(tested.p <= level, tested.z, 0.0)) if listed else [],
    }


def _words_at_stake(approved: Opened, candidate: Opened) -> Measures:
    """Words and phrases at stake in enough groups of both together; the approved rows come first."""
    sides = [(one.features.pair_ids, np.array([pair.group for pair in one.rows])) for one in (approved, candidate)]
    groups = np.concatenate(joint_groups(*sides))
    least = max(FEWEST_GROUPS, round(WORDS_SHARE * len(np.unique(groups))))
    return phrase_measures([*approved.rows, *candidate.rows], groups, least=least)


def _told_once(listed: Sequence[int], concepts: Sequence[Concept]) -> list[int]:
    """Of phrases that overlap, and of one behaviour, the surest: the others say the same of nearly the same rows."""
    kept: list[int] = []
    said: list[str] = []
    for at in listed:
        base = counted(concepts[at].rule)[0]
        if base and any(counted(concepts[other].rule)[0] == base for other in kept):
            continue
        if concepts[at].is_phrase:
            phrase = concepts[at].rule.removeprefix(SAYS)
            if any(_overlap(phrase, other) for other in said):
                continue
            said.append(phrase)
        kept.append(at)
    return kept


def _overlap(one: str, other: str) -> bool:
    """Whether two phrases have a token in common, and if both have several tokens, two in a row."""
    first, second = one.split(" "), other.split(" ")
    n = min(2, len(first), len(second))
    runs = ({tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)} for tokens in (first, second))
    return not next(runs).isdisjoint(next(runs))


def _list_of(concept: Concept) -> str:
    return "latents" if not concept.rule else "words" if concept.is_phrase else "behaviours"


@dataclass(frozen=True)
class _Side:
    """One dataset: u (n_pairs, n_concepts) CSR, its mean, and who its witnesses are."""

    pair_ids: tuple[str, ...]
    groups: np.ndarray
    u: sparse.csr_array
    lean: np.ndarray

    @staticmethod
    def of(opened: Opened, concepts: Sequence[Concept], words: sparse.csr_array) -> _Side:
        rows = opened.rows
        u = sparse.hstack([measured(opened.features, rows, concepts).u, words], format="csr")
        lean = np.asarray(u.mean(axis=0), np.float64).ravel()
        return _Side(opened.features.pair_ids, np.array([pair.group for pair in rows]), u, lean)


@dataclass(frozen=True)
class _Tested:
    """z, p (n_concepts,) of what leads away from zero; smallest: pairs that are seen, by list."""

    z: np.ndarray
    p: np.ndarray
    smallest: dict[str, int]


@dataclass(frozen=True)
class _Sides:
    """The approved data and the candidate, concept by concept."""

    concepts: tuple[Concept, ...]
    old: _Side
    new: _Side

    @cached_property
    def codes(self) -> tuple[np.ndarray, np.ndarray]:
        """Groups of the approved rows and of the candidate's, numbered together."""
        return joint_groups(*((side.pair_ids, side.groups) for side in (self.old, self.new)))

    @property
    def n_groups(self) -> int:
        return 1 + max(int(each.max(initial=-1)) for each in self.codes)

    @cached_property
    def fresh(self) -> np.ndarray:
        """(n_new,) rows that the approved data do not hold."""
        return ~np.isin(self.new.pair_ids, self.old.pair_ids)

    @cached_property
    def gone(self) -> np.ndarray:
        """(n_old,) rows that the candidate no longer holds."""
        return ~np.isin(self.old.pair_ids, self.new.pair_ids)

    @property
    def turnover(self) -> tuple[np.ndarray, np.ndarray]:
        """How many rows of each group are gone, and how many are fresh."""
        counted = zip(self.codes, (self.gone, self.fresh), strict=True)
        gone, fresh = (np.bincount(codes[moved], minlength=self.n_groups) for codes, moved in counted)
        return gone, fresh

    def tested(self, level: float) -> _Tested:
        old, new = self.old, self.new
        before, after = (_sums(each, np.full(len(each), 1 / max(len(each), 1)), self.n_groups) for each in self.codes)
        balance = np.asarray(after.sum(axis=1) - before.sum(axis=1)).ravel()
        mean = (len(old.groups) * old.lean + len(new.groups) * new.lean) / (len(old.groups) + len(new.groups))
        sums, away = (after @ new.u - before @ old.u).tocsc(), self._away()
        z, p, smallest = np.zeros(len(mean)), np.ones(len(mean)), {}
        kinds = np.array([_list_of(one) for one in self.concepts])
        for name in BUDGET:
            at = kinds == name
            found = stats.change_test(sums[:, at].tocsr(), balance, mean[at])
            z[at] = found.z * away[at]
            p[at] = np.minimum(found.p(z[at]) / BUDGET[name], 1.0)
            smallest[name] = _smallest(found, level * BUDGET[name])
        return _Tested(z, p, smallest)

    def _away(self) -> np.ndarray:
        """The share of a change that leads away from zero: all of a growing lean, of a turned one what lies beyond."""
        before, after = self.old.lean, self.new.lean - self._thinned()
        part = np.where(before * after > 0, np.abs(after) - np.abs(before), np.abs(after))
        size = np.abs(self.new.lean - before)
        share = np.divide(np.maximum(part, 0.0), size, out=np.zeros(len(size)), where=size > 0)
        return np.asarray(np.minimum(share, 1.0))

    def _thinned(self) -> np.ndarray:
        """What of the candidate's lean is only there because rows without it left, and no other took their place."""
        before, _ = self.codes
        n_gone, n_fresh = self.turnover
        stay = np.where(self.gone, np.minimum(1.0, n_fresh / np.maximum(n_gone, 1))[before], 1.0)
        total = self.old.u.T @ stay
        kept, floor = np.abs(total) / max(stay.sum(), 1.0), np.sign(total) * self.old.lean
        grown = np.maximum(kept - np.maximum(floor, np.abs(total) / len(stay)), 0.0)
        return np.asarray(np.sign(total) * grown * stay.sum() / len(self.new.groups))


def _sums(codes: np.ndarray, weights: np.ndarray, n_groups: int) -> sparse.csr_array:
    """(n_groups, n_pairs): its product with u sums weighted rows by group."""
    return sparse.csr_array((weights, (codes, np.arange(len(codes)))), (n_groups, len(codes)))


def _total(u: sparse.csr_array) -> np.ndarray:
    return np.asarray(u.sum(axis=0), np.float64).ravel()


def _smallest(changes: stats.Changes, level: float) -> int:
    """Return how many pairs, each of another group and all on one side, make a critical |z|: their root."""
    return int(np.ceil(max(changes.critical(level) ** 2, 1 - np.log2(level))))


def _told(at: int, sides: _Sides, tested: _Tested) -> dict[str, Any]:
    concept, before, after = sides.concepts[at], float(sides.old.lean[at]), float(sides.new.lean[at])
    return {
        "list": _list_of(concept),
        "concept": concept.id,
        "name": concept.name,
        "latents": list(concept.latents),
        "direction": "more" if after > 0 else "less",
        "before": round(before, 6),
        "after": round(after, 6),
        "change": round(after - before, 6),
        "z": round(float(tested.z[at]), 3),
        "p": round(float(tested.p[at]), 6),
    }


def _rows(candidate: Opened, sides: _Sides, weights: np.ndarray) -> list[dict[str, Any]]:
    """All rows that are new, and which of them are named; where none is new (rows were removed), all rows."""
    rows = {pair.id: pair.row for pair in candidate.rows}
    gains = _Gains.of(sides)
    first = gains.scored(weights)
    like = gains.above_chance(first)
    like = like if like.sum() >= _FEWEST else gains.fresh & (first[1] > 0)
    old, scores = gains.scored(gains.shared(like))
    named = gains.above_chance((old, scores))
    named = named if named.any() else like  # all that leans anew is common in the approved rows
    # Several things may be new, and one score is learned from what most rows share. What says what it is speaks alone;
    # all of them together may bring as many rows by chance as that score.
    alone = [at for at in np.flatnonzero(weights).tolist() if sides.concepts[at].rule]
    for at in alone:
        one = np.where(np.arange(len(weights)) == at, weights, 0.0)
        named = named | gains.above_chance(gains.scored(one), _CHANCE / len(alone))
    told = []
    for i in np.lexsort((np.arange(len(scores)), -scores)).tolist():
        if gains.fresh[i]:
            pair, score = candidate.features.pair_ids[i], round(float(scores[i]), 3)
            told.append({"pair_id": pair, "row": rows[pair], "score": score, "named": bool(named[i])})
    return told


@dataclass(frozen=True)
class _Gains:
    """How a candidate's rows lean beyond what they replaced.

    fresh (n_new,): rows that the approved data do not hold; where there is none, all. gained (n_new, n_concepts): u of
    a row less the mean u of the approved rows of its group that the candidate no longer holds; lone (n_new,): without.
    """

    old: _Side
    fresh: np.ndarray
    gained: sparse.csr_array
    lone: np.ndarray

    @staticmethod
    def of(sides: _Sides) -> _Gains:
        old, new, (before, after) = sides.old, sides.new, sides.codes
        if not sides.fresh.any():
            return _Gains(old, ~sides.fresh, new.u, np.ones(len(sides.fresh), bool))
        n_gone = sides.turnover[0]
        replaced = _sums(before, sides.gone / np.maximum(n_gone, 1)[before], sides.n_groups) @ old.u
        edited = sides.fresh & (n_gone[after] > 0)
        gained = new.u - _sums(after, edited, sides.n_groups).T @ replaced
        return _Gains(old, sides.fresh, gained.tocsr(), ~edited)

    def scored(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the approved rows, from their mean, and of the candidate's, from what they replaced or the mean."""
        old, new, mean = self.old.u @ weights, self.gained @ weights, self.old.lean @ weights
        return np.asarray(old - mean), np.asarray(new - self.lone * mean)

    def above_chance(self, scores: tuple[np.ndarray, np.ndarray], chance: float = _CHANCE) -> np.ndarray:
        """Fresh rows from the lowest score at which chance, as approved rows have it, brings few enough of them."""
        old, new = np.sort(scores[0]), scores[1]
        order = np.flatnonzero(self.fresh)[np.argsort(-new[self.fresh], kind="stable")]
        by_chance = len(order) * (1 - np.searchsorted(old, new[order]) / len(old))
        well = (new[order] > 0) & (by_chance <= chance * np.arange(1, len(order) + 1))
        return np.asarray(self.fresh & (new >= new[order[well]].min(initial=np.inf)))

    def shared(self, like: np.ndarray) -> np.ndarray:
        """Weights of all concepts by which some rows differ from what they replaced: difference over variance, if told.

        Often no single latent is the trait, and the list holds few of the many that it moves. The variance is that of
        the approved rows, or what the other fresh rows gained where that is more: an edit moves some latents anyhow.
        """
        alike, others = (self.gained[np.flatnonzero(self.fresh & rows)] for rows in (like, ~like))
        n_like = max(alike.shape[0], 1)
        difference = (_total(alike) - self.lone[like].sum() * self.old.lean) / n_like
        approved = _total(self.old.u.multiply(self.old.u)) / len(self.old.groups) - self.old.lean**2
        variance = np.maximum(approved, _total(others.multiply(others)) / max(others.shape[0], 1))
        told = np.abs(difference) * np.sqrt(n_like) > _TOLD * np.sqrt(variance + 0.02)
        return np.where(told, difference / (variance + 0.05), 0.0)


def with_words(found: Mapping[str, Any], candidate: Opened) -> dict[str, Any]:
    """Return what `new_leans` found with `words` in each lean: where its latent fires in the rows named."""
    by_id = {pair.id: pair for pair in candidate.rows}
    pairs = [by_id[row["pair_id"]] for row in found["rows"][:_READ] if row["named"]]
    return {**found, "leans": [{**one, "words": _words(one, pairs, candidate)} for one in found["leans"]]}


def _words(lean: Mapping[str, Any], pairs: Sequence[Pair], candidate: Opened) -> list[str]:
    side = "chosen" if lean["direction"] == "more" else "rejected"
    counts: Counter[str] = Counter()
    for pair in pairs:
        span = candidate.features.span(pair.id, side)
        fired = np.flatnonzero(span.codes[:, lean["latents"]].toarray().ravel() > 0)
        text = getattr(pair, side)
        counts.update({word_at(text, int(span.starts[at]), int(span.ends[at])) for at in fired.tolist()})
    return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]]
