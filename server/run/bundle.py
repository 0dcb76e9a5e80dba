"""The Flower app bundle (FAB) of this very installation: our packages and a manifest, built in memory.

An installed Crossplant has no `pyproject.toml` beside it, and the manifest must name the run's settings before they can
be set: so it is written here.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import server
from shared.service_errors import ProcessFailed

_PACKAGES = ("shared", "server", "client")
_MANIFEST = """
[project]
name = "crossplant"
version = "{version}"
description = "Federated anomaly detection across industrial plants."
license = "Apache-2.0"

[tool.flwr.app]
publisher = "crossplant"
fab-include = ["server/**/*.py", "client/**/*.py", "shared/**/*.py"]

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
run = ""
"""


def build_bundle() -> bytes:
    """The bundle; the same installation gives the same bytes.

    Raises:
        ProcessFailed: Flower's builder refuses it.
    """
    from flwr.cli.build import build_fab_from_files

    manifest = _MANIFEST.format(version=importlib.metadata.version("crossplant"))
    files: dict[str, bytes | Path] = dict(sorted(_sources(Path(server.__file__).parents[1])))
    try:
        return build_fab_from_files({"pyproject.toml": manifest.encode(), **files})[0]
    except (ValueError, OSError) as error:
        cause = f"Flower's builder refuses this installation: {error}."
        raise ProcessFailed(cause, "Install Crossplant again.") from error


def _sources(root: Path) -> Iterator[tuple[str, Path]]:
    for package in _PACKAGES:
        for path in (root / package).rglob("*.py"):
            yield path.relative_to(root).as_posix(), path
