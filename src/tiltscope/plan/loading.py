"""plan.yaml becomes a `Plan`, checked at the door.

In:  the path of a plan.yaml; the ids that a decision may hold.
Out: `Plan`.
Refuses: an unknown key, a misspelt word, a strength that cannot be, a decision without a reason: each with its line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from tiltscope.artifact import FORMAT_VERSION
from tiltscope.plan.decisions import ACTIONS, EFFECTS, METHODS, PLAN_SIDES, Decision, Plan, PlanAction
from tiltscope.plan.spec import DetectorSpec, read_spec
from tiltscope.written import Written, nearest, read_written

__all__ = ["load_plan"]

_TOP = ("format_version", "made_from", "decisions")
_HOW = ("method", "strength", "aim_rate", "side", "effect", "instruction", "hold", "accept_weak")
_DECISION = (
    *("hypothesis", "concept", "detector", "direction", "where", "action", *_HOW, "reason", "reviewer"),
    *("evidence", "note"),
)
_NO_STRENGTH = ("token_filtering", "inoculation_prompting")
_BY_SIDE = ("token_filtering", "activation_steering", "steering_ratio", "inoculation_prompting", "inoculation_ratio")
# Beyond these a strength has no sense: a pair weighs e^-50 of what it did, five norms drown the text.
_STRONGEST = {
    "reward_shaping": (50.0, "nats per standard deviation"),
    **dict.fromkeys(("steering_ratio", "inoculation_ratio"), (50.0, "times the measured ratio")),
    "activation_steering": (5.0, "mean residual norms"),
}
_INSTRUCTED = ("inoculation_prompting", "inoculation_ratio")
_AIMED = ("reward_shaping",)  # an aim is solved for on the offsets of shaping (method, section 9)


def load_plan(path: Path, *, known_ids: Collection[str] | None = ()) -> Plan:
    """Read plan.yaml.

    known_ids: ids of the study's hypotheses and of rules; `hold` may name those and the decisions of this plan.
        None: a plan that was acted on before is read again, and what it holds is not checked anew.

    Raises:
        UsageError: it cannot be read, or something in it cannot be used; `where` is file:line, `found` what stands
            there, `hint` the nearest word that would do.
    """
    top = read_written(path)
    if top.is_null:
        raise top.refused(f"{path.name} is empty")
    if not isinstance(top.value, dict):
        raise top.refused("a plan is a mapping with the key decisions")
    for key in top.value:
        close = nearest(key, _TOP)
        if key not in _TOP and _is_near(key, _TOP):
            raise top.value[key].refused(f"a plan has no key {key!r}", found=key, hint=close)
    _check_version(top)
    held = top.value.get("decisions")
    if held is None:
        raise top.refused("a plan has a list of decisions", hint="decisions: [] where there are none")
    decisions = tuple(_decision(one, number) for number, one in enumerate(held.items("decisions"), 1))
    _check_ids(decisions, held.items("decisions"), known_ids)
    _check_detectors(decisions, held.items("decisions"))
    return Plan(decisions, _made_from(top), path)


def _is_near(word: str, known: Sequence[str]) -> bool:
    import difflib

    return bool(difflib.get_close_matches(word, known, n=1, cutoff=0.75))


def _check_version(top: Written) -> None:
    held = top.value.get("format_version")
    if held is None:
        raise top.refused("this plan does not say its format version", hint=f"format_version: {FORMAT_VERSION}")
    if held.value != FORMAT_VERSION or isinstance(held.value, bool):
        raise held.refused(
            "this plan was written for another format version",
            found=f"format_version {held.shown}, this Tiltscope reads {FORMAT_VERSION}",
        )


def _made_from(top: Written) -> dict[str, str]:
    held = top.get("made_from")
    if held is None:
        return {}
    held.mapping("made_from", ("pairs", "features", "scope", "contrast", "tiltscope"))
    return {key: one.string(key) for key, one in held.value.items() if not one.is_null}


def _decision(entry: Written, number: int) -> Decision:
    if not isinstance(entry.value, dict):
        raise entry.refused("a decision is a mapping (key: value)")
    for key, held in entry.value.items():
        if key not in _DECISION:
            hint = f"{nearest(key, _DECISION)}; remarks of your own go under note"
            raise held.refused(f"a decision has no key {key!r}", found=key, hint=hint)
    action = _one_of(entry, "action", ACTIONS) or "undecided"
    _check_allow(entry, action)
    detector = read_spec(entry.get("detector"), entry.get("concept"))
    method = _one_of(entry, "method", METHODS)
    if action in ("suppress", "amplify"):
        method = method or "reward_shaping"
        _check_active(entry, action, detector)
    candidates = _instructions(entry, method)
    decision = Decision(
        number,
        entry.line,
        hypothesis=_text(entry, "hypothesis") or None,
        concept=_concept_name(entry),
        detector=detector,
        direction=_one_of(entry, "direction", ("more", "less")),
        action=cast(PlanAction, action),
        method=method,
        strength=_strength(entry, method),
        aim_rate=_aim(entry, method),
        where=_place(entry),
        side=cast(Any, _side(entry, method)),
        effect=cast(Any, _effect(entry, method)),
        instruction=candidates[0] if len(candidates) == 1 else None,
        hold=tuple(one.string("hold") for one in held.items("hold")) if (held := entry.get("hold")) else (),
        reason=_text(entry, "reason"),
        reviewer=_text(entry, "reviewer"),
        accept_weak=held.flag("accept_weak") if (held := entry.get("accept_weak")) else False,
        candidates=candidates,
        file=entry.where.rpartition(":")[0],
    )
    _check_whole(entry, decision)
    return decision


def _text(entry: Written, key: str) -> str:
    held = entry.get(key)
    return held.string(key).strip() if held else ""


def _one_of(entry: Written, key: str, words: Sequence[str]) -> str | None:
    held = entry.get(key)
    return held.choice(key, words) if held else None


def _concept_name(entry: Written) -> str:
    """The name a person or the library gave it, else the concept's id."""
    concept = entry.get("concept")
    return (_text(concept, "name") or _text(concept, "id")) if concept else ""


