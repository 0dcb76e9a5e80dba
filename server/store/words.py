"""Values as words in a terminal. Nothing heavy is imported: `crossplant rounds list` has half a second."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

_NAMED = 10  # values that are told of many
_DIGEST = re.compile("[0-9a-f]{64}")


def plain(text: str) -> str:
    """Text that cannot steer a terminal: what is not printable becomes a visible escape.

    Example:
        >>> len(plain(chr(27) + "[2J"))
        7
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def finite(value: float | None) -> float | None:
    """The number, or None where there is none: JSON knows no NaN and no infinity."""
    return None if value is None or not math.isfinite(value) else float(value)


def figure(value: float | None) -> str:
    """A number in a cell; `-` where there is none.

    Example:
        >>> figure(0.0123456), figure(float("nan"))
        ('0.01235', '-')
    """
    known = finite(value)
    return "-" if known is None else f"{known:.4g}"


def size(count: int) -> str:
    """Bytes in a cell.

    Example:
        >>> size(900), size(879_616), size(30 * 1024**3)
        ('900 B', '859 KiB', '30.0 GiB')
    """
    if count < 1024:
        return f"{count} B"
    if count < 10 * 1024**3:
        return f"{count / 1024:.0f} KiB" if count < 10 * 1024**2 else f"{count / 1024**2:.0f} MiB"
    return f"{count / 1024**3:.1f} GiB"


def spans(numbers: Iterable[int]) -> str:
    """Numbers for people.

    Example:
        >>> spans([2, 5, 6, 7])
        '2, 5 to 7'
    """
    found: list[tuple[int, int]] = []
    for number in numbers:
        known = found.pop() if found and found[-1][1] == number - 1 else (number, number)
        found.append((known[0], number))
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in found)


def some(count: int, one: str) -> str:
    """How many of something.

    Example:
        >>> some(1, "round"), some(1200, "round")
        ('1 round', '1200 rounds')
    """
    return f"{count} {one}{'' if count == 1 else 's'}"


def brief(value: Any, deep: int = 4) -> str:
    """A value of JSON in a sentence: digests by their beginning, of many values the first ten, what lies deep left out.

    Example:
        >>> brief({"a": [1, 2], "b": []})
        'a: 1, 2, b: none'
    """
    if isinstance(value, Mapping):
        return _listed([f"{name}: {_inner(one, deep)}" for name, one in islice(value.items(), _NAMED)], len(value))
    if isinstance(value, list):
        return _listed([_inner(one, deep) for one in value[:_NAMED]], len(value))
    text = str(value)
    return text[:12] if _DIGEST.fullmatch(text) else text


def _inner(value: Any, deep: int) -> str:
    return brief(value, deep - 1) if deep else "…"


def _listed(words: Sequence[str], of: int) -> str:
    more = [f"{of - len(words)} more"] if of > len(words) else []
    return ", ".join([*words, *more]) or "none"
