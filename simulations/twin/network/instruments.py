"""Meters and drives: where an attack takes hold, in the loop, between the water and its controller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Meter:
    """What the controller is shown of a quantity: `gain * true + offset`, the offset growing by `slope` a second."""

    gain: float = 1.0
    offset: float = 0.0
    slope: float = 0.0
    shown: float = 0.0

    def read(self, true: float) -> float:
        """Show a value."""
        self.offset += self.slope
        shown = self.shown = self.gain * true + self.offset
        return shown

    def freeze(self, value: float) -> None:
        """Show this value, whatever is true."""
        self.gain, self.offset, self.slope = 0.0, value, 0.0

    def release(self) -> None:
        """Show the truth again."""
        self.gain, self.offset, self.slope = 1.0, 0.0, 0.0


@dataclass(slots=True)
class Drive:
    """A valve (opening 0 .. 1) or a pump (0 or 1) that travels towards its order, unless it is forced elsewhere.

    Attributes:
        step: how far it travels in one second, as a share of its whole way; 1 or more switches at once.
        at: where it is.
        forced: where an attacker or a fault holds it.
    """

    step: float
    at: float = 0.0
    forced: float | None = None

    def go(self, order: float) -> float:
        """Travel for one second; where it is then."""
        goal = order if self.forced is None else self.forced
        at = self.at
        if at < goal:
            at = self.at = min(goal, at + self.step)
        elif at > goal:
            at = self.at = max(goal, at - self.step)
        return at


@dataclass(slots=True)
class Leak:
    """Water that leaves a tank or pipe unmetered, m3/h."""

    flow: float = 0.0
