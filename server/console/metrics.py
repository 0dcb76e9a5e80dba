"""`/metrics`: the coordinator for Prometheus. Every scrape reads the store anew, and never more than some lean queries:
the newest runs, and of the plants some hundred. Who may ask is the gate's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from server.console.context import Console, console_of
from server.console.exported import Samples
from server.console.figures import moment
from server.notice import read_waits
from server.phases import plan
from server.provision.site import read_sites
from server.run.place import ServerPlace
from server.store.reading import RoundLine
from server.store.rows import RunInfo, RunStatus
from shared.config import RunConfig
from shared.errors import CrossplantError
from shared.pki.certificates import load_bundle
from shared.privacy.ledger import in_use, read_bound

MOST_RUNS, MOST_PLANTS = 3, 300
_ROUNDS_BACK = 10  # rounds that are looked at for the newest losses: some phases measure none

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """Everything, in Prometheus' text format."""
    return Response(text(console_of(request)), media_type=CONTENT_TYPE_LATEST)


def text(console: Console, clock: Callable[[], float] = time.time) -> bytes:
    """What `/metrics` says.

    Args:
        console: what the console shows.
        clock: seconds since 1970.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(console, clock))
    return generate_latest(registry)


@dataclass(eq=False)  # a registry keeps collectors by what they are
class _Scrape(Collector):
    console: Console
    clock: Callable[[], float]

    def collect(self) -> Iterator[Metric]:
        """What there is to say now."""
        samples, began = Samples(), time.perf_counter()
        samples.put("crossplant_build_info", 1, version("crossplant"))
        samples.put("crossplant_store_up", float(_tried(lambda: _runs(samples, self.console))))
        samples.put("crossplant_store_read_seconds", time.perf_counter() - began)
        if self.console.federation is not None:
            folder = self.console.federation
            _tried(lambda: _waits(samples, folder, self.clock()))
            _tried(lambda: _certificates(samples, folder))
        if "://" not in self.console.location:
            _tried(lambda: _privacy(samples, Path(self.console.location) / "privacy"))
        yield from samples.families()


def _tried(what: Callable[[], None]) -> bool:
    """Whether something could be read; what was found before it failed stays. What adds up epsilon may not be here."""
    try:
        what()
    except (CrossplantError, OSError, ValueError, ImportError):
        return False
    return True


def _runs(samples: Samples, console: Console) -> None:
    for position, (_, info) in enumerate(console.reader.runs(limit=MOST_RUNS)):
        _run(samples, console, info)
        if position == 0 or info.status is RunStatus.RUNNING:
            _plants(samples, console, info.name)


def _run(samples: Samples, console: Console, info: RunInfo) -> None:
    page, name = console.reader.page(info.name), info.name
    samples.put("crossplant_run_info", 1, name, info.status.value, info.config_digest)
    samples.put("crossplant_run_running", float(info.status is RunStatus.RUNNING), name)
    samples.put("crossplant_run_created_timestamp_seconds", _seconds(moment(info.created)), name)
    samples.put("crossplant_run_round", info.rounds, name)
    for status, count in page.statuses.items():
        samples.put("crossplant_run_rounds_total", count, name, status)
    if page.newest is not None:
        _round(samples, name, page.newest)
    _tried(lambda: _settings(samples, name, console.store.config(name)))  # settings of another version are no trouble
    order = console.registry.open_order(name)
    if order is not None:
        samples.put("crossplant_order_open", 1, name, order.action.value)
        samples.put("crossplant_order_open_since_timestamp_seconds", _seconds(moment(order.made)), name)


def _round(samples: Samples, run: str, newest: RoundLine) -> None:
    began = _seconds(moment(newest.started))
    ended = None if began is None else began + (newest.seconds or 0.0)
    samples.put("crossplant_run_last_round_timestamp_seconds", ended, run)
    samples.put("crossplant_run_last_round_seconds", newest.seconds, run)
    samples.put("crossplant_run_last_round_bytes", newest.bytes, run)
    for activity, seconds in newest.timings.items():
        samples.put("crossplant_run_last_round_activity_seconds", seconds, run, activity)
    for part in ("asked", "accepted", "joined"):
        samples.put("crossplant_run_last_round_plants", getattr(newest, part), run, part)


def _settings(samples: Samples, run: str, config: RunConfig) -> None:
    samples.put("crossplant_run_rounds_planned", len(plan(config)), run)
    samples.put("crossplant_run_round_deadline_seconds", config.rounds.deadline_s, run)
    privacy = config.recipe.privacy
    if privacy.on:
        samples.put("crossplant_run_privacy_epsilon_budget", privacy.epsilon, run)


def _plants(samples: Samples, console: Console, run: str) -> None:
    for line in console.reader.plants(run)[:MOST_PLANTS]:
        here = (run, line.plant)
        samples.put("crossplant_plant_rounds_total", line.rounds, *here)
        samples.put("crossplant_plant_accepted_rounds_total", line.accepted, *here)
        samples.put("crossplant_plant_missed_rounds", line.last_round - (line.seen_round or 0), *here)
        samples.put("crossplant_plant_bytes_total", line.bytes_down, *here, "down")
        samples.put("crossplant_plant_bytes_total", line.bytes_up, *here, "up")
        samples.put("crossplant_plant_last_seen_timestamp_seconds", _seconds(moment(line.seen)), *here)
        samples.put("crossplant_plant_live_round", line.live_round, *here)
    _losses(samples, console, run)


def _losses(samples: Samples, console: Console, run: str) -> None:
    """The newest that there are: not every phase measures them."""
    lines = console.reader.rounds(run, limit=_ROUNDS_BACK)
    for name in ("holdout_loss", "train_loss"):
        found = next((line.metrics[name] for line in lines if line.metrics.get(name) is not None), None)
        samples.put(f"crossplant_run_{name}", found, run)
    measured = next((line.number for line in lines if line.metrics.get("holdout_loss") is not None), None)
    if measured is not None:
        for report in console.reader.round(run, measured).plants[:MOST_PLANTS]:
            samples.put("crossplant_plant_holdout_loss", report.metrics.get("holdout_loss"), run, report.plant)


def _waits(samples: Samples, federation: Path, now: float) -> None:
    waits = read_waits(ServerPlace(federation).waits, now)
    if waits is None:
        return
    samples.put("crossplant_run_waiting_round", waits.round, waits.run)
    samples.put("crossplant_run_waiting_since_timestamp_seconds", waits.since, waits.run)
    samples.put("crossplant_run_waiting_deadline_timestamp_seconds", waits.until, waits.run)
    samples.put("crossplant_run_waiting_plants", len(waits.plants) + waits.more, waits.run)
    for plant in waits.plants[:MOST_PLANTS]:
        samples.put("crossplant_plant_waited_for", 1, waits.run, plant)


def _certificates(samples: Samples, federation: Path) -> None:
    place = ServerPlace(federation)
    for what, path in (("authority", place.ca), ("server", place.certificate)):
        until = load_bundle(path.read_bytes(), str(path))[0].not_valid_after_utc
        samples.put("crossplant_federation_certificate_expiry_timestamp_seconds", until.timestamp(), what)
    sites = [site for site in read_sites(federation).values() if site.status != "revoked"]
    for site in sites[:MOST_PLANTS]:
        samples.put("crossplant_plant_certificate_expiry_timestamp_seconds", site.until.timestamp(), site.name)


def _privacy(samples: Samples, folder: Path) -> None:
    """Ledgers that lie beside the store: those of plants that were simulated, and the coordinator's own."""
    if not folder.is_dir():
        return
    for one in sorted(folder.iterdir())[:MOST_PLANTS]:
        if in_use(one):
            _tried(lambda one=one: _ledger(samples, one))  # type: ignore[misc]


def _ledger(samples: Samples, folder: Path) -> None:
    spent, budget = read_bound(folder)
    samples.put("crossplant_privacy_epsilon_spent", spent, folder.name)
    samples.put("crossplant_privacy_epsilon_budget", budget, folder.name)


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()
