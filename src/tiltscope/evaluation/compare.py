"""Base, plain and planned side by side: what moved, with intervals over prompts and training seeds.

In:  evaluations by arm, one per training seed, over the same prompts and behaviours.
Out: `Comparison`: a `Change` per behaviour, role and pair of arms, examples; comparison.json, and back.
Refuses: arms that were asked otherwise. One seed is one seed: the interval then speaks of prompts only, and says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltscope.artifact import FORMAT_VERSION, fingerprint, read_object, write_json
from tiltscope.errors import ProductError, UsageError
from tiltscope.evaluation.crossed import Estimate, crossed_mean, nothing
from tiltscope.evaluation.evaluate import Evaluation, Scores, plain
from tiltscope.evaluation.examples import Example, find_examples

__all__ = ["Arm", "Change", "Comparison", "compare", "read_comparison", "write_comparison"]


@dataclass(frozen=True)
class Arm:
    """One way of training: the models (one per seed) and how they were asked."""

    name: str
    models: tuple[str, ...]
    fingerprints: tuple[str, ...]
    n_missing: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One behaviour in one role, `arm` against `versus`.

    difference: after less before, in shares (0.02 is two points) or in the behaviour's unit; relative: the same as a
    share of before (counts and values only). before, after: the levels. seed_differences, seed_relatives: each seed
    by itself over prompts, at a level that makes all seeds' intervals hold together in 95 % (Bonferroni).
    n_prompts: prompts judged in every arm and seed; n_left_out: the others. is_target: the plan aims at it, and these
    are its target prompts. q: Benjamini-Hochberg over this pair of arms, targets and all the rest apart.
    """

    id: str
    behaviour: str
    role: str
    name: str
    unit: str
    unit_name: str
    wanted: str | None
    is_target: bool
    arm: str
    versus: str
    before: Estimate
    after: Estimate
    difference: Estimate
    relative: Estimate
    seed_after: tuple[Estimate, ...]
    seed_differences: tuple[Estimate, ...]
    seed_relatives: tuple[Estimate, ...]
    n_prompts: int
    n_left_out: int
    q: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Everything `gate` and the reports need. The first arm is the reference, the last the one to be judged."""

    arms: tuple[Arm, ...]
    targets: tuple[str, ...]
    changes: tuple[Change, ...]
    examples: tuple[Example, ...]
    prompts: Mapping[str, int]  # set -> how many prompts
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # id of the measure -> what was to be said

    @property
    def fingerprint(self) -> str:
        """Changes with any number, sentence or example."""
        held = asdict(self)
        if not self.sentences:
            del held["sentences"]  # as in comparisons that were made before there were any
        return fingerprint(plain(held))


def compare(
    evaluations: Mapping[str, Sequence[Evaluation]], *, targets: Sequence[str] = (), n_examples: int = 2
) -> Comparison:
    """Compare every later arm with every earlier one, behaviour by behaviour.

    Each prompt counts once, whatever its number of answers: answers are averaged within prompt and seed. Arms with the
    same number of evaluations are paired by order (give them in order of their training seed); an arm with a single one
    (a base model) is compared with each seed of the other. `targets`: ids of the behaviours that the plan aims at.

    Raises:
        UsageError: fewer than two arms, arms that were asked otherwise, 2 against 3 seeds, or an unknown target.
    """
    if len(evaluations) < 2 or not all(evaluations.values()):
        raise UsageError(
            "a comparison needs at least two arms with an evaluation each",
            found=", ".join(f"{name} ({len(runs)})" for name, runs in evaluations.items()) or "no arm",
            hint="tiltscope compare base=eval-0 planned=eval-1 --out comparison",
        )
    everyone = [one for runs in evaluations.values() for one in runs]
    _check_alike(everyone, {name: len(runs) for name, runs in evaluations.items()})
    known = {one.behaviour for one in everyone[0].scores}
    for target in targets:
        if target not in known:
            raise UsageError(
                f"the target {target!r} was not measured",
                where=everyone[0].name,
                found=f"measured: {', '.join(sorted(known))}",
                hint=f"rerun: tiltscope evaluate, with {target} among --behaviours",
            )
    names = list(evaluations)
    changes: list[Change] = []
    for at, arm in enumerate(names):
        for versus in names[:at]:
            rows = [
                _change(place, (versus, evaluations[versus]), (arm, evaluations[arm]), targets)
                for place in range(len(everyone[0].scores))
            ]
            changes += _with_q(rows)
    prompts: dict[str, int] = {}
    for prompt in everyone[0].prompts:
        prompts[prompt.set] = prompts.get(prompt.set, 0) + 1
    examples = find_examples(evaluations[names[0]][0], evaluations[names[-1]][0], (names[0], names[-1]), n_examples)
    arms = tuple(_arm(name, runs) for name, runs in evaluations.items())
    return Comparison(arms, tuple(targets), tuple(changes), examples, prompts, everyone[0].sentences)


def _arm(name: str, runs: Sequence[Evaluation]) -> Arm:
    settings = {key: value for key, value in asdict(runs[0].settings).items() if key not in ("model", "batch_size")}
    return Arm(
        name,
        tuple(one.settings.model for one in runs),
        tuple(one.fingerprint for one in runs),
        sum(one.n_missing for one in runs),
        settings,
    )


def _check_alike(everyone: Sequence[Evaluation], sizes: Mapping[str, int]) -> None:
    several = {n for n in sizes.values() if n > 1}
    if len(several) > 1:
        raise UsageError(
            "the arms have different numbers of seeds", found=str(dict(sizes)), hint="give equal numbers, or one"
        )
    first = everyone[0]
    for other in everyone[1:]:
        both = sorted(first.sentences.keys() & other.sentences.keys())
        for what, one, two in (
            ("prompts", {(p.id, p.text) for p in first.prompts}, {(p.id, p.text) for p in other.prompts}),
            ("sentences", {id: first.sentences[id] for id in both}, {id: other.sentences[id] for id in both}),
            ("behaviours", [_asked(s) for s in first.scores], [_asked(s) for s in other.scores]),
            ("temperature", first.settings.temperature, other.settings.temperature),
            ("max_new_tokens", first.settings.max_new_tokens, other.settings.max_new_tokens),
        ):
            if one != two:
                raise UsageError(
                    f"these evaluations have different {what}",
                    where=f"{first.name} and {other.name}",
                    found=_first_difference(one, two),
                    hint="evaluate them with the same settings",
                )
    prints = [one.fingerprint for one in everyone]
    for at, print_of in enumerate(prints):
        if print_of in prints[:at]:
            raise UsageError(
                "two of these evaluations are the same, answer by answer",
                where=f"{everyone[prints.index(print_of)].name} and {everyone[at].name}",
                found=f"both of the model {everyone[at].settings.model}",
                hint="a folder copied, a model evaluated twice, or a training that changed nothing",
            )


def _asked(scores: Scores) -> tuple[str, str, tuple[str, ...]]:
    return scores.id, scores.definition, scores.prompt_ids


def _first_difference(one: object, two: object) -> str:
    if isinstance(one, set) and isinstance(two, set):
        return f"{len(one ^ two)} prompts are not in both"
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        id = next(id for id in one if one[id] != two[id])
        return f"{id}: {'; '.join(one[id])[:100]} and {'; '.join(two[id])[:100]}"
    if isinstance(one, list) and isinstance(two, list):
        apart = sorted({str(a[0]) for a in one} ^ {str(b[0]) for b in two})
        return ", ".join(apart) if apart else _otherwise(one, two)
    return f"{one} and {two}"


def _otherwise(one: Sequence[Any], two: Sequence[Any]) -> str:
    """What sets apart the first measure that both have and that was not asked alike."""
    (id, was, ids), (_, now, others) = next((a, b) for a, b in zip(one, two, strict=False) if a != b)
    cuts = [re.findall(r"up to (\d+) tokens", text) for text in (was, now)]
    if all(cuts) and cuts[0] != cuts[1]:
        return f"{id}: --max-length {cuts[0][0]} and {cuts[1][0]}"
    return f"{id}: {was} and {now}" if was != now else f"{id}: {len({*ids} ^ {*others})} prompts are not in both"


def _table(runs: Sequence[Evaluation], place: int) -> np.ndarray:
    """(n_seeds, n_prompts): means over answers; nan for a prompt without a judged one."""
    rows = []
    for one in runs:
        values = one.scores[place].values
        there = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            rows.append(np.where(there, values, 0).sum(axis=1) / there.sum(axis=1))
    return np.array(rows)


def _change(
    place: int,
    before: tuple[str, Sequence[Evaluation]],
    after: tuple[str, Sequence[Evaluation]],
    targets: Sequence[str],
) -> Change:
    scores = after[1][0].scores[place]
    old, new = _table(before[1], place), _table(after[1], place)
    whole = ~(np.isnan(old).any(axis=0) | np.isnan(new).any(axis=0))
    old, new = old[:, whole], new[:, whole]
    seeds = max(len(old), len(new))
    witness = 0.0 if scores.unit == "value" else 1.0
    joint = 1 - 0.05 / seeds
    d = new - old  # broadcasts an arm of one seed over the other's
    linear = _relative_table(old, new) if scores.unit != "share" else None
    bounds = (0.0, 1.0) if scores.unit == "share" else (-math.inf, math.inf)
    return Change(
        scores.id,
        scores.behaviour,
        scores.role,
        scores.name,
        scores.unit,
        scores.unit_name,
        scores.wanted,
        scores.role == "target" and scores.behaviour.removesuffix("_judged") in targets,
        after[0],
        before[0],
        _kept(crossed_mean(old, witness=witness), bounds),
        _kept(crossed_mean(new, witness=witness), bounds),
        crossed_mean(d, witness=witness),
        _relative(linear, old, new, witness),
        tuple(_kept(crossed_mean(row[None], witness=witness, level=joint), bounds) for row in new),
        tuple(crossed_mean(row[None], witness=witness, level=joint) for row in d),
        tuple(_relative(one, *two, witness, level=joint) for one, two in _by_seed(linear, old, new)),
        int(whole.sum()),
        int((~whole).sum()),
        math.nan,
        _notes(len(old), len(new), int(whole.sum())),
    )


def _kept(estimate: Estimate, bounds: tuple[float, float]) -> Estimate:
    """A level whose interval stays where levels can be."""
    low, high = (min(max(end, bounds[0]), bounds[1]) if end == end else end for end in (estimate.low, estimate.high))
    return replace(estimate, low=low, high=high)


def _relative_table(old: np.ndarray, new: np.ndarray) -> np.ndarray | None:
    """Relative change per seed and prompt, linearised: ratio - 1 + (new - ratio old) / mean old; None at mean 0."""
    base = old.mean() if old.size else 0.0
    if not base > 0:
        return None
    ratio = new.mean() / base
    return np.asarray(ratio - 1 + (new - ratio * old) / base)


def _by_seed(
    linear: np.ndarray | None, old: np.ndarray, new: np.ndarray
) -> list[tuple[np.ndarray | None, tuple[np.ndarray, np.ndarray]]]:
    if linear is None:
        return []
    seeds = [(old[min(i, len(old) - 1)][None], new[min(i, len(new) - 1)][None]) for i in range(len(linear))]
    return [(_relative_table(*one), one) for one in seeds]


def _relative(
    linear: np.ndarray | None, old: np.ndarray, new: np.ndarray, witness: float, *, level: float = 0.95
) -> Estimate:
    if linear is None:
        return nothing(old.shape[1], max(len(old), len(new)))
    return crossed_mean(linear, witness=witness / float(old.mean()), level=level)


def _notes(n_old: int, n_new: int, n_prompts: int) -> tuple[str, ...]:
    notes = []
    if max(n_old, n_new) < 2:
        notes.append("one training seed: the interval speaks of other prompts, not of other trainings")
    elif min(n_old, n_new) < 2:
        notes.append("one side is a single model: the interval takes it as it is")
    if n_prompts < 10:
        notes.append("fewer than ten prompts")
    return tuple(notes)


def _with_q(rows: Sequence[Change]) -> list[Change]:
    """Targets were named beforehand: they are a family of tests of their own."""
    from tiltscope.stats import benjamini_hochberg

    p = np.array([row.difference.p for row in rows])
    aimed = np.array([row.is_target for row in rows])
    q = np.full(len(rows), math.nan)
    for family in (aimed, ~aimed):
        q[family] = benjamini_hochberg(p[family])
    return [replace(row, q=float(value)) for row, value in zip(rows, q, strict=True)]


# --- on disk ----------------------------------------------------------------------------------------------------------


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the comparison as JSON."""
    body = {"product": "comparison", "format_version": FORMAT_VERSION, **asdict(comparison)}
    write_json(path, plain({**body, "fingerprint": comparison.fingerprint}))


