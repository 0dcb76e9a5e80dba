"""What a monitoring system reads of an agent: one small file in Prometheus' text format, replaced after each request.

The agent listens on nothing but its socket, so there is no port to ask: node_exporter's textfile collector reads the
file. Names are frozen by a test and stand in docs/metrics-prometheus.md. Nothing in the file goes beyond what the
audit log and the answers say; whatever comes from a server (kinds, runs) cannot make it grow.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from client.agent.ledger import Ledger
from shared.disk import replace_file
from shared.errors import CrossplantError
from shared.exposition import Labels, metric
from shared.privacy.ledger import in_use, read_bound
from shared.wire.envelope import Number
from shared.wire.inventory import Kind

log = logging.getLogger(__name__)

PREFIX = "crossplant_agent_"
HELP = {
    "info": ("gauge", "1; version and digest of the policy as labels."),
    "start_timestamp_seconds": ("gauge", "When the agent was ready."),
    "requests_total": ("counter", "Requests since the start, by kind and verdict (answered, refused)."),
    "refusals_total": ("counter", "Requests that were refused since the start, by the code that the server was told."),
    "busy_seconds_total": ("counter", "Time from a request to its answer, by kind."),
    "received_bytes_total": ("counter", "Bytes of requests."),
    "sent_bytes_total": ("counter", "Bytes of answers."),
    "last_request_timestamp_seconds": ("gauge", "When the newest request was finished."),
    "last_answer_timestamp_seconds": ("gauge", "When the newest one that was not refused was finished."),
    "round": ("gauge", "Round of the newest request that was answered, by its run."),
    "holdout_loss": ("gauge", "Loss of the newest global model on the plant's held-out normal data."),
    "train_loss": ("gauge", "Training loss of the newest round."),
    "calibrated": ("gauge", "1 when the newest calibration has a threshold, 0 when it has too little data for one."),
    "budget_rounds_today": ("gauge", "Rounds that were computed today (UTC)."),
    "budget_rounds_day_limit": ("gauge", "Rounds a day that the policy allows."),
    "privacy_epsilon_spent": ("gauge", "Upper bound of the epsilon that the privacy ledger has spent, over all runs."),
    "privacy_epsilon_budget": ("gauge", "Epsilon that the newest private release was held against."),
    "certificate_expiry_timestamp_seconds": ("gauge", "When a certificate of the plant expires; what the agent sees."),
}
"""Kind and help of each metric, without the prefix; every sample bears the plant's name."""

_KINDS = frozenset(kind.value for kind in Kind)
_MOST_CODES = 100
_FROM_ANSWERS = ("holdout_loss", "train_loss", "calibrated")


