"""One file's first and last bytes: is it whole, and is it what its name says? No row is parsed here."""

from __future__ import annotations

import csv
import io
import re
import struct
from collections import Counter
from pathlib import Path

from client.ingest.doctor.findings import Finding, Kind, shown
from client.ingest.peek import BYTES, Head, peek

_TAIL = 65_536
_FEW = 0.2  # share of cells that are numbers: below, it is a table of text
_TIME = re.compile(r"[0-9]{1,4}([-/.])[0-9]{1,2}\1[0-9]{1,4}|[0-9]{1,2}:[0-9]{2}")
_AGAIN = "Copy it again from its source, and compare the sizes."

# First bytes -> what it is, what to do. Only what `peek` does not tell apart by itself.
_ARCHIVES: tuple[tuple[bytes, str, str], ...] = (
    (b"PK", "a zip archive", "Unpack it (`unzip FILE -d FOLDER`) and check the folder."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it (`gunzip -k FILE`, or `tar -xzf FILE`) and check what comes out."),
    (b"7z\xbc\xaf", "a 7-Zip archive", "Unpack it (`7z x FILE`) and check the folder."),
    (b"Rar!", "a RAR archive", "Unpack it (`unrar x FILE`) and check the folder."),
    (b"BZh", "a bzip2 archive", "Unpack it (`bunzip2 -k FILE`) and check what comes out."),
    (b"\xfd7zXZ", "an xz archive", "Unpack it (`unxz -k FILE`) and check what comes out."),
)
_BINARIES: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\xfe", "text in UTF-16, as some Excel exports write it", "Save it as CSV in UTF-8."),
    (b"\xfe\xff", "text in UTF-16, as some Excel exports write it", "Save it as CSV in UTF-8."),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)", "Save it as .xlsx or as CSV."),
    (b"%PDF", "a PDF document", "Give the folder with the data files beside it."),
    (b"\x89HDF", "an HDF5 file", "Export its tables as CSV or Parquet."),
    (b"MATLAB 5.0", "a MATLAB file", "Export its arrays as CSV or .npy."),
    (b"RDX", "an R workspace", "Export its data frames as CSV or Parquet."),
    (b"RDA", "an R workspace", "Export its data frames as CSV or Parquet."),
    (b"SQLite format 3", "an SQLite database", "Export its tables as CSV."),
    (b"\x89PNG", "an image", "Give the folder with the data files."),
    (b"\xff\xd8\xff", "an image", "Give the folder with the data files."),
)
_PICKLE = "Unpickling runs whatever code is inside, so it is refused on principle: save it as .npy, CSV or Parquet."


def foreign(path: Path) -> Finding | None:
    """What a file is when it is no table or array at all; None when it may be one.

    Raises:
        OSError: it cannot be read.
    """
    head = peek(path)
    with path.open("rb") as file:
        start = file.read(16)
    if head.form == "empty":
        return _told(path, "path", "an empty file", _AGAIN)
    if _is_pickle(path, start):
        return _told(path, "path", "a Python pickle", _PICKLE)
    if head.form in ("archive", "binary"):
        return _named(path, start)
    return _page(path, head) if head.form == "text" else None


def _named(path: Path, start: bytes) -> Finding:
    for mark, what, action in (*_ARCHIVES, *_BINARIES):
        if start.startswith(mark):
            return _told(path, "path", what, action.replace("FILE", path.name))
    return _told(path, "path", "a binary file of no kind that is known here", "Export the data as CSV or Parquet.")


def _is_pickle(path: Path, start: bytes) -> bool:
    protocol = len(start) > 2 and start[0] == 0x80 and 2 <= start[1] <= 5
    return protocol or path.suffix.lower() in (".pkl", ".pickle")


def _page(path: Path, head: Head) -> Finding | None:
    """Text that stands where data should be: a web page, a pointer, an error message."""
    text = "\n".join(head.lines[:10]).lstrip()
    if text.startswith("version https://git-lfs.github.com/"):
        return _told(path, "path", "a Git LFS pointer, not the file itself", "Fetch the file with `git lfs pull`.")
    if "/annex/objects/" in text[:400]:
        return _told(path, "path", "a git-annex pointer, not the file itself", "Fetch it with `git annex get`.")
    if re.match(r"(?is)(<\?xml[^>]*>\s*)?<(!doctype|html|head|script)", text):
        what = "a web page: probably the login or error page that came instead of the data"
        return _told(path, "path", what, "Log in where the data is offered, and download it again.")
    if text.startswith(("{", "[{", "<?xml")):
        return _told(path, "path", "a JSON or XML document, not a table", "Export the data as CSV or Parquet.")
    return None


