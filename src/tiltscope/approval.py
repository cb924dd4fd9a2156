"""What does a candidate lean towards that the approved data did not, and which rows carry it?

In:  two readings through one scope: of data that a person approved, and of data that come after.
Out: `new_leans`: latents whose lean is new, turned or stronger, one error rate for all of them, and the rows.
Refuses: readings through different scopes; to call anything new because it is frequent: only sides are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope import stats
from tiltscope.concepts import fires
from tiltscope.difference import check_one_scope, joint_groups
from tiltscope.naming.words import word_at

if TYPE_CHECKING:
    from tiltscope.pairs import Pair
    from tiltscope.study import Opened

__all__ = ["LEVEL", "new_leans", "with_words"]

LEVEL = 0.01
"""Of a hundred candidates that lean as the approved data do, about one is told to have a new lean."""

_RARE = 0.1
"""A row is named when at most this share of the approved rows leans as much with the list."""
_FEWEST, _TOLD = 5, 2.5
"""From so few rows, and from such a z, is read what else the rows share."""
_READ, _SHOWN = 40, 4


def new_leans(approved: Opened, candidate: Opened, *, level: float = LEVEL) -> dict[str, Any]:
    """Return every latent whose lean moved away from zero since the approved data, and the rows that carry them.

    The lean of a latent is the mean over pairs of u = 1{fires, chosen} - 1{fires, rejected}, as in an audit; all pairs
    are used, because nothing is chosen on them first. The change is candidate minus approved; pairs that both hold add
    nothing to it. Of a change counts what leads away from zero: z and p are of that part. p is family-wise over all
    latents: with no change anywhere, a list that is not empty has a chance of at most `level`.

    Returns:
        JSON-able: the counts; `smallest`: in so many pairs a latent that was never there must be on one side to be
        listed; leans (latent, direction, before, after, change, z, p), surest first; rows (pair_id, row, score, named),
        strongest first, those that the approved data do not hold. Rows that lean with the list show which latents
        they share beyond it; by all of those every row is scored; named are those above nine tenths of the approved.

    Raises:
        StaleProductError: the two were read through different scopes.
    """
    sides = [_Side.of(one) for one in (approved, candidate)]
    where = approved.folder, candidate.folder
    check_one_scope(approved.features, candidate.features, where=where, hint=f"tiltscope read DATA --out {where[1]}")
    changes = _tested(*sides)
    before, after = sides[0].lean, sides[1].lean
    z = changes.z * _away(before, after)
    p = changes.p(z)
    listed = np.flatnonzero(p <= level)
    listed = listed[np.lexsort((listed, -np.abs(z[listed])))]
    return {
        "level": level,
        "n_latents": len(after),
        "n_approved": len(sides[0].groups),
        "n_candidate": len(sides[1].groups),
        "n_added": len(set(sides[1].pair_ids) - set(sides[0].pair_ids)),
        "smallest": _smallest(changes, level),
        "leans": [_told(latent, before, after, z, p) for latent in listed.tolist()],
        "rows": _rows(candidate, sides, listed, z[listed]) if len(listed) else [],
    }


def _smallest(changes: stats.Changes, level: float) -> int:
    """Return how many pairs, each of another group and all on one side, make a critical |z|: their root."""
    return int(np.ceil(max(changes.critical(level) ** 2, 1 - np.log2(level))))


@dataclass(frozen=True)
class _Side:
    """One dataset: u (n_pairs, n_latents) CSR, and who its witnesses are."""

    pair_ids: tuple[str, ...]
    groups: np.ndarray
    u: sparse.csr_array

    @staticmethod
    def of(opened: Opened) -> _Side:
        features = opened.features
        u = (fires(features.chosen.freq) - fires(features.rejected.freq)).tocsr()
        u.eliminate_zeros()
        return _Side(features.pair_ids, np.array([pair.group for pair in opened.rows]), u)

    @property
    def lean(self) -> np.ndarray:
        return np.asarray(self.u.mean(axis=0), np.float64).ravel()


def _tested(old: _Side, new: _Side) -> stats.Changes:
    codes = joint_groups((old.pair_ids, old.groups), (new.pair_ids, new.groups))
    n_groups = 1 + max(int(each.max(initial=-1)) for each in codes)
    before, after = (_means(each, n_groups) for each in codes)
    balance = np.asarray(after.sum(axis=1) - before.sum(axis=1)).ravel()
    n_old, n_new = len(old.groups), len(new.groups)
    mean = (n_old * old.lean + n_new * new.lean) / (n_old + n_new)
    return stats.change_test((after @ new.u - before @ old.u).tocsr(), balance, mean)


def _means(codes: np.ndarray, n_groups: int) -> sparse.csr_array:
    """(n_groups, n_pairs): summed over groups, its product with u is the mean of u."""
    each = np.full(len(codes), 1 / max(len(codes), 1))
    return sparse.csr_array((each, (codes, np.arange(len(codes)))), (n_groups, len(codes)))


def _away(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The share of each change that leads away from zero: all of a growing lean, of a turned one what lies beyond."""
    part = np.where(before * after > 0, np.abs(after) - np.abs(before), np.abs(after))
    size = np.abs(after - before)
    return np.asarray(np.divide(np.maximum(part, 0.0), size, out=np.zeros(len(size)), where=size > 0))


