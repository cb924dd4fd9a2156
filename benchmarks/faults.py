"""Local faults: does dropping what a finding is traced to take a learned fault away, and does a plan keep it out?

    python benchmarks/faults.py DATA --work WORK [--seeds 1] [--arms plain clean traced …]

Four faults, each planted at 2 % of all pairs (8 of 400) in its own kind of prompts (fault_data.py): praise of the
asker's theory, a turn into fan fiction, naming a benchmark, an invented link. The planted pairs are audited once. A
confirmed finding speaks of a fault by the rule of judging.py; of several the one with the smallest p is taken. Truth is
used only to say which finding speaks of which fault: `trace` orders the rows.

Arms, DPO from the embedded model with the settings of poison.py:
start                    no training
plain, clean             on the planted pairs; on the same pairs without any fault
traced                   without the first 2 % of the rows in the order of `trace`, per fault that a finding speaks of
random, length           without as many rows, drawn at random; with the same chosen - rejected length in words
reward_shaping, example_filtering, token_filtering: all four suppressed, each shown by its rule; 4 nats per sd, or as
                         many rows as were planted. A plan gates by kinds that the audit knows, not by a pattern on
                         prompts; but no other answer matches a rule, so outside its kind a decision touches no pair.
planted random, planted length: without as many rows as were planted in all, by chance: what the three plans are held
                         against (example_filtering takes the planted rows, as a perfect tracing would).

Sampled rates of planted traits do not move in so small a training (poison.py), so nothing is sampled for the shift: it
is the log-probability (nats) of the fault's sentences at their place, teacher forced, in answers to held-out prompts.
The answer up to that place is the starting model's own, sampled once; four sentences per prompt. shift = plain - clean;
gone = (plain - arm) / (plain - clean). Elsewhere: (arm - plain) after prompts of other kinds, over the shift inside;
and the NLL per token of held-out chosen answers. `left elsewhere`, (arm - clean) there over the shift inside, was added
after the first results: it tells a fault's own spread to other prompts from harm done there; no goal is judged by it.
Intervals (95 %): bootstrap over prompts. The rates that sampling shows stand beside it, start against plain, for the
rule that training must add 5 points before a fault counts. Everything was set on draw 1 of the data, of draw 17 only
the number of prompts of each kind was looked at; draw 17 is reported. Writes benchmarks/results/faults.json after every
arm.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from comparators import Claim
from fault_data import FAULTS, Data, kind_of, lengths, make_data, parted
from fault_table import NAMES, PLANS, goals, table
from forced import SENTENCES, answers, ratio, read_through, trained_on, whole_sentences
from judging import speaking_of
from poison import DPO, MAX_LENGTH
from steps import RESULTS, average_precision, commit, gaps_of, machine, one_code, trained, verb

from tiltscope.artifact import read_json, write_json
from tiltscope.hypotheses import read_hypotheses
from tiltscope.power import Aligned, Grown, Readings, read_again
from tiltscope.study import open_study
from tiltscope.trace import trace

OUTSIDE, STRENGTH = 24, 4.0
COUNTS = 0.05  # points that plain training must add to a sampled rate
CHANCE = ("planted random", "planted length")
ARMS = ("start", "plain", "clean", "traced", "random", "length", *PLANS, *CHANCE)


@dataclass(frozen=True)
class Bench:
    """What every arm shares; `rows` are the rows of train (from 0) that an arm goes without."""

    args: argparse.Namespace
    data: Data
    found: dict[str, Any]
    asked: list[dict[str, Any]]

    @property
    def work(self) -> Path:
        """The folder of everything."""
        return Path(self.args.work)


def main() -> None:
    """Plant, audit, trace, train every arm, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--draw", type=int, default=17, help="of the data")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--planted", type=int, default=8, help="pairs per fault")
    parser.add_argument("--answers", type=int, default=4, help="sampled per prompt, for the rates alone")
    parser.add_argument("--training", default=DPO, help="lines of YAML")
    parser.add_argument("--result", type=Path, default=RESULTS / "faults.json")
    parser.add_argument(
        "--across-code", action="store_true", help="go on with what other code left; the result says so"
    )
    args = parser.parse_args()
    made_by = one_code(args.work, across=args.across_code)
    data = make_data(args.data, args.work, args.pairs, args.planted, draw=args.draw)
    study = args.work / "study"
    verb("audit", args.work / "train.jsonl", "--out", study, "--max-length", MAX_LENGTH, "--seed", 11, "--draws", 20)
    bench = Bench(args, data, traced(study, data, args.planted), asked(args.work, data))
    table_of: dict[str, list[dict[str, Any]]] = {}
    for name in args.arms:
        if name in ("traced", "random", "length") and not dropped(bench, name):
            continue  # nothing was found, so there is nothing to drop
        table_of[name] = [measured(bench, name, seed) for seed in args.seeds]
        if {"plain", "clean"} <= set(table_of):
            write(bench, table_of, made_by)
    rates = {name: sampled(bench, name) for name in ("start", "plain")}
    write(bench, table_of, made_by, rates)


