"""The list of what leaves a plant, for people and for programs."""

from __future__ import annotations

import textwrap
from typing import Any

from shared.wire.inventory import BESIDE, REPLY, REQUEST, Field, Kind

_WIDTH = 80
_KINDS = len(Kind)


def inventory_rows() -> list[dict[str, Any]]:
    """Every field of either direction as plain JSON values."""
    return [
        {
            "direction": direction,
            "kinds": [kind.value for kind in Kind if kind in field.kinds],
            "field": field.name,
            "part": field.part,
            "tells": field.sensitive,
            "sensitivity": field.sensitivity,
            "without_privacy": field.protection,
            "with_privacy": field.private,
        }
        for direction, fields in (("from the plant", REPLY), ("to the plant", REQUEST))
        for field in fields
    ]


def beside() -> list[dict[str, str]]:
    """What a peer sees besides the fields."""
    return [{"tells": tells, "with_privacy": said} for tells, said in BESIDE]


def inventory_text() -> str:
    """Within 80 columns: what leaves a plant with all that is known of it, and the names of what reaches it."""
    lines = ["What leaves a plant. DP: local differential privacy.", ""]
    for field in REPLY:
        lines += _described(field)
    lines += ["What a peer sees besides:"]
    for tells, said in BESIDE:
        lines += _wrapped(f"{tells}: {said}", "  ")
    names = sorted({field.name for field in REQUEST})
    lines += ["", "What reaches a plant, none of it computed from its own data alone:"]
    return "\n".join([*lines, *_wrapped(", ".join(names), "  ")])


def _described(field: Field) -> list[str]:
    kinds = "all messages" if len(field.kinds) == _KINDS else ", ".join(k.value for k in Kind if k in field.kinds)
    lines = [f"{field.name}  ({kinds})"]
    parts = (
        ("tells", field.sensitive or "nothing about data"),
        ("without DP", field.protection),
        ("sensitivity", field.sensitivity),
        ("under DP", field.private),
    )
    for name, said in parts:
        if said:
            lines += _wrapped(said, f"  {name:<12}")
    return [*lines, ""]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=" " * max(len(indent), 4))


def printable(text: str) -> str:
    """Names from a file may hold what would steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
