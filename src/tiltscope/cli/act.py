"""The verbs from a plan to a trained model, or to cleaned data."""

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
@click.option(
    "--objective",
    type=click.Choice(["dpo", "sft"]),
    help="How these pairs are trained on (default: what the evaluated runs record, else dpo).",
)
@json_
def predict(study: Path, before: Path | None, after: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Say what training on STUDY's pairs will change; with evaluations before and after, how well that was said.

    Samples the starting model's own answers once. Exit code 5 where training moved nothing that could be predicted.

    \b
    Example:
      tiltscope predict study --objective sft
      tiltscope predict study --before evals/base --after evals/plain-0 --after evals/plain-1
    """
    from tiltscope.artifact import read_object
    from tiltscope.predicting import run_card, run_forecast
    from tiltscope.report.forecasts import render_card, render_forecast

    line_from, objective = options["line_from"], options["objective"]
    if (before is None) != (not after) or (line_from and not after):
        raise UsageError("--before and --after go together", hint="evaluations of the start, and of trained models")
    with progress_() as bar:
        if before is None:
            print_(run_forecast(study, objective=objective, progress=bar), as_json, render_forecast)
            return
        line = float(read_object(line_from, "slope", verb="predict")["slope"]) if line_from else None
        card = run_card(study, before, after, objective=objective, line=line, progress=bar)
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
    from tiltscope.publishing import check_repo

    if options["push"] is not None:
        check_repo(options["push"])
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
@click.option(
    "--verdict",
    type=click.Path(exists=True, path_type=Path),
    help="Instead of a plan: the --out of a gate whose failed rules name rows.",
)
@click.option(
    "--balanced", is_flag=True, help="Take out only as many rows as there are more for a concept than against it."
)
@click.option("--audit/--no-audit", "again", default=True, help="Audit what is kept through the same autoencoder.")
@json_
def clean(data: str, study: Path, out: Path, again: bool, as_json: bool, **options: Any) -> None:
    """Move the rows of DATA that teach what the plan suppresses into quarantine, and audit the rest again.

    With --verdict those rows go that a failed gate over STUDY names.

    Nothing is lost: OUT/quarantine.jsonl holds the rows with their reasons, in a form that merges back.

    \b
    Example:
      tiltscope clean pairs.jsonl --study study --out cleaned
      tiltscope clean candidate.jsonl --study candidate --verdict verdict --out cleaned
    """
    from tiltscope.acting import open_acting, open_reading
    from tiltscope.quarantine import run_clean, run_clean_named

    plan_path, verdict = options["plan_path"], options["verdict"]
    if plan_path and verdict:
        raise UsageError("rows are named by a plan or by a verdict", found="--plan and --verdict", hint="give one")
    if verdict and options["balanced"]:
        raise UsageError("a verdict names its rows one by one", found="--verdict and --balanced", hint="give one")
    with progress_() as bar:
        if verdict:
            facts = run_clean_named(open_reading(study), data, verdict, out)
        else:
            facts = run_clean(open_acting(study, plan_path), data, out, balanced=options["balanced"], progress=bar)
    if again and (study / "contrast.json").exists():  # a study that was only read is not audited now
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
