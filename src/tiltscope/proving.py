"""After training: a model is asked, arms are compared, limits are judged.

In:  models (folders, Hub ids, or an endpoint), behaviours, prompts; folders of evaluations; LIMITS.yaml.
Out: evaluation.json, comparison.json, verdict.json (with JUnit XML and Markdown).
Refuses: to compare models that were asked otherwise, and to pass what was not measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tiltscope.approval import new_leans, with_words
from tiltscope.artifact import claim, fingerprint, read_object, write_text
from tiltscope.behaviours.measured import (
    Behaviour,
    Prompt,
    as_prompts,
    behaviour,
    library,
    load_behaviours,
    on_prompts,
    prompts_of,
)
from tiltscope.behaviours.safety import load_xstest, refusal_behaviours, wrapped
from tiltscope.errors import UsageError
from tiltscope.evaluation import (
    AnswerFunction,
    Comparison,
    EndpointAnswers,
    Evaluation,
    EvaluationSettings,
    Judge,
    compare,
    evaluate,
    read_comparison,
    read_evaluation,
    write_comparison,
    write_evaluation,
)
from tiltscope.evaluation.buyer import buyer_content, buyer_html, buyer_markdown
from tiltscope.evaluation.tables import as_markdown
from tiltscope.forced import Forced, with_forced
from tiltscope.harness import Harness, check_harness, harness_scores
from tiltscope.hypotheses import read_hypotheses
from tiltscope.pairs import LoadSettings, Pair, Turn, prompt_name
from tiltscope.plan import Decision, load_plan
from tiltscope.study import check_current, load_data, open_study
from tiltscope.verdict import (
    DataRule,
    Limits,
    Result,
    Rule,
    Verdict,
    as_json,
    draft_limits,
    judge,
    judge_data,
    read_limits,
    write_verdict,
)

if TYPE_CHECKING:
    from tiltscope.lm import Policy

__all__ = ["Asked", "draft_gate", "run_compare", "run_evaluate", "run_gate"]

Progress = Callable[[str, int, int], None]
Fits = Callable[[Sequence[Turn]], bool]

HELD_OUT = "data"
_OWN_PROMPTS = ("arithmetic", "instructions", "refusal_unsafe", "refusal_safe")  # they mean nothing elsewhere


@dataclass(frozen=True)
class Asked:
    """What a model is asked: behaviours by id (none: the whole library), a file of more, and prompts of a dataset."""

    behaviours: tuple[str, ...] = ()
    file: Path | None = None
    data: str | None = None
    """A preference dataset whose prompts become every behaviour's target prompts; its chosen answers give the NLL."""
    read_as: LoadSettings = field(default_factory=LoadSettings)
    """How `data` is read: where its columns are, and which pairs are one group."""
    n_prompts: int = 100
    """So many prompts of `data`, the first by hash of their text, and held-out ones where `leave_out` says so."""
    leave_out: frozenset[str] = frozenset()
    """Names of prompts and groups that were trained on: no group of `data` that shares one is asked."""
    xstest: Path | None = None
    """Folder of XSTest: its safe and unsafe prompts are asked for refusals …"""
    under: tuple[str, ...] = ()
    """… the unsafe ones also under these jailbreak wrappers."""
    judge: Judge | None = None
    forced: Forced | None = None
    """What is measured in the held-out answers of `data`, without sampling."""
    harness: Harness | None = None
    """Tasks of lm-evaluation-harness, measured beside the behaviours."""
    template: str | None = None
    max_length: int = 1024
    device: str | None = None
    endpoint: str | None = None
    n_answers: int = 1
    seeds: tuple[int, ...] = (0,)
    temperature: float = 0.7
    max_new_tokens: int = 160


