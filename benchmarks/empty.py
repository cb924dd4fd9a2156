"""How often does an audit say anything of real data in which nothing leans?

    python benchmarks/empty.py STUDY [STUDY ...] --work WORK [--draws 40] [--first 1000]

STUDY is an audited study. Each draw exchanges chosen and rejected by a coin per group of prompts (all pairs of a group
together), so nothing leans, and every finding is false. The contrast is made again (without its own nulls, on which no
finding depends), and its findings are counted by list. At q = .10 over all lists at most one draw in ten should say
anything. Resumable: one file per draw, kept apart by code and features.
Writes benchmarks/results/empty.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from discovery import _commit, scrambled

from tiltscope.artifact import fingerprint, read_json, write_json
from tiltscope.cells import ContrastSettings
from tiltscope.contrast import contrast
from tiltscope.errors import ProductError
from tiltscope.hypotheses import Hypothesis
from tiltscope.power import Aligned
from tiltscope.stats import wilson
from tiltscope.study import open_study

RESULT = Path(__file__).parent / "results" / "empty.json"


def main() -> None:
    """Draw, contrast, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--first", type=int, default=1000, help="the first draw's seed")
    args = parser.parse_args()
    studies = {study.name: _of(study, args) for study in args.studies}
    result = {
        "command": f"python benchmarks/empty.py {' '.join(studies)} --work WORK --draws {args.draws}",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "commit": _commit(),
        "studies": studies,
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=1))


def _of(study: Path, args: argparse.Namespace) -> dict[str, Any]:
    opened = open_study(study)
    ground = Aligned.of(opened.pairs, opened.features)
    seed = int(json.loads((study / "contrast.json").read_text())["settings"]["seed"])
    told = []
    for draw in range(args.first, args.first + args.draws):
        path = args.work / f"{fingerprint(ground.features.fingerprint, _commit(), seed, draw)}.json"
        try:
            body: dict[str, Any] = read_json(path, verb="")
        except ProductError:
            data = scrambled(ground, draw)
            settings = ContrastSettings(seed=seed, n_null_cells=0, n_flip_cells=0)
            found = [h for h in contrast(data.pairs, data.features, settings).hypotheses if h.confirmed]
            body = {"draw": draw, "lists": dict(Counter(map(_list, found)))}
            args.work.mkdir(parents=True, exist_ok=True)
            write_json(path, body)
        told.append(body)
        print(study.name, body, file=sys.stderr, flush=True)
    spoke = sum(bool(one["lists"]) for one in told)
    return {
        "n_pairs": len(ground.pairs.rows),
        "n_draws": len(told),
        "n_that_say_anything": spoke,
        "share": [spoke / len(told), *wilson(spoke, len(told))],
        "draws": told,
    }


def _list(one: Hypothesis) -> str:
    if one.region is None:
        return "behaviours" if one.concept.rule else "latents"
    return "own" if one.estimand == "own" else one.view


if __name__ == "__main__":
    main()
