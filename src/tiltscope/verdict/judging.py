"""Limits against a comparison or an audit.

In:  `Limits`; a `Comparison`, or the rows of hypotheses.json.
Out: `Verdict`: pass, fail or inconclusive per rule and in all, with an exit code.
Refuses: a rule about something that was not measured (`UsageError` with the nearest name).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tiltscope.artifact import quoted
from tiltscope.behaviours import RULES, counted
from tiltscope.errors import UsageError
from tiltscope.evaluation import Change, Comparison, Estimate
from tiltscope.verdict.limits import DataRule, Limits, Rule
from tiltscope.written import nearest

__all__ = ["Outcome", "Result", "Verdict", "judge", "judge_data"]

Outcome = Literal["pass", "fail", "inconclusive"]
_TOLD = 2
EXIT_CODES: Mapping[Outcome, int] = {"pass": 0, "fail": 1, "inconclusive": 5}


@dataclass(frozen=True)
class Result:
    """One rule: its outcome, why, the numbers it rests on, and for data the rows and the command that mends them."""

    rule: str
    where: str
    outcome: Outcome
    why: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, ...] = ()
    pair_ids: tuple[str, ...] = ()
    fix: str = ""
    rows: tuple[int, ...] = ()
    """The rows of the pairs in their file, where the study at hand says them."""


@dataclass(frozen=True)
class Verdict:
    """All rules together: fail outranks inconclusive, inconclusive outranks pass."""

    results: tuple[Result, ...]
    subject: str
    fingerprint: str

    @property
    def outcome(self) -> Outcome:
        """The worst outcome."""
        found = {one.outcome for one in self.results}
        return "fail" if "fail" in found else "inconclusive" if "inconclusive" in found or not found else "pass"

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 5 inconclusive."""
        return EXIT_CODES[self.outcome]


def judge(limits: Limits, comparison: Comparison) -> Verdict:
    """Judge a comparison.

    A rule allows an interval of values R (for "at most +2 points": everything up to .02). Per rule:
    fail          the interval over prompts and seeds lies wholly outside R, or a seed's own interval does (the seeds'
                  intervals hold together in 95 %);
    pass          the interval lies wholly inside R, and so does every seed's own estimate;
    inconclusive  everything else: an interval that straddles, one that cannot be said, fewer prompts than
                  `min_prompts` or fewer seeds than `min_seeds`, which outranks a fail.

    Raises:
        UsageError: no rule about behaviours, or one that names what was not measured.
    """
    if not limits.rules:
        raise UsageError(
            "this gate has no rule about behaviours", where=limits.file, hint="rules named data… go with --data"
        )
    results = tuple(_judge_rule(_told(one, limits), limits, comparison) for one in limits.rules)
    arms = ", ".join(one.name for one in comparison.arms)
    return Verdict(results, f"comparison of {arms}", comparison.fingerprint)


def _told(rule: Rule, limits: Limits) -> Rule:
    """The rule with the versus of the settings where it has none."""
    return rule if rule.versus or not limits.versus else replace(rule, versus=limits.versus)


def _judge_rule(rule: Rule, limits: Limits, comparison: Comparison) -> Result:
    change = _find(rule, limits, comparison)
    rule = _fitted(rule, change, limits)
    said = f"{rule.name}: {rule.text}" + (f" (that is, {_allowed(rule)})" if rule.tolerance else "")
    whole, seeds = {
        "change": (change.difference, change.seed_differences),
        "relative": (change.relative, change.seed_relatives),
        "level": (change.after, change.seed_after),
    }[rule.kind]
    outcome, why = _outcome(rule, limits, change, whole, seeds)
    effect, low, high = (None if math.isnan(value) else value for value in (whole.effect, whole.low, whole.high))
    return Result(said, rule.where, outcome, why, effect, low, high, tuple(one.effect for one in seeds))


