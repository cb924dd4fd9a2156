"""All that a plan needs from the model and the features, measured once: scores, marks, likelihood ratios, vectors.

In:  a study, a plan, and (only where a decision needs it) the starting model.
Out: `Measured` per active decision: `Scored` for its method, the detector's quality, what instructions were tried.
Refuses: a weak detector that nobody accepted, a plan made from another study, a place the study does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltscope.artifact import fingerprint, quoted, read_json, read_object, write_bytes, write_json
from tiltscope.behaviours import rule
from tiltscope.detectors import Detection, Inputs, Quality, detect, require_quality, text_scores, whole_direction
from tiltscope.errors import ProductError, UsageError
from tiltscope.features import Features
from tiltscope.interventions import Scored
from tiltscope.pairs import Pair, Pairs, Turn, with_instruction
from tiltscope.plan import Decision, DetectorSpec, Plan
from tiltscope.recipe import SIDES
from tiltscope.residuals import Residuals

if TYPE_CHECKING:
    from tiltscope.lm import Policy

__all__ = [
    "RATIO_ALPHA",
    "Bench",
    "Ground",
    "Measured",
    "measure",
    "namesake_of",
    "save_measured",
    "scored_on_pairs",
]

Progress = Callable[[str, int, int], None]

RATIO_ALPHA = 0.2
"""How far `steering_ratio` steers, in mean residual norms."""
INSTRUCTIONS = (
    "Show a lot of this in your answer: {}.",
    "In your answer, use {} as much as you can.",
    "Please answer with {}.",
)
_STEERED = ("activation_steering", "steering_ratio")
_INSTRUCTED = ("inoculation_prompting", "inoculation_ratio")
_BY_SCORE = ("reward_shaping", "example_filtering", "token_filtering")
_N_PROMPTS, _N_ANSWERS, _NEW_TOKENS = 12, 2, 96


@dataclass(frozen=True)
class Ground:
    """Where measuring stands: the study's folder, its pairs and features, and how to load the starting model."""

    folder: Path
    pairs: Pairs
    features: Features
    load_policy: Callable[[], Policy]
    seed: int = 0
    other_data: bool = False
    """A plan of another dataset, read through the same scope: only the scope must match (cleaning goes on so)."""

    @property
    def rows(self) -> list[Pair]:
        """The pairs that were read, in the order of the features."""
        by_id = {pair.id: pair for pair in self.pairs.rows}
        return [by_id[pair_id] for pair_id in self.features.pair_ids]


@dataclass(frozen=True)
class Measured:
    """What was measured for one decision. uplift: {instruction: score with it minus without}, in sd of the score."""

    decision: Decision
    scored: Scored
    quality: Quality | None
    uplift: Mapping[str, float]


def measure(ground: Ground, plan: Plan, *, progress: Progress | None = None) -> list[Measured]:
    """Measure every active decision; what was measured before with the same content is read back.

    Raises:
        StaleProductError: the plan was made from other pairs, features or another scope.
        UsageError: a detector is weak and not accepted, cannot mark what its method needs, or a place is unknown.
    """
    scope = ground.folder / "scope" / "scope.json"
    own = not ground.other_data
    plan.check(
        pairs_fingerprint=ground.pairs.fingerprint if own else None,
        features_fingerprint=ground.features.fingerprint if own else None,
        scope_fingerprint=read_object(scope, verb="read").get("fingerprint") if scope.exists() else None,
    )
    bench = Bench(ground, progress)
    found = []
    for number, decision in enumerate(plan.active):
        bench.tell("decisions", number, len(plan.active))
        found.append(_one(decision, bench))
    bench.tell("decisions", len(plan.active), len(plan.active))
    return found


