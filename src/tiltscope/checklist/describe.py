"""Counts of a dataset: shape, refusals, repeats, contradictions, lengths, turns, and a few pairs to look at.

In:  `Pairs`.
Out: a JSON-able mapping.
Refuses: to hide: every list that is cut says how long it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from tiltscope.pairs import REASONS, Pair, Pairs, Turn
from tiltscope.stats import Clusters, tau_test

__all__ = ["describe", "interval", "shown_domains"]

_N_ROWS = 20
_N_SAMPLES = 3
_MAX_DOMAINS = 10
_CLIP = 600
_BYTES_PER_TOKEN = 4.0  # English through a byte-pair vocabulary; other scripts cost more bytes and more tokens alike

_Prompt = tuple[Turn, ...]


def describe(pairs: Pairs, *, max_tokens: int, seed: int) -> dict[str, Any]:
    """Return everything of the product but the checklist."""
    rows = pairs.rows
    return {
        "source": pairs.source,
        "shape": pairs.shape,
        "pairs_fingerprint": pairs.fingerprint,
        "n_records": pairs.n_records,
        "n_pairs": len(rows),
        "n_refused": len(pairs.refused),
        "n_groups": len({pair.group for pair in rows}),
        "refused": _refused(pairs),
        "extra_columns": sorted({key for pair in rows for key in pair.extra}),
        "domain_column": pairs.domain_column,
        "domains": [{"domain": name, "n_pairs": n} for name, n in _domains(rows).most_common()],
        "repeats": _repeats(rows),
        "contradictions": _contradictions(rows),
        "length": _length(rows),
        "cut": _cut(rows, max_tokens),
        "turns": _turns(rows),
        "samples": _samples(rows, seed),
    }


def interval(values: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Return mean, 95 % interval (CR2 by group; None under two groups), n_pairs and n_groups of one value per pair."""
    clusters = Clusters.of(np.asarray(groups, dtype=str))
    mean = float(values.mean()) if len(values) else None
    low = high = None
    if clusters.n_groups >= 2:
        bounds = tau_test(values, clusters).interval()
        low, high = (float(end) if np.isfinite(end) else None for end in (bounds.low, bounds.high))
    return {"mean": mean, "ci_low": low, "ci_high": high, "n_pairs": len(values), "n_groups": clusters.n_groups}


def shown_domains(rows: Sequence[Pair]) -> list[str]:
    """The domains that get their own samples and checklist rows: the ten largest."""
    return [name for name, _ in _domains(rows).most_common(_MAX_DOMAINS)]


def _domains(rows: Sequence[Pair]) -> Counter[str]:
    return Counter(sorted(pair.domain for pair in rows if pair.domain is not None))


