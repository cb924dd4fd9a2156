"""The verbs that look at a dataset, and make one whole, before it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tiltscope.cli.shared import (
    data_options,
    json_,
    load_settings,
    main,
    max_length,
    model_options,
    need_torch,
    print_,
    progress_,
    seed_,
    sft_options,
)


@main.command()
@click.argument("data")
@data_options
@max_length
@seed_
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Also keep the product in this study.")
@json_
def check(data: str, out: Path | None, max_length: int, as_json: bool, **options: Any) -> None:
    """Describe DATA before any model loads: shape, refused rows, and the preflight checklist.

    \b
    Example:
      tiltscope check pairs.jsonl.gz
    """
    from tiltscope.checklist import render_check
    from tiltscope.study import load_data, run_check

    settings = load_settings(options)
    product = run_check(load_data(data, settings), out, max_length=max_length, seed=settings.seed)
    print_(product, as_json, render_check)


@main.command()
@click.argument("data")
@sft_options
@model_options
@click.option(
    "--max-new-tokens", default=256, show_default=True, type=click.IntRange(1), help="Where an answer is cut."
)
@click.option(
    "--temperature", default=0.7, show_default=True, type=click.FloatRange(0, 10), help="0 takes the likeliest answer."
)
@seed_
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The preference file to write (JSONL).",
)
@json_
def answer(data: str, out: Path, as_json: bool, **options: Any) -> None:
    """Give SFT DATA a rejected side: the starting model's own answer to each prompt.

    Findings on OUT then say what training on DATA would teach, relative to what the model does already.

    \b
    Example:
      tiltscope answer sft.jsonl --out pairs.jsonl --sample 2000
      tiltscope answer alpaca.json --map prompt=instruction --map chosen=output --out pairs.jsonl
    """
    need_torch()
    from tiltscope.answering import Answering, answer_sft
    from tiltscope.pairs import load_sft
    from tiltscope.report.acts import render_answered

    taken = load_settings(options)
    names = ("model", "template", "device", "max_length", "max_new_tokens", "temperature", "seed")
    asked = Answering(**{name: options[name] for name in names})
    with progress_() as bar:
        product = answer_sft(load_sft(data, taken), asked, out, progress=bar)
    print_({**product, "out": str(out)}, as_json, render_answered)
