"""What says how much of a concept a response holds, where in it, and how far that can be trusted.

In:  a `DetectorSpec` of a plan, pairs, and what its kind needs: features, or vectors of the model's tokens.
Out: `Detection`: one score per response, character spans where it can mark them, `Quality` on groups held out.
Refuses: a score that is not a number, a callable that fails on a text, a weak detector that nobody accepted. It never
loads a model: vectors are handed in.
"""

from __future__ import annotations

from tiltscope.detectors.detect import Inputs, detect, whole_direction
from tiltscope.detectors.fitted import Probe, TokenVectors, fit_direction, fit_probe
from tiltscope.detectors.quality import ENOUGH_AUROC, ENOUGH_F1, best_threshold, measure_quality, require_quality
from tiltscope.detectors.spans import merge_spans, on_one_line, whole_sentences, whole_words
from tiltscope.detectors.textual import text_marks, text_scores
from tiltscope.detectors.types import Detection, Quality, standardise

__all__ = [
    "ENOUGH_AUROC",
    "ENOUGH_F1",
    "Detection",
    "Inputs",
    "Probe",
    "Quality",
    "TokenVectors",
    "best_threshold",
    "detect",
    "fit_direction",
    "fit_probe",
    "measure_quality",
    "merge_spans",
    "on_one_line",
    "require_quality",
    "standardise",
    "text_marks",
    "text_scores",
    "whole_direction",
    "whole_sentences",
    "whole_words",
]
