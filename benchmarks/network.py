"""A round of a whole federation on loopback beside Flower's default: ours, the default, ours, the default.

Both are three plants with 220,007 weights and next to no data, so that training costs nothing. Ours is `crossplant poc
up`: TLS, node keys, the gateway, databases, agents behind sockets, the gate, the robust mean and the commit; a training
round is one exchange, for its reply carries the evaluation. The default is `benchmarks/flower_default`, started by
`flower-superlink`, `flower-supernode` and `flwr run` without any of that; a round is a train and an evaluate phase.

Where our time goes is told by `benchmarks/stamps`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.figures import Figure, median
from benchmarks.network_default import flower_default
from benchmarks.network_ours import ours
from benchmarks.process_tree import Block
from benchmarks.quiet import QUIET

LIMIT = 0.5
LIMIT_MB = 320.0
ROUND_TRIP_S = 0.1

Stamp = tuple[float, str, str]
_STATIONS = (
    ("server began", "server sent", "server: encode, push to the SuperLink"),
    ("server sent", "node got", "wait for the SuperNode's next question"),
    ("node got", "node stored", "SuperNode fetches the request through the gateway"),
    ("node got", "task started", "executor claims the task and forks (meanwhile)"),
    ("task started", "task read", "the fork fetches the request from the SuperNode"),
    ("task read", "agent asked", "relay: records to packet"),
    ("agent asked", "agent heard", "agent, both ways through its socket"),
    ("agent began", "agent ended", "  of it in the agent: policy, evaluation, training"),
    ("agent heard", "node found", "reply to the SuperNode, wait for its next look"),
    ("node found", "node sent", "SuperNode sends the reply through the gateway"),
)


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """Two blocks of each, in turns; one of each with `quick`."""
    mine, plain = [], []
    for number in range(1 if quick else 2):
        mine.append(ours(scratch / f"ours{number}", 3 if quick else 8))
        plain.append(flower_default(scratch / f"flower{number}", 1 if quick else 2))
    far = ours(scratch / "far", 2 if quick else 4, round_trip_s=ROUND_TRIP_S)
    return [*_compared(mine, plain), *_stages(mine), _distant(far), *_memory(mine, plain)]


def _compared(mine: Sequence[Block], plain: Sequence[Block]) -> Iterator[Figure]:
    busiest = max(block.others.share for block in (*mine, *plain))
    quiet = busiest <= QUIET
    told = "wall is judged" if quiet else "busy: wall is NOT judged"
    for name, limit in (("walls", LIMIT if quiet else None), ("cpus", LIMIT)):
        pairs = [
            statistics.median(getattr(a, name)) / statistics.median(getattr(b, name))
            for a, b in zip(mine, plain, strict=True)
        ]
        label = {"walls": "wall", "cpus": "CPU of all processes"}[name]
        yield median(
            f"a round, ours / Flower's default, {label}", pairs, "x", limit, "3 plants, 220,007 weights, no-op training"
        )
    yield Figure("  other jobs' share of the cores, at most", busiest, "x", note=f"{told}, quiet up to {QUIET}")
    for name, blocks in (("ours", mine), ("Flower's default", plain)):
        walls, cpus, training = (_all(blocks, what) for what in ("walls", "cpus", "training"))
        note = f"training in it {1e3 * statistics.median(training):.0f} ms"
        yield median(f"  {name}: a round, wall", walls, "s", note=note)
        yield median(f"  {name}: a round, CPU of all processes", cpus, "s")


def _all(blocks: Sequence[Block], what: str) -> list[float]:
    return [value for block in blocks for value in getattr(block, what)]


# ---- where our time goes ---------------------------------------------------------------------------------------------


def _stages(mine: Sequence[Block]) -> Iterator[Figure]:
    """Medians over plants and rounds. The round waits for the slowest of three, so they add up to less than it."""
    found: dict[str, list[float]] = {label: [] for *_, label in _STATIONS}
    slowest, heard, settled, asked = [], [], [], []
    for block in mine:
        for stamps, end in rounds(block.stamps, len(block.walls)):
            plants = by_plant(stamps)
            for first, last, label in _STATIONS:
                found[label] += [1e3 * (plant[last] - plant[first]) for plant in plants]
            done = sorted(plant["node sent"] for plant in plants)
            slowest.append(1e3 * (done[-1] - statistics.median(done)))
            listened = max(when for when, _, station in stamps if station == "server heard")
            heard.append(1e3 * (listened - done[-1]))
            settled.append(1e3 * (end - listened))
            asked += _requests(stamps)
    for label, values in found.items():
        yield median(f"  ours: {label}", values, "ms")
    yield median("  ours: the slowest plant behind the median one", slowest, "ms")
    yield median("  ours: server's next look, fetches the last reply", heard, "ms")
    yield median("  ours: judge, aggregate, commit, next round begins", settled, "ms")
    yield median(
        "  ours: requests of a plant to the gateway a round", asked, "", note="questions without an answer included"
    )


def _distant(far: Block) -> Figure:
    told = "each request of a SuperNode takes so much longer; new connections' handshakes are not counted"
    return median(f"  ours: a round with a round trip of {ROUND_TRIP_S} s to the gateway", far.walls, "s", note=told)


def _requests(stamps: Sequence[Stamp]) -> list[float]:
    places = [place for _, place, station in stamps if station == "node request"]
    return [float(places.count(place)) for place in sorted(set(places))]


def rounds(stamps: Sequence[Stamp], count: int) -> Iterator[tuple[list[Stamp], float]]:
    """The stamps of each measured round, and its end; before them are the describe round and a warm-up."""
    begins = [when for when, _, station in stamps if station == "server began"]
    if len(begins) < count + 3:
        raise RuntimeError(f"stamps of {len(begins)} rounds, {count + 3} are needed: has Flower changed?")
    for begin, end in list(pairwise(begins))[2 : 2 + count]:
        yield [stamp for stamp in stamps if begin <= stamp[0] < end], end


def by_plant(stamps: Sequence[Stamp]) -> list[dict[str, float]]:
    """When each plant reached each station, the server's stations included.

    Raises:
        RuntimeError: a plant lacks one.
    """
    shared = {station: when for when, _, station in stamps if station.startswith("server")}
    places = sorted({place for _, place, station in stamps if station == "node got"})
    plants = [shared | {station: when for when, at, station in stamps if at == place} for place in places]
    needed = {station for first, last, _ in _STATIONS for station in (first, last)}
    for place, plant in zip(places, plants, strict=True):
        if missing := needed - set(plant):
            raise RuntimeError(f"{place} left no stamp of {sorted(missing)}: has Flower changed?")
    if not plants:
        raise RuntimeError("no plant left a stamp")
    return plants


# ---- memory ----------------------------------------------------------------------------------------------------------


def _memory(mine: Sequence[Block], plain: Sequence[Block]) -> Iterator[Figure]:
    def of(blocks: Sequence[Block], what: str) -> list[float]:
        return [block.memory[what] for block in blocks]

    told = "SuperNode, executor, supervisor, as if alone on a machine"
    yield median("memory of a plant between rounds, beside the agent", of(mine, "plant"), "MB", LIMIT_MB, told)
    yield median(
        "  Flower's default: SuperNode and SuperExec", of(plain, "plant"), "MB", note="torch comes with every message"
    )
    yield median("  ours: the agent, with torch, data and model", of(mine, "agent"), "MB")
    parts = [name for name in mine[0].memory if ":" in name]
    for name in sorted(parts):
        yield median(f"  ours: {name}, PSS with 3 plants on the machine", of(mine, name), "MB")
    yield median("  ours: server, all processes", of(mine, "server"), "MB")
    yield median("  Flower's default: server, all processes", of(plain, "server"), "MB")
