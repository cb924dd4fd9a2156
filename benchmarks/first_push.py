"""How much of plain training's first push on a behaviour each kind of detector leaves: from the data alone.

    python benchmarks/first_push.py STUDY [--rule bold]

STUDY is an audited study whose strongest global finding of that name holds. Per detector (its latent, the latents of
all findings of that name, the rule as a share of characters, the rule as present or not) and per strength (the one that
explains the labels, times 1, 1.5, 2): what the recipe leaves of the push, by rule, with its 95 % interval over prompts.
Writes benchmarks/results/first_push.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np

from tiltscope.detectors import text_scores
from tiltscope.interventions import Scored, Wish, reward_shaping
from tiltscope.interventions.strength import explaining_strength
from tiltscope.plan import DetectorSpec
from tiltscope.pushes import pushes
from tiltscope.recipe import empty_recipe
from tiltscope.study import Opened, open_study

RESULT = Path(__file__).parent / "results" / "first_push.json"


def main() -> None:
    """Score, shape, look at the push."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--rule", default="bold")
    args = parser.parse_args()
    opened = open_study(args.study)
    start = empty_recipe([row.id for row in opened.rows], "dpo")
    table = []
    for name, scored in detectors(opened, args.study, args.rule).items():
        wish = Wish(name, "suppress", "reward_shaping")
        strength = explaining_strength(wish, scored)
        for times in (1.0, 1.5, 2.0):
            recipe = reward_shaping(start, replace(wish, strength=times * strength), scored)
            found = {one.id: one for one in pushes(opened.rows, recipe)}
            one = found[args.rule]
            table.append(
                {"detector": name, "times": times, "strength": times * strength, "left": one.left}
                | {
                    "low": one.low,
                    "high": one.high,
                    "siblings": {id: found[id].left for id in found if id != args.rule},
                }
            )
            left, low, high = (100 * (value or 0) for value in (one.left, one.low, one.high))
            print(f"{name:24} x {times:<4} {left:5.1f} % [{low:.0f}, {high:.0f}]")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    head = {"command": "python benchmarks/first_push.py STUDY", "machine": platform.machine(), "commit": commit}
    RESULT.write_text(
        json.dumps({**head, "n_pairs": len(opened.rows), "rule": args.rule, "rows": table}, indent=1) + "\n"
    )


def detectors(opened: Opened, study: Path, rule: str) -> dict[str, Scored]:
    """Return what each detector says of the pairs."""
    rows = json.loads((study / "hypotheses.json").read_text(encoding="utf-8"))
    named = [
        row["concept"]["latents"]
        for row in rows
        if row["concept"]["latents"]
        and row["view"] == "global"
        and (row["namesake"] or {}).get("rule") == rule
        and row["namesake"]["holds"]
    ]
    everything = np.ones(len(opened.rows), bool)
    features = opened.features

    def by_latents(latents: list[int]) -> Scored:
        sides = (features.chosen.freq, features.rejected.freq)
        return Scored(*(np.asarray(one[:, latents].sum(axis=1), float).ravel() for one in sides), everything)

    def by_rule(by: str) -> Scored:
        spec = DetectorSpec("rule", rule, by=by)  # type: ignore[arg-type]
        sides = ([getattr(row, side) for row in opened.rows] for side in ("chosen", "rejected"))
        return Scored(*(text_scores(spec, texts) for texts in sides), everything)

    return {
        "one latent": by_latents(named[0]),
        "latents of that name": by_latents(sorted({latent for one in named for latent in one})),
        "rule, share": by_rule("share"),
        "rule, present": by_rule("present"),
    }


if __name__ == "__main__":
    main()
