"""Figures of the evidence, drawn from the committed results alone.

    pip install 'tiltscope[bench]' && python benchmarks/figures.py

Reads benchmarks/results/prediction-*.json, residual.json, discovery*.json and selectivity-*.json, those that are
there; writes SVGs to docs/figures/. The same results give the same bytes. Colours: Okabe and Ito 2008, told apart
without colour vision, and every line has a marker of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
RESULTS, FIGURES = HERE / "results", HERE.parent / "docs" / "figures"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX"
GREY = "#777777"
LEFT = 130  # per cent; what is further left is drawn as an arrow
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "tiltscope",
    "svg.fonttype": "path",
}


def main() -> None:
    """Draw every figure whose result is there."""
    import matplotlib as mpl  # an extra of the benches alone

    with mpl.rc_context(STYLE):
        for path in sorted(RESULTS.glob("prediction-*.json")):
            result = json.loads(path.read_text())
            if "units" in result["card"]:
                save(prediction(result["card"]), path.stem)
        drawn = {
            "residual": residual,
            "discovery": discovery,
            "discovery-hh": discovery,
            "selectivity-flat": selectivity,
            "selectivity-sft": selective,
            "selectivity-dpo": selective,
        }
        for name, draw in drawn.items():
            if (RESULTS / f"{name}.json").exists():
                save(draw(json.loads((RESULTS / f"{name}.json").read_text())), name)


def canvas(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, name: str) -> None:
    """Write docs/figures/NAME.svg, without a date."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURES / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    print(FIGURES / f"{name}.svg")


def prediction(card: dict[str, Any]) -> Figure:
    """Forecast against observed change, and every score beside its ceiling."""
    figure = canvas(8, 3.4)
    left, right = figure.subplots(1, 2)
    x, y = (np.array(card["units"][name]) for name in ("forecast", "observed"))
    left.axhline(0, color=GREY, lw=0.6)
    left.axvline(0, color=GREY, lw=0.6)
    left.scatter(x, y, s=5, color=COLOURS[0], alpha=0.35, lw=0, rasterized=False)
    edge = np.array([x.min(), x.max()])
    left.plot(edge, card["slope"] * edge, color=COLOURS[1], lw=1.4)
    left.set_xlabel("forecast, sd of the model's own answers")
    left.set_ylabel("observed change, sd")
    left.set_title(f"{card['n_units']:,} concepts, {card['n_prompts']} held-out prompts", fontsize=9, loc="left")
    scores(right, card)
    return figure


def scores(axes: Axes, card: dict[str, Any]) -> None:
    """Squared correlations with their intervals, nulls below, the ceiling as a line."""
    first = card["primary"]
    ranked = sorted(card["scores"].items(), key=lambda one: (one[0] != first, -one[1]["r2"]))
    names = [name.replace("_", " ") + (" (declared)" if name == first else "") for name, _ in ranked]
    for place, (name, one) in enumerate(ranked):
        colour = COLOURS[1] if name == first else COLOURS[0]
        axes.plot([one["low"], one["high"]], [place, place], color=colour, lw=1.6)
        axes.plot(one["r2"], place, "o", color=colour, ms=5)
    for place, (name, value) in enumerate(card["nulls"].items(), len(ranked)):
        axes.plot(value, place, "x", color=GREY, ms=5)
        names.append(f"null: {name}")
    axes.axvline(card["ceiling"], color="black", lw=1, ls="--")
    axes.text(card["ceiling"], -0.9, f"ceiling {card['ceiling']:.2f}", ha="center", va="bottom", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.9)
    axes.set_xlim(min(0.0, *(one["low"] for one in card["scores"].values())) - 0.02, 1)
    axes.set_xlabel("squared correlation with the change (95 %)")


def residual(result: dict[str, Any]) -> Figure:
    """The variance of the observed change, taken apart."""
    figure = canvas(8, 1.3)
    axes = figure.subplots()
    start = 0.0
    for (name, share), colour in zip(result["variance_of_the_change"].items(), COLOURS, strict=False):
        width = max(share, 0.0)
        axes.barh(0, width, left=start, color=colour, edgecolor="white", label=f"{name} {share:.2f}")
        start += width
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the variance of the observed change")
    axes.legend(ncols=6, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, fontsize=8, handlelength=1)
    return figure


