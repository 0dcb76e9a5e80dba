"""Numbers as people read them. What is not there is a dash."""

from __future__ import annotations

import math

DASH = "–"
_SPACE = "\N{NO-BREAK SPACE}"
_SIZES = ("B", "kB", "MB", "GB", "TB")


def number(value: float | None, digits: int = 3) -> str:
    """Fixed decimals.

    Example:
        >>> number(0.12345), number(float("nan")), number(None), number(float("inf"))
        ('0.123', '–', '–', '∞')
    """
    return _finite(value) or f"{value:,.{digits}f}"


def significant(value: float | None, digits: int = 3) -> str:
    """Significant digits, for what spans orders of magnitude.

    Example:
        >>> significant(0.00012345), significant(1234.5, 5), significant(1.8, 4)
        ('0.000123', '1234.5', '1.800')
    """
    return _finite(value) or f"{value:#.{digits}g}".removesuffix(".")


def percent(value: float | None) -> str:
    """A share, in percent.

    Example:
        >>> percent(0.1234).replace(_SPACE, " "), percent(0.0091).replace(_SPACE, " ")
        ('12.3 %', '0.91 %')
    """
    return _finite(value) or f"{100 * (value or 0):.{2 if 0 < abs(value or 0) < 0.01 else 1}f}{_SPACE}%"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them.

    Example:
        >>> [duration(s).replace(_SPACE, " ") for s in (0.034, 42, 630, 9000, 2e5)]
        ['0.03 s', '42.0 s', '10.5 min', '2.5 h', '2.3 days']
    """
    if seconds is None or not math.isfinite(seconds):
        return _finite(seconds)
    if seconds == 0:
        return f"0{_SPACE}s"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            value = seconds / unit
            return f"{value:.2f}{_SPACE}s" if seconds < 1 else f"{_short(value)}{_SPACE}{name}"
    return f"{_short(seconds / 86_400)}{_SPACE}days"


def size(count: int) -> str:
    """Bytes in decimal units.

    Example:
        >>> size(0).replace(_SPACE, " "), size(1_234_567).replace(_SPACE, " ")
        ('0 B', '1.2 MB')
    """
    step = min(int(math.log10(count) // 3), len(_SIZES) - 1) if count >= 1 else 0
    return f"{_short(count / 1000**step) if step else count}{_SPACE}{_SIZES[step]}"


def count(amount: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    Example:
        >>> count(1, "site"), count(1234, "row")
        ('1 site', '1,234 rows')
    """
    return f"{amount:,} {noun if amount == 1 else plural or noun + 's'}"


def clipped(text: str, limit: int) -> str:
    """A text, or its beginning and an ellipsis.

    Example:
        >>> clipped("abcdef", 4)
        'abc…'
    """
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _finite(value: float | None) -> str:
    """The word for what is no finite number; empty for one that is."""
    if value is None or math.isnan(value):
        return DASH
    return "" if math.isfinite(value) else "∞" if value > 0 else "−∞"


def _short(value: float) -> str:
    return f"{value:,.{1 if value < 100 else 0}f}"
