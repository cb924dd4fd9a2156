"""A study foretells its training, and evaluations before and after say how well.

In:  a study; for the card, the folder of an evaluation of the starting model and those of models trained on the pairs.
Out: prediction/forecast.json: every concept and every behaviour by rule; prediction/card.json.
Refuses: evaluations that answered other prompts than each other or only prompts of the study, or were trained with
other objectives, and a study without an autoencoder to read with.

The starting model's own answers that a forecast rests on are sampled apart from the evaluations: shared samples alone
would make a correlation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltscope.acting import ground_of, open_reading
from tiltscope.aims import NEW_TOKENS, own_sample
from tiltscope.artifact import fingerprint, write_json
from tiltscope.behaviours import RULES
from tiltscope.errors import UsageError
from tiltscope.evaluation import Evaluation, prompts_in, read_evaluation
from tiltscope.hypotheses import read_hypotheses
from tiltscope.kinds import prompt_kinds
from tiltscope.measure import Bench, Ground
from tiltscope.pairs import Pair, Pairs, Turn
from tiltscope.prediction import (
    DECLARED,
    DECLARED_LOCAL,
    Card,
    LocalShown,
    Objective,
    Observed,
    Shown,
    Units,
    forecast_traits,
    forecasts,
    local_forecasts,
    local_swapped,
    make_units,
    prediction_card,
    swapped,
)
from tiltscope.prediction.predictors import word_change
from tiltscope.recipe import SIDES

if TYPE_CHECKING:
    from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

    from tiltscope.features import Features

__all__ = ["Foretold", "alike", "foretell", "observe", "run_card", "run_forecast"]

Progress = Callable[[str, int, int], None]
Talk = tuple[tuple[Turn, ...], str]

_SWAPS, _LOCAL_SWAPS = 200, 60
_FEWEST = 8  # held-out prompts of a kind, and of the rest
_ASSUMED = "nothing says how the models were or will be trained: DPO, unless --objective says otherwise"


@dataclass(frozen=True)
class Foretold:
    """What a forecast was made from and says; own_prompts: how the prompts of the own answers were read."""

    bench: Bench
    units: Units
    shown: Shown
    made: Mapping[str, np.ndarray]
    own: list[list[str]]
    own_prompts: sparse.csr_array


@dataclass(frozen=True)
class _Declared:
    """The objective of training, who said so, and so the forecast that is declared."""

    objective: Objective
    said_by: str

    @property
    def name(self) -> str:
        return DECLARED[self.objective]


def run_forecast(
    study: Path, *, objective: Objective | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Forecast what training on the study's pairs changes; writes and returns prediction/forecast.json."""
    product = _product(foretell(study, progress), study, _declared(objective, {}))
    write_json(study / "prediction" / "forecast.json", product)
    return product


def _declared(wanted: Objective | None, recorded: Mapping[str, str | None]) -> _Declared:
    """recorded: {evaluation: the objective its model's run names}. Raises `UsageError` where they disagree."""
    told = {folder: one for folder, one in recorded.items() if one is not None}
    expected: str | None = wanted or next(iter(told.values()), None)
    for folder, one in told.items():
        if one != expected:
            raise UsageError(
                "this model was trained with another objective",
                where=folder,
                found=f"{one}, not {expected}",
                hint="leave --objective out, and score DPO and SFT apart",
            )
    if told:
        return _Declared("sft" if "sft" in told.values() else "dpo", "the runs that were evaluated")
    return _Declared(wanted, "--objective") if wanted else _Declared("dpo", _ASSUMED)