def run_evaluate(model: str | None, out: Path, asked: Asked, *, progress: Progress | None = None) -> Evaluation:
    """Ask a model and write OUT/evaluation.json; answers that are there are reused, so a killed run goes on.

    Prompts of `data` that do not fit into max_length are passed over for the next ones.
    """
    if asked.harness:
        check_harness(asked.harness)
    if asked.forced:
        _check_forced(asked)
    if asked.endpoint:
        return _ask_endpoint(model, out, asked)
    from tiltscope.lm import load_policy

    policy = load_policy(model, device=asked.device, template=asked.template, max_length=asked.max_length)
    behaviours, prompts, rows = _fitting_questions(policy, asked)
    settings = _settings(policy.fingerprint, asked)
    asked_for = [[one.id, one.definition] for one in behaviours] + ([asked.harness.key] if asked.harness else [])
    asked_for += [asked.forced.key] if asked.forced else []
    claim(
        out,
        fingerprint(_settings_key(settings), asked_for, _prompts_key(prompts)),
        what="evaluation",
        verb="evaluate",
        found="another model, other prompts, behaviours or settings",
    )
    answer = _answering(policy, len(prompts), progress)
    found = evaluate(answer, behaviours, prompts, settings, folder=out, judge=asked.judge)
    # "model" is what every run calls its weights
    found = replace(found, name=out.name, objective=_objective(model))
    if rows:
        found = with_forced(found, policy, rows, asked.forced or Forced(), progress=progress)
    if asked.harness:
        more = harness_scores(policy, asked.harness, out, progress=progress)
        found = replace(found, scores=(*found.scores, *more))
    write_evaluation(found, out)
    return found


def _objective(model: str | None) -> str | None:
    """How RUN/model was trained, where RUN/run.json says so."""
    run = Path(model).parent / "run.json" if model else None
    return str(read_object(run, "objective", verb="train")["objective"]) if run and run.is_file() else None


def _fitting_questions(policy: Policy, asked: Asked) -> tuple[tuple[Behaviour, ...], tuple[Prompt, ...], list[Pair]]:
    """What to ask this model; prompts of the library that do not fit it are refused."""
    from tiltscope.lm import Unreadable

    def fits(prompt: Sequence[Turn]) -> bool:
        try:
            return len(policy.renderer.render(prompt, "").ids) <= asked.max_length
        except Unreadable:
            return False

    behaviours, prompts, rows = _questions(asked, fits)
    too_long = [one.id for one in prompts if not fits(one.turns)]
    if too_long:
        raise UsageError(
            "these prompts do not fit the model", found=", ".join(too_long[:5]), hint="a larger --max-length"
        )
    return behaviours, prompts, rows


def _answering(policy: Policy, n_asked: int, progress: Progress | None) -> AnswerFunction:
    """The model as a function from prompts to answers; the bar counts prompts."""
    from tiltscope.lm import Sampling, generate

    done = {"n": 0}

    def answer(
        prompts: Sequence[tuple[Turn, ...]], *, n: int, seed: int, temperature: float, max_new_tokens: int
    ) -> list[list[str]]:
        texts = generate(policy, prompts, Sampling(n, seed, temperature, max_new_tokens))
        done["n"] += len(prompts)
        if progress:
            progress("answers", min(done["n"], n_asked), n_asked)
        return texts

    return answer


def _check_forced(asked: Asked) -> None:
    """Raise `UsageError` where there are no held-out answers, or no weights to read them with."""
    others = [f"--{name}" for name in ("xstest", "endpoint") if getattr(asked, name) is not None]
    if others or asked.data is None:
        raise UsageError(
            "--openings and --sentences read the answers of a dataset through a model's weights",
            found=", ".join(others) or "no --data",
            hint="tiltscope evaluate MODEL --out OUT --data pairs.jsonl --not-in study --openings",
        )


def _settings_key(settings: EvaluationSettings) -> list[object]:
    """What of the settings an evaluation depends on."""
    return [settings.model, settings.n_answers, settings.seeds, settings.temperature, settings.max_new_tokens]


def _prompts_key(prompts: Sequence[Prompt]) -> list[list[str]]:
    """Prompts by id and text."""
    return [[one.id, one.text] for one in prompts]


def _settings(model: str, asked: Asked) -> EvaluationSettings:
    return EvaluationSettings(
        model, asked.n_answers, asked.seeds, asked.temperature, asked.max_new_tokens, batch_size=16
    )


def _ask_endpoint(model: str | None, out: Path, asked: Asked) -> Evaluation:
    assert asked.endpoint is not None
    if asked.harness:
        raise UsageError("--lm-eval needs a model's weights", found="--endpoint", hint="give MODEL instead")
    behaviours, prompts, _ = _questions(asked, lambda prompt: True)
    answers = EndpointAnswers(asked.endpoint, model or "default")
    found = evaluate(answers, behaviours, prompts, _settings(answers.name, asked), folder=out, judge=asked.judge)
    write_evaluation(found, out)
    return found