def _check_allow(entry: Written, action: str) -> None:
    """What would have no effect is not silently dropped."""
    for key in _HOW if action == "allow" else ():
        held = entry.get(key)
        if held and held.value is not False and held.value != []:
            raise held.refused(f"to allow something has no {key}", hint="action: suppress or amplify, or leave it out")


def _check_active(entry: Written, action: str, detector: DetectorSpec | None) -> None:
    if detector is None:
        hint = "concept: {latents: [12]}, or detector: {kind: rule, rule: bold}"
        raise entry.refused(f"nothing says what to {action}: this decision names no concept and no detector", hint=hint)


def _strength(entry: Written, method: str | None) -> float | None:
    held = entry.get("strength")
    if held is None:
        return None
    value = held.number("strength")
    if value < 0:
        raise held.refused("a strength is never negative: the action carries the sign", hint="suppress or amplify")
    if method in _NO_STRENGTH:
        raise held.refused(f"{method} has no strength", hint="leave strength out, or null")
    if method == "example_filtering" and not 0 < value < 1:
        raise held.refused("the strength of example_filtering is the share of pairs: above 0 and below 1")
    most, unit = _STRONGEST.get(method or "", (value, ""))
    if value > most:
        raise held.refused(
            f"the strength of {method} lies between 0 and {most:g} {unit}", hint="docs/plan.md, strength"
        )
    return value


def _aim(entry: Written, method: str | None) -> float | Literal["start"] | None:
    held = entry.get("aim_rate")
    if held is None:
        return None
    if held.value == "start":
        aim: float | Literal["start"] = "start"
    elif isinstance(held.value, str):
        raise held.refused("aim_rate is 'start' or a share from 0 to 1", hint="the nearest is 'start'")
    else:
        aim = held.number("aim_rate")
        if not 0 <= aim <= 1:
            raise held.refused("aim_rate is a share: from 0 to 1, or 'start'")
    if method is not None and method not in _AIMED:
        hint = f"method: {', '.join(_AIMED)}, or a strength in place of the aim"
        raise held.refused(f"no strength of {method} can be solved for from an aim", hint=hint)
    return aim


def _place(entry: Written) -> str:
    held = entry.get("where")
    place = held.string("where") if held else "everywhere"
    if held and place != "everywhere" and not re.fullmatch(r"[A-Z]\d+(@\d+(\.\d+)?)?", place):
        raise held.refused(
            "where is 'everywhere' or the id of a kind of pair", hint="everywhere, or an id as K3 or P4@10"
        )
    return place


def _side(entry: Written, method: str | None) -> str | None:
    side = _one_of(entry, "side", PLAN_SIDES)
    if side and method is not None and method not in _BY_SIDE:
        raise entry.value["side"].refused(f"{method} speaks of both sides at once and has no side", hint="side: null")
    return side


def _effect(entry: Written, method: str | None) -> str:
    effect = _one_of(entry, "effect", EFFECTS)
    if effect and method not in (None, "example_filtering"):
        raise entry.value["effect"].refused(f"{method} has no effect to choose", hint="effect: null")
    return effect or EFFECTS[0]


