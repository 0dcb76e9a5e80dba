"""Standard input, one JSON object a line: `{"time": 1700000000.5, "LIT101": 1.2, ...}` or
`{"time": "2024-05-01T10:00:00Z", "values": {"LIT101": 1.2, ...}}`.

Without `time` it is the time of arrival. `null` (or NaN) is a missing reading; names that are no tags are left out. A
line that is no such object is counted and told about, and the next one is read.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time as wall_clock
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np

from client.edge.options import read_options
from client.edge.records import Notice, Sample
from client.edge.sources.base import Source, SourceSettings
from client.edge.sources.rows import Order, Refused, read_time, some
from shared.artefact import Artefact
from shared.errors import FileTrouble
from shared.schema import SensorSchema
from shared.series import FloatArray

_READ = 2**16
_LONGEST_LINE = 2**20  # bytes


class LinesOptions(Artefact, frozen=True, kw_only=True):
    """Standard input has no options."""


def open_lines(settings: SourceSettings) -> Source:
    """Standard input.

    Raises:
        FileTrouble: it is closed.
        InvalidConfig: an option.
    """
    read_options(LinesOptions, settings.options, "standard input")
    if sys.stdin is None or sys.stdin.name == os.devnull:  # As `shared.cli.open_missing_streams` opens it.
        raise FileTrouble("standard input is closed.", "Give it a pipe or a file, or another --source.")
    return Lines(settings.schema, sys.stdin.fileno())


class Lines:
    """Samples from the lines of a file descriptor, which stays open.

    Args:
        schema: the tags.
        descriptor: a pipe, a file, a socket or a terminal.
    """

    def __init__(self, schema: SensorSchema, descriptor: int) -> None:
        self._descriptor = descriptor
        self._parser = LineParser(schema)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[Sample | Notice]:
        rest, too_long = b"", False
        while data := await _read(self._descriptor):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                for item in self._parser.refuse_long() if too_long else self._parser.feed(line):
                    yield item
                too_long = False
            if len(rest) > _LONGEST_LINE:
                rest, too_long = b"", True
        for item in self._parser.refuse_long() if too_long else self._parser.feed(rest):
            yield item
        yield self._parser.ended()


async def _read(descriptor: int) -> bytes:
    """What has come, at least one byte; empty at the end. The descriptor's own settings are left as they are."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        loop.add_reader(descriptor, _done, ready)
    except PermissionError:  # A file, or /dev/null: it never makes one wait, and epoll does not take it.
        await asyncio.sleep(0)
        return os.read(descriptor, _READ)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
    try:
        return os.read(descriptor, _READ)
    except OSError:  # The other end is gone, as a terminal that was closed.
        return b""


def _done(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class LineParser:
    """Lines to samples and notices.

    Args:
        schema: the tags.

    Example:
        >>> parser = LineParser(SensorSchema(tags=("LIT101", "FIT101"), period_s=1.0))
        >>> [item.values_D.tolist() for item in parser.feed(b'{"time": 60, "FIT101": 2, "LIT101": 1.5}')]
        [[1.5, 2.0]]
        >>> [(item.kind, item.text) for item in parser.feed(b'{"time": 61, "LIT101": "high", "FIT101": 1}')]
        [('rejected', 'line 2: LIT101 is no number')]
    """

    def __init__(self, schema: SensorSchema) -> None:
        self._schema = schema
        self._at = {tag: at for at, tag in enumerate(schema.tags)}
        self._refused, self._order = Refused(), Order(schema.period_s)
        self._lines = self._number = 0
        self._last = 0.0
        self._told: set[str] = set()

    def feed(self, line: bytes) -> list[Sample | Notice]:
        """One line without its end; an empty one gives nothing."""
        self._lines += 1
        if not line.strip():
            return []
        try:
            sample, notices = self._sample(line)
        except (ValueError, OverflowError, RecursionError) as error:
            return list(self._refused.notice(f"line {self._lines}: {_told(error)}"))
        self._number += 1
        self._last = sample.time
        return [*notices, *self._order.check(sample.time), sample]

    def refuse_long(self) -> list[Sample | Notice]:
        """One line that was too long to be kept."""
        self._lines += 1
        return list(self._refused.notice(f"line {self._lines}: longer than {_LONGEST_LINE} bytes"))

    def ended(self) -> Notice:
        """The notice at the end."""
        return self._refused.ended(self._last, f"standard input ended after {self._number} samples")

    def _sample(self, line: bytes) -> tuple[Sample, list[Notice]]:
        found = _decoded(line)
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
        time = self._time(found.pop("time", None))
        values = found.pop("values", found)
        if not isinstance(values, dict) or (values is not found and found):
            raise ValueError("`values` must be an object, and nothing but `time` stands beside it")
        values_D, missing, unknown = self._values(values)
        if 2 * len(missing) > self._schema.dim:
            raise ValueError(f"it lacks {len(missing)} of {self._schema.dim} tags: {some(missing)}")
        notices = [*self._once(time, "no reading of", missing), *self._once(time, "no tag is called", unknown)]
        return Sample(time, values_D, self._number), notices

    def _time(self, given: Any) -> float:
        if given is None:
            return wall_clock.time()
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise ValueError("time is neither a number nor a text")
        return read_time(given)

    def _values(self, values: dict[str, Any]) -> tuple[FloatArray, list[str], list[str]]:
        """Readings, tags without one, and names that are no tags."""
        values_D = np.full(self._schema.dim, np.nan)
        known = 0
        unknown = []
        for name, value in values.items():
            at = self._at.get(name)
            if at is None:
                unknown.append(name)
                continue
            known += 1
            if isinstance(value, int | float):
                values_D[at] = value
            elif value is not None:
                raise ValueError(f"{name} is no number")
        missing = [] if known == len(self._at) else [tag for tag in self._schema.tags if tag not in values]
        with np.errstate(over="ignore"):
            return values_D.astype(np.float32), missing, unknown

    def _once(self, time: float, what: str, names: list[str]) -> list[Notice]:
        """Tell about names, each kind of trouble once."""
        if not names or what in self._told:
            return []
        self._told.add(what)
        return [Notice(time, "columns", f"line {self._lines}: {what} {some(names)}")]


def _decoded(line: bytes) -> Any:
    """The JSON of a line. msgspec is four times as fast and keeps the last of equal names without a word: it counts
    only where there are no more colons than names.

    Raises:
        ValueError: it is no JSON, or a name stands in it twice.
    """
    try:
        found = msgspec.json.decode(line)
        values = found.get("values")
        names = len(found) + (len(values) if isinstance(values, dict) else 0)
        if line.count(b":") == names:
            return found
    except (msgspec.MsgspecError, UnicodeError, AttributeError, RecursionError):
        pass  # The slow way knows more, such as NaN, and says what is wrong.
    return json.loads(line.decode("utf-8-sig"), object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _told(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "it is no JSON"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return " ".join(str(error).split())[:200]
