"""Features become hypotheses about what training will teach.

In:  pairs and features (aligned by pair id), and settings.
Out: `Contrast`: hypotheses of three views with honest numbers, the concepts and regions they speak of, and a record of
     everything that was tested.
Refuses: to let labels touch clusters or regions; to show an explore p as q; to test a cell with too few witnesses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tiltscope import stats
from tiltscope.artifact import write_json
from tiltscope.calibration import calibrate
from tiltscope.cells import Bench, ContrastSettings, Found, set_up
from tiltscope.concepts import Concept, cluster_latents, fires, single_latents
from tiltscope.confirmation import Tested, confirm
from tiltscope.features import Features
from tiltscope.few import OwnPlace, own_places
from tiltscope.hypotheses import Hypothesis, write_disparities, write_hypotheses
from tiltscope.known import behaviour_measures, often_concepts
from tiltscope.leans import leans_everywhere, leans_in_one_place
from tiltscope.pairs import Pairs
from tiltscope.phrases import phrase_measures
from tiltscope.regions import (
    SHARES,
    KindOfPair,
    activity_regions,
    prompt_clusters,
    prompt_regions,
    shift_clusters,
)
from tiltscope.screening import Measures, disparity, screen_regions, shift_disparity

__all__ = ["Contrast", "ContrastSettings", "View", "contrast", "label_free_views", "write_contrast"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Contrast:
    """The product of `contrast`: hypotheses strongest first, what they speak of, the disparities, and the record."""

    hypotheses: tuple[Hypothesis, ...]
    concepts: tuple[Concept, ...]
    prompt_clusters: tuple[Concept, ...]
    regions: tuple[KindOfPair, ...]
    pair_ids: tuple[str, ...]
    disparities: dict[str, np.ndarray] = field(repr=False)  # hypothesis id -> (n_pairs,), nan outside its region
    record: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class View:
    """One way of looking: its name, what is measured, where (no regions: everywhere), and what is seen there only."""

    name: str
    measures: Measures
    regions: tuple[KindOfPair, ...]
    own: tuple[OwnPlace, ...] = ()

    @property
    def kind(self) -> str:
        """The view's name, or "behaviours", "often" or "words" where it looks at those alone."""
        kinds = {one.listed for one in self.measures.concepts}
        return self.name if "latents" in kinds or len(kinds) != 1 else kinds.pop()

    @property
    def n_cells(self) -> int:
        """How many concept x place cells the view has."""
        return len(self.measures.concepts) * (len(self.regions) or int(self.name == "global")) + len(self.own)


@dataclass(frozen=True)
class _Explored:
    """How many cells of a view had enough witnesses, those to be told of, and the p of tested leans that are not."""

    n_tested: int
    cells: list[Found]
    untold: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_candidates(self) -> int:
        """How many of its cells have a q."""
        return sum(cell.candidate for cell in self.cells) + sum(map(len, self.untold.values()))


def contrast(
    pairs: Pairs, features: Features, settings: ContrastSettings | None = None, *, progress: Progress | None = None
) -> Contrast:
    """Return what separates chosen from rejected: everywhere, in kinds of pairs, after kinds of prompts.

    Leans are tested on all pairs. Comparisons, of which there are a hundred per concept, are looked for on the explore
    half and tested on the confirm half. One Benjamini-Hochberg for each of the lists a report has.
    Raises `InconclusiveError` when there are too few groups to split, `DataError` when features hold pairs that `pairs`
    lacks. Source: arXiv:2606.12360 for the two views; statistics in docs/statistics.md.
    """
    settings = settings or ContrastSettings()
    say = progress or (lambda stage, done, total: None)
    bench = set_up(pairs, features, settings)
    say("contrast: clusters and regions", 0, 4)
    views = label_free_views(features, bench)
    prompts = prompt_clusters(features.prompt.freq, seed=settings.seed)
    say("contrast: leans, and the explore half", 1, 4)
    explored = [_explore(view, bench) for view in views]
    found = [cell for one in explored for cell in one.cells]
    regions = {view.name: view.regions for view in views}
    say("contrast: confirm half", 2, 4)
    tested = confirm(found, bench, _untold(explored))
    say("contrast: nulls on these data", 3, 4)
    nulls = calibrate(
        [(view.kind, view.measures, view.regions) for view in views], bench, [one for view in views for one in view.own]
    )
    say("contrast: nulls on these data", 4, 4)
    return Contrast(
        tuple(one.hypothesis for one in tested),
        (*views[0].measures.concepts, *views[-1].measures.concepts),
        prompts,
        (*regions["region"], *regions["prompt"]),
        features.pair_ids,
        {one.hypothesis.id: one.disparity for one in tested},
        _record(bench, list(zip(views, explored, strict=True)), tested, nulls),
    )