@dataclass
class AgentMetrics:
    """Counts what an agent does.

    Args:
        path: the file; one ending in `.prom` is what node_exporter reads.
        plant: its name.
        policy: digest of the policy in force.
        ledger: rounds that the policy's budget was charged with.
        privacy: folder of the privacy ledger; it need not exist.
        certificates: files by what they are; those that cannot be read are left out.
        clock: seconds since 1970.
    """

    path: Path
    plant: str
    policy: str
    ledger: Ledger
    privacy: Path
    certificates: Mapping[str, Path] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    _values: dict[str, dict[Labels, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _spent: tuple[int, float, float | None] | None = None  # size of the ledger, bound, budget
    _warned: bool = False

    def begin(self) -> None:
        """Write the file of an agent that nobody has asked for anything yet."""
        with self._lock:
            self._set("info", 1.0, version=version("crossplant"), policy=self.policy)
            self._set("start_timestamp_seconds", self.clock())
            self._write()

    def take(self, entry: Mapping[str, Any], numbers: Mapping[str, Number]) -> None:
        """Count a finished request and write the file.

        Args:
            entry: as the audit log has it.
            numbers: of the answer; none of a refusal.
        """
        with self._lock:
            self._count(entry)
            if not entry["code"]:
                self._learn(entry, numbers)
            self._write()

    def text(self) -> str:
        """The file: every metric with help and type, those without a value too."""
        lines: list[str] = []
        for name, (kind, told) in HELP.items():
            lines += metric(PREFIX + name, kind, told, self._values.get(name, {}))
        return "\n".join(lines) + "\n"

    def _count(self, entry: Mapping[str, Any]) -> None:
        kind = entry["kind"] if entry["kind"] in _KINDS else "unknown"
        self._add("requests_total", 1.0, kind=kind, verdict=entry["verdict"])
        self._add("busy_seconds_total", entry["seconds"], kind=kind)
        self._add("received_bytes_total", entry["bytes_in"])
        self._add("sent_bytes_total", entry["bytes_out"])
        self._set("last_request_timestamp_seconds", self.clock())
        if entry["code"]:
            code, known = _without_moment(entry["code"]), self._values.get("refusals_total", {})
            if len(known) < _MOST_CODES or self._key({"code": code}) in known:
                self._add("refusals_total", 1.0, code=code)

    def _learn(self, entry: Mapping[str, Any], numbers: Mapping[str, Number]) -> None:
        self._set("last_answer_timestamp_seconds", self.clock())
        if entry["round"] is not None:
            self._values.pop("round", None)  # only the newest run: names of runs come from outside
            self._set("round", float(entry["round"]), run=entry["run"])
        for name in _FROM_ANSWERS:
            if name in numbers and math.isfinite(numbers[name]):
                self._set(name, float(numbers[name]))

    def _write(self) -> None:
        self._look()
        try:
            replace_file(self.path, self.text().encode(), 0o644)
            self._warned = False
        except OSError as error:  # no answer waits for a monitoring system
            if not self._warned:
                log.warning("plant %s: cannot write %s: %s", self.plant, self.path, error.strerror)
            self._warned = True

    def _look(self) -> None:
        """What others keep: budgets and certificates."""
        self._set("budget_rounds_today", float(self.ledger.today(datetime.fromtimestamp(self.clock(), UTC))))
        self._set("budget_rounds_day_limit", float(self.ledger.budget.rounds_a_day))
        for what, path in self.certificates.items():
            until = _expiry(path)
            if until is not None:
                self._set("certificate_expiry_timestamp_seconds", until, certificate=what)
        self._look_at_privacy()

    def _look_at_privacy(self) -> None:
        """Read the ledger when it has grown; one that is broken shows in refusals, not here."""
        try:
            if not in_use(self.privacy):
                return
            size = (self.privacy / "ledger.jsonl").stat().st_size
            if self._spent is None or self._spent[0] != size:
                self._spent = (size, *read_bound(self.privacy))
        except (CrossplantError, OSError):
            self._spent = None
            return
        self._set("privacy_epsilon_spent", self._spent[1])
        if self._spent[2] is not None:
            self._set("privacy_epsilon_budget", self._spent[2])

    def _add(self, name: str, value: float, **labels: str) -> None:
        self._set(name, value + self._values.get(name, {}).get(self._key(labels), 0.0), **labels)

    def _set(self, name: str, value: float, **labels: str) -> None:
        self._values.setdefault(name, {})[self._key(labels)] = float(value)

    def _key(self, labels: Mapping[str, str]) -> Labels:
        return (("plant", self.plant), *labels.items())


def _without_moment(code: str) -> str:
    """A refusal's code and word; when the plant opens again is not part of it.

    Example:
        >>> _without_moment("CP-603 hours until 2026-11-22T18:00Z")
        'CP-603 hours'
    """
    return " ".join(code.split()[:2])


def _expiry(path: Path) -> float | None:
    """When the first certificate of a file expires, seconds since 1970; None: it cannot be read."""
    from shared.pki.certificates import load_bundle  # cryptography, which an agent without a kit does not need

    try:
        return load_bundle(path.read_bytes(), str(path))[0].not_valid_after_utc.timestamp()
    except (OSError, CrossplantError):
        return None
