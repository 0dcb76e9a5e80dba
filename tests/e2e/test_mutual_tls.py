"""A gateway that asks plants for certificates, as real processes: who is let in, and what each side says of the other.

No SuperLink stands behind the gateway here: a plant that is let in finds the coordinator away, and tries again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from client.ingest.folder import write_site
from server.provision.change import revoke
from server.provision.federation import opened
from server.run.gateway import gateway
from server.run.place import Endpoint, ServerPlace
from server.run.superlink import make_private_files
from shared.flower_process import free_port, listening
from shared.pki import certificates, keys
from shared.supervise import Supervisor
from tests.conftest import site
from tests.support.command import crossplant_here
from tests.support.pki import DAY, HOSTS, NOW, make, take_in

pytestmark = pytest.mark.network

PAST = NOW - 400 * DAY


@dataclass(frozen=True)
class Gate:
    """A federation whose gateway runs.

    Attributes:
        fed: its folder.
        port: the gateway's.
    """

    fed: Path
    port: int

    @property
    def log(self) -> str:
        """What the gateway said."""
        return ServerPlace.of(self.fed).logs.joinpath("gateway.log").read_text()


@contextmanager
def gate(fed: Path, mutual: bool) -> Iterator[Gate]:
    """Its gateway, as `crossplant server run` starts it."""
    place = ServerPlace.of(fed)
    place.prepare()
    make_private_files(place)
    endpoint = Endpoint(f"127.0.0.1:{free_port()}", place.loopback_certificate, free_port(), 0)
    spec = gateway(place, endpoint, "127.0.0.1", mutual)
    with Supervisor() as children:
        children.start(replace(spec, ready=listening("127.0.0.1", endpoint.gateway)))
        yield Gate(fed, endpoint.gateway)


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gateway that asks for certificates, and a plant of every kind."""
    fed = make(tmp_path_factory.mktemp("mutual"), NOW)
    for name in ("north", "bare", "stranger", "late", "gone"):
        write_site(take_in(fed, name, NOW) / "data", site(name))
    with opened(fed) as federation:
        revoke(federation, "gone", NOW)
    with gate(fed, mutual=True) as running:
        for name in ("north", "bare", "stranger", "late", "gone"):
            dial(home(running, name), running.port)
        yield running


def home(gate: Gate, name: str) -> Path:
    return gate.fed.parent / f"at-{name}"


def dial(home: Path, port: int) -> None:
    """Let a plant dial a port, and show nothing it does not have."""
    path = home / "plant.toml"
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(f'superlink = "127.0.0.1:{port}"' if one.startswith("superlink") else one for one in lines)
    )


@contextmanager
def running(home: Path) -> Iterator[Path]:
    """`crossplant client run` without its agent; its output."""
    log = home / "run.log"
    command = [sys.executable, "-m", "shared", "client", "run", "--relay-only", "--config", str(home / "plant.toml")]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield log
        finally:
            process.terminate()
            process.wait(30)


def wait_for(log: Path, words: str, longest_s: float = 40.0) -> None:
    ends = time.monotonic() + longest_s
    while not (log.exists() and words in log.read_text()):
        assert time.monotonic() < ends, f"no {words!r} in {log}:\n{log.read_text() if log.exists() else 'no file'}"
        time.sleep(0.1)


def check_refused(gate: Gate, name: str, at_plant: str, at_gateway: str) -> None:
    """A plant is refused, and its log, its supervisor, `client status`, preflight and the gateway all say why."""
    plant = home(gate, name)
    with running(plant) as log:
        wait_for(plant / "home/log/supernode.log", f"CP-803 ServerRefused: {at_plant}")
        wait_for(log, at_plant)
    assert at_plant in crossplant_here("client", "status", "--config", plant / "plant.toml").stdout
    checked = crossplant_here("preflight", "--config", plant / "plant.toml")
    assert checked.returncode == 1
    assert at_plant in checked.stdout
    assert at_gateway in gate.log


def test_a_plant_with_a_certificate_is_let_in(asking: Gate) -> None:
    plant = home(asking, "north")
    with running(plant):
        wait_for(plant / "home/log/supernode.log", "the coordinator behind it does not")
    assert "'north'" not in asking.log


def test_a_plant_without_a_certificate_is_refused_and_both_say_why(asking: Gate) -> None:
    path = home(asking, "bare") / "plant.toml"
    path.write_text("\n".join(one for one in path.read_text().splitlines() if not one.startswith("client_")))
    check_refused(
        asking, "bare", "the server asks for this plant's certificate", "refused a caller that shows no certificate"
    )


def test_a_plant_with_a_certificate_of_another_authority_is_refused_and_both_say_why(asking: Gate) -> None:
    plant = home(asking, "stranger")
    other = take_in(make(asking.fed.parent, NOW, "other"), "elsewhere", NOW)
    for name in ("client.crt", "client.key"):
        shutil.copy(other / name, plant / name)
    says = "the server does not know who issued this plant's certificate"
    check_refused(asking, "stranger", says, "refused a caller with a certificate in the name of 'elsewhere'")


def test_a_plant_with_an_expired_certificate_is_refused_and_both_say_why(asking: Gate) -> None:
    key = keys.load_private((home(asking, "late") / "client.key").read_bytes(), "late").public_key()
    with opened(asking.fed) as federation:
        old = certificates.issue_client(key, "late", "water", federation.authority, federation.key(), PAST)
    (home(asking, "late") / "client.crt").write_bytes(certificates.pem(old))
    check_refused(asking, "late", "this plant's certificate has lapsed", "in the name of 'late' (until ")
    assert "certificate has expired" in asking.log


def test_a_revoked_plant_is_refused_and_both_say_why(asking: Gate) -> None:
    check_refused(asking, "gone", "this plant's certificate is revoked", "in the name of 'gone' (until ")
    assert "certificate revoked" in asking.log


def test_a_server_with_an_expired_certificate_is_refused_by_the_plant(tmp_path: Path) -> None:
    fed = make(tmp_path, NOW)
    plant = take_in(fed, "north", NOW)
    write_site(plant / "data", site("north"))
    public = keys.load_private((fed / "server/server.key").read_bytes(), "server").public_key()
    with opened(fed) as federation:
        old = certificates.issue_server(public, HOSTS, "water", federation.authority, federation.key(), PAST)
    (fed / "server/server.crt").write_bytes(certificates.pem(old))
    with gate(fed, mutual=False) as served:
        dial(plant, served.port)
        check_refused(served, "north", "the server's certificate has lapsed", "")
