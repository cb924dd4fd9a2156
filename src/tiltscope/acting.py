"""The street from a plan to a verdict, stage by stage; each reads the last product and writes the next.

In:  a study with a plan, folders of runs and evaluations.
Out: scores/, recipe/, a run, an evaluation, a comparison, a verdict.
Refuses: to train under a plan that was not prepared from these pairs, or with decisions still open unless told to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltscope.aims import Aims, aims_of, balanced, in_balance, in_rates, tilted
from tiltscope.artifact import fingerprint, quoted, read_object, write_json
from tiltscope.behaviours import RULES, rule
from tiltscope.errors import ProductError, StaleProductError, UsageError
from tiltscope.interventions import Prepared, Scored, Wish, prepare
from tiltscope.interventions.strength import explaining_strength
from tiltscope.measure import Bench, Ground, Measured, measure, namesake_of, save_measured, scored_on_pairs
from tiltscope.pairs import Pair
from tiltscope.plan import Decision, DetectorSpec, Plan, load_plan, unspoken
from tiltscope.pushes import pushes
from tiltscope.recipe import Objective, Recipe, empty_recipe, load_recipe, save_recipe
from tiltscope.study import Opened, open_study

if TYPE_CHECKING:
    from tiltscope.export import Exported
    from tiltscope.interventions.rates import Tilt
    from tiltscope.lm import Policy
    from tiltscope.training import Run, StartingModel, TrainConfig

__all__ = [
    "Acting",
    "open_acting",
    "open_reading",
    "run_export",
    "run_measure",
    "run_prepare",
    "run_train",
    "starting_model",
]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Acting:
    """A study and its plan, checked to belong together, and what the study was read with."""

    opened: Opened
    plan: Plan
    record: Mapping[str, Any]

    @property
    def rows(self) -> list[Pair]:
        """The pairs that were read, in the order of the features."""
        return self.opened.rows


def open_acting(study: Path, plan: Path | None = None) -> Acting:
    """Load a study and its plan (STUDY/plan.yaml by default); every decision is checked at the door.

    A plan of detectors alone needs no findings: it can act on a study that was only read.
    """
    from tiltscope.hypotheses import read_hypotheses

    opened = open_study(study)
    known = [row["id"] for row in read_hypotheses(study)] if (study / "hypotheses.json").exists() else []
    loaded = load_plan(plan or study / "plan.yaml", known_ids=[*known, *(one.id for one in RULES)])
    if plan is None:
        _check_findings(loaded, known)
    return Acting(opened, loaded, read_object(study / "study.json", "max_length", verb="read"))


def open_reading(study: Path) -> Acting:
    """Load a study without a plan: for what only reads it."""
    return Acting(open_study(study), Plan(()), read_object(study / "study.json", "max_length", verb="read"))


def _check_findings(plan: Plan, known: Sequence[str]) -> None:
    """Refuse a decision that changes training for a finding the study does not have."""
    import difflib

    for one in plan.active:
        if one.hypothesis is not None and one.hypothesis not in known:
            near = ", ".join(difflib.get_close_matches(one.hypothesis, known, n=3, cutoff=0.3)) or "none"
            listed = f"nearest: {near}; list them: tiltscope show hypotheses.json of the study"
            hint = listed if known else "nothing was looked for yet: tiltscope contrast STUDY"
            raise UsageError("the study has no such finding", where=one.place, found=one.hypothesis, hint=hint)


def ground_of(acting: Acting, *, other_data: bool = False) -> Ground:
    """Return where measuring stands; the model is loaded when something needs it."""
    record = acting.record

    def load() -> Policy:
        from tiltscope.lm import load_policy

        return load_policy(
            record.get("model"),
            device=record.get("device"),
            template=record.get("template"),
            max_length=int(record["max_length"]),
        )

    opened = acting.opened
    seed = int(record.get("seed") or 0)
    return Ground(opened.folder, opened.pairs, opened.features, load, seed, other_data)


def run_measure(acting: Acting, *, other_data: bool = False, progress: Progress | None = None) -> list[Measured]:
    """Measure what the plan's active decisions need and write scores/; what was measured before is read back.

    other_data: the plan was made for another dataset, read through the same scope.
    """
    measured = measure(ground_of(acting, other_data=other_data), acting.plan, progress=progress)
    save_measured(acting.opened.folder, measured, _inputs(acting))
    return measured


def _inputs(acting: Acting) -> dict[str, str]:
    return {
        "pairs": acting.opened.pairs.fingerprint,
        "features": acting.opened.features.fingerprint,
        "plan": acting.plan.fingerprint,
    }


def run_prepare(
    acting: Acting,
    measured: Sequence[Measured],
    *,
    objective: Objective = "dpo",
    allow_undecided: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fold the plan into recipe/ and write and return prepared.json, what each decision changes.

    Raises:
        UsageError: undecided findings that nobody allowed to leave open, or a decision that cannot be carried out.
    """
    missing = unspoken(acting.opened.folder, acting.plan)
    open_ones = (*acting.plan.undecided, *missing)
    if open_ones and not allow_undecided:
        raise _undecided(acting, missing)
    start = empty_recipe([row.id for row in acting.rows], objective, made_from=_inputs(acting))
    decided, forecast = _decided(measured, acting, objective, Bench(ground_of(acting), progress))
    done = prepare(start, decided, texts={row.id: (row.chosen, row.rejected) for row in acting.rows})
    left = tuple(f"{one.name}: undecided, left to plain training" for one in open_ones)
    done = replace(done, recipe=replace(done.recipe, log=(*done.recipe.log, *left)))
    save_recipe(done.recipe, acting.opened.folder / "recipe")
    product = prepared_product(done, measured, forecast)
    product["pushes"] = [asdict(one) for one in pushes(acting.rows, done.recipe)]
    write_json(acting.opened.folder / "prepared.json", product)
    return product


