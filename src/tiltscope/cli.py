"""The command line: parse, call, print, exit.

In:  words a person types. Out: text on stdout, progress on stderr, an exit code.
     0 fine · 1 a finding or limit fails a gate · 2 usage or bad input · 3 our own fault · 5 inconclusive
     130 interrupted
Refuses: to hold any logic of its own.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tiltscope import __version__
from tiltscope.errors import ProductError, TiltscopeError, UsageError

if TYPE_CHECKING:
    from tiltscope.pairs import LoadSettings, Pairs

__all__ = ["main", "run"]

Command = Callable[..., Any]


# --- options that several verbs share ---------------------------------------------------------------------------------


def _options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return add


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
_seed = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Seed of every random choice."
)
_out = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("study"),
    show_default=True,
    help="The study: one folder that holds every product.",
)
_study = click.argument("study", type=click.Path(file_okay=False, path_type=Path), default=Path("study"))
_data_options = _options(
    click.option(
        "--map", "columns", multiple=True, metavar="FIELD=COLUMN", help="Name a column: prompt, chosen or rejected."
    ),
    click.option(
        "--group", metavar="COLUMN", help="Pairs that share this value are one witness (a conversation, say)."
    ),
    click.option(
        "--domain", metavar="COLUMN", help="Report by this column (default: source, domain, category … if there)."
    ),
    click.option(
        "--sample", type=click.IntRange(1), metavar="N", help="Take N pairs at random (seeded), in file order."
    ),
    click.option("--allow-refused", is_flag=True, help="Go on even if more than 5 % of the rows are refused."),
)
_max_length = click.option(
    "--max-length",
    default=1024,
    show_default=True,
    type=click.IntRange(8),
    help="Tokens of prompt and answer that are read (and later trained on); what it cuts is counted.",
)
_read_options = _options(
    click.option("--model", metavar="ID", help="Hub id or local folder (default: the embedded SmolLM2-135M-Instruct)."),
    click.option("--layer", type=int, help="Read the residual stream after this layer (default: the middle one)."),
    click.option(
        "--sae",
        default="train",
        show_default=True,
        metavar="train|PATH",
        help="Fit an autoencoder on these answers, or use a saved one.",
    ),
    click.option(
        "--template",
        metavar="NAME|FILE",
        help="Chat template for a model without one: chatml, llama3, plain, human_assistant.",
    ),
    click.option("--device", metavar="DEVICE", help="cuda, cpu … (default: cuda if there is one)."),
    _max_length,
)


class _Verbs(click.Group):
    """Keeps the verbs in the order of the street."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="tiltscope")
def main() -> None:
    """See which way preference data tilts your model before you train it.

    \b
    Start here:
      tiltscope audit demo --out study        the bundled dataset, five minutes
      tiltscope audit pairs.jsonl --out study your own
    """


# --- verbs ------------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("data")
@_data_options
@_max_length
@_seed
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Also keep the product in this study.")
@_json
def check(data: str, out: Path | None, max_length: int, as_json: bool, **options: Any) -> None:
    """Describe DATA before any model loads: shape, refused rows, and the preflight checklist.

    \b
    Example:
      tiltscope check pairs.jsonl.gz
    """
    from tiltscope.checklist import render_check
    from tiltscope.study import load_data, run_check

    settings = _load_settings(options)
    product = run_check(load_data(data, settings), out, max_length=max_length, seed=settings.seed)
    _print(product, as_json, render_check)


@main.command()
@click.argument("data")
@_data_options
@_read_options
@_seed
@_out
@_json
def read(data: str, out: Path, as_json: bool, **options: Any) -> None:
    """Read DATA through a model and its autoencoder: pairs become features.

    \b
    Example:
      tiltscope read pairs.jsonl --out study --sample 2000
    """
    from tiltscope.report import show_product
    from tiltscope.study import load_data, run_read

    taken, settings = _load_settings(options), _read_settings(options)
    with _progress() as bar:
        run_read(load_data(data, taken), taken, settings, out, progress=bar)
    click.echo(show_product(out / "features", as_json=as_json))


