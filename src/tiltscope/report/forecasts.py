"""A forecast and its card, told on a terminal of 80 columns and in the report.

In:  the products of `predict` as plain objects.
Out: text, or what the report shows; whatever comes from data is made visible first.
Refuses: to show a score without its interval, its ceiling and its nulls; in a report, a forecast of other features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiltscope.artifact import read_object
from tiltscope.report.text import fit, number, one_line, wrapped

__all__ = ["forecast_content", "render_card", "render_forecast"]

Row = Mapping[str, Any]

_WIDTH = 80
_TRAITS, _UNITS = 20, 12


def render_forecast(product: Row) -> str:
    """Return the rates forecast, the biggest changes first, and the concepts with names."""
    told = (
        f"Forecast from {number(product['n_pairs'])} pairs and {number(product['n_own'])} answers of the starting "
        "model: what plain training on these pairs changes. How good such forecasts are: --before, --after."
    )
    lines = [*wrapped(told, _WIDTH), "", f"  {fit('answers that show it, by rule', 36)}     now   after  90 %"]
    traits = sorted(product["traits"], key=lambda one: -abs(one["after"] - one["now"]))
    lines += [_trait(one) for one in traits[:_TRAITS]]
    lines += _rest(len(traits), _TRAITS, "behaviours")
    named = [one for one in product["units"] if one["name"]]
    lines += ["", "  concepts of confirmed findings, change in sd before any saturation"]
    lines += [f"  {fit(one_line(str(one['name'])), 60)} {one[product['primary']]:+8.2f}" for one in named[:_UNITS]]
    lines += _rest(len(named), _UNITS, "named concepts")
    outside = len(product["outside"])
    if outside:
        note = (
            f"{number(outside)} latents of the data are shown by fewer than 3 of the model's own answers: no forecast."
        )
        lines += ["", *wrapped(note, _WIDTH)]
    return "\n".join(lines)


def _rest(n: int, shown: int, noun: str) -> list[str]:
    return [f"  and {number(n - shown)} more {noun} in prediction/forecast.json"] if n > shown else []


def _trait(one: Row) -> str:
    ends = f"[{100 * one['low']:.0f}, {100 * one['high']:.0f}]"
    return f"  {fit(one_line(one['name']), 36)} {100 * one['now']:5.1f} % {100 * one['after']:5.1f} %  {ends}"


def render_card(card: Row) -> str:
    """Return the scores of every predictor beside ceiling and nulls, everywhere and by kind of prompt, then rates."""
    lines = [
        f"{number(card['n_units'])} concepts ({card['n_effective']:.0f} independent ones), "
        f"{number(card['n_prompts'])} prompts, {number(card['n_seeds'])} training seeds",
        *wrapped(_trained_on(card), _WIDTH),
        *wrapped(f"declared for {card['objective']['objective']} ({card['objective']['said_by']})", _WIDTH),
        *_scores(card),
    ]
    local = card["conditional"]
    if local is not None:
        told = f"after one kind of prompt more than after the rest: {len(local['kinds'])} kinds, {_cells(local)}"
        lines += ["", *wrapped(told, _WIDTH), *_scores(local)]
    return "\n".join([*lines, "", *_rates(card["traits"])])


def _trained_on(card: Row) -> str:
    """A warning where prompts of the evaluations were trained on; empty where none was."""
    n = card.get("n_in_study", 0)
    if not n:
        return ""
    return f"Careful: {number(n)} of the {number(card['n_prompts'])} prompts are prompts of the study, not held out."


def _cells(local: Row) -> str:
    sizes = [one["n_prompts"] for one in local["kinds"]]
    return f"{min(sizes)} to {max(sizes)} held-out prompts each, {number(local['n_units'])} cells"


def _scores(card: Row) -> list[str]:
    if card["verdict"] != "scored":
        return wrapped(f"Nothing to predict: {_nothing(card)}", _WIDTH)
    ceiling = card["ceiling"]
    lines = [
        f"ceiling {ceiling:.2f}; on other prompts {card['ceiling_elsewhere']:.2f}; repeats of one seed agree at "
        f"r = {card['repeat']:.2f}; moved: p {card['p_moved']:.3f}",
        "",
        f"  {fit('squared correlation', 32)} r2    95 %           rank   w/o 5  of ceiling",
    ]
    lines = [*wrapped(lines[0], _WIDTH), *lines[1:]]
    first = card["primary"]
    for name, one in sorted(card["scores"].items(), key=lambda item: (item[0] != first, -item[1]["r2"])):
        said = f"{name.replace('_', ' ')}{' (declared)' if name == first else ''}"
        ends = f"[{one['low']:+.2f}, {one['high']:+.2f}]"
        numbers = f"{one['spearman']:+.2f}  {one['r2_without']:+.2f}  {100 * one['r2'] / ceiling:.0f} %"
        lines += [f"  {fit(said, 32)} {one['r2']:+.2f} {ends:<16} {numbers}"]
        if one["r2_line"] is not None:
            lines += [f"    1 - SSE/SST with the line of another dataset: {one['r2_line']:+.2f}"]
    lines += ["  nulls (95th percentile of draws, or the value)"]
    return lines + [f"  {fit(name, 32)} {value:+.2f}" for name, value in card["nulls"].items()]


def _nothing(card: Row) -> str:
    first = card["scores"][card["primary"]]
    return (
        f"{card['why']}. A ceiling of {card['ceiling']:.2f} ({card['ceiling_elsewhere']:.2f} on other prompts) stands "
        f"above an r2 of {first['r2']:+.2f} [{first['low']:+.2f}, {first['high']:+.2f}]."
    )


def _rates(traits: Sequence[Row]) -> list[str]:
    if not traits:
        return []
    errors = [abs(one["after"] - one["observed"]) for one in traits]
    still = [abs(one["before"] - one["observed"]) for one in traits]
    inside = sum(one["low"] <= one["observed"] <= one["high"] for one in traits)
    lines = [f"  {fit('rates in per cent', 36)} before forecast  seen  90 %"]
    for one in sorted(traits, key=lambda one: -abs(one["observed"] - one["before"]))[:_TRAITS]:
        numbers = f"{100 * one['before']:5.1f}   {100 * one['after']:5.1f}  {100 * one['observed']:5.1f}"
        lines += [f"  {fit(one_line(one['name']), 36)} {numbers}  [{100 * one['low']:.0f}, {100 * one['high']:.0f}]"]
    mean = 100 / len(traits)
    told = (
        f"{len(traits)} behaviours: mean error {mean * sum(errors):.1f} points (saying that nothing changes: "
        f"{mean * sum(still):.1f}); the 90 % interval holds {inside} of them."
    )
    return [*lines, *wrapped(told, _WIDTH)]


def forecast_content(study: Path, features: object) -> dict[str, Any] | None:
    """Return what a report shows of STUDY/prediction: rates, named concepts, the card's scores; None without any.

    features: fingerprint of the study's features as they are now.
    """
    forecast = _current(study / "prediction" / "forecast.json", features)
    card = _current(study / "prediction" / "card.json", features)
    if forecast is None and card is None:
        return None
    found: dict[str, Any] = {"traits": [], "units": [], "card": None}
    if forecast is not None:
        keys = ("name", "now", "after", "low", "high")
        traits = sorted(forecast["traits"], key=lambda one: -abs(one["after"] - one["now"]))
        found["traits"] = [{key: one[key] for key in keys} for one in traits]
        named = [one for one in forecast["units"] if one["name"]][:_TRAITS]
        found["units"] = [{"name": one_line(str(one["name"])), "change": one[forecast["primary"]]} for one in named]
    if card is not None:
        found["card"] = {"note": _card_note(card), "rows": _card_rows(card)}
    return found


def _current(path: Path, features: object) -> dict[str, Any] | None:
    if not path.exists():
        return None
    held = read_object(path, "features", verb="predict")
    return held if held["features"] == features else None


def _card_note(card: Row) -> str:
    told = f"{card['n_units']} concepts, {card['n_prompts']} prompts, {card['n_seeds']} training seeds. "
    told += f"{_trained_on(card)} " if _trained_on(card) else ""
    if card["verdict"] == "scored":
        told += f"No forecast can score more than the ceiling, {card['ceiling']:.2f}."
    else:
        told += f"Nothing to predict: {_nothing(card)}"
    local = card["conditional"]
    if local is None:
        return told
    told += f" After one kind of prompt more than after the rest ({len(local['kinds'])} kinds, {_cells(local)}): "
    return told + (
        f"ceiling {local['ceiling']:.2f}." if local["verdict"] == "scored" else f"nothing to predict: {_nothing(local)}"
    )


def _card_rows(card: Row) -> list[dict[str, Any]]:
    return _rows(card, "") + (_rows(card["conditional"], "by kind of prompt: ") if card["conditional"] else [])


def _rows(card: Row, prefix: str) -> list[dict[str, Any]]:
    if card["verdict"] != "scored":
        return []
    first = card["primary"]
    ranked = sorted(card["scores"].items(), key=lambda item: (item[0] != first, -item[1]["r2"]))
    rows = [
        {"name": prefix + name.replace("_", " ") + (" (declared)" if name == first else ""), "r2": one["r2"]}
        | {"low": one["low"], "high": one["high"]}
        for name, one in ranked
    ]
    nulls = card["nulls"].items()
    return rows + [{"name": f"{prefix}null: {name}", "r2": r2, "low": None, "high": None} for name, r2 in nulls]
