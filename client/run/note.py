"""How a plant's line to the coordinator stands: written by its SuperNode, read by `crossplant client status`."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from shared.disk import replace_file

_LONGEST = 64 * 2**10


def write_note(path: Path, state: str, why: str = "", mend: str = "") -> None:
    """Note how the line stands, for people; a disk that refuses must not cut it."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(OSError):
        replace_file(path, json.dumps({"state": state, "why": why, "mend": mend, "since": since}).encode())


def read_note(path: Path) -> str | None:
    """The note in one line; None when there is none, or it is no note."""
    try:
        with path.open("rb") as file:
            found, touched = json.loads(file.read(_LONGEST)), path.stat().st_mtime
        state, why, mend, since = (str(found[key]) for key in ("state", "why", "mend", "since"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if state == "connected":
        return f"connected since {since}; the coordinator answered {max(0.0, time.time() - touched):.0f} s ago"
    return f"{state} since {since}: {why} {mend}".strip()


def begin_note(path: Path, address: str) -> None:
    """Note that the plant dials; what was wrong before stands until the coordinator answers.

    A plant that is refused dials every few seconds, and who looks in between wants to know why.
    """
    before = read_note(path) or ""
    if not before.startswith(("refused", "lost")):
        write_note(path, "dialling", f"{address} has not answered yet.")