# --- finding and tracing ----------------------------------------------------------------------------------------------


def traced(study: Path, data: Data, n_planted: int) -> dict[str, Any]:
    """{fault: the finding that speaks of it, its rows in the order of `trace`, average precision}; kept in WORK."""
    from tiltscope.sae import open_scope

    path = study.parent / "traced.json"
    if path.exists():
        return dict(read_json(path, verb=""))
    opened = open_study(study)
    after = Aligned.of(opened.pairs, opened.features)
    at = np.array([pair.row - 1 for pair in after.pairs.rows])  # the study has its own order of rows
    clean = replace(data.clean, rows=tuple(data.clean.rows[row] for row in at))
    before = read_again(after, clean, Readings(open_scope(study), opened.features, study / "again"))
    signs = tuple(np.isin(at, data.planted[name]).astype(int) for name in NAMES)
    every = read_hypotheses(study)
    of_fault = speaking_of(_claims(study, every, after), Grown(before, after, signs), len(NAMES))
    found = {name: _one_found(number, every, of_fault, opened, data) for number, name in enumerate(NAMES)}
    found["n_confirmed"] = sum(bool(one["confirmed"]) for one in every)
    write_json(path, found)
    return found


def _claims(study: Path, every: Sequence[Mapping[str, Any]], data: Aligned) -> list[Claim]:
    regions = {one["id"]: one["pair_ids"] for one in read_json(study / "concepts.json", verb="contrast")["regions"]}
    inside = {id: np.isin(data.features.pair_ids, pair_ids) for id, pair_ids in regions.items()}
    claims = []
    for one in every:
        rule, latents = one["concept"].get("rule"), tuple(one["concept"]["latents"])
        place = inside[one["region"]["id"]] if one["region"] else None
        what = ("rule", rule) if rule else ("disparity", latents)
        claims.append(Claim(*what, 1 if one["direction"] == "more" else -1, place))
    return claims


def _one_found(number: int, every: Sequence[Any], of_fault: np.ndarray, opened: Any, data: Data) -> dict[str, Any]:
    """What is known of one fault; `unconfirmed` is the best-ranked finding that speaks of it and was not confirmed."""
    mine = sorted((every[i] for i in np.flatnonzero(of_fault == number)), key=lambda one: (one["p"], one["id"]))
    confirmed = [one for one in mine if one["confirmed"]]
    others = [one for one in mine if not one["confirmed"]]
    truth = np.isin(np.arange(len(data.train.rows)), data.planted[NAMES[number]])
    return {
        "n_findings": len(confirmed),
        "finding": _ordered(confirmed[0], opened, truth) if confirmed else None,
        "unconfirmed": _ordered(others[0], opened, truth) if others else None,
    }


def _ordered(finding: Mapping[str, Any], opened: Any, truth: np.ndarray) -> dict[str, Any]:
    """A finding and the rows (from 0) in the order of `tiltscope trace`."""
    pairs = trace(finding, opened.pairs, opened.features, disparities=opened.folder, n=len(truth))["for"]
    rows = [int(one["row"]) - 1 for one in pairs]
    told = {key: finding.get(key) for key in ("id", "p", "q", "view")}
    name = finding["concept"].get("name")
    return {**told, "name": name, "average_precision": round(average_precision(rows, truth), 4), "rows": rows}


def dropped(bench: Bench, name: str) -> list[int]:
    """The rows (from 0) that an arm of dropping goes without; the same for every seed."""
    n, planted = bench.args.planted, bench.data.planted
    found = [bench.found[fault]["finding"] for fault in NAMES]
    by_trace = {row for one in found if one for row in one["rows"][:n]}
    named = {row for rows in planted.values() for row in rows} if name in CHANCE else by_trace
    how = name.split()[-1]
    if how == "random":
        return sorted(random.Random(f"random {bench.args.draw}").sample(range(len(bench.data.train.rows)), len(named)))
    return _alike_in_length(bench, sorted(named)) if how == "length" else sorted(named)


