"""A study foretells its training, and evaluations before and after say how well.

In:  a study; for the card, the folder of an evaluation of the starting model and those of models trained on the pairs.
Out: prediction/forecast.json: every concept and every behaviour by rule; prediction/card.json.
Refuses: evaluations that answered other prompts than each other, and a study without an autoencoder to read with.

The starting model's own answers that a forecast rests on are sampled apart from the evaluations: shared samples alone
would make a correlation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltscope.acting import ground_of, open_reading
from tiltscope.aims import own_sample
from tiltscope.artifact import fingerprint, write_json
from tiltscope.behaviours import RULES
from tiltscope.errors import UsageError
from tiltscope.evaluation import Evaluation, read_evaluation
from tiltscope.hypotheses import read_hypotheses
from tiltscope.measure import Bench, Ground
from tiltscope.pairs import Pair, Pairs, Turn
from tiltscope.prediction import (
    PRIMARY,
    Observed,
    Shown,
    Units,
    forecast_traits,
    forecasts,
    make_units,
    prediction_card,
    swapped,
)
from tiltscope.prediction.predictors import word_change
from tiltscope.recipe import SIDES

if TYPE_CHECKING:
    from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

    from tiltscope.features import Features

__all__ = ["run_card", "run_forecast"]

Progress = Callable[[str, int, int], None]
Talk = tuple[tuple[Turn, ...], str]

_SWAPS = 200


@dataclass(frozen=True)
class _Foretold:
    """What a forecast was made from and says; `words` is the null of the bag of words."""

    bench: Bench
    units: Units
    shown: Shown
    made: Mapping[str, np.ndarray]
    words: np.ndarray
    own: list[list[str]]


def run_forecast(study: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """Forecast what training on the study's pairs changes; writes and returns prediction/forecast.json."""
    product = _product(_foretell(study, progress), study)
    write_json(study / "prediction" / "forecast.json", product)
    return product


