"""A plant for tests of `crossplant preflight`: made, pointed at a server, and judged."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from client.ingest.folder import write_site
from client.preflight import checks
from shared.preflight.verdict import Verdict
from tests.conftest import site
from tests.support.pki import NOW, take_in


def ready_plant(fed: Path, now: datetime = NOW) -> Path:
    """A plant's folder that lacks nothing but a server."""
    home = take_in(fed, "north", now)
    write_site(home / "data", site("north"))
    return home


def rewrite(home: Path, **settings: str | None) -> None:
    """Change top-level settings of `plant.toml`; None leaves one out."""
    path = home / "plant.toml"
    lines = [one for one in path.read_text().splitlines() if one.partition(" =")[0] not in settings]
    new = [f'{name} = "{value}"' for name, value in settings.items() if value is not None]
    path.write_text("\n".join([*new, *lines]))


def point_at(home: Path, port: int) -> None:
    rewrite(home, superlink=f"localhost:{port}")


def verdicts_at(home: Path) -> list[Verdict]:
    return list(checks(home / "plant.toml"))
