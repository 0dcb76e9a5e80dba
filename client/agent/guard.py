"""What stands between the socket and the plant agent: size, policy, budget, one task at a time, audit log.

Bytes in, bytes out, and never an exception: whatever goes wrong becomes a refusal with a fixed text, while the reason
stands in the audit log. What cannot be logged is not answered.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from client.agent.audit import AuditLog
from client.agent.ledger import Ledger
from client.agent.metrics import AgentMetrics
from client.agent.policy import Facts, Policy, judge
from client.agent.service import PlantAgent
from client.agent.wire import SIZE, refusal, refused_text
from shared.errors import AgentBusy, AuditBroken, CrossplantError, NotAllowed
from shared.wire.envelope import Packet
from shared.wire.frame import decode_frame, encode_frame
from shared.wire.inventory import Kind

log = logging.getLogger(__name__)

_PLACES = 2  # one task that runs and one that waits
_LONGEST_TEXT = 200


def never() -> bool:
    """A caller that waits for ever."""
    return False


class CallStop:
    """Says that the task under way is to be given up: the agent ends, or nobody waits for the answer any more."""

    def __init__(self) -> None:
        self.ending = threading.Event()
        self.gone: Callable[[], bool] = never

    def is_set(self) -> bool:
        """Whether to give up."""
        return self.ending.is_set() or self.gone()


@dataclass
class _Visit:
    """What the audit log says of one request."""

    bytes_in: int
    packet: Packet = field(default_factory=Packet)
    signer: str = ""
    code: str = ""
    reason: str = ""

    def entry(self, bytes_out: int, seconds: float) -> dict[str, Any]:
        texts, round_ = self.packet.texts, self.packet.numbers.get("round")
        return {
            "run": _short(texts.get("run", "")),
            "round": round_ if type(round_) is int and abs(round_) < 2**63 else None,
            "kind": _short(texts.get("kind", "")),
            "model": _short(texts.get("model", "")),
            "signer": self.signer,
            "verdict": "refused" if self.code else "answered",
            "code": self.code,
            "reason": _short(self.reason),
            "bytes_in": self.bytes_in,
            "bytes_out": bytes_out,
            "seconds": round(seconds, 3),
        }


def _out_of_memory(error: Exception) -> bool:
    """Whether there was not enough memory; torch has a class for it on a GPU only."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error))


def _short(text: str) -> str:
    """A peer's text for a person to read."""
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST_TEXT])


class Guard:
    """Serves one plant agent under one policy.

    Args:
        agent: who answers; made with `stop`.
        policy: what is allowed.
        facts: of the plant.
        ledger: the budget.
        audit: the log.
        stop: how the agent is told to give a task up.
        now: the clock.
        metrics: hears of every request once it is logged.
    """

    def __init__(
        self,
        agent: PlantAgent,
        policy: Policy,
        facts: Facts,
        ledger: Ledger,
        audit: AuditLog,
        stop: CallStop,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        metrics: AgentMetrics | None = None,
    ) -> None:
        self._agent, self._policy, self._facts = agent, policy, facts
        self._ledger, self._audit, self._stop, self._now = ledger, audit, stop, now
        self._metrics = metrics
        self._places = threading.BoundedSemaphore(_PLACES)
        self._one_at_a_time = threading.Lock()

    def handle(self, data: bytes, gone: Callable[[], bool] = never, patience_s: float | None = None) -> bytes:
        """Answer one request; safe to call from several threads.

        Args:
            data: a frame, or anything else.
            gone: whether the caller has stopped waiting.
            patience_s: how long it waits; None for ever.
        """
        began, visit, reply = time.perf_counter(), _Visit(len(data)), Packet()
        try:
            self._audit.check()
            reply = self._reply(data, visit, gone, patience_s)
            answer = encode_frame(reply)
        except Exception as error:  # what it says stays here; a code travels
            visit.code, visit.reason = self._judged(error)
            answer = self._refusal(visit)
        seconds = time.perf_counter() - began
        answer = self._logged(visit, answer, seconds)
        self._told(visit, reply, len(answer), seconds)
        return answer

    def drain(self, timeout_s: float) -> bool:
        """Take no task any more and give up the one under way; whether that has ended."""
        self._stop.ending.set()
        return self._one_at_a_time.acquire(timeout=timeout_s)

    def _reply(self, data: bytes, visit: _Visit, gone: Callable[[], bool], patience_s: float | None) -> Packet:
        if len(data) > self._policy.largest_message:
            cause = f"{len(data):,} bytes, the policy allows {self._policy.largest_message:,}."
            raise NotAllowed(cause, word=SIZE)
        visit.packet = decode_frame(data)
        with self._turn(patience_s):
            self._stop.gone = gone
            allowed = judge(self._policy, visit.packet, self._facts, self._now())
            visit.signer = allowed.signer
            if allowed.kind is not Kind.DESCRIBE:
                run = visit.packet.texts.get("run", "")
                self._ledger.charge(run, hashlib.sha256(data).hexdigest(), self._now())
            return self._agent.answer(allowed.packet)

    @contextmanager
    def _turn(self, patience_s: float | None) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise AgentBusy("one task runs and another one waits already.")
        try:
            if not self._one_at_a_time.acquire(timeout=-1 if patience_s is None else max(0.0, patience_s)):
                raise AgentBusy("the task before this one took longer than the caller waits.")
            try:
                if self._stop.ending.is_set():
                    raise AgentBusy("the agent is ending.")
                yield
            finally:
                self._one_at_a_time.release()
        finally:
            self._places.release()

    def _judged(self, error: Exception) -> tuple[str, str]:
        if _out_of_memory(error):
            error = NotAllowed(f"there was not enough memory: {error}", word="resources")
        if isinstance(error, CrossplantError):
            log.warning("plant %s refuses: %s", self._agent.name, error)
            return refused_text(error), error.cause
        log.exception("plant %s cannot answer", self._agent.name)
        return refused_text(error), f"{type(error).__name__}: {error}"

    def _refusal(self, visit: _Visit) -> bytes:
        return encode_frame(refusal(visit.packet, self._agent.name, visit.code))

    def _told(self, visit: _Visit, reply: Packet, bytes_out: int, seconds: float) -> None:
        """Let the monitoring system know; what goes wrong there keeps nobody from the answer."""
        try:
            if self._metrics is not None:
                self._metrics.take(visit.entry(bytes_out, seconds), reply.numbers)
        except Exception:
            log.exception("plant %s: the metrics could not be written", self._agent.name)

    def _logged(self, visit: _Visit, answer: bytes, seconds: float) -> bytes:
        """The answer once it is logged; a refusal when it cannot be. Of the request itself, that tells nothing."""
        try:
            self._audit.append(visit.entry(len(answer), seconds))
        except AuditBroken as error:
            visit.code = self._judged(error)[0]
            return self._refusal(visit)
        return answer
