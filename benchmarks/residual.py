"""Why does the forecast fall short of its ceiling? Ideas tried on one development set, and the gap taken apart.

    python benchmarks/residual.py STUDY --before EVAL --after EVAL EVAL EVAL

STUDY and its evaluations are those of prediction.py --name alpaca-dpo: the development set. Ideas are judged on the
first training seed and checked on the others; no other dataset is looked at. Every idea that was tried is in the table,
also those that did not help. Writes benchmarks/results/residual.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from tiltscope.artifact import fingerprint
from tiltscope.predicting import Foretold, alike, foretell, observe
from tiltscope.prediction import DECLARED, Observed, Shown, prediction_card
from tiltscope.prediction.card import squared
from tiltscope.prediction.predictors import lessons

RESULT = Path(__file__).parent / "results" / "residual.json"
DRAWS = 400


def main() -> None:
    """Forecast, observe, score every idea, take the gap apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, nargs="+", required=True)
    parser.add_argument("--pairs", type=int, default=400, help="what was trained on, as train --pairs took them")
    args = parser.parse_args()
    foretold = foretell(args.study)
    observed, _ = observe(foretold, alike([args.before, *args.after]))
    made = ideas(foretold.shown, trained(foretold, args.pairs))
    parts = {"choosing": observed.after[:1], "checking": observed.after[1:], "all": observed.after}
    told = {name: scores(made, replace(observed, after=after)) for name, after in parts.items()}
    rows = [{"idea": name, **{part: round(one[name], 3) for part, one in told.items()}} for name in made]
    write(args, rows, anatomy(made, observed), gain(made, observed))


def trained(foretold: Foretold, n: int) -> np.ndarray:
    """The pairs that were trained on, of those that were read."""
    ids = [row.id for row in foretold.bench.rows]
    kept = set(sorted(ids, key=lambda id: fingerprint("train", id))[:n])
    return np.array([id in kept for id in ids])


def ideas(shown: Shown, was_trained: np.ndarray) -> dict[str, np.ndarray]:
    """Every idea as a forecast (m,), in sd of own answers unless it says otherwise."""
    d, sd = shown.chosen - shown.rejected, shown.sd
    x = d.mean(axis=0) / sd
    return {
        "frequency difference (first declared)": x,
        **saturation(shown, d, x),
        **noise(shown, d, was_trained),
        **along(shown, d, x),
        **length(shown, d, x),
        "chosen minus own": (shown.chosen.mean(axis=0) - shown.own.mean(axis=(0, 1))) / sd,
        "capped difference + 0.3 (rejected minus own)": capped(shown, 2)
        + 0.3 * (shown.rejected.mean(axis=0) - shown.own.mean(axis=(0, 1))) / sd,
    }


def capped(shown: Shown, n_sd: float) -> np.ndarray:
    """Values beyond mean + n sd of own answers count as that."""
    cap = shown.own.mean(axis=(0, 1)) + n_sd * shown.sd
    return np.asarray((np.minimum(shown.chosen, cap) - np.minimum(shown.rejected, cap)).mean(axis=0) / shown.sd)


