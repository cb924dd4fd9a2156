"""Names meet findings: a name that does not hold takes the confirmation away, and telling twice changes nothing."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from made_features import made
from tiltscope.cells import ContrastSettings
from tiltscope.contrast import Contrast, contrast
from tiltscope.hypotheses import plain
from tiltscope.naming import Data, tell

Told = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found() -> tuple[Contrast, Data]:
    pairs, features = made(600, lean=0.75)
    result = contrast(pairs, features, ContrastSettings(n_draws=20))
    return result, Data(pairs.rows, features, 0)


def told(found: tuple[Contrast, Data], *, bold_in_chosen: float, again: bool = False) -> Told:
    """Name latent 0 after bold text, in texts of which this share of chosen and half of rejected answers are bold."""
    result, data = found
    rng = np.random.default_rng(3)
    draws = rng.random((2, len(data.rows)))
    texts = [[("**b**" if x < s else "b") for x in d] for d, s in zip(draws, (bold_in_chosen, 0.5), strict=True)]
    rows = [replace(r, chosen=c, rejected=d) for r, c, d in zip(data.rows, *texts, strict=True)]
    names = {
        "L0": {
            **{"name": "bold text", "named_by": "library", "name_score": 0.9, "tokens_name": "token “**”"},
            "library": {"rule": "bold", "measure": "present"},
        }
    }
    ids = np.array(result.pair_ids)
    disparities = {
        one: {ids[i]: float(u[i]) for i in np.flatnonzero(np.nan_to_num(u) != 0)}
        for one, u in result.disparities.items()
    }
    hypotheses = [plain(asdict(one)) for one in result.hypotheses]
    regions = [{"id": r.id, "made_from": r.made_from, "pair_ids": ids[r.inside].tolist()} for r in result.regions]
    answer = tell(hypotheses, names, regions, disparities, Data(rows, data.features, data.seed))
    return tell(answer, names, regions, disparities, Data(rows, data.features, data.seed)) if again else answer


def of_latent_0(rows: Told) -> dict[str, Any]:
    return next(row for row in rows if row["id"] == "g-L0")


def test_a_finding_whose_behaviour_leans_alike_keeps_name_and_confirmation(found: tuple[Contrast, Data]) -> None:
    row = of_latent_0(told(found, bold_in_chosen=0.8))
    assert row["confirmed"]
    assert row["namesake"]["holds"]
    assert (row["concept"]["name"], row["verdict"]) == ("bold text", "confirmed")


def test_a_finding_whose_behaviour_is_balanced_is_mixed_and_not_confirmed(found: tuple[Contrast, Data]) -> None:
    row = of_latent_0(told(found, bold_in_chosen=0.5))
    assert not row["confirmed"]
    assert row["q"] <= 0.1
    assert (row["concept"]["name"], row["concept"]["named_by"], row["verdict"]) == ("token “**”", "tokens", "mixed")


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_telling_twice_is_telling_once(found: tuple[Contrast, Data], share: float) -> None:
    assert told(found, bold_in_chosen=share) == told(found, bold_in_chosen=share, again=True)


def test_telling_changes_no_statistic(found: tuple[Contrast, Data]) -> None:
    numbers = ("effect", "ci_low", "ci_high", "d", "z", "p", "q", "n_pairs")
    before = {one.id: [plain(asdict(one))[name] for name in numbers] for one in found[0].hypotheses}
    assert {row["id"]: [row[name] for name in numbers] for row in told(found, bold_in_chosen=0.5)} == before


def test_members_of_a_family_point_at_a_head_that_points_at_itself(found: tuple[Contrast, Data]) -> None:
    rows = {row["id"]: row for row in told(found, bold_in_chosen=0.8)}
    assert all(rows[row["family"]]["family"] == row["family"] for row in rows.values())
    assert {rows[f"g-L{latent}"]["family"] for latent in range(1, 5)} == {"g-L0"}