def run_card(
    study: Path, before: Path, after: Sequence[Path], *, line: float | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Score the forecast by evaluations of the starting model (before) and of one trained model per seed (after).

    line: slope of the observed change on the primary forecast in another dataset's card, for 1 - SSE / SST.
    Raises `UsageError` where the evaluations do not answer the same prompts.
    """
    foretold = _foretell(study, progress)
    first, *others = [read_evaluation(folder) for folder in (before, *after)]
    ids = [one.id for one in first.prompts]
    for folder, one in zip(after, others, strict=True):
        if [p.id for p in one.prompts] != ids or [p.text for p in one.prompts] != [p.text for p in first.prompts]:
            raise UsageError("these evaluations asked other prompts", where=str(folder), found=str(before))
    read = [_values(foretold, one, study, progress) for one in (first, *others)]
    observed = Observed(read[0], np.stack(read[1:]), foretold.shown.sd)
    rng = np.random.default_rng(0)
    nulls = {
        "swapped labels": np.stack([swapped(foretold.shown, rng) for _ in range(_SWAPS)]),
        "random concepts": _shuffled(foretold.made[PRIMARY], foretold.shown, rng),
        "length only": foretold.made["length_only"],
        "bag of words": foretold.words,
    }
    made = {name: one for name, one in foretold.made.items() if name != "length_only"}
    card = prediction_card(made, observed, nulls=nulls, primary=PRIMARY, line=line)
    product = {
        "product": "prediction card",
        **asdict(card),
        "primary": PRIMARY,
        "features": foretold.bench.ground.features.fingerprint,
        "traits": _traits_observed(_product(foretold, study)["traits"], first, others),
        "inputs": {"before": first.fingerprint, "after": [one.fingerprint for one in others]},
    }
    write_json(study / "prediction" / "card.json", product)
    return product


def _foretell(study: Path, progress: Progress | None) -> _Foretold:
    bench = Bench(ground_of(open_reading(study)), progress)
    features = bench.ground.features
    prompts, answers = own_sample(bench)
    talks = [(prompt, text) for prompt, some in zip(prompts, answers, strict=True) for text in some]
    own = _read(talks, bench.ground, progress)
    units = make_units(features.chosen.freq, features.rejected.freq, own)
    if not units.latents:
        raise UsageError(
            "no latent is shown both in the pairs and in the starting model's own answers", where=str(study)
        )
    shape = len(prompts), len(answers[0])
    rows = bench.rows
    shown = Shown(
        units.values(features.chosen.freq),
        units.values(features.rejected.freq),
        units.values(own).reshape(*shape, -1),
        np.unique([row.group for row in rows], return_inverse=True)[1],
        features.chosen.n_tokens.astype(float),
        features.rejected.n_tokens.astype(float),
        np.array([[len(text) / 4 for text in some] for some in answers]),
    )
    words = word_change(shown, [row.chosen for row in rows], [row.rejected for row in rows], answers)
    return _Foretold(bench, units, shown, forecasts(shown), words, answers)


def _read(talks: Sequence[Talk], ground: Ground, progress: Progress | None) -> sparse.csr_array:
    """Return (n_talks, n_latents), shares of tokens, read through the study's scope; resumable, cached by content."""
    folder = ground.folder / "prediction" / f"read-{fingerprint([[asdict(t) for t in p] + [a] for p, a in talks])}"
    features = _features(talks, ground, folder, progress)
    place = {pair_id: i for i, pair_id in enumerate(features.pair_ids)}
    from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

    nothing = sparse.csr_array((1, features.n_latents))
    rows = []
    for i in range(len(talks)):
        at = place.get(f"{i // 2:016x}")
        rows.append(nothing if at is None else (features.rejected if i % 2 else features.chosen).freq[[at]])
    return sparse.csr_array(sparse.vstack(rows))


def _features(talks: Sequence[Talk], ground: Ground, folder: Path, progress: Progress | None) -> Features:
    """Two answers to a prompt are a pair to the reader, which knows how to stop and go on."""
    from tiltscope.features import read_features
    from tiltscope.sae import open_scope

    rows = []
    for i in range(0, len(talks), 2):
        (prompt, first), (_, second) = talks[i], talks[min(i + 1, len(talks) - 1)]
        rows.append(Pair(f"{i // 2:016x}", prompt, first or " ", second or " ", str(i), i + 1))
    pairs = Pairs(tuple(rows), (), "answers", "answers", fingerprint(folder.name))
    return read_features(pairs, open_scope(ground.folder), folder, progress=progress)


def _values(foretold: _Foretold, evaluation: Evaluation, study: Path, progress: Progress | None) -> np.ndarray:
    """Return (n_prompts, n_answers, m): what an evaluation's answers show of the units."""
    texts = _texts(evaluation)
    turns = {one.id: one.turns for one in evaluation.prompts}
    even = [some + some[-1:] * (len(some) % 2) for some in texts.values()]
    talks = [(turns[id], text) for id, some in zip(texts, even, strict=True) for text in some]
    values = foretold.units.values(_read(talks, foretold.bench.ground, progress))
    n = min(len(some) for some in texts.values())
    return values.reshape(len(texts), len(even[0]), -1)[:, :n]


def _texts(evaluation: Evaluation) -> dict[str, list[str]]:
    """The answers by prompt; every prompt must have as many."""
    found: dict[str, list[str]] = {one.id: [] for one in evaluation.prompts}
    for one in evaluation.answers:
        found[one.prompt_id].append(one.text or "")
    if len({len(some) for some in found.values()}) != 1:
        raise UsageError("this evaluation has more answers to some prompts than to others", where=evaluation.name)
    return found


def _shuffled(x: np.ndarray, shown: Shown, rng: np.random.Generator) -> np.ndarray:
    """(200, m): the forecast given to other concepts of about the same frequency among own answers."""
    order = np.argsort(shown.own.mean(axis=(0, 1)), kind="stable")
    blocks = np.array_split(order, max(1, len(x) // 50))
    drawn = np.empty((_SWAPS, len(x)))
    for one in drawn:
        for block in blocks:
            one[block] = x[rng.permutation(block)]
    return drawn


def _product(foretold: _Foretold, study: Path) -> dict[str, Any]:
    named = _names(study)
    units = [
        {
            "latents": list(latents),
            "name": next((named[one] for one in latents if one in named), None),
            "now": float(foretold.shown.own[:, :, i].mean()),
            **{name: float(made[i]) for name, made in foretold.made.items() if name != "length_only"},
        }
        for i, latents in enumerate(foretold.units.latents)
    ]
    return {
        "product": "forecast",
        "primary": PRIMARY,
        "features": foretold.bench.ground.features.fingerprint,
        "n_pairs": len(foretold.shown.chosen),
        "n_own": int(np.prod(foretold.shown.own.shape[:2])),
        "outside": list(foretold.units.outside),
        "units": sorted(units, key=lambda one: -abs(one[PRIMARY])),
        "traits": _traits(foretold),
    }


def _names(study: Path) -> dict[int, str]:
    """Names of confirmed findings by latent: single latents first."""
    rows = [row for row in read_hypotheses(study) if row["confirmed"] and row["concept"].get("name")]
    found: dict[int, str] = {}
    for row in sorted(rows, key=lambda row: len(row["concept"]["latents"])):
        for latent in row["concept"]["latents"] if len(row["concept"]["latents"]) == 1 else ():
            found.setdefault(int(latent), str(row["concept"]["name"]))
    return found


def _traits(foretold: _Foretold) -> list[dict[str, Any]]:
    rows = foretold.bench.rows
    chosen, rejected = (_marked([getattr(row, side) for row in rows]) for side in SIDES)
    own = np.stack([_marked(some) for some in foretold.own])
    at_stake = np.flatnonzero((chosen != rejected).sum(axis=0) >= 20)
    made = forecast_traits(
        [RULES[i].id for i in at_stake], chosen[:, at_stake], rejected[:, at_stake], own[:, :, at_stake]
    )
    return [{**asdict(one), "name": RULES[i].name} for i, one in zip(at_stake, made, strict=True)]


def _marked(texts: Sequence[str]) -> np.ndarray:
    """(n_texts, n_rules) bool: which rules of the library mark anything."""
    return np.array([[bool(rule.marks(text)) for rule in RULES] for text in texts], bool)


def _traits_observed(
    traits: Sequence[Mapping[str, Any]], before: Evaluation, after: Sequence[Evaluation]
) -> list[dict[str, Any]]:
    """The forecasts with what was seen: the rate before, and after, seeds averaged."""
    place = {rule.id: i for i, rule in enumerate(RULES)}
    rates = [_marked([text for some in _texts(one).values() for text in some]).mean(axis=0) for one in (before, *after)]
    now, then = rates[0], np.mean(rates[1:], axis=0)
    return [
        {**one, "before": float(now[place[one["id"]]]), "observed": float(then[place[one["id"]]])} for one in traits
    ]
