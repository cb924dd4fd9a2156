"""Measuring, preparing and training, told on a terminal of 80 columns.

In:  the products of those verbs as plain objects.
Out: text; whatever comes from data is made visible first.
Refuses: to leave out a number that a decision rests on; long lists are cut with their count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tiltscope.artifact import quoted
from tiltscope.report.text import counted, fit, number, one_line, percent, signed, wrapped

__all__ = [
    "render_answered",
    "render_cleaned",
    "render_comparison",
    "render_evaluation",
    "render_measured",
    "render_prepared",
    "render_run",
]

Row = Mapping[str, Any]

_WIDTH = 80
_EXAMPLES = 10
_PUSHES = 14
_PLAIN = "No decision changes training, so this recipe is plain training on all of them"


def _indented(text: str, by: int = 2) -> list[str]:
    return [" " * by + line for line in wrapped(text, _WIDTH - by)]


def render_answered(product: Row) -> str:
    """Return how many rows became pairs, and why the others did not."""
    limit = number(product["settings"]["max_new_tokens"])
    lines = [one_line(f"{product['out']}: {number(product['n_pairs'])} pairs", limit=_WIDTH)]
    for one in product["refused"]:
        lines += _indented(f"{number(one['n'])} rows refused: {one['explanation']}")
    for one in product["left_out"]:
        lines += _indented(f"{number(one['n'])} rows left out: {one['explanation']}")
    if product["n_cut"]:
        lines += _indented(f"{number(product['n_cut'])} answers reach {limit} tokens, where an answer is cut")
    return "\n".join([*lines, *wrapped(f"next: tiltscope audit {quoted(product['out'])}", _WIDTH)])


def render_measured(decisions: Sequence[Row]) -> str:
    """Return one paragraph per decision: its detector's quality and the instructions that were tried."""
    if not decisions:
        return "No decision changes training: nothing to measure. Mark findings suppress or amplify in plan.yaml."
    lines: list[str] = []
    for one in decisions:
        lines += [one_line(f"{one['decision']} ({one['method']})", limit=_WIDTH)]
        lines += _indented(f"detector: {one['quality'] or 'not measured: nothing to measure it against'}")
        if one["instruction"]:
            lines += _indented(f"instruction: {one_line(str(one['instruction']), limit=200)}")
        for text, value in one["uplift"].items():
            if value is not None:  # else the plan fixed the text
                lines += _indented(f"uplift {signed(value)} sd: {one_line(text, limit=120)}", 4)
    return "\n".join(lines)


def render_prepared(product: Row) -> str:
    """Return what each decision changes, how decisions meet, and what the recipe says."""
    lines = [
        f"{number(product['n_trained'])} of {number(product['n_pairs'])} pairs are trained on ({product['objective']})."
    ]
    if product["is_plain"]:
        lines += wrapped(_PLAIN + f" (tiltscope train STUDY --plain {product['objective']} does the same).", _WIDTH)
    for change in product["decisions"]:
        lines += ["", *_change(change)]
    lines += [*_pushes(product), *_rates(product["rates"]), *_meeting(product), *_exported(product.get("export"))]
    undecided = [line for line in product["log"] if line.endswith("left to plain training")]
    if undecided:
        lines += ["", f"{len(undecided)} findings are undecided and left to plain training."]
    return "\n".join(lines)


def _pushes(product: Row) -> list[str]:
    """What the first step pushes: a leaking detector, or a sibling that comes along, shows here before training."""
    held = product.get("pushes") or []
    if not held or not product["decisions"]:
        return []
    if product["objective"] == "sft":
        lines = ["", "answers trained on that show a behaviour, by rule: all, and as weighted"]
        told = [(one, f"{percent(one['plain']):>7} {percent(one['planned']):>7}") for one in held]
    else:
        lines = ["", "of plain training's first push, the plan leaves [95 %], by rule, strongest first:"]
        clear = [one for one in held if one["left"] is not None]
        told = [(one, f"{_whole(one['left']):>5} % [{_whole(one['low'])}, {_whole(one['high'])}]") for one in clear]
    lines += [f"  {fit(one_line(one['name']), 36)} {text}" for one, text in told[:_PUSHES]]
    if len(told) > _PUSHES:
        lines += [f"  and {len(told) - _PUSHES} more in prepared.json"]
    note = "Not counted: masked tokens, vectors, instructions, and what a model learns of one behaviour from another."
    return [*lines, *_indented(note)]


def _whole(share: float) -> str:
    """A share that may lie beyond 0 and 1, in whole per cent."""
    return str(round(100 * share))


def _rates(rates: Sequence[Row]) -> list[str]:
    if not rates:
        return []
    keys = ("start", "plain", "wanted", "reached")
    lines = ["", f"{'rates forecast by the tilt (experimental)':<46} {' '.join(f'{key:>7}' for key in keys)}"]
    for one in rates:
        numbers = " ".join(f"{percent(one[key]):>7}" for key in keys)
        lines += [f"  {fit(one_line(str(one['name'])), 44)} {numbers}"]
    return lines