def _questions(asked: Asked, fits: Fits) -> tuple[tuple[Behaviour, ...], tuple[Prompt, ...], list[Pair]]:
    if asked.under and asked.xstest is None:
        raise UsageError("--under wraps XSTest's prompts", found=", ".join(asked.under), hint="give --xstest FOLDER")
    if asked.xstest is not None:
        plain = load_xstest(asked.xstest)
        unsafe = [one for one in plain if one.set == "xstest_unsafe"]
        pressed = [prompt for id in asked.under for prompt in wrapped(unsafe, id)]
        return refusal_behaviours(plain, under=asked.under), (*plain, *pressed), []
    own = load_behaviours(asked.file) if asked.file else ()
    named = asked.behaviours or tuple(one.id for one in library())
    wanted = dict.fromkeys((*named, *(one.id for one in own)))  # one's own are always meant
    behaviours = tuple(behaviour(name, own) for name in wanted)
    if asked.data is None:
        return behaviours, prompts_of(behaviours), []
    rows = _held_out(asked, fits)
    numbered = as_prompts([""] * len(rows), HELD_OUT)
    prompts = tuple(replace(one, turns=row.prompt) for one, row in zip(numbered, rows, strict=True))
    kept = [one for one in behaviours if one.id in _OWN_PROMPTS]
    style = tuple(one for one in behaviours if one not in kept)
    aimed = (*on_prompts(style, {"target": (HELD_OUT,), "neighbouring": (), "unrelated": ()}), *kept)
    return aimed, (*prompts, *prompts_of(kept)), rows


def _held_out(asked: Asked, fits: Fits) -> list[Pair]:
    """One pair per group, by hash, without the groups that were trained on in part and prompts that do not fit."""
    pairs = load_data(str(asked.data), asked.read_as)
    known = {row.group for row in pairs.rows if asked.leave_out & {row.group, prompt_name(row.prompt)}}
    by_group: dict[str, Pair] = {}
    for row in pairs.rows:
        if row.group not in known:
            by_group.setdefault(row.group, row)
    ordered = sorted(by_group.values(), key=lambda row: fingerprint("ask", row.group))
    rows = list(itertools.islice((row for row in ordered if fits(row.prompt)), asked.n_prompts))
    if not rows:
        found = f"{len(pairs)} pairs, {len(by_group)} prompts that were not trained on, none of which fits"
        raise UsageError("no prompt is left to ask", where=str(asked.data), found=found)
    return rows


def run_compare(arms: Mapping[str, Sequence[Path]], out: Path, *, targets: Sequence[str] = ()) -> Comparison:
    """Compare evaluations, the first arm being the reference; writes OUT/comparison.json and comparison.md.

    Raises `UsageError` where a folder is given twice, and what `compare` raises.
    """
    given: dict[Path, str] = {}
    for name, folder in ((name, folder) for name, folders in arms.items() for folder in folders):
        if folder.resolve() in given:
            raise UsageError(
                "one evaluation is given twice",
                where=str(folder),
                found=f"in the arms {given[folder.resolve()]} and {name}",
                hint="evaluate each model into a folder of its own: tiltscope evaluate MODEL --out FOLDER",
            )
        given[folder.resolve()] = name
    found = compare(
        {name: [read_evaluation(folder) for folder in folders] for name, folders in arms.items()}, targets=targets
    )
    write_text(out / "comparison.md", as_markdown(found, examples=found.examples))
    write_comparison(found, out / "comparison.json")
    return found


