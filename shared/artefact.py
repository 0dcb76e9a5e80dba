"""Small fitted values that become part of a bundle: checked when they are made, and when they are read from JSON.

They are structs of msgspec and not models of pydantic, because an edge box reads them: pydantic costs a process 19 MB
there, msgspec 2 MB.
"""

from __future__ import annotations

import math
from typing import Any, Self

import msgspec
from msgspec import structs


class Artefact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base class. Fields are numbers, texts, tuples of them, other artefacts; numbers are finite.

    A value that does not fit its field is a ValueError that names the field, whether it comes from code or from a file.

    Example:
        >>> class Span(Artefact):
        ...     low: float
        ...     high: float
        >>> Span.parse(b'{"low": 1, "high": 2}')
        Span(low=1.0, high=2.0)
        >>> Span(low=1, high=float("nan"))
        Traceback (most recent call last):
        ValueError: high: numbers must be finite
    """

    def __post_init__(self) -> None:
        for field in structs.fields(type(self)):
            structs.force_setattr(self, field.name, _fitting(field, getattr(self, field.name)))
        self.check()

    def check(self) -> None:
        """What a subclass demands of several fields together.

        Raises:
            ValueError: they do not fit each other.
        """

    @property
    def json(self) -> bytes:
        """Compact JSON; equal values give equal bytes."""
        return msgspec.json.encode(self)

    @property
    def pretty(self) -> bytes:
        """JSON for files that people read."""
        return msgspec.json.format(self.json, indent=1)

    def as_dict(self) -> dict[str, Any]:
        """As plain Python values."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    @classmethod
    def parse(cls, data: bytes | str) -> Self:
        """Read JSON.

        Raises:
            ValueError: it is none, or a field is missing, unknown, of another type or beyond its bounds.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise ValueError(str(error)) from error

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """From plain Python values.

        Raises:
            ValueError: as for `parse`.
        """
        try:
            return msgspec.convert(fields, cls)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error


def _fitting(field: structs.FieldInfo, value: object) -> Any:
    try:
        found = msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        raise ValueError(f"{field.name}: {error}") from error
    numbers = found if isinstance(found, tuple) else (found,)
    if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
        raise ValueError(f"{field.name}: numbers must be finite")
    return found