def label_free_views(features: Features, bench: Bench) -> list[View]:
    """Return the three views: global of latents, behaviours, the same shown often, and words; prompt of the first two,
    of words that are seen mostly after one kind of prompt, and of response-shift clusters.

    Everything that must never see a label is made here, from sums, absolute differences and prompts.
    """
    settings = bench.settings
    both = fires(features.chosen.freq) + fires(features.rejected.freq)
    clusters = cluster_latents(_stack(features), seed=settings.seed)
    at_stake = _groups_at_stake(both, bench)
    singles = single_latents(at_stake, min_groups=settings.few_groups)
    everything, behaviours = disparity(features, [*singles, *clusters]), behaviour_measures(bench.rows)
    common = everything.only(
        [m for m, one in enumerate(everything.concepts) if len(one.latents) > 1 or _is_common(one, at_stake, bench)]
    ).joined(behaviours)
    own = everything.joined(behaviours)
    words = phrase_measures(bench.rows, bench.groups, least=_enough_for_words(bench))
    shifts = shift_clusters(features.chosen.freq, features.rejected.freq, seed=settings.seed)
    prompts = prompt_clusters(features.prompt.freq, seed=settings.seed)
    kinds = activity_regions(features.chosen.freq + features.rejected.freq, clusters, seed=settings.seed)
    asked = prompt_regions(features.prompt.freq, prompts, shares=SHARES)
    around, after = _displayed(kinds, settings), _displayed(asked, settings)
    return [
        View("global", everything, ()),
        View("global", behaviours, ()),
        View("global", behaviour_measures(bench.rows, often_concepts(bench.rows)), ()),
        View("global", words, ()),
        View("region", common, around, tuple(own_places(own, around, bench))),
        View("prompt", common, after, tuple(own_places(own, after, bench))),
        View("prompt", words.only([]), after, tuple(own_places(words, after, bench))),
        View("prompt", shift_disparity(features, shifts), after),
    ]


def _enough_for_words(bench: Bench) -> int:
    """In a large dataset a word that twelve prompts show is nothing to read of."""
    return max(bench.settings.few_groups, round(bench.settings.words_share * bench.whole.clusters.n_groups))


def _stack(features: Features) -> Any:
    from scipy import sparse

    return sparse.vstack([fires(features.chosen.freq), fires(features.rejected.freq)]).tocsr()


def _is_common(single: Concept, groups_at_stake: np.ndarray, bench: Bench) -> bool:
    """Whether a single latent has witnesses enough for both halves to have `min_groups`."""
    return bool(groups_at_stake[single.latents[0]] >= 2 * bench.settings.min_groups)


def _groups_at_stake(both: Any, bench: Bench) -> np.ndarray:
    """(n_latents,) number of groups with a pair in which the latent fires in exactly one answer (label-free)."""
    one_sided = both.copy()
    one_sided.data = (one_sided.data == 1).astype(np.float32)
    one_sided.eliminate_zeros()
    every = stats.Clusters.of(bench.groups)
    from scipy import sparse

    ones = np.ones(len(every.codes), np.float32)
    membership = sparse.csr_array((ones, (every.codes, np.arange(len(ones)))), shape=(every.n_groups, len(ones)))
    return np.asarray(((membership @ one_sided) > 0).sum(axis=0)).ravel()