def run_card(
    study: Path,
    before: Path,
    after: Sequence[Path],
    *,
    objective: Objective | None = None,
    line: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score the forecast by evaluations of the starting model (before) and of one trained model per seed (after).

    objective: how they were trained, where the evaluations do not say. line: slope of the observed change on the
    declared forecast in another dataset's card, for 1 - SSE / SST.
    Raises `UsageError` where the evaluations do not answer the same prompts, all of them the study's, or name other
    objectives.
    """
    everyone = alike([before, *after])
    first, *others = everyone
    recorded = {str(folder): one.objective for folder, one in zip(after, others, strict=True)}
    declared = _declared(objective, recorded)
    known = prompts_in(first, open_reading(study).rows)
    foretold = foretell(study, progress)
    observed, prompts = observe(foretold, everyone, progress)
    product = {
        "product": "prediction card",
        **asdict(_global_card(foretold, observed, declared, line)),
        "primary": declared.name,
        "objective": asdict(declared),
        "n_in_study": known,
        "features": foretold.bench.ground.features.fingerprint,
        "units": {
            "forecast": [round(float(one), 4) for one in foretold.made[declared.name]],
            "observed": [round(float(one), 4) for one in observed.change],
        },
        "conditional": _conditional(foretold, observed, declared, prompts),
        "traits": _traits_observed(foretold, declared.objective, first, others),
        "inputs": {"before": first.fingerprint, "after": [one.fingerprint for one in others]},
    }
    write_json(study / "prediction" / "card.json", product)
    return product


def alike(folders: Sequence[Path]) -> list[Evaluation]:
    """Read evaluations. Raises `UsageError` where they asked other prompts."""
    first, *others = [read_evaluation(folder) for folder in folders]
    asked = [(one.id, one.text) for one in first.prompts]
    for folder, one in zip(folders[1:], others, strict=True):
        if [(p.id, p.text) for p in one.prompts] != asked:
            raise UsageError("these evaluations asked other prompts", where=str(folder), found=str(folders[0]))
    return [first, *others]


def _global_card(foretold: Foretold, observed: Observed, declared: _Declared, line: float | None) -> Card:
    rng = np.random.default_rng(0)
    shown, rows = foretold.shown, foretold.bench.rows
    chosen, rejected = ([getattr(row, side) for row in rows] for side in SIDES)
    nulls = {
        "swapped labels": np.stack([swapped(shown, declared.objective, rng) for _ in range(_SWAPS)]),
        "random concepts": _shuffled(foretold.made[declared.name], shown, rng),
        "length only": foretold.made["length_only"],
        "bag of words": word_change(shown, chosen, rejected, foretold.own),
    }
    made = {name: one for name, one in foretold.made.items() if name != "length_only"}
    return prediction_card(made, observed, nulls=nulls, primary=declared.name, line=line)


def _conditional(
    foretold: Foretold, observed: Observed, declared: _Declared, prompts: sparse.csr_array
) -> dict[str, Any] | None:
    """The card of what changes after one kind of prompt more than after the rest; None without kinds to tell apart."""
    kinds = prompt_kinds(foretold.bench.ground.folder, foretold.bench.ground.features)
    asked, own = ({kind.id: kind.of(some) for kind in kinds} for some in (prompts, foretold.own_prompts))
    kinds = [kind for kind in kinds if _enough(asked[kind.id], _FEWEST) and _enough(own[kind.id], 1)]
    if not kinds:
        return None
    local = LocalShown(
        foretold.shown,
        declared.objective,
        np.stack([kind.inside for kind in kinds]),
        np.stack([own[kind.id] for kind in kinds]),
    )
    made = local_forecasts(local)
    rng = np.random.default_rng(0)
    cells = made[DECLARED_LOCAL].reshape(len(kinds), -1)
    nulls = {
        "global forecast everywhere": np.zeros(cells.size),
        "swapped labels": np.stack([local_swapped(local, rng) for _ in range(_LOCAL_SWAPS)]),
        "other kinds of prompts": np.stack([rng.permutation(cells).ravel() for _ in range(_LOCAL_SWAPS)]),
    }
    seen = replace(observed, inside=np.stack([asked[kind.id] for kind in kinds]))
    card = prediction_card(made, seen, nulls=nulls, primary=DECLARED_LOCAL)
    told = [{"id": kind.id, "n_prompts": int(asked[kind.id].sum())} for kind in kinds]
    return {**asdict(card), "primary": DECLARED_LOCAL, "kinds": told}


def _enough(inside: np.ndarray, fewest: int) -> bool:
    return bool(fewest <= inside.sum() <= len(inside) - fewest)


def foretell(study: Path, progress: Progress | None = None) -> Foretold:
    """Read the starting model's own answers (sampled once) and make every forecast.

    Raises `UsageError` where no latent is shown both in them and in the pairs.
    """
    bench = Bench(ground_of(open_reading(study)), progress)
    features = bench.ground.features
    prompts, answers = own_sample(bench)
    talks = [(prompt, text) for prompt, some in zip(prompts, answers, strict=True) for text in some]
    own, own_prompts = _read(talks, bench.ground, progress)
    units = make_units(features.chosen.freq, features.rejected.freq, own)
    if not units.latents:
        raise UsageError(
            "no latent is shown both in the pairs and in the starting model's own answers",
            where=str(study),
            found=f"{len(bench.rows)} pairs, {len(talks)} answers of the model",
            hint="bring more pairs: a few hundred prompts give a forecast",
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
    return Foretold(bench, units, shown, forecasts(shown), answers, own_prompts[:: shape[1]])


def _read(
    talks: Sequence[Talk], ground: Ground, progress: Progress | None
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return what answers and their prompts show, (n_talks, n_latents) each, shares of tokens; resumable, cached."""
    folder = ground.folder / "prediction" / f"read-{fingerprint([[asdict(t) for t in p] + [a] for p, a in talks])}"
    features = _features(talks, ground, folder, progress)
    place = {pair_id: i for i, pair_id in enumerate(features.pair_ids)}
    from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

    nothing = sparse.csr_array((1, features.n_latents))
    answers, prompts = [], []
    for i in range(len(talks)):
        at = place.get(f"{i // 2:016x}")
        answers.append(nothing if at is None else (features.rejected if i % 2 else features.chosen).freq[[at]])
        prompts.append(nothing if at is None else features.prompt.freq[[at]])
    return sparse.csr_array(sparse.vstack(answers)), sparse.csr_array(sparse.vstack(prompts))


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


def observe(
    foretold: Foretold, evaluations: Sequence[Evaluation], progress: Progress | None = None
) -> tuple[Observed, sparse.csr_array]:
    """Return what these answers show of the units, before and after, and how their prompts (n_prompts, n_latents) read.

    evaluations: of the starting model first, as `alike` gives them.
    """
    values, prompts = zip(*[_seen(foretold, one, progress) for one in evaluations], strict=True)
    return Observed(values[0], np.stack(values[1:]), foretold.shown.sd), prompts[0]


def _seen(foretold: Foretold, evaluation: Evaluation, progress: Progress | None) -> tuple[np.ndarray, sparse.csr_array]:
    """(n_prompts, n_answers, m) values of the units, and (n_prompts, n_latents) what the prompts show."""
    texts = _texts(evaluation)
    turns = {one.id: one.turns for one in evaluation.prompts}
    even = [some + some[-1:] * (len(some) % 2) for some in texts.values()]
    talks = [(turns[id], text) for id, some in zip(texts, even, strict=True) for text in some]
    read, prompts = _read(talks, foretold.bench.ground, progress)
    n = min(len(some) for some in texts.values())
    values = foretold.units.values(read).reshape(len(texts), len(even[0]), -1)[:, :n]
    return values, prompts[:: len(even[0])]


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


def _product(foretold: Foretold, study: Path, declared: _Declared) -> dict[str, Any]:
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
        "primary": declared.name,
        "objective": asdict(declared),
        "features": foretold.bench.ground.features.fingerprint,
        "n_pairs": len(foretold.shown.chosen),
        "n_own": int(np.prod(foretold.shown.own.shape[:2])),
        "outside": list(foretold.units.outside),
        "units": sorted(units, key=lambda one: -abs(one[declared.name])),
        "traits": _traits(foretold, declared.objective, foretold.own),
    }


