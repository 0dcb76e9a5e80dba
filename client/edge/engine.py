"""The engine: every part of the edge runtime that looks at a sample, in one synchronous, deterministic object.

    sample -> scorer -> local guard -> model in shadow -> stages (sensor faults, drift, alarms) -> records

It reads no clock, no file and no network: the same samples and notices give the same records, whatever the speed. A
part is a small object behind one of the protocols here. A part that fails is left out, told about by a notice of kind
`trouble`, and the others go on; a scorer that fails begins its windows anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

from client.edge.records import Notice, Part, Record, Sample, Scored

BREAKS = frozenset({"gap"})  # kinds of notices after which the next sample begins a recording


class Scoring(Protocol):
    """A model that scores: `client.edge.scorer.Scorer`, or a stand-in."""

    @property
    def digest(self) -> str:
        """Of the bundle that it was made of, hex."""

    def feed(self, sample: Sample) -> Scored | None:
        """Take a sample; what the window that ends with it says, or None while there is no full window."""

    def restart(self) -> None:
        """The next sample begins a recording: no window reaches across."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the local guard says of a sample.

    Attributes:
        score, threshold: above the threshold the sample is anomalous.
        parts: the tags that its score comes from, largest first; empty unless it alarms.
        p_value: share of the guard's calibration scores at least as high; None where that is not known.
    """

    score: float
    threshold: float
    parts: tuple[Part, ...] = ()
    p_value: float | None = None


class Guarding(Protocol):
    """The plant's local guard: `client.edge.guard.Guard`, or a stand-in."""

    def feed(self, sample: Sample) -> Heard | None:
        """Take a sample; None before there is anything to say."""

    def restart(self) -> None:
        """The next sample begins a recording."""


@runtime_checkable
class Naming(Protocol):
    """A guard that names tags whether it alarms or not."""

    def named(self, sample: Sample) -> tuple[Part, ...]:
        """The tags of the sample that was taken last, as in `Heard.parts`."""


@dataclass(frozen=True, slots=True)
class Model:
    """What is swapped as a whole, between two samples.

    Attributes:
        scorer: the federated model with its threshold.
        guard: the plant's own; None without one.
    """

    scorer: Scoring
    guard: Guarding | None = None


class Shadow(Protocol):
    """A candidate that scores beside the current model."""

    def feed(self, sample: Sample, scored: Scored | None) -> tuple[float | None, tuple[Record, ...]]:
        """Take a sample and what the current model says of it.

        Returns:
            the candidate's score divided by its threshold (None without a candidate or a full window), and records.
        """

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        """A notice of the source or the runtime; a kind in `BREAKS` restarts the candidate's windows."""

    def successor(self) -> Model | None:
        """Asked once after every sample: a model to go live with the next one, warm, or None. Asking takes it."""


class Stage(Protocol):
    """Looks at every sample and its score: sensor faults, drift, alarms.

    One with a property `quiet` says whether anything may learn from the next score; one without has no objection.
    """

    def feed(self, sample: Sample, scored: Scored | None) -> tuple[Record, ...]:
        """Take a sample and what the models say of it (None while there is no full window)."""

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        """A notice of the source or the runtime; a kind in `BREAKS` means that the next sample begins a recording."""

    def swapped(self, model: Model) -> tuple[Record, ...]:
        """Another model goes live with the next sample: what was counted under the old threshold is void."""


