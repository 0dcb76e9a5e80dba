"""What papers claim, with the protocol they used as far as they tell, to stand beside what is measured here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One printed figure.

    Attributes:
        system, source: whose, and where it is printed.
        datasets: names of data sets here that are the same or made to resemble it.
        printed_on: the paper's data set.
        value: F1.
        protocol: in words.
        contestants: those that follow the system.
    """

    system: str
    source: str
    datasets: tuple[str, ...]
    printed_on: str
    value: float
    protocol: str
    contestants: tuple[str, ...]


_UNTOLD = "F1; how rows are counted is not told"
_KHAN = "Khan 2026, doi 10.55529/jaimlnn.61.31.41"
_OURS = ("paper", "hac-uml", "crossplant")

CLAIMS: tuple[Claim, ...] = (
    Claim("HAC-UML", _KHAN, ("swat", "twin-swat"), "SWaT", 0.930, _UNTOLD, _OURS),
    Claim("HAC-UML", _KHAN, ("wadi", "twin-wadi"), "WADI", 0.903, _UNTOLD, _OURS),
    Claim("HAC-UML", _KHAN, ("msl",), "MSL", 0.917, _UNTOLD, _OURS),
)
"""A new one is one line here. A twin plant is no SWaT: its line shows what the same protocol gives there."""
