"""Files of numbers under a head: a line that names the format, a line of JSON, then the numbers.

The head tells what the numbers are, and their SHA-256; how they are laid out is their owner's (`shared.named_arrays`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from shared.errors import BundleInvalid


class Head(Protocol):
    """An `Artefact` that tells the `digest` of the numbers that follow it."""

    @property
    def digest(self) -> str: ...

    @property
    def json(self) -> bytes: ...

    @classmethod
    def parse(cls, data: bytes | str) -> Self: ...


H = TypeVar("H", bound=Head)


@dataclass(frozen=True)
class Format(Generic[H]):
    """One format of such files.

    Attributes:
        magic: the first line, with its end.
        name: of what such a file holds, for people.
        head: kind of head.
        most: bytes of a head.
    """

    magic: bytes
    name: str
    head: type[H]
    most: int = 64 * 2**10

    def joined(self, head: H, numbers: bytes) -> bytes:
        """A file's content; the head's JSON has no line end in it."""
        return self.magic + head.json + b"\n" + numbers

    def parted(self, data: bytes, source: str) -> tuple[H, bytes]:
        """The head and the numbers of what `joined` made, unchanged since; `source` says whose they are.

        Raises:
            BundleInvalid: another format, a head that cannot be read, or other numbers than were written.
        """
        end = data.find(b"\n", len(self.magic), len(self.magic) + self.most)
        if not data.startswith(self.magic) or end < 0:
            raise BundleInvalid(f"{source} is no {self.name} that this version reads.")
        try:
            head = self.head.parse(data[len(self.magic) : end])
        except ValueError as error:
            raise BundleInvalid(f"{source} has an unreadable head: {error}.") from error
        numbers = data[end + 1 :]
        if digest(numbers) != head.digest:
            raise BundleInvalid(f"{source} was changed after it was written.")
        return head, numbers


def digest(numbers: bytes) -> str:
    """What a head says of the numbers that follow it: their SHA-256 in hexadecimal digits."""
    return hashlib.sha256(numbers).hexdigest()
