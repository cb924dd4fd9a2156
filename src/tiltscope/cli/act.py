"""The verbs from a plan to a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tiltscope.cli.shared import json_, main, print_, progress_, study_
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
        measured = run_measure(open_acting(study, plan_path), progress=bar)
    product = [
        {
            "decision": one.decision.name,
            "method": one.decision.method,
            "quality": one.quality.said if one.quality else "not measured: nothing to measure it against",
            "instruction": one.scored.instruction,
            "uplift": dict(one.uplift),
        }
        for one in measured
    ]
    print_(product, as_json, render_measured)


@main.command()
@study_
@_plan
@click.option("--objective", type=click.Choice(["dpo", "sft"]), default="dpo", show_default=True, help="What to train.")
@click.option("--allow-undecided", is_flag=True, help="Leave undecided findings to plain training, knowingly.")
@json_
def prepare(study: Path, plan_path: Path | None, objective: Any, allow_undecided: bool, as_json: bool) -> None:
    """Say what each decision changes in the data, and write STUDY/recipe: a dry run, nothing is trained.

    \b
    Example:
      tiltscope prepare study
    """
    from tiltscope.acting import open_acting, prepared_product, run_measure, run_prepare
    from tiltscope.report.acts import render_prepared

    with progress_() as bar:
        acting = open_acting(study, plan_path)
        measured = run_measure(acting, progress=bar)
        prepared = run_prepare(acting, measured, objective=objective, allow_undecided=allow_undecided)
    print_(prepared_product(prepared, measured), as_json, render_prepared)


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
    print_({**asdict(run), "folder": str(out)}, as_json, render_run)


def _need(package: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise UsageError(f"this needs {package}", found="it is not installed", hint="pip install 'tiltscope[train]'")
