"""What a tag measures or moves, as far as its name tells: the published tables first, then how instruments are named.

Names say less than an engineer knows. Nothing here is wrong to get wrong: it only says where training begins
(`shared.detectors.adapter`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from shared.catalogue import Tag, tags


@dataclass(frozen=True)
class Meaning:
    """What a tag is.

    Attributes:
        quantity: what it is about, such as `level`, `flow` or `pump`; where nothing is known, the letters of its name.
        kind: sensor, actuator, setpoint, switch or as the tables have it.
        stage: of the process, such as `P1`; empty where it is not known.
    """

    quantity: str
    kind: str
    stage: str = ""


_WORDS = (
    "differential pressure|level|flow|demand|pressure|conductivity|ph|orp|chlorine|turbidity|hardness|temperature|"
    "thermocouple|accelerometer|current|voltage|speed|valve|pump|dechlorinator"
)
_SAME = {"thermocouple": "temperature", "demand": "flow"}
# First letters of ISA-5.1 and what follows them; the letters of EPANET's models (BATADAL) are among them.
_LETTERS = {
    "level": r"L(T|I|IT|IC|C)?",
    "flow": r"F(T|I|IT|IC|C|Q|QI)?",
    "differential pressure": r"(D?PD|DP)(T|I|IT)",
    "pressure": r"P(T|I|IT|IC)?",
    "temperature": r"T(T|I|IT|IC|E)?",
    "analysis": r"A(T|I|IT|E)",
    "valve": r"(M|S|MC|X|CV|H)V",
    "pump": r"(PU|PMP)",
    "status": r"S",
    "vibration": r"V(T|I|IT)",
}
_ACTUATORS = frozenset({"valve", "pump", "status", "dechlorinator"})


@cache
def meaning(name: str) -> Meaning:
    """What a tag is, by its name.

    Example:
        >>> meaning("LIT101"), meaning("1_LT_001_PV"), meaning("L_T1").quantity
        (Meaning(quantity='level', kind='sensor', stage='P1'), Meaning(quantity='level', kind='sensor', stage='P1'), \
'level')
        >>> meaning("P101").quantity, meaning("P_J280").quantity, meaning("Volume Flow RateRMS").quantity
        ('pump', 'pressure', 'flow')
    """
    known = _known().get(name)
    if known is not None:
        find = _moved if known.kind == "actuator" else _quantity
        return Meaning(find(f"{known.description} {name}"), known.kind, known.stage)
    quantity = _quantity(name)
    return Meaning(quantity, "actuator" if quantity in _ACTUATORS else "sensor")


@cache
def _known() -> dict[str, Tag]:
    return {tag.name: tag for tag in (*tags("wadi"), *tags("swat"))}


def _moved(text: str) -> str:
    """What an actuator of the tables is: a pump of high pressure is a pump."""
    found = re.search(r"valve|pump|dechlorinator", text)
    letters = _quantity(text)
    return found[0] if found else "pump" if letters == "pressure" else letters


def _quantity(text: str) -> str:
    """The first word that names one; else what the letters of the last word stand for; else these letters."""
    words = " ".join(re.findall(r"[A-Za-z]+", re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", text)))
    found = re.search(rf"\b({_WORDS})\b", words.lower())
    if found:
        return _SAME.get(found[1], found[1])
    letters = re.findall(r"[A-Za-z]+", text.split()[-1] if text.split() else "")
    first = letters[0].upper() if letters else ""
    return next((what for what, form in _LETTERS.items() if re.fullmatch(form, first)), first.lower())