def _undecided(acting: Acting, missing: Sequence[Decision]) -> UsageError:
    """Say how many findings are undecided, and which; those that the plan has no entry for are undecided too."""
    plan = acting.plan
    open_ones = (*plan.undecided, *missing)
    found = ", ".join(one.hypothesis or one.name for one in open_ones[:8]) + (" …" if len(open_ones) > 8 else "")
    hint = "decide them, or leave them to plain training knowingly: --allow-undecided"
    if missing:
        found += f"; {len(missing)} of them have no entry in this plan, the first is {missing[0].hypothesis}"
        hint = f"tiltscope plan draft {quoted(acting.opened.folder)} --overwrite writes missing entries; {hint}"
    return UsageError(
        f"{len(open_ones)} of {len(plan.decisions) + len(missing)} findings are undecided, which never means allowed",
        where=str(plan.path),
        found=found,
        hint=hint,
    )


def _decided(
    measured: Sequence[Measured], acting: Acting, objective: Objective, bench: Bench
) -> tuple[list[tuple[Wish, Scored]], list[dict[str, Any]]]:
    """The decisions as `interventions` needs them, those with an aim as one, and the rates the tilt forecasts."""
    whole = [one for one in measured if in_balance(one.decision)]
    rates = [one.decision for one in measured if in_rates(one.decision)]
    alone = objective == "dpo" and len(whole) == 1 and not whole[0].decision.hold
    others = [one for one in measured if not in_rates(one.decision) and (alone or one not in whole)]
    decided = [(_wish(one), one.scored) for one in others]
    forecast: list[dict[str, Any]] = []
    if whole and not alone:
        held = [(one, scored_on_pairs(one, bench)) for one in _held([one.decision for one in whole], acting)]
        decided.append(balanced([(one.decision, one.scored) for one in whole], held, objective))
    if rates:
        aims = aims_of(rates, _held(rates, acting), bench)
        wish, scored, tilt = tilted(aims)
        decided.append((wish, scored))
        forecast = _forecast(aims, tilt)
    return decided, forecast


def _held(aimed: Sequence[Decision], acting: Acting) -> list[Decision]:
    """What these decisions hold, as something to detect: rules of the library, or findings of the study."""
    from tiltscope.hypotheses import find_hypothesis

    wanted = dict.fromkeys(id for one in aimed for id in one.hold)
    known = {one.id for one in RULES}
    found = []
    for id in wanted:
        if id in known:
            name, spec = rule(id).name, DetectorSpec("rule", id, by="present")
            found.append(Decision(0, aimed[0].line, None, name, spec, file=aimed[0].file))
            continue
        row = find_hypothesis(acting.opened.folder, id)
        counted, latents = row["concept"].get("rule"), tuple(row["concept"]["latents"])
        spec = DetectorSpec("rule", counted, by="present") if counted else DetectorSpec("concept", latents=latents)
        one = Decision(0, aimed[0].line, id, str(row["concept"]["name"]), spec, file=aimed[0].file)
        named = namesake_of(one, ground_of(acting))
        found.append(replace(one, detector=DetectorSpec("rule", named, by="present")) if named else one)
    return found


def _forecast(aims: Aims, tilt: Tilt) -> list[dict[str, Any]]:
    """Rates of every aimed and held concept: at the start, under plain training, wanted and reached by the tilt."""
    # The correction for few answers can leave [0, 1]; a rate cannot.
    rates = [np.clip(one, 0, 1) for one in (tilt.start, tilt.plain, tilt.wanted, tilt.reached)]
    columns = (aims.names, *([None if np.isnan(value) else float(value) for value in one] for one in rates))
    keys = ("name", "start", "plain", "wanted", "reached")
    return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]


