"""Do rates of behaviours go where they were forecast? Coverage, errors, and "will this move by more than 5 points?"

    python benchmarks/rates.py benchmarks/results/prediction-*.json

Pools the traits of prediction cards from disjoint data: two cards of the same pairs are refused. A case is one
behaviour on one dataset. Writes benchmarks/results/rates.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr
from sklearn.metrics import average_precision_score, roc_auc_score

from tiltscope.prediction.traits import INTERVAL_SD

RESULT = Path(__file__).parent / "results" / "rates.json"
MOVES, DRAWS = 0.05, 1000


def main() -> None:
    """Pool the cards, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cards", type=Path, nargs="+")
    args = parser.parse_args()
    cards = {path.stem.removeprefix("prediction-"): json.loads(path.read_text())["card"] for path in args.cards}
    if len({card["features"] for card in cards.values()}) < len(cards):
        raise SystemExit("two of these cards are of the same pairs: their cases are not separate ones")
    found = {name: scored(card["traits"]) for name, card in cards.items()}
    pooled = [trait for card in cards.values() for trait in card["traits"]]
    found["pooled"] = scored(pooled) | interval([card["traits"] for card in cards.values()])
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    for name, one in found.items():
        print(name, json.dumps(one))


def scored(traits: list[dict[str, Any]]) -> dict[str, Any]:
    """How the forecasts of rates did, and how well they say which rates move by more than 5 points."""
    before, after, low, high, seen = columns(traits)
    moved, p = np.abs(seen - before) > MOVES, chance_of_move(traits)
    base = moved.mean()
    told: dict[str, Any] = {
        "n": len(traits),
        "n_moved": int(moved.sum()),
        "mean_error_points": 100 * np.abs(after - seen).mean(),
        "no_change_error_points": 100 * np.abs(before - seen).mean(),
        "coverage_of_90": ((low <= seen) & (seen <= high)).mean(),
        "mean_width_points": 100 * (high - low).mean(),
    }
    if 0 < moved.sum() < len(moved):
        told["auroc"] = roc_auc_score(moved, p)
        told["average_precision"] = average_precision_score(moved, p)
        told["base_rate"] = base
        told["brier_skill"] = 1 - ((p - moved) ** 2).mean() / (base * (1 - base))
    return {key: round(float(value), 3) if isinstance(value, float) else value for key, value in told.items()}


def columns(traits: list[dict[str, Any]]) -> tuple[np.ndarray, ...]:
    """Rates before, forecast, its ends, and seen."""
    return tuple(np.array([one[key] for one in traits]) for key in ("before", "after", "low", "high", "observed"))


def chance_of_move(traits: list[dict[str, Any]]) -> np.ndarray:
    """The forecast's own probability, normal on the logit scale, that the rate ends more than 5 points away."""
    before, after, low, high, _ = columns(traits)
    centre, sd = logit(after), (logit(high) - logit(low)) / (2 * INTERVAL_SD)
    above = 1 - ndtr((logit(before + MOVES) - centre) / sd)
    return np.asarray(above + ndtr((logit(before - MOVES) - centre) / sd))


def logit(p: np.ndarray) -> np.ndarray:
    """Log odds; beyond 0 and 1 they are far away."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(p / (1 - p)))


def interval(cards: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """95 % of the AUROC over redrawn behaviours, each with its cases on every dataset: they are not independent."""
    names = sorted({one["id"] for traits in cards for one in traits})
    by_name = {name: [one for traits in cards for one in traits if one["id"] == name] for name in names}
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        some = [case for name in rng.choice(names, len(names)) for case in by_name[name]]
        before, *_, seen = columns(some)
        moved = np.abs(seen - before) > MOVES
        if 0 < moved.sum() < len(moved):
            drawn.append(roc_auc_score(moved, chance_of_move(some)))
    return {"auroc_95": [round(float(one), 3) for one in np.quantile(drawn, [0.025, 0.975])]} if drawn else {}


if __name__ == "__main__":
    main()
