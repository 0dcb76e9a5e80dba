"""`plant.toml`: what a plant's agent owns and where it listens. Relative paths are relative to the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from shared.config import Text, read_toml
from shared.errors import InvalidConfig

SiteName = Annotated[str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z")]
Setting = TypeVar("Setting", bound=BaseModel)


class Group(BaseModel):
    """Settings that stand together; nothing unknown, nothing of another type, nothing changed later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSource(Group):
    """Where the plant's data lies: a data set of `client.ingest`, or without `dataset` a site folder."""

    path: Text
    dataset: Text | None = None
    site: Text | None = None  # of a data set with several natural sites
    ranges: Text | None = None  # operating ranges, see client.ingest.ranges; None: ranges.csv beside plant.toml, if any


def _folder(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class AgentSettings(Group):
    """The process. `threads` and `device` are of torch; the policy's caps stand above them."""

    threads: Annotated[int, Field(ge=1, le=256)] = 1
    device: Annotated[str, Field(pattern=r"\A(auto|cpu|cuda(:\d+)?)\z")] = "auto"
    log: Literal["text", "json"] = "text"
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 10.0  # for the task under way when the agent is stopped
    guard: bool = True  # whether bundles hold a local guard, fitted on the plant's own data alone
    audit_mb: Annotated[int, Field(ge=1, le=1024)] = 16  # of one file of the audit log
    metrics: Text | None = None  # file for node_exporter's textfile collector; None: metrics.prom in the home


class PlantConfig(Group):
    """One plant. The keys from `superlink` on are the relay's: the agent opens no connection.

    Example:
        >>> PlantConfig(name="north", data="site", superlink="127.0.0.1:8000").data.path
        'site'
    """

    name: SiteName
    data: Annotated[DataSource, BeforeValidator(_folder)]
    home: Text = "home"
    socket: Text = "run/agent.sock"
    policy: Text = "policy.toml"
    group: Text | None = None  # of the relay: it may use the socket, and nothing else of the agent's
    agent: AgentSettings = AgentSettings()
    superlink: Text | None = None
    root_certificates: Text | None = None
    node_key: Text | None = None
    client_certificate: Text | None = None
    client_key: Text | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key go together: give both, or neither")
        return self


@dataclass(frozen=True)
class Plant:
    """A read `plant.toml` and the absolute folder that its paths are relative to."""

    config: PlantConfig
    folder: Path

    @property
    def home(self) -> Path:
        """Bundles, audit log, ledger."""
        return self.folder / self.config.home

    @property
    def socket(self) -> Path:
        """Where the agent listens."""
        return self.folder / self.config.socket

    @property
    def policy(self) -> Path:
        """The plant's policy."""
        return self.folder / self.config.policy

    @property
    def authority(self) -> Path:
        """Whom the plant trusts at the other end."""
        return self.folder / (self.config.root_certificates or "ca.crt")

    @property
    def node_key(self) -> Path:
        """The plant's identity at the coordinator."""
        return self.folder / (self.config.node_key or "node")

    @property
    def shown(self) -> tuple[Path, Path] | None:
        """Certificate and key for a gateway that asks for them."""
        certificate, key = self.config.client_certificate, self.config.client_key
        return None if certificate is None or key is None else (self.folder / certificate, self.folder / key)

    @property
    def metrics(self) -> Path:
        """The file that a monitoring system reads."""
        return (
            self.home / "metrics.prom" if self.config.agent.metrics is None else self.folder / self.config.agent.metrics
        )

    @property
    def audit(self) -> Path:
        """Folder of the audit log."""
        return self.home / "audit"


def read_plant(path: Path) -> Plant:
    """Read `plant.toml`.

    Raises:
        InvalidConfig: the file is missing or broken, or a key is unknown or has a value that it may not have.
    """
    config = read_strict(path, PlantConfig)
    return Plant(config, path.absolute().parent)


def read_strict(path: Path, kind: type[Setting]) -> Setting:
    """Read a TOML file into a settings class; errors name the file and the key.

    Raises:
        InvalidConfig: as its text says.
    """
    try:
        return kind.model_validate(_toml(path))
    except ValidationError as error:
        raise InvalidConfig(explain(path, error), "Correct the file.") from error


def _toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InvalidConfig(f"there is no file {path}.", "Give the plant's plant.toml; policy.toml lies beside it.")
    try:
        return read_toml(path)
    except InvalidConfig as error:  # its texts speak of presets
        raise InvalidConfig(error.cause.replace("the preset ", ""), "Correct the file.") from error


def explain(path: Path, error: ValidationError) -> str:
    """The first complaint in one sentence: file, key, value, what is wrong."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    missing = first["type"] in ("missing", "extra_forbidden") or not first["loc"]
    value = "" if missing else f" = {repr(first['input'])[:80]}"
    return f"{path}: {key}{value}: {first['msg'].removeprefix('Value error, ')}."