def _names(study: Path) -> dict[int, str]:
    """Names of confirmed findings by latent: single latents first."""
    rows = [row for row in read_hypotheses(study) if row["confirmed"] and row["concept"].get("name")]
    found: dict[int, str] = {}
    for row in sorted(rows, key=lambda row: len(row["concept"]["latents"])):
        for latent in row["concept"]["latents"] if len(row["concept"]["latents"]) == 1 else ():
            found.setdefault(int(latent), str(row["concept"]["name"]))
    return found


def _traits(foretold: Foretold, objective: Objective, start: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Rates by rule, from those in `start`, the starting model's answers by prompt.

    DPO leaves the rejected answers behind, SFT the model's own to prompts of the pairs. Those end after `NEW_TOKENS`,
    so the chosen ones they are set against are cut there too: what comes with length would else be foretold too high.
    """
    rows = foretold.bench.rows
    chosen, rejected = (_marked([getattr(row, side) for row in rows]) for side in SIDES)
    now = np.stack([_marked(some) for some in start])
    left = rejected
    if objective == "sft":
        left = _marked([text for some in foretold.own for text in some])
        chosen = _marked([_as_asked(row, foretold.bench.ground.features) for row in rows])
    at_stake = np.flatnonzero((chosen != rejected).sum(axis=0) >= 20)
    ids = [RULES[i].id for i in at_stake]
    made = forecast_traits(ids, chosen[:, at_stake], left[:, at_stake], now[:, :, at_stake])
    return [{**asdict(one), "name": RULES[i].name} for i, one in zip(at_stake, made, strict=True)]


def _as_asked(row: Pair, features: Features) -> str:
    """The chosen answer as far as an answer of the model goes."""
    ends = features.span(row.id, "chosen").ends
    return row.chosen if len(ends) <= NEW_TOKENS else row.chosen[: int(ends[NEW_TOKENS - 1])]


def _marked(texts: Sequence[str]) -> np.ndarray:
    """(n_texts, n_rules) bool: which rules of the library mark anything."""
    return np.array([[bool(rule.marks(text)) for rule in RULES] for text in texts], bool)


def _traits_observed(
    foretold: Foretold, objective: Objective, before: Evaluation, after: Sequence[Evaluation]
) -> list[dict[str, Any]]:
    """The rates forecast from where the starting model stands on these prompts, and those seen, seeds averaged."""
    place = {rule.id: i for i, rule in enumerate(RULES)}
    asked = list(_texts(before).values())
    rates = [_marked([text for some in _texts(one).values() for text in some]).mean(axis=0) for one in (before, *after)]
    now, then = rates[0], np.mean(rates[1:], axis=0)
    return [
        {**one, "before": float(now[place[one["id"]]]), "observed": float(then[place[one["id"]]])}
        for one in _traits(foretold, objective, asked)
    ]
