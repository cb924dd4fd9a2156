"""The verbs from a plan to a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tiltscope.artifact import read_json
from tiltscope.cli.shared import is_main_process, json_, main, print_, progress_, study_
from tiltscope.errors import UsageError

_plan = click.option(
    "--plan", "plan_path", type=click.Path(dir_okay=False, path_type=Path), help="Default: STUDY/plan.yaml."
)


@main.command()
@study_
@_plan
@json_
def measure(study: Path, plan_path: Path | None, as_json: bool) -> None:
    """Measure what the decisions of a plan need: detectors with their quality, likelihood ratios, instructions.

    Loads the model only where a decision needs it; what was measured before is read back.

    \b
    Example:
      tiltscope measure study
    """
    from tiltscope.acting import open_acting, run_measure
    from tiltscope.report.acts import render_measured

    with progress_() as bar:
        run_measure(open_acting(study, plan_path), progress=bar)
    print_(read_json(study / "scores" / "scores.json", verb="measure")["decisions"], as_json, render_measured)


@main.command()
@study_
@_plan
@click.option("--objective", type=click.Choice(["dpo", "sft"]), default="dpo", show_default=True, help="What to train.")
@click.option("--allow-undecided", is_flag=True, help="Leave undecided findings to plain training, knowingly.")
@click.option(
    "--export",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also write the shaped rows for other people's TRL code.",
)
@json_
def prepare(study: Path, plan_path: Path | None, objective: Any, as_json: bool, **options: Any) -> None:
    """Say what each decision changes in the data, and write STUDY/recipe: a dry run, nothing is trained.

    \b
    Example:
      tiltscope prepare study
      tiltscope prepare study --objective sft --export shaped
    """
    from tiltscope.acting import open_acting, run_measure, run_prepare
    from tiltscope.report.acts import render_prepared

    with progress_() as bar:
        acting = open_acting(study, plan_path)
        measured = run_measure(acting, progress=bar)
        allowed = options["allow_undecided"]
        product = run_prepare(acting, measured, objective=objective, allow_undecided=allowed, progress=bar)
        if options["folder"]:
            product["export"] = _export(study, options["folder"], bar)
    print_(product, as_json, render_prepared)


def _export(study: Path, folder: Path, bar: Any) -> dict[str, Any]:
    _need("trl")
    from tiltscope.acting import run_export
    from tiltscope.training import TrainConfig

    done = run_export(study, folder, TrainConfig(), progress=bar)
    return {"folder": str(folder), "n_rows": done.n_rows, "left_out": list(done.left_out)}


@main.command()
@study_
@click.option(
    "--before",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="An evaluation of the starting model: with --after, the forecast is scored.",
)
@click.option(
    "--after",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="An evaluation of a model trained plainly on these pairs, one per training seed (repeat the option).",
)
@click.option(
    "--line",
    "line_from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A card.json of another dataset: its line gives 1 - SSE/SST here.",
)
@json_
def predict(study: Path, before: Path | None, after: tuple[Path, ...], line_from: Path | None, as_json: bool) -> None:
    """Say what training on STUDY's pairs will change; with evaluations before and after, how well that was said.

    Samples the starting model's own answers once. Exit code 5 where training moved nothing that could be predicted.

    \b
    Example:
      tiltscope predict study
      tiltscope predict study --before evals/base --after evals/plain-0 --after evals/plain-1
    """
    from tiltscope.artifact import read_object
    from tiltscope.predicting import run_card, run_forecast
    from tiltscope.report.forecasts import render_card, render_forecast

    if (before is None) != (not after) or (line_from and not after):
        raise UsageError("--before and --after go together", hint="evaluations of the start, and of trained models")
    with progress_() as bar:
        if before is None:
            print_(run_forecast(study, progress=bar), as_json, render_forecast)
            return
        line = float(read_object(line_from, "slope", verb="predict")["slope"]) if line_from else None
        card = run_card(study, before, after, line=line, progress=bar)
    print_(card, as_json, render_card)
    if card["verdict"] != "scored":
        raise click.exceptions.Exit(5)


@main.command()
@study_
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The run: weights and metrics."
)
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Training settings (TRL's keys)."
)
@click.option("--plain", type=click.Choice(["dpo", "sft"]), help="Train without any decision, to compare with.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Instead of the settings' seed.")
@click.option("--pairs", "n_pairs", type=click.IntRange(1), metavar="N", help="Train on N pairs only (by hash of id).")
@click.option(
    "--push", metavar="OWNER/NAME", help="Then upload the model, with a card, to this Hub repository (private)."
)
@click.option("--public", is_flag=True, help="Make a new repository public.")
@click.option("--comparison", type=click.Path(exists=True, path_type=Path), help="A comparison for the card of --push.")
@json_
def train(study: Path, out: Path, config: Path | None, plain: Any, as_json: bool, **options: Any) -> None:
    """Train on STUDY's pairs as its recipe says, with TRL; killed, the same command goes on where it stopped.

    \b
    Example:
      tiltscope train study --out runs/planned-0 --seed 0
      tiltscope train study --out runs/plain-0 --plain dpo --seed 0
    """
    from dataclasses import asdict, replace

    _need("trl")
    from tiltscope.acting import run_train
    from tiltscope.report.acts import render_run
    from tiltscope.training import TrainConfig, load_config

    settings = load_config(config) if config else TrainConfig()
    if options["seed"] is not None:
        settings = replace(settings, seed=options["seed"])
    with progress_() as bar:
        run = run_train(study, out, settings, plain=plain, n_pairs=options["n_pairs"], progress=bar)
    if not is_main_process():
        return
    if options["push"]:
        _push(study, out, plain, options)
    is_plain = plain is None and _is_plain(study)
    print_({**asdict(run), "folder": str(out), "is_plain": is_plain}, as_json, render_run)


def _is_plain(study: Path) -> bool:
    """Whether the plan that was prepared changes nothing, as an empty one."""
    path = study / "prepared.json"
    return path.exists() and bool(read_json(path, verb="prepare").get("is_plain"))


def _push(study: Path, out: Path, plain: str | None, options: dict[str, Any]) -> None:
    from tiltscope.publishing import publish

    cards = {"plan": None if plain else study / "plan.yaml", "comparison": options["comparison"]}
    click.echo(publish(out, options["push"], public=options["public"], cards=cards), err=True)


def _need(package: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise UsageError(f"this needs {package}", found="it is not installed", hint="pip install 'tiltscope[train]'")


@main.command()
@click.argument("model", required=False)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The evaluation.")
@click.option("--behaviours", metavar="ID,ID", help="Behaviours of the library (default: all).")
@click.option(
    "--behaviours-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Your own, as YAML."
)
@click.option("--data", metavar="DATA", help="Ask prompts of a preference dataset; its chosen answers give the NLL.")
@click.option(
    "--prompts", "n_prompts", default=100, show_default=True, type=click.IntRange(1), help="How many of DATA."
)
@click.option(
    "--xstest",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Ask XSTest's prompts for refusals instead.",
)
@click.option(
    "--under", multiple=True, metavar="WRAPPER", help="Its unsafe prompts also under a jailbreak wrapper, or `all`."
)
@click.option("--lm-eval", "tasks", metavar="TASK[,TASK]", help="Also run these tasks of lm-evaluation-harness.")
@click.option("--lm-eval-limit", type=click.IntRange(1), metavar="N", help="Their first N documents each.")
@click.option(
    "--lm-eval-path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Tasks of your own, as the harness's YAML.",
)
@click.option("--judge", metavar="URL", help="An OpenAI-compatible endpoint that judges (off: it is sent answers).")
@click.option("--judge-model", default="default", show_default=True, help="The model to ask there.")
@click.option("--judge-key", envvar="TILTSCOPE_JUDGE_KEY", help="Its key (or TILTSCOPE_JUDGE_KEY).")
@click.option(
    "--not-in", type=click.Path(file_okay=False, path_type=Path), help="Leave out prompts of this study: trained on."
)
@click.option("-n", "n_answers", default=1, show_default=True, type=click.IntRange(1), help="Answers per prompt.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the sampling.")
@click.option(
    "--temperature", default=0.7, show_default=True, type=click.FloatRange(0, 10), help="0 takes the likeliest answer."
)
@click.option(
    "--max-new-tokens", default=160, show_default=True, type=click.IntRange(1), help="Where an answer is cut."
)
@click.option("--max-length", default=1024, show_default=True, type=click.IntRange(8), help="Tokens of a prompt.")
@click.option("--template", metavar="NAME|FILE", help="Chat template for a model without one.")
@click.option("--device", metavar="DEVICE", help="cuda, cpu … (default: cuda if there is one).")
@click.option("--endpoint", metavar="URL", help="An OpenAI-compatible endpoint that answers, instead of weights.")
@json_
def evaluate(model: str | None, out: Path, as_json: bool, **options: Any) -> None:
    """Ask MODEL (folder, Hub id; default: the embedded one) and measure behaviours in its answers.

    \b
    Example:
      tiltscope evaluate runs/planned-0/model --out evals/planned-0 --behaviours bold,list,heading
      tiltscope evaluate runs/planned-0/model --out evals/safety --xstest $TILTSCOPE_DATA/xstest --under all
      tiltscope evaluate runs/planned-0/model --out evals/arc --behaviours length --lm-eval arc_easy
    """
    from tiltscope.proving import run_evaluate
    from tiltscope.report.acts import render_evaluation

    with progress_() as bar:
        run_evaluate(model, out, _asked(options), progress=bar)
    print_(read_json(out / "evaluation.json", verb="evaluate"), as_json, render_evaluation)


def _asked(options: dict[str, Any]) -> Any:
    from tiltscope.behaviours.safety import wrappers
    from tiltscope.evaluation import Judge
    from tiltscope.proving import Asked
    from tiltscope.study import open_study

    left_out = frozenset(row.group for row in open_study(options["not_in"]).pairs.rows) if options["not_in"] else ()
    wanted = _names(options["behaviours"])
    if options["behaviours"] is not None and not wanted:
        raise UsageError("--behaviours names none", found=repr(options["behaviours"]), hint="leave it out for all")
    same = ("data", "n_prompts", "template", "max_length", "device", "endpoint", "n_answers", "temperature")
    return Asked(
        behaviours=wanted,
        file=options["behaviours_file"],
        leave_out=frozenset(left_out),
        seeds=(options["seed"],),
        xstest=options["xstest"],
        under=tuple(one.id for one in wrappers()) if "all" in options["under"] else options["under"],
        judge=Judge(options["judge"], options["judge_model"], options["judge_key"]) if options["judge"] else None,
        harness=_harness(options),
        max_new_tokens=options["max_new_tokens"],
        **{name: options[name] for name in same},
    )


def _names(listed: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in (listed or "").split(",") if name.strip()))


def _harness(options: dict[str, Any]) -> Any:
    from tiltscope.harness import Harness

    limit, path, tasks = options["lm_eval_limit"], options["lm_eval_path"], _names(options["tasks"])
    if not tasks and (options["tasks"] is not None or limit or path):
        raise UsageError("--lm-eval names no task", found=repr(options["tasks"]), hint="--lm-eval arc_easy")
    return Harness(tasks, limit, path) if tasks else None


@main.command()
@click.argument("arms", nargs=-1, required=True, metavar="NAME=EVAL[,EVAL…]…")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The comparison.")
@click.option("--target", "targets", multiple=True, metavar="ID", help="A behaviour that the plan aims at.")
@json_
def compare(arms: tuple[str, ...], out: Path, targets: tuple[str, ...], as_json: bool) -> None:
    """Compare evaluations: the first arm is the reference, several folders of an arm are training seeds.

    \b
    Example:
      tiltscope compare base=evals/base plain=evals/plain-0,evals/plain-1 \\
        planned=evals/planned-0,evals/planned-1 --target bold --out comparison
    """
    from tiltscope.proving import run_compare
    from tiltscope.report.acts import render_comparison

    named: dict[str, list[Path]] = {}
    for arm in arms:
        name, equals, folders = arm.partition("=")
        if not equals or not name or not folders or name in named:
            hint = "tiltscope compare base=eval-0 planned=eval-1,eval-2 --out comparison"
            raise UsageError("an arm is NAME=FOLDER[,FOLDER…], each name once", found=arm, hint=hint)
        named[name] = [Path(folder) for folder in folders.split(",") if folder]
    run_compare(named, out, targets=targets)
    print_(read_json(out / "comparison.json", verb="compare"), as_json, render_comparison)


@main.command()
@click.argument("limits", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("comparison", required=False, type=click.Path(path_type=Path))
@click.option(
    "--data",
    "study",
    type=click.Path(file_okay=False, path_type=Path),
    help="The audit: judged where no COMPARISON is given.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write JSON, JUnit XML, Markdown and a page for buyers.",
)
@click.option("--draft", is_flag=True, help="Write LIMITS from a study's plan (--data) instead of judging.")
@json_
@click.pass_context
def gate(ctx: click.Context, /, limits: Path, comparison: Path | None, as_json: bool, **options: Any) -> None:
    """Judge COMPARISON, or with --data an audit before training, by LIMITS: exit 0 pass, 1 fail, 5 inconclusive.

    \b
    Example:
      tiltscope gate limits.yaml comparison --out verdict
      tiltscope gate limits.yaml --data study
    """
    from tiltscope.proving import draft_gate, run_gate
    from tiltscope.verdict import as_json as verdict_json
    from tiltscope.verdict import as_text

    if options["draft"]:
        print_({"files": [str(draft_gate(limits, options["study"]))]}, as_json, lambda product: product["files"][0])
        return
    verdict = run_gate(limits, comparison=comparison, study=options["study"], out=options["out"])
    print_(verdict_json(verdict), as_json, lambda _: as_text(verdict))
    ctx.exit(verdict.exit_code)


@main.command()
@click.argument("data")
@click.option(
    "--study",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("study"),
    show_default=True,
    help="The study of DATA.",
)
@_plan
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="kept.jsonl and the rest.")
@click.option("--audit/--no-audit", "again", default=True, help="Audit what is kept through the same autoencoder.")
@json_
def clean(data: str, study: Path, plan_path: Path | None, out: Path, again: bool, as_json: bool) -> None:
    """Move the rows of DATA that teach what the plan suppresses into quarantine, and audit the rest again.

    Nothing is lost: OUT/quarantine.jsonl holds the rows with their reasons, in a form that merges back.

    \b
    Example:
      tiltscope clean pairs.jsonl --study study --out cleaned
    """
    from tiltscope.acting import open_acting, run_clean

    with progress_() as bar:
        facts = run_clean(open_acting(study, plan_path), data, out, progress=bar)
    if again:
        facts["remaining"] = _audit_kept(study, out)
    print_(facts, as_json, _told)


def _told(facts: dict[str, Any]) -> str:
    from tiltscope.difference import render_diff
    from tiltscope.report.acts import render_cleaned

    if "remaining" not in facts:
        return render_cleaned(facts)
    return f"{render_cleaned(facts)}\n\nThe kept rows against all rows:\n{render_diff(facts['remaining'])}"


def _audit_kept(study: Path, out: Path) -> Any:
    """Audit kept.jsonl as the study was audited, through its autoencoder; what the plan's findings are now."""
    from tiltscope.cli.audit import audit_again
    from tiltscope.difference import diff_studies

    audit_again(study, out / "kept.jsonl", out / "study")
    return diff_studies(study, out / "study")