def _meeting(product: Row) -> list[str]:
    """What decisions share, and where they contradict."""
    lines: list[str] = []
    for one in product["overlaps"]:
        if one["n_pairs"]:
            correlation = (
                "" if one["correlation"] is None else f"; their offsets correlate {signed(one['correlation'])}"
            )
            lines += ["", f"{counted(one['n_pairs'], 'pair')} touched by both{correlation}:", *_two(one)]
    for one in product["conflicts"]:
        lines += ["", *wrapped(one_line(f"CONFLICT: {one['reason']}:"), _WIDTH), *_two(one)]
    return lines


def _two(one: Row) -> list[str]:
    return [line for key in ("first", "second") for line in wrapped(f"- {one_line(one[key])}", _WIDTH, indent="  ")]


def _exported(written: Row | None) -> list[str]:
    if not written:
        return []
    lines = ["", f"{number(written['n_rows'])} rows exported to {one_line(written['folder'])}"]
    return lines + [line for one in written["left_out"] for line in _indented(f"not exported: {one}")]


def _change(change: Row) -> list[str]:
    lines = wrapped(one_line(f"{change['name']}: {change['action']} by {change['method'].replace('_', ' ')}"), _WIDTH)
    lines += _indented(f"detector: {change['quality'] or 'not measured'}")
    lines += _indented(f"{number(change['n_touched'])} of {number(change['n_inside'])} pairs train differently")
    counts = [("dropped", "left out"), ("down_weighted", "down-weighted"), ("flipped", "turned round")]
    told = [f"{number(len(change[key]))} {word}" for key, word in counts if change[key]]
    lines += _indented(", ".join(told)) if told else []
    if change["n_chars_masked"]:
        lines += _indented(
            f"{number(change['n_chars_masked'])} characters in {number(change['n_answers_masked'])} answers get no loss"
        )
        for one in change["examples"][:_EXAMPLES]:
            shown = f"{one['before']}⟦{one['marked']}⟧{one['after']}"
            lines += ["    " + one_line(shown, limit=_WIDTH - 4)]
    if change["offsets_nats"]:
        lines += ["  offsets in nats (above 0: the pair says less)", *_histogram(change["offsets_nats"], sign="+")]
    if change["weights"]:
        lines += ["  weights", *_histogram(change["weights"], sign="-")]
    for text in (*change["instructions"], *change["vectors"]):
        lines += _indented(one_line(str(text), limit=200))
    return lines


def _histogram(histogram: Row, *, sign: str) -> list[str]:
    """A bar per bin, and one for the pairs that are exactly 0, between those below and above; sign: + shows it."""
    edges = list(histogram["edges"])
    ends = [f"{edge:{sign}.2f}".replace("-", "−") if edge else "0" for edge in edges]
    bars = [
        (low if low == high else f"{low} … {high}", int(count))
        for low, high, count in zip(ends, ends[1:], histogram["counts"], strict=False)
    ]
    if histogram["n_zero"]:
        bars.insert(sum(high <= 0 for high in edges[1:]), ("0", int(histogram["n_zero"])))
    most = max(count for _, count in bars)
    return [f"    {fit(label, 18)} {'█' * round(36 * count / most):<36} {number(count)}" for label, count in bars]


def render_run(run: Row) -> str:
    """Return what was trained and whether the model moved."""
    moved, losses = run["moved"], run["losses"]
    lines = [f"{run['folder']}: {number(run['n_rows'])} rows, {number(run['n_steps'])} steps ({run['objective']})"]
    if losses:
        lines += [f"loss {losses[0]:.4f} at the first step, {losses[-1]:.4f} at the last"]
    if run.get("is_plain"):
        lines += wrapped("The recipe changes nothing: this was plain training, as with --plain.", _WIDTH)
    for reason, count in run["dropped"].items():
        lines += wrapped(f"{number(count)} pairs were not trained on: {reason}", _WIDTH)
    if run["n_cut_tokens"]:
        lines += wrapped(f"{number(run['n_cut_tokens'])} answer tokens were cut: they lie beyond max_length", _WIDTH)
    if moved["n_pairs"]:
        told = "not trained on, to see whether training moved the model (held_out_share in the settings)"
        lines += wrapped(f"{counted(moved['n_pairs'], 'pair')} held out: {told}", _WIDTH)
    if moved["accuracy"] is not None:
        se, kl = moved["margin_se_nats"], moved["kl_nats_per_token"]
        margin = f"margin {signed(moved['margin_nats'])} nats" + ("" if se is None else f" (SE {se:.2f})")
        told = "" if kl is None else f", KL {kl:.4f} nats per token"
        lines += wrapped(f"on them: accuracy {percent(moved['accuracy'])}, {margin}{told}", _WIDTH)
    return "\n".join([*lines, *wrapped(moved["note"], _WIDTH)])