def _refused(pairs: Pairs) -> list[dict[str, Any]]:
    by_reason: dict[str, list[Any]] = defaultdict(list)
    for one in pairs.refused:
        by_reason[one.reason].append(one)
    return [
        {
            "reason": reason,
            "explanation": REASONS.get(reason, ""),
            "n": len(ones),
            "rows": [one.row for one in ones[:_N_ROWS]],
            "found": ones[0].found,
        }
        for reason, ones in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _repeats(rows: Sequence[Pair]) -> dict[str, Any]:
    """Exact repeats of a pair, and how prompts are shared."""
    repeats = [pair.row for pair in rows if "-" in pair.id]
    prompts = Counter(pair.prompt for pair in rows)
    groups = Counter(pair.group for pair in rows)
    largest, n_largest = min(groups.items(), key=lambda item: (-item[1], item[0])) if groups else ("", 0)
    members = [pair for pair in rows if pair.group == largest]
    return {
        "n_exact": len(repeats),
        "exact_rows": repeats[:_N_ROWS],
        "n_prompts": len(prompts),
        "n_pairs_sharing_a_prompt": sum(n for n in prompts.values() if n > 1),
        "largest_group": {
            "n_pairs": n_largest,
            "prompt": _clip(members[0].prompt_text)["text"] if members else "",
            "rows": [pair.row for pair in members[:_N_ROWS]],
        },
    }


def _contradictions(rows: Sequence[Pair]) -> dict[str, Any]:
    """The same two answers preferred both ways, and answers to one prompt that win here and lose there."""
    first: dict[tuple[_Prompt, str, str], int] = {}
    swapped = []
    wins: dict[tuple[_Prompt, str], int] = {}
    losses: dict[tuple[_Prompt, str], int] = {}
    for pair in rows:
        first.setdefault((pair.prompt, pair.chosen, pair.rejected), pair.row)
        wins.setdefault((pair.prompt, pair.chosen), pair.row)
        losses.setdefault((pair.prompt, pair.rejected), pair.row)
        if (pair.prompt, pair.rejected, pair.chosen) in first:
            swapped.append([first[pair.prompt, pair.rejected, pair.chosen], pair.row])
    both = sorted([wins[key], losses[key]] for key in wins.keys() & losses.keys())
    return {
        "n_swapped": len(swapped),
        "swapped_rows": swapped[:_N_ROWS],
        "n_answers_that_win_and_lose": len(both),
        "answer_rows": both[:_N_ROWS],
        "n_answers": len(wins.keys() | losses.keys()),
    }


def _length(rows: Sequence[Pair]) -> dict[str, Any]:
    """Characters and words; the ratio is the geometric mean of chosen / rejected."""
    groups = [pair.group for pair in rows]
    out: dict[str, Any] = {}
    for unit in ("characters", "words"):
        sizes = np.array([[_size(pair.chosen, unit), _size(pair.rejected, unit)] for pair in rows], dtype=np.float64)
        estimate = interval(np.log(sizes[:, 0] / sizes[:, 1]), groups)
        ends = {key: None if estimate[key] is None else float(np.exp(estimate[key])) for key in ("ci_low", "ci_high")}
        out[unit] = {
            "chosen_median": float(np.median(sizes[:, 0])),
            "rejected_median": float(np.median(sizes[:, 1])),
            "ratio": float(np.exp(estimate["mean"])),
            **ends,
            "chosen_longer": float((sizes[:, 0] > sizes[:, 1]).mean()),
            "rejected_longer": float((sizes[:, 0] < sizes[:, 1]).mean()),
        }
    return out


def _size(text: str, unit: str) -> int:
    return len(text) if unit == "characters" else max(1, len(text.split()))


def _cut(rows: Sequence[Pair], max_tokens: int) -> dict[str, Any]:
    """What a limit on the whole conversation would cut, in tokens estimated from UTF-8 bytes."""
    prompts = np.array([len(pair.prompt_text.encode()) for pair in rows]) / _BYTES_PER_TOKEN
    sides = {"chosen": [pair.chosen for pair in rows], "rejected": [pair.rejected for pair in rows]}
    out: dict[str, Any] = {"max_tokens": max_tokens, "estimated_bytes_per_token": _BYTES_PER_TOKEN}
    over = np.zeros(len(rows), dtype=bool)
    for side, texts in sides.items():
        total = prompts + np.array([len(text.encode()) for text in texts]) / _BYTES_PER_TOKEN
        cut = np.maximum(0.0, total - max_tokens)
        over |= cut > 0
        out[side] = {"n_cut": int((cut > 0).sum()), "share_of_tokens_cut": float(cut.sum() / max(total.sum(), 1.0))}
    out["n_pairs_cut"] = int(over.sum())
    out["n_prompts_over"] = int((prompts >= max_tokens).sum())
    out["rows"] = [pair.row for pair, is_over in zip(rows, over, strict=True) if is_over][:_N_ROWS]
    return out


def _turns(rows: Sequence[Pair]) -> dict[str, Any]:
    n_turns = Counter(sum(turn.role != "system" for turn in pair.prompt) for pair in rows)
    systems = Counter(turn.content for pair in rows for turn in pair.prompt if turn.role == "system")
    odd = [pair.row for pair in rows if not _alternates(pair.prompt)]
    return {
        "prompt_turns": [{"turns": turns, "n_pairs": n} for turns, n in sorted(n_turns.items())],
        "n_with_system": sum(any(turn.role == "system" for turn in pair.prompt) for pair in rows),
        "n_system_prompts": len(systems),
        "n_not_alternating": len(odd),
        "not_alternating_rows": odd[:_N_ROWS],
    }


def _alternates(prompt: _Prompt) -> bool:
    """Whether user and assistant take turns and the user has the last word; many chat templates insist on it."""
    roles = [turn.role for turn in prompt if turn.role in ("user", "assistant")]
    return roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


def _samples(rows: Sequence[Pair], seed: int) -> list[dict[str, Any]]:
    """Three seeded pairs of each shown domain, or of the whole."""
    out = []
    generator = np.random.default_rng(seed)
    domains: list[str | None] = [*shown_domains(rows)]
    for domain in domains or [None]:
        members = [pair for pair in rows if pair.domain == domain] if domain is not None else list(rows)
        picked = np.sort(generator.choice(len(members), min(_N_SAMPLES, len(members)), replace=False))
        out += [{"domain": domain, **_sample(members[i])} for i in picked]
    return out


def _sample(pair: Pair) -> dict[str, Any]:
    prompt = "\n\n".join(f"{turn.role}: {turn.content}" for turn in pair.prompt)
    sides = {"prompt": _clip(prompt), "chosen": _clip(pair.chosen), "rejected": _clip(pair.rejected)}
    return {"row": pair.row, "id": pair.id, **sides}


def _clip(text: str) -> dict[str, Any]:
    return {"text": text[:_CLIP], "n_characters": len(text)}
