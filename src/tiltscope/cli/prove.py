"""The verbs from models to a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tiltscope.artifact import read_json
from tiltscope.cli.shared import asked_options, json_, load_settings, main, print_, progress_
from tiltscope.errors import UsageError


@main.command()
@click.argument("model", required=False)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The evaluation.")
@click.option("--behaviours", metavar="ID,ID", help="Behaviours of the library (default: all).")
@click.option(
    "--behaviours-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your own, as YAML (beside the others).",
)
@click.option("--data", metavar="DATA", help="Ask prompts of a preference dataset; its chosen answers give the NLL.")
@asked_options
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
@click.option(
    "--openings", is_flag=True, help="Also how likely MODEL would begin each style in DATA's answers, without sampling."
)
@click.option(
    "--sentences",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also what MODEL gives to these sentences (YAML: id, then a list in quotes) in DATA's answers.",
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
@click.option(
    "--max-length",
    default=1024,
    show_default=True,
    type=click.IntRange(8),
    help="Tokens of a prompt, and with DATA of prompt and answer.",
)
@click.option("--template", metavar="NAME|FILE", help="Chat template for a model without one.")
@click.option("--device", metavar="DEVICE", help="cuda, cpu … (default: cuda if there is one).")
@click.option("--endpoint", metavar="URL", help="An OpenAI-compatible endpoint that answers, instead of weights.")
@json_
def evaluate(model: str | None, out: Path, as_json: bool, **options: Any) -> None:
    """Ask MODEL (folder, Hub id; default: the embedded one) and measure behaviours in its answers.

    \b
    Example:
      tiltscope evaluate runs/planned-0/model --out evals/planned-0 --behaviours bold,list,heading
      tiltscope evaluate runs/planned-0/model --out evals/planned-0 --data pairs.jsonl --not-in study --openings
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
    from tiltscope.pairs import LoadSettings
    from tiltscope.proving import Asked
    from tiltscope.study import trained_on

    wanted = _names(options["behaviours"])
    if options["behaviours"] is not None and not wanted:
        raise UsageError("--behaviours names none", found=repr(options["behaviours"]), hint="leave it out for all")
    read_as = load_settings({**options, "seed": 0})
    if options["data"] is None and read_as != LoadSettings():
        raise UsageError(
            "--map, --group and --allow-refused say how DATA is read", found="no --data", hint="--data DATA"
        )
    same = ("data", "n_prompts", "template", "max_length", "device", "endpoint", "n_answers", "temperature")
    return Asked(
        behaviours=wanted,
        file=options["behaviours_file"],
        read_as=read_as,
        leave_out=trained_on(options["not_in"]) if options["not_in"] else frozenset(),
        seeds=(options["seed"],),
        xstest=options["xstest"],
        under=tuple(one.id for one in wrappers()) if "all" in options["under"] else options["under"],
        judge=Judge(options["judge"], options["judge_model"], options["judge_key"]) if options["judge"] else None,
        forced=_forced(options),
        harness=_harness(options),
        max_new_tokens=options["max_new_tokens"],
        **{name: options[name] for name in same},
    )


def _forced(options: dict[str, Any]) -> Any:
    from tiltscope.forced import Forced, read_sentences

    sentences = read_sentences(options["sentences"]) if options["sentences"] else {}
    return Forced(options["openings"], sentences) if options["openings"] or sentences else None


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
@click.option(
    "--approved",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="For `no new lean`: the study of data that were approved, read through the same autoencoder.",
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
      tiltscope gate limits.yaml --data candidate --approved study --out verdict
    """
    from tiltscope.proving import draft_gate, run_gate
    from tiltscope.verdict import as_json as verdict_json
    from tiltscope.verdict import as_text

    if options["draft"]:
        print_({"files": [str(draft_gate(limits, options["study"]))]}, as_json, lambda product: product["files"][0])
        return
    given = {name: options[name] for name in ("study", "out", "approved")}
    verdict = run_gate(limits, comparison=comparison, **given)
    print_(verdict_json(verdict), as_json, lambda _: as_text(verdict))
    ctx.exit(verdict.exit_code)
