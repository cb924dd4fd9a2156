"""What the benches share: verbs as processes, a training, how much of a gap an arm closes, how good an order is.

Every step is a verb of the command line and resumes where it was killed. Nothing here knows what is measured.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tiltscope.artifact import fingerprint, read_json, write_json
from tiltscope.evaluation import read_evaluation

VERB = [sys.executable, "-m", "tiltscope"]
RESULTS = Path(__file__).parent / "results"
DRAWS = 2000


def verb(*words: object, codes: tuple[int, ...] = (0,)) -> str:
    """Run a verb and return what it printed; any other exit code than `codes` ends the bench."""
    done = subprocess.run([*VERB, *map(str, words)], stdout=subprocess.PIPE, text=True)
    if done.returncode not in codes:
        raise SystemExit(f"tiltscope {' '.join(map(str, words))}: exit {done.returncode}")
    return done.stdout


def commit() -> str:
    """The commit this runs from; `+` where files differ from it."""
    said = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*said, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run([*said, "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout.strip()
    return head + ("+" if changed else "")


def machine() -> str:
    """Architecture and Python."""
    return f"{platform.machine()}, Python {platform.python_version()}"


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file holds; it is made and written first where there is none."""
    if not path.exists():
        write_json(path, make())
    return dict(read_json(path, verb=""))


def code() -> str:
    """What the results of a run depend on: the package's sources and the benches' own."""
    root = Path(__file__).parent
    files = sorted([*(root.parent / "src").rglob("*.py"), *root.glob("*.py")])
    return fingerprint([[str(path.relative_to(root.parent)), path.read_bytes()] for path in files])


def one_code(work: Path, *, across: bool) -> list[str]:
    """Note that this code works in WORK and return all that did, as `code commit`, in order.

    Results of different code do not share a table: unless `across` is given, a second code ends the bench.
    """
    path = work / "code.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = path.read_text().splitlines() if path.exists() else []
    mine = f"{code()} {commit()}"
    if mine.split()[0] not in [line.split()[0] for line in known]:
        known.append(mine)
        if len(known) > 1 and not across:
            raise SystemExit(f"{work} holds results of other code ({known[0]}); take another WORK, or --across-code")
        path.write_text("".join(f"{line}\n" for line in known))
    return known


def trained(
    study: Path,
    run: Path,
    training: str,
    seed: int,
    *,
    objective: str,
    decisions: Sequence[Mapping[str, Any]] = (),
    n_pairs: int | None = None,
) -> Path:
    """Train on the study's pairs, plainly or under these decisions, and return the model's folder."""
    if (run / "run.json").exists():
        return run / "model"
    config = run.parent / f"{objective}.yaml"
    config.write_text(training)
    words = ["train", study, "--out", run, "--config", config, "--seed", seed]
    words += ["--pairs", n_pairs] if n_pairs else []
    if decisions:
        body = {"format_version": 1, "decisions": list(decisions)}
        (study / "plan.yaml").write_text(yaml.safe_dump(body, sort_keys=False, allow_unicode=True))
        (run.parent / f"{run.name}.prepared.json").write_text(
            verb("prepare", study, "--objective", objective, "--allow-undecided", "--json")
        )
        verb(*words)
    else:
        verb(*words, "--plain", objective)
    return run / "model"


def gaps(start: Sequence[Path], plain: Sequence[Path], arm: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """`gaps_of` from folders of evaluations, one per seed."""
    means = {name: _by_prompt(folders) for name, folders in (("start", start), ("plain", plain), ("arm", arm))}
    return gaps_of(means, [id for id in means["start"] if all(id in one for one in means.values())])


def gaps_of(means: Mapping[str, Mapping[str, np.ndarray]], ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{behaviour: what plain training added and how much of it an arm did not}.

    means: {start, plain, arm: {behaviour: (n_prompts,) mean over answers and seeds}}, the same prompts in all three.
    added, difference: plain - start, arm - plain. closed: 1 - (arm - start) / (plain - start). Intervals (95 %):
    bootstrap over prompts.
    """
    rng = np.random.default_rng(0)
    told = {}
    for id in ids:
        values = np.stack([means[name][id] for name in ("start", "plain", "arm")])
        drawn = values[:, rng.integers(0, values.shape[1], (DRAWS, values.shape[1]))].mean(axis=2)
        told[id] = {
            **dict(zip(("start", "plain", "arm"), values.mean(axis=1).tolist(), strict=True)),
            "added": _with_interval(lambda v: v[1] - v[0], values.mean(axis=1), drawn),
            "difference": _with_interval(lambda v: v[2] - v[1], values.mean(axis=1), drawn),
            "closed": _with_interval(_closed, values.mean(axis=1), drawn),
            "n_prompts": values.shape[1],
        }
    return told


def average_precision(order: Sequence[int] | np.ndarray, truth: np.ndarray) -> float:
    """Average precision of rows in an order; a true row that is not in it counts as never found."""
    hits = truth[np.asarray(order, np.int64)]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].sum() / truth.sum())


def _closed(v: np.ndarray) -> np.ndarray:
    gap = v[1] - v[0]
    return np.asarray(1 - (v[2] - v[0]) / np.where(np.abs(gap) < 1e-12, np.nan, gap))


def _with_interval(what: Any, value: np.ndarray, drawn: np.ndarray) -> list[float | None]:
    """[value, low, high]; None where it cannot be said."""
    if np.isnan(what(value)):
        return [None, None, None]
    low, high = np.nanquantile(what(drawn), [0.025, 0.975])
    return [round(float(one), 4) for one in (what(value), low, high)]


def _by_prompt(folders: Sequence[Path]) -> dict[str, np.ndarray]:
    """{behaviour: (n_prompts,) mean over answers and seeds}; every folder asked the same prompts."""
    tables: dict[str, list[np.ndarray]] = {}
    for folder in folders:
        for scores in read_evaluation(folder).scores:
            tables.setdefault(scores.id, []).append(np.nanmean(scores.values, axis=1))
    return {id: np.mean(rows, axis=0) for id, rows in tables.items() if len(rows) == len(folders)}
