"""What the verbs share: options, the bar, printing.

In:  click's parsed options. Out: settings of the library, text on stdout, a bar on stderr.
Refuses: to hold any logic of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tiltscope import __version__
from tiltscope.errors import UsageError

if TYPE_CHECKING:
    from tiltscope.pairs import LoadSettings

Command = Callable[..., Any]


def options_(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return add


json_ = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
seed_ = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Seed of every random choice."
)
out_ = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("study"),
    show_default=True,
    help="The study: one folder that holds every product.",
)
study_ = click.argument("study", type=click.Path(file_okay=False, path_type=Path), default=Path("study"))
_map = click.option(
    "--map", "columns", multiple=True, metavar="FIELD=COLUMN", help="Name a column: prompt, chosen or rejected."
)
_group = click.option(
    "--group", metavar="COLUMN", help="Pairs that share this value are one witness (a conversation, say)."
)
_domain = click.option(
    "--domain", metavar="COLUMN", help="Report by this column (default: source, domain, category … if there)."
)
_sample = click.option(
    "--sample", type=click.IntRange(1), metavar="N", help="Take N pairs at random (seeded), in file order."
)
_allow_refused = click.option(
    "--allow-refused", is_flag=True, help="Go on even if more than 5 % of the rows are refused."
)
data_options = options_(_map, _group, _domain, _sample, _allow_refused)
asked_options = options_(_map, _group, _allow_refused)
sft_options = options_(_map, _sample, _allow_refused)
max_length = click.option(
    "--max-length",
    default=1024,
    show_default=True,
    type=click.IntRange(8),
    help="Tokens of prompt and answer that are read (and later trained on); what it cuts is counted.",
)
_model = click.option(
    "--model", metavar="ID", help="Hub id or local folder (default: the embedded SmolLM2-135M-Instruct)."
)
_template = click.option(
    "--template",
    metavar="NAME|FILE",
    help="Chat template for a model without one: chatml, llama3, plain, human_assistant.",
)
_device = click.option("--device", metavar="DEVICE", help="cuda, cpu … (default: cuda if there is one).")
model_options = options_(_model, _template, _device, max_length)
_read_length = click.option(
    "--max-length",
    type=click.IntRange(8),
    help="Tokens of prompt and answer that are read (and later trained on); what it cuts is counted (default: 1024, or "
    "with --sae what that one was read with).",
)
read_options = options_(
    _model,
    click.option("--layer", type=int, help="Read the residual stream after this layer (default: the middle one)."),
    click.option(
        "--sae",
        default="train",
        show_default=True,
        metavar="train|PATH",
        help="Fit an autoencoder on these answers, or use a saved one.",
    ),
    _template,
    _device,
    _read_length,
)


namer_options = options_(
    click.option(
        "--namer",
        metavar="URL",
        help="An OpenAI-compatible endpoint that writes names (off by default: it is sent evidence).",
    ),
    click.option("--namer-model", default="default", show_default=True, help="The model to ask there."),
    click.option("--namer-key", envvar="TILTSCOPE_NAMER_KEY", help="Its key (or TILTSCOPE_NAMER_KEY)."),
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


def load_settings(options: dict[str, Any]) -> LoadSettings:
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
    return LoadSettings(columns=columns, **{key: options[key] for key in names if key in options})


def read_settings(options: dict[str, Any]) -> Any:
    need_torch()
    from tiltscope.sae import ReadSettings

    names = ("model", "layer", "sae", "template", "device", "seed")
    length = options["max_length"] or _length_of(options["sae"])
    return ReadSettings(max_length=length, **{key: options[key] for key in names})


def _length_of(sae: str) -> int:
    """What was read through a saved autoencoder: other lengths would be another scope, and nothing would compare."""
    from tiltscope.artifact import read_object

    path = Path(sae)
    facts = (path if path.is_dir() else path.parent) / "scope.json"
    if sae == "train" or not facts.exists():
        return 1024
    return int(read_object(facts, "max_length", verb="read")["max_length"])


def need_torch() -> None:
    import importlib.util

    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"reading needs {package}", found="it is not installed", hint="pip install 'tiltscope[torch]'"
            )


def namer_(options: dict[str, Any]) -> Any:
    if not options["namer"]:
        return None
    from tiltscope.naming import EndpointNamer

    return EndpointNamer(options["namer"], options["namer_model"], api_key=options["namer_key"])


def print_(product: Any, as_json: bool, render: Callable[[Any], str]) -> None:
    click.echo(json.dumps(product, indent=1, ensure_ascii=True, default=str) if as_json else render(product))


def is_main_process() -> bool:
    """Whether this is the process that speaks: the only one, or the first of those `accelerate launch` started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def progress_() -> Iterator[Callable[[str, int, int], None]]:
    """A bar per stage on stderr; a stage that another one interrupted, or that begins anew, gets a new bar."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def advance(stage: str, done: int, total: int) -> None:
        held = bars.get(stage)
        if held is None or done < held.n or (held.disable and held.n < held.total):
            for bar in bars.values():
                bar.close()
            bars[stage] = tqdm(initial=done, total=total, desc=stage, file=sys.stderr, ncols=80, mininterval=0.5)
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


def crew_() -> tuple[int, int]:
    """Return (rank, number of processes) as accelerate launch and torchrun say them; (0, 1) without a launcher."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
