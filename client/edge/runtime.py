"""The running edge: source -> engine -> sinks, until the source ends or somebody says stop.

It needs the bundle's folder and nothing else: the server may be gone for a month. A sink that fails is told about and
the others go on; a live source that fails is opened again, after a growing pause.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import time as wall_clock
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from client.edge.assembly import Assembly, assemble
from client.edge.engine import Engine
from client.edge.memory import give_back
from client.edge.options import Pause, one_line
from client.edge.records import Notice, Record, Sample
from client.edge.settings import Settings
from client.edge.sinks.base import Delivery, Sink, SinkSettings, open_sinks
from client.edge.sinks.lines import Lines
from client.edge.sole import sole
from client.edge.sources.base import Source, SourceSettings, open_source
from shared.errors import CrossplantError, FileTrouble

CLOSING_S = 5.0  # that sinks have at the end
TURN_S = 1.0  # between two looks at what people ordered
Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What to run.

    Attributes:
        bundle: one bundle, or a folder of versions.
        source: as `--source`.
        sinks: where records go.
        settings: of the edge.toml.
        source_options: the source's own settings.
        speed: of a replay; None: as fast as it goes.
        limit: scores after which it ends; None: none.
        state: folder that outlives the process; None: nothing is kept.
        trust: file with the agent's public key.
        int8: run the graph in 8 bits.
    """

    bundle: Path
    source: str
    sinks: tuple[SinkSettings, ...]
    settings: Settings = field(default_factory=Settings)
    source_options: dict[str, str] = field(default_factory=dict)
    speed: float | None = None
    limit: int | None = None
    state: Path | None = None
    trust: Path | None = None
    int8: bool = False


@dataclass(frozen=True)
class Outcome:
    """What was done.

    Attributes:
        samples, scores: counted.
        deliveries: how each sink stands at the end, by name.
    """

    samples: int
    scores: int
    deliveries: dict[str, Delivery]


def run(job: Job, say: Say) -> Outcome:
    """Score until the source ends, the limit is reached, the reader of the only sink leaves, or SIGTERM or SIGINT.

    Args:
        job: what to run.
        say: for a person: notices, one line each.

    Raises:
        CrossplantError: it cannot start, and why: the bundle, the source or a sink is not as it must be.
    """
    if job.state is not None:
        _make_folder(job.state)
    with sole(job.state):
        return _alone(job, say)


def _alone(job: Job, say: Say) -> Outcome:
    _prepare()
    whole = assemble(job.bundle, job.settings, job.state, job.trust, job.int8)
    source = SourceSettings(job.source, whole.bundle.schema, job.speed, job.source_options)
    first = open_source(source)
    outlet = Outlet(open_sinks(job.sinks), say)
    give_back()
    try:
        return asyncio.run(_run(job, whole, first, source, outlet))
    finally:
        whole.close()


def _prepare() -> None:
    """Import onnxruntime, and give back what only that needed, before the next heavy thing begins."""
    give_back()
    with suppress(ImportError):  # The scorer says how to get it.
        import onnxruntime  # noqa: F401
    give_back()


async def _run(job: Job, whole: Assembly, first: Source, source: SourceSettings, outlet: Outlet) -> Outcome:
    engine = whole.engine
    await outlet.start()
    for notice in whole.start():
        outlet.put(engine.heard(notice))
    gc.collect()
    gc.freeze()  # What is there now stays: the collector need not look at it again.
    pump = asyncio.create_task(_pump(job, engine, _reopened(first, source, outlet), outlet))
    turns = asyncio.create_task(_turns(whole, outlet))
    with _stops(pump), suppress(asyncio.CancelledError):
        await pump
    turns.cancel()
    await asyncio.wait([turns])
    stopped = pump.cancelled()
    if stopped:
        outlet.put(engine.heard(Notice(wall_clock.time(), "stopped", "asked to stop")))
    await outlet.close(CLOSING_S)
    if not stopped and (error := pump.exception()) is not None:
        raise error
    return Outcome(engine.samples, engine.scores, outlet.standing())


async def _turns(whole: Assembly, outlet: Outlet) -> None:
    """Once a second: what people ordered, what must be kept, how the sinks stand."""
    told = ""
    while True:
        await asyncio.sleep(TURN_S)
        now = wall_clock.time() if whole.engine.time is None else whole.engine.time
        try:
            outlet.put(whole.turn(now))
        except Exception as error:  # Scoring must not stop for it; it is said once.
            if (words := one_line(error)) != told:
                told = words
                outlet.put((Notice(now, "trouble", f"orders and states: {words}"),))
        outlet.note()


