"""Teacher forcing: what a model would say next in a text that it did not write. Nothing is sampled.

In:  a policy; rendered conversations; groups of tokens, or several ways to go on after one prefix.
Out: the probability of each group at every place of a response; the log-probability of every continuation.
Refuses: nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tiltscope.lm.policy import LOGP_TOKENS_PER_BATCH, Policy
from tiltscope.lm.reading import length_batches
from tiltscope.lm.renderer import Rendered

__all__ = ["Branches", "branch_logps", "next_token_mass"]

_HEADS_AT_ONCE = 256  # places; a distribution over a large vocabulary is half a megabyte


def next_token_mass(policy: Policy, texts: Sequence[Rendered], groups: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (which text, (n_tokens, n_groups) probability that the token is one of the group), longest texts first.

    A row per read token of the response, before which the model is asked. groups: (n_vocabulary, n_groups) bool.
    """
    member = torch.as_tensor(groups, dtype=torch.float32, device=policy.device)
    for batch in length_batches([len(text.ids) for text in texts], tokens_per_batch=LOGP_TOKENS_PER_BATCH):
        longest = max(len(texts[i].ids) for i in batch)
        padded = torch.tensor([[*texts[i].ids, *[0] * (longest - len(texts[i].ids))] for i in batch])
        with torch.inference_mode():
            states = policy.model.model(input_ids=padded.to(policy.device), use_cache=False).last_hidden_state
            for row, i in enumerate(batch):
                before = torch.as_tensor(texts[i].response.positions - 1, device=policy.device)
                told = []
                for some in torch.split(before, _HEADS_AT_ONCE):
                    logits = policy.model.lm_head(states[row, some]).float()
                    told.append(torch.softmax(logits, dim=-1) @ member)
                yield i, torch.cat(told).cpu().numpy()


@dataclass(frozen=True)
class Branches:
    """One prefix and several ways to go on, as one row of tokens: branch 0 is the prefix, `at` says where a token is.

    `counted` marks the tokens whose log-probability is asked for.
    """

    ids: tuple[int, ...]
    branch: np.ndarray
    at: np.ndarray
    counted: np.ndarray

    @staticmethod
    def of(texts: Sequence[Sequence[int]], spans: Sequence[np.ndarray]) -> Branches:
        """Lay out texts that begin alike; spans: positions of the tokens that count, in order, one array per text."""
        n = min(int(span[0]) for span in spans)
        while any(list(text[:n]) != list(texts[0][:n]) for text in texts):
            n -= 1
        ends = [int(span[-1]) + 1 for span in spans]
        at = [np.arange(n, end) for end in ends]
        return Branches(
            (*texts[0][:n], *(id for text, end in zip(texts, ends, strict=True) for id in text[n:end])),
            np.repeat(np.arange(len(texts) + 1), [n, *(end - n for end in ends)]),
            np.concatenate([np.arange(n), *at]),
            np.concatenate([np.zeros(n, bool), *(np.isin(own, span) for own, span in zip(at, spans, strict=True))]),
        )

    @property
    def sees(self) -> np.ndarray:
        """(n, n) bool: each token sees the prefix and what stands before it in its own branch."""
        same = (self.branch[:, None] == self.branch[None, :]) | (self.branch == 0)[None, :]
        return np.asarray(same & (self.at[:, None] >= self.at[None, :]))


def branch_logps(policy: Policy, branches: Branches) -> np.ndarray:
    """Return the summed log-probability (nats) of what counts of each branch: (n_branches,) float64.

    The prefix is read once for all branches; a branch gets what it would get alone, to rounding of the number format.
    """
    ids = torch.tensor([branches.ids], device=policy.device)
    at = torch.as_tensor(branches.at, device=policy.device)[None]
    mask = torch.zeros(1, 1, len(branches.ids), len(branches.ids), dtype=policy.dtype, device=policy.device)
    mask.masked_fill_(~torch.as_tensor(branches.sees, device=policy.device), torch.finfo(policy.dtype).min)
    last = int((branches.branch == 0).sum()) - 1
    own = np.flatnonzero(branches.counted)
    before = np.where(branches.at[own] == last + 1, last, own - 1)  # the token that predicts each
    with torch.inference_mode():
        states = policy.model.model(input_ids=ids, position_ids=at, attention_mask=mask, use_cache=False)
        logits = policy.model.lm_head(states.last_hidden_state[0, torch.as_tensor(before)]).float()
        nats = -torch.nn.functional.cross_entropy(logits, ids[0, torch.as_tensor(own)], reduction="none")
    return np.bincount(branches.branch[own], nats.cpu().numpy(), minlength=branches.branch[-1] + 1)[1:]
