"""Can a reader tell which name belongs to which evidence? A quiz over the strongest global families of a study.

    python benchmarks/blind_names.py STUDY --quiz QUIZ.md              # writes the quiz, for a reader
    python benchmarks/blind_names.py STUDY --answers "A=3 B=7 …"       # scores what the reader said

The quiz shows the names of the ten families with the interval end farthest from zero, shuffled by seed, and for each
family four windows of text with the firing tokens marked (two of the strongest, two drawn at random among all firing
tokens; the windows of names.json), under letters. No ids, no statistics. Guessing gets one of ten right on average.
Writes benchmarks/results/blind_names-<study>.json.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path
from typing import Any

from tiltscope.hypotheses import read_hypotheses
from tiltscope.report import families
from tiltscope.report.words import near_zero

RESULTS = Path(__file__).parent / "results"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def main() -> None:
    """Write the quiz, or score the answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--quiz", type=Path)
    parser.add_argument("--answers")
    parser.add_argument("--reader", default="", help="who answered, for the record")
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    read = ([row for row in rows if row["concept"]["latents"]] for rows in families(read_hypotheses(args.study)))
    heads = sorted((rows[0] for rows in read if rows), key=near_zero, reverse=True)  # what no latent shows needs no eye
    heads = [head for head in heads if head["view"] == "global"][: args.top]
    order = random.Random(args.seed).sample(range(len(heads)), len(heads))  # order[letter] = which family
    if args.quiz:
        args.quiz.write_text(_quiz(heads, order, json.loads((args.study / "names.json").read_text())))
    if args.answers:
        result = _score(heads, order, args.answers) | {"reader": args.reader, "seed": args.seed}
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"blind_names-{args.study.name}.json"
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        print(json.dumps(result, indent=1, ensure_ascii=False))


def _name(head: Any) -> str:
    return re.sub(r" \([LCR]\d+\)$", "", str(head["concept"]["name"]))


def _quiz(heads: list[Any], order: list[int], names: dict[str, Any]) -> str:
    lines = ["Match each letter with the name of what is marked between ⟦ ⟧. Each name is used once.", "", "Names:"]
    lines += [f"{number}. {_name(head)}" for number, head in enumerate(heads, start=1)]
    for letter, family in zip(LETTERS, order, strict=False):
        lines += ["", f"## {letter}"]
        spans = names[heads[family]["concept"]["id"]]["spans"]
        for kind in ("top", "random"):
            for span in [one for one in spans if one["kind"] == kind][:2]:
                lines.append("- " + _marked(span["text"], span["marked"]))
    return "\n".join(lines) + "\n"


def _marked(text: str, marks: list[list[int]]) -> str:
    parts, done = [], 0
    for start, end in marks:
        parts += [text[done:start], "⟦", text[start:end], "⟧"]
        done = end
    return "".join([*parts, text[done:]]).replace("\n", "⏎")


def _score(heads: list[Any], order: list[int], answers: str) -> dict[str, Any]:
    said = {letter: int(number) for letter, number in re.findall(r"([A-Z])\s*=\s*(\d+)", answers)}
    right = {letter: family + 1 for letter, family in zip(LETTERS, order, strict=False)}
    rows = [
        {"letter": letter, "name": _name(heads[number - 1]), "said": said.get(letter), "right": number}
        for letter, number in right.items()
    ]
    return {"n": len(rows), "n_right": sum(row["said"] == row["right"] for row in rows), "rows": rows}


if __name__ == "__main__":
    main()
