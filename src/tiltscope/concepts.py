"""Latents become concepts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Concept:
    """Latents that act as one idea. `id` is L<latent> for a single latent, C<number> for a cluster (response side),
    P<number> for a prompt-side cluster, R<number> for a response-shift cluster.

    name_score is the held-out balanced accuracy of the name, .5 = chance; named_by says who wrote the name.
    """

    id: str
    latents: tuple[int, ...]
    name: str = ""
    named_by: str = "nobody"
    name_score: float | None = None
    top_tokens: tuple[str, ...] = ()
