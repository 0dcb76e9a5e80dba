"""Fifty training rounds of a federation whose processes are killed -9 at random: none lost, none twice, memory flat.

`make soak` runs it (some minutes); CROSSPLANT_SOAK_SEED chooses other moments. What was killed when, what became of it
and what every process held is left as `soak.json` and `soak.txt` in the test's folder.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import psutil
import pytest

from server import phases
from server.rounds import RoundRecord
from server.store.store import RoundStore
from simulations.poc_cli import _config
from tests.support.network import SETTINGS, WHO, Network, network, running_below

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

ROUNDS, PLANTS = 50, 4
SEED = int(os.environ.get("CROSSPLANT_SOAK_SEED", "4"))
TIMES = ("rounds.grace_s=3.0", "rounds.deadline_s=40.0")
COORDINATOR = {"superlink": 3, "serverapp": 3, "executor": 2, "gateway": 3, "server": 1}
PLANT = (
    ("agent", "plant-1"), ("agent", "plant-2"), ("agent", "plant-3"), ("relay", "plant-1"), ("relay", "plant-2"),
    ("fork", "plant-2"), ("fork", "plant-3"), ("supernode", "plant-1"), ("supernode", "plant-2"),
)  # fmt: skip
"""Plant 4 is left alone. A SuperNode is refused for a minute after it was killed, so there are two of these only."""
QUIET_FROM = 0.62
"""Share of the rounds after which the coordinator's processes are left alone, so that their memory can be judged."""
FEWEST_SAMPLES = 15
LARGEST_GROWTH_MB, LARGEST_GROWTH = 8.0, 0.06


@dataclass
class Kill:
    """A kill -9 to come: so long after a round was committed; then what was hit.

    Attributes:
        after_round, delay_s: when.
        who, where: what; empty for the coordinator's.
        at_s: since the start; 0 before it happened.
        pid: what was hit.
        next_round_s: until the next committed round.
    """

    after_round: int
    delay_s: float
    who: str
    where: str
    at_s: float = 0.0
    pid: int = 0
    next_round_s: float = 0.0


def planned(rounds: int, seed: int) -> list[Kill]:
    """Kills at random moments, in order."""
    dice = random.Random(seed)
    coordinator = [(who, "") for who, times in COORDINATOR.items() for _ in range(times)]
    kills = [Kill(dice.randint(2, int(QUIET_FROM * rounds)), dice.uniform(0, 4), *target) for target in coordinator]
    kills += [Kill(dice.randint(2, rounds - 8), dice.uniform(0, 4), *target) for target in PLANT]
    return sorted(kills, key=lambda kill: (kill.after_round, kill.delay_s))


