"""Answers from an OpenAI-compatible endpoint, for those who have no weights.

In:  an address, a model's name; prompts as turns.
Out: `EndpointAnswers`, an answer function.
Refuses: to hand on an error, a time-out or nonsense as an answer: it becomes None and is counted with its reason. An
endpoint that fails many times in a row is given up (`ModelError`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tiltscope.errors import ModelError
from tiltscope.evaluation.judge import check_address, post_json
from tiltscope.pairs import Turn

__all__ = ["EndpointAnswers"]


@dataclass
class EndpointAnswers:
    """A chat-completions server. `url` ends where `/chat/completions` is appended; timeout in seconds.

    One request per answer (not every server knows `n`), each with a seed of its own; `retries` more after a failure.
    `failures` counts what went wrong.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 120.0
    retries: int = 1
    give_up_after: int = 8
    failures: Counter[str] = field(default_factory=Counter)
    _in_a_row: int = 0

    def __post_init__(self) -> None:
        check_address(self.url)

    @property
    def name(self) -> str:
        """Which model, where; what answers are kept under."""
        return f"{self.model} at {self.url}"

    def __call__(
        self, prompts: Sequence[tuple[Turn, ...]], *, n: int, seed: int, temperature: float, max_new_tokens: int
    ) -> list[list[str | None]]:
        """Ask for n answers per prompt.

        Raises:
            ModelError: `give_up_after` answers in a row did not come.
        """
        settings = {"model": self.model, "temperature": temperature, "max_tokens": max_new_tokens}
        out: list[list[str | None]] = []
        for turns in prompts:
            messages = [{"role": turn.role, "content": turn.content} for turn in turns]
            bodies = [{**settings, "messages": messages, "seed": (seed + index) & 0x7FFFFFFF} for index in range(n)]
            out.append([self._answer(body) for body in bodies])
        return out

    def _answer(self, body: dict[str, object]) -> str | None:
        problem = ""
        for _ in range(1 + self.retries):
            found, problem = self._once(body)
            if found is not None:
                self._in_a_row = 0
                return found
        self.failures[problem] += 1
        self._in_a_row += 1
        if self._in_a_row >= self.give_up_after:
            raise ModelError(
                f"the endpoint failed {self._in_a_row} times in a row",
                where=self.url,
                found=problem,
                hint="answers so far are kept: start again when it answers",
            )
        return None

    def _once(self, body: dict[str, object]) -> tuple[str | None, str]:
        """The text, or None and what went wrong."""
        address = f"{self.url.rstrip('/')}/chat/completions"
        reply = post_json(address, body, api_key=self.api_key, timeout=self.timeout)
        if isinstance(reply, str):
            return None, reply
        try:
            text = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            return None, "the reply holds no answer"
        return (text, "") if isinstance(text, str) else (None, "the reply holds no answer")