def _alike_in_length(bench: Bench, named: Sequence[int]) -> list[int]:
    """For each named row another whose chosen answer is longer than its rejected one by as many words, or nearly."""
    gaps, taken = lengths(bench.data.train.rows), set(named)
    for row in named:
        taken.add(
            min((at for at in range(len(gaps)) if at not in taken), key=lambda at: (abs(gaps[at] - gaps[row]), at))
        )
    return sorted(taken - set(named))


# --- arms -------------------------------------------------------------------------------------------------------------


def model_of(bench: Bench, name: str, seed: int) -> Path | None:
    """Train an arm, unless it was; None is the embedded model."""
    if name == "start":
        return None
    run = bench.work / f"{name.replace(' ', '-')}-{seed}"
    if name in PLANS:
        decisions = [_decision(fault, name, bench.args) for fault in NAMES]
        return trained(bench.work / "study", run, bench.args.training, seed, objective="dpo", decisions=decisions)
    without = set() if name in ("plain", "clean") else set(dropped(bench, name))
    pairs = bench.data.clean if name == "clean" else bench.data.train
    rows = [pair for row, pair in enumerate(pairs.rows) if row not in without]
    return trained_on(rows, run, bench.args.training, seed, reference=bench.work / "study" / "reference")


def _decision(fault: str, method: str, args: argparse.Namespace) -> dict[str, Any]:
    """A wish as a person would write it."""
    strength = {"reward_shaping": STRENGTH, "example_filtering": args.planted / args.pairs}.get(method)
    return {
        "concept": {"name": fault},
        "detector": {"kind": "regex", "pattern": FAULTS[fault].rule, "by": "present"},
        "action": "suppress",
        "method": method,
        **({"strength": strength} if strength else {}),
        "accept_weak": True,
        "reason": f"{fault} is not what we train for",
    }


# --- measuring --------------------------------------------------------------------------------------------------------


def asked(work: Path, data: Data) -> list[dict[str, Any]]:
    """Every place and sentence that is measured: {fault, place: inside or outside, prompt, prefix, sentence}."""
    path, rows = work / "asked.json", []
    if path.exists():
        return list(read_json(path, verb=""))
    own = answers(work / "answers.json", None, [pair.prompt_text for pair in data.held])
    for name, fault in FAULTS.items():
        rng = random.Random(f"asked {name}")
        prompts = [pair.prompt_text for pair in data.held]
        inside = [one for one in prompts if kind_of(one) == fault.kind]
        outside = rng.sample([one for one in prompts if kind_of(one) != fault.kind], OUTSIDE)
        for place, some in (("inside", inside), ("outside", outside)):
            for prompt in some:
                prefix = parted(whole_sentences(own[prompt][0]), fault.place)[0]
                for sentence in rng.sample(fault.sentences, SENTENCES):
                    rows.append(
                        {"fault": name, "place": place, "prompt": prompt, "prefix": prefix, "sentence": sentence}
                    )
    write_json(path, rows)
    return rows


def sampled(bench: Bench, name: str) -> dict[str, list[float]]:
    """{fault: share of answers that show it, per held-out prompt of its kind}."""
    model = model_of(bench, name, bench.args.seeds[0])
    kinds = {
        fault: [p.prompt_text for p in bench.data.held if kind_of(p.prompt_text) == FAULTS[fault].kind]
        for fault in NAMES
    }
    path = bench.work / f"answers-{name}.json"
    told = answers(path, model, [p for some in kinds.values() for p in some], bench.args.answers)
    return {
        fault: [float(np.mean([FAULTS[fault].shows(text) for text in told[prompt]])) for prompt in prompts]
        for fault, prompts in kinds.items()
    }


def measured(bench: Bench, name: str, seed: int) -> dict[str, Any]:
    """{logps: (n_asked,) nats of each sentence, nll: (n_held,) per token of the chosen answers}; kept in WORK."""
    path = bench.work / f"measured-{name.replace(' ', '-')}-{seed}.json"
    if not path.exists():
        print(f"training and measuring: {name}, seed {seed}", flush=True)
        model = model_of(bench, name, seed)
        write_json(path, read_through(model, bench.asked, bench.data.held))
    return dict(read_json(path, verb=""))


# --- the table --------------------------------------------------------------------------------------------------------


