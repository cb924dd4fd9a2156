"""Summed log-probs of answers, computed once and kept by content.

In:  a trainer with its model, tokenised conversations, a folder.
Out: nats by the conversation's key; small JSON files, one per shard, so that a stopped pass goes on where it was.
Refuses: damaged shards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from tiltscope.artifact import fingerprint, read_json, write_text
from tiltscope.training.rows import TokenSequence
from tiltscope.training.tiltscope_trl import padded
from tiltscope.training.trainers import Progress

__all__ = ["kept_logps", "summed_logps"]

BATCHES_PER_SHARD = 64


def kept_logps(
    trainer: Any,
    model: Any,
    sequences: Iterable[TokenSequence],
    folder: Path,
    *,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Return the summed log-probs (nats) by key: from the folder, and for the rest from the model, shard by shard.

    The folder belongs to one model in one number format. All processes of a run must call this together.
    """
    wanted = {one.key: one for one in sequences}
    found = {key: value for path in sorted(folder.glob("*.json")) for key, value in _shard(path).items()}
    missing = sorted((wanted[key] for key in wanted.keys() - found.keys()), key=_length)
    size = BATCHES_PER_SHARD * _rows_per_batch(trainer) * trainer.accelerator.num_processes
    for start in range(0, len(missing), size):

        def tell(done: int, before: int = start) -> None:
            if progress:
                progress("reference log-probs", before + done, len(missing))

        shard = summed_logps(trainer, model, missing[start : start + size], tell=tell)
        if trainer.accelerator.is_main_process:
            write_text(folder / f"{fingerprint(sorted(shard))}.json", json.dumps(shard))
        found.update(shard)
    trainer.accelerator.wait_for_everyone()
    return {key: found[key] for key in wanted}


def _shard(path: Path) -> Mapping[str, float]:
    body = read_json(path, verb="train")
    return {str(key): float(value) for key, value in body.items()}


def _length(one: TokenSequence) -> tuple[int, str]:
    return (-len(one.prompt_ids) - len(one.ids), one.key)


def _rows_per_batch(trainer: Any) -> int:
    return 2 * int(trainer.args.per_device_train_batch_size)


def summed_logps(
    trainer: Any, model: Any, sequences: Sequence[TokenSequence], *, tell: Callable[[int], None] | None = None
) -> dict[str, float]:
    """Return the summed log-probs (nats) by key, read by all processes together, each its share.

    The model is one that a TRL trainer gave its fused head; it is read in evaluation mode and left in its own.
    tell(n read) is called on the main process, batch by batch.
    """
    size = _rows_per_batch(trainer)
    ordered = sorted(sequences, key=_length)
    batches = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    n, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
    # Every process makes as many forward passes, or a sharded model would wait for ever.
    turns = [batches[min(i + rank, len(batches) - 1)] for i in range(0, len(batches), n)]
    was_training = model.training
    model.eval()
    mine: list[tuple[str, float]] = []
    for number, batch in enumerate(turns, 1):
        mine += zip([one.key for one in batch], _batch_logps(trainer, model, batch), strict=True)
        if tell and trainer.accelerator.is_main_process:
            tell(min(number * n * size, len(ordered)))
    model.train(was_training)
    return dict(sorted(gather_object(mine) if n > 1 else mine))


def _batch_logps(trainer: Any, model: Any, batch: Sequence[TokenSequence]) -> list[float]:
    device = trainer.accelerator.device
    ids = padded([[*one.prompt_ids, *one.ids] for one in batch], trainer.data_collator.pad_token_id).to(device)
    attention = padded([[1] * (len(one.prompt_ids) + len(one.ids)) for one in batch], 0).to(device)
    counted = padded([[*[0] * len(one.prompt_ids), *one.mask] for one in batch], 0).to(device)
    labels = ids.masked_fill(counted == 0, -100)
    with torch.no_grad(), trainer.accelerator.autocast():
        out = model(input_ids=ids, attention_mask=attention, labels=labels, use_cache=False, fused_lm_head=True)
    return [float(value) for value in out.log_probs.sum(dim=1).float().tolist()]