def _instructions(entry: Written, method: str | None) -> tuple[str, ...]:
    held = entry.get("instruction")
    if held is None:
        return ()
    if method is not None and method not in _INSTRUCTED:
        raise held.refused(f"{method} has no instruction", hint=f"method: {' or '.join(_INSTRUCTED)}")
    ones = held.items("instruction") if isinstance(held.value, list) else [held]
    texts = tuple(one.string("instruction").strip() for one in ones)
    if not all(texts):
        raise held.refused("an instruction is empty")
    return texts


def _check_whole(entry: Written, decision: Decision) -> None:
    """What only shows when the fields are seen together."""
    if decision.action == "undecided":
        return
    if not decision.reason:
        raise _at(entry, "reason").refused(f"{decision.action} without a reason", hint="reason: why, in a sentence")
    if decision.action == "allow":
        return
    has = [key for key in ("strength", "aim_rate") if getattr(decision, key) is not None]
    if len(has) == 2:
        raise _at(entry, "aim_rate").refused("strength and aim_rate are both given", hint="an aim sets the strength")
    if not has and decision.method not in _NO_STRENGTH:
        what = f"{decision.method} needs a strength" + (" or an aim_rate" if decision.method in _AIMED else "")
        raise _at(entry, "strength").refused(what, hint="units: docs/plan.md")
    if decision.method == "token_filtering":
        _check_tokens(entry, decision)


def _check_tokens(entry: Written, decision: Decision) -> None:
    if decision.action == "amplify":
        hint = "reward_shaping, example_filtering, activation_steering or inoculation_prompting can"
        raise _at(entry, "method").refused("token_filtering takes tokens away: it cannot amplify", hint=hint)
    if decision.detector and not decision.detector.marks_tokens:
        raise _at(entry, "detector").refused(
            "token_filtering needs a detector that marks tokens", found=decision.detector.shown
        )


def _at(entry: Written, key: str) -> Written:
    """The value under this key, or the entry itself where the key is missing."""
    held: Written = entry.value.get(key, entry)
    return held


def _check_ids(decisions: Sequence[Decision], entries: Sequence[Written], known_ids: Collection[str] | None) -> None:
    first: dict[str, Decision] = {}
    for one, entry in zip(decisions, entries, strict=True):
        if one.hypothesis is None or one.action == "undecided":
            continue
        if one.hypothesis in first:
            raise _at(entry, "hypothesis").refused(
                f"{one.hypothesis} is decided twice",
                found=f"{one.action} here, {first[one.hypothesis].action} at {first[one.hypothesis].place}",
                hint="take one of the two out",
            )
        first[one.hypothesis] = one
    known = None
    if known_ids is not None:
        known = {*known_ids, *(one.hypothesis for one in decisions if one.hypothesis)}
    for one, entry in zip(decisions, entries, strict=True):
        if one.hold:
            _check_hold(one, entry, known)


def _check_hold(one: Decision, entry: Written, known: Collection[str] | None) -> None:
    for held in entry.value["hold"].value:
        if known is not None and held.text not in known:
            raise held.refused(f"hold names {held.text!r}, which is no finding", hint=nearest(held.text, known))
        if held.text == one.hypothesis:
            raise held.refused("a decision cannot hold what it changes")
    if one.aim_rate is None and one.action in ("suppress", "amplify"):
        what = "hold acts beside an aim_rate only: here it would change nothing"
        hint = "aim_rate: start in place of the strength, or leave hold out"
        raise entry.value["hold"].refused(what, hint=hint)


def _check_detectors(decisions: Sequence[Decision], entries: Sequence[Written]) -> None:
    """Refuse two decisions on one detector in one place that contradict, or that say the same twice."""
    earlier: dict[DetectorSpec, list[Decision]] = {}
    for one, entry in zip(decisions, entries, strict=True):
        if one.detector is None or one.action not in ("suppress", "amplify"):
            continue
        others = earlier.setdefault(one.detector.bare, [])
        for other in others:
            if one.where == other.where or "everywhere" in (one.where, other.where):
                _check_two(other, one, entry)
        others.append(one)


def _check_two(first: Decision, second: Decision, entry: Written) -> None:
    what = f"decisions on lines {first.line} and {second.line} act on the same detector"
    said = [f"{one.action} by {one.method} ({one.where})" for one in (first, second)]
    if first.action == second.action and (first.method != second.method or first.where != second.where):
        return  # each does its part, and a region may want more; `prepare` lists what they share
    if first.action != second.action:
        what += " and contradict each other"
    raise _at(entry, "action").refused(what, found=" and ".join(said), hint="take one of the two out")