def _outcome(
    rule: Rule, limits: Limits, change: Change, whole: Estimate, seeds: Sequence[Estimate]
) -> tuple[Outcome, str]:
    n_seeds = max(len(seeds), 1)
    if change.n_prompts < limits.min_prompts:
        return "inconclusive", f"{change.n_prompts} prompts, {limits.min_prompts} are needed"
    if n_seeds < limits.min_seeds:
        return "inconclusive", f"{n_seeds} training seed, {limits.min_seeds} are needed"
    if math.isnan(whole.low) or not seeds:
        zero = rule.kind == "relative" and change.before.effect == 0
        why = f"there is nothing to divide by: {change.versus} is at 0" if zero else "nothing varies"
        return "inconclusive", f"the numbers allow no interval ({why})"
    if whole.low > rule.high or whole.high < rule.low:
        return "fail", f"the interval {_span(whole, rule)} lies outside {_allowed(rule)}"
    outside = [i for i, one in enumerate(seeds) if one.low > rule.high or one.high < rule.low]
    if outside:
        worst = seeds[outside[0]]
        return "fail", f"seed {outside[0] + 1} of {n_seeds}: {_span(worst, rule)} lies outside {_allowed(rule)}"
    if not (rule.low <= whole.low and whole.high <= rule.high):
        return "inconclusive", f"the interval {_span(whole, rule)} straddles the end of {_allowed(rule)}"
    strays = [i for i, one in enumerate(seeds) if not rule.low <= one.effect <= rule.high]
    if strays:
        return "inconclusive", f"seed {strays[0] + 1} of {n_seeds} by itself is outside {_allowed(rule)}"
    return "pass", f"the interval {_span(whole, rule)} and every seed ({n_seeds}) are inside {_allowed(rule)}"


def _find(rule: Rule, limits: Limits, comparison: Comparison) -> Change:
    """The change that a rule is about; what was not measured is refused, not passed."""
    arms = [one.name for one in comparison.arms]
    arm, versus = limits.arm or arms[-1], rule.versus or arms[0]
    for word in (arm, versus):
        if word not in arms:
            raise UsageError(f"there is no arm {word!r} in this comparison", where=rule.where, hint=nearest(word, arms))
    here = [one for one in comparison.changes if (one.arm, one.versus) == (arm, versus)]
    if not here:
        raise UsageError(
            f"{arm!r} was not compared with {versus!r}", where=rule.where, hint=f"arms in order: {', '.join(arms)}"
        )
    for one in here:
        if one.id == rule.name:
            return one
    raise UsageError(
        f"{rule.name!r} was not measured in this comparison",
        where=rule.where,
        found=f"measured: {', '.join(sorted(one.id for one in here))}",
        hint=nearest(rule.name, [one.id for one in here]),
    )


def _fitted(rule: Rule, change: Change, limits: Limits) -> Rule:
    """The rule in the unit of its behaviour; a unit that does not fit is refused."""
    share, below = change.unit == "share", change.unit != "share" and change.before.effect < 0
    if rule.tolerance and not below:
        width = limits.tolerance / 100
        low = -width if math.isfinite(rule.low) else rule.low
        high = width if math.isfinite(rule.high) else rule.high
        return replace(
            rule, low=low, high=high, kind="change" if share else "relative", unit="points" if share else "%"
        )
    fitting, hint = _units(rule, change, below=below)
    if rule.unit not in fitting or rule.tolerance:
        raise UsageError(
            f"the unit of this rule does not fit {change.id!r}", where=rule.where, found=rule.text, hint=hint
        )
    return rule


def _units(rule: Rule, change: Change, *, below: bool) -> tuple[tuple[str, ...], str]:
    """The units in which a rule may speak of a behaviour, and what to write instead; below: its numbers are under 0."""
    number = f"in {change.unit_name or 'numbers'}: write"
    if change.unit == "share":
        return (("%",), "a share: write %") if rule.kind == "level" else (("points",), "a share: write points")
    if change.unit_name == "probability":
        return ("points", "%", ""), ""  # 0 to 1, as a share is
    if rule.kind == "level":
        return ("",), f"{number} a plain number"
    if below:
        way = rule.text.split(" by more")[0] + " by more than 2" if rule.text.startswith("not") else "at most +2"
        return ("",), f"{number} a plain number, like {way}; a share of a number below 0 says nothing"
    return ("%", ""), f"{number} % or a plain number"


def _shown(value: float, rule: Rule) -> str:
    if rule.unit == "points":
        return f"{100 * value:+.1f}"
    if rule.unit == "%":
        return f"{100 * value:+.1f}" if rule.kind == "relative" else f"{100 * value:.1f}"
    return f"{value:+.4g}" if rule.kind == "change" else f"{value:.4g}"


def _span(one: Estimate, rule: Rule) -> str:
    unit = f" {rule.unit}" if rule.unit else ""
    return f"{_shown(one.low, rule)} … {_shown(one.high, rule)}{unit}"


