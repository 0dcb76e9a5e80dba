"""Two models on one stream: a candidate in shadow, or the former one during the new one's probation.

    offered -> shadow -> passed? -> (the keeper writes it down) -> adopted, on probation -> confirmed
                      -> refused                                -> rolled back

`Swapping` sits in the engine and reads no clock and no file. What needs a disk is `client.edge.keeper`, in a thread of
its own; both talk through two queues. A model goes live with the sample after the one at which it was asked for, its
windows filled by the same rows: no sample is lost, and no window is mixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import structs

from client.edge.engine import BREAKS, Model
from client.edge.gates import Check, Seen, SwapSettings, Tally, Verdict, hopeless, judge_live, trial_over
from client.edge.records import Notice, Record, Sample, Scored

LOOK = 64  # windows between two looks at a trial's figures
Role = Literal["shadow", "former"]


@runtime_checkable
class Following(Protocol):
    """A scorer that can take a sample without scoring it."""

    def follow(self, sample: Sample) -> None:
        """Take a sample; the window moves on, no score is computed."""


@dataclass(frozen=True)
class Candidate:
    """A model and what its bundle promises.

    Attributes:
        digest: of the bundle, hex.
        model: what scores.
        alpha: share of false alarms that its threshold is for, beside its guard.
        span: held-out scores that 1 % and 99 % of them do not exceed.
        occupancy: share of held-out windows by mode, (K,).
        every: in shadow, score every n-th sample.
        told: where it came from, for a person.
        forced: a person wants it: no gates, no probation.
    """

    digest: str
    model: Model
    alpha: float
    span: tuple[float, float]
    occupancy: tuple[float, ...] = ()
    every: int = 1
    told: str = ""
    forced: bool = False


@dataclass(frozen=True)
class SwapRecord:
    """Something happened to the models; `event` as in `client.edge.state.Event.what`."""

    time: float
    event: str
    digest: str
    told: str
    checks: tuple[Check, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The record as it is written."""
        checks = [structs.asdict(check) for check in self.checks]
        return {"type": "swap", "time": self.time, "event": self.event, "bundle": self.digest[:12], "text": self.told,
                "checks": checks}  # fmt: skip


@dataclass(frozen=True)
class Offer:
    """To the stage: try this one."""

    candidate: Candidate


@dataclass(frozen=True)
class Go:
    """To the stage: what passed is written down, and goes live.

    Attributes:
        digest: of the bundle.
        uncalibrated: why it is not known to keep its false alarm rate; empty: it is.
    """

    digest: str
    uncalibrated: str = ""


@dataclass(frozen=True)
class Drop:
    """To the stage: end the trial of this one."""

    digest: str


@dataclass(frozen=True)
class Tell:
    """To the stage: pass this on with the next records."""

    event: str
    digest: str
    told: str
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Judged:
    """From the stage: `passed` (waits for Go), `failed`, `rolled back`, `confirmed`."""

    what: Literal["passed", "failed", "rolled back", "confirmed"]
    digest: str
    verdict: Verdict


Order = Offer | Go | Drop


class Trial:
    """One model beside the one in force.

    Attributes:
        side: what is fed here.
        role: `shadow`: `side` is on trial; `former`: the one in force is, and `side` stays warm.
        on_trial: whose figures are counted.
        tally: the figures.
        passed: the gates let it through; it waits for its turn.
    """

    def __init__(self, side: Candidate, role: Role, on_trial: Candidate) -> None:
        self.side, self.role, self.on_trial = side, role, on_trial
        self.tally = Tally(on_trial.occupancy)
        self.passed = False
        self.warm = role == "former"
        self._count = 0

    def feed(self, sample: Sample, scored: Scored | None) -> Scored | None:
        """Feed the side model, and count if both have scored."""
        if self.side.model.guard is not None:
            self.side.model.guard.feed(sample)
        self._count += 1
        scorer = self.side.model.scorer
        if self._count % self.side.every and isinstance(scorer, Following):
            scorer.follow(sample)
            return None
        beside = scorer.feed(sample)
        if beside is None:
            return None
        self.warm = True
        if scored is not None:
            tried, other = (beside, scored) if self.role == "shadow" else (scored, beside)
            self.tally.add(tried.score, tried.threshold, tried.mode, not other.raised_by and not _guarded(scored))
        return beside

    def restart(self) -> None:
        """The next sample begins a recording."""
        self.side.model.scorer.restart()
        if self.side.model.guard is not None:
            self.side.model.guard.restart()


