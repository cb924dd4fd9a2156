"""The result of the bench of local faults as Markdown, and which goals it meets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fault_data import FAULTS

NAMES = list(FAULTS)
PLANS = ("reward_shaping", "example_filtering", "token_filtering")
GONE, TIMES, PRECISION, CLOSED, ELSEWHERE = 0.5, 3.0, 0.9, 0.8, 0.1  # the goals


def goals(result: Mapping[str, Any], fault: str) -> dict[str, bool | None]:
    """Which goals one fault meets, by its values alone; None where it was not measured."""

    def value(arm: str, *keys: str) -> float | None:
        one = result["arms"].get(arm, {}).get(fault)
        for key in keys:
            one = one and one.get(key)
        return one[0] if one else None

    found, rates = result["tracing"][fault]["finding"], result["rates"]
    gone = value("traced", "inside", "closed")
    times = [one for how in ("random", "length") if (one := value("traced", f"times {how}")) is not None]
    told: dict[str, bool | None] = {
        "induced": rates[fault]["induced"] if rates else None,
        "found": found is not None,
        "average precision": bool(found and found["average_precision"] >= PRECISION),
        "gone by tracing": bool(found and gone is not None and gone >= GONE),
        "times chance": bool(found and min(times) >= TIMES) if times else None,
    }
    for plan in PLANS:
        closed, away = value(plan, "inside", "closed"), value(plan, "elsewhere")
        both = None if closed is None or away is None else closed >= CLOSED and abs(away) < ELSEWHERE
        told[f"{plan}: closed here, not elsewhere"] = both
    return told


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: what was found, what planting taught, and what each arm left of it."""
    lines = [
        "| fault | finding | average precision | planted of the first | unconfirmed one |",
        "|---|---|---|---|---|",
    ]
    for name, one in result["tracing"].items():
        cells = [_finding(one[key]) for key in ("finding", "unconfirmed")]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    arms = [name for name in result["arms"] if name not in ("start", "plain", "clean")]
    lines += ["", f"| gone, % | shift, nats | {' | '.join(arms)} |", "|" + "---|" * (len(arms) + 2)]
    for fault in (*NAMES, "all"):
        shift = result["arms"]["plain"][fault]["inside"]["added"]
        cells = [_interval(result["arms"][name][fault]["inside"]["closed"], 100) for name in arms]
        lines.append(f"| {fault} | {_interval(shift, 1)} | {' | '.join(cells)} |")
        cells = [_interval(result["arms"][name][fault]["elsewhere"], 100) for name in arms]
        away = result["arms"]["plain"][fault]["outside"]["added"]
        lines.append(f"| … elsewhere | {_interval(away, 1)} | {' | '.join(cells)} |")
    cells = [_interval(result["arms"][name]["nll"]["difference"], 1) for name in arms]
    lines.append(f"| NLL, arm - plain | | {' | '.join(cells)} |")
    lines += ["", f"rates: {result['rates']}", f"goals: {result['goals']}"]
    return "\n".join(lines)


def _finding(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "none | |"
    return f"{one['id']} {one['name']} (q {one['q']}) | {one['average_precision']:.2f} | {one['planted_among_first']}"


def _interval(values: Sequence[float | None], by: int) -> str:
    if None in values:
        return "–"
    digits = 0 if by == 100 else 2
    value, low, high = (f"{by * one:.{digits}f}" for one in values if one is not None)
    return f"{value} [{low}, {high}]"
