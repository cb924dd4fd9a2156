"""A model's behaviours, measured on its answers.

In:  an answer function, behaviours, prompts, settings, a folder for the answers.
Out: `Evaluation`: scores per behaviour, role and prompt, with rates and intervals; FOLDER/evaluation.json, and back.
Refuses: to count what could not be judged as "does not show it"; missing answers are counted apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltscope.artifact import FORMAT_VERSION, fingerprint, read_object, write_json
from tiltscope.behaviours.measured import Behaviour, Prompt
from tiltscope.errors import InconclusiveError, ProductError, UsageError
from tiltscope.evaluation.answers import Answer, AnswerFunction, EvaluationSettings, collect_answers, read_answers
from tiltscope.evaluation.judge import Judge, JudgeCounts
from tiltscope.pairs import Turn

__all__ = ["Evaluation", "Rate", "Scores", "evaluate", "read_evaluation", "with_values", "write_evaluation"]


@dataclass(frozen=True)
class Rate:
    """A share (0 to 1) or a mean with its 95 % interval, clustered by prompt; nan where it cannot be said."""

    mean: float
    low: float
    high: float
    n_answers: int
    n_prompts: int


@dataclass(frozen=True)
class Scores:
    """One behaviour in one role. values (n_prompts, n_answers): nan where there is no answer or no judgement."""

    behaviour: str
    name: str
    unit: str
    unit_name: str
    wanted: str | None
    role: str
    definition: str
    prompt_ids: tuple[str, ...]
    values: np.ndarray

    @property
    def id(self) -> str:
        """The behaviour's id, with @role unless the role is target."""
        return self.behaviour if self.role == "target" else f"{self.behaviour}@{self.role}"

    @property
    def rate(self) -> Rate:
        """The share or mean over all answers, with its interval over prompts."""
        return _rate(self.values, self.unit)


@dataclass(frozen=True)
class Evaluation:
    """What one model does. `answers` are all that came; `judged` counts what a judge said, per behaviour.

    objective: how the model was trained ("dpo" or "sft"), where the run beside it says so. sentences: {id of the
    measure: what the model was asked to say}. notes: what was asked for and could not be measured.
    """

    name: str
    settings: EvaluationSettings
    prompts: tuple[Prompt, ...]
    answers: tuple[Answer, ...]
    scores: tuple[Scores, ...]
    judged: Mapping[str, JudgeCounts] = field(default_factory=dict)
    objective: str | None = None
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def n_missing(self) -> int:
        """How many answers did not come."""
        return sum(one.text is None for one in self.answers)

    @property
    def fingerprint(self) -> str:
        """Changes with the model, the prompts, the answers and the scores."""
        scores = [(one.id, one.definition, one.prompt_ids, plain(one.values.tolist())) for one in self.scores]
        said = [(one.prompt_id, one.seed, one.index, one.text) for one in self.answers]
        return fingerprint(self.settings.model, [(one.id, one.text) for one in self.prompts], said, scores)


def evaluate(
    answer: AnswerFunction,
    behaviours: Sequence[Behaviour],
    prompts: Sequence[Prompt],
    settings: EvaluationSettings,
    *,
    folder: Path,
    judge: Judge | None = None,
) -> Evaluation:
    """Ask for answers (those on disk in `folder` are reused) and score every behaviour on the prompts of its sets.

    With a judge, each behaviour that has a question for one is measured a second time as ID_judged.

    Raises:
        UsageError: no behaviour, no prompts, two prompts with one id, or a behaviour without a prompt of its target.
        ModelError: the answer function gave back something else than answers.
        InconclusiveError: not a single answer came.
    """
    _check(behaviours, prompts, judge)
    answers = collect_answers(answer, prompts, settings, folder)
    if all(one.text is None for one in answers):
        raise InconclusiveError("the model gave not a single answer", where=settings.model)
    by_prompt: dict[str, list[Answer]] = {}
    for one in answers:
        by_prompt.setdefault(one.prompt_id, []).append(one)
    scores: list[Scores] = []
    judged: dict[str, JudgeCounts] = {}
    for behaviour in behaviours:
        if behaviour.detector.score is not None:
            scores += _scores(behaviour, prompts, by_prompt, behaviour.score)
        if judge is not None and (behaviour.judge or behaviour.detector.kind == "judge"):
            found, counts = _judged(judge, behaviour, prompts, by_prompt, folder)
            scores += found
            judged[found[0].behaviour] = counts
    return Evaluation(settings.model, settings, tuple(prompts), answers, tuple(scores), judged)


