"""What keeps `server run` and `client run` from starting: one clear error each, and nothing is started or left."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from server.run.place import Endpoint, ServerPlace
from shared.alone import alone
from shared.flower_process import free_port
from simulations.gather import gather
from simulations.poc_cli import _config
from simulations.poc_keys import provision
from tests.support.command import crossplant_here
from tests.support.network import SETTINGS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operator's folder and a plant's; nothing runs."""
    out = tmp_path_factory.mktemp("made")
    (out / "plants").mkdir()
    provision(out / "federation", out / "plants", gather(_config(2, 1, None, list(SETTINGS))).sites, free_port())
    return out


@pytest.fixture
def operator(made: Path) -> Path:
    return made / "federation"


@pytest.fixture
def plant(made: Path) -> Path:
    return made / "plants" / "plant-1"


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert psutil.Process().children() == []


def serve(operator: Path, *flags: str) -> str:
    """What `server run` says when it refuses."""
    done = crossplant_here("server", "run", "--federation", operator, "--host", "127.0.0.1", *flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def join(plant: Path) -> str:
    """What `client run` says when it refuses."""
    done = crossplant_here("client", "run", "--config", plant / "plant.toml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_the_port_is_taken(operator: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = serve(operator, "--port", str(port))
    assert said.startswith(f"CP-804 PortTaken: another process listens on 127.0.0.1:{port} already.")


def test_the_address_is_not_this_machines(operator: Path) -> None:
    done = crossplant_here("server", "run", "--federation", operator, "--host", "192.0.2.1", "--port", "0")
    assert done.stderr.startswith("CP-101 InvalidConfig: cannot listen on 192.0.2.1")


def test_a_second_server_run_on_the_same_folder(operator: Path) -> None:
    place = ServerPlace(operator)
    place.prepare()
    with alone(place.lock, "the federation"):
        said = serve(operator)
    assert said.startswith(f"CP-805 AlreadyRunning: process {os.getpid()} serves the federation already ({place.run}).")


def test_a_second_client_run_for_the_same_plant(plant: Path) -> None:
    home = plant / "home"
    home.mkdir(exist_ok=True)
    with alone(home / "run.lock", "plant plant-1"):
        said = join(plant)
    assert said.startswith(f"CP-805 AlreadyRunning: process {os.getpid()} serves plant plant-1 already ({home}).")


def test_every_user_may_read_the_servers_key(operator: Path) -> None:
    key = operator / "server" / "server.key"
    key.chmod(0o644)
    said = serve(operator)
    key.chmod(0o600)
    assert said.startswith(f"CP-106 FileTrouble: every user of this machine may read {key} (mode 644).")
    assert f"chmod 600 {key}" in said


def test_every_user_may_read_the_plants_key(plant: Path) -> None:
    (plant / "node").chmod(0o604)
    said = join(plant)
    (plant / "node").chmod(0o600)
    assert said.startswith(f"CP-106 FileTrouble: every user of this machine may read {plant / 'node'} (mode 604).")


@pytest.mark.parametrize("name", ["node", "ca.crt"])
def test_the_plants_key_or_certificate_is_gone(plant: Path, name: str) -> None:
    (plant / name).rename(plant / "away")
    said = join(plant)
    (plant / "away").rename(plant / name)
    assert said.startswith(f"CP-106 FileTrouble: {plant / name} is missing.")


def test_flowers_programs_are_not_installed(operator: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    said = serve(operator, "--port", "0")
    assert said.startswith(f"CP-105 MissingExtra: flower-superlink is not installed beside {tmp_path / 'python'}.")


def test_our_own_program_is_not_installed(plant: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    said = join(plant)
    assert said.startswith(f"CP-801 ProcessFailed: cannot start agent: {tmp_path / 'crossplant'}: No such file")


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be one", b"SQLite format 3\0" + b"\xff" * 4080]
)
def test_the_superlinks_database_is_none(operator: Path, content: bytes) -> None:
    database = operator / "run" / "superlink.sqlite"
    database.parent.mkdir(exist_ok=True)
    database.write_bytes(content)
    said = serve(operator, "--port", "0")
    database.unlink()
    assert said.startswith(f"CP-807 ServerStateDamaged: {database}: ")
    assert f"mv {database}* /elsewhere" in said


@pytest.mark.parametrize("command", ["start-run", "resume-run"])
def test_the_endpoint_was_left_by_a_server_that_was_killed(operator: Path, command: str, tmp_path: Path) -> None:
    place = ServerPlace(operator)
    place.prepare()
    place.write_endpoint(Endpoint("127.0.0.1:1", None, 2, os.getpid()))
    (tmp_path / "run.toml").write_text("")
    more = ("--settings", tmp_path / "run.toml") if command == "start-run" else ("--name", "trial")
    done = crossplant_here("server", command, "--federation", operator, *more)
    assert done.returncode == 1
    assert done.stderr.startswith(f"CP-806 NotRunning: no server runs for {operator}.")
    assert "crossplant server run" in done.stderr


def test_process_ids_were_left_by_a_poc_that_was_killed(tmp_path: Path) -> None:
    """The id of a process that runs, but with another start time: it is somebody else's by now."""
    (tmp_path / "pids.json").write_text(json.dumps({"server": [os.getppid(), "1"], "plant-1": [4194303, "1"]}))
    done = crossplant_here("poc", "down", tmp_path)
    assert (done.returncode, done.stderr) == (0, "Ended: nothing was running.\n")
