"""An audit of real data: how long, the strongest families, and whether a killed run ends in the same bytes.

    python benchmarks/real_audit.py DATA --out STUDY [--sample 2000] [--kill 60 240] [--top 10]

Audits DATA into STUDY (a finished study is not read again; its time is then not reported). With --kill S1 S2 … a second
study beside it, STUDY-killed, is audited with a kill (SIGKILL) after each of these seconds, then to the end, and its
hypotheses.json is compared byte by byte. Writes benchmarks/results/<name of STUDY>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiltscope.hypotheses import read_hypotheses
from tiltscope.report import families, headline
from tiltscope.report.words import near_zero

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill", type=float, nargs="*", default=[])
    parser.add_argument("--top", type=int, default=10)
    args = parser.parse_args()
    sample = ["--sample", str(args.sample)] if args.sample else []
    command = [sys.executable, "-c", "from tiltscope.cli import run; run()", "audit", args.data, *sample]
    command += ["--seed", str(args.seed)]
    finished = (args.out / "report.html").exists()
    start = time.monotonic()
    subprocess.run([*command, "--out", str(args.out)], check=True, stdout=subprocess.DEVNULL)
    seconds = None if finished else round(time.monotonic() - start, 1)
    path = RESULTS / f"{args.out.name}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    result = {
        "command": f"tiltscope audit {Path(args.data).name} {' '.join(sample)} --seed {args.seed}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "seconds": seconds or before.get("seconds"),
        **_summary(args.out, args.top),
        "killed": _killed(command, args.out, args.kill) if args.kill else before.get("killed"),
    }
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(result, indent=1, ensure_ascii=False))


def _summary(study: Path, top: int) -> dict[str, Any]:
    hypotheses = read_hypotheses(study)
    contrast = json.loads((study / "contrast.json").read_text())
    heads = sorted(
        (rows[0] for rows in families(hypotheses)), key=near_zero, reverse=True
    )  # by the interval end nearest zero
    return {
        **{key: contrast[key] for key in ("n_pairs", "n_groups", "n_candidates", "views", "nulls")},
        "n_confirmed": sum(h["confirmed"] for h in hypotheses),
        "n_mixed": sum(h["verdict"] == "mixed" for h in hypotheses),
        "n_refused": len((study / "refused.jsonl").read_text().splitlines()),
        "autoencoder": json.loads((study / "scope" / "scope.json").read_text())["sae"]["report"],
        "n_families": {view: sum(h["view"] == view for h in heads) for view in ("global", "region", "prompt")},
        "strongest_global": [_family(h, hypotheses) for h in heads if h["view"] == "global"][:top],
        "strongest_prompt": [_family(h, hypotheses) for h in heads if h["view"] == "prompt"][:5],
    }


def _family(head: Mapping[str, Any], hypotheses: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": head["id"],
        "name": head["concept"]["name"],
        "by_rule": head["namesake"],
        "name_score": head["concept"]["name_score"],
        "top_tokens": head["concept"]["top_tokens"],
        "n_concepts": sum(h["family"] == head["id"] for h in hypotheses),
        "effect": [head["effect"], head["ci_low"], head["ci_high"]],
        "equal_length": list(head["equal_length"].values()),
        "length": head["length"],
        "new_sources": head["new_sources"],
        "q": head["q"],
        "headline": headline(head),
    }


def _killed(command: list[str], study: Path, seconds: list[float]) -> dict[str, Any]:
    """Kill the same audit after each of these seconds, finish it, and compare."""
    other = study.with_name(f"{study.name}-killed")
    for wait in seconds:
        running = subprocess.Popen(
            [*command, "--out", str(other)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(wait)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    subprocess.run([*command, "--out", str(other)], check=True, stdout=subprocess.DEVNULL)
    same = {
        name: (other / name).read_bytes() == (study / name).read_bytes()
        for name in ("hypotheses.json", "concepts.json", "names.json", "scope/sae.safetensors")
    }
    return {"killed_after_seconds": seconds, "same_bytes": same}


if __name__ == "__main__":
    main()
