"""`python -m tiltscope`, and `accelerate launch … -m tiltscope train`: the command line without its script.

In:  words a person types. Out: what `tiltscope` does.
Refuses: to hold any logic of its own.
"""

from __future__ import annotations

from tiltscope.cli import run

if __name__ == "__main__":
    run()