@main.command()
@_study
@_seed
@click.option(
    "--draws", default=200, show_default=True, type=click.IntRange(20), help="Draws of each null on these data."
)
@click.option(
    "--q", default=0.10, show_default=True, type=click.FloatRange(0, 0.5, min_open=True), help="False discovery rate."
)
@_json
def contrast(study: Path, seed: int, draws: int, q: float, as_json: bool) -> None:
    """Say what separates chosen from rejected in STUDY: features become hypotheses.

    \b
    Example:
      tiltscope contrast study
    """
    from tiltscope.cells import ContrastSettings
    from tiltscope.report import show_product
    from tiltscope.study import open_study, run_contrast

    with _progress() as bar:
        run_contrast(open_study(study), ContrastSettings(seed=seed, n_draws=draws, q=q), progress=bar)
    click.echo(show_product(study / "hypotheses.json", as_json=as_json))


_namer_options = _options(
    click.option(
        "--namer",
        metavar="URL",
        help="An OpenAI-compatible endpoint that writes names (off by default: it is sent evidence).",
    ),
    click.option("--namer-model", default="default", show_default=True, help="The model to ask there."),
    click.option("--namer-key", envvar="TILTSCOPE_NAMER_KEY", help="Its key (or TILTSCOPE_NAMER_KEY)."),
)


@main.command()
@_study
@_seed
@_namer_options
@_json
def name(study: Path, seed: int, as_json: bool, **options: Any) -> None:
    """Name the concepts of STUDY from evidence, without a network.

    \b
    Example:
      tiltscope name study
    """
    from tiltscope.report import show_product
    from tiltscope.study import open_study, run_name

    with _progress() as bar:
        run_name(open_study(study), namer=_namer(options), seed=seed, progress=bar)
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
@_seed
@_json
def trace(hypothesis: str, study: Path, n: int, seed: int, as_json: bool) -> None:
    """Show the pairs that carry HYPOTHESIS, for and against, firing tokens marked.

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
    _print({"hypothesis": found, **evidence}, as_json, lambda product: render_trace(found, product))


@main.command()
@_study
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(["html", "md", "json"]), help="Default: all three."
)
@_json
def report(study: Path, formats: tuple[str, ...], as_json: bool) -> None:
    """Write report.html (self-contained), report.md and report.json.

    \b
    Example:
      tiltscope report study --format html
    """
    from tiltscope.study import run_report

    paths = [str(path) for path in run_report(study, formats=formats or ("html", "md", "json"))]
    _print({"files": paths}, as_json, lambda product: "\n".join(product["files"]))


@main.group()
def plan() -> None:
    """A person's decisions about the findings."""


@plan.command("draft")
@_study
@click.option("--overwrite", is_flag=True, help="Draft again over an existing plan; decisions already made are kept.")
@_json
def plan_draft(study: Path, overwrite: bool, as_json: bool) -> None:
    """Write STUDY/plan.yaml: every finding undecided, with its evidence and space for a reason.

    \b
    Example:
      tiltscope plan draft study
    """
    from tiltscope.study import run_plan

    _print({"files": [str(run_plan(study, overwrite=overwrite))]}, as_json, lambda product: str(product["files"][0]))


@main.command()
@click.argument("data")
@_data_options
@_read_options
@_seed
@_out
@click.option(
    "--draws", default=200, show_default=True, type=click.IntRange(20), help="Draws of each null on these data."
)
@_namer_options
@click.option("--estimate", is_flag=True, help="Only say how long it would take.")
@_json
def audit(data: str, out: Path, draws: int, estimate: bool, as_json: bool, **options: Any) -> None:
    """Do it all: check, read, contrast, name, report and a plan to fill in.

    Killed anywhere, the same command goes on where it stopped.

    \b
    Example:
      tiltscope audit pairs.jsonl --out study --sample 2000
    """
    from tiltscope.study import load_data

    taken = _load_settings(options)
    pairs = load_data(data, taken)
    if estimate:
        _print(_estimate(pairs, options), as_json, _render_estimate)
        return
    _audit(pairs, taken, out, draws, options)
    _print_audit(out, as_json)


