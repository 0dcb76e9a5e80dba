"""What is done to a simulated plant: scripted attacks and faults, each with its target, time and size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["spoof", "stuck", "bias", "drift", "override", "leak", "stealthy"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Event:
    """One attack or fault.

    Attributes:
        kind: `spoof`: a sensor shows a wrong value and its controller believes it; `stuck`: a sensor keeps its last
            value; `bias`: a sensor shows a constant too much; `drift`: the same, growing; `override`: a valve or pump
            is held in a state against its controller's will; `leak`: a tank or pipe loses water that no meter sees;
            `stealthy`: an actuator is overridden while its signals are replayed from normal operation.
        target: the tag attacked; for a leak, the tag of the tank's level or the pipe's flow.
        first_s, end_s: seconds from the beginning of the recording, half-open. All of them are labelled.
        size: in the unit of the target (level mm, flow m3/h, ...), a code for valves and pumps, or a growth per hour
            for `drift`; 0 where the kind needs none.
    """

    kind: Kind
    target: str
    first_s: int
    end_s: int
    size: float = 0.0
