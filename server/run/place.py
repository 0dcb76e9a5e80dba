"""Where the coordinator's processes keep what they need: `run/` inside the federation folder."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from shared.alone import held
from shared.disk import replace_file
from shared.errors import FileTrouble
from shared.service_errors import NotRunning


@dataclass(frozen=True)
class Endpoint:
    """The SuperLink as this machine reaches it.

    Attributes:
        address: `127.0.0.1:port`.
        root: certificate to trust; None without TLS.
        gateway: public port.
        pid: of `crossplant server run`.
    """

    address: str
    root: Path | None
    gateway: int
    pid: int

    @property
    def url(self) -> str:
        """Base URL."""
        return f"{'http' if self.root is None else 'https'}://{self.address}"


@dataclass(frozen=True)
class ServerPlace:
    """Paths of one federation at its operator.

    Attributes:
        root: the federation folder that `crossplant provision init` made.
    """

    root: Path

    @classmethod
    def of(cls, folder: Path) -> ServerPlace:
        """The place of a federation folder.

        Raises:
            FileTrouble: there is no such folder.
        """
        root = Path(os.path.abspath(folder))
        if not root.is_dir():
            raise FileTrouble(f"{root} is no folder.", "Make a federation with `crossplant provision init`.")
        return cls(root)

    @property
    def ca(self) -> Path:
        """The federation's certificate authority."""
        return self.root / "ca" / "ca.crt"

    @property
    def revoked(self) -> Path:
        """What the authority took back (PEM)."""
        return self.root / "ca" / "revoked.pem"

    @property
    def certificate(self) -> Path:
        """The gateway's certificate."""
        return self.root / "server" / "server.crt"

    @property
    def key(self) -> Path:
        """The gateway's private key."""
        return self.root / "server" / "server.key"

    @property
    def sites(self) -> Path:
        """One folder a plant."""
        return self.root / "sites"

    @property
    def run(self) -> Path:
        """State of the processes; private to the operator."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.run / "log"

    @property
    def database(self) -> Path:
        """The SuperLink's own."""
        return self.run / "superlink.sqlite"

    @property
    def secret(self) -> Path:
        """What an executor must know to claim tasks."""
        return self.run / "executor.secret"

    @property
    def loopback_certificate(self) -> Path:
        """The SuperLink's certificate, for this machine only."""
        return self.run / "loopback.crt"

    @property
    def loopback_key(self) -> Path:
        """Its key."""
        return self.run / "loopback.key"

    @property
    def runs(self) -> Path:
        """One file a run that was asked for and is not over."""
        return self.run / "runs"

    @property
    def carrier(self) -> Path:
        """Where a ServerApp writes which Flower run it carries, and its process id."""
        return self.run / "carrier"

    @property
    def waits(self) -> Path:
        """Where a ServerApp writes for whom its round waits, while it does (`server.notice`)."""
        return self.run / "waits"

    @property
    def lock(self) -> Path:
        """Held by the one `crossplant server run`."""
        return self.run / ".lock"

    def prepare(self) -> None:
        """Make the folders."""
        for folder in (self.run, self.logs, self.runs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write_endpoint(self, endpoint: Endpoint) -> None:
        """Tell other commands where the SuperLink is."""
        root = None if endpoint.root is None else str(endpoint.root)
        content = {"address": endpoint.address, "root": root, "gateway": endpoint.gateway, "pid": endpoint.pid}
        replace_file(self.run / "endpoint.json", json.dumps(content).encode(), 0o600)

    def read_endpoint(self) -> Endpoint:
        """Where the SuperLink is.

        Raises:
            NotRunning: no server runs here; one that was killed may have left the file.
        """
        cure = f"Start one with `crossplant server run --federation {self.root}`."
        if not (self.root / "federation.toml").is_file():
            cure = (
                "It is no federation's folder: give the one that `provision init` made, of a `poc up` its federation/."
            )
        if not held(self.lock):
            raise NotRunning(f"no server runs for {self.root}.", cure)
        try:
            found = json.loads((self.run / "endpoint.json").read_bytes())
            root = None if found["root"] is None else Path(found["root"])
            return Endpoint(str(found["address"]), root, int(found["gateway"]), int(found["pid"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise NotRunning(
                f"the server for {self.root} is not up yet.", "Wait some seconds, or restart it."
            ) from error