def render_evaluation(product: Row) -> str:
    """Return a line per behaviour: its rate with its interval, answers and prompts; and the sentences read."""
    title = f"{product['name']}: {counted(len(product['prompts']), 'prompt')}; level [95 %], number of answers"
    lines = [one_line(title, limit=_WIDTH)]
    if product["n_missing"]:
        lines += [f"{number(product['n_missing'])} answers did not come"]
    for one in product["scores"]:
        level = f"{_level(one['rate'], 'mean', one['unit'])} {one_line(one['unit_name'])}".rstrip()
        lines += [f"  {fit(one_line(one['id']), 24)} {fit(level, 42)} {number(one['rate']['n_answers']):>8}"]
        some = product.get("sentences", {}).get(one["id"], [])
        told = f"{counted(len(some), 'sentence')}: {' · '.join(f'“{text}”' for text in some)}"
        lines += [f"    {one_line(told, limit=_WIDTH - 4)}"] if some else []
    for note in product.get("notes", []):
        lines += _indented(one_line(note))
    return "\n".join(lines)


def _level(estimate: Row, key: str, unit: str) -> str:
    """A share in per cent, or a number, with its interval; a share that does not vary has none."""
    times, digits = (100.0, 1) if unit == "share" else (1.0, 3)
    mean, low, high = (estimate[name] for name in (key, "low", "high"))
    if mean is None:
        return "–"
    ends = "" if low is None or high is None else f" [{times * low:.{digits}f}, {times * high:.{digits}f}]"
    return f"{times * mean:.{digits}f}{' %' if unit == 'share' else ''}{ends}"


def render_comparison(product: Row) -> str:
    """Return a table per two arms: the change with its interval, each seed, targets first."""
    arms = ", ".join(f"{one['name']} ({len(one['models'])})" for one in product["arms"])
    lines = [one_line(f"arms (training seeds): {arms}", limit=_WIDTH)]
    for pair in dict.fromkeys((one["arm"], one["versus"]) for one in product["changes"]):
        rows = [one for one in product["changes"] if (one["arm"], one["versus"]) == pair]
        rows.sort(key=lambda one: not one["is_target"])
        lines += ["", one_line(f"{pair[0]} against {pair[1]}: from → to, difference [95 %]", limit=_WIDTH)]
        lines += [line for one in rows for line in _compared(one)]
    if any(one["is_target"] for one in product["changes"]):
        lines += ["", "* what the plan aims at (--target)"]
    return "\n".join(lines)


def _compared(change: Row) -> list[str]:
    times, digits = (100.0, 1) if change["unit"] == "share" else (1.0, 3)

    def said(value: float | None) -> str:
        return "–" if value is None else f"{times * value:+.{digits}f}"

    unit = "points" if change["unit"] == "share" else one_line(change["unit_name"])
    mark = "*" if change["is_target"] else " "
    one = change["difference"]
    ends = "" if None in (one["low"], one["high"]) else f" [{said(one['low'])}, {said(one['high'])}]"
    from_to = f"{_point(change['before'], change['unit'])} → {_point(change['after'], change['unit'])}"
    q = "" if change["q"] is None else f", q {change['q']:.3f}"
    seeds = " ".join(said(seed["effect"]) for seed in change["seed_differences"])
    told = f"{unit + '; ' if unit else ''}seeds {seeds}; {counted(change['n_prompts'], 'prompt')}{q}"
    return [
        f"{mark} {fit(one_line(change['id']), 24)} {from_to:<18} {said(one['effect'])}{ends}",
        *_indented(told, 4),
    ]


def _point(estimate: Row, unit: str) -> str:
    value = estimate["effect"]
    return "–" if value is None else f"{100 * value:.1f} %" if unit == "share" else f"{value:.3f}"


def _sides(sides: Row) -> str:
    """How the pairs leaned, and how those lean that are kept; a lean the other way round is said."""
    (a, b), (c, d) = ((sides[key]["for_it"], sides[key]["against_it"]) for key in ("before", "after"))
    told = f"the chosen answer alone had it in {number(a)}, the rejected one in {number(b)}; "
    told += f"kept: {number(c)} and {number(d)}"
    turned = a >= b and d - c > 2 * math.sqrt(c + d)
    return f"{told}. What is kept leans the other way: --balanced takes out the difference alone" if turned else told


def render_cleaned(facts: Row) -> str:
    """Return how many rows went into quarantine, and why."""
    lines = [f"{number(facts['n_kept'])} rows kept, {number(facts['n_quarantine'])} in quarantine"]
    for name, count in facts["by_reason"].items():
        lines += _indented(f"{counted(count, 'row')}: {one_line(str(name), limit=90)}")
        lines += _indented(_sides(facts["sides"][name]), 4) if name in facts.get("sides", {}) else []
    if facts["n_passed"]:
        lines += _indented(f"{number(facts['n_passed'])} of the rows kept were not read (refused, or not sampled)")
    return "\n".join(lines)