def selectivity(result: dict[str, Any]) -> Figure:
    """Rates at the start, after plain training and under the plan: the suppressed style, and its siblings."""
    figure = canvas(8, 2.4)
    axes = figure.subplots()
    (arm,) = result["arms"]
    names = sorted(arm["styles"], key=lambda id: (id != arm["target"], -arm["styles"][id]["added"][0]))
    for place, id in enumerate(names):
        one = arm["styles"][id]
        axes.plot([100 * one["start"], 100 * one["plain"]], [place, place], color="#BBBBBB", lw=5, zorder=1)
        for name, colour, marker in (("start", GREY, "|"), ("plain", COLOURS[1], "o"), ("arm", COLOURS[0], "D")):
            axes.plot(
                100 * one[name], place, marker, color=colour, ms=9 if marker == "|" else 6, mew=2 * (marker == "|")
            )
        axes.text(101, place, f"{100 * one['closed'][0]:.0f} % closed", va="center", fontsize=8)
    for label, colour, marker in (("before", GREY, "|"), ("plain DPO", COLOURS[1], "o"), ("planned", COLOURS[0], "D")):
        axes.plot([], [], marker, color=colour, label=label)
    said = ["suppressed: " + id if id == arm["target"] else id for id in names]
    axes.set_yticks(range(len(names)), [one.replace("_", " ") for one in said])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("answers that show it, %")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, fontsize=8)
    return figure


def selective(result: dict[str, Any]) -> Figure:
    """What each suppressed style lost of what training added to it, and what its siblings lost of theirs."""
    ((stage, told),) = result["stages"].items()
    names = {"words": "null: two common words masked", "again": "null: another seed"}
    arms = [arm for arm in told["arms"] if arm["method"] in ("masked", *names)]
    arms.sort(key=lambda arm: arm["method"] != "masked")
    measure = "rates" if all("rates" in arm for arm in arms) else "openings"
    figure = canvas(8, 0.7 + 0.4 * len(arms))
    axes = figure.subplots()
    axes.axvspan(-10, 10, color="#EEEEEE", zorder=0)
    axes.axvspan(90, 110, color="#E3F0F8", zorder=0)
    for place, arm in enumerate(arms):
        for number, id in enumerate(told["styles"]):
            gap, mine = arm[measure][id], id == arm["target"]
            if gap["added"][1] <= 0 <= gap["added"][2]:
                continue  # of a gap that may be none, no share can be said
            value, low, high = (100 * one for one in gap["closed"])
            at = place if mine else place + 0.12 * (number - 2)
            colour = "#000000" if mine else COLOURS[number]
            axes.plot([low, high], [at, at], color=colour, lw=1.2, alpha=1 if mine else 0.5, zorder=1)
            marker = "D" if mine else MARKERS[number] if value >= -LEFT else "<"
            axes.plot(max(value, -LEFT), at, marker, color=colour, ms=7 if mine else 4, zorder=2)
    axes.plot([], [], "D", color="#000000", label="the masked style itself")
    for number, id in enumerate(told["styles"]):
        axes.plot([], [], MARKERS[number], color=COLOURS[number], ms=4, label=id.replace("_", " "))
    axes.set_yticks(
        range(len(arms)), [names.get(arm["method"], f"masked: {arm['target']}").replace("_", " ") for arm in arms]
    )
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlim(-LEFT - 5, 175)
    axes.set_xlabel(f"taken back of what plain {stage.upper()} added to the same style, % (below 0: more of it)")
    axes.legend(ncols=6, loc="lower center", bbox_to_anchor=(0.4, 1), frameon=False, fontsize=8, handlelength=1)
    return figure


def discovery(result: dict[str, Any]) -> Figure:
    """Recall by share of planted pairs, one line per method; planted everywhere, and after one kind of prompt."""
    figure = canvas(8, 3.2)
    rows = [row for row in result["table"] if row["confound"] == "none" and row["recall"] is not None]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for axes, place in zip(figure.subplots(1, 2, sharey=True), ("global", "conditional"), strict=True):
        for number, method in enumerate(methods):
            mine = sorted(
                (row["share"], row["recall"]) for row in rows if (row["place"], row["method"]) == (place, method)
            )
            style = {"color": COLOURS[number % 7], "marker": MARKERS[number % 7], "ls": ("-", "--")[number // 7 % 2]}
            if mine:
                axes.plot(*np.array(mine).T, ms=4, lw=1.4, label=method, **style)
        axes.set_xscale("log")
        shares = sorted({row["share"] for row in rows if row["place"] == place})
        axes.set_xticks(shares, [f"{100 * one:g} %" for one in shares])
        axes.minorticks_off()
        axes.set_xlabel("pairs that carry the planted trait")
        axes.set_title(
            "planted everywhere" if place == "global" else "after one kind of prompt", fontsize=9, loc="left"
        )
    figure.axes[0].set_ylabel("planted traits found")
    figure.axes[0].set_ylim(-0.03, 1.03)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


if __name__ == "__main__":
    main()
