"""Answers to prompts, kept on disk as they come.

In:  an answer function, prompts, settings, a folder.
Out: `Answer`s (prompt id, seed, index, text), and FOLDER/answers.jsonl, which only ever grows.
Refuses: an answer function that gives back another number of texts than asked for (`ModelError`). A missing answer is
None: it is counted, never kept, and asked for again the next time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tiltscope.artifact import fingerprint
from tiltscope.behaviours.measured import Prompt
from tiltscope.errors import ModelError, UsageError
from tiltscope.pairs import Turn

__all__ = ["Answer", "AnswerFunction", "EvaluationSettings", "collect_answers", "read_answers"]

_FILE = "answers.jsonl"


class AnswerFunction(Protocol):
    """Anything that answers: per prompt (its turns) a list of n texts; None where no answer came.

    The same seed and the same prompts must give the same answers where the model allows it.
    """

    def __call__(
        self, prompts: Sequence[tuple[Turn, ...]], *, n: int, seed: int, temperature: float, max_new_tokens: int
    ) -> Sequence[Sequence[str | None]]: ...


@dataclass(frozen=True)
class EvaluationSettings:
    """How a model is asked."""

    model: str
    """What identifies the model: answers are reused only under the same name (a weights fingerprint, an address)."""
    n_answers: int = 1
    """Answers per prompt and seed."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the sampling. Seeds of a training are separate evaluations."""
    temperature: float = 0.7
    """0: the likeliest answer (then one answer per prompt is all there is)."""
    max_new_tokens: int = 256
    """Where an answer is cut."""
    batch_size: int = 16
    """Prompts per call; what a kill can lose."""

    def __post_init__(self) -> None:
        wrong = [name for name in ("n_answers", "max_new_tokens", "batch_size") if getattr(self, name) < 1]
        if wrong or not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise UsageError("these settings ask for nothing, or for a seed twice", found=str(wrong or self.seeds))
        if not 0 <= self.temperature <= 10 or not self.model.strip():
            raise UsageError("a temperature from 0 to 10 and a name of the model are needed", found=str(self))
        if self.temperature == 0 and self.n_answers * len(self.seeds) > 1:
            raise UsageError("at temperature 0 every answer to a prompt is the same", hint="one answer, one seed")


@dataclass(frozen=True)
class Answer:
    """One answer; text None: none came."""

    prompt_id: str
    seed: int
    index: int
    text: str | None


def answer_key(prompt: Prompt, seed: int, settings: EvaluationSettings) -> str:
    """Return what an answer depends on, as a fingerprint (not: batch size, how many other answers, the prompt's id)."""
    turns = [(turn.role, turn.content) for turn in prompt.turns]
    return fingerprint(settings.model, turns, seed, settings.temperature, settings.max_new_tokens)


def collect_answers(
    answer: AnswerFunction,
    prompts: Sequence[Prompt],
    settings: EvaluationSettings,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Answer, ...]:
    """Return n answers per prompt and seed, those on disk first; each batch is on disk before the next is asked.

    A batch whose answers are all there is not asked again. progress(done, total) counts prompts times seeds.

    Raises:
        ModelError: the answer function gives back something else than lists of texts.
    """
    held = _read(folder / _FILE)
    total, done = len(prompts) * len(settings.seeds), 0
    found: list[Answer] = []
    for seed in settings.seeds:
        for start in range(0, len(prompts), settings.batch_size):
            batch = prompts[start : start + settings.batch_size]
            if not all(_there(held, one, seed, settings) for one in batch):
                held = _ask(answer, batch, seed, settings, folder) | held
            found += [a for one in batch for a in _answers(held, one, seed, settings)]
            done += len(batch)
            if progress is not None:
                progress(done, total)
    return tuple(found)


def _there(held: Mapping[tuple[str, int], str], prompt: Prompt, seed: int, settings: EvaluationSettings) -> bool:
    key = answer_key(prompt, seed, settings)
    return all((key, index) in held for index in range(settings.n_answers))


def _answers(
    held: Mapping[tuple[str, int], str], prompt: Prompt, seed: int, settings: EvaluationSettings
) -> list[Answer]:
    key = answer_key(prompt, seed, settings)
    return [Answer(prompt.id, seed, index, held.get((key, index))) for index in range(settings.n_answers)]


def _ask(
    answer: AnswerFunction, batch: Sequence[Prompt], seed: int, settings: EvaluationSettings, folder: Path
) -> dict[tuple[str, int], str]:
    """Ask for one batch and append what came; of two lines for one answer the first counts.

    The seed passed on depends on the prompts too, never on the model.

    So prompts of different batches do not share their random draws, and two models asked the same do.
    """
    drawn = int(fingerprint(seed, [one.text for one in batch])[:8], 16) & 0x7FFFFFFF
    texts = answer(
        [one.turns for one in batch],
        n=settings.n_answers,
        seed=drawn,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
    )
    _check(texts, len(batch), settings)
    lines, fresh = [], {}
    for prompt, given in zip(batch, texts, strict=True):
        key = answer_key(prompt, seed, settings)
        for index, text in enumerate(given):
            if text is not None:
                fresh[(key, index)] = text
                row = {"key": key, "prompt_id": prompt.id, "seed": seed, "index": index, "text": text}
                lines.append(json.dumps(row, ensure_ascii=True))
    _append(folder / _FILE, lines)
    return fresh


def _check(texts: Sequence[Sequence[str | None]], n_prompts: int, settings: EvaluationSettings) -> None:
    sizes = [len(one) if isinstance(one, list | tuple) else -1 for one in texts]
    if len(texts) != n_prompts or any(size != settings.n_answers for size in sizes):
        raise ModelError(
            "the answer function gave back another number of answers",
            where=settings.model,
            found=f"{len(texts)} lists of {sorted(set(sizes))} for {n_prompts} prompts of {settings.n_answers} answers",
        )
    odd = [type(text).__name__ for one in texts for text in one if not isinstance(text, str | None)]
    if odd:
        raise ModelError("an answer is not text", where=settings.model, found=odd[0])


def _append(path: Path, lines: Sequence[str]) -> None:
    """Append whole lines and wait until they are on the disk; a torn last line of a killed run is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size:
            stream.seek(size - 1)
            if stream.read(1) != b"\n":
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.write("".join(line + "\n" for line in lines).encode())
        stream.flush()
        os.fsync(stream.fileno())


def _rows(path: Path) -> list[dict[str, object]]:
    """Whole lines of the file; a torn last line is what a kill leaves and is no answer."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
            row = row if isinstance(row["text"], str) and isinstance(row["index"], int) else None
        except (ValueError, KeyError, TypeError):
            row = None
        if row is None:
            raise UsageError("a line of the answers on disk is damaged", where=f"{path}:{number}", hint="remove it")
        rows.append(row)
    return rows


def _read(path: Path) -> dict[tuple[str, int], str]:
    rows = reversed(_rows(path))  # the first line of an answer counts
    return {(str(row["key"]), int(str(row["index"]))): str(row["text"]) for row in rows}


def read_answers(folder: Path, prompts: Sequence[Prompt], settings: EvaluationSettings) -> tuple[Answer, ...]:
    """Return the answers on disk to these prompts under these settings; text None where there is none."""
    held = _read(folder / _FILE)
    return tuple(a for seed in settings.seeds for one in prompts for a in _answers(held, one, seed, settings))
