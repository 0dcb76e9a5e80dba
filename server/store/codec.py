"""Frozen dataclasses to JSON values and back, directed by their type hints.

Both directions are strict: a value that would not read back is refused or mended when it is written, and a JSON value
with a missing, unknown or mistyped field is refused when it is read. Nothing is guessed.

JSON knows no NaN and no infinity. `RECORDS` writes them as null and reads null as NaN: a plant that diverged shows an
empty cell, not a number that was never measured. `STATE` refuses them: what the next round depends on must come back
bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from shared.artefact import Artefact
from shared.errors import StoreError, StoreUnreadable

T = TypeVar("T")
_INT64 = 2**63 - 1


@lru_cache(maxsize=64)
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


@lru_cache(maxsize=64)
def _defaulted(kind: Any) -> frozenset[str]:
    """Fields of the kind of record that an older version did not write: they have a default, and come last."""
    missing = dataclasses.MISSING
    return frozenset(f.name for f in dataclasses.fields(kind) if (f.default, f.default_factory) != (missing, missing))


def _younger(kind: Any) -> frozenset[str]:
    """Fields that an older version's state lacks, and that mean nothing there: named one by one, none is guessed."""
    return frozenset(getattr(kind, "YOUNGER", ()))


def storable(text: str) -> str:
    """Text that every database takes: lone surrogates and NUL become visible escapes.

    Example:
        >>> len(storable(chr(0)))
        4
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def _inexact(number: float) -> StoreError:
    return StoreError(f"a run's state holds {number}, which cannot be stored exactly.")


def _bad(where: str, wanted: str, value: object) -> StoreUnreadable:
    return StoreUnreadable(f"{where}: expected {wanted}, found {str(value)[:60]!r}.")


@dataclass(frozen=True)
class Codec:
    """One pair of `encode` and `decode`.

    Attributes:
        exact: refuse numbers that JSON or a 64-bit column cannot hold, instead of null or the nearest.
    """

    exact: bool

    def encode(self, kind: Any, value: Any) -> Any:
        """The JSON value of `value`, which is of type `kind`.

        Raises:
            StoreError: a number that cannot be kept exactly (`exact` only).
        """
        origin, args = get_origin(kind), get_args(kind)
        if origin is types.UnionType:
            return None if value is None else self.encode(args[0], value)
        if origin is tuple:
            return [self.encode(args[0], item) for item in value]
        if origin is Mapping:
            return {storable(str(key)): self.encode(args[1], item) for key, item in value.items()}
        if dataclasses.is_dataclass(kind):
            return self._encode_fields(kind, value)
        if issubclass(kind, Artefact):
            return value.as_dict()
        return self._encode_scalar(kind, value)

    def _encode_fields(self, kind: Any, value: Any) -> dict[str, Any]:
        return {name: self.encode(hint, getattr(value, name)) for name, hint in _hints(kind).items()}

    def _encode_scalar(self, kind: type, value: Any) -> Any:
        if issubclass(kind, Enum):
            return value.value
        if kind is str:
            return storable(value)
        return self._encode_float(float(value)) if kind is float else self._encode_int(kind, value)

    def _encode_float(self, number: float) -> float | None:
        if self.exact and not math.isfinite(number):
            raise _inexact(number)
        return number if math.isfinite(number) else None

    def _encode_int(self, kind: type, value: Any) -> int:
        number = bool(value) if kind is bool else int(value)
        if self.exact and abs(number) > _INT64:
            raise _inexact(number)
        return number if kind is bool else max(-_INT64, min(number, _INT64))

    def decode(self, kind: type[T], value: Any, where: str) -> T:
        """Read what `encode` wrote.

        Args:
            kind: the dataclass, or any type that appears in one.
            value: parsed JSON.
            where: for the message, such as `round 3 of run 'a'`.

        Raises:
            StoreUnreadable: the value is not of that shape.
        """
        return self._decode(kind, value, where)  # type: ignore[no-any-return]

    def _decode(self, kind: Any, value: Any, where: str) -> Any:
        origin, args = get_origin(kind), get_args(kind)
        if origin is types.UnionType:
            return None if value is None else self._decode(args[0], value, where)
        if origin is tuple:
            return tuple(self._decode(args[0], item, where) for item in _expect(list, value, where))
        if origin is Mapping:
            return {key: self._decode(args[1], item, where) for key, item in _expect(dict, value, where).items()}
        if dataclasses.is_dataclass(kind):
            return self._decode_fields(kind, _expect(dict, value, where), where)
        if issubclass(kind, Artefact):
            return _decode_artefact(kind, value, where)
        return self._decode_scalar(kind, value, where)

    def _decode_fields(self, kind: Any, value: Mapping[str, Any], where: str) -> Any:
        hints = _hints(kind)
        younger = (_younger(kind) if self.exact else _defaulted(kind)) - value.keys()
        if hints.keys() != value.keys() | younger:
            odd = ", ".join(sorted(hints.keys() ^ (value.keys() | younger)))
            raise StoreUnreadable(f"{where}: {kind.__name__} has missing or unknown fields: {odd}.")
        given = {name: hint for name, hint in hints.items() if name not in younger}
        return kind(**{name: self._decode(hint, value[name], f"{where}, {name}") for name, hint in given.items()})

    def _decode_scalar(self, kind: Any, value: Any, where: str) -> Any:
        if issubclass(kind, Enum):
            return _attempt(kind, value, where)
        if kind is float and value is None and not self.exact:
            return math.nan
        if kind is float and type(value) is int:
            return _attempt(float, value, where)
        return _expect(kind, value, where)


def _expect(kind: type, value: Any, where: str) -> Any:
    if type(value) is not kind:
        raise _bad(where, kind.__name__, value)
    return value


def _attempt(read: Callable[[Any], Any], value: Any, where: str) -> Any:
    try:
        return read(value)
    except (ValueError, OverflowError) as error:
        raise _bad(where, getattr(read, "__name__", "a known value"), value) from error


def _decode_artefact(kind: type[Artefact], value: Any, where: str) -> Artefact:
    try:
        return kind.parse(json.dumps(value))
    except ValueError as error:
        raise StoreUnreadable(f"{where}: {kind.__name__}: {error}.") from error


RECORDS = Codec(exact=False)
STATE = Codec(exact=True)
