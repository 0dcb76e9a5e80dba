"""What an address asks for, parsed: numbers and words in a query or a path, hostile until they pass here."""

from __future__ import annotations

from collections.abc import Collection

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from shared.errors import InvalidConfig

_LARGEST = 2**53


class _Anything(Convertor[str]):
    """The rest of an address, whatever is in it: `path` stops at a line's end, and names of plants may hold one."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anything", _Anything())


def whole(text: str, what: str, least: int = 1, most: int = _LARGEST) -> int:
    """A whole number.

    Raises:
        InvalidConfig: it is none, or out of bounds.

    Example:
        >>> whole("12", "round")
        12
    """
    good = text.isascii() and text.isdigit() and len(text) <= 16
    if not good or not least <= int(text) <= most:
        raise InvalidConfig(f"{text[:40]!r} is no {what}.", f"Give a whole number from {least:,} to {most:,}.")
    return int(text)


def cursor(request: Request, name: str) -> int | None:
    """A whole number of the query; None where it is not given.

    Raises:
        InvalidConfig: it is none.
    """
    given = request.query_params.get(name, "").strip()
    return whole(given, name) if given else None


def word(request: Request, name: str, known: Collection[str]) -> str | None:
    """One of some words in the query; None where it is not given.

    Raises:
        InvalidConfig: it is another one.
    """
    given = request.query_params.get(name, "")
    if given and given not in known:
        raise InvalidConfig(f"{given[:40]!r} is no {name}.", f"Known: {', '.join(known)}.")
    return given or None