def read_comparison(path: Path) -> Comparison:
    """Read what `write_comparison` wrote; raises `ProductError` when it is missing, damaged or of another version."""
    body = read_object(path, "arms", "targets", "changes", "examples", "prompts", "fingerprint", verb="compare")
    if body.get("format_version") != FORMAT_VERSION:
        raise _damaged(path, f"format version {body.get('format_version')}, not {FORMAT_VERSION}")
    try:
        made = Comparison(
            tuple(Arm(**{**one, **_tuples(one, "models", "fingerprints")}) for one in body["arms"]),
            tuple(body["targets"]),
            tuple(_read_change(one) for one in body["changes"]),
            tuple(Example(**one) for one in body["examples"]),
            dict(body["prompts"]),
            {id: tuple(some) for id, some in body.get("sentences", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, str(error)[:200]) from error
    if made.fingerprint != body["fingerprint"]:
        raise _damaged(path, f"its parts make {made.fingerprint}, the file says {body['fingerprint']}")
    return made


def _read_change(one: Mapping[str, Any]) -> Change:
    single = {name: _estimate(one[name]) for name in ("before", "after", "difference", "relative")}
    several = {
        name: tuple(_estimate(e) for e in one[name]) for name in ("seed_after", "seed_differences", "seed_relatives")
    }
    q = math.nan if one["q"] is None else one["q"]
    return Change(**{**one, **single, **several, "q": q, "notes": tuple(one["notes"])})


def _estimate(one: Mapping[str, Any]) -> Estimate:
    held: dict[str, Any] = {name: math.nan if value is None else value for name, value in one.items()}
    return Estimate(**held)


def _tuples(one: Mapping[str, Any], *names: str) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(one[name]) for name in names}


def _damaged(path: Path, found: str) -> ProductError:
    return ProductError("this comparison cannot be read", where=str(path), found=found, hint="run: tiltscope compare")
