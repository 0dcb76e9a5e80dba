"""What every twin can do, and the registry that finds a twin by its layout.

A new plant is one package beside `swat/`, exposing `TWIN`; its name stands in `MODULES`.
"""

from __future__ import annotations

from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from numpy.random import Generator

from shared.errors import UnknownName
from simulations.twin.recording import Recording
from simulations.twin.script import Event

MODULES = {"swat": "simulations.twin.swat", "wadi": "simulations.twin.network"}

P = TypeVar("P")


class Twin(Protocol[P]):
    """A simulated plant of one layout; `P` is its own frozen type of parameters.

    Every draw comes from the generator handed in, so that one seed gives one plant and one recording.
    """

    @property
    def layout(self) -> str:
        """`swat` or `wadi`: whose tags, and whose files."""

    @property
    def attack_begins(self) -> datetime:
        """Local time of the attack file's first row, as in the official files; the normal file ends a second before."""

    def draw(self, rng: Generator) -> P:
        """A new plant: sizes, set-points, demand, noise and drift differ from those of the reference."""

    def plan(self, plant: P, seconds: int, rng: Generator) -> tuple[Event, ...]:
        """Random attacks and faults for a stretch of `seconds`, in order of time, none overlapping."""

    def run(self, plant: P, begin: datetime, seconds: int, events: tuple[Event, ...], rng: Generator) -> Recording:
        """Simulate `seconds` rows at 1 Hz, the first at local time `begin`; the plant is past its start-up by then."""

    def write(self, folder: Path, normal: Recording, attack: Recording, xlsx: bool) -> None:
        """Write both stretches into an existing empty folder in the official layout and under the official names.

        Raises:
            InvalidConfig: this layout has no such form, or the recording does not fit into it.
            OSError: the disk is full, ... (`simulations.twin.make` turns it into words).
        """


def known() -> list[str]:
    """Names of the layouts.

    Example:
        >>> known()
        ['swat', 'wadi']
    """
    return sorted(MODULES)


def find(layout: str) -> Twin[Any]:
    """The twin of a layout.

    Raises:
        UnknownName: there is none; the known names are listed.
    """
    if layout not in MODULES:
        raise UnknownName("layout", layout, known())
    return cast("Twin[Any]", import_module(MODULES[layout]).TWIN)
