"""Other ways to find what preference data teach, small, on the same pairs and features, for benchmarks/discovery.py.

Each returns a ranked list of `Claim`s: which score leans (`key` of a scorer), to which side, and after which pairs.
None of them is the authors' code; each docstring says what was taken over and what a reader of it would be shown.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.special import ndtr, stdtr
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, lasso_path

from tiltscope import stats
from tiltscope.behaviours import RULES, rule
from tiltscope.concepts import Concept, cluster_latents, fires
from tiltscope.features import Features
from tiltscope.power import Aligned
from tiltscope.regions import activity_regions
from tiltscope.screening import disparity

SHOWN = 20
"""A ranking without a cut of its own is read down to here."""
_WORD = re.compile(r"[A-Za-z']+|[^\w\s]")


@dataclass(frozen=True)
class Claim:
    """One finding: a scorer, what it scores, the side (+1: chosen has more), and the pairs it speaks of (None: all)."""

    scorer: str
    key: tuple[int, ...] | str
    sign: int
    inside: np.ndarray | None = None


def scores(claims: Sequence[Claim], data: Aligned, rows: np.ndarray) -> np.ndarray:
    """Return chosen minus rejected of every claim's score in some rows: (n_rows, n_claims)."""
    features, pairs = data.take(rows), [data.pairs.rows[row] for row in rows.tolist()]
    concepts = [Concept("x", claim.key) for claim in claims if claim.scorer == "disparity"]  # type: ignore[arg-type]
    of_concepts = iter(disparity(features, concepts).u.toarray().T if concepts else ())
    columns = []
    for claim in claims:
        if claim.scorer == "disparity":
            columns.append(next(of_concepts))
        elif claim.scorer == "max":
            at = list(claim.key)
            columns.append((features.chosen.max[:, at] - features.rejected.max[:, at]).toarray().mean(axis=1))
        else:
            one = _shows_word if claim.scorer == "word" else _shows_rule
            columns.append(np.array([one(claim.key, p.chosen) - one(claim.key, p.rejected) for p in pairs], float))
    return np.column_stack(columns) if columns else np.zeros((len(rows), 0))


def _shows_word(key: tuple[int, ...] | str, text: str) -> int:
    return int(key in set(_words(text)))


@lru_cache(maxsize=200_000)
def _shows_rule(key: tuple[int, ...] | str, text: str) -> int:
    return int(rule(str(key)).present(text))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def paper_regions(data: Aligned, seed: int) -> list[Claim]:
    """The feature-conditioned ranking as written: clusters of >= 10 latents x regions of >= 25 pairs, Welch z, both
    halves of the pairs agreeing in sign, ranked by the smaller half's difference; pairs count as independent.

    Source: arXiv:2606.12360, global view.
    """
    features = data.features
    clusters = _clusters(features, seed)
    large = [one for one in clusters if len(one.latents) >= 10]
    kinds = activity_regions(features.chosen.freq + features.rejected.freq, clusters, seed=seed)
    if not large or not kinds:
        return []
    u = disparity(features, large).u.toarray()
    first = np.random.default_rng(seed).random(len(u)) < 0.5
    found = []
    for kind in (kind for kind in kinds if kind.inside.sum() >= 25):
        halves = [_gap(u[half], kind.inside[half]) for half in (first, ~first)]
        smaller = np.minimum(abs(halves[0]), abs(halves[1])) * (np.sign(halves[0]) == np.sign(halves[1]))
        found += [(smaller[m], m, int(np.sign(halves[0][m])), kind.inside) for m in np.flatnonzero(smaller > 0)]
    found.sort(key=lambda one: -one[0])
    return [Claim("disparity", large[m].latents, sign, inside) for _, m, sign, inside in found[:SHOWN]]


def _gap(u: np.ndarray, inside: np.ndarray) -> np.ndarray:
    if inside.sum() < 2 or (~inside).sum() < 2:
        return np.zeros(u.shape[1])
    return np.asarray(u[inside].mean(axis=0) - u[~inside].mean(axis=0))