class Engine:
    """Composes the parts.

    Args:
        model: what is in force.
        stages: in the order in which they see a sample.
        shadow: scores candidates; None without.

    Attributes:
        model: what is in force now.
        samples, scores: counted since the start.
        time: of the newest sample; None before the first.

    Example:
        >>> class Never:
        ...     digest = "0" * 64
        ...     def feed(self, sample): return None
        ...     def restart(self): pass
        >>> Engine(Model(Never())).heard(Notice(0.0, "ended", "the file ended"))
        (Notice(time=0.0, kind='ended', text='the file ended'),)
    """

    def __init__(self, model: Model, stages: Sequence[Stage] = (), shadow: Shadow | None = None) -> None:
        self.model = model
        self.samples = self.scores = 0
        self.time: float | None = None
        self._stages = list(stages)
        self._sound = bool(stages)  # Without all of those that could object, nothing learns.
        self._shadow = shadow

    def feed(self, sample: Sample) -> tuple[Record, ...]:
        """Take a sample; the records that it gives rise to, its `Scored` first if there is one."""
        self.samples, self.time = self.samples + 1, sample.time
        records: list[Record] = []
        scored = self._shadowed(sample, self._guarded(sample, self._scored(sample, records), records), records)
        if scored is not None:
            self.scores += 1
            records.insert(0, scored)
        self._asked("feed", sample.time, records, sample, scored)
        records += self._succeeded(sample.time)
        self._hush(self.model, self._sound and all(getattr(stage, "quiet", True) for stage in self._stages))
        return tuple(records)

    def heard(self, notice: Notice) -> tuple[Record, ...]:
        """Take a notice of the source or the runtime: it is passed on to all parts, and is the first record."""
        if notice.kind in BREAKS:
            self.model.scorer.restart()
            if self.model.guard is not None:
                self.model.guard.restart()
        records: list[Record] = [notice]
        if self._shadow is not None:
            try:
                records += self._shadow.heard(notice)
            except Exception as error:  # The same everywhere below: a part's own fault must not stop the others.
                records.append(self._shadow_left_out(notice.time, error))
        self._asked("heard", notice.time, records, notice)
        return tuple(records)

    def replace(self, model: Model, time: float) -> tuple[Record, ...]:
        """Put another model in force from the next sample on, as a rollback by hand does; stages are told."""
        self._hush(self.model, False)  # Beside the new one it must learn nothing.
        self.model = model
        records: list[Record] = []
        self._asked("swapped", time, records, model)
        return tuple(records)

    def _hush(self, model: Model, quiet: bool) -> None:
        """Tell a model whether all is well, so that its next score may teach it."""
        if hasattr(model.scorer, "quiet"):
            model.scorer.quiet = quiet

    def _asked(self, what: Literal["feed", "heard", "swapped"], time: float, records: list[Record], *of: Any) -> None:
        """Ask every stage; one that fails is left out."""
        for stage in tuple(self._stages):
            try:
                records += getattr(stage, what)(*of)
            except Exception as error:
                self._stages.remove(stage)
                self._sound = False
                records.append(_trouble(stage, time, error))

    def _scored(self, sample: Sample, records: list[Record]) -> Scored | None:
        """The model's score; where it fails, its windows begin anew with the next sample."""
        scorer = self.model.scorer
        try:
            return scorer.feed(sample)
        except Exception as error:
            scorer.restart()
            records.append(_trouble(scorer, sample.time, error, f"sample {sample.number}: no score"))
            return None

    def _guarded(self, sample: Sample, scored: Scored | None, records: list[Record]) -> Scored | None:
        guard = self.model.guard
        if guard is None:
            return scored
        try:
            heard = guard.feed(sample)
            named = _named(guard, sample, scored, heard)
        except Exception as error:
            self.model = Model(self.model.scorer)
            records.append(_trouble(guard, sample.time, error))
            return scored
        if heard is None or scored is None:
            return scored
        # Its attributions are the better ones: docs/edge/alarms.md.
        above = heard.score > heard.threshold
        parts = heard.parts if heard.parts and above else scored.parts
        return replace(
            scored,
            guard=heard.score,
            guard_threshold=heard.threshold,
            guard_p=heard.p_value,
            parts=parts,
            named=named,
        )

    def _shadowed(self, sample: Sample, scored: Scored | None, records: list[Record]) -> Scored | None:
        if self._shadow is None:
            return scored
        try:
            ratio, told = self._shadow.feed(sample, scored)
        except Exception as error:
            records.append(self._shadow_left_out(sample.time, error))
            return scored
        records += told
        return scored if scored is None or ratio is None else replace(scored, shadow=ratio)

    def _succeeded(self, time: float) -> tuple[Record, ...]:
        if self._shadow is None:
            return ()
        try:
            model = self._shadow.successor()
        except Exception as error:
            return (self._shadow_left_out(time, error),)
        return () if model is None else self.replace(model, time)

    def _shadow_left_out(self, time: float, error: Exception) -> Notice:
        shadow, self._shadow = self._shadow, None
        return _trouble(shadow, time, error)


def _named(guard: Guarding, sample: Sample, scored: Scored | None, heard: Heard | None) -> tuple[Part, ...]:
    """What the guard names where only the federated model is above its threshold."""
    if scored is None or heard is None or heard.score > heard.threshold or not scored.score > scored.threshold:
        return ()
    return guard.named(sample) if isinstance(guard, Naming) else ()


def _trouble(part: object, time: float, error: Exception, what: str = "it is left out") -> Notice:
    told = " ".join(f"{type(part).__name__} failed, {what}: {type(error).__name__}: {error}".split())
    return Notice(time, "trouble", told[:500])