def _allowed(rule: Rule) -> str:
    unit = f" {rule.unit}" if rule.unit else ""
    if not math.isfinite(rule.low):
        return f"at most {_shown(rule.high, rule)}{unit}"
    if not math.isfinite(rule.high):
        return f"at least {_shown(rule.low, rule)}{unit}"
    return f"{_shown(rule.low, rule)} … {_shown(rule.high, rule)}{unit}"


# --- data -------------------------------------------------------------------------------------------------------------

Row = Mapping[str, Any]


def judge_data(
    limits: Limits, hypotheses: Sequence[Row], *, study: str, fingerprint: str, new: Row | None = None
) -> Verdict:
    """Judge data before any training: rows of hypotheses.json, and what `new_leans` found against approved data.

    `no confirmed "more" of bold` fails on a confirmed finding that bears that name (a rule's id or name, a concept's id
    or name; of a rule also where it is shown often) in any region, and passes on none; it is inconclusive where such
    findings were measured but none had enough witnesses. `lean at most +0.05` looks at the effect over all pairs: fail
    where its interval lies wholly outside, pass where wholly inside, inconclusive otherwise and where no finding bears
    the name. Findings of one name are judged together: the worst outcome counts.

    `no new lean` fails on any lean that `new` lists and names the rows; it passes where none is listed and one in the
    rule's share of pairs would have been seen, and is inconclusive otherwise, and without approved data.

    Raises:
        UsageError: no rule about data, or one about something unknown to both the library and this audit.
    """
    if not limits.data_rules:
        raise UsageError(
            "this gate has no rule about data", where=limits.file, hint='for example  data: no confirmed "more" of bold'
        )
    results = tuple(
        _judge_data_rule(one, hypotheses, study) if one.seen is None else _no_new(one, one.seen, new, study)
        for one in limits.data_rules
    )
    return Verdict(results, f"audit {study}", fingerprint)


def _judge_data_rule(rule: DataRule, hypotheses: Sequence[Row], study: str) -> Result:
    names = _names_of(rule, hypotheses)
    rows = [row for row in hypotheses if _bears(row, names)]
    said = f"{rule.name}: {rule.text}"
    if rule.directions:
        often = [row for row in hypotheses if counted(str(row["concept"].get("rule")))[1] > 1]
        rows += [row for row in often if counted(row["concept"]["rule"])[0] in names and row not in rows]
        return _no_confirmed(rule, said, rows, study)
    return _lean(rule, said, [row for row in rows if row["view"] == "global"], study)


def _no_new(rule: DataRule, seen: float, new: Row | None, study: str) -> Result:
    said = f"{rule.name}: {rule.text}"
    if new is None:
        return Result(said, rule.where, "inconclusive", "needs the study that was approved: --approved STUDY")
    leans, n, least = new["leans"], new["n_candidate"], new["smallest"]
    if leans:
        why = _told_leans(leans)
        fix = (
            f"look at the rows; take them out: tiltscope clean DATA --study {quoted(study)} --verdict VERDICT "
            f"--out cleaned (VERDICT: the --out of this gate); or approve them: --approved {quoted(study)} from now on"
        )
        ids, rows = (tuple(row[key] for row in new["rows"] if row["named"]) for key in ("pair_id", "row"))
        return Result(said, rule.where, "fail", why, float(leans[0]["change"]), None, None, (), ids, fix, rows)
    others = f"a behaviour that {least['behaviours']} carry, a word that {least['words']} carry"
    sight = f"a latent that {least['latents']} of {n} pairs carry would have been seen, {others}"
    if max(least.values()) > seen * n:
        return Result(said, rule.where, "inconclusive", f"{sight}, {100 * seen:g} % of pairs are {seen * n:.0f}")
    family = f"{new['n_latents']} latents, {new['n_behaviours']} behaviours and {new['n_words']} words and phrases"
    return Result(said, rule.where, "pass", f"none of {family} leans more than in the approved data; {sight}")


def _told_leans(leans: Sequence[Row]) -> str:
    """How many of each list lean anew, and the two surest of each."""
    counts, told = [], []
    for kind, what in (("behaviours", "behaviour"), ("words", "word or phrase"), ("latents", "latent")):
        mine = [one for one in leans if one["list"] == kind]
        many = "words or phrases" if kind == "words" else kind
        counts += [f"{len(mine)} {what if len(mine) == 1 else many}"] if mine else []
        told += [_told_lean(one) for one in mine[:_TOLD]]
    said = " and ".join(filter(None, (", ".join(counts[:-1]), counts[-1])))
    return f"{said} lean{'s' if len(leans) == 1 else ''} as the approved data do not: {'; '.join(told)}"


