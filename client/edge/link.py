"""How the plant's line to the coordinator stands, as its relay notes it (`client.run.note`). Scoring never needs it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.edge.state import read_table

SILENT_S = 120.0  # after which a relay that said "connected" counts as gone


@dataclass(frozen=True)
class Link:
    """The line.

    Attributes:
        state: `connected`, `dialling`, `refused`, `lost`, `silent` (the relay no longer writes), `unknown`.
        since: in seconds since 1970-01-01 UTC; 0: not known.
        told: why, for a person.
    """

    state: str
    since: float
    told: str

    @property
    def line(self) -> str:
        """As one sentence."""
        why = f": {self.told}" if self.told else ""
        return f"link to the coordinator {self.state}{why}; scoring does not need it"


def read_link(path: Path, now: float) -> Link | None:
    """The note of a relay; None where there is none.

    Args:
        path: its link.json.
        now: seconds since 1970-01-01 UTC.
    """
    found = read_table(path)
    if found is None:
        return None
    try:
        touched = path.stat().st_mtime
        state, since = str(found["state"])[:40], datetime.fromisoformat(str(found["since"])).timestamp()
    except (OSError, KeyError, ValueError, OverflowError):
        return Link("unknown", 0.0, "its note cannot be read")
    if state == "connected" and now - touched > SILENT_S:
        return Link("silent", touched, "the relay has not written since")
    told = " ".join(f"{found.get('why', '')} {found.get('mend', '')}".split())[:300]
    return Link(state, since if math.isfinite(since) else 0.0, told)