class Swapping:
    """The engine's `Shadow`.

    Args:
        live: what is in force.
        settings: `[swap]`.
        former: stays warm beside it, when the process starts within a probation.

    Attributes:
        orders: from the keeper; taken after a sample.
        tells: from the keeper, to be passed on; taken after a sample or a notice.
        judged: to the keeper.
        newest: what the model in force said last.
    """

    def __init__(self, live: Candidate, settings: SwapSettings, former: Candidate | None = None) -> None:
        self.orders: SimpleQueue[Order] = SimpleQueue()
        self.tells: SimpleQueue[Tell] = SimpleQueue()
        self.judged: SimpleQueue[Judged] = SimpleQueue()
        self.newest: Scored | None = None
        self._live, self._settings = live, settings
        self._trial = None if former is None else Trial(former, "former", live)
        self._next: Model | None = None

    def feed(self, sample: Sample, scored: Scored | None) -> tuple[float | None, tuple[Record, ...]]:
        """See `client.edge.engine.Shadow`. Orders are taken last: both models have seen this sample by then."""
        self.newest = self.newest if scored is None else scored
        ratio, records = self._beside(sample, scored)
        if not self.tells.empty():
            records += self._said(sample.time)
        if not self.orders.empty():
            records += self._take(sample.time)
        return ratio, tuple(records)

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        """See `client.edge.engine.Shadow`."""
        if self._trial is not None and notice.kind in BREAKS:
            self._trial.restart()
        return tuple(self._said(notice.time))

    def _beside(self, sample: Sample, scored: Scored | None) -> tuple[float | None, list[Record]]:
        trial = self._trial
        if trial is None:
            return None, []
        before = trial.tally.windows
        try:
            beside = trial.feed(sample, scored)
        except Exception as error:  # The candidate's own fault ends its trial, not the scoring.
            return None, self._broken(trial, sample.time, error)
        records: list[Record] = []
        if trial.role == "shadow" and trial.side.forced and trial.warm and not trial.passed:
            self._pass(trial, Verdict(()))
        elif trial.tally.windows > before and trial.tally.windows % LOOK == 0:
            records = self._look(trial, sample.time)
        return _ratio(beside) if beside is not None and trial.role == "shadow" else None, records

    def _said(self, time: float) -> list[Record]:
        records: list[Record] = []
        while not self.tells.empty():
            told = self.tells.get()
            if told.event in ("link", "trouble"):
                records.append(Notice(time, told.event, told.told))
            else:
                records.append(SwapRecord(time, told.event, told.digest, told.told, told.checks))
        return records

    def successor(self) -> Model | None:
        """See `client.edge.engine.Shadow`."""
        model, self._next = self._next, None
        return model

    def standing(self) -> tuple[str, str, Seen, bool] | None:
        """Of the trial under way: role, digest on trial, what was seen, whether it passed; None without one."""
        trial = self._trial
        return None if trial is None else (trial.role, trial.on_trial.digest, trial.tally.seen(), trial.passed)

    def promised(self, digest: str) -> tuple[float, tuple[float, float]] | None:
        """What the bundle on trial promises: its share of false alarms, and the span of its held-out scores."""
        trial = self._trial
        if trial is None or trial.on_trial.digest != digest:
            return None
        return trial.on_trial.alpha, trial.on_trial.span

    def _look(self, trial: Trial, time: float) -> list[Record]:
        if trial.passed:
            return []
        seen, alpha = trial.tally.seen(), trial.on_trial.alpha
        early = hopeless(seen, alpha)
        if early is not None:
            return self._fail(trial, time, Verdict((early,)))
        wanted = self._settings.shadow_windows if trial.role == "shadow" else self._settings.probation_windows
        if not trial_over(seen, wanted, self._settings):
            return []
        settings = self._settings
        verdict = judge_live(seen, alpha, trial.on_trial.span, settings.confidence, settings.effective)
        if not verdict.passed:
            return self._fail(trial, time, verdict)
        if trial.role == "shadow":
            self._pass(trial, verdict)
            return []
        return self._confirm(time, verdict)

    def _pass(self, trial: Trial, verdict: Verdict) -> None:
        trial.passed = True
        self.judged.put(Judged("passed", trial.side.digest, verdict))

    def _fail(self, trial: Trial, time: float, verdict: Verdict) -> list[Record]:
        digest = trial.on_trial.digest
        if trial.role == "former":
            self._live, self._next = trial.side, trial.side.model
        self._trial = None
        what: Literal["failed", "rolled back"] = "rolled back" if trial.role == "former" else "failed"
        self.judged.put(Judged(what, digest, verdict))
        event = what if what == "rolled back" else "refused"
        return [SwapRecord(time, event, digest, verdict.why, verdict.checks)]

    def _confirm(self, time: float, verdict: Verdict) -> list[Record]:
        self._trial = None
        self.judged.put(Judged("confirmed", self._live.digest, verdict))
        told = "it behaves as in shadow" + (f"; UNCALIBRATED: {verdict.doubt}" if verdict.doubt else "")
        return [SwapRecord(time, "confirmed", self._live.digest, told, verdict.checks)]

    def _broken(self, trial: Trial, time: float, error: Exception) -> list[Record]:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if trial.role == "shadow":
            return self._fail(trial, time, Verdict((Check("scoring", False, told),)))
        self._trial = None  # The former model broke: the new one has nobody to be compared with.
        unjudged = Check("alarm rate", True, f"the former model fails, so nobody can be asked: {told}", weak=True)
        return self._confirm(time, Verdict((unjudged,)))

    def _take(self, time: float) -> list[Record]:
        records: list[Record] = []
        while not self.orders.empty():
            records += self._obey(self.orders.get(), time)
        return records

    def _obey(self, order: Order, time: float) -> list[Record]:
        if isinstance(order, Offer):
            return self._begin(order.candidate, time)
        trial = self._trial
        if trial is None or trial.side.digest != order.digest:
            return []
        if isinstance(order, Drop):
            self._trial = None
            return []
        return self._go_live(trial, time, order.uncalibrated)

    def _begin(self, candidate: Candidate, time: float) -> list[Record]:
        trial = self._trial
        if candidate.forced and trial is not None and trial.role == "former" and trial.side.digest == candidate.digest:
            trial.side = candidate if not trial.warm else _forced(trial.side, candidate)
            self._pass(trial, Verdict(()))  # It is warm: nothing to wait for.
            return []
        self._trial = Trial(candidate, "shadow", candidate)
        return [SwapRecord(time, "shadow", candidate.digest, candidate.told)]

    def _go_live(self, trial: Trial, time: float, uncalibrated: str) -> list[Record]:
        new, old = trial.side, self._live
        self._live, self._next = replace(new, forced=False, every=1), new.model
        self._trial = None if new.forced else Trial(old, "former", new)
        told = "a person asked for it" if new.forced else "no gate failed; on probation"
        told += f"; UNCALIBRATED: {uncalibrated}" if uncalibrated else ""
        return [SwapRecord(time, "rolled back" if new.forced else "adopted", new.digest, told)]


def _forced(warm: Candidate, asked: Candidate) -> Candidate:
    """The request on the model that is warm already."""
    return replace(warm, told=asked.told, forced=True)


def _guarded(scored: Scored) -> bool:
    return "guard" in scored.raised_by


def _ratio(scored: Scored) -> float | None:
    """Score by threshold; None where that is no number."""
    ratio = scored.score / scored.threshold if scored.threshold else math.nan
    return ratio if math.isfinite(ratio) else None
