"""Plants and channels for tests: the real agent, the real coordinator, no Flower and no disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from client.agent.service import PlantAgent
from server.channel import Journal
from server.coordinator import Arrival, Coordinator
from server.rounds import RoundRecord, RunState
from server.store.store import RoundStore
from shared.config import RunConfig, build
from shared.series import SiteData
from shared.wire.envelope import Packet

Tamper = Callable[[str, Packet], Packet | None]


class Answers(Protocol):
    """An agent, honest or not."""

    @property
    def name(self) -> str: ...

    def handle(self, packet: Packet) -> Packet: ...


@dataclass
class Loopback:
    """A channel that calls agents directly. `tamper(plant, reply)` may change a reply, or lose it by returning None.

    Its `clock` is for the coordinator: time passes only while somebody waits in vain, so that no busy machine makes an
    agent late, and a deadline costs no seconds.
    """

    agents: Sequence[Answers]
    tamper: Tamper = lambda plant, reply: reply
    sent: list[Packet] = field(default_factory=list)
    received: list[Packet] = field(default_factory=list)
    _waiting: list[Arrival] = field(default_factory=list)
    _now: float = 1000.0

    def clock(self) -> float:
        return self._now

    def nodes(self) -> Sequence[int]:
        return list(range(len(self.agents)))

    def name(self, node: int) -> str | None:
        return None

    def send(self, packet: Packet, nodes: Sequence[int], ttl_s: float, group: str) -> None:
        self.sent.append(packet)
        self._waiting = [arrival for arrival in self._waiting if arrival.beside]
        for node in nodes:
            agent = self.agents[node]
            reply = self.tamper(agent.name, agent.handle(packet))
            if reply is not None:
                self.received.append(reply)
                self._waiting.append(Arrival(node, reply))

    def send_beside(self, packet: Packet, nodes: Sequence[int], ttl_s: float, group: str) -> None:
        before, self._waiting = self._waiting, []
        self.send(packet, nodes, ttl_s, group)
        self._waiting = [*before, *(replace(arrival, beside=True) for arrival in self._waiting)]

    def receive(self, wait_s: float) -> Sequence[Arrival]:
        arrivals, self._waiting = self._waiting, []
        self._now += 0.0 if arrivals else wait_s
        return arrivals


@dataclass
class Memory:
    """A journal in memory."""

    records: list[RoundRecord] = field(default_factory=list)
    states: list[RunState] = field(default_factory=list)

    def commit(self, record: RoundRecord, state: RunState) -> None:
        self.records.append(record)
        self.states.append(state)


def conduct(channel: Loopback, journal: Journal, config: RunConfig, state: RunState | None = None) -> RunState:
    """Carry a run over the loopback, from a state or from its beginning."""
    return Coordinator(config, channel, journal, clock=channel.clock).run(state or RunState("r", config.digest))


def killed_after_every_round(
    agents: Sequence[Answers], config: RunConfig, folder: Path, rounds: int
) -> tuple[list[RoundRecord], RunState]:
    """A run whose server dies whenever it has stored a round, and goes on from there: its records, its last state."""
    store = RoundStore.create(str(folder))
    store.start_run("r", config)

    class Mortal:
        def commit(self, record: RoundRecord, state: RunState) -> None:
            store.commit(record, state)
            raise Killed

    state: RunState | None = None
    for _ in range(rounds):
        with suppress(Killed):
            conduct(Loopback(agents), Mortal(), config, state)
        state = store.latest_state("r")
    assert state is not None
    return store.rounds("r"), state


class Killed(Exception):
    """The end of a process, from inside."""


def settings(**groups: object) -> RunConfig:
    """A small, quick configuration; keyword groups overlay it."""
    small = {
        "rounds": {"pretrain": 1, "joint": 2, "deadline_s": 60.0},
        "recipe": {
            "detector": {"window": 8, "hidden": 8, "latent": 4},
            "training": {"stride": 4, "batch_size": 64},
            "clustering": {"clusters": 3, "unit": 20},
        },
    }
    return build({"small": small, "test": dict(groups)})[0]


def federate(
    sites: Sequence[SiteData],
    config: RunConfig,
    tamper: Tamper = lambda plant, reply: reply,
    privacy: Path | None = None,
) -> tuple[RunState, Memory, Loopback]:
    """A whole run over the loopback; `privacy` is where plants keep their ledgers."""
    agents = [PlantAgent(site, privacy=None if privacy is None else privacy / site.name) for site in sites]
    channel, journal = Loopback(agents, tamper), Memory()
    coordinator = Coordinator(config, channel, journal, clock=channel.clock, signature=lambda: "v1.claim.key.made")
    state = coordinator.run(RunState("test", config.digest))
    return state, journal, channel
