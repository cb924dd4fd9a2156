"""A study folder as the other rooms would leave it, with every kind of finding and hostile text; for tests only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

HOSTILE = "<script>alert(1)</script> \u202etxet\u202c zero\u200bwidth \x1b[31mred\x1b[0m =cmd('x')!A1 {{ 7*7 }} \ud800"
N_PAIRS = 240


def concept(id: str, name: str = "", by: str = "nobody", *, tokens: tuple[str, ...] = ()) -> dict[str, Any]:
    number = int(id[1:])
    latents = [number] if id[0] == "L" else [number * 10 + step for step in range(5)]
    score = None if by == "nobody" else 0.91
    return {"id": id, "latents": latents, "name": name or f"latent {number}", "named_by": by} | {
        "name_score": score,
        "top_tokens": list(tokens),
    }


def hypothesis(id: str, of: dict[str, Any], effect: float, **changes: Any) -> dict[str, Any]:
    width = changes.pop("width", 0.03)
    share = 0.5 + effect
    row = {
        "id": id,
        "view": "global",
        "concept": of,
        "region": None,
        "direction": "more" if effect > 0 else "less",
        "estimand": "tau",
        "effect": effect,
        "ci_low": effect - width,
        "ci_high": effect + width,
        "d": 2 * effect,
        "z": effect / width * 1.96,
        "p": 1e-6,
        "q": 1e-5,
        "delta_displayed": effect,
        "equal_length_share": 0.5 + effect * 0.6,
        "own_lean": {"effect": effect, "ci_low": effect - width, "ci_high": effect + width},
        "new_sources": None,
        "equal_length": {"effect": effect * 0.6, "ci_low": effect * 0.6 - width, "ci_high": effect * 0.6 + width},
        "at_stake": 0.31,
        "chosen_share": {"effect": share, "ci_low": share - 0.03, "ci_high": share + 0.03},
        "n_pairs": N_PAIRS,
        "n_groups": 201,
        "half_a": effect * 1.1,
        "half_b": effect * 0.9,
        "confirmed": True,
        "verdict": "confirmed",
        "length": "robust to length",
        "baselines": {
            "length": {"r": 0.21, "effect_left": effect * 0.7},
            "markdown": {"r": 0.66, "effect_left": effect * 0.3},
            "punctuation": {"r": -0.1, "effect_left": effect},
            "bag_of_words": {"r": 0.4, "effect_left": effect * 0.8},
        },
        "family": id,
        "pair_ids": [pair_id(n) for n in range(40)],
    }
    return row | changes


def region(id: str, name: str, *tokens: str) -> dict[str, Any]:
    return {"id": id, "name": name, "top_tokens": list(tokens), "n_pairs": 48}


def pair_id(number: int) -> str:
    return f"{number:016x}"


def hypotheses() -> list[dict[str, Any]]:
    bold = concept("L812", "bold text", "library", tokens=("**", " **"))
    short = {"length": "not robust to length", "equal_length_share": 0.501}
    short["equal_length"] = {"effect": 0.002, "ci_low": -0.02, "ci_high": 0.024}
    unlike = {"length": "inseparable from length"}
    weak = {"confirmed": False, "verdict": "not confirmed", "q": 0.4}
    few = {"confirmed": False, "verdict": "too few witnesses", "q": None, "n_groups": 7}
    cooking = region("P7@0.1", "cooking and recipes", "oven", " bake", " recipe")
    return [
        hypothesis("g-L812", bold, 0.27),
        hypothesis("g-C4", concept("C4", "bold text", "library", tokens=("**",)), 0.2, family="g-L812"),
        hypothesis("g-L33", concept("L33", "em dash", "library", tokens=("—",)), -0.12, **short),
        hypothesis("g-L99", concept("L99", tokens=("\n\n", "…\u202e")), 0.09, **unlike),
        hypothesis("g-C9", concept("C9", HOSTILE, "endpoint evil<b>", tokens=("<script>", "\u200b")), 0.08),
        hypothesis("r-K3-L5", concept("L5", "heading", "library", tokens=("##",)), 0.11, view="region")
        | {"region": region("K3", "", "def", " return"), "estimand": "delta"},
        hypothesis("p-P7-R2", concept("R2", "emoji", "library", tokens=("🎉",)), 0.4, view="prompt", width=0.1)
        | {"region": cooking, "estimand": "shift", "chosen_share": {"effect": 0.8, "ci_low": 0.6, "ci_high": 0.9}},
        hypothesis("g-L41", concept("L41", "comma", "library"), 0.02, **weak) | {"half_a": 0.05, "half_b": -0.01},
        hypothesis("r-K9-L7", concept("L7"), 0.3, view="region", **few) | {"region": region("K9", "", "=cmd()")},
    ]


def example(number: int, disparity: float) -> dict[str, Any]:
    chosen = f"Sure! Here is **a plan** for you.\n\n1. **Start** with item {number}.\n2. Go on.\n" + "More words. " * 12
    rejected = f"You could start with item {number}, then go on. " + HOSTILE
    if number == 2:
        chosen = "x" * 4000 + "**late mark** and after" + "y" * 900
    starts = [at for at in range(len(chosen)) if chosen.startswith("**", at)]
    prompt = "How do I start?\u202e" if number % 2 else "كيف أبدأ المشروع؟"
    return {
        "pair_id": pair_id(number),
        "row": number + 1,
        "group": f"g{number}",
        "prompt": {"text": prompt, "marks": [], "n_cut_chars": 0},
        "chosen": {
            "text": chosen,
            "marks": [[at, at + 2, 0.2 + 0.15 * (at % 6)] for at in starts],
            "n_cut_chars": number,
        },
        "rejected": {"text": rejected, "marks": [], "n_cut_chars": 0},
        "disparity": disparity,
    }


def names() -> dict[str, Any]:
    words = enumerate(("**", " **", ":**", "<b>"))
    lifted = [{"token": one, "lift": 4.5 - n, "share": 0.4, "where": "before" if n == 2 else "on"} for n, one in words]
    bold = {"name": "bold text", "named_by": "library", "name_score": 0.91, "lifted_tokens": lifted, "abstained": 0}
    more = {"ngrams": [{"text": "**Step", "lift": 18.0}], "library": {"rule": "bold", "name": "bold text", "r": 0.83}}
    span = {
        "pair_id": pair_id(1),
        "row": 2,
        "side": "chosen",
        "text": "is **a plan** for <b>",
        "marked": [[3, 5], [11, 13]],
    }
    more |= {"spans": [span | {"kind": "top"}, span | {"kind": "random"}], "shuffled_95": 0.61, "score_note": ""}
    meta = {"product": "names", "format_version": 1}
    bare = {"lifted_tokens": [], "ngrams": [], "library": None, "spans": [], "abstained": 2, "score_note": HOSTILE}
    return {"_meta": meta, "L812": bold | more, "C9": bare}


def contrast() -> dict[str, Any]:
    views = {
        view: {"n_cells": 5000, "n_tested": tested, "n_candidates": 10, "n_confirmed": 3}
        for view, tested in (("global", 1622), ("region", 2410), ("prompt", 803))
    }
    nulls = [
        {"null": null, "view": view, "n_cells": 2000, "n_draws": 200, "share_p05": 0.047}
        | {"any_rejection": 0.09, "mc_se": 0.021}
        for null in ("sharp", "adjusted")
        for view in views
    ]
    return {"n_pairs": N_PAIRS, "n_groups": 201, "n_explore": 100, "n_confirm": 101, "n_candidates": 9} | {
        "n_confirmed": 7,
        "views": views,
        "nulls": nulls,
        "settings": {"q": 0.1, "seed": 0},
        "length": {"mean_log_ratio": 0.31, "share_of_pairs_of_like_length": 0.22, "separable": True},
        "sources": 0,
        "inputs": {"pairs": "aaaabbbbccccdddd", "features": "f0f0f0f0f0f0f0f0", "tiltscope": "0.1.0"},
        "fingerprint": "c0c0c0c0c0c0c0c0",
    }


def checklist() -> dict[str, Any]:
    row = {"family": "style", "domain": None, "chosen_rate": 0.4, "rejected_rate": 0.1, "difference": 0.3}
    row |= {"ci_low": 0.25, "ci_high": 0.35, "n_groups": 201}
    items = [row | {"id": "bold", "name": "bold text"}, row | {"id": "x", "name": HOSTILE, "domain": "math"}]
    return {"shape": "explicit prompt", "n_pairs": N_PAIRS, "checklist": items}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def make(study: Path, *, rows: list[dict[str, Any]] | None = None) -> Path:
    """Write a whole study and return its folder."""
    study.mkdir(parents=True, exist_ok=True)
    rows = hypotheses() if rows is None else rows
    traced = {"for": [example(n, 1.0) for n in range(4)], "against": [example(7, -1.0)], "random": [example(9, 0.0)]}
    settings = {"source": "data/pairs one.jsonl", "sample": 240, "seed": 0, "model": "default", "layer": 15}
    scope = {"fingerprint": "5c09e5c09e5c09e5", "layer": 15, "n_layers": 30, "max_length": 1024}
    model = {"name": "SmolLM2-135M-Instruct", "family": "llama", "fingerprint": "0123456789abcdef"}
    quality = {"unexplained_variance": 0.29, "silent_latents": 0.04}
    quality |= {"loss_nats": {"clean": 2.31, "spliced": 2.52, "mean_ablated": 9.4, "n_texts": 64}}
    write(study / "hypotheses.json", rows)
    write(study / "contrast.json", contrast())
    write(study / "names.json", names())
    write(study / "evidence.json", {"g-L812": traced, "g-C9": {"for": [example(1, 1.0)]}})
    write(study / "check.json", checklist())
    write(study / "study.json", settings | {"max_length": 1024})
    write(
        study / "scope" / "scope.json", scope | {"model": model, "sae": {"n_latents": 2048, "k": 32, "report": quality}}
    )
    write(study / "pairs.manifest.json", {"product": "pairs", "format_version": 1, "fingerprint": "aaaabbbbccccdddd"})
    refused = [{"row": n, "reason": "empty answer", "found": HOSTILE} for n in range(5, 30)]
    lines = [json.dumps(one) for one in [*refused, {"row": 99, "reason": "not text", "found": "null"}]]
    (study / "refused.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return study


def draw(number: int) -> float:
    """The chance that decides a pair's disparities: under .5 the concept is at stake."""
    return float(np.random.default_rng(number).random())


def write_tables(study: Path, rows: list[dict[str, Any]], *, first: int = 0, count: int = N_PAIRS) -> None:
    """Write pairs.parquet and hypotheses.parquet: pairs number `first` and on, disparities of -1, 0 and 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = range(first, first + count)
    ids = [pair_id(n) for n in numbers]
    columns = {"id": ids, "row": [n + 1 for n in numbers], "group": [f"g{n // 2}" for n in numbers]}
    pq.write_table(pa.table(columns), study / "pairs.parquet")
    parts = []
    for row in rows:
        draws = np.array([draw(n) for n in numbers])
        at_stake = draws < 0.5
        plus = draws < 0.25 * (1 + 2 * (row["effect"] or 0.0))
        disparity = np.where(at_stake, np.where(plus, 1.0, -1.0), 0.0)
        parts.append(pa.table({"hypothesis_id": [row["id"]] * count, "pair_id": ids, "disparity": disparity}))
    none = pa.table({"hypothesis_id": pa.array([], pa.string()), "pair_id": pa.array([], pa.string())})
    none = none.append_column("disparity", pa.array([], pa.float64()))
    pq.write_table(pa.concat_tables([none, *parts]), study / "hypotheses.parquet")
