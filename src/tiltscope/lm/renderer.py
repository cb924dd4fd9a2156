"""Conversations become token ids, and every read token knows its characters.

In:  prompt turns and a response as text; a tokenizer and a chat template.
Out: `Rendered`: ids, how many are the prompt's, and the place of every read token in its text.
Refuses: tokenizers without offsets, chat templates that rewrite what they are given, and text from the data as a
special token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np

from tiltscope.artifact import fingerprint
from tiltscope.errors import ModelError
from tiltscope.pairs import Turn

__all__ = ["Rendered", "Renderer", "TokenSpan", "Unreadable"]

# Some published templates print today's date unless given one; a reading must not depend on the day.
_DATE = "26 Jul 2024"
_MARK = "\u2e28tiltscope turn {}\u2e29"
_SURROGATE = re.compile("[\ud800-\udfff]")


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