def by_prompt(bench: Bench, runs: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """{fault | place: (n_prompts,) nats, mean over sentences and seeds}, `all` faults together, and nll."""
    values = np.mean([one["logps"] for one in runs], axis=0).reshape(-1, SENTENCES).mean(axis=1)
    heads = bench.asked[::SENTENCES]
    told = {}
    for place in ("inside", "outside"):
        for name in (*NAMES, "all"):
            some = [one["place"] == place and name in (one["fault"], "all") for one in heads]
            told[f"{name} | {place}"] = values[np.array(some)]
    return {**told, "nll": np.mean([one["nll"] for one in runs], axis=0)}


def told_of(bench: Bench, table_of: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """{arm: {fault: shift and what is gone of it inside, what changed elsewhere}}."""
    means = {name: by_prompt(bench, runs) for name, runs in table_of.items()}
    clean, plain = means["clean"], means["plain"]
    told: dict[str, Any] = {}
    for name, arm in means.items():
        gaps = gaps_of({"start": clean, "plain": plain, "arm": arm}, list(clean))
        told[name] = {"nll": gaps["nll"]}
        for fault in (*NAMES, "all"):
            here, there = f"{fault} | inside", f"{fault} | outside"
            taught = plain[here] - clean[here]
            told[name][fault] = {
                "inside": gaps[here],
                "outside": gaps[there],
                "elsewhere": ratio(arm[there] - plain[there], taught, paired=False),
                "left elsewhere": ratio(arm[there] - clean[there], taught, paired=False),
            }
            for chance in _chances(name, means):
                told[name][fault][f"times {chance}"] = ratio(
                    plain[here] - arm[here], plain[here] - means[chance][here], paired=True
                )
    return told


def _chances(name: str, means: Mapping[str, Any]) -> list[str]:
    """The arms that drop as many rows by chance."""
    some = {"traced": ("random", "length"), **dict.fromkeys(PLANS, CHANCE)}.get(name, ())
    return [one for one in some if one in means]


def write(bench: Bench, table_of: Any, made_by: list[str], rates: Mapping[str, Any] | None = None) -> None:
    """Write what is there and print it."""
    args, found = bench.args, bench.found
    kept = {name: _short(found[name], bench.data.planted[name], args.planted) for name in NAMES}
    result = {
        "command": f"python benchmarks/faults.py DATA --work WORK --draw {args.draw} --answers {args.answers} "
        f"--seeds {' '.join(map(str, args.seeds))} --arms {' '.join(args.arms)}",
        "machine": machine(),
        "commit": commit(),
        "made_by": made_by,
        "settings": {"dpo": args.training, "max_length": MAX_LENGTH, "sentences": SENTENCES, "strength": STRENGTH}
        | {key: getattr(args, key) for key in ("seeds", "draw", "pairs", "planted", "answers")},
        "n_held_out": len(bench.data.held),
        "n_confirmed": found["n_confirmed"],
        "planted_and_trained_on": _trained_on(bench),
        "tracing": kept,
        "rates": _rates(rates) if rates else None,
        "arms": told_of(bench, table_of),
    }
    result["goals"] = {name: goals(result, name) for name in NAMES}
    args.result.parent.mkdir(exist_ok=True)
    write_json(args.result, result)
    print(table(result), flush=True)


def _trained_on(bench: Bench) -> dict[str, int]:
    """How many planted rows training takes: it keeps a share of the prompts to see whether it moved."""
    from tiltscope.training import TrainConfig
    from tiltscope.training.rows import split_held_out

    rows = {pair.row for pair in split_held_out(bench.data.train.rows, TrainConfig().held_out_share)[0]}
    return {name: sum(row + 1 in rows for row in planted) for name, planted in bench.data.planted.items()}


def _short(found: Mapping[str, Any], planted: Sequence[int], n: int) -> dict[str, Any]:
    """A fault's tracing without the rows, with how many of the first n were planted."""
    told: dict[str, Any] = {"n_planted": len(planted), "n_findings": found["n_findings"]}
    for key in ("finding", "unconfirmed"):
        one = found[key]
        told[key] = one and {k: v for k, v in one.items() if k != "rows"} | {
            "n_rows": len(one["rows"]),
            "planted_among_first": len(set(one["rows"][:n]) & set(planted)),
        }
    return told


def _rates(rates: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """{fault: rates at the start and after plain training, points added, whether it counts}."""
    both = {name: {fault: np.array(values) for fault, values in one.items()} for name, one in rates.items()}
    told = gaps_of({"start": both["start"], "plain": both["plain"], "arm": both["plain"]}, NAMES)
    keys = ("start", "plain", "added", "n_prompts")
    return {
        fault: {key: one[key] for key in keys} | {"induced": (one["added"][0] or 0) >= COUNTS}
        for fault, one in told.items()
    }


if __name__ == "__main__":
    main()
