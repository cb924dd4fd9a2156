"""Aims become strengths: `start` by balance over the pairs, rates by a tilt of the starting model's own answers.

In:  decisions with `aim_rate` and `hold`, what was measured of them on the pairs, the starting model's own answers.
Out: a `Wish` with its `Scored` for `prepare`, and the `Tilt` behind one in rates.
Refuses: wishes that no weighting of the pairs, or of the model's own answers, can meet: named before anything is
trained. The tilt of rates is experimental.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiltscope.artifact import fingerprint, read_json, write_json
from tiltscope.concepts import FIRES_ABOVE
from tiltscope.detectors import text_marks
from tiltscope.errors import UsageError
from tiltscope.interventions import Scored, Wish
from tiltscope.interventions.balance import Balance, balance_examples, balance_pairs
from tiltscope.interventions.rates import RateWish, Tilt, minimum_kl_tilt, tilt_as_decision
from tiltscope.interventions.signs import Scores, standard_scores
from tiltscope.measure import Bench, namesake_of
from tiltscope.pairs import Turn
from tiltscope.plan import Decision, DetectorSpec
from tiltscope.recipe import SIDES, Objective, sign

__all__ = ["NATS_PER_TILT", "Aims", "aims_of", "balanced", "in_balance", "in_rates", "own_sample", "tilted"]

NATS_PER_TILT = 1.0
"""Training is taken to go one nat of tilt per nat of reward: eta / beta = 1. Declared, not fitted."""
N_PROMPTS, N_ANSWERS, NEW_TOKENS = 48, 8, 128
_RIDGE = 1.0


@dataclass(frozen=True)
class Aims:
    """Concepts with an aim or held: own (n_prompts, n_answers, m), chosen and rejected (n_pairs, m) say who shows them.

    decisions: those with an aim, concepts 0 … in this order; the held ones follow.
    """

    decisions: tuple[Decision, ...]
    names: tuple[str, ...]
    own: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray


def in_rates(decision: Decision) -> bool:
    """Whether a decision is carried out as a tilt: it names a rate other than that of the start."""
    return decision.aim_rate is not None and decision.aim_rate != "start"


def in_balance(decision: Decision) -> bool:
    """Whether a decision is to leave its concept no push: its aim is `start`."""
    return decision.aim_rate == "start"


def balanced(
    targets: Sequence[tuple[Decision, Scored]], held: Sequence[tuple[Decision, Scored]], objective: Objective
) -> tuple[Wish, Scored]:
    """Return one decision that leaves every target no push and every held concept its own (interventions/balance.py).

    DPO: offsets over the pairs. SFT: weights with which targets are shown as in the rejected answers, held concepts as
    in all chosen ones. A target that the data push the wished way already is left alone.
    Raises `UsageError` naming what cannot be had together.
    """
    everyone = [*targets, *held]
    scores = [_standard(decision, scored) for decision, scored in everyone]
    chosen, rejected = (np.column_stack([getattr(one, side) for one in scores]) for side in SIDES)
    if objective == "sft" and not np.isfinite(rejected).all():
        raise UsageError(
            "an aim of start needs the rejected answers: they say how often the concept is shown at the start",
            where=targets[0][0].place,
            hint="give a strength, or pair the data with the model's own answers",
        )
    push = (chosen - rejected).sum(axis=0)
    wanted = [sign(decision.action) * push[i] > 0 for i, (decision, _) in enumerate(targets)]
    kept = np.array([*wanted, *(True for _ in held)])
    is_target = np.array([*(True for _ in targets), *(False for _ in held)])[kept]
    found = None
    if any(wanted):
        found = _balance(chosen[:, kept], rejected[:, kept], is_target, objective)
        if found is None:
            raise _not_together(targets, held)
    theta = np.zeros(len(everyone))
    if found is not None:
        theta[kept] = found.theta
    names = "; ".join(decision.name for decision, _ in targets)
    title = f"no push on {names}" + (f"; holding {', '.join(one.name for one, _ in held)}" if held else "")
    inside = np.any([scored.inside for _, scored in everyone], axis=0)
    scale = found.scale if found else 1.0
    shaped = Scored(chosen @ theta, rejected @ theta, inside, in_nats=True, scale=scale)
    return Wish(title, "suppress", "reward_shaping", strength=1.0 if found else 0.0), shaped


def _standard(decision: Decision, scored: Scored) -> Scores:
    """Standardised scores, 0 where the decision does not apply."""
    both = standard_scores(Wish(decision.name, "suppress", "reward_shaping"), scored)
    return Scores(np.where(scored.inside, both.chosen, 0.0), np.where(scored.inside, both.rejected, 0.0))


def _balance(chosen: np.ndarray, rejected: np.ndarray, targets: np.ndarray, objective: Objective) -> Balance | None:
    if objective == "dpo":
        return balance_pairs(chosen - rejected, targets)
    return balance_examples(chosen, np.where(targets, rejected.mean(axis=0), chosen.mean(axis=0)))


def _not_together(targets: Sequence[tuple[Decision, Scored]], held: Sequence[tuple[Decision, Scored]]) -> UsageError:
    names = ", ".join(decision.name for decision, _ in targets)
    if not held:
        what = "no finite strength takes the push away: the scores separate chosen from rejected"
        return UsageError(what, where=targets[0][0].place, found=names, hint="give a strength, or filter examples")
    return UsageError(
        "no weighting of these pairs takes the push from one and leaves it to the other",
        where=targets[0][0].place,
        found=f"{names}; holding {', '.join(decision.name for decision, _ in held)}",
        hint="hold less: what comes with the target in nearly every pair cannot be told from it",
    )


def aims_of(decisions: Sequence[Decision], held: Sequence[Decision], bench: Bench) -> Aims:
    """Measure who shows the concepts: in answers sampled from the starting model (cached), and in the pairs.

    held: a decision-like entry for each id under `hold`, with its detector. Raises `UsageError`.
    """
    everyone = [*decisions, *held]
    pairs = {
        side: np.column_stack([_shown_in_pairs(one, bench, side) for one in everyone])
        for side in ("chosen", "rejected")
    }
    asked, answers = own_sample(bench)
    own = np.stack([_shown_in_texts(one, asked, answers, bench) for one in everyone], axis=-1)
    return Aims(tuple(decisions), tuple(one.name for one in everyone), own, pairs["chosen"], pairs["rejected"])


def own_sample(bench: Bench) -> tuple[list[tuple[Turn, ...]], list[list[str]]]:
    """Return 48 prompts of the pairs, by hash of their group, and 8 answers of the starting model to each; cached."""
    prompts = sorted({row.group: row.prompt for row in bench.rows}.items(), key=lambda one: fingerprint("own", one[0]))
    asked = [prompt for _, prompt in prompts[:N_PROMPTS]]
    return asked, _own_answers(asked, bench)


def _own_answers(prompts: Sequence, bench: Bench) -> list[list[str]]:  # type: ignore[type-arg]
    from tiltscope.lm import Sampling, generate

    sampling = Sampling(N_ANSWERS, bench.ground.seed, max_new_tokens=NEW_TOKENS)
    turns = [[(turn.role, turn.content) for turn in prompt] for prompt in prompts]
    key = fingerprint(bench.policy.fingerprint, turns, str(sampling))
    path = bench.ground.folder / "scores" / f"own-{key}.json"
    if not path.exists():

        def tell(stage: str, done: int, total: int) -> None:
            bench.tell("the model's own answers", done, total)

        write_json(path, generate(bench.policy, prompts, sampling, progress=tell))
    return [list(some) for some in read_json(path, verb="measure")]


def _rule_of(decision: Decision, bench: Bench) -> DetectorSpec | None:
    """The rule or pattern that decides on texts: the detector itself, its check, or what the finding is named after."""
    spec = decision.detector
    if spec is None:
        raise UsageError("nothing says how this concept is detected", where=decision.place, hint="give `detector:`")
    if spec.kind in ("rule", "regex"):
        return spec
    namesake = namesake_of(decision, bench.ground)
    rule = spec.check or (DetectorSpec("rule", namesake) if namesake else None)
    if rule is None and not spec.latents:
        raise UsageError("an aim in rates needs a rule, a pattern or latents", where=decision.place, found=spec.shown)
    return rule


def _shown_in_pairs(decision: Decision, bench: Bench, side: str) -> np.ndarray:
    rule = _rule_of(decision, bench)
    if rule is not None:
        return np.array([float(bool(text_marks(rule, getattr(row, side)))) for row in bench.rows])
    assert decision.detector is not None
    freq = getattr(bench.ground.features, side).freq[:, list(decision.detector.latents)]
    return np.asarray((freq > FIRES_ABOVE).sum(axis=1) > 0, np.float64).ravel()


def _shown_in_texts(
    decision: Decision,
    prompts: Sequence,  # type: ignore[type-arg]
    answers: Sequence[Sequence[str]],
    bench: Bench,
) -> np.ndarray:
    rule = _rule_of(decision, bench)
    if rule is not None:
        return np.array([[float(bool(text_marks(rule, text))) for text in some] for some in answers])
    assert decision.detector is not None
    spec, sae = decision.detector, bench.sae()
    talks = [(prompt, text) for prompt, some in zip(prompts, answers, strict=True) for text in some]
    shown = []
    for held in bench.residuals.of(talks, spec.layer):
        fires = sae.encode_array(held.vectors)[:, list(spec.latents)] > 0
        shares = np.asarray(fires.sum(axis=0)).ravel() / max(len(held.vectors), 1)
        shown.append(float((shares > FIRES_ABOVE).any()))
    return np.array(shown).reshape(len(answers), -1)


def tilted(aims: Aims) -> tuple[Wish, Scored, Tilt]:
    """Return the decision that brings the rates where the plan wants them, and the tilt behind it.

    Raises `UsageError` naming each wish that cannot be met.
    """
    elsewhere = [one for one in aims.decisions if one.where != "everywhere"]
    if elsewhere:
        raise UsageError(
            "an aim in rates speaks of all answers",
            where=elsewhere[0].place,
            found=f"where: {elsewhere[0].where}",
            hint="where: everywhere, or aim_rate: start, or a strength",
        )
    difference = aims.chosen - aims.rejected
    data = NATS_PER_TILT * _bradley_terry(difference)
    targets = {i: one.aim_rate for i, one in enumerate(aims.decisions) if one.aim_rate is not None}
    hold = tuple(range(len(aims.decisions), len(aims.names)))
    tilt = minimum_kl_tilt(aims.own, RateWish(targets, hold), data_tilt=data)
    unmet = [one for one in tilt.unreachable if one.concepts]
    if unmet:
        told = [f"{', '.join(aims.names[i] for i in one.concepts)}: {one.reason}" for one in unmet]
        raise UsageError(
            "rates this plan asks for cannot be reached from the starting model",
            where=aims.decisions[0].place,
            found="; ".join(told),
            hint="aim lower, hold less, or give a strength",
        )
    wish, scored = tilt_as_decision(tilt, aims.chosen, aims.rejected, nats_per_tilt=NATS_PER_TILT, name=_title(aims))
    return wish, scored, tilt


def _title(aims: Aims) -> str:
    named = [f"{one.name} to {one.aim_rate}" for one in aims.decisions]
    held = aims.names[len(aims.decisions) :]
    return "rates: " + "; ".join(named) + (f"; holding {', '.join(held)}" if held else "")


def _bradley_terry(difference: np.ndarray) -> np.ndarray:
    """Ridge Bradley-Terry coefficients (m,) of the labels on concept differences, without intercept."""
    from sklearn.linear_model import LogisticRegression

    x = np.concatenate([difference, -difference])
    y = np.repeat([1, 0], len(difference))
    return np.asarray(LogisticRegression(C=1 / _RIDGE, fit_intercept=False, max_iter=1000).fit(x, y).coef_[0])
