"""Is what the audit reads in the data what training does? The prediction card, on held-out prompts, over seeds.

    python benchmarks/prediction.py DATA --work WORK --name alpaca-dpo [--objective dpo] [--seeds 1 2 3] [--line CARD]

Audits a seeded sample of DATA with the embedded model, trains it plainly (DPO, or SFT on the chosen side) once per
seed, asks the starting model and every trained one the same held-out prompts, and scores the forecast with
`tiltscope predict`. Settings, sizes and the declared predictor are those below for every dataset; nothing is fitted to
the score. What WORK holds is taken as it is; it can be that of suppress_bold.py, with its study, plain runs and
evaluations. Every step is a verb and resumes where it was killed. Writes benchmarks/results/prediction-NAME.json;
rates.py pools several.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

from rates import scored
from suppress_bold import BEHAVIOURS, MAX_LENGTH, TRAINING, _verb

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Audit, train, evaluate, predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--objective", choices=["dpo", "sft"], default="dpo")
    parser.add_argument("--sample", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--answers", type=int, default=2, help="per prompt and trained model")
    parser.add_argument("--answers-before", type=int, default=8, help="per prompt, of the starting model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--line", type=Path, help="card.json of another dataset")
    args = parser.parse_args()
    study = args.work / "study"
    if not (study / "report.json").exists():
        audit = ["audit", args.data, "--out", study, "--sample", args.sample, "--seed", 11, "--max-length", MAX_LENGTH]
        _verb(*audit, "--draws", 20, "--allow-refused")
    config = args.work / "training.yaml"
    config.write_text(TRAINING)
    before = _evaluate(args, None, f"base-n{args.answers_before}", 0, args.answers_before)
    after = []
    arm = "plain" if args.objective == "dpo" else "sft"
    for seed in args.seeds:
        run = args.work / f"{arm}-{seed}"
        if not (run / "run.json").exists():
            train = ["train", study, "--out", run, "--config", config, "--seed", seed, "--pairs", args.pairs]
            _verb(*train, "--plain", args.objective)
        after.append(_evaluate(args, run / "model", run.name, seed, args.answers))
    words = [word for folder in after for word in ("--after", folder)]
    words += ["--line", args.line] if args.line else []
    words += ["--objective", args.objective, "--json"]
    card = json.loads(_verb("predict", study, "--before", before, *words, codes=(0, 5)))
    _write(args, card)


def _evaluate(args: argparse.Namespace, model: Path | None, name: str, seed: int, n: int) -> Path:
    out: Path = args.work / f"eval-{name}"
    if (out / "evaluation.json").exists():
        return out
    words = [*([model] if model else []), "--out", out, "--data", args.data, "--not-in", args.work / "study"]
    words += ["--behaviours", BEHAVIOURS, "--prompts", args.prompts, "-n", n, "--seed", seed]
    _verb("evaluate", *words, "--max-new-tokens", 128, "--max-length", MAX_LENGTH)
    return out


def _write(args: argparse.Namespace, card: dict[str, Any]) -> None:
    path = RESULTS / f"prediction-{args.name}.json"
    head = ["git", "rev-parse", "HEAD"]
    result = {
        "command": f"python benchmarks/prediction.py DATA --work WORK --name {args.name} --objective {args.objective}",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "commit": subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip(),
        "settings": {
            "training": TRAINING,
            "max_length": MAX_LENGTH,
            **{
                key: getattr(args, key)
                for key in ("objective", "sample", "pairs", "prompts", "answers", "answers_before", "seeds")
            },
        },
        "rates": scored(card["traits"]),
        "card": card,
    }
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(path, json.dumps(result["rates"]))


if __name__ == "__main__":
    main()
