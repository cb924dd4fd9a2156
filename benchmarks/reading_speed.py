"""How fast is reading, beside a bare forward pass cut at the same layer over the same padded tokens?

    python benchmarks/reading_speed.py                      # the embedded model, the alpaca-eval pairs
    python benchmarks/reading_speed.py --device cuda --pairs 2000

Reading is all that `tiltscope read` does before the autoencoder: rendering, tokenising, batching, the forward pass and
picking the residuals of the read tokens. The bare forward pass gets ready-made padded batches and keeps nothing. They
take turns, shard by shard, in one process; the ratio is the median over shards, since absolute speeds drift with load.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

from tiltscope.artifact import write_json
from tiltscope.features import PAIRS_PER_SHARD, Conversation
from tiltscope.lm import LanguageModel, Rendered, length_batches, load_model
from tiltscope.pairs import Turn
from tiltscope.sae.scope import read_residuals

HERE = Path(__file__).resolve().parent


def conversations(n_pairs: int, seed: int) -> list[Conversation]:
    """Return both conversations of a seeded sample of the alpaca-eval pairs."""
    data = Path(os.environ.get("TILTSCOPE_DATA", HERE.parent.parent / "shared" / "data"))
    path = data / "alpaca-eval" / "pairs.jsonl.gz"
    if not path.is_file():
        sys.exit(f"{path} is not there; set TILTSCOPE_DATA")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    drawn = sorted(np.random.default_rng(seed).choice(len(rows), n_pairs, replace=False))
    return [
        Conversation((Turn("user", rows[i]["prompt"]),), rows[i][side], side == "chosen")
        for i in drawn
        for side in ("chosen", "rejected")
    ]


def padded_batches(lm: LanguageModel, shard: list[Conversation]) -> list[torch.Tensor]:
    """Return the very batches that reading makes of these conversations, ready on the device."""
    texts = [lm.renderer.render(conversation.prompt, conversation.response) for conversation in shard]
    batches = []
    for batch in length_batches([len(text.ids) for text in texts]):
        longest = len(texts[batch[0]].ids)
        rows = [[*texts[i].ids, *[0] * (longest - len(texts[i].ids))] for i in batch]
        batches.append(torch.tensor(rows, device=lm.device))
    return batches


def seconds_bare(lm: LanguageModel, batches: list[torch.Tensor]) -> float:
    """Return the seconds of the forward passes alone."""
    started = time.perf_counter()
    with torch.inference_mode():
        for batch in batches:
            lm.model(input_ids=batch, use_cache=False)
    _wait(lm)
    return time.perf_counter() - started


def seconds_reading(lm: LanguageModel, shard: list[Conversation]) -> tuple[float, int]:
    """Return the seconds from conversations to residuals, and how many tokens went in."""
    started = time.perf_counter()
    read = read_residuals(lm, shard)
    _wait(lm)
    seconds = time.perf_counter() - started
    return seconds, sum(len(text.ids) for text in read.texts if isinstance(text, Rendered))


def _wait(lm: LanguageModel) -> None:
    if lm.device.startswith("cuda"):
        torch.cuda.synchronize()


def measure(lm: LanguageModel, texts: list[Conversation]) -> dict[str, object]:
    """Time both, shard by shard, the one that goes first changing from shard to shard."""
    shards = [texts[low : low + 2 * PAIRS_PER_SHARD] for low in range(0, len(texts), 2 * PAIRS_PER_SHARD)]
    seconds_bare(lm, padded_batches(lm, shards[0])[-1:])
    bare, reading, tokens, padded = [], [], 0, 0
    for number, shard in enumerate(shards):
        batches = padded_batches(lm, shard)
        if number % 2:
            bare.append(seconds_bare(lm, batches))
        seconds, n_tokens = seconds_reading(lm, shard)
        reading.append(seconds)
        if not number % 2:
            bare.append(seconds_bare(lm, batches))
        tokens += n_tokens
        padded += sum(batch.numel() for batch in batches)
    ratios = np.array(bare) / np.array(reading)
    return {
        "ratio_median": float(np.median(ratios)),
        "ratio_lowest": float(ratios.min()),
        "ratio_of_totals": float(sum(bare) / sum(reading)),
        "reading_tokens_per_s": tokens / sum(reading),
        "bare_tokens_per_s": tokens / sum(bare),
        "n_tokens": tokens,
        "padding_share": 1 - tokens / padded,
        "n_shards": len(shards),
    }


def main() -> None:
    """Measure and write benchmarks/results/reading_speed[_DEVICE].json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--layer", type=int, default=None)
    parser.add_argument("--device", default=None)
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lm = load_model(options.model, layer=options.layer, device=options.device)
    result = measure(lm, conversations(options.pairs, options.seed)) | {
        "goal": 0.8,
        "command": "python benchmarks/reading_speed.py " + " ".join(sys.argv[1:]),
        "model": lm.name,
        "layer": lm.layer,
        "dtype": lm.dtype_name,
        "machine": torch.cuda.get_device_name() if lm.device.startswith("cuda") else platform.machine(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
    }
    name = "reading_speed_cuda.json" if lm.device.startswith("cuda") else "reading_speed.json"
    write_json(HERE / "results" / name, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
