"""Early stopping on normal data: once the plants' held-out loss falls no more, a phase's other rounds are left out.

The reply to TRAIN measures the model that it was sent. With L(M) the mean over plants of the loss on their held-out
normal data, each plant counting once, M_b the best model of the phase, m its mark and p = `rounds.patience`

    L(M) < L(M_b):             b <- M
    L(M) < (1 - 0.01) L(m):    m <- M,  else after p such rounds in a row:  M <- M_b, and the phase trains no more

(Prechelt 1998, "Early stopping - but when?", section 2.2, with a margin). L is compared over the plants that measured
both, so that who is away in a round moves nothing. No label is in it, and no plant is asked anew.

It guards against training for too long, not against plants that lie: one that reports a loss which never falls can end
a phase early (so patience is 0 where plants need not trust each other; there they vote).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from server import phases
from server.phases import Action, Step
from server.rounds import Best, Phase, PlantReport, RunState
from shared.config import RunConfig

MARGIN = 0.01
"""Share of the loss by which a model must be better to count as progress."""


@dataclass(frozen=True)
class Verdict:
    """What the losses of one training round say.

    Attributes:
        best: of the phase, this round's model considered; None where nothing was measured yet.
        next: index into the plan of the step that comes next where training stops; None: it goes on.
        reason: for people, where it stops.
    """

    best: Best | None
    next: int | None = None
    reason: str = ""


def watches(step: Step, config: RunConfig) -> bool:
    """Whether a step's replies are looked at: of training rounds, where losses are measured without noise."""
    return step.action is Action.TRAIN and config.rounds.patience > 0 and not config.recipe.privacy.on


def judge(state: RunState, step: Step, config: RunConfig, reports: Iterable[PlantReport]) -> Verdict:
    """Whether the model that a training round sent is the phase's best so far, and whether it is time to stop.

    Args:
        state: before the round; its model is the one that was sent and measured.
        step: the round's step.
        config: of the run.
        reports: of the plants; `holdout_loss` of those that were accepted counts.
    """
    if not watches(step, config) or state.model is None:
        return Verdict(state.best)
    now = {r.plant: r.metrics["holdout_loss"] for r in reports if r.accepted and "holdout_loss" in r.metrics}
    best = state.best if state.best is not None and state.best.phase is step.phase else None
    if not now:
        return Verdict(best)
    sent = Best(step.phase, state.finished, state.model, state.optimizer, now, now)
    if best is None:
        return Verdict(sent)
    mark, stalled = (now, 0) if improves(best.mark, now) else (best.mark, best.stalled + 1)
    best = replace(sent if improves(best.losses, now, 0.0) else best, mark=mark, stalled=stalled)
    if stalled < config.rounds.patience:
        return Verdict(best)
    after = after_training(step.phase, config)
    return Verdict(best, after, _in_words(best, state.step, after, config))


def improves(before: Mapping[str, float], now: Mapping[str, float], margin: float = MARGIN) -> bool:
    """Whether the mean loss over the plants that measured both is lower by more than the margin.

    Example:
        >>> improves({"a": 1.0, "b": 2.0}, {"a": 0.9, "b": 2.0}), improves({"a": 1.0, "b": 2.0}, {"b": 1.99, "c": 0.1})
        (True, False)
    """
    both = sorted(before.keys() & now.keys())
    return sum(now[plant] for plant in both) < (1.0 - margin) * sum(before[plant] for plant in both)


def after_training(phase: Phase, config: RunConfig) -> int:
    """Index into the plan of the step that follows a phase's last training round."""
    steps = phases.plan(config)
    return 1 + max(i for i, step in enumerate(steps) if step.phase is phase and step.action is Action.TRAIN)


def _in_words(best: Best, here: int, after: int, config: RunConfig) -> str:
    left = sum(step.action is Action.TRAIN for step in phases.plan(config)[here + 1 : after])
    return (
        f"stopped early: {best.stalled} rounds in a row lowered the held-out loss by less than {MARGIN:.0%}; the best "
        f"model, of round {best.round}, goes on; training rounds left out: {left}"
    )
