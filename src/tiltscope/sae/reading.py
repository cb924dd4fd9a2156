"""A dataset is read: the model runs over it once, an autoencoder is trained or loaded, features are written.

In:  pairs, settings and the folder of a study. Out: `scope/`, `features/` and the `Features`.
Refuses: what the model, the autoencoder and the features refuse. Every stage resumes where it was killed.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tiltscope.artifact import fingerprint, read_object, write_json
from tiltscope.errors import ModelError
from tiltscope.features import (
    PAIRS_PER_SHARD,
    Features,
    Progress,
    read_features,
    read_shards_ahead,
    shard_conversations,
)
from tiltscope.lm import LanguageModel, Rendered, load_model, response_losses
from tiltscope.pairs import Pair, Pairs
from tiltscope.sae.autoencoder import Sae, load_sae, save_sae
from tiltscope.sae.scope import LmSaeScope, cache_path, read_residuals
from tiltscope.sae.training import SaeTraining, TokenPool, train_sae

_RECIPE = 1
"""Changes with how an autoencoder is trained, so that a finished one of an older recipe is not taken for a new one."""

_POOL_TOKENS = 2_000_000
_POLL_S = 0.2
_HELD_OUT = 20  # one witness in twenty
REPORT_TOKENS = 4096
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class ReadSettings:
    """How a dataset is read; the defaults read it through the embedded model and an autoencoder of its own."""

    model: str | None = None
    layer: int | None = None
    sae: str = "train"
    max_length: int = 1024
    template: str | None = None
    dtype: str | None = None
    device: str | None = None
    seed: int = 0
    n_latents: int | None = None
    k: int = 32


def read_with_sae(pairs: Pairs, settings: ReadSettings, folder: Path, *, progress: Progress | None = None) -> Features:
    """Train or load the autoencoder, read every pair, and write `folder`/scope and `folder`/features.

    Raises `ModelError` for a model or an autoencoder that cannot be used, `ProductError` when no pair can be read.
    """
    trained = None if settings.sae == "train" else load_sae(Path(settings.sae))
    lm = load_for(settings, trained)
    cache = folder / "scope" / "cache"
    sae = trained or _train(pairs, settings, lm, folder / "scope", progress)
    save_sae(sae, folder / "scope" / "sae.safetensors")
    sae = load_sae(folder / "scope")
    scope = LmSaeScope(lm, sae, cache=cache)
    write_json(folder / "scope" / "scope.json", _facts(lm, sae, scope, settings))
    features = read_features(pairs, scope, folder / "features", progress=progress)
    shutil.rmtree(cache, ignore_errors=True)
    return features


def read_ahead(pairs: Pairs, settings: ReadSettings, folder: Path, *, rank: int, n_processes: int) -> None:
    """Help a `read_with_sae` of the same pairs and settings that another process is at, in the same folder.

    Every process goes through the shards from another place and skips what is there, so that nobody waits for a share
    that somebody lost. Training the autoencoder is the other process's; this one waits for it.
    """
    if settings.device is None and torch.cuda.is_available():
        settings = replace(settings, device=f"cuda:{rank % torch.cuda.device_count()}")
    trained = None if settings.sae == "train" else load_sae(Path(settings.sae))
    lm = load_for(settings, trained)
    sae = trained or _awaited(pairs, settings, lm, folder / "scope", (rank, n_processes))
    scope = LmSaeScope(lm, sae, cache=folder / "scope" / "cache")
    order = _turned(range(len(_shards(pairs))), rank, n_processes)
    read_shards_ahead(pairs, scope, folder / "features", order)


def _awaited(pairs: Pairs, settings: ReadSettings, lm: LanguageModel, folder: Path, place: tuple[int, int]) -> Sae:
    """Read residuals ahead, then wait until the autoencoder of these pairs is there."""
    key = _key(pairs, settings, lm)
    if (finished := _finished(folder)) and finished.key == key:
        return finished
    _fill_cache(lm, _turned(_pool_shards(pairs, settings.seed), *place), folder / "cache", None)
    while not ((finished := _finished(folder)) and finished.key == key):
        time.sleep(_POLL_S)
    return finished


def _turned(items: Sequence[Any], rank: int, n_processes: int) -> list[Any]:
    """The items from another place of the circle for each process."""
    start = len(items) * rank // n_processes
    return [*items[start:], *items[:start]]


def load_for(settings: ReadSettings, trained: Sae | None) -> LanguageModel:
    """Load the model that these settings name; the layer of a given autoencoder is its own."""
    layer = settings.layer if settings.layer is not None or trained is None else trained.layer
    return load_model(
        settings.model,
        layer=layer,
        device=_usable(settings.device),
        dtype=settings.dtype,
        template=settings.template,
        max_length=settings.max_length,
    )


def open_scope(study: Path) -> LmSaeScope:
    """Load the model and the autoencoder that a study was read through.

    Raises `ProductError` where the study does not say how it was read, `ModelError` where either cannot be used.
    """
    record = read_object(study / "study.json", *(one.name for one in fields(ReadSettings)), verb="read")
    settings = ReadSettings(**{one.name: record[one.name] for one in fields(ReadSettings)})
    sae = load_sae(study / "scope")
    return LmSaeScope(load_for(settings, sae), sae)


def _usable(device: str | None) -> str | None:
    """Return the device if a number can be put there and read back."""
    if device is not None:
        try:
            torch.zeros(1, device=device).item()
        except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for CUDA
            found = f"{device}: {str(error).splitlines()[0][:200]}"
            raise ModelError("this device cannot be used", found=found, hint="--device cpu, or leave it out") from error
    return device


def _facts(lm: LanguageModel, sae: Sae, scope: LmSaeScope, settings: ReadSettings) -> dict[str, Any]:
    """Return what scope.json says."""
    return {
        "name": scope.name,
        "fingerprint": scope.fingerprint,
        "model": {"name": lm.name, "family": lm.family, "fingerprint": lm.source.fingerprint},
        "layer": lm.layer,
        "n_layers": lm.n_layers,
        "width": lm.width,
        "dtype": lm.dtype_name,
        "device": lm.device.split(":")[0],
        "template_fingerprint": lm.renderer.template_fingerprint,
        "max_length": settings.max_length,
        "sae": {
            "fingerprint": sae.fingerprint,
            "n_latents": sae.n_latents,
            "k": sae.k,
            "threshold": sae.threshold,
            "mean_norm": sae.mean_norm,
            "trained_here": settings.sae == "train",
            "report": sae.report,
        },
    }


def _train(pairs: Pairs, settings: ReadSettings, lm: LanguageModel, folder: Path, progress: Progress | None) -> Sae:
    """Return the autoencoder of these pairs: the finished one in `folder` if it is theirs, or a new one."""
    key = _key(pairs, settings, lm)
    finished = _finished(folder)
    if finished and finished.key == key:
        return finished
    cache = folder / "cache"
    shards = _pool_shards(pairs, settings.seed)
    _fill_cache(lm, shards, cache, progress)
    training, held_out = _pools(lm, shards, cache, settings.seed)
    if not len(training):
        raise _nothing_to_train_on(lm, shards)
    plan = training_plan(lm, len(training), settings)
    checkpoint = cache / "checkpoint.safetensors"
    sae = train_sae(training, plan, checkpoint=checkpoint, device=lm.device, progress=progress)
    sae = replace(
        sae,
        model_fingerprint=lm.source.fingerprint,
        layer=lm.layer,
        template_fingerprint=lm.renderer.template_fingerprint,
        key=key,
    )
    report = {"training": asdict(plan), "n_pool_tokens": len(training), **_held_out_report(sae, held_out)}
    report |= _spliced_report(lm, sae, shards, settings.seed)
    return replace(sae, report=report)


def _key(pairs: Pairs, settings: ReadSettings, lm: LanguageModel) -> str:
    return fingerprint(_RECIPE, lm.fingerprint, pairs.fingerprint, settings.seed, settings.n_latents, settings.k)


def _nothing_to_train_on(lm: LanguageModel, shards: Sequence[tuple[Pair, ...]]) -> ModelError:
    """Say why no answer has a token that is read: the reasons, most frequent first, each with an example."""
    from tiltscope.lm import Unreadable

    examples: dict[str, list[str]] = {}
    for row in (row for shard in shards for row in shard):
        try:
            lm.renderer.render(row.prompt, row.chosen)
        except Unreadable as refusal:
            examples.setdefault(refusal.reason, []).append(refusal.found)
    ranked = sorted(examples.items(), key=lambda item: -len(item[1]))
    told = [f"{len(found)} × {reason} ({found[0][:200]})" for reason, found in ranked]
    return ModelError(
        "there are no response tokens to train an autoencoder on",
        found="; ".join(told) or "no token is read",
        hint="mend the template (--template), give a larger --max-length, or bring more pairs",
    )


def _finished(folder: Path) -> Sae | None:
    """Return the autoencoder in the folder; a damaged one is trained again, like one that is not there."""
    try:
        return load_sae(folder)
    except ModelError:
        return None


def _shards(pairs: Pairs) -> list[tuple[Pair, ...]]:
    return [pairs.rows[low : low + PAIRS_PER_SHARD] for low in range(0, len(pairs.rows), PAIRS_PER_SHARD)]


def _pool_shards(pairs: Pairs, seed: int) -> list[tuple[Pair, ...]]:
    """Return the shards to train on: all, or in a seeded order as many as hold about two million tokens."""
    shards = _shards(pairs)
    order = np.random.default_rng([seed, 7]).permutation(len(shards))
    sizes = [sum(len(row.chosen) + len(row.rejected) for row in shard) / CHARACTERS_PER_TOKEN for shard in shards]
    before = np.cumsum([sizes[i] for i in order]) - np.array([sizes[i] for i in order])
    return [shards[i] for i in sorted(order[before < _POOL_TOKENS])]


def _fill_cache(lm: LanguageModel, shards: Sequence[tuple[Pair, ...]], cache: Path, progress: Progress | None) -> None:
    done, total = 0, sum(len(shard) for shard in shards)
    for shard in shards:
        conversations = shard_conversations(shard)
        if not cache_path(lm, conversations, cache).is_file():
            read_residuals(lm, conversations, cache, store=True)
        done += len(shard)
        if progress:
            progress("model", done, total)


def _is_held_out(pair: Pair, seed: int) -> bool:
    digest = hashlib.sha256(f"{seed}\x1f{pair.group}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % _HELD_OUT == 0


def _pools(
    lm: LanguageModel, shards: Sequence[tuple[Pair, ...]], cache: Path, seed: int
) -> tuple[TokenPool, TokenPool]:
    """Return the pools (training, held-out) of response tokens; a witness is wholly in one of them."""
    parts: list[torch.Tensor] = []
    rows: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for shard in shards:
        read = read_residuals(lm, shard_conversations(shard), cache)
        parts.append(read.states)
        held_out = np.repeat([_is_held_out(pair, seed) for pair in shard], 2)
        owner = read.response_owner()
        for kind, kept in rows.items():
            kept.append(np.flatnonzero((owner >= 0) & (held_out[owner] == kind)))
    return TokenPool(tuple(parts), tuple(rows[False])), TokenPool(tuple(parts), tuple(rows[True]))


def training_plan(lm: LanguageModel, n_tokens: int, settings: ReadSettings) -> SaeTraining:
    """Choose sizes by the number of response tokens to train on; docs/scope.md says what they cost."""
    times = 8 if n_tokens >= 600_000 else 4 if n_tokens >= 120_000 else 2
    n_latents = settings.n_latents or max(256, times * lm.width)
    wanted = min(1_700_000, max(int(1.5 * n_tokens), min(1_000_000, 6 * n_tokens)))
    return SaeTraining(
        n_latents=n_latents,
        k=min(settings.k, n_latents // 2),
        n_tokens=wanted,
        seed=settings.seed,
        bf16=lm.dtype == torch.bfloat16,
        batch_tokens=2048,
    )


def _held_out_report(sae: Sae, pool: TokenPool) -> dict[str, Any]:
    """Return what the autoencoder misses on held-out response tokens, and how many of its latents never fire there."""
    if not len(pool):
        return {"n_held_out_tokens": 0}
    mean = sum((part.double().sum(dim=0) for part in pool.batches()), torch.zeros(())) / len(pool)
    missed, spread, n_fired, n_tokens = 0.0, 0.0, 0, 0
    fired = torch.zeros(sae.n_latents, dtype=torch.bool)
    for part in pool.batches():
        part = part[torch.from_numpy(sae.keeps(part))]
        codes = sae.activations(part)
        rebuilt = codes @ sae.w_dec + sae.b_dec
        missed += float((part - rebuilt).double().square().sum())
        spread += float((part.double() - mean).square().sum())
        fired |= (codes > 0).any(dim=0)
        n_fired += int((codes > 0).sum())
        n_tokens += len(part)
    return {
        "n_held_out_tokens": n_tokens,
        "unexplained_variance": missed / max(spread, 1e-12),
        "silent_latents": float((~fired).double().mean()),
        "mean_active_latents": n_fired / max(1, n_tokens),
    }


def _spliced_report(lm: LanguageModel, sae: Sae, shards: Sequence[tuple[Pair, ...]], seed: int) -> dict[str, Any]:
    """Return the loss on held-out responses: of the model as it is, through the autoencoder, and with a mean there."""
    texts: list[Rendered] = []
    for row in (row for shard in shards for row in shard if _is_held_out(row, seed)):
        if sum(len(text.ids) for text in texts) < REPORT_TOKENS:
            texts += _readable(lm, row)
    if not texts:
        return {}
    own = sae.to(lm.device)
    clean, spliced, ablated = response_losses(lm, texts, [None, own.reconstruct, lambda x: own.b_dec.expand_as(x)])
    recovered = (ablated - spliced) / (ablated - clean) if ablated > clean else None
    return {
        "loss_nats": {"clean": clean, "spliced": spliced, "mean_ablated": ablated, "n_texts": len(texts)},
        "loss_recovered": recovered,
    }


def _readable(lm: LanguageModel, row: Pair) -> list[Rendered]:
    from tiltscope.lm import Unreadable

    try:
        return [lm.renderer.render(row.prompt, response) for response in (row.chosen, row.rejected)]
    except Unreadable:
        return []