def _check(behaviours: Sequence[Behaviour], prompts: Sequence[Prompt], judge: Judge | None) -> None:
    ids = [one.id for one in prompts]
    if not behaviours or not prompts:
        raise UsageError("an evaluation needs behaviours and prompts", found=f"{len(behaviours)} and {len(prompts)}")
    if len(set(ids)) != len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise UsageError("two prompts have one id", found=twice)
    names = [one.id for one in behaviours]
    if len(set(names)) != len(names):
        raise UsageError("a behaviour is given twice", found=next(one for one in names if names.count(one) > 1))
    sets = {one.set for one in prompts}
    for one in behaviours:
        if not sets & set(one.sets.get("target", ())):
            wanted = ", ".join(one.sets.get("target", ())) or "none"
            raise UsageError(
                f"no prompt for {one.id!r}", found=f"its target sets: {wanted}", hint="add them with prompts_of(...)"
            )
        if one.detector.score is None and judge is None:
            raise UsageError(f"{one.id!r} needs a judge", hint="give the address of an OpenAI-compatible endpoint")


def _scores(
    behaviour: Behaviour,
    prompts: Sequence[Prompt],
    answers: Mapping[str, Sequence[Answer]],
    score: Callable[[Prompt, str], float],
) -> list[Scores]:
    found = []
    for role, sets in behaviour.sets.items():
        mine = [one for one in prompts if one.set in sets]
        if not mine:
            continue
        values = [[math.nan if a.text is None else score(one, a.text) for a in answers[one.id]] for one in mine]
        found.append(
            Scores(
                behaviour.id,
                behaviour.name,
                behaviour.unit,
                behaviour.unit_name,
                behaviour.wanted,
                role,
                f"{behaviour.definition} [{behaviour.detector.kind}: {behaviour.detector.what}]",
                tuple(one.id for one in mine),
                np.array(values, dtype=np.float64),
            )
        )
    return found


def _judged(
    judge: Judge,
    behaviour: Behaviour,
    prompts: Sequence[Prompt],
    answers: Mapping[str, Sequence[Answer]],
    folder: Path,
) -> tuple[list[Scores], JudgeCounts]:
    """The same behaviour by the judge; a share of yes among those it answered."""
    question = behaviour.judge or behaviour.detector.what
    as_asked = replace(
        behaviour,
        id=f"{behaviour.id}_judged",
        name=f"{behaviour.name} (judged)",
        unit="share",
        unit_name="",
        detector=replace(behaviour.detector, kind="judge", what=f"{question} ({judge.name})"),
    )
    session = judge.session(folder)
    found = _scores(as_asked, prompts, answers, lambda prompt, text: session.score(question, prompt, text))
    return found, session.counts


def _rate(values: np.ndarray, unit: str) -> Rate:
    from tiltscope.stats import Clusters, share_with_interval, tau_test

    there = ~np.isnan(values)
    n_answers, n_prompts = int(there.sum()), int(there.any(axis=1).sum())
    if not n_answers:
        return Rate(math.nan, math.nan, math.nan, 0, 0)
    if unit == "share":
        share = share_with_interval(np.nansum(values, axis=1), there.sum(axis=1))
        return Rate(share.share, share.low, share.high, n_answers, n_prompts)
    rows = np.repeat(np.arange(len(values)), there.sum(axis=1))
    found = tau_test(values[there], Clusters.of(rows))
    bounds = found.interval()
    spread = float(found.se) > 0
    low, high = (float(bounds.low), float(bounds.high)) if spread else (math.nan, math.nan)
    return Rate(float(values[there].mean()), low, high, n_answers, n_prompts)


