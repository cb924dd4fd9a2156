"""Features become hypotheses about what training will teach."""

from __future__ import annotations

from dataclasses import dataclass

from tiltscope.concepts import Concept


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval."""

    effect: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Region:
    """A kind of pair: `id` K<number> (pairs where like concepts are active) or P<number>@<share> (prompts)."""

    id: str
    name: str
    top_tokens: tuple[str, ...]
    n_pairs: int


@dataclass(frozen=True)
class Baseline:
    """One dull explanation: its correlation with the concept's disparity, and the effect left when it is held fixed."""

    r: float
    effect_left: float


@dataclass(frozen=True)
class Hypothesis:
    """One statement about what training would teach; every number of `effect … p` is of the estimand, confirm half."""

    id: str
    view: str  # global | region | prompt
    concept: Concept
    region: Region | None
    direction: str  # more | less
    estimand: str  # tau | delta | shift
    effect: float
    ci_low: float
    ci_high: float
    d: float
    z: float
    p: float
    q: float | None
    delta_displayed: float
    equal_length: Interval
    at_stake: float  # share of (the region's) pairs in which the concept is at stake
    chosen_share: Interval  # of those, share in which the chosen side has more, with Wilson-type clustered interval
    n_pairs: int
    n_groups: int
    half_a: float
    half_b: float
    confirmed: bool
    verdict: str  # confirmed | not confirmed | too few witnesses
    length: str  # robust to length | not robust to length | inseparable from length
    baselines: dict[str, Baseline]  # length, markdown, punctuation, bag_of_words
    family: str  # id of the strongest hypothesis that says the same thing (responses correlate > .9), own id if itself
    pair_ids: tuple[str, ...]  # the pairs that carry it, strongest first, at most 200 in JSON, all in Parquet
