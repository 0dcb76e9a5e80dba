"""Prometheus' text format, version 0.0.4, by hand: where it is written no machine needs a library for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

Labels = tuple[tuple[str, str], ...]
"""Names and values, in the order in which they are written."""


def labelled(labels: Labels) -> str:
    r"""Labels as they stand behind a metric's name; values are escaped, whatever is in them.

    Example:
        >>> labelled((("plant", 'a"b'),))
        '{plant="a\\"b"}'
    """
    if not labels:
        return ""
    inner = ",".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in labels
    )
    return f"{{{inner}}}"


def number(value: float) -> str:
    """A value as Prometheus reads it.

    Example:
        >>> [number(x) for x in (3.0, 0.5, math.inf, math.nan)]
        ['3', '0.5', '+Inf', 'NaN']
    """
    if math.isfinite(value):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
    return "NaN" if value != value else ("+Inf" if value > 0 else "-Inf")


def metric(name: str, kind: str, told: str, values: Mapping[Labels, float]) -> Iterable[str]:
    """The lines of one metric; its help and its type too when it has no value yet."""
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values.items():
        yield f"{name}{labelled(labels)} {number(value)}"
