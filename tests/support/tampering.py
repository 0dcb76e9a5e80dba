"""Runs in which one plant misbehaves in one round, beside the same run with that plant absent from that round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from client.agent.service import PlantAgent
from server.coordinator import Coordinator
from server.rounds import PlantReport, RoundRecord, RunState
from shared.config import RunConfig
from shared.schema import SensorSchema
from shared.series import SiteData
from shared.wire.envelope import Packet
from tests.support import plants
from tests.support.plants import Loopback, Memory, Tamper, federate

CULPRIT = "west"
TRAIN_ROUND, CLUSTER_ROUND = 2, 5  # the first train round and the first with the seeds of clusters
Change = Callable[[Packet], Packet | None]


def sites(names: Sequence[str] = ("north", "south", CULPRIT)) -> list[SiteData]:
    made = []
    for i, name in enumerate(names):
        rng = np.random.default_rng(i)
        values = np.sin(np.arange(110 + 20 * i)[:, None] / (3 + i)) + 0.2 * rng.normal(size=(110 + 20 * i, 2))
        schema = SensorSchema(tags=("FIT101", "LIT101"), period_s=1)
        made.append(SiteData(name, schema, values.astype(np.float32), np.empty((0, 2), np.float32), None))
    return made


def config(**rounds: object) -> RunConfig:
    return plants.settings(rounds={"pretrain": 2, "joint": 1, **rounds})


def misbehave(change: Change, number: int, culprits: Sequence[str] = (CULPRIT,)) -> Tamper:
    """Change what the culprits send in one round."""
    return lambda plant, reply: change(reply) if plant in culprits and reply.numbers["round"] == number else reply


def conduct(settings: RunConfig, journal: Memory, tamper: Tamper, state: RunState | None = None) -> RunState:
    """A run that may fail, or go on from a state: the journal is the caller's."""
    channel = Loopback([PlantAgent(site) for site in sites()], tamper)
    return Coordinator(settings, channel, journal, clock=channel.clock).run(state or RunState("test", settings.digest))


def run(change: Change, number: int, culprits: Sequence[str] = (CULPRIT,), **rounds: object) -> tuple[RunState, Memory]:
    state, journal, _ = federate(sites(), config(**rounds), misbehave(change, number, culprits))
    return state, journal


@cache
def undisturbed() -> tuple[RunState, Memory]:
    return run(lambda reply: reply, 0)


@cache
def absent(number: int) -> tuple[RunState, Memory]:
    """The run in which the culprit is absent from one round."""
    return run(lost, number)


def lost(reply: Packet) -> None:
    """The plant is absent: nothing arrives."""


def told(record: RoundRecord, plant: str = CULPRIT) -> PlantReport:
    return next(report for report in record.plants if report.plant == plant)


def assert_as_if_absent(change: Change, number: int, reason: str) -> None:
    """The round commits without the culprit, says why, and the run ends as if it had been absent from that round."""
    state, journal = run(change, number)
    without, other = absent(number)
    record = journal.records[number - 1]
    assert record.status.value == "committed"
    assert record.accepted == ("north", "south")
    assert not told(record).accepted
    assert reason in (told(record).reason or ""), told(record).reason
    assert [p.plant for p in record.rejected] == [CULPRIT]
    assert [r.model for r in journal.records] == [r.model for r in other.records]
    assert (state.finished, state.members) == (without.finished, without.members)
    # Only that round was lost to it, and it does change the model whether the plant takes part.
    assert journal.records[number].accepted == ("north", "south", CULPRIT)
    assert undisturbed()[1].records[number - 1].model != record.model