@main.command()
@click.argument("product", type=click.Path(path_type=Path))
@_json
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
@_json
def diff(study_a: Path, study_b: Path, as_json: bool) -> None:
    """Say what the data of STUDY_B teach that the data of STUDY_A did not.

    Both must be read through the same autoencoder: read B with --sae STUDY_A/scope.

    \b
    Example:
      tiltscope diff study-v1 study-v2
    """
    from tiltscope.difference import diff_studies, render_diff

    _print(diff_studies(study_a, study_b), as_json, render_diff)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _load_settings(options: dict[str, Any]) -> LoadSettings:
    from tiltscope.pairs import LoadSettings

    columns: dict[str, str] = {}
    for entry in options["columns"]:
        field, equals, column = entry.partition("=")
        if not equals or field not in ("prompt", "chosen", "rejected") or not column:
            raise UsageError(
                "--map takes FIELD=COLUMN with FIELD one of prompt, chosen, rejected",
                found=entry,
                hint="--map chosen=better",
            )
        if columns.setdefault(field, column) != column:
            raise UsageError("--map names two columns for one field", found=f"{columns[field]} and {column} as {field}")
    names = ("group", "domain", "sample", "seed", "allow_refused")
    return LoadSettings(columns=columns, **{key: options[key] for key in names})


def _read_settings(options: dict[str, Any]) -> Any:
    _need_torch()
    from tiltscope.sae import ReadSettings

    names = ("model", "layer", "sae", "max_length", "template", "device", "seed")
    return ReadSettings(**{key: options[key] for key in names})


def _need_torch() -> None:
    import importlib.util

    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"reading needs {package}", found="it is not installed", hint="pip install 'tiltscope[torch]'"
            )


def _namer(options: dict[str, Any]) -> Any:
    if not options["namer"]:
        return None
    from tiltscope.naming import EndpointNamer

    return EndpointNamer(options["namer"], options["namer_model"], api_key=options["namer_key"])


def _estimate(pairs: Any, options: dict[str, Any]) -> dict[str, float]:
    settings = _read_settings(options)
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

    reading = _read_settings(options)  # first: what is not installed is said before anything is written
    with _progress() as bar:
        bar("check", 0, 1)
        run_check(pairs, out, max_length=options["max_length"], seed=taken.seed)
        bar("check", 1, 1)
        run_read(pairs, taken, reading, out, progress=bar)
        opened = open_study(out)
        run_contrast(opened, ContrastSettings(seed=taken.seed, n_draws=draws), progress=bar)
        run_name(opened, namer=_namer(options), seed=taken.seed, progress=bar)
        bar("report", 0, 1)
        run_evidence(opened, seed=taken.seed)
        run_report(out)
        if not (out / "plan.yaml").exists():
            run_plan(out)
        bar("report", 1, 1)


def _print_audit(out: Path, as_json: bool) -> None:
    from tiltscope.report import show_product

    click.echo(show_product(out, as_json=as_json))
    if not as_json:
        click.echo(f"\nreport: {out / 'report.html'}\nplan:   {out / 'plan.yaml'}")


def _print(product: Any, as_json: bool, render: Callable[[Any], str]) -> None:
    click.echo(json.dumps(product, indent=1, ensure_ascii=True, default=str) if as_json else render(product))


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar per stage on stderr."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def advance(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = tqdm(total=total, desc=stage, file=sys.stderr, ncols=80, mininterval=0.5)
        bar = bars[stage]
        if bar.disable:  # closed: this stage was done already
            return
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    try:
        yield advance
    finally:
        for bar in bars.values():
            bar.close()


def _complain(error: TiltscopeError) -> None:
    """Print a refusal; what it quotes from the data cannot reach the terminal as a control sequence."""
    from tiltscope.report.text import visible

    click.echo(f"error: {visible(str(error))}", err=True)


def run() -> None:
    """The console script: every refusal becomes a message and an exit code."""
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "passive"
    )  # torch's threads otherwise spin, at a third of the speed under load
    try:
        main.main(standalone_mode=False)
    except TiltscopeError as error:
        _complain(error)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: the same command goes on where this one stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        _complain(ProductError(str(error.strerror or error), where=str(error.filename or "")))
        sys.exit(2)
    except Exception:  # the last door: a fault of ours must not look like a failed gate (exit 1)
        traceback.print_exc()
        click.echo("error: this is a fault of Tiltscope's; please report it with the lines above", err=True)
        sys.exit(3)
