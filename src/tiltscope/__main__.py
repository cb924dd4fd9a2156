"""`tiltscope`, `python -m tiltscope`, and `accelerate launch … -m tiltscope train`: the door of the command line.

In:  words a person types. Out: what `tiltscope.cli` does; exit code 130 where Ctrl-C comes while it is being imported.
Refuses: to hold any other logic of its own.
"""

from __future__ import annotations

import sys

__all__ = ["run"]


def run() -> None:
    """Import the command line and start it."""
    try:
        from tiltscope import cli
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before anything was done\n")
        sys.exit(130)
    cli.run()


if __name__ == "__main__":
    run()
