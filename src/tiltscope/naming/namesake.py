"""Does the behaviour that a finding is named after lean as the finding says?

In:  hypotheses, the pairs, and the library entry each concept is named after.
Out: per hypothesis a `Namesake`: the behaviour's own lean, by rule, on the same pairs; whether the name holds.
Refuses: pairs that the finding was not tested on. A latent can fire on two things of which one leans; named after the
     other, it would mislead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiltscope import stats
from tiltscope.hypotheses import LEANS
from tiltscope.naming.library import MEASURES, NAMING_RULES
from tiltscope.pairs import Pair

__all__ = ["Namesake", "check_names"]

_HOLDS_FROM = 1.645  # one-sided 5 %


@dataclass(frozen=True)
class Namesake:
    """Mean of sign(measure in chosen - measure in rejected), -1 to 1, with its 95 % interval; holds: it leans alike."""

    rule: str
    measure: str
    effect: float
    ci_low: float
    ci_high: float
    holds: bool


def check_names(
    hypotheses: Sequence[Mapping[str, Any]],
    entries: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Pair],
    inside: Mapping[str, np.ndarray],
    confirm: np.ndarray,
) -> dict[str, Namesake]:
    """Return a `Namesake` for each hypothesis whose concept is named after a behaviour.

    entries: {concept id: {"rule", "measure"}}; inside: {region id: (n_pairs,) bool}; confirm: (n_pairs,) bool, the half
    that tests comparisons (a lean is tested on all pairs, in there). Whole texts are measured, also what max_length
    kept from the model.
    """
    groups = np.unique([pair.group for pair in rows], return_inverse=True)[1]
    held: dict[tuple[str, str], np.ndarray] = {}
    found = {}
    for hypothesis in hypotheses:
        entry = entries.get(hypothesis["concept"]["id"])
        if not entry:
            continue
        key = (str(entry["rule"]), str(entry["measure"]))
        if key not in held:
            held[key] = _differences(rows, *key)
        region = hypothesis["region"]
        tested = confirm | (hypothesis["estimand"] in LEANS)
        wanted = tested & inside[region["id"]] if region else tested
        sign = 1 if hypothesis["direction"] == "more" else -1
        found[hypothesis["id"]] = _namesake(key, held[key][wanted], groups[wanted], sign)
    return found


def _differences(rows: Sequence[Pair], rule_id: str, measure: str) -> np.ndarray:
    """Which side shows more of it: (n_pairs,) of -1, 0, 1."""
    rule = next(one for one in NAMING_RULES if one.id == rule_id)

    def value(text: str) -> float:
        marks = rule.marks(text)
        if measure == MEASURES[0]:
            return sum(stop - start for start, stop in marks) / max(len(text), 1)
        return len(marks) / max(len(text), 1) if measure == MEASURES[1] else float(bool(marks))

    return np.sign(np.array([value(pair.chosen) - value(pair.rejected) for pair in rows], np.float64))


def _namesake(key: tuple[str, str], u: np.ndarray, groups: np.ndarray, sign: int) -> Namesake:
    nan = float("nan")
    if len(u) < 2:
        return Namesake(*key, nan, nan, nan, False)
    estimates = stats.tau_test(u, stats.Clusters.of(groups))
    bounds = estimates.interval(0.95)
    t = float(np.nan_to_num(estimates.t))
    return Namesake(*key, float(estimates.effect), float(bounds.low), float(bounds.high), sign * t > _HOLDS_FROM)