def run_gate(
    limits: Path, *, comparison: Path | None, study: Path | None, out: Path | None, approved: Path | None = None
) -> Verdict:
    """Judge a comparison, the audit of `study`, or both; a rule that nothing given can judge is inconclusive.

    `no new lean` compares the reading of `study` with that of `approved`, and needs no audit of either.

    Into `out` go the verdict and, for a comparison, one page for buyers (with how the data of `study` were audited).
    """
    gate = read_limits(limits)
    if comparison is None and study is None:
        hint = "tiltscope gate LIMITS COMPARISON, or --data STUDY"
        raise UsageError("a gate judges a comparison or an audit", where=str(limits), hint=hint)
    found = None if comparison is None else read_comparison(_comparison_file(comparison))
    parts: list[Verdict] = []
    if gate.rules:
        missing = _unjudged(gate.rules, "needs a comparison: tiltscope gate LIMITS COMPARISON")
        parts.append(judge(gate, found) if found else missing)
    if gate.data_rules:
        missing = _unjudged(gate.data_rules, "needs an audit: --data STUDY")
        parts.append(_judged_data(gate, study, approved) if study is not None else missing)
    told = [one for one in parts if one.subject]
    if not told:
        raise UsageError(
            "nothing in this gate can be judged by what is given",
            where=str(limits),
            found="; ".join(one.rule for part in parts for one in part.results),
            hint="rules about data need --data STUDY, the others a COMPARISON",
        )
    results = tuple(one for part in parts for one in part.results)
    verdict = Verdict(
        results, " and ".join(one.subject for one in told), fingerprint([one.fingerprint for one in told])
    )
    if out is not None:
        if found is not None:
            _write_buyer(found, verdict, _audited(study) if study else {}, out)
        write_verdict(verdict, out)
    return verdict


def _comparison_file(path: Path) -> Path:
    return path if path.suffix == ".json" else path / "comparison.json"


def _unjudged(rules: Sequence[Rule | DataRule], why: str) -> Verdict:
    return Verdict(tuple(Result(f"{one.name}: {one.text}", one.where, "inconclusive", why) for one in rules), "", "")


def _judged_data(gate: Limits, study: Path, approved: Path | None) -> Verdict:
    rows, new = [], None
    if any(one.seen is None for one in gate.data_rules):
        check_current(study)
        rows = read_hypotheses(study)
    if approved is not None and any(one.seen is not None for one in gate.data_rules):
        candidate = open_study(study)
        new = with_words(new_leans(open_study(approved), candidate), candidate)
    return judge_data(gate, rows, study=str(study), fingerprint=fingerprint(rows, new), new=new)


def _write_buyer(comparison: Comparison, verdict: Verdict, audit: Mapping[str, str], out: Path) -> None:
    content = buyer_content(comparison, verdict=as_json(verdict), audit=audit)
    write_text(out / "buyer.md", buyer_markdown(content))
    write_text(out / "buyer.html", buyer_html(content))


def _audited(study: Path) -> dict[str, str]:
    """How the training data were audited, in plain words."""
    contrast = read_object(study / "contrast.json", "n_pairs", "n_groups", verb="contrast")
    confirmed = sum(bool(row["confirmed"]) for row in read_hypotheses(study))
    worst = max((float(null["share_p05"]) for null in contrast.get("nulls") or []), default=float("nan"))
    return {
        "pairs read": f"{contrast['n_pairs']} preference pairs of {contrast['n_groups']} independent prompts",
        "findings": f"{confirmed} confirmed (false discovery rate at most 10 %, over all that was tested)",
        "calibration": f"with labels scrambled, at most {100 * worst:.1f} % of tests had p < .05",
    }


def draft_gate(limits: Path, study: Path | None) -> Path:
    """Write a limits file from the plan of a study; an existing one is not written over."""
    if study is None:
        raise UsageError(
            "a draft needs the study whose plan it follows", hint="tiltscope gate limits.yaml --draft --data STUDY"
        )
    if limits.exists():
        raise UsageError("there is a limits file already", where=str(limits), hint="choose another name")
    known = {one.id for one in library()}
    rules = {row["id"]: (row.get("namesake") or {}).get("rule") for row in read_hypotheses(study)}
    decisions = [
        {
            "action": one.action,
            "name": one.name,
            "behaviour": rule if (rule := _behaviour_of(one, rules)) in known else None,
        }
        for one in load_plan(study / "plan.yaml", known_ids=None).decisions
    ]
    write_text(limits, draft_limits(decisions))
    return limits


def _behaviour_of(decision: Decision, rules: Mapping[str, str | None]) -> str | None:
    """The rule a decision is about: that of its detector, or the one its finding is named after."""
    spec = decision.detector
    if spec is not None and spec.kind == "rule":
        return None if spec.lines else spec.source  # a limit speaks of the rule everywhere, the decision does not
    return rules.get(decision.hypothesis or "")
