"""A sparse autoencoder in inference form.

In:  residuals of a model's layer, or a safetensors file.
Out: activations, reconstructions, the direction in which latents write.
Refuses: files of another layout. Only stored numbers are used (threshold, norm cut), so a text reads the same whatever
stands beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse  # type: ignore[import-untyped,unused-ignore]

from tiltscope.artifact import fingerprint, write_bytes
from tiltscope.errors import ModelError

FORMAT = "tiltscope-sae-1"
NORM_CUT = 6.0
"""Tokens whose residual norm is above this many times the calibrated mean are not read (method, section 2)."""

_ENCODE_ROWS = 4096


@dataclass(frozen=True)
class Sae:
    """A BatchTopK autoencoder in inference form, in the residual stream's own units.

    `pre = (x - b_dec) @ W_enc + b_enc`; a latent fires where `pre > threshold`, with activation `pre`; the
    reconstruction is `activations @ W_dec + b_dec`. W_enc (d_in, n_latents), W_dec (n_latents, d_in) with unit rows.
    `mean_norm` is the mean residual norm of the tokens it was calibrated on.

    Source: Bussmann, Leask and Nanda 2024, "BatchTopK Sparse Autoencoders".
    """

    w_enc: torch.Tensor
    b_enc: torch.Tensor
    w_dec: torch.Tensor
    b_dec: torch.Tensor
    threshold: float
    mean_norm: float
    k: int
    model_fingerprint: str
    layer: int
    template_fingerprint: str
    key: str = ""
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def n_latents(self) -> int:
        """Number of latents."""
        return int(self.w_enc.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any number that a reading uses."""
        arrays = [tensor.cpu().numpy() for tensor in (self.w_enc, self.b_enc, self.w_dec, self.b_dec)]
        return fingerprint(*arrays, self.threshold, self.mean_norm)

    def to(self, device: str) -> Sae:
        """Return the same autoencoder with its weights on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("w_enc", "b_enc", "w_dec", "b_dec")}
        return replace(self, **moved)

    def keeps(self, states: torch.Tensor) -> np.ndarray:
        """Return which rows of states (n_tokens, d_in) are read: those within the norm cut."""
        norms = torch.linalg.vector_norm(states.float(), dim=1)
        return np.asarray((norms <= NORM_CUT * self.mean_norm).cpu().numpy())

    def activations(self, states: torch.Tensor) -> torch.Tensor:
        """Return (n_tokens, n_latents) activations, 0 where a latent does not fire."""
        pre = torch.addmm(self.b_enc, states.float() - self.b_dec, self.w_enc)
        return torch.where(pre > max(self.threshold, 0.0), pre, torch.zeros((), device=pre.device))

    def encode(self, states: torch.Tensor) -> sparse.csr_array:
        """Return the activations of states (n_tokens, d_in) as (n_tokens, n_latents) CSR float32."""
        parts = [_sparse(self.activations(part)) for part in torch.split(states.to(self.w_enc.device), _ENCODE_ROWS)]
        if not parts:
            return sparse.csr_array((0, self.n_latents), dtype=np.float32)
        return sparse.csr_array(sparse.vstack(parts, format="csr"))

    def encode_array(self, states: np.ndarray) -> sparse.csr_array:
        """Return the activations of states (n_tokens, d_in), a NumPy array, as (n_tokens, n_latents) CSR float32."""
        return self.encode(torch.from_numpy(np.ascontiguousarray(states, np.float32)))

    def reconstruct(self, states: torch.Tensor) -> torch.Tensor:
        """Return what the autoencoder makes of states: (n_tokens, d_in) float32."""
        return self.activations(states) @ self.w_dec + self.b_dec

    def direction(self, latents: Sequence[int]) -> np.ndarray:
        """Return the unit vector in which these latents write: (d_in,) float32."""
        total = self.w_dec[list(latents)].sum(dim=0)
        return np.asarray((total / torch.linalg.vector_norm(total)).cpu().numpy())


def _sparse(dense: torch.Tensor) -> sparse.csr_array:
    rows, columns = torch.nonzero(dense, as_tuple=True)
    values = dense[rows, columns].cpu().numpy()
    counts = torch.bincount(rows, minlength=dense.shape[0]).cpu().numpy()
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]).astype(np.int32)
    return sparse.csr_array((values, columns.cpu().numpy().astype(np.int32), indptr), shape=tuple(dense.shape))


def save_sae(sae: Sae, path: Path) -> None:
    """Write an autoencoder as safetensors; the layout is documented in docs/scope.md."""
    from safetensors.torch import save

    tensors = {"W_enc": sae.w_enc, "b_enc": sae.b_enc, "W_dec": sae.w_dec, "b_dec": sae.b_dec}
    tensors["threshold"] = torch.tensor([sae.threshold], dtype=torch.float64)
    tensors["mean_norm"] = torch.tensor([sae.mean_norm], dtype=torch.float64)
    facts = {
        "format": FORMAT,
        "d_in": sae.w_enc.shape[0],
        "n_latents": sae.n_latents,
        "k": sae.k,
        "model_fingerprint": sae.model_fingerprint,
        "layer": sae.layer,
        "template_fingerprint": sae.template_fingerprint,
        "key": sae.key,
        "report": sae.report,
    }
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, bytes(save(plain, {"sae": json.dumps(facts, sort_keys=True)})))


def load_sae(path: Path) -> Sae:
    """Read an autoencoder from a file, or from the folder `scope` of a study. Raises `ModelError`."""
    from safetensors import SafetensorError, safe_open

    path = path / "sae.safetensors" if path.is_dir() else path
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads((stream.metadata() or {}).get("sae", "{}"))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        hint = "give a file of the layout in docs/scope.md, or the folder scope of a study"
        raise ModelError("this autoencoder cannot be read", where=str(path), found=str(error), hint=hint) from error
    _check_layout(path, facts, tensors)
    return Sae(
        w_enc=tensors["W_enc"],
        b_enc=tensors["b_enc"],
        w_dec=tensors["W_dec"],
        b_dec=tensors["b_dec"],
        threshold=float(tensors["threshold"][0]),
        mean_norm=float(tensors["mean_norm"][0]),
        **{name: facts[name] for name in ("k", "model_fingerprint", "layer", "template_fingerprint", "key", "report")},
    )


def _check_layout(path: Path, facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    hint = "the layout is described in docs/scope.md"
    if facts.get("format") != FORMAT:
        found = f"format {facts.get('format')}"
        raise ModelError("this file is not an autoencoder of a known layout", where=str(path), found=found, hint=hint)
    d_in, n_latents = facts["d_in"], facts["n_latents"]
    shapes = {"W_enc": (d_in, n_latents), "b_enc": (n_latents,), "W_dec": (n_latents, d_in), "b_dec": (d_in,)}
    shapes |= {"threshold": (1,), "mean_norm": (1,)}
    for name, shape in shapes.items():
        if name not in tensors or tuple(tensors[name].shape) != shape:
            found = str(tuple(tensors[name].shape)) if name in tensors else "absent"
            raise ModelError(f"{name} of this autoencoder should be {shape}", where=str(path), found=found, hint=hint)