def _displayed(regions: Sequence[KindOfPair], settings: ContrastSettings) -> tuple[KindOfPair, ...]:
    return tuple(region for region in regions if region.inside.sum() >= settings.min_pairs)


def _explore(view: View, bench: Bench) -> _Explored:
    if view.name == "global":
        everywhere = leans_everywhere(view.measures, bench)
        name = "latents" if view.kind == "global" else view.kind
        return _Explored(everywhere.n_tested, everywhere.cells, {name: everywhere.untold})
    compared = _explore_regions(view, bench) if view.measures.concepts and view.regions else _Explored(0, [])
    own = leans_in_one_place(view.name, view.own, bench)
    words = bool(view.own) and view.own[0].measures.concepts[view.own[0].column].is_phrase
    untold = {"own words" if words else "own": own.untold}
    return _Explored(compared.n_tested + own.n_tested, [*compared.cells, *own.cells], untold)


def _untold(explored: Sequence[_Explored]) -> dict[str, np.ndarray]:
    parts = [(name, p) for one in explored for name, p in one.untold.items()]
    return {name: np.concatenate([p for other, p in parts if other == name]) for name, _ in parts}


def _pools(concepts: Sequence[Concept]) -> np.ndarray:
    """(n_concepts,): 0 single latents, 1 behaviours, 2 clusters."""
    return np.array([0 if one.id.startswith("L") else 1 if one.rule else 2 for one in concepts], int)


def _candidates(p: np.ndarray, pools: np.ndarray, bench: Bench) -> np.ndarray:
    """Cells worth a test on the confirm half; p is (n_concepts, n_regions), nan where untested, pools (n_concepts,).

    Single latents, behaviours and clusters are pools of their own: there are twenty times as many of the first, and
    the cell of another should not have to outshine them all.
    """
    settings = bench.settings
    chosen = np.zeros(p.shape, bool)
    for pool in np.unique(pools).tolist():
        part = p[pools == pool]
        spare = min(settings.explore_spare / max(int(np.isfinite(part).sum()), 1), settings.explore_q)
        q = stats.benjamini_hochberg(part.ravel()).reshape(part.shape)
        chosen[pools == pool] = np.isfinite(part) & ((q <= settings.explore_q) | (part <= spare))
    return chosen


def _explore_regions(view: View, bench: Bench) -> _Explored:
    """Candidate cells of a region view; of nested prompt regions only the size that explore likes best."""
    from scipy.special import ndtr

    settings = bench.settings
    masks = np.column_stack([region.inside for region in view.regions])
    half = bench.explore
    screen = screen_regions(
        view.measures, masks, bench.spline, half.clusters, half.rows, min_groups=settings.min_groups
    )
    families = [region.made_from if view.name == "prompt" else region.id for region in view.regions]
    z, n_sizes = _best_of_nested(screen.z, families)
    p = np.minimum(2 * ndtr(-np.abs(z)) * n_sizes, 1.0)
    wanted = _candidates(p, _pools(view.measures.concepts), bench)
    chosen = np.argwhere(wanted & _strongest_places(z, settings.max_places))
    cells = []
    for m, k in chosen.tolist():
        region = view.regions[k]
        halves = _halves(view.measures, m, region, bench)
        sign = int(np.sign(screen.effect[m, k]))
        if np.sign(halves[0]) == np.sign(halves[1]) == sign:
            cells.append(Found(view.name, view.measures, m, region, sign, *halves, True))
    return _Explored(int(np.isfinite(screen.z).sum()), cells)


def _strongest_places(z: np.ndarray, most: int) -> np.ndarray:
    """True for each concept's `most` largest |z|."""
    size = np.nan_to_num(np.abs(z), nan=-1.0)
    if size.shape[1] <= most:
        return np.asarray(size >= 0)
    cut = np.partition(size, -most, axis=1)[:, -most]
    return np.asarray(size >= np.maximum(cut, 0)[:, None])


