"""The values of this room, and the one scale of scores.

In:  scores of all responses.
Out: `Detection`, `Quality`; `standardise` to mean 0 and sd 1.
Refuses: scores that are not finite or do not match the pairs; to standardise what does not vary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tiltscope.errors import UsageError
from tiltscope.recipe import Spans

__all__ = ["Detection", "Quality", "standardise"]


@dataclass(frozen=True)
class Quality:
    """How well a detector finds its concept in whole responses.

    f1, auroc: 0 to 1; threshold: the score above which it says yes; all None where `against` says why they could not be
    measured. n_positive, n_negative: labelled texts they rest on (where held out: of the test half alone). held_out:
    the threshold, and whatever was fitted, come from other groups than f1 and auroc. marks_f1: F1 over characters of
    the marked spans against the check's, where spans were asked for; it says how alike the marks are, and nothing is
    refused for it (a latent that fires on `**` alone marks less than the rule for bold text).
    """

    f1: float | None
    auroc: float | None
    threshold: float | None
    n_positive: int
    n_negative: int
    against: str
    held_out: bool
    marks_f1: float | None = None

    @property
    def said(self) -> str:
        """The quality in one line."""
        if self.f1 is None or self.auroc is None or self.threshold is None:
            return f"not measured: {self.against}"
        n = f"{self.n_positive} with it, {self.n_negative} without"
        how = "on groups held out" if self.held_out else "not held out"
        marks = "" if self.marks_f1 is None else f"; marked characters: F1 {self.marks_f1:.2f}"
        line = f"F1 {self.f1:.2f}, AUROC {self.auroc:.2f}, threshold {self.threshold:.3g}, {how} ({n}), {self.against}"
        return line + marks


@dataclass(frozen=True)
class Detection:
    """What a detector says of all responses.

    chosen, rejected: (n,) float64, finite, aligned with pair_ids. chosen_spans, rejected_spans: pair id -> sorted
    character spans of the response; pairs without marks are absent; None where spans were not asked for or the
    detector cannot mark. A raw score is `score * sd + mean` (1 and 0 until `standardise`).
    """

    pair_ids: tuple[str, ...]
    chosen: np.ndarray
    rejected: np.ndarray
    chosen_spans: Mapping[str, Spans] | None = None
    rejected_spans: Mapping[str, Spans] | None = None
    quality: Quality | None = None
    said: str = ""
    mean: float = 0.0
    sd: float = 1.0

    def __post_init__(self) -> None:
        for name in ("chosen", "rejected"):
            scores = getattr(self, name)
            if scores.shape != (len(self.pair_ids),):
                raise UsageError(f"the scores do not match the pairs: {name}", found=f"{scores.shape}")
            if not np.isfinite(scores).all():
                found = f"{int((~np.isfinite(scores)).sum())} of {len(scores)} {name} scores"
                raise UsageError("a score is not a finite number", where=self.said, found=found)

    @property
    def difference(self) -> np.ndarray:
        """Chosen minus rejected: (n,)."""
        return np.asarray(self.chosen - self.rejected)

    def take(self, pair_ids: Sequence[str]) -> Detection:
        """Return the detection of these pairs, in this order.

        Raises:
            UsageError: a pair was not scored (for example one that the features do not hold).
        """
        places = {one: number for number, one in enumerate(self.pair_ids)}
        lacking = [one for one in pair_ids if one not in places]
        if lacking:
            found = f"{len(lacking)} of {len(pair_ids)}, the first is {lacking[0]}"
            raise UsageError("pairs that this detector has not scored", where=self.said, found=found)
        order = [places[one] for one in pair_ids]
        wanted = set(pair_ids)
        chosen_spans, rejected_spans = (
            None if spans is None else {one: held for one, held in spans.items() if one in wanted}
            for spans in (self.chosen_spans, self.rejected_spans)
        )
        return replace(
            self,
            pair_ids=tuple(pair_ids),
            chosen=self.chosen[order],
            rejected=self.rejected[order],
            chosen_spans=chosen_spans,
            rejected_spans=rejected_spans,
        )


def standardise(detection: Detection, *, where: str = "") -> Detection:
    """Return the detection with scores of mean 0 and sd 1 over all responses, chosen and rejected together.

    mean and sd of the raw scores stay beside them, so that other texts can be put on the same scale.

    Raises:
        UsageError: every response has the same score; there is nothing to train for or against.
    """
    both = np.concatenate([detection.chosen, detection.rejected])
    mean, sd = float(both.mean()) if len(both) else 0.0, float(both.std()) if len(both) else 0.0
    if sd <= 1e-9 * max(1.0, abs(mean)):
        raise UsageError(
            "this detector gives every response the same score",
            where=where or detection.said,
            found=f"{mean:.4g} for all {len(both)} responses of {len(detection.pair_ids)} pairs",
            hint="is it the right concept for this dataset? then another detector: docs/plan.md",
        )
    return replace(
        detection,
        chosen=(detection.chosen - mean) / sd,
        rejected=(detection.rejected - mean) / sd,
        mean=detection.mean + detection.sd * mean,
        sd=detection.sd * sd,
    )
