"""What a person decided, as values.

In:  nothing: `load_plan` makes these.
Out: `Decision`, `Plan`; the words a plan may use.
Refuses: a plan that was made from other pairs, features or another scope than those at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from tiltscope.artifact import fingerprint
from tiltscope.errors import StaleProductError
from tiltscope.plan.spec import DetectorSpec

__all__ = ["ACTIONS", "EFFECTS", "METHODS", "PLAN_SIDES", "Decision", "Plan"]

ACTIONS = ("undecided", "allow", "suppress", "amplify")
METHODS = (
    "reward_shaping",
    "example_filtering",
    "token_filtering",
    "activation_steering",
    "steering_ratio",
    "inoculation_prompting",
    "inoculation_ratio",
)
PLAN_SIDES = ("chosen", "rejected", "both")
EFFECTS = ("drop", "down", "flip")

PlanAction = Literal["undecided", "allow", "suppress", "amplify"]
Effect = Literal["drop", "down", "flip"]

_RERUN = {
    "pairs": "tiltscope contrast, then tiltscope plan draft STUDY --overwrite (decisions are kept)",
    "features": "tiltscope contrast, then tiltscope plan draft STUDY --overwrite (decisions are kept)",
    "scope": "tiltscope read, tiltscope contrast, then tiltscope plan draft STUDY --overwrite (new latents)",
}


@dataclass(frozen=True)
class Decision:
    """One entry of a plan. `number` counts from 1 as in the file, `line` is where it starts; `file` is for errors.

    method: set for suppress and amplify, None otherwise. strength: in the unit of the method (docs/decisions/0003),
    None with aim_rate and for methods that have none. aim_rate: "start" (the rate of the starting model), a share
    0 to 1, or None. side None: what the table of signs picks. instruction: the text, where the plan names one;
    `candidates` all the texts it names (one, several to choose from by measured uplift, or none).
    """

    number: int
    line: int
    hypothesis: str | None = None
    concept: str = ""
    detector: DetectorSpec | None = None
    direction: str | None = None
    action: PlanAction = "undecided"
    method: str | None = None
    strength: float | None = None
    aim_rate: float | Literal["start"] | None = None
    where: str = "everywhere"
    side: Literal["chosen", "rejected", "both"] | None = None
    effect: Effect = "drop"
    instruction: str | None = None
    hold: tuple[str, ...] = ()
    reason: str = ""
    reviewer: str = ""
    accept_weak: bool = False
    candidates: tuple[str, ...] = ()
    file: str = "plan.yaml"

    @property
    def place(self) -> str:
        """file:line, for errors."""
        return f"{self.file}:{self.line}"

    @property
    def name(self) -> str:
        """What a person calls it: the concept, else the hypothesis, else the detector."""
        return self.concept or self.hypothesis or (self.detector.shown if self.detector else f"decision {self.number}")


@dataclass(frozen=True)
class Plan:
    """All decisions of a file. made_from: fingerprints of pairs, features, scope and contrast (those that are said)."""

    decisions: tuple[Decision, ...]
    made_from: Mapping[str, str] = field(default_factory=dict)
    path: Path = Path("plan.yaml")

    @property
    def undecided(self) -> tuple[Decision, ...]:
        """Entries that nobody decided; never the same as allowed."""
        return tuple(one for one in self.decisions if one.action == "undecided")

    @property
    def active(self) -> tuple[Decision, ...]:
        """Entries that change training: suppress and amplify."""
        return tuple(one for one in self.decisions if one.action in ("suppress", "amplify"))

    @property
    def fingerprint(self) -> str:
        """Changes with every decision and with what the plan was made from; not with comments, lines or the path."""
        bodies = [asdict(one) for one in self.decisions]
        kept = [{key: body[key] for key in body if key not in ("file", "line", "number")} for body in bodies]
        return fingerprint(kept, dict(self.made_from))

    def check(
        self,
        *,
        pairs_fingerprint: str | None = None,
        features_fingerprint: str | None = None,
        scope_fingerprint: str | None = None,
    ) -> None:
        """Raise `StaleProductError` where the plan was made from other inputs than those at hand.

        What the plan does not say is not compared, but for the scope: latents mean nothing without it, so a plan with
        an active decision on latents must say its scope (or its features) once one is at hand.
        """
        at_hand = {"pairs": pairs_fingerprint, "features": features_fingerprint, "scope": scope_fingerprint}
        for name, now in at_hand.items():
            made = self.made_from.get(name)
            if now is not None and made is not None and made != now:
                raise StaleProductError(
                    f"this plan was made from other {name}",
                    where=str(self.path),
                    found=f"{name} fingerprint {made} in the plan, {now} at hand",
                    hint=f"rerun: {_RERUN[name]}",
                )
        on_latents = [one for one in self.active if one.detector and one.detector.latents]
        if on_latents and scope_fingerprint is not None and not {"scope", "features"} & set(self.made_from):
            raise StaleProductError(
                "this plan speaks of latents and does not say of which scope",
                where=on_latents[0].place,
                found=f"made_from without scope; at hand {scope_fingerprint}",
                hint="rerun: tiltscope plan draft STUDY --overwrite",
            )
