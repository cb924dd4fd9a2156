"""Training a BatchTopK autoencoder on residuals that lie on disk.

In:  a pool of tokens and settings. Out: an `Sae`.
Refuses: an empty pool. The order of batches is a function of (seed, step) alone, so a training that was killed goes on
from its checkpoint and ends in the same weights to the bit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from tiltscope.artifact import fingerprint, write_bytes
from tiltscope.errors import ModelError
from tiltscope.features import Progress
from tiltscope.sae.autoencoder import NORM_CUT, Sae


@dataclass(frozen=True)
class SaeTraining:
    """Settings of one training: sizes, and how many tokens it sees in all (some of them more than once)."""

    n_latents: int
    k: int = 32
    n_tokens: int = 1_000_000
    batch_tokens: int = 2048
    learning_rate: float = 1e-3
    seed: int = 0
    dead_after_tokens: int = 100_000
    bf16: bool = False

    @property
    def n_steps(self) -> int:
        """Number of optimiser steps."""
        return max(1, self.n_tokens // self.batch_tokens)


@dataclass(frozen=True)
class TokenPool:
    """Residuals that lie in several tensors (often mapped from disk) and the rows of each that belong to the pool."""

    parts: tuple[torch.Tensor, ...]
    rows: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.rows)

    def gather(self, numbers: np.ndarray) -> torch.Tensor:
        """Return tokens by number (0 to len - 1), in this order: (len(numbers), width) float32."""
        ends = np.cumsum([len(rows) for rows in self.rows])
        owner = np.searchsorted(ends, numbers, side="right")
        out = torch.empty((len(numbers), self.parts[0].shape[1]), dtype=torch.float32)
        for part in np.unique(owner):
            mine = np.flatnonzero(owner == part)
            first = int(ends[part - 1]) if part else 0
            rows = self.rows[part][numbers[mine] - first]
            out[torch.from_numpy(mine)] = self.parts[part][torch.from_numpy(rows)].float()
        return out

    def batches(self, size: int = 8192) -> Iterator[torch.Tensor]:
        """Yield all tokens in order: (up to size, width) float32."""
        for rows, part in zip(self.rows, self.parts, strict=True):
            for low in range(0, len(rows), size):
                yield part[torch.from_numpy(rows[low : low + size])].float()


def train_sae(
    pool: TokenPool,
    settings: SaeTraining,
    *,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Sae:
    """Train a BatchTopK autoencoder; a killed training goes on from `checkpoint` and ends in the same weights.

    The result has no model fingerprint yet; `read_with_sae` fills it in. Raises `ModelError` for an empty pool.
    """
    if len(pool) < 2:
        raise ModelError(
            "there are no response tokens to train an autoencoder on",
            found=f"{len(pool)} tokens",
            hint="do the prompts fill --max-length? Give more, or more pairs",
        )
    norm = _calibrate(pool)
    pool = _within_cut(pool, norm.mean_norm)
    norm = norm.to(device)
    key = _checkpoint_key(settings, norm)
    state = _start(settings, len(norm.mean), device)
    _resume(state, key, checkpoint)
    saved = time.monotonic()
    while state.step < settings.n_steps:
        batch = pool.gather(_numbers(len(pool), settings, state.step)).to(device)
        _train_step(state, settings, (batch - norm.mean) / norm.scale)
        if checkpoint and time.monotonic() - saved > checkpoint_seconds:
            _save_checkpoint(state, key, checkpoint)
            saved = time.monotonic()
        if progress:
            progress("autoencoder", state.step, settings.n_steps)
    return _fold(state, norm, settings, _threshold(state, norm, settings, pool))


@dataclass(frozen=True)
class _Norm:
    """How residuals are normalised for training: `(x - mean) / scale`; mean_norm is that of x itself."""

    mean: torch.Tensor
    scale: float
    mean_norm: float

    def to(self, device: str) -> _Norm:
        return _Norm(self.mean.to(device), self.scale, self.mean_norm)


def _calibrate(pool: TokenPool) -> _Norm:
    """Fix the norm cut and the normalisation once, from the whole pool."""
    total = sum(float(torch.linalg.vector_norm(part, dim=1).double().sum()) for part in pool.batches())
    mean_norm = total / len(pool)
    inside = _within_cut(pool, mean_norm)
    mean = sum((part.double().sum(dim=0) for part in inside.batches()), torch.zeros(())) / len(inside)
    mean = mean.float()
    spread = sum(float(torch.linalg.vector_norm(part - mean, dim=1).double().sum()) for part in inside.batches())
    return _Norm(mean, max(spread / len(inside), 1e-12), mean_norm)


def _within_cut(pool: TokenPool, mean_norm: float) -> TokenPool:
    """Return the pool without tokens whose norm is beyond the cut."""
    rows = []
    for own, part in zip(pool.rows, pool.parts, strict=True):
        norms = torch.linalg.vector_norm(part[torch.from_numpy(own)].float(), dim=1)
        rows.append(own[(norms <= NORM_CUT * mean_norm).numpy()])
    return TokenPool(pool.parts, tuple(rows))


@dataclass
class _State:
    """What a training step changes."""

    weights: dict[str, torch.Tensor]
    optimiser: torch.optim.Adam
    silent_tokens: torch.Tensor
    floor: float = 0.0
    step: int = 0


def _start(settings: SaeTraining, width: int, device: str) -> _State:
    """Draw the first weights: unit decoder rows, the encoder their transpose."""
    generator = torch.Generator().manual_seed(settings.seed)
    w_dec = torch.randn((settings.n_latents, width), generator=generator)
    w_dec /= torch.linalg.vector_norm(w_dec, dim=1, keepdim=True)
    weights = {
        "w_enc": w_dec.T.contiguous(),
        "b_enc": torch.zeros(settings.n_latents),
        "w_dec": w_dec,
        "b_dec": torch.zeros(width),
    }
    weights = {name: tensor.to(device).requires_grad_() for name, tensor in weights.items()}
    optimiser = torch.optim.Adam(list(weights.values()), lr=settings.learning_rate, betas=(0.9, 0.999), fused=True)
    return _State(weights, optimiser, torch.zeros(settings.n_latents, dtype=torch.int64, device=device))


def _numbers(n_pool: int, settings: SaeTraining, step: int) -> np.ndarray:
    """Return which tokens batch `step` holds: every pass is a fresh shuffle, a function of (seed, pass) only."""
    first = step * settings.batch_tokens
    wanted = np.arange(first, first + settings.batch_tokens)
    numbers = [
        _shuffle(n_pool, settings.seed, int(turn))[wanted[wanted // n_pool == turn] % n_pool]
        for turn in np.unique(wanted // n_pool)
    ]
    return np.concatenate(numbers)


@lru_cache(maxsize=2)
def _shuffle(n_pool: int, seed: int, turn: int) -> np.ndarray:
    return np.random.default_rng([seed, turn]).permutation(n_pool)


def _rate(step: int, n_steps: int) -> float:
    """Return the share of the learning rate at a step: 5 % warm-up, then flat, then down to 0 over the last 40 %."""
    done = (step + 1) / n_steps
    return min(1.0, done / 0.05, (1.0 - step / n_steps) / 0.4)


def _train_step(state: _State, settings: SaeTraining, batch: torch.Tensor) -> None:
    """Take one optimiser step on a normalised batch (batch_tokens, width)."""
    weights = state.weights
    kind = torch.bfloat16 if settings.bf16 else torch.float32
    pre = (batch.to(kind) @ weights["w_enc"].to(kind)).float() + weights["b_enc"]
    cut = _batch_cut(pre.detach(), settings.k * len(batch), state.floor)
    state.floor = 0.9 * cut
    codes = torch.where(pre >= cut, pre, 0.0)
    error = (codes.to(kind) @ weights["w_dec"].to(kind)).float() + weights["b_dec"] - batch
    loss = error.square().sum(dim=1).mean()
    fired = (codes.detach() > 0).any(dim=0)
    state.silent_tokens = torch.where(fired, 0, state.silent_tokens + len(batch))
    dead = torch.nonzero(state.silent_tokens > settings.dead_after_tokens).squeeze(1)
    if len(dead):
        loss = loss + _revival_loss(pre, -error.detach(), weights["w_dec"], dead) / 32
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    for group in state.optimiser.param_groups:
        group["lr"] = settings.learning_rate * _rate(state.step, settings.n_steps)
    state.optimiser.step()
    with torch.no_grad():
        weights["w_dec"] /= torch.linalg.vector_norm(weights["w_dec"], dim=1, keepdim=True).clamp_min(1e-8)
    state.step += 1


def _batch_cut(pre: torch.Tensor, n_active: int, floor: float) -> float:
    """Return the n_active-th highest pre-activation of the batch, never below 0.

    Only values above `floor`, a guess from the step before, are sorted; if they are too few the guess was wrong and
    all positive values are. The answer is the same either way.
    """
    for lowest in (floor, 0.0):
        candidates = pre[pre > lowest]
        if len(candidates) >= n_active:
            return float(candidates.topk(n_active, sorted=False).values.min())
    return float(candidates.min()) if len(candidates) else float("inf")


def _revival_loss(pre: torch.Tensor, missing: torch.Tensor, w_dec: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
    """Let silent latents explain what the others leave out (auxiliary loss; Gao et al. 2024, appendix A.2)."""
    own = pre[:, dead]
    n_used = min(len(dead), w_dec.shape[1] // 2)
    top = own.topk(n_used, dim=1)
    codes = torch.zeros_like(own).scatter(1, top.indices, top.values.clamp_min(0.0))
    return (codes @ w_dec[dead] - missing).square().sum(dim=1).mean()


def _threshold(state: _State, norm: _Norm, settings: SaeTraining, pool: TokenPool) -> float:
    """Return the pre-activation above which k latents fire on average, over at most 65,536 tokens of the pool."""
    n_sample = min(len(pool), 1 << 16)
    numbers = np.sort(np.random.default_rng([settings.seed, 1 << 20]).choice(len(pool), n_sample, replace=False))
    highest: list[torch.Tensor] = []
    with torch.inference_mode():
        for low in range(0, n_sample, 4096):
            batch = (pool.gather(numbers[low : low + 4096]).to(norm.mean.device) - norm.mean) / norm.scale
            pre = torch.addmm(state.weights["b_enc"], batch, state.weights["w_enc"])
            highest.append(pre.topk(min(4 * settings.k, settings.n_latents), dim=1).values.flatten())
    pool_of_pre = torch.cat(highest)
    n_active = min(settings.k * n_sample, len(pool_of_pre))
    return max(0.0, float(pool_of_pre.topk(n_active, sorted=False).values.min()))


def _fold(state: _State, norm: _Norm, settings: SaeTraining, threshold: float) -> Sae:
    """Return the autoencoder in the residual stream's own units, the normalisation folded into its weights."""
    weights = {name: tensor.detach() for name, tensor in state.weights.items()}
    b_dec = norm.mean + norm.scale * weights["b_dec"]
    return Sae(
        w_enc=weights["w_enc"].cpu(),
        b_enc=(norm.scale * (weights["b_enc"] + weights["b_dec"] @ weights["w_enc"])).cpu(),
        w_dec=weights["w_dec"].cpu(),
        b_dec=b_dec.cpu(),
        threshold=norm.scale * threshold,
        mean_norm=norm.mean_norm,
        k=settings.k,
        model_fingerprint="",
        layer=0,
        template_fingerprint="",
    )


