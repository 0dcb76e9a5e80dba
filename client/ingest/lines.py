"""A text file of any size as blocks of whole lines, in bounded memory: plain UTF-8, plain line ends, numbered.

What cannot be a line of a table is refused with its number: bytes that are no text, NUL bytes (a copy that was cut off
leaves them), a carriage return inside a line, a line without end.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.errors import DataUnreadable

BLOCK = 8 * 2**20
"""Bytes read at a time."""
LONGEST = 2**20
"""No line of a table is longer."""
_NL = b"\n"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Lines:
    """Some whole lines.

    Attributes:
        text: UTF-8, every line ended by a newline.
        first: number of the first line in the file, counted from 1.
    """

    text: bytes
    first: int


def head(path: Path, most: int = 40, size: int = 65_536) -> tuple[str, ...]:
    """The first lines of a text, for recognising it. Raises nothing for broken content."""
    with path.open("rb") as file:
        start = file.read(size)
    text = start.decode("utf-16" if start[:2] in _UTF16 else "utf-8-sig", errors="replace")
    return tuple(line.rstrip("\r") for line in text.split("\n")[:most])


def tail(path: Path, size: int = 16_384) -> str:
    """The last line of a text that is not blank, for recognising it; empty when the last `size` bytes have none."""
    with path.open("rb") as file:
        utf16 = file.read(2) in _UTF16
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        end = file.read(size)
    if utf16:
        return ""
    lines = [line for line in end.decode("utf-8", errors="replace").splitlines() if line.strip(" ,;\t")]
    return lines[-1] if len(lines) > 1 else ""


def ends_with_newline(path: Path) -> bool:
    """Whether the last line is ended, as in a file that was copied whole it most often is."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - 4))
        return b"\n" in file.read(4)[-2:]


def count(path: Path) -> int:
    """Number of lines, a last one without line end included."""
    lines, end = 0, b"\n"
    for piece in _pieces(path):
        lines, end = lines + piece.count(b"\n"), piece
    return lines + (not end.endswith(b"\n"))


def blocks(path: Path, skip: int = 0) -> Iterator[Lines]:
    """The lines after the first `skip` ones.

    Raises:
        DataUnreadable: bytes that are no lines of text, with the number of the line.
    """
    first, rest = 1, b""
    for piece in _pieces(path):
        whole, newline, rest = (rest + piece).rpartition(b"\n")
        if len(rest) > LONGEST:
            raise DataUnreadable(f"{path}, line {first + whole.count(_NL) + 1}: more than {LONGEST} bytes long.")
        if newline:
            number, first = first, first + whole.count(_NL) + 1
            yield from _after(skip, _checked(path, Lines(whole + newline, number)))
    if rest:
        yield from _after(skip, _checked(path, Lines(rest + b"\n", first)))


def _pieces(path: Path) -> Iterator[bytes]:
    """The file as UTF-8 without byte-order mark, in pieces of about `BLOCK` bytes."""
    with path.open("rb") as file:
        piece = file.read(BLOCK)
        if piece[:2] in _UTF16:
            file.seek(0)
            yield from _transcoded(path, iter(lambda: file.read(BLOCK), b""))
            return
        piece = piece.removeprefix(codecs.BOM_UTF8)
        while piece:
            yield piece
            piece = file.read(BLOCK)


def _transcoded(path: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")()
    try:
        for piece in pieces:
            yield decoder.decode(piece).encode()
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise DataUnreadable(f"{path} begins as UTF-16 text but is none.", "Save it again as UTF-8.") from error


def _checked(path: Path, lines: Lines) -> Lines:
    text = lines.text
    if b"\r" in text:
        text = _plain_ends(text)
        _refuse(path, lines.first, text, text.find(b"\r"), "a carriage return inside the line")
    _refuse(path, lines.first, text, text.find(b"\0"), "a NUL byte, as in a copy that was cut off")
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            _refuse(path, lines.first, text, error.start, f"byte 0x{text[error.start]:02x} is no UTF-8 text")
    return Lines(text, lines.first)


def _plain_ends(text: bytes) -> bytes:
    """Carriage returns at the ends of lines taken off; the usual case at twice the speed of `replace`."""
    buffer = np.frombuffer(text, dtype=np.uint8)
    before_T = buffer[np.flatnonzero(buffer == 10) - 1]
    if np.count_nonzero(before_T == 13) == text.count(b"\r"):
        return text.translate(None, b"\r")
    return text.replace(b"\r\n", _NL)


def _refuse(path: Path, first: int, text: bytes, at: int, why: str) -> None:
    if at >= 0:
        raise DataUnreadable(f"{path}, line {first + text.count(_NL, 0, at)}: {why}.")


def _after(skip: int, lines: Lines) -> Iterator[Lines]:
    """`lines` without those up to line `skip`."""
    text, first = lines.text, lines.first
    while first <= skip and text:
        text, first = text[text.index(_NL) + 1 :], first + 1
    if text:
        yield Lines(text, first)
