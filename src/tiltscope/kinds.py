"""Which kind of prompt is this? A study's kinds of prompts, asked of prompts it never saw.

In:  a study's concepts.json, its prompts as the scope read them, other prompts read through the same scope.
Out: `PromptKind`s, and which prompts are of which.
Refuses: nothing; a study without kinds of prompts has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiltscope.artifact import read_object
from tiltscope.concepts import Concept
from tiltscope.features import Features
from tiltscope.regions import prompt_scores

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["PromptKind", "prompt_kinds"]


@dataclass(frozen=True)
class PromptKind:
    """The widest region of a prompt cluster. A prompt is of it when it expresses the cluster at least as much as `cut`.

    inside (n_pairs,) bool: the study's pairs that are.
    """

    id: str
    cluster: Concept
    cut: float
    inside: np.ndarray

    def of(self, prompt: sparse.csr_array) -> np.ndarray:
        """Return which prompts are of this kind (n_prompts,) bool; prompt (n_prompts, n_latents): shares of tokens."""
        score = prompt_scores(prompt, [self.cluster])[:, 0]
        return np.asarray((score >= self.cut) & (score > 0))


def prompt_kinds(study: Path, features: Features) -> list[PromptKind]:
    """Return one kind per prompt cluster of the study: its widest region, with the study's own cut."""
    body = read_object(study / "concepts.json", "concepts", "regions", verb="contrast")
    clusters = {one["id"]: Concept(one["id"], tuple(one["latents"])) for one in body["concepts"]}
    widest: dict[str, dict[str, list[str]]] = {}
    for region in body["regions"]:  # regions of a cluster are nested
        held = widest.get(region["made_from"])
        if region["id"].startswith("P") and (held is None or len(region["pair_ids"]) > len(held["pair_ids"])):
            widest[region["made_from"]] = region
    found = []
    for made_from, region in widest.items():
        inside = np.isin(features.pair_ids, region["pair_ids"])
        score = prompt_scores(features.prompt.freq, [clusters[made_from]])[:, 0]
        found.append(PromptKind(str(region["id"]), clusters[made_from], float(score[inside].min()), inside))
    return found