def _wish(measured: Measured) -> Wish:
    """A decision as `interventions` needs it; an aim of `start` becomes the strength that explains the labels away."""
    decision = measured.decision
    assert decision.action in ("suppress", "amplify")
    wish = Wish(
        decision.name,
        decision.action,
        decision.method or "reward_shaping",
        decision.strength,
        decision.side,
        decision.effect,
    )
    if decision.aim_rate is None:
        return wish
    return replace(wish, strength=explaining_strength(wish, measured.scored))


def prepared_product(
    prepared: Prepared, measured: Sequence[Measured], forecast: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return what prepared.json holds: per decision its quality and changes, overlaps, conflicts, rates, the log."""
    quality = {one.decision.name: one.quality.said for one in measured if one.quality is not None}

    def said(title: str) -> str | None:  # decisions that are solved together are named in one title
        return (
            quality.get(title)
            or "; ".join(f"{name}: {told}" for name, told in quality.items() if name in title)
            or None
        )

    return {
        "n_pairs": len(prepared.recipe.pair_ids),
        "n_trained": int((prepared.recipe.weights > 0).sum()),
        "objective": prepared.recipe.objective,
        "is_plain": prepared.recipe.is_plain,
        "decisions": [{**asdict(one), "quality": said(one.name)} for one in prepared.changes],
        "rates": list(forecast),
        "overlaps": [asdict(one) for one in prepared.overlaps],
        "conflicts": [asdict(one) for one in prepared.conflicts],
        "log": list(prepared.recipe.log),
        "recipe": prepared.recipe.fingerprint,
    }


def starting_model(record: Mapping[str, Any], study: Path) -> StartingModel:
    """Return the model a study was read with, as what training starts from."""
    from tiltscope.training import StartingModel

    return StartingModel(record.get("model"), record.get("template"), int(record["max_length"]), study / "reference")


def run_train(
    study: Path,
    out: Path,
    config: TrainConfig,
    *,
    plain: Objective | None = None,
    n_pairs: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train on the study's pairs as recipe/ says, or plainly with `plain`; n_pairs takes the first by hash of their id.

    Raises:
        StaleProductError: the recipe was prepared from other pairs or from another plan than STUDY/plan.yaml.
    """
    from tiltscope.training import train

    opened = open_study(study)
    rows = opened.rows
    record = read_object(study / "study.json", "max_length", verb="read")
    recipe = empty_recipe([row.id for row in rows], plain) if plain else _fresh_recipe(study, opened)
    if n_pairs is not None:
        kept = {row.id for row in sorted(rows, key=lambda row: fingerprint("train", row.id))[:n_pairs]}
        rows = [row for row in rows if row.id in kept]
        recipe = _subset(recipe, kept)
    return train(rows, recipe, starting_model(record, study), config, out, progress=progress)


def run_export(study: Path, folder: Path, config: TrainConfig, *, progress: Progress | None = None) -> Exported:
    """Write the rows that `run_train` would train on, for other people's code (docs/training.md)."""
    from tiltscope.training import export

    opened = open_study(study)
    rows = opened.rows
    record = read_object(study / "study.json", "max_length", verb="read")
    recipe = _fresh_recipe(study, opened)
    return export(rows, recipe, starting_model(record, study), config, folder, progress=progress)


def _fresh_recipe(study: Path, opened: Opened) -> Recipe:
    if not (study / "recipe" / "recipe.json").exists():
        named = quoted(study)
        hint = f"run: tiltscope prepare {named}; without any decision: tiltscope train {named} --plain dpo --out RUN"
        raise ProductError("there is no recipe yet", where=str(study / "recipe"), found="nothing", hint=hint)
    recipe = load_recipe(study / "recipe")
    at_hand = {"pairs": opened.pairs.fingerprint, "features": opened.features.fingerprint}
    if (study / "plan.yaml").exists():
        at_hand["plan"] = load_plan(study / "plan.yaml", known_ids=None).fingerprint
    for name, now in at_hand.items():
        if recipe.made_from.get(name) != now:
            raise StaleProductError(
                f"this recipe was prepared from other {name}",
                where=str(study / "recipe"),
                found=f"prepared from {recipe.made_from.get(name)}, at hand {now}",
                hint=f"rerun: tiltscope prepare {quoted(study)}",
            )
    return recipe


def _subset(recipe: Recipe, kept: set[str]) -> Recipe:
    """The rows of these pairs; what is keyed by pair id may keep the others."""
    mask = np.array([pair_id in kept for pair_id in recipe.pair_ids])
    return replace(
        recipe,
        pair_ids=tuple(pair_id for pair_id in recipe.pair_ids if pair_id in kept),
        weights=recipe.weights[mask],
        flipped=recipe.flipped[mask],
        offsets_nats=recipe.offsets_nats[mask],
    )