def paper_disparity(data: Aligned, seed: int) -> list[Claim]:
    """The same signed disparity over all pairs, clusters and single latents, ranked by |z|; halves agree in sign.

    The strongest reading of the paper's quantity for leans that hold everywhere; pairs count as independent.
    """
    features = data.features
    at_stake = np.asarray(abs(fires(features.chosen.freq) - fires(features.rejected.freq)).sum(axis=0)).ravel()
    concepts = [Concept(f"L{f}", (int(f),)) for f in np.flatnonzero(at_stake >= 25)] + _clusters(features, seed)
    u = disparity(features, concepts).u.toarray()
    first = np.random.default_rng(seed).random(len(u)) < 0.5
    z = u.mean(axis=0) / np.maximum(u.std(axis=0, ddof=1), 1e-12) * np.sqrt(len(u))
    z = np.where(np.sign(u[first].mean(axis=0)) == np.sign(u[~first].mean(axis=0)), z, 0.0)
    top = np.argsort(-abs(z), kind="stable")[:SHOWN]
    return [Claim("disparity", concepts[m].latents, int(np.sign(z[m]))) for m in top.tolist() if z[m]]


def _clusters(features: Features, seed: int) -> list[Concept]:
    both = sparse.vstack([fires(features.chosen.freq), fires(features.rejected.freq)]).tocsr()
    return list(cluster_latents(both, seed=seed))


def wimhf(data: Aligned, seed: int) -> list[Claim]:
    """One logistic regression per latent: label on its standardised difference of activation, length held fixed;
    Benjamini-Hochberg at q <= .10 over latents, pairs independent. Score test at the length-only fit.

    Source: the per-feature regression of arXiv:2510.26202 (What's In My Human Feedback).
    """
    x, kept = _max_difference(data.features)
    length = np.log(np.maximum(data.features.chosen.n_tokens, 1) / np.maximum(data.features.rejected.n_tokens, 1))
    fit = LogisticRegression(C=1e6, fit_intercept=False)
    flip = np.random.default_rng(seed).integers(0, 2, len(length)) * 2 - 1
    fit.fit((length * flip)[:, None], flip > 0)
    p = 1 / (1 + np.exp(-fit.coef_[0, 0] * length))
    residual, weight = 1 - p, p * (1 - p)
    gram = (x * (weight * length)[:, None]).sum(axis=0) / max(float((weight * length**2).sum()), 1e-12)
    variance = (weight[:, None] * x**2).sum(axis=0) - gram**2 * float((weight * length**2).sum())
    z = (residual @ x) / np.sqrt(np.maximum(variance, 1e-12))
    q = stats.benjamini_hochberg(2 * ndtr(-abs(z)))
    order = [m for m in np.argsort(-abs(z), kind="stable").tolist() if q[m] <= 0.10]
    return [Claim("max", (int(kept[m]),), int(np.sign(z[m]))) for m in order]


def hypothesaes(data: Aligned, seed: int, *, select: str) -> list[Claim]:
    """Choose 20 latents on one half, by lasso or by univariate correlation of label and difference of activation;
    keep those whose lean is told from 0 on the other half (t test, Bonferroni at .05). Pairs independent.

    Source: HypotheSAEs (arXiv:2502.04382), selection and held-out test; the language model's wording is left out.
    """
    x, kept = _max_difference(data.features)
    half = np.random.default_rng(seed).random(len(x)) < 0.5
    chosen = _lasso(x[half]) if select == "lasso" else _univariate(x[half])
    claims = []
    for m in chosen:
        held = x[~half, m]
        t = held.mean() / max(held.std(ddof=1), 1e-12) * np.sqrt(len(held))
        sign = int(np.sign(x[half, m].mean()))
        if 2 * stdtr(len(held) - 1, -sign * t) < 0.05 / SHOWN:
            claims.append(Claim("max", (int(kept[m]),), sign))
    return claims


def _univariate(x: np.ndarray) -> list[int]:
    r = x.mean(axis=0) / np.maximum(np.sqrt((x**2).mean(axis=0)), 1e-12)
    return [int(m) for m in np.argsort(-abs(r), kind="stable")[:SHOWN]]


