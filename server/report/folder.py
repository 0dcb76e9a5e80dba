"""Where the style sheet and the macros lie that all reports share."""

from __future__ import annotations

from pathlib import Path

SHARED = Path(__file__).parent