def broken(path: Path) -> Finding | None:
    """A sign that the end of a file is missing; None where there is none.

    Raises:
        OSError: it cannot be read.
    """
    head = peek(path)
    if head.form == "text":
        return _cut_table(path, head)
    if head.form == "npy":
        return _cut_array(path, head)
    with path.open("rb") as file:
        file.seek(max(0, head.size - _TAIL))
        tail = file.read()
    if head.form == "xlsx" and b"PK\x05\x06" not in tail:
        return _told(path, "file", "is cut short: the directory at the end of the workbook is missing", _AGAIN)
    if head.form == "parquet" and not tail.endswith(b"PAR1"):
        return _told(path, "file", "is cut short: the footer of the Parquet file is missing", _AGAIN)
    return None


def _cut_array(path: Path, head: Head) -> Finding | None:
    """A `.npy` file shorter than its own header promises. The header is read as text: nothing in it is run."""
    with path.open("rb") as file:
        start = file.read(4_096)
    if len(start) < 12:
        return _told(path, "file", "is cut short: the header of the array is incomplete", _AGAIN)
    wide = start[6] > 1
    begin = (12 if wide else 10) + struct.unpack("<I" if wide else "<H", start[8 : 12 if wide else 10])[0]
    found = re.search(rb"'descr': *'[<>|=]?[fiub]([0-9]{1,2})'.*'shape': *\(([0-9, ]{0,100})\)", start[:begin])
    if found is None:
        return None
    due = begin + int(found[1]) * _product(found[2].decode())
    if head.size >= due:
        return None
    return _told(path, "file", f"is cut short: {head.size:,} bytes where its header promises {due:,}", _AGAIN)


def _product(shape: str) -> int:
    product = 1
    for part in shape.split(","):
        product *= int(part) if part.strip() else 1
    return product


def _cut_table(path: Path, head: Head) -> Finding | None:
    """A last line without an end, with fewer fields than the lines before it."""
    with path.open("rb") as file:
        file.seek(max(0, head.size - _TAIL))
        lines = file.read().decode("utf-8", "replace").split("\n")
    if not lines[-1].strip() or min(len(lines), len(head.lines)) < 3:
        return None
    separator = separator_of(lines[-4:-1])
    widths = [_fields(line, separator) for line in (head.lines[len(head.lines) // 2], *lines[-4:])]
    before, last = widths[-2:]
    if before < 2 or last >= before or len(set(widths[:-1])) > 1:  # Prose ends as it likes.
        return None
    what = f"is cut short: its last line has {last} fields and no line end, the one before it {before}"
    return _told(path, "file", what, _AGAIN)


def separator_of(lines: list[str]) -> str:
    """The sign that separates the fields of a few lines of a table.

    Example:
        >>> separator_of(["a;b", "1,5;2,5"])
        ';'
    """
    counts = {sign: min((line.count(sign) for line in lines), default=0) for sign in ("\t", ";", ",")}
    return next((sign for sign, count in counts.items() if count), " ")


def _fields(line: str, separator: str) -> int:
    if separator == " ":
        return len(line.split())
    try:
        return len(next(csv.reader(io.StringIO(line), delimiter=separator), []))
    except csv.Error:
        return line.count(separator) + 1


def table_trouble(path: Path) -> Finding | None:
    """Why a text file is no recording that a loader takes: no columns, no numbers, no time. None when it looks fine.

    Raises:
        OSError: it cannot be read.
    """
    head = peek(path)
    rows = [line for line in head.lines if line.strip()]
    if head.form != "text" or not rows:
        return None
    separator = separator_of(rows[:10])
    cells = [_cells(line, separator) for line in rows[:40]]
    width, alike = Counter(len(row) for row in cells).most_common(1)[0]
    body = [cell for row in cells[1:] for cell in row if cell]
    numeric = sum(_is_number(cell) for cell in body) / max(1, len(body))
    if width < 2 or alike * 2 < len(cells) or (separator == " " and numeric < _FEW):
        what = "plain text, not a table" if len(rows) > 1 or head.size < BYTES else "one long line"
        return _told(path, "path", what, "Give the folder or file that holds the recording.")
    if len(cells) < 2:
        return _told(path, "path", f"a header of {width} columns without rows", _AGAIN)
    if numeric < _FEW:
        what = f"a table of {width} columns of text: {numeric:.0%} of its first cells are numbers"
        return _told(path, "path", what, "Give the recording itself: a timestamp column and one numeric column a tag.")
    if any(_TIME.search(cell) for row in cells[1:] for cell in row):
        what = f"a table of {width} columns with times, in a layout that no loader takes"
        action = "Give one header line, one timestamp column and one numeric column a tag."
        return _told(path, "load", what, action)
    what = f"a table of {width} columns in which no timestamp column was found"
    action = "Export it again with a timestamp column, for example 2024-05-31 14:00:00, before the tags."
    return _told(path, "path", what, action)


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip().strip('"') for cell in (line.split() if separator == " " else line.split(separator))]


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?|nan|NaN|NULL|null", cell) is not None


def _told(path: Path, kind: Kind, what: str, action: str) -> Finding:
    return Finding(severity="error", kind=kind, where=shown(path), what=what, action=action)