def _lasso(x: np.ndarray) -> list[int]:
    """The first 20 latents on the lasso path of label (+1 for every pair as given) on the differences, no intercept."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        highest = float(abs(x.mean(axis=0)).max())
        _, path, _ = lasso_path(x, np.ones(len(x)), alphas=np.geomspace(highest, highest / 20, 40), max_iter=300)
    entered = np.where((path != 0).any(axis=1), (path != 0).argmax(axis=1), path.shape[1])
    order = np.lexsort((-abs(path[:, -1]), entered))
    return [int(m) for m in order[:SHOWN] if entered[m] < path.shape[1]]


def _max_difference(features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Scaled chosen - rejected of the highest activation (n_pairs, n_kept), and which latents (at stake >= 25)."""
    gap = (features.chosen.max - features.rejected.max).tocsc()
    kept = np.flatnonzero(np.diff(gap.indptr) >= 25)
    x = gap[:, kept].toarray().astype(np.float64)
    return x / np.maximum(np.sqrt((x**2).mean(axis=0)), 1e-12), kept


def bag_of_words(data: Aligned, seed: int) -> list[Claim]:
    """L2 logistic regression on which words an answer holds, chosen minus rejected; the 20 largest weights."""
    sides = [[set(_words(getattr(pair, side))) for pair in data.pairs.rows] for side in ("chosen", "rejected")]
    vocabulary = sorted({word for side in sides for words in side for word in words})
    place = {word: i for i, word in enumerate(vocabulary)}
    counts = [_indicator(side, place) for side in sides]
    x = (counts[0] - counts[1]).tocsr()
    kept = np.flatnonzero(np.asarray(abs(x).sum(axis=0)).ravel() >= 5)
    flip = np.random.default_rng(seed).integers(0, 2, x.shape[0]) * 2 - 1
    fit = LogisticRegression(C=0.1, fit_intercept=False, max_iter=500)
    fit.fit(sparse.diags_array(flip.astype(float)) @ x[:, kept], flip > 0)
    top = np.argsort(-abs(fit.coef_[0]), kind="stable")[:SHOWN]
    return [Claim("word", vocabulary[kept[m]], int(np.sign(fit.coef_[0, m]))) for m in top.tolist()]


def _indicator(texts: Sequence[set[str]], place: dict[str, int]) -> sparse.csr_array:
    indices = [place[word] for words in texts for word in sorted(words)]
    indptr = np.cumsum([0, *map(len, texts)])
    return sparse.csr_array((np.ones(len(indices)), indices, indptr), (len(texts), len(place)))


def icai_rules(data: Aligned, seed: int) -> list[Claim]:
    """The behaviour library's rules as principles, ranked by how far from one half their win rate is (>= 10 at stake).

    Source: Inverse Constitutional AI (arXiv:2406.06560), votes per principle; the principles here are rules.
    """
    ranked = []
    for one in RULES:
        u = np.array([_shows_rule(one.id, p.chosen) - _shows_rule(one.id, p.rejected) for p in data.pairs.rows])
        n = int((u != 0).sum())
        if n >= 10:
            ranked.append((abs((u > 0).sum() / n - 0.5), one.id, 1 if u.sum() >= 0 else -1))
    ranked.sort(key=lambda one: (-one[0], one[1]))
    return [Claim("rule", name, sign) for _, name, sign in ranked[:SHOWN]]


METHODS: dict[str, Callable[[Aligned, int], list[Claim]]] = {
    "paper, regions as written": paper_regions,
    "paper's disparity, all pairs": paper_disparity,
    "WIMHF-style": wimhf,
    "HypotheSAEs-style, lasso": lambda data, seed: hypothesaes(data, seed, select="lasso"),
    "HypotheSAEs-style, correlation": lambda data, seed: hypothesaes(data, seed, select="correlation"),
    "bag of words": bag_of_words,
    "ICAI-like rules": icai_rules,
}
