"""Rounds worth looking at, and whoever looks at them: a store with what happens in real runs, and a visitor."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from server.console import accounts, passwords
from server.console.app import create_app
from server.console.context import Role
from server.console.settings import ConsoleSettings
from server.rounds import ClusterReport, Phase, PlantReport, RoundRecord, Status
from server.store.auditlog import Actor
from server.store.store import RoundStore
from tests.support.stores import CONFIG, record, state

PASSWORD = "correct horse battery"
PLANTS = ("north", "south", "east", "west", "harbour")
REASONS = (
    "late: no reply within 40 s",
    "refused by the plant: CP-603 dp",
    "absent: not connected",
    "NaN: 3 values of head.bias",
    "schema: CP-203 SchemaMismatch: plant {plant!r} sends 50 tags, the federation expects 51; missing LIT301",
)
_STEPS = (
    (Phase.DESCRIBE, "describe"),
    *((Phase.PRETRAIN, f"train {i}/4") for i in range(1, 5)),
    *((Phase.CLUSTER, label) for label in ("centre", "radius", "seed 1/2", "seed 2/2", "refine 1/1")),
)


def step(number: int) -> tuple[Phase, str]:
    """Phase and label of a round: pretraining, clusters, then joint rounds with a refresh each."""
    if number <= len(_STEPS):
        return _STEPS[number - 1]
    i = number - len(_STEPS)
    return (Phase.JOINT, f"train {(i + 1) // 2}/12") if i % 2 else (Phase.JOINT, f"refresh {i // 2}/12")


def plant_report(plant: str, number: int, place: int, label: str) -> PlantReport:
    """A plant's part: every fifth one of the second plant does not count."""
    sizes = {"bytes_down": 410_000, "bytes_up": 405_000, "examples": 1200 + 100 * place}
    if place == 1 and number % 3 == 0:
        reason = REASONS[(number // 3) % len(REASONS)].format(plant=plant)
        return PlantReport(plant, False, reason, bytes_down=410_000, seconds=4.0)
    if not label.startswith("train"):
        return PlantReport(plant, True, None, {}, None, 9000, 2000, 0.4 + 0.1 * place, {"cluster": 0.3})
    loss = (0.4 + 0.05 * place) * math.exp(-0.08 * number) + 0.08 + (0.004 * number if place == 2 else 0.0)
    metrics = {
        "train_loss": loss,
        "holdout_loss": 1.1 * loss,
        "update_norm": 2.0 / number,
        "update_cosine": 0.9 - 0.2 * place,
    }
    timings = {"train": 1.2 + 0.1 * place, "evaluate": 0.2}
    return PlantReport(plant, True, None, metrics, seconds=1.9 + 0.3 * place, timings=timings, **sizes)


def round_of(run: str, number: int, plants: Sequence[str] = PLANTS, began: datetime | None = None) -> RoundRecord:
    """A round that committed; each twelfth is skipped."""
    phase, label = step(number)
    parts = tuple(plant_report(plant, number, i, label) for i, plant in enumerate(sorted(plants)))
    counted = [part for part in parts if part.accepted and part.metrics]
    names = sorted({name for part in counted for name in part.metrics} - {"update_norm", "update_cosine"})
    metrics = {name: sum(part.metrics[name] for part in counted) / len(counted) for name in names}
    clusters = None
    if number > len(_STEPS):
        mass = (0.38, 0.27, 0.17, 0.12, 0.05, 0.01)
        moved = tuple(0.5 * m / math.sqrt(number) + 0.02 * i for i, m in enumerate(mass))
        clusters = ClusterReport(mass, moved, (True,) * 5 + (False,), 4.3, (5, 5, 4, 3, 1, 0))
    status, reason = (Status.SKIPPED, "2 of 5 plants counted, the quorum is 3") if number % 12 == 0 else (None, None)
    started = (began or datetime.now(UTC) - timedelta(seconds=30)).isoformat(timespec="milliseconds")
    return replace(
        record(state(run, number), parts),
        phase=phase,
        label=label,
        started=started,
        seconds=4.6,
        metrics=metrics,
        clusters=clusters,
        status=status or Status.COMMITTED,
        reason=reason,
        timings={"wait": 4.1, "aggregate": 0.3, "muster": 0.1},
    )


def commit(store: RoundStore, number: int, run: str = "a", plants: Sequence[str] = PLANTS) -> None:
    """One round more."""
    began = datetime.now(UTC) - timedelta(seconds=30)
    store.commit(round_of(run, number, plants, began), state(run, number))


def rich(folder: Path, rounds: int = 16, run: str = "a", plants: Sequence[str] = PLANTS) -> RoundStore:
    """A store with one run under way."""
    store = RoundStore.create(str(folder))
    store.start_run(run, CONFIG)
    for number in range(1, rounds + 1):
        commit(store, number, run, plants)
    return store


def console(folder: Path, **settings: Any) -> FastAPI:
    """The console of a store, with an account of each role: `vera`, `olaf`, `ann`."""
    app = create_app(str(folder), ConsoleSettings(**settings))
    if not settings.get("read_only"):
        people(app.state.console.store)
    return app


def people(store: RoundStore) -> None:
    """An account of each role."""
    secret = _secret()
    with store.session(writes=True) as session:
        for name, role in (("vera", Role.VIEWER), ("olaf", Role.OPERATOR), ("ann", Role.ADMIN)):
            accounts.add(session, Actor("os:test", "shell"), name, role, secret)


@cache
def _secret() -> str:
    """Of all of them: it takes its time on purpose."""
    return passwords.hashed(PASSWORD, "nobody")


@dataclass
class Visitor:
    """Somebody with a browser that keeps cookies and runs no script.

    Args:
        app: the console.
    """

    app: FastAPI
    cookies: httpx.Cookies = field(default_factory=httpx.Cookies)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """A page."""
        return self._send("GET", path, None, headers)

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> httpx.Response:
        """A form, as a page sends it."""
        return self._send("POST", path, dict(form), {"origin": "http://127.0.0.1"} | headers)

    def log_in(self, name: str = "ann") -> Visitor:
        """Log in."""
        answer = self.post("/login", {"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        return self

    def _send(self, method: str, path: str, form: Any, headers: Mapping[str, str]) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1", cookies=self.cookies
            ) as client:
                return await client.request(method, path, data=form, headers=dict(headers))

        answer = asyncio.run(send())
        self.cookies.update(answer.cookies)
        return answer
