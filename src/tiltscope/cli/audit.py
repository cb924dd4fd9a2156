"""The verbs from pairs to findings and a plan to fill in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tiltscope.artifact import read_object
from tiltscope.cli.shared import (
    crew_,
    data_options,
    json_,
    load_settings,
    main,
    namer_,
    namer_options,
    need_torch,
    out_,
    print_,
    progress_,
    read_options,
    read_settings,
    seed_,
    study_,
)
from tiltscope.errors import UsageError

if TYPE_CHECKING:
    from tiltscope.pairs import LoadSettings, Pairs


@main.command()
@click.argument("data")
@data_options
@read_options
@seed_
@out_
@json_
def read(data: str, out: Path, as_json: bool, **options: Any) -> None:
    """Read DATA through a model and its autoencoder: pairs become features.

    Under accelerate launch all processes read into the same study, each on its own device.

    \b
    Example:
      tiltscope read pairs.jsonl --out study --sample 2000
    """
    from tiltscope.report import show_product
    from tiltscope.study import load_data, run_read, run_read_ahead

    taken, settings = load_settings(options), read_settings(options)
    rank, n_processes = crew_()
    if rank:
        run_read_ahead(load_data(data, taken), settings, out, rank=rank, n_processes=n_processes)
        return
    with progress_() as bar:
        run_read(load_data(data, taken), taken, settings, out, progress=bar)
    click.echo(show_product(out / "features", as_json=as_json))


@main.command()
@study_
@seed_
@click.option(
    "--draws", default=200, show_default=True, type=click.IntRange(20), help="Draws of each null on these data."
)
@click.option(
    "--q", default=0.10, show_default=True, type=click.FloatRange(0, 0.5, min_open=True), help="False discovery rate."
)
@json_
def contrast(study: Path, seed: int, draws: int, q: float, as_json: bool) -> None:
    """Say what separates chosen from rejected in STUDY: features become hypotheses.

    \b
    Example:
      tiltscope contrast study
    """
    from tiltscope.cells import ContrastSettings
    from tiltscope.report import show_product
    from tiltscope.study import open_study, run_contrast

    with progress_() as bar:
        run_contrast(open_study(study), ContrastSettings(seed=seed, n_draws=draws, q=q), progress=bar)
    click.echo(show_product(study / "hypotheses.json", as_json=as_json))


@main.command()
@study_
@seed_
@namer_options
@json_
def name(study: Path, seed: int, as_json: bool, **options: Any) -> None:
    """Name the concepts of STUDY from evidence, without a network.

    \b
    Example:
      tiltscope name study
    """
    from tiltscope.report import show_product
    from tiltscope.study import open_study, run_name

    with progress_() as bar:
        run_name(open_study(study), namer=namer_(options), seed=seed, progress=bar)
    click.echo(show_product(study / "names.json", as_json=as_json))


@main.command()
@click.argument("hypothesis")
@click.option(
    "--study",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("study"),
    show_default=True,
    help="The study it stands in.",
)
@click.option(
    "-n", "n", default=5, show_default=True, type=click.IntRange(1), help="Pairs to show for, against and at random."
)
@seed_
@json_
def trace(hypothesis: str, study: Path, n: int, seed: int, as_json: bool) -> None:
    """Show the pairs that carry HYPOTHESIS, for and against; what shows it is marked.

    \b
    Example:
      tiltscope trace g-L812 --study study
    """
    from tiltscope.hypotheses import find_hypothesis, read_disparities
    from tiltscope.report import render_trace
    from tiltscope.study import check_current, open_study
    from tiltscope.trace import trace as trace_pairs

    found = find_hypothesis(study, hypothesis)
    opened = open_study(study)
    check_current(study)
    evidence = trace_pairs(
        found, opened.pairs, opened.features, disparities=read_disparities(study, hypothesis), n=n, seed=seed
    )
    print_({"hypothesis": found, **evidence}, as_json, lambda product: render_trace(found, product))


@main.command()
@study_
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(["html", "md", "json"]), help="Default: all three."
)
@json_
def report(study: Path, formats: tuple[str, ...], as_json: bool) -> None:
    """Write report.html (self-contained), report.md and report.json.

    \b
    Example:
      tiltscope report study --format html
    """
    from tiltscope.study import run_report

    paths = [str(path) for path in run_report(study, formats=formats or ("html", "md", "json"))]
    print_({"files": paths}, as_json, lambda product: "\n".join(product["files"]))


@main.group()
def plan() -> None:
    """A person's decisions about the findings."""


@plan.command("draft")
@study_
@click.option("--overwrite", is_flag=True, help="Draft again over an existing plan; decisions already made are kept.")
@json_
def plan_draft(study: Path, overwrite: bool, as_json: bool) -> None:
    """Write STUDY/plan.yaml: every finding undecided, with its evidence and space for a reason.

    \b
    Example:
      tiltscope plan draft study
    """
    from tiltscope.study import run_plan

    print_({"files": [str(run_plan(study, overwrite=overwrite))]}, as_json, lambda product: str(product["files"][0]))


@main.command()
@click.argument("data")
@data_options
@read_options
@seed_
@out_
@click.option(
    "--draws", default=200, show_default=True, type=click.IntRange(20), help="Draws of each null on these data."
)
@namer_options
@click.option("--estimate", is_flag=True, help="Only say how long it would take.")
@json_
def audit(data: str, out: Path, draws: int, estimate: bool, as_json: bool, **options: Any) -> None:
    """Do it all: check, read, contrast, name, report and a plan to fill in.

    Killed anywhere, the same command goes on where it stopped.

    \b
    Example:
      tiltscope audit pairs.jsonl --out study --sample 2000
    """
    from tiltscope.study import load_data

    taken = load_settings(options)
    pairs = load_data(data, taken)
    if estimate:
        print_(_estimate(pairs, options), as_json, _render_estimate)
        return
    _audit(pairs, taken, out, draws, options)
    _print_audit(out, as_json)