def _told_lean(one: Row) -> str:
    words = f" ({', '.join(one['words'])})" if one.get("words") else ""
    names = {"behaviours": f"{one['name']} ({one['concept']})", "words": one["name"]}
    told = names.get(one["list"], f"{one['concept']}{words}")
    return f"{told} {one['before']:+.3f} → {one['after']:+.3f}"


def _names_of(rule: DataRule, hypotheses: Sequence[Row]) -> set[str]:
    """Every name under which findings about this go, in lower case."""
    wanted = rule.what.casefold()
    for one in RULES:
        if wanted in (one.id, one.name.casefold()):
            return {one.id, one.name.casefold()}
    known = {str(row["concept"].get(key) or "").casefold() for row in hypotheses for key in ("id", "name")} - {""}
    if wanted in known:
        return {wanted}
    raise UsageError(
        f"nothing is called {rule.what!r} in this audit or in the library",
        where=rule.where,
        hint=nearest(wanted, [one.id for one in RULES] + sorted(known)),
    )


def _bears(row: Row, names: set[str]) -> bool:
    concept = row["concept"]
    id, name = str(concept.get("id")).casefold(), str(concept.get("name") or "").casefold()
    base = name.removesuffix(f" ({id})").partition(": ")[0].strip()
    return bool({id, name, base} & names)


def _no_confirmed(rule: DataRule, said: str, rows: Sequence[Row], study: str) -> Result:
    found = [row for row in rows if row["confirmed"] and row["direction"] in rule.directions]
    if found:
        return _failed(
            rule, said, found, f"{len(found)} confirmed: {', '.join(_told_row(row) for row in found[:3])}", study
        )
    few = [row for row in rows if row.get("verdict") == "too few witnesses" and row["direction"] in rule.directions]
    if few:
        why = (
            f"{len(few)} findings with too few independent pairs to be confirmed: {', '.join(_id(r) for r in few[:3])}"
        )
        return Result(said, rule.where, "inconclusive", why)
    why = f"none of {len(rows)} findings of that name is confirmed" if rows else "no finding bears that name"
    return Result(said, rule.where, "pass", why)


def _lean(rule: DataRule, said: str, rows: Sequence[Row], study: str) -> Result:
    measured = [row for row in rows if None not in (row["effect"], row["ci_low"], row["ci_high"])]
    if not measured:
        return Result(
            said, rule.where, "inconclusive", "no finding over all pairs bears that name, so no lean is known"
        )
    outside = [row for row in measured if row["ci_low"] > rule.high or row["ci_high"] < rule.low]
    if outside:
        return _failed(rule, said, outside, f"outside: {', '.join(_told_row(row) for row in outside[:3])}", study)
    worst = max(measured, key=lambda row: max(row["ci_high"] - rule.high, rule.low - row["ci_low"]))
    effect, low, high = float(worst["effect"]), float(worst["ci_low"]), float(worst["ci_high"])
    inside = rule.low <= worst["ci_low"] and worst["ci_high"] <= rule.high
    why = f"{'inside' if inside else 'straddles the limit'}: {_told_row(worst)}"
    return Result(said, rule.where, "pass" if inside else "inconclusive", why, effect, low, high)


def _failed(rule: DataRule, said: str, rows: Sequence[Row], why: str, study: str) -> Result:
    """A failed rule names the pairs that carry it and the next command."""
    ids = tuple(dict.fromkeys(str(id) for row in rows for id in row.get("pair_ids") or ()))
    top = max(rows, key=lambda row: abs(row["effect"] or 0.0))
    wish = "suppress" if top["direction"] == "more" else "amplify"
    fix = (
        f"set `action: {wish}` for {_id(top)}{'' if len(rows) == 1 else f' and {len(rows) - 1} more'} in "
        f"{study}/plan.yaml, then tiltscope prepare {quoted(study)}; or take the rows out: "
        f"tiltscope clean DATA --study {quoted(study)} --out cleaned"
    )
    effect, low, high = (None if top[key] is None else float(top[key]) for key in ("effect", "ci_low", "ci_high"))
    return Result(said, rule.where, "fail", why, effect, low, high, (), ids, fix)


def _id(row: Row) -> str:
    return str(row["id"])


def _told_row(row: Row) -> str:
    region = row.get("region")
    where = f" in {region['id']}" if region else ""
    return f"{_id(row)}{where} {row['effect']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]"