@dataclass
class Watch:
    """What a soak sees: rounds at every look, memory once a round, kills when they are due."""

    there: Network
    kills: list[Kill]
    began: float = field(default_factory=time.monotonic)
    records: list[RoundRecord] = field(default_factory=list)
    memory: dict[tuple[str, str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    changed: float = 0.0

    def look(self) -> None:
        """One look; what was committed before must still be there, as it was."""
        with RoundStore.open(str(self.there.out)) as store:  # it is there: that it cannot be read is a fault
            records = store.rounds(store.newest_run())
        assert records[: len(self.records)] == self.records, "the committed history changed"
        if len(records) > len(self.records):
            self.records, self.changed = records, self.now()
            self._recovered()
            for key, process in members(self.there):
                with suppress(psutil.Error):
                    self.memory[key].append(process.memory_full_info().pss / 1e6)

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def due(self) -> Kill | None:
        """The next kill, when its time has come."""
        left = [kill for kill in self.kills if not kill.pid]
        if not left or len(self.records) < left[0].after_round:
            return None
        return left[0] if self.now() >= self.changed + left[0].delay_s else None

    def kill(self, kill: Kill) -> None:
        """Hit it, if it is there at this moment."""
        for victim in targets(self.there, kill)[:1]:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
                kill.pid, kill.at_s = victim.pid, self.now()

    def _recovered(self) -> None:
        for kill in self.kills:
            if kill.pid and not kill.next_round_s:
                kill.next_round_s = self.now() - kill.at_s


def targets(there: Network, kill: Kill) -> list[psutil.Process]:
    """Processes that a kill may hit; a fork of the relay's executor lives for less than a second, and is waited for."""
    if kill.who not in ("relay", "fork"):
        return there.found(kill.who, kill.where)
    found = there.found("relay", kill.where)
    pids = {process.pid for process in found}
    executors = [process for process in found if parent(process) not in pids]
    return executors if kill.who == "relay" else forks(executors)


def forks(executors: list[psutil.Process], longest_s: float = 20.0) -> list[psutil.Process]:
    """Processes that answer a message just now."""
    ends = time.monotonic() + longest_s
    while time.monotonic() < ends:
        for executor in executors:
            with suppress(psutil.NoSuchProcess):
                if children := executor.children():
                    return list(children)
        time.sleep(0.005)
    return []


def members(there: Network) -> Iterator[tuple[tuple[str, str, int], psutil.Process]]:
    """Every long-lived process with its kind and plant."""
    yield ("poc", "", there.process.pid), psutil.Process(there.process.pid)
    for who in WHO:
        for process in targets(there, Kill(0, 0.0, who, "")):
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                plant = next((name for name in (f"plant-{n + 1}" for n in range(PLANTS)) if name in line), "")
                yield (who, plant, process.pid), process


def parent(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(process.ppid())
    return 0


@dataclass(frozen=True)
class Held:
    """Memory of a process that lived long enough to be judged: medians of the first and the last third, PSS in MB."""

    who: str
    where: str
    pid: int
    samples: int
    early_mb: float
    late_mb: float

    @property
    def flat(self) -> bool:
        """Whether it grew no more than caches and the heap's own ups and downs."""
        return self.late_mb - self.early_mb <= max(LARGEST_GROWTH_MB, LARGEST_GROWTH * self.early_mb)


def judged(memory: dict[tuple[str, str, int], list[float]]) -> list[Held]:
    """Those with enough samples, without their first three: a process that has just started still loads things."""
    found = []
    for key, samples in memory.items():
        third = (len(samples) - 3) // 3
        if len(samples) >= FEWEST_SAMPLES:
            found.append(Held(*key, len(samples), median(samples[3 : 3 + third]), median(samples[-third:])))
    return sorted(found, key=lambda held: (held.who, held.where))


def report(watch: Watch, held: list[Held], folder: Path) -> str:
    """Write what happened; returns the table."""
    counts = {status: sum(r.status.value == status for r in watch.records) for status in ("committed", "skipped")}
    told = {"seed": SEED, "seconds": round(watch.now(), 1), "rounds": counts}
    content = {**told, "kills": [asdict(kill) for kill in watch.kills], "memory": [asdict(each) for each in held]}
    content["samples"] = {" ".join(map(str, key)): [round(mb, 1) for mb in all_] for key, all_ in watch.memory.items()}
    (folder / "soak.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    lines = [f"{told}", "", "kill -9 of              after round    at s   next round s"]
    lines += [
        f"{k.who + ' ' + k.where:<24}{k.after_round:>11}{k.at_s:>8.1f}{k.next_round_s:>15.1f}" for k in watch.kills
    ]
    lines += ["", "PSS of                  rounds  early MB   late MB"]
    lines += [f"{h.who + ' ' + h.where:<24}{h.samples:>6}{h.early_mb:>10.1f}{h.late_mb:>10.1f}" for h in held]
    (folder / "soak.txt").write_text(table := "\n".join(lines), encoding="utf-8")
    return table


def test_fifty_rounds_survive_random_kills(tmp_path: Path) -> None:
    flags = [word for setting in TIMES for word in ("--set", setting)]
    steps = phases.plan(_config(PLANTS, ROUNDS, None, [*SETTINGS, *TIMES]))
    with network(tmp_path, PLANTS, ROUNDS, *flags) as there:
        there.wait_for_round(1)
        watch = Watch(there, planned(len(steps), SEED))
        try:
            while there.alive():
                watch.look()
                if (kill := watch.due()) is not None:
                    watch.kill(kill)
                time.sleep(0.2)
        finally:
            print(report(watch, held := judged(watch.memory), tmp_path))
        watch.records, before = there.finish(), watch.records
        assert watch.records[: len(before)] == before
        assert running_below(there.out) == []
    done = [(record.phase, record.label) for record in watch.records if record.status.value == "committed"]
    assert done == [(step.phase, step.label) for step in steps]
    assert sum(label.startswith("train") for _, label in done) == ROUNDS
    assert [record.number for record in watch.records] == list(range(1, len(watch.records) + 1))
    assert all(kill.pid for kill in watch.kills), "not every kill found its victim"
    last = {plant for record in watch.records[-8:] for plant in record.accepted}
    assert last == {f"plant-{number + 1}" for number in range(PLANTS)}, "a plant did not come back"
    assert {each.who for each in held} == {"poc", *WHO}, "too few samples of some"
    assert [each for each in held if not each.flat] == [], "memory grew"
