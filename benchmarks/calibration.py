"""Are the p values honest on real data? Both nulls with many draws, and what other statistics would have said.

    python benchmarks/calibration.py STUDY [STUDY …] [--draws 2000] [--cells 400]

For each study (made by `tiltscope audit`) and view: share of p < .05 and share of draws with any rejection at q = .10,
under label flips (sharp) and under the adjusted null. Beside them, under the adjusted null of the region view, the
in-against-out Welch test without adjustment on four measures of the same cells: the paper's signed disparity, the
difference of `max`, of "any firing", and of the number of firings (`sum`). Writes benchmarks/results/calibration.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import ndtr
from tqdm import tqdm

from tiltscope import stats
from tiltscope.calibration import adjusted_null, sample_cells, sharp_null, summary
from tiltscope.cells import Bench, ContrastSettings, set_up
from tiltscope.contrast import label_free_views
from tiltscope.features import Features
from tiltscope.study import open_study

RESULT = Path(__file__).parent / "results" / "calibration.json"


def main() -> None:
    """Calibrate each study and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--cells", type=int, default=400, help="cells of a view, at most, drawn by the seed")
    parser.add_argument("--flip-cells", type=int, default=100, help="the same for region and prompt cells under flips")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = ContrastSettings(
        seed=args.seed, n_draws=args.draws, n_null_cells=args.cells, n_flip_cells=args.flip_cells
    )
    result = {
        "command": f"python benchmarks/calibration.py {' '.join(s.name for s in args.studies)} --draws {args.draws}"
        f" --cells {args.cells} --flip-cells {args.flip_cells}",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "studies": {study.name: _one(study, settings) for study in args.studies},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _one(study: Path, settings: ContrastSettings) -> dict[str, Any]:
    opened = open_study(study)
    bench = set_up(opened.pairs, opened.features, settings)
    views = label_free_views(opened.features, bench)
    start, entries = time.monotonic(), []
    for name in ("global", "behaviours", "region", "prompt"):
        mine = [(view.kind, view.measures, view.regions) for view in views if view.kind == name]
        for null, run, limit in (
            ("sharp", sharp_null, settings.n_flip_cells if name in ("region", "prompt") else settings.n_null_cells),
            ("adjusted", adjusted_null, settings.n_null_cells),
        ):
            cells = sample_cells(mine, bench, limit)
            p = np.concatenate(
                [run([cell], bench) for cell in tqdm(cells, desc=f"{study.name} {name} {null}", ncols=80)]
            )
            entries.append({"null": null, "view": name, **summary(p, bench)})
    regions = [(view.name, view.measures, view.regions) for view in views if view.name == "region"]
    others = _unadjusted(sample_cells(regions, bench, settings.n_null_cells), opened.features, bench)
    return {
        "n_pairs": len(bench.rows),
        "n_confirm": len(bench.confirm.rows),
        "n_confirm_groups": bench.confirm.clusters.n_groups,
        "nulls": entries,
        "unadjusted_region_tests": others,
        "seconds": round(time.monotonic() - start, 1),
    }


def _measures(features: Features, latents: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Chosen minus rejected of a concept by four measures, each (n_pairs,)."""
    sides = []
    for side in (features.chosen, features.rejected):
        freq, top = (_columns(matrix, latents) for matrix in (side.freq, side.max))
        count = freq * side.n_tokens[:, None]
        by_name = {
            "signed disparity (the paper's ranking)": freq > 0.01,
            "max": top,
            "any firing": freq > 0,
            "sum": count,
        }
        sides.append({name: value.mean(axis=1, dtype=float) for name, value in by_name.items()})
    return {name: sides[0][name] - sides[1][name] for name in sides[0]}


def _columns(matrix: sparse.csr_array, latents: tuple[int, ...]) -> np.ndarray:
    return np.asarray(matrix[:, list(latents)].toarray())


def _unadjusted(cells: list[Any], features: Features, bench: Bench) -> dict[str, dict[str, float]]:
    """Share of p < .05 of the in-against-out Welch test where preference is the same everywhere (null ii)."""
    half = bench.confirm
    draws = min(bench.settings.n_draws, 200)
    signs = stats.rademacher(half.clusters.n_groups, draws, bench.settings.seed + 5)[half.clusters.codes]
    shares: dict[str, list[float]] = {}
    for measures, column, region in cells:
        inside = region.inside[half.rows]
        for name, value in _measures(features, measures.concepts[column].latents).items():
            y = value[half.rows]
            null = np.column_stack([half.spline, np.abs(y)])
            fit = null @ np.linalg.lstsq(null, y, rcond=None)[0]
            drawn = fit[:, None] + signs * (y - fit)[:, None]
            z = stats.welch(drawn[inside], drawn[~inside]).z
            shares.setdefault(name, []).append(float(np.mean(2 * ndtr(-np.abs(z[np.isfinite(z)])) < 0.05)))
    return {
        name: {"share_p05": float(np.mean(values)), "n_cells": len(values), "n_draws": draws}
        for name, values in shares.items()
    }


if __name__ == "__main__":
    main()
