"""The command line: parse, call, print, exit.

In:  words a person types. Out: text on stdout, progress on stderr, an exit code.
     0 fine · 1 a finding or limit fails a gate · 2 usage or bad input · 3 our own fault · 5 inconclusive
     130 interrupted
Refuses: to hold any logic of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback

import click

# The verbs register themselves, in the order of the street.
# isort: off
from tiltscope.cli import data as data
from tiltscope.cli import audit as audit
from tiltscope.cli import act as act
from tiltscope.cli import prove as prove

# isort: on
from tiltscope.cli.shared import main
from tiltscope.errors import ProductError, TiltscopeError

__all__ = ["main", "run"]


def _complain(error: TiltscopeError) -> None:
    """Print a refusal; what it quotes from the data cannot reach the terminal as a control sequence."""
    from tiltscope.report.text import hanging, visible

    width = max(40, min(100, shutil.get_terminal_size().columns))
    parts = {"error: ": error.what, "  where: ": error.where, "  found: ": error.found, "  hint:  ": error.hint}
    for label, text in parts.items():
        if text:
            click.echo("\n".join(hanging(label, visible(text), width)), err=True)


def run() -> None:
    """The console script: every refusal becomes a message and an exit code."""
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "passive"
    )  # torch's threads otherwise spin, at a third of the speed under load
    try:
        code = main.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)  # click hands back what a verb exits with
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
