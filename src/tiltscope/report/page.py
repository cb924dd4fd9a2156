"""The content of a report becomes one HTML file.

In:  what `content.gather` returns.
Out: a page that opens from disk, reads without JavaScript, fetches nothing and escapes every text.
Refuses: scripts, links to elsewhere and inline styles: the page's own policy forbids them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from tiltscope.report.text import anchor, number, percent, signed, token

__all__ = ["html"]

Row = Mapping[str, Any]

_WIDTH = 240  # of the interval picture, in its own units
_LENGTHS = {
    "robust to length": ("good", "robust to length"),
    "not robust to length": ("warn", "not robust to length"),
    "inseparable from length": ("warn", "inseparable from length"),
}


def html(content: Row) -> str:
    """Return the report as one self-contained HTML page."""
    import jinja2
    from markupsafe import Markup

    css = files("tiltscope.report").joinpath("report.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tiltscope.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        signed=signed,
        number=number,
        token=token,
        anchor=anchor,
        level=_level,
        p=_p,
        commas=_commas,
        tight=_tight,
    )
    environment.globals.update(length_chip=_length_chip, dull=_dull, bar=_bar, agree=_agree)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    page = environment.get_template("report.html.j2")
    scales = _scales(content["findings"])
    return page.render(c=content, css=Markup(css), digest=digest, scales=scales)


def _level(strength: float) -> int:
    """One of five steps of marking."""
    return min(5, max(1, 1 + int(strength * 5)))


def _p(value: float | None) -> str:
    """A p or q value as it stands in text."""
    if value is None:
        return "–"
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"


def _tight(text: str) -> str:
    """A number and its percent sign stay on one line."""
    return text.replace(" %", "\u00a0%")


def _commas(values: Sequence[object]) -> str:
    return ", ".join(number(value) for value in values)


def _length_chip(hypothesis: Row) -> tuple[str, str]:
    said = str(hypothesis.get("length") or "")
    return _LENGTHS.get(said, ("plain", said or "length not looked at"))


def _agree(hypothesis: Row) -> str:
    half_a, half_b = hypothesis.get("half_a"), hypothesis.get("half_b")
    if half_a is None or half_b is None:
        return "halves not recorded"
    word = "halves agree" if half_a * half_b > 0 else "halves disagree"
    return f"{word}: {signed(half_a)} and {signed(half_b)}"


def _dull(hypothesis: Row) -> list[dict[str, Any]]:
    """The dull explanations, each with whether it takes more than half of the effect away."""
    effect = float(hypothesis["effect"])
    out = []
    for name, baseline in (hypothesis.get("baselines") or {}).items():
        left = baseline.get("effect_left")
        takes = left is not None and (left * effect <= 0 or abs(left) < abs(effect) / 2)
        out.append({"name": str(name).replace("_", " "), "r": baseline.get("r"), "left": left, "takes": takes})
    return out


def _scales(findings: Sequence[Row]) -> dict[str, float]:
    """The half-width of the interval pictures, one for each unit, so that bars can be compared."""
    scales: dict[str, float] = {}
    for finding in findings:
        row = finding["hypothesis"]
        equal = row.get("equal_length") or {}
        ends = [row["ci_low"], row["ci_high"], equal.get("ci_low"), equal.get("ci_high")]
        key = str(finding["unit"])
        scales[key] = max(scales.get(key, 0.0), *(abs(end) for end in ends if end is not None))
    return scales


def _bar(interval: Row | None, scale: float) -> dict[str, float] | None:
    """Where an interval lies in the picture: x of its ends and of its middle."""
    if not interval or any(interval.get(key) is None for key in ("effect", "ci_low", "ci_high")):
        return None
    half = _WIDTH / 2 - 8

    def x(value: float) -> float:
        return round(_WIDTH / 2 + half * max(-1.0, min(1.0, value / (scale or 1.0))), 1)

    return {"low": x(interval["ci_low"]), "high": x(interval["ci_high"]), "mid": x(interval["effect"])}