def saturation(shown: Shown, d: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """(b) Bounds: what the model does not show, other scales than sd, differences that flatten."""
    own, sd = shown.own.mean(axis=(0, 1)), shown.sd
    of_pairs = np.sqrt((d**2).mean(axis=0))
    ratio = np.log((shown.chosen.mean(axis=0) + 1e-4) / (shown.rejected.mean(axis=0) + 1e-4))
    edge = np.quantile(np.abs(d), 0.9, axis=0)
    roots = (np.sqrt(shown.chosen) - np.sqrt(shown.rejected)).mean(axis=0)
    return {
        "capped at own mean + 1 sd": capped(shown, 1),
        "capped at own mean + 2 sd (declared since)": capped(shown, 2),
        "capped at own mean + 3 sd": capped(shown, 3),
        "differences capped at their 90th percentile": np.clip(d, -edge, edge).mean(axis=0) / sd,
        "own rate x log ratio of chosen and rejected": own * ratio / sd,
        "root of shares": roots / np.sqrt(shown.own).reshape(-1, len(sd)).std(axis=0),
        "tanh of the forecast": np.tanh(x),
        "forecast to the power .75": np.sign(x) * np.abs(x) ** 0.75,
        "in sd of the pairs' differences": d.mean(axis=0) / of_pairs,
        "in the geometric mean of both sd": d.mean(axis=0) / np.sqrt(of_pairs * sd),
    }


def noise(shown: Shown, d: np.ndarray, was_trained: np.ndarray) -> dict[str, np.ndarray]:
    """(e) Reliability of each unit's estimate, and which pairs it is made from."""
    _, groups = np.unique(shown.groups, return_inverse=True)

    def shrunk(values: np.ndarray) -> np.ndarray:
        mean = values.mean(axis=0)
        sums = np.zeros((groups.max() + 1, len(mean)))
        np.add.at(sums, groups, values - mean)
        variance = (sums**2).sum(axis=0) / len(values) ** 2
        between = max(float((mean**2 - variance).mean()), 0.0)
        return np.asarray(mean * between / (between + variance))

    return {
        "shrunk by reliability": shrunk(d / shown.sd),
        "capped and shrunk": shrunk(lessons(shown, "dpo") / shown.sd),
        "only the pairs trained on": d[was_trained].mean(axis=0) / shown.sd,
        "only the other pairs": d[~was_trained].mean(axis=0) / shown.sd,
    }


def along(shown: Shown, d: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """(c) What comes along: the forecast smoothed by correlations of units."""
    m = len(x)
    within = (shown.own - shown.own.mean(axis=1, keepdims=True)).reshape(-1, m)
    found = {}
    for name, values in {"own answers within prompts": within, "differences of pairs": d}.items():
        z = values - values.mean(axis=0)
        z = z / np.maximum(np.sqrt((z**2).sum(axis=0)), 1e-12)
        smooth = z.T @ (z @ x)
        found[f"correlations of {name}"] = smooth
        found[f"+ 0.3 x correlations of {name}"] = x / x.std() + 0.3 * smooth / smooth.std()
    z = d / shown.sd / np.sqrt(len(d))
    _, s, vectors = np.linalg.svd(z, full_matrices=False)
    found["leading components of the pairs' differences"] = vectors.T @ (s**2 / (s**2 + 3) * (vectors @ x))
    return found


def length(shown: Shown, d: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """(d) Length: taken out, added, or as a sum over tokens, which is what DPO's loss adds up."""
    gap = np.log1p(shown.chosen_length) - np.log1p(shown.rejected_length)
    taught = lessons(shown, "dpo")
    slope = (gap[:, None] * d).mean(axis=0) / (gap**2).mean() / shown.sd
    capped_slope = (gap[:, None] * taught).mean(axis=0) / (gap**2).mean() / shown.sd
    n = (shown.chosen_length.mean() + shown.rejected_length.mean()) / 2
    tokens = shown.chosen_length[:, None] * shown.chosen - shown.rejected_length[:, None] * shown.rejected
    like = np.abs(gap) < 0.2
    return {
        "equal-length part": x - slope * gap.mean(),
        "slope on log length alone": slope,
        "capped difference + 0.3 x slope on log length": taught.mean(axis=0) / shown.sd + 0.3 * capped_slope,
        "differences of token counts": tokens.mean(axis=0) / n / shown.sd,
        "pairs of like length": d[like].mean(axis=0) / shown.sd,
        "pairs of unlike length": d[~like].mean(axis=0) / shown.sd,
    }


def scores(made: Mapping[str, np.ndarray], observed: Observed) -> dict[str, float]:
    """r2 of every idea."""
    return {name: squared(x, observed.change) for name, x in made.items()}


def anatomy(made: Mapping[str, np.ndarray], observed: Observed) -> dict[str, float]:
    """Shares of the variance of the observed change: what does not repeat, what is foretold, and the rest.

    length: what a free weight on the length slope adds (fitted here: an upper bound). other prompts: what repeats here
    and not on other prompts. the network: what repeats and no statistic of the pairs above says.
    """
    first, second = "frequency difference (first declared)", "capped at own mean + 2 sd (declared since)"
    card = prediction_card({second: made[second]}, observed, nulls={}, primary=second)
    y = observed.change
    both = np.column_stack([np.ones(len(y)), made[second], made["slope on log length alone"]])
    with_length = squared(both @ np.linalg.lstsq(both, y, rcond=None)[0], y)
    found = {
        "foretold at first": squared(made[first], y),
        "saturation": squared(made[second], y) - squared(made[first], y),
        "length": with_length - squared(made[second], y),
        "the network": card.ceiling_elsewhere - with_length,
        "these prompts": card.ceiling - card.ceiling_elsewhere,
        "sampling noise": 1 - card.ceiling,
    }
    return {name: round(value, 3) for name, value in found.items()}


def gain(made: Mapping[str, np.ndarray], observed: Observed) -> dict[str, float]:
    """The gain of the cap over the first declared forecast on the checking seeds, 95 % over prompts and units."""
    first, second = (
        made[name] for name in ("frequency difference (first declared)", "capped at own mean + 2 sd (declared since)")
    )
    checking = replace(observed, after=observed.after[1:])
    change = checking.after.mean(axis=(0, 2)) - checking.before.mean(axis=1)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        counts = np.bincount(rng.integers(0, len(change), len(change)), minlength=len(change))
        units = rng.integers(0, len(first), len(first))
        y = checking.over(change, counts)[units]
        drawn.append(squared(second[units], y) - squared(first[units], y))
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = squared(second, checking.change) - squared(first, checking.change)
    return {"gain": round(value, 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def write(
    args: argparse.Namespace, rows: list[dict[str, object]], parts: dict[str, float], gained: dict[str, float]
) -> None:
    """Write and print the table."""
    head = ["git", "rev-parse", "HEAD"]
    result = {
        "command": "python benchmarks/residual.py STUDY --before EVAL --after EVAL EVAL EVAL",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "commit": subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip(),
        "declared": DECLARED["dpo"],
        "ideas": rows,
        "gain_on_checking_seeds": gained,
        "variance_of_the_change": parts,
    }
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for row in rows:
        print("  ".join(f"{value}" for value in row.values()))
    print(parts, gained)


if __name__ == "__main__":
    main()