def _checkpoint_key(settings: SaeTraining, norm: _Norm) -> str:
    return fingerprint(asdict(settings), norm.mean.cpu().numpy(), norm.scale, norm.mean_norm)


def _save_checkpoint(state: _State, key: str, path: Path) -> None:
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu() for name, tensor in state.weights.items()}
    tensors["silent_tokens"] = state.silent_tokens.cpu()
    for name, tensor in state.weights.items():
        moments = state.optimiser.state[tensor]
        tensors |= {f"{name}.{key_}": moments[key_].detach().cpu() for key_ in ("exp_avg", "exp_avg_sq", "step")}
    plain = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    facts = json.dumps({"key": key, "step": state.step, "floor": state.floor})
    write_bytes(path, bytes(save(plain, {"checkpoint": facts})))


def _resume(state: _State, key: str, path: Path | None) -> None:
    """Take up a checkpoint of this very training, if there is one."""
    from safetensors import SafetensorError, safe_open

    if path is None or not path.is_file():
        return
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads((stream.metadata() or {}).get("checkpoint", "{}"))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return
    if facts.get("key") != key:
        return
    with torch.no_grad():
        for name, tensor in state.weights.items():
            tensor.copy_(tensors[name])
            moments = {kind: tensors[f"{name}.{kind}"].to(tensor.device) for kind in ("exp_avg", "exp_avg_sq", "step")}
            state.optimiser.state[tensor] = moments
    state.silent_tokens = tensors["silent_tokens"].to(state.silent_tokens.device)
    state.step, state.floor = int(facts["step"]), float(facts["floor"])
