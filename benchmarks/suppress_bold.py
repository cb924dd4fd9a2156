"""Does a plan do what it says? Plain and planned DPO on real pairs, three seeds, compared and gated.

    python benchmarks/suppress_bold.py DATA --work WORK [--pairs 400] [--seeds 1 2 3]

Audits a seeded sample of DATA (alpaca-eval pairs) with the embedded model, plans `suppress` for the strongest confirmed
global finding that is named after bold text (aim_rate: start; every other finding is left to plain training), trains
plain and planned DPO from the same start on the same pairs, asks base, plain and planned models the same held-out
prompts, compares, and judges by benchmarks/suppress_bold.limits.yaml. A third arm, `held`, also holds bold's sibling
styles. Every step is a verb of the command line and resumes where it was killed.
Writes benchmarks/results/suppress_bold.json.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

from steps import commit, machine
from steps import verb as _verb

HERE = Path(__file__).parent
RESULT = HERE / "results" / "suppress_bold.json"
LIMITS = HERE / "suppress_bold.limits.yaml"
TRAINING = """\
learning_rate: 2.0e-5
beta: 0.1
per_device_train_batch_size: 8
num_train_epochs: 1.0
save_steps: 25
"""
BEHAVIOURS = "bold,list,heading,emoji,table,horizontal_rule,exclamation,length"
MAX_LENGTH = 192
SIBLINGS = "bulleted_list, numbered_list, heading, table, exclamation, emoji, horizontal_rule, code_block"
ARMS = {"planned": "", "held": SIBLINGS}  # name: what the plan holds


def main() -> None:
    """Audit, plan, train, evaluate, compare, gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sample", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--answers", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    args = parser.parse_args()
    study = args.work / "study"
    audit = ["audit", args.data, "--out", study, "--sample", args.sample, "--seed", 11, "--max-length", MAX_LENGTH]
    _verb(*audit, "--draws", 20)
    config = args.work / "training.yaml"
    config.write_text(TRAINING)
    seconds: dict[str, float] = {}
    arms: dict[str, list[str]] = {"base": [str(_evaluate(args, None, "base", 0, seconds))]}
    arms |= {arm: [] for arm in ("plain", *args.arms)}
    prepared: dict[str, Any] = {}
    for seed in args.seeds:
        for arm in ("plain", *args.arms):
            run = args.work / f"{arm}-{seed}"
            if arm in ARMS:
                decided = _decide(study / "plan.yaml", study / "hypotheses.json", ARMS[arm])
                prepared[arm] = json.loads(_verb("prepare", study, "--allow-undecided", "--json"))
            plain = ["--plain", "dpo"] if arm == "plain" else []
            finished, start = (run / "run.json").exists(), time.monotonic()
            _verb("train", study, "--out", run, "--config", config, "--seed", seed, "--pairs", args.pairs, *plain)
            if not finished:  # else its time was that of an earlier call
                seconds[run.name] = round(time.monotonic() - start, 1)
            arms[arm].append(str(_evaluate(args, run / "model", run.name, seed, seconds)))
    words = [f"{name}={','.join(folders)}" for name, folders in arms.items()]
    comparison = args.work / "comparison"
    _verb("compare", *words, "--out", comparison, "--target", "bold")
    verdict = json.loads(_verb("gate", LIMITS, comparison, "--json", codes=(0, 1, 5)))
    _write(args, decided, prepared, comparison, verdict, seconds)


def _evaluate(args: argparse.Namespace, model: Path | None, name: str, seed: int, seconds: dict[str, float]) -> Path:
    out: Path = args.work / f"eval-{name}"
    words = [*([model] if model else []), "--out", out, "--data", args.data, "--not-in", args.work / "study"]
    words += ["--behaviours", BEHAVIOURS, "--prompts", args.prompts, "-n", args.answers, "--seed", seed]
    finished, start = (out / "evaluation.json").exists(), time.monotonic()
    _verb("evaluate", *words, "--max-new-tokens", 128, "--max-length", MAX_LENGTH)
    if not finished:
        seconds[out.name] = round(time.monotonic() - start, 1)
    return out


def _decide(plan: Path, hypotheses: Path, hold: str) -> str:
    """Suppress the first global finding of the plan that is named after bold text, and hold what is to be held."""
    _verb("plan", "draft", plan.parent, "--overwrite")
    text = plan.read_text()
    rows = {row["id"]: row for row in json.loads(hypotheses.read_text())}
    listed = re.findall(r'hypothesis: "([^"]+)"', text)
    wanted = [
        id
        for id in listed
        if rows[id]["view"] == "global"
        and (rows[id]["namesake"] or {}).get("rule") == "bold"
        and rows[id]["namesake"]["holds"]
    ]
    if not wanted:
        raise SystemExit("no confirmed finding is named after bold text")
    at = text.index(f'hypothesis: "{wanted[0]}"')
    end = text.find("- hypothesis:", at + 1)
    entry = text[at : end if end > 0 else len(text)]
    filled = re.sub(r"action: \w+", "action: suppress", entry)
    filled = re.sub(r"aim_rate: \w+", "aim_rate: start", filled)
    filled = re.sub(r'reason: "[^"]*"', 'reason: "bold text is not what we train for"', filled)
    filled = re.sub(r"hold: \[[^]]*\]", f"hold: [{hold}]", filled)
    plan.write_text(text.replace(entry, filled))
    return wanted[0]


def _write(
    args: argparse.Namespace,
    decided: str,
    prepared: dict[str, Any],
    comparison: Path,
    verdict: dict[str, Any],
    seconds: dict[str, float],
) -> None:
    body = json.loads((comparison / "comparison.json").read_text())
    keep = ("id", "arm", "versus", "unit", "before", "after", "difference", "seed_differences", "q", "n_prompts")
    runs = {
        path.parent.name: json.loads(path.read_text())["results"]["moved"]
        for path in sorted(args.work.glob("*-*/run.json"))
    }
    result: dict[str, Any] = {
        "command": f"python benchmarks/suppress_bold.py DATA --work WORK --arms {' '.join(args.arms)}",
        "machine": machine(),
        "commit": commit(),
        "settings": {"training": TRAINING, "max_length": MAX_LENGTH, "sample": args.sample, "seeds": args.seeds},
        "decided": decided,
        "decisions": {
            arm: [
                {key: one[key] for key in ("name", "quality", "n_touched", "offsets_nats")} for one in body["decisions"]
            ]
            for arm, body in prepared.items()
        },
        "pushes": {arm: body["pushes"] for arm, body in prepared.items()},
        "moved": runs,
        "changes": [{key: one[key] for key in keep} for one in body["changes"]],
        "verdict": {
            **verdict,
            "results": [{**one, "where": Path(one["where"]).name} for one in verdict["results"]],
        },
        "seconds": seconds,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for one in result["changes"]:
        print(one["arm"], one["versus"], one["id"], one["before"]["effect"], one["after"]["effect"], one["difference"])
    print(verdict["outcome"])


if __name__ == "__main__":
    main()