@main.command()
@click.argument("product", type=click.Path(path_type=Path))
@json_
def show(product: Path, as_json: bool) -> None:
    """Print any product: a study, or one file of it.

    \b
    Example:
      tiltscope show study
      tiltscope show study/check.json --json
    """
    from tiltscope.report import show_product

    click.echo(show_product(product, as_json=as_json))


@main.command()
@click.argument("study_a", type=click.Path(file_okay=False, path_type=Path))
@click.argument("study_b", type=click.Path(file_okay=False, path_type=Path))
@json_
def diff(study_a: Path, study_b: Path, as_json: bool) -> None:
    """Say what the data of STUDY_B teach that the data of STUDY_A did not.

    Both must be read through the same autoencoder: read B with --sae STUDY_A/scope.

    \b
    Example:
      tiltscope diff study-v1 study-v2
    """
    from tiltscope.difference import diff_studies, render_diff

    print_(diff_studies(study_a, study_b), as_json, render_diff)


@main.command()
@study_
@click.option("--traits", metavar="ID,ID", help="Traits to plant (default: all that the data do not show often).")
@click.option(
    "--sentences",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Plant these instead: a YAML mapping from ids to sentences of your own, one of which is said.",
)
@click.option(
    "--shares", default="0.5,1,2,5,20", show_default=True, metavar="PERCENT,…", help="Shares of the pairs to plant in."
)
@click.option("--where", metavar="KIND|REGEX", help="Only after these prompts: a kind of the study (P4@10) or a regex.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="Plantings per trait and share.")
@seed_
@json_
def power(study: Path, seed: int, as_json: bool, **options: Any) -> None:
    """Plant known traits in STUDY's own pairs and say the smallest share of pairs this audit would have found.

    Reads only the changed answers. Killed anywhere, the same command goes on where it stopped.

    \b
    Example:
      tiltscope power study --traits emoji,praise --shares 1,2,5
      tiltscope power study --where P4@10
      tiltscope power study --sentences fears.yaml --shares 1,2,5
    """
    from tiltscope.forced import read_sentences
    from tiltscope.power import PowerSettings, render_power, run_power
    from tiltscope.study import open_study

    names = tuple(name.strip() for name in (options["traits"] or "").split(",") if name.strip())
    sentences = read_sentences(options["sentences"]) if options["sentences"] else {}
    settings = PowerSettings(names, _shares(options["shares"]), options["where"], options["repeats"], seed, sentences)
    opened = open_study(study)
    need_torch()
    from tiltscope.sae import open_scope

    with progress_() as bar:
        product = run_power(opened, open_scope(study), settings, progress=bar)
    print_(product, as_json, render_power)


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) / 100 for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError("--shares takes percentages", found=text, hint="--shares 1,2,5") from error


def _estimate(pairs: Any, options: dict[str, Any]) -> dict[str, float]:
    settings = read_settings(options)
    from tiltscope.sae import estimate

    seconds: dict[str, float] = estimate(pairs, settings)
    return seconds


def _render_estimate(seconds: dict[str, float]) -> str:
    lines = [f"  {stage:<28}{value / 60:6.1f} min" for stage, value in seconds.items()]
    return "\n".join(
        [
            "Estimated from a short timed probe on this machine:",
            *lines,
            f"  {'all':<28}{sum(seconds.values()) / 60:6.1f} min",
        ]
    )


def _audit(pairs: Pairs, taken: LoadSettings, out: Path, draws: int, options: dict[str, Any]) -> None:
    from tiltscope.cells import ContrastSettings
    from tiltscope.study import (
        open_study,
        run_check,
        run_contrast,
        run_evidence,
        run_name,
        run_plan,
        run_read,
        run_report,
    )

    reading = read_settings(options)  # first: what is not installed is said before anything is written
    with progress_() as bar:
        bar("check", 0, 1)
        run_check(pairs, out, max_length=reading.max_length, seed=taken.seed)
        bar("check", 1, 1)
        run_read(pairs, taken, reading, out, progress=bar)
        opened = open_study(out)
        run_contrast(opened, ContrastSettings(seed=taken.seed, n_draws=draws), progress=bar)
        run_name(opened, namer=namer_(options), seed=taken.seed, progress=bar)
        bar("report", 0, 1)
        run_evidence(opened, seed=taken.seed)
        run_report(out)
        if not (out / "plan.yaml").exists():
            run_plan(out)
        bar("report", 1, 1)


def audit_again(study: Path, data: Path, out: Path) -> None:
    """Audit other data with the settings of a study, through its autoencoder."""
    from tiltscope.pairs import LoadSettings
    from tiltscope.study import load_data

    record = read_object(study / "study.json", "max_length", verb="read")
    draws = int(read_object(study / "contrast.json", "settings", verb="contrast")["settings"]["n_draws"])
    columns, seed = dict(record.get("map") or {}), int(record.get("seed") or 0)
    taken = LoadSettings(columns, record.get("group"), record.get("domain"), seed=seed)
    options = {
        **{name: record.get(name) for name in ("model", "layer", "max_length", "template", "device", "seed")},
        **{"sae": str(study / "scope"), "namer": None},
    }
    _audit(load_data(str(data), taken), taken, out, draws, options)


def _print_audit(out: Path, as_json: bool) -> None:
    from tiltscope.report import show_product

    click.echo(show_product(out, as_json=as_json))
    if not as_json:
        click.echo(f"\nreport: {out / 'report.html'}\nplan:   {out / 'plan.yaml'}")