class _stops:  # noqa: N801 (reads as a statement)
    """Cancel a task on SIGTERM and SIGINT; the handlers of before are put back."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task, self._loop = task, asyncio.get_running_loop()
        self._set: list[signal.Signals] = []

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError, ValueError, RuntimeError):  # Windows, or not the main thread.
                self._loop.add_signal_handler(number, self._task.cancel)
                self._set.append(number)

    def __exit__(self, *_: object) -> None:
        for number in self._set:
            self._loop.remove_signal_handler(number)


async def _pump(job: Job, engine: Engine, items: AsyncIterator[Sample | Notice], outlet: Outlet) -> None:
    waits = "://" not in job.source  # A file or a pipe can be kept waiting for a slow reader; a plant cannot.
    async for item in items:
        if isinstance(item, Sample):
            began = wall_clock.perf_counter()
            outlet.put(engine.feed(item))
            outlet.took(wall_clock.perf_counter() - began)
        else:
            outlet.put(engine.heard(item))
        if (job.limit is not None and engine.scores >= job.limit) or outlet.deserted:
            return
        if waits and outlet.busy:
            await outlet.room()


async def _reopened(first: Source, settings: SourceSettings, outlet: Outlet) -> AsyncIterator[Sample | Notice]:
    """A source's items; a live one that fails is opened again for ever."""
    source, pause = first, Pause(1.0, 60.0)
    while True:
        try:
            async with source:
                async for item in source:
                    yield item
                    pause.reset()
            return
        except Exception as error:
            if "://" not in settings.location:
                raise _unreadable(settings.location, error) from error
            yield Notice(wall_clock.time(), "trouble", f"{settings.location} failed: {one_line(error)}")
        await asyncio.sleep(pause.next())
        source = open_source(settings)


def _unreadable(location: str, error: Exception) -> Exception:
    return error if isinstance(error, CrossplantError) else FileTrouble(f"{location}: {one_line(error)}.")


@runtime_checkable
class Counting(Protocol):
    """A sink that counts what no record says: `client.edge.sinks.prometheus.Prometheus`."""

    def note_sample(self, seconds: float | None = None) -> None: ...

    def note_sinks(self, standings: Mapping[str, Delivery]) -> None: ...


class _Once:
    """A record whose JSON form is made once for all sinks; none of them changes it."""

    __slots__ = ("_told",)

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told

    def as_json(self) -> dict[str, Any]:
        return self._told


class Outlet:
    """All sinks together. Nothing that one of them does stops the others or the scoring.

    Args:
        sinks: opened.
        say: gets notices, for a person.
    """

    def __init__(self, sinks: Sequence[Sink], say: Say) -> None:
        self._sinks, self._say = list(sinks), say
        self._troubled: set[str] = set()
        self._troubles: set[str] = set()
        self._pulled = [sink for sink in sinks if isinstance(sink, Lines)]
        self._counting = [sink for sink in sinks if isinstance(sink, Counting)]

    async def start(self) -> None:
        """Start every sink."""
        for sink in self._sinks:
            try:
                await sink.start()
            except Exception as error:
                self._trouble(sink, error)

    def put(self, records: Iterable[Record]) -> None:
        """Give records to every sink."""
        for record in records:
            if isinstance(record, Notice):
                self._say(f"{_clock(record.time)} {record.kind}: {record.text}")
            given = record if len(self._sinks) < 2 else _Once(record.as_json())
            for sink in self._sinks:
                try:
                    sink.put(given)
                except Exception as error:
                    self._trouble(sink, error)

    def took(self, seconds: float) -> None:
        """A sample was dealt with in that time: for sinks that count."""
        for sink in self._counting:
            sink.note_sample(seconds)

    def note(self) -> None:
        """Tell how all sinks stand: to people when one begins to have trouble, and to sinks that count."""
        standing = self.standing()
        for name, one in standing.items():
            if one.trouble and name not in self._troubles:
                self._say(f"{_clock(wall_clock.time())} trouble: sink {name}: {one.trouble}")
        self._troubles = {name for name, one in standing.items() if one.trouble}
        for sink in self._counting:
            sink.note_sinks(standing)

    @property
    def deserted(self) -> bool:
        """The only reader there was is gone."""
        return len(self._pulled) == len(self._sinks) > 0 and all(sink.closed for sink in self._pulled)

    @property
    def busy(self) -> bool:
        """Something waits to be written to a pipe or file."""
        return any(sink.waiting for sink in self._pulled)

    async def room(self) -> None:
        """Wait until pipes and files have taken most of what waits."""
        for sink in self._pulled:
            await sink.room()

    def standing(self) -> dict[str, Delivery]:
        """How each sink stands, by its name; of several with the same name, the second is NAME-2."""
        found: dict[str, Delivery] = {}
        for sink in self._sinks:
            same = sum(name == sink.name or name.startswith(f"{sink.name}-") for name in found)
            found[f"{sink.name}-{same + 1}" if same else sink.name] = sink.standing()
        return found

    async def close(self, timeout_s: float) -> None:
        """Close all of them at the same time."""
        closing = (asyncio.wait_for(sink.close(timeout_s), timeout_s + 1.0) for sink in self._sinks)
        for sink, error in zip(self._sinks, await asyncio.gather(*closing, return_exceptions=True), strict=True):
            if isinstance(error, Exception):
                self._trouble(sink, error)

    def _trouble(self, sink: Sink, error: Exception) -> None:
        """Say it once for every kind of trouble, so that a broken sink does not fill the log."""
        key = f"{sink.name} {type(error).__name__}"
        if key not in self._troubled:
            self._troubled.add(key)
            self._say(f"{_clock(wall_clock.time())} trouble: sink {sink.name}: {one_line(error)}")


def _clock(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise FileTrouble(f"{path}: {getattr(error, 'strerror', None) or error}.") from error