def _best_of_nested(z: np.ndarray, families: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Per concept only the region with the largest |z| of each family of nested regions, and how many it was chosen of.

    Both (n_concepts, n_regions), z nan where not chosen. Its p is to be multiplied by that number: the largest of four
    is not one of one.
    """
    kept, among = np.full_like(z, np.nan), np.ones(z.shape)
    names, each = np.array(families), np.arange(len(z))
    for name in dict.fromkeys(families):
        columns = np.flatnonzero(names == name)
        known = np.isfinite(z[:, columns])
        best = columns[np.argmax(np.where(known, np.abs(z[:, columns]), -1.0), axis=1)]
        kept[each, best] = z[each, best]
        among[each, best] = np.maximum(known.sum(axis=1), 1)
    return kept, among


def _halves(measures: Measures, column: int, region: KindOfPair, bench: Bench) -> tuple[float, float]:
    """The regression's coefficient in each half of explore (least squares; nan where it cannot be told)."""
    u, a = measures.columns([column])
    effects = []
    for rows in bench.halves:
        stake = a[rows, 0]
        columns = np.column_stack([bench.spline[rows], stake, stake * region.inside[rows]])
        effects.append(float(np.linalg.lstsq(columns, u[rows, 0], rcond=None)[0][-1]))
    return effects[0], effects[1]


def _record(
    bench: Bench, views: Sequence[tuple[View, _Explored]], tested: Sequence[Tested], nulls: list[dict[str, Any]]
) -> dict[str, Any]:
    """What was tested, on what, and how the nulls came out: contrast.json."""
    counts: dict[str, dict[str, int]] = {}
    for view, explored in views:
        entry = counts.setdefault(
            view.name, {"n_cells": 0, "n_tested": 0, "n_candidates": 0, "n_confirmed": 0, "n_too_few_witnesses": 0}
        )
        entry["n_cells"] += view.n_cells
        entry["n_tested"] += explored.n_tested
        entry["n_candidates"] += explored.n_candidates
    for one in tested:
        entry = counts[one.hypothesis.view]
        entry["n_confirmed"] += one.hypothesis.confirmed
        entry["n_too_few_witnesses"] += one.hypothesis.verdict == "too few witnesses"
    close = float(np.mean(np.abs(bench.length_gap) < 0.2))
    return {
        "n_pairs": len(bench.rows),
        "n_groups": bench.explore.clusters.n_groups + bench.confirm.clusters.n_groups,
        "n_explore": len(bench.explore.rows),
        "n_confirm": len(bench.confirm.rows),
        "n_explore_groups": bench.explore.clusters.n_groups,
        "n_confirm_groups": bench.confirm.clusters.n_groups,
        "n_candidates": sum(entry["n_candidates"] for entry in counts.values()),
        "n_confirmed": sum(entry["n_confirmed"] for entry in counts.values()),
        "views": counts,
        "nulls": nulls,
        "length": {
            "mean_log_ratio": float(bench.length_gap.mean()),
            "share_of_pairs_of_like_length": close,
            "separable": close >= 0.1,
        },
        "sources": len(set(np.concatenate(bench.sources).tolist())) if bench.sources else 0,
        "settings": asdict(bench.settings),
    }


def write_contrast(result: Contrast, study: Path) -> dict[str, Any]:
    """Write hypotheses.json, hypotheses.parquet and concepts.json into the study folder; returns the record."""
    ids = np.array(result.pair_ids)
    write_disparities(study / "hypotheses.parquet", result.pair_ids, result.disparities)
    write_json(
        study / "concepts.json",
        {
            "concepts": [asdict(concept) for concept in (*result.concepts, *result.prompt_clusters)],
            "regions": [
                {"id": kind.id, "made_from": kind.made_from, "pair_ids": ids[kind.inside].tolist()}
                for kind in result.regions
            ],
        },
    )
    write_hypotheses(study / "hypotheses.json", result.hypotheses)
    return result.record
