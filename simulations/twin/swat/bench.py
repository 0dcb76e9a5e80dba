"""The instrument bench: every column of the recording passes here, where noise, attacks and rounding act on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from shared.catalogue import tags
from shared.series import FloatArray
from simulations.twin.script import Event
from simulations.twin.swat.attacks import Values, tamper
from simulations.twin.swat.meters import Meter
from simulations.twin.wander import daily

TAGS = tuple(tag.name for tag in tags("swat"))
COLUMN = {tag: at for at, tag in enumerate(TAGS)}
CUTOFF = 0.02  # m3/h: a flow meter shows 0 below this


@dataclass(frozen=True)
class Bench:
    """Where columns are collected.

    Attributes:
        out_TD: float32 (T, 51), filled column by column.
        events: what is done to the plant.
        meters: the plant's instruments.
        rngs: one generator a tag, so that no tag's noise depends on another's.
    """

    out_TD: FloatArray
    events: tuple[Event, ...]
    meters: Mapping[str, Meter]
    rngs: Mapping[str, Generator]

    @property
    def seconds(self) -> int:
        """Rows, T."""
        return len(self.out_TD)

    def noise(self, tag: str) -> Values:
        """Sensor noise, held for as long as the meter holds its readings; float64 (T,)."""
        meter = self.meters[tag]
        drawn = self.rngs[tag].standard_normal(self.seconds // meter.hold_s + 1, dtype=np.float32) * meter.sigma
        return held(drawn.astype(np.float64), meter.hold_s, self.seconds)

    def drift(self, tag: str) -> Values:
        """Slow change of a tag (`wander.daily`), float64 (T,)."""
        return daily(self.rngs[tag], self.seconds)

    def steady(self, tag: str, z_T: Values) -> Values:
        """A slow change in the meter's own units: its median at 0, its p1 and p99 at -2.33 and 2.33 deviations."""
        meter = self.meters[tag]
        step = (meter.median - meter.p1) / 2.33
        steeper = (meter.p99 - meter.median - 2.33 * step) / 1.33
        shaped = meter.median + step * z_T + steeper * np.maximum(z_T - 1, 0)
        return held(shaped[:: meter.hold_s], meter.hold_s, self.seconds)

    def under_attack(self, tag: str) -> bool:
        """Whether anything is done to this sensor."""
        return any(event.target == tag for event in self.events)

    def tampered(self, tag: str, true_T: Values, noise_T: Values | float = 0.0) -> Values:
        """What the sensor shows with its events on it, noise included; float64 (T,)."""
        noisy_T = np.broadcast_to(noise_T, true_T.shape)
        shown_T: Values = true_T + noisy_T
        for event in self.events:
            if event.target == tag and event.kind in ("spoof", "stuck", "bias", "drift"):
                span = slice(event.first_s, event.end_s)
                before = float(shown_T[max(event.first_s - 1, 0)])
                shown_T[span] = tamper(event, shown_T[span], noisy_T[span], before, 0)
        return shown_T

    def meter(self, tag: str, true_T: Values) -> None:
        """A meter's column: noise, attacks, rounding."""
        self.put(tag, self.tampered(tag, true_T, self.noise(tag)))

    def flow(self, tag: str, true_T: Values) -> None:
        """A flow meter's column: nothing, without noise, while nothing flows."""
        noise_T = self.noise(tag)
        noise_T[true_T < CUTOFF] = 0.0
        quiet_T = np.where(true_T < CUTOFF, 0.0, true_T)
        self.put(tag, np.maximum(self.tampered(tag, quiet_T, noise_T), 0.0))

    def put(self, tag: str, shown_T: Values) -> None:
        """Store a sensor's column with the digits that the historian keeps."""
        self.out_TD[:, COLUMN[tag]] = np.round(shown_T, self.meters[tag].decimals)

    def switch(self, tag: str, on_T: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Store a pump's column, attacked or not; returns bool (T,), whether it runs."""
        runs_T = on_T.copy()
        for event in self.events:
            if event.target == tag and event.kind == "override":
                runs_T[event.first_s : event.end_s] = event.size == 2
        self.out_TD[:, COLUMN[tag]] = 1 + runs_T
        return runs_T


def held(values_N: Values, hold_s: int, seconds: int) -> Values:
    """Each value for `hold_s` seconds, float64 (seconds,).

    Example:
        >>> held(np.array([1.0, 2.0]), 2, 3).tolist()
        [1.0, 1.0, 2.0]
    """
    return values_N[:seconds] if hold_s == 1 else np.repeat(values_N, hold_s)[:seconds]
