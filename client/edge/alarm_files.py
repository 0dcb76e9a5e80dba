"""Alarms on disk: what outlives the process, what people order, and the rows that raised an alarm.

    STATE/alarms.json         `AlarmState`, after every record; with it a restart goes on where it was
    STATE/orders/*.json       what people order: one file an order, put there whole, taken and removed by the scorer
    STATE/windows/ALARM.json  the rows that raised an alarm: the newest 200

No port listens: whoever may write into the state folder may acknowledge and shelve.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from client.edge.alarm_values import AlarmState, Order
from client.edge.records import Notice
from shared.bundle.files import read_file
from shared.disk import replace_file
from shared.errors import BundleInvalid, FileTrouble

STATE, ORDERS, WINDOWS = "alarms.json", "orders", "windows"
MOST_ORDERS, MOST_WINDOWS = 200, 200
_MOST_ORDER, _MOST_STATE = 16 * 1024, 4 * 2**20
_TEXT = 500  # characters of a name or a note
_CURE = "Check the state folder's permissions and the free space."


class AlarmFiles:
    """The files of one state folder. Nothing here raises for a full or broken disk but `order`: what fails is counted,
    and the alarms go on.

    Args:
        folder: the state folder; made if it is missing.

    Attributes:
        trouble: what the disk said last; empty when all is well.
        failures: writes that failed since the start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.trouble, self.failures = folder, "", 0
        with suppress(OSError):
            for name in (ORDERS, WINDOWS):
                (folder / name).mkdir(parents=True, exist_ok=True)

    def load(self) -> tuple[AlarmState, str]:
        """What was kept, and why it was not used; without a file, a new state and nothing to say."""
        try:
            return read_state(self.folder), ""
        except ValueError as error:
            self._put(self.folder / f"{STATE}.damaged", self._raw())
            return AlarmState(), f"alarms begin anew: {error}"

    def save(self, state: AlarmState) -> None:
        """Keep a state."""
        self._put(self.folder / STATE, state.json)

    def keep_window(self, name: str, rows: dict[str, Any]) -> bool:
        """Keep the rows that raised an alarm; the oldest make room. Whether it was done."""
        done = self._put(self.folder / WINDOWS / f"{name}.json", json.dumps(rows, allow_nan=False).encode())
        with suppress(OSError):
            for path in sorted((self.folder / WINDOWS).glob("*.json"))[:-MOST_WINDOWS]:
                path.unlink(missing_ok=True)
        return done

    def orders(self, now: float) -> tuple[tuple[Order, ...], tuple[Notice, ...]]:
        """Take what people ordered, oldest first; what is no order is removed and told about."""
        found: list[Order] = []
        told: list[Notice] = []
        cause = "it is empty"
        for path in self._waiting():
            try:
                data = read_file(path.parent, path.name, _MOST_ORDER)
            except BundleInvalid as error:
                data, cause = b"", error.cause
            if not self._removed(path):
                continue  # It would be taken again and again.
            try:
                found.append(parse_order(data))
            except ValueError as error:
                cause = str(error) if data else cause
                told.append(Notice(now, "rejected", " ".join(f"{path.name} is no order: {cause}".split())[:500]))
        return tuple(found), tuple(told)

    def _removed(self, path: Path) -> bool:
        try:
            path.unlink()
        except OSError as error:
            self._failed(error)
            return False
        return True

    def _waiting(self) -> list[Path]:
        try:
            with os.scandir(self.folder / ORDERS) as entries:
                names = [entry.name for entry in entries if entry.name.endswith(".json") and entry.name[0] != "."]
        except OSError:
            return []
        return [self.folder / ORDERS / name for name in sorted(names)[:MOST_ORDERS]]

    def _raw(self) -> bytes:
        try:
            return read_file(self.folder, STATE, _MOST_STATE)
        except BundleInvalid:
            return b""

    def _put(self, path: Path, data: bytes) -> bool:
        try:
            replace_file(path, data)
        except OSError as error:
            self._failed(error)
            return False
        self.trouble = ""
        return True

    def _failed(self, error: OSError) -> None:
        self.failures += 1
        self.trouble = error.strerror or str(error)


def read_state(folder: Path) -> AlarmState:
    """What a scorer kept; a new state where it kept none.

    Raises:
        ValueError: it cannot be read.
    """
    if not (folder / STATE).exists():
        return AlarmState()
    try:
        return AlarmState.parse(read_file(folder, STATE, _MOST_STATE))
    except BundleInvalid as error:
        raise ValueError(error.cause) from error


def parse_order(data: bytes) -> Order:
    """Read an order.

    Raises:
        ValueError: it is none, or lacks a name or a reason.

    Example:
        >>> parse_order(b'{"type": "ack", "id": "a-1", "by": "ann", "note": "seen"}').by
        'ann'
    """
    try:
        order: Order = msgspec.json.decode(data, type=Order)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    for name, text in msgspec.structs.asdict(order).items():
        if isinstance(text, str) and (len(text) > _TEXT or not text.isprintable()):
            raise ValueError(f"{name} must be printable and at most {_TEXT} characters")
    if not order.by.strip():
        raise ValueError("`by` is empty: whose order is it?")
    if order.__class__.__name__ == "Shelve" and not order.note.strip():
        raise ValueError("`note` is empty: a shelf needs a reason")
    return order


def place_order(folder: Path, order: Order) -> Path:
    """Put an order where the scorer of a state folder takes it.

    Raises:
        FileTrouble: there is no such folder, or it cannot be written.
    """
    name = f"{time.time_ns():020d}-{os.getpid()}.json"
    path = folder / ORDERS / name
    if not path.parent.is_dir():
        cure = "Give --state as the scorer has it: its state folder."
        raise FileTrouble(f"{folder} is no state folder of a scorer: it has no {ORDERS}/.", cure)
    try:
        parse_order(msgspec.json.encode(order))
        replace_file(path, msgspec.json.encode(order))
    except OSError as error:
        raise FileTrouble(f"{path} cannot be written: {error.strerror or error}.", _CURE) from error
    return path