class Bench:
    """What several decisions share: the model is loaded when the first needs it, plain log-probs are summed once."""

    def __init__(self, ground: Ground, progress: Progress | None = None) -> None:
        self.ground = ground
        self.rows = ground.rows
        self._progress = progress
        self._policy: Policy | None = None

    def tell(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage is, where anybody listens."""
        if self._progress and total:
            self._progress(stage, done, total)

    @property
    def policy(self) -> Policy:
        """The starting model."""
        if self._policy is None:
            self._policy = self.ground.load_policy()
        return self._policy

    @cached_property
    def residuals(self) -> Residuals:
        """What tokens of answers look like to the starting model."""
        return Residuals(self.ground.folder, self.tell)

    def sae(self) -> Any:
        """The study's autoencoder."""
        from tiltscope.sae import load_sae

        return load_sae(self.ground.folder / "scope" / "sae.safetensors")

    def inside(self, decision: Decision) -> np.ndarray:
        """(n,) bool: the pairs in the decision's place."""
        if decision.where == "everywhere":
            return np.ones(len(self.rows), bool)
        regions = read_object(self.ground.folder / "concepts.json", "regions", verb="contrast")["regions"]
        known = {region["id"]: frozenset(region["pair_ids"]) for region in regions}
        if decision.where not in known:
            raise UsageError(
                "the study has no such kind of pairs",
                where=decision.place,
                found=decision.where,
                hint=f"everywhere, or one of {', '.join(list(known)[:6])} …",
            )
        return np.array([row.id in known[decision.where] for row in self.rows])

    def logps(self, key: str, prompts: Sequence[Sequence[Turn]], steer: Any = None) -> np.ndarray:
        """(2, n) summed log-probs of chosen and rejected answers after these prompts; cached by content."""
        from tiltscope.lm import response_logps

        renderer = self.policy.renderer
        texts = [
            renderer.render(prompt, getattr(row, side))
            for side in SIDES
            for row, prompt in zip(self.rows, prompts, strict=True)
        ]
        vector = [] if steer is None else [steer.layer, np.asarray(steer.vector, np.float32)]
        name = fingerprint(key, self.policy.fingerprint, [text.ids for text in texts], *vector)
        path = self.ground.folder / "scores" / f"logps-{name}.npy"
        if not path.exists():
            told = response_logps(
                self.policy,
                texts,
                steer=steer,
                progress=lambda stage, done, total: self.tell(f"{stage} ({key})", done, total),
            )
            _save_array(path, told)
        return _load_array(path).reshape(2, len(self.rows))


def _save_array(path: Path, values: np.ndarray) -> None:
    import io

    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def _load_array(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise ProductError(
            f"{path.name} is damaged", where=str(path), found=str(error), hint="delete it and run: tiltscope measure"
        ) from error


def scored_on_pairs(decision: Decision, bench: Bench) -> Scored:
    """Return what the decision's detector says of the pairs, whatever its quality: for what a plan holds."""
    spec = decision.detector
    assert spec is not None
    detection = detect(spec, _inputs(decision, spec, bench), where=decision.place)
    return Scored(*_aligned(detection, bench.rows), bench.inside(decision))


def _one(decision: Decision, bench: Bench) -> Measured:
    spec = decision.detector
    if spec is None:
        raise UsageError("nothing says how this concept is detected", where=decision.place, hint="give `detector:`")
    detection = detect(
        spec, _inputs(decision, spec, bench), mark=decision.method == "token_filtering", where=decision.place
    )
    scored = Scored(
        *_aligned(detection, bench.rows),
        bench.inside(decision),
        dict(detection.chosen_spans or {}),
        dict(detection.rejected_spans or {}),
    )
    _require_shown(decision, spec, scored, bench)
    require_quality(decision, detection.quality)
    uplift: dict[str, float] = {}
    if decision.method in _STEERED:
        scored = _steered(decision, scored, bench)
    if decision.method in _INSTRUCTED:
        uplift = _uplift(decision, spec, bench)
        scored = _instructed(decision, scored, max(uplift, key=lambda text: (uplift[text], text)), bench)
    return Measured(decision, scored, detection.quality, uplift)


def _require_shown(decision: Decision, spec: DetectorSpec, scored: Scored, bench: Bench) -> None:
    """Refuse a decision that acts through scores of which none is above 0 in its place."""
    if decision.method not in _BY_SCORE or spec.kind not in ("concept", "latent", "rule", "regex"):
        return
    inside = np.concatenate([side[scored.inside] for side in (scored.chosen, scored.rejected)])
    if (inside > 0).any():
        return
    raise UsageError(
        f"no answer shows {decision.name}: this decision would touch nothing",
        where=decision.place,
        found=f"{spec.shown}: 0 of {len(inside)} answers ({decision.where})",
        hint="another detector, or leave it out; what answers show: tiltscope show "
        f"{quoted(bench.ground.folder / 'check.json')}",
    )


def _inputs(decision: Decision, spec: DetectorSpec, bench: Bench) -> Inputs:
    ground = bench.ground
    plain = Inputs(
        replace(ground.pairs, rows=tuple(bench.rows)),
        ground.features,
        namesake=namesake_of(decision, ground),
        seed=ground.seed,
    )
    if spec.kind not in ("direction", "probe"):
        return plain
    held = bench.residuals.of_pairs(bench.rows, spec.layer)
    texts = [((Turn("user", "Please answer."),), text) for text in (*spec.positive, *spec.negative)]
    told = bench.residuals.of(texts, spec.layer)
    return replace(plain, vectors=held, examples=(told[: len(spec.positive)], told[len(spec.positive) :]))


def namesake_of(decision: Decision, ground: Ground) -> str | None:
    """The library rule that the decision's finding is named after, where the name holds."""
    path = ground.folder / "hypotheses.json"
    if decision.hypothesis is None or not path.exists():
        return None
    for row in read_json(path, verb="contrast"):
        if row["id"] == decision.hypothesis:
            namesake = row.get("namesake")
            known = namesake and namesake["holds"] and namesake["rule"] != "list"
            return str(namesake["rule"]) if known else None
    return None


def _aligned(detection: Detection, rows: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
    place = {pair_id: i for i, pair_id in enumerate(detection.pair_ids)}
    order = [place[row.id] for row in rows]
    return detection.chosen[order], detection.rejected[order]


def _steered(decision: Decision, scored: Scored, bench: Bench) -> Scored:
    from tiltscope.lm import Steer

    layer, norm, vector = _direction(decision, bench)
    scored = replace(scored, vector=vector, layer=layer - 1, norm=norm)
    if decision.method == "activation_steering":
        return scored
    plain = [row.prompt for row in bench.rows]
    ratio = bench.logps("steered", plain, Steer(layer, RATIO_ALPHA * norm * vector)) - bench.logps("plain", plain)
    return replace(scored, ratio_chosen=ratio[0], ratio_rejected=ratio[1])


def _direction(decision: Decision, bench: Bench) -> tuple[int, float, np.ndarray]:
    """Layer (1 = after the first block), mean residual norm there, unit vector: of latents, or of labelled tokens."""
    spec = decision.detector
    if spec is not None and spec.latents:
        sae = bench.sae()
        return sae.layer, sae.mean_norm, sae.direction(spec.latents)
    if spec is None or spec.kind not in ("direction", "probe"):
        raise UsageError(
            "steering needs a direction",
            where=decision.place,
            found=spec.shown if spec else "no detector",
            hint="take `detector:` out to steer along the latents of `concept`, or name others, or a direction: "
            "{kind: direction, labels: {rule: …}}",
        )
    vector = whole_direction(spec, _inputs(decision, spec, bench), where=decision.place)
    held = bench.residuals.of_pairs(bench.rows, spec.layer).values()
    norms = np.concatenate([np.linalg.norm(one.vectors, axis=1) for one in held])
    layer = spec.layer if spec.layer is not None else bench.sae().layer
    return layer, float(norms.mean()), vector


def _instructed(decision: Decision, scored: Scored, instruction: str, bench: Bench) -> Scored:
    scored = replace(scored, instruction=instruction)
    if decision.method == "inoculation_prompting":
        return scored
    ratio = bench.logps("instructed", [with_instruction(row.prompt, instruction) for row in bench.rows])
    ratio = ratio - bench.logps("plain", [row.prompt for row in bench.rows])
    return replace(scored, ratio_chosen=ratio[0], ratio_rejected=ratio[1])


def _uplift(decision: Decision, spec: DetectorSpec, bench: Bench) -> dict[str, float]:
    """How much more of the concept answers show under each instruction; one that the plan fixes is taken as it is."""
    by_rule = spec.kind == "rule" and not spec.lines
    named = rule(spec.source).name if by_rule else decision.name.partition(":")[0]
    told = decision.candidates or tuple(text.format(named) for text in INSTRUCTIONS)
    if len(told) == 1:
        return {told[0]: float("nan")}
    from tiltscope.lm import Sampling, generate

    rng = np.random.default_rng(bench.ground.seed)
    some = [bench.rows[i] for i in sorted(rng.permutation(len(bench.rows))[:_N_PROMPTS].tolist())]
    sampling = Sampling(_N_ANSWERS, bench.ground.seed, max_new_tokens=_NEW_TOKENS)
    scores = {}
    for number, instruction in enumerate(("", *told)):
        bench.tell(f"instructions of decision {decision.number}", number, len(told) + 1)
        prompts = [with_instruction(row.prompt, instruction) if instruction else row.prompt for row in some]
        answers = generate(bench.policy, prompts, sampling)
        scores[instruction] = _expressed(spec, prompts, answers, decision, bench)
    bench.tell(f"instructions of decision {decision.number}", len(told) + 1, len(told) + 1)
    spread = float(np.concatenate(list(scores.values())).std()) or 1.0
    return {text: float(scores[text].mean() - scores[""].mean()) / spread for text in told}


def _expressed(
    spec: DetectorSpec,
    prompts: Sequence[Sequence[Turn]],
    answers: Sequence[Sequence[str]],
    decision: Decision,
    bench: Bench,
) -> np.ndarray:
    """Score sampled answers: by rule or pattern as texts, else through the scope's latents."""
    texts = [answer for some in answers for answer in some]
    namesake = namesake_of(decision, bench.ground)
    if spec.kind in ("rule", "regex", "callable") or namesake:
        by_text = spec if spec.kind in ("rule", "regex", "callable") else DetectorSpec("rule", str(namesake))
        return np.asarray(text_scores(by_text, texts, where=decision.place))
    if not spec.latents:
        raise UsageError(
            "instructions can only be compared by a rule, a pattern or latents",
            where=decision.place,
            found=spec.shown,
            hint="fix one `instruction:` in the plan",
        )
    talks = [(prompt, text) for prompt, some in zip(prompts, answers, strict=True) for text in some]
    sae = bench.sae()
    shares = []
    for held in bench.residuals.of(talks, spec.layer):
        codes = sae.encode_array(held.vectors)
        shares.append(float((codes[:, list(spec.latents)] > 0).sum()) / max(len(held.vectors), 1))
    return np.array(shares)


def save_measured(folder: Path, measured: Sequence[Measured], made_from: Mapping[str, str]) -> None:
    """Write scores.json: quality and uplift per decision, and the inputs it was made from."""
    body = [
        {
            "decision": one.decision.name,
            "line": one.decision.line,
            "method": one.decision.method,
            "quality": None if one.quality is None else one.quality.said,
            "instruction": one.scored.instruction,
            "uplift": {text: None if np.isnan(value) else round(value, 4) for text, value in one.uplift.items()},
        }
        for one in measured
    ]
    write_json(folder / "scores" / "scores.json", {"decisions": body, "inputs": dict(made_from)})
