"""Every refusal of Tiltscope, as one tree.

    TiltscopeError                     exit 3  our own fault, unless a branch below says otherwise
    ├── UsageError                     exit 2  an option, an id or a setting that cannot be used
    ├── DataError                      exit 2  a dataset that cannot be read as preference pairs
    ├── ModelError                     exit 2  a model, tokenizer, template or autoencoder that cannot be used
    ├── ProductError                   exit 2  a product that is missing, damaged or of another format
    │   └── StaleProductError          exit 2  a product made from other inputs than those at hand
    ├── GateError                      exit 1  a finding or a limit that fails a gate
    └── InconclusiveError              exit 5  too little evidence for an answer

Every message says what is wrong, where, what was found there, and (as `hint`) the next command.
"""

from __future__ import annotations

__all__ = [
    "DataError",
    "GateError",
    "InconclusiveError",
    "ModelError",
    "ProductError",
    "StaleProductError",
    "TiltscopeError",
    "UsageError",
]


class TiltscopeError(Exception):
    """A refusal: `what` is wrong, `where`, what was `found`, and a `hint` with the next command."""

    exit_code = 3

    def __init__(self, what: str, *, where: str = "", found: str = "", hint: str = "") -> None:
        self.what, self.where, self.found, self.hint = what, where, found, hint
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  where: {self.where}"] if self.where else []
        lines += [f"  found: {self.found}"] if self.found else []
        lines += [f"  hint:  {self.hint}"] if self.hint else []
        return "\n".join(lines)


class UsageError(TiltscopeError):
    """An option, an id or a setting that cannot be used."""

    exit_code = 2


class DataError(TiltscopeError):
    """A dataset that cannot be read as preference pairs."""

    exit_code = 2


class ModelError(TiltscopeError):
    """A model, tokenizer, chat template or autoencoder that cannot be used."""

    exit_code = 2


class ProductError(TiltscopeError):
    """A product of an earlier verb that is missing, damaged or of another format."""

    exit_code = 2


class StaleProductError(ProductError):
    """A product made from other inputs than those at hand; names both fingerprints and the verb to rerun."""


class GateError(TiltscopeError):
    """A finding or a limit that fails a gate."""

    exit_code = 1


class InconclusiveError(TiltscopeError):
    """Too little evidence for an answer."""

    exit_code = 5