def with_values(
    evaluation: Evaluation, id: str, values: Mapping[str, float], *, name: str, unit_name: str, wanted: str | None
) -> Evaluation:
    """Return the evaluation with a measured value per item, say held-out NLL per conversation ("nll").

    values: {item id: number}, the same ids in every evaluation that will be compared.

    Raises:
        UsageError: no value, one that is not finite, or an id that is there already.
    """
    if not values or not all(math.isfinite(value) for value in values.values()):
        raise UsageError(f"the values of {id!r} are none, or not all finite numbers")
    if id in {one.behaviour for one in evaluation.scores}:
        raise UsageError(f"{id!r} is measured already")
    column = np.array([[float(value)] for value in values.values()])
    made = Scores(id, name, "value", unit_name, wanted, "target", name, tuple(values), column)
    return replace(evaluation, scores=(*evaluation.scores, made))


# --- on disk ----------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: floats to 9 significant digits, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float | np.floating):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def write_evaluation(evaluation: Evaluation, folder: Path) -> Path:
    """Write FOLDER/evaluation.json beside answers.jsonl and return its path."""
    from dataclasses import asdict

    body = {
        "product": "evaluation",
        "format_version": FORMAT_VERSION,
        "name": evaluation.name,
        "settings": asdict(evaluation.settings),
        "objective": evaluation.objective,
        "sentences": evaluation.sentences,
        "notes": evaluation.notes,
        "n_missing": evaluation.n_missing,
        "judged": {name: asdict(counts) for name, counts in evaluation.judged.items()},
        "prompts": [
            {"id": one.id, "set": one.set, "turns": [[t.role, t.content] for t in one.turns], "check": dict(one.check)}
            for one in evaluation.prompts
        ],
        "scores": [asdict(one) | {"id": one.id, "rate": asdict(one.rate)} for one in evaluation.scores],
        "fingerprint": evaluation.fingerprint,
    }
    path = folder / "evaluation.json"
    write_json(path, plain(body))
    return path


def read_evaluation(folder: Path) -> Evaluation:
    """Read what `write_evaluation` wrote, with the answers beside it.

    Raises:
        ProductError: a file is missing, damaged, of another version, or the answers are others than those scored.
    """
    path = folder / "evaluation.json"
    body = read_object(path, "name", "settings", "prompts", "scores", "fingerprint", verb="evaluate")
    if body.get("format_version") != FORMAT_VERSION:
        raise _damaged(path, f"format version {body.get('format_version')}, not {FORMAT_VERSION}")
    try:
        settings = EvaluationSettings(**{**body["settings"], "seeds": tuple(body["settings"]["seeds"])})
        prompts = tuple(
            Prompt(one["id"], one["set"], tuple(Turn(*turn) for turn in one["turns"]), one["check"])
            for one in body["prompts"]
        )
        scores = tuple(_read_scores(one) for one in body["scores"])
        judged = {name: JudgeCounts(**counts) for name, counts in body["judged"].items()}
        sentences = {id: tuple(some) for id, some in body.get("sentences", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, str(error)[:200]) from error
    answers = read_answers(folder, prompts, settings)
    more = body.get("objective"), sentences, tuple(body.get("notes", ()))
    made = Evaluation(body["name"], settings, prompts, answers, scores, judged, *more)
    if made.fingerprint != body["fingerprint"]:
        raise _damaged(path, f"its parts make {made.fingerprint}, the file says {body['fingerprint']}")
    return made


def _read_scores(one: Mapping[str, Any]) -> Scores:
    values = np.array([[math.nan if v is None else v for v in row] for row in one["values"]], dtype=np.float64)
    names = ("behaviour", "name", "unit", "unit_name", "wanted", "role", "definition")
    said: dict[str, Any] = {name: one[name] for name in names}
    return Scores(**said, prompt_ids=tuple(one["prompt_ids"]), values=values)


def _damaged(path: Path, found: str) -> ProductError:
    return ProductError("this evaluation cannot be read", where=str(path), found=found, hint="run: tiltscope evaluate")
