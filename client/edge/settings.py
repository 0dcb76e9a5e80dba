"""`edge.toml`: how one plant scores and alarms. A group a part; every key has a default, unknown keys are refused.

    state = "edge"              # folder that outlives the process; beside this file
    top = 5                     # tags named in a score

    [source]
    location = "opc.tcp://plc:4840"
    [source.options]            # the source's own settings, all texts
    [sinks.history]             # any name
    location = "history.sqlite"
    types = ["alarm", "fault"]
    [alarms]                    # client.edge.alarm_values.AlarmRules
    [faults]                    # client.edge.faults.FaultRules
    [drift]                     # client.edge.drift_stage.DriftRules
    [adapt]                     # client.edge.adapt.AdaptRules
    [swap]                      # client.edge.gates.SwapSettings

Structs of msgspec and not pydantic models: an edge box pays for every import. The file is checked as a whole before
anything starts.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from client.edge.adapt import AdaptRules
from client.edge.alarm_values import AlarmRules
from client.edge.drift_stage import DriftRules
from client.edge.faults import FaultRules
from client.edge.gates import SwapSettings
from client.edge.promise import ModelSettings
from shared.artefact import Artefact
from shared.errors import FileTrouble, InvalidConfig

_MOST = 2**20  # bytes of an edge.toml
_CURE = "docs/edge/scoring.md lists every key of an edge.toml."

Positive = Annotated[int, Meta(ge=1)]


class SourceGroup(Artefact, frozen=True, kw_only=True):
    """`[source]`: where readings come from; what the command line gives counts instead.

    Attributes:
        location: as `--source`.
        options: the source's own settings.
    """

    location: str = ""
    options: dict[str, str] = {}  # noqa: RUF012 (a struct copies it)


class SinkGroup(Artefact, frozen=True, kw_only=True):
    """`[sinks.NAME]`: where records go.

    Attributes:
        location: as `--sink`.
        types: of records that it gets; empty: the sink's own choice.
        options: the sink's own settings.
    """

    location: Annotated[str, Meta(min_length=1)]
    types: tuple[str, ...] = ()
    options: dict[str, str] = {}  # noqa: RUF012 (a struct copies it)


class Settings(Artefact, frozen=True, kw_only=True):
    """A whole edge.toml.

    Attributes:
        state: folder that outlives the process; relative to the file.
        top: tags named in a score.
        source, sinks, alarms, faults, drift, adapt, swap, model: the groups; a sink's name is that of its folder, too.

    Example:
        >>> Settings().top, Settings().sinks
        (5, {})
    """

    state: str = ""
    top: Annotated[int, Meta(ge=1, le=100)] = 5
    source: SourceGroup = SourceGroup()
    sinks: dict[Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")], SinkGroup] = {}  # noqa: RUF012
    alarms: AlarmRules = AlarmRules()
    faults: FaultRules = FaultRules()
    drift: DriftRules = DriftRules()
    adapt: AdaptRules = AdaptRules()
    swap: SwapSettings = SwapSettings()
    model: ModelSettings = ModelSettings()


def read_settings(path: Path | None) -> Settings:
    """Read an edge.toml; without one, the defaults.

    Raises:
        FileTrouble: it cannot be read.
        InvalidConfig: it is no TOML, a key is unknown, or a value is not what its key needs; the file and the key are
            named.
    """
    if path is None:
        return Settings()
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
    except (OSError, ValueError) as error:
        raise FileTrouble(f"{path}: {getattr(error, 'strerror', None) or error}.") from error
    if len(data) > _MOST:
        raise InvalidConfig(f"{path} is larger than {_MOST} bytes: it is no edge.toml.", _CURE)
    return parse_settings(data, path)


def parse_settings(data: bytes, path: Path) -> Settings:
    """`read_settings` of a file's content; `path` is named in errors and is where relative paths begin."""
    try:
        found = Settings.of(tomllib.loads(data.decode("utf-8")))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors.
        raise InvalidConfig(f"{path}: {_told(error)}.", _CURE) from error
    link = str(path.parent / found.swap.link) if found.swap.link else ""
    swap = msgspec.structs.replace(found.swap, link=link)
    return msgspec.structs.replace(found, state=str(path.parent / found.state) if found.state else "", swap=swap)


def _told(error: Exception) -> str:
    """The message of msgspec with the key in front, as `alarms.on: Expected int, got str`.

    Example:
        >>> _told(ValueError("Expected `int`, got `str` - at `$.source.top`"))
        'source.top: Expected `int`, got `str`'
    """
    text, _, place = " ".join(str(error).split()).partition(" - at `$")
    key = place.strip("`.")
    return f"{key}: {text}"[:500] if key else text[:500]