def _told(latent: int, before: np.ndarray, after: np.ndarray, z: np.ndarray, p: np.ndarray) -> dict[str, Any]:
    return {
        "latent": latent,
        "direction": "more" if after[latent] > 0 else "less",
        "before": round(float(before[latent]), 6),
        "after": round(float(after[latent]), 6),
        "change": round(float(after[latent] - before[latent]), 6),
        "z": round(float(z[latent]), 3),
        "p": round(float(p[latent]), 6),
    }


def _rows(candidate: Opened, sides: Sequence[_Side], listed: np.ndarray, z: np.ndarray) -> list[dict[str, Any]]:
    """All rows that are new, and which of them are named; where none is new (rows were removed), all rows."""
    rows = {pair.id: pair.row for pair in candidate.rows}
    held = frozenset(sides[0].pair_ids)
    fresh = np.array([pair_id not in held for pair_id in sides[1].pair_ids])
    fresh = fresh if fresh.any() else ~fresh
    weights = np.zeros(sides[0].u.shape[1])
    weights[listed] = z
    first, usual = _scored(sides, weights)
    like = fresh & (first > usual)
    like = like if like.sum() >= _FEWEST else fresh & (first > 0)
    scores, usual = _scored(sides, _shared(sides, like))
    named = fresh & (scores > usual)
    named = named if named.any() else like  # all that leans anew is common in the approved rows
    told = []
    for i in np.lexsort((np.arange(len(scores)), -scores)).tolist():
        if fresh[i]:
            pair, score = candidate.features.pair_ids[i], round(float(scores[i]), 3)
            told.append({"pair_id": pair, "row": rows[pair], "score": score, "named": bool(named[i])})
    return told


def _scored(sides: Sequence[_Side], weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Scores of the candidate's rows, and what nine tenths of the approved rows do not exceed."""
    old, new = (np.asarray(side.u @ weights).ravel() for side in sides)
    return new, max(0.0, float(np.quantile(old, 1 - _RARE)))


def _shared(sides: Sequence[_Side], like: np.ndarray) -> np.ndarray:
    """Weights of all latents by which some rows differ from the approved ones: difference over variance, where told.

    Often no single latent is the trait, and the list holds few of the many that it moves.
    """
    old, n_like = sides[0], max(int(like.sum()), 1)
    mean = old.lean
    variance = np.asarray(old.u.multiply(old.u).mean(axis=0)).ravel() - mean**2
    difference = np.asarray(sides[1].u[np.flatnonzero(like)].sum(axis=0)).ravel() / n_like - mean
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
        fired = np.flatnonzero(span.codes[:, [lean["latent"]]].toarray().ravel() > 0)
        text = getattr(pair, side)
        counts.update({word_at(text, int(span.starts[at]), int(span.ends[at])) for at in fired.tolist()})
    return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]]
