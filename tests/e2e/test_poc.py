"""`crossplant poc`: a whole federation of real processes with TLS and node keys, and what its gateway hides."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server.store.auditlog import Actor
from server.store.registry import OrderState, Registry
from server.store.rows import RunStatus
from server.store.store import RoundStore
from shared.bundle.whole import read_bundle
from shared.flower_process import environment, free_port, script
from tests.support.network import Network, network, running_below, story, undisturbed

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A federation of two plants that ran one training round and was left running."""
    tmp = tmp_path_factory.mktemp("net")
    with network(tmp, 2, 1, "--keep") as there:
        there.process.wait(250)
        assert there.process.returncode == 0, there.said()
        try:
            yield there
        finally:
            crossplant(tmp, "poc", "down", there.out)


def crossplant(tmp: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shared", *map(str, arguments)]
    return subprocess.run(command, cwd=tmp, capture_output=True, text=True, timeout=120, check=False)


def test_the_rounds_are_those_of_a_simulation_bit_by_bit(kept: Network, tmp_path: Path) -> None:
    assert story(kept.records()) == story(undisturbed(tmp_path, 2, 1))


def test_rounds_list_reads_its_store(kept: Network, tmp_path: Path) -> None:
    done = crossplant(tmp_path, "rounds", "list", "--store", kept.out, "--json")
    assert done.returncode == 0, done.stderr
    rounds = json.loads(done.stdout)["rounds"]
    assert len(rounds) == len(kept.records())


def ask(kept: Network, method: str, path: str) -> int:
    """The gateway's answer to one request, over TLS."""
    trust = ssl.create_default_context(cafile=str(kept.out / "federation" / "ca" / "ca.crt"))
    url = f"https://127.0.0.1:{json.loads((kept.out / 'poc.json').read_text())['port']}{path}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    request = urllib.request.Request(url, data=b"" if method == "POST" else None, method=method)
    try:
        with opener.open(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize("call", ["start-run", "register-node", "list-runs", "stop-run"])
def test_plants_cannot_reach_flowers_control(kept: Network, call: str) -> None:
    assert ask(kept, "POST", f"/v1/control/{call}") == 404


@pytest.mark.parametrize(
    "path", ["/v1/runtime/acquire-task", "/v1/fleet/../control/start-run", "/docs", "/openapi.json"]
)
def test_plants_cannot_reach_anything_else(kept: Network, path: str) -> None:
    assert ask(kept, "POST" if path.startswith("/v1") else "GET", path) == 404


def test_the_gateway_says_that_the_coordinator_is_there(kept: Network) -> None:
    assert ask(kept, "GET", "/health") == 200


def test_a_fleet_call_without_a_signature_is_refused(kept: Network) -> None:
    assert ask(kept, "POST", "/v1/fleet/pull-messages") in (400, 401, 415, 422)


def test_only_the_gateway_is_not_on_loopback_by_default(kept: Network) -> None:
    endpoint = json.loads((kept.out / "federation" / "run" / "endpoint.json").read_text())
    assert endpoint["address"].startswith("127.0.0.1:")
    assert (kept.out / "federation" / "run" / "executor.secret").stat().st_mode & 0o777 == 0o600


def test_a_key_that_nobody_approved_is_refused_and_says_so(kept: Network, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    form, plain = serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    (tmp_path / "node").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    port = json.loads((kept.out / "poc.json").read_text())["port"]
    command = [script("flower-supernode"), "--superlink", f"127.0.0.1:{port}", "--isolation", "process"]
    command += ["--port", str(free_port())]
    command += ["--root-certificates", str(kept.out / "federation" / "ca" / "ca.crt")]
    command += ["--auth-supernode-private-key", str(tmp_path / "node")]
    quiet = {**os.environ, **environment(tmp_path / "home")}
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "305" in done.stdout + done.stderr


def test_the_servers_bundle_is_not_written_at_a_plant(kept: Network) -> None:
    """Code that arrives from the server is not run there, and not even kept."""
    assert not list((kept.out / "plants").rglob("client/app.py"))


def test_an_order_brings_the_plants_to_the_chosen_model_in_one_round(kept: Network) -> None:
    """The run is over: the server takes it up for the order alone, and it stays finished."""
    with RoundStore.open(str(kept.out)) as store:
        run = store.newest_run()
        records = store.rounds(run)
        chosen = next(r for r in records if r.label.startswith("seed"))
        order = Registry(store).rollback(run, Actor("anna", "operator"), "false alarms since Monday", to=chosen.number)
        ends = time.monotonic() + 120
        while Registry(store).orders(run)[0].state is OrderState.OPEN or store.run(run).status is RunStatus.RUNNING:
            assert time.monotonic() < ends, kept.said()
            time.sleep(0.2)
        done = Registry(store).orders(run)[0]
        assert (done.state, done.round, store.run(run).status) == (
            OrderState.DONE,
            len(records) + 1,
            RunStatus.FINISHED,
        )
    found = [read_bundle(folder).provenance for folder in sorted((kept.out / "plants").rglob("*.bundle"))]
    assert [p.model for p in found] == [order.model, order.model]
    assert {p.round for p in found} == {len(records) + 1}


def test_down_ends_everything(tmp_path: Path, kept: Network) -> None:
    done = crossplant(tmp_path, "poc", "down", kept.out)
    assert done.returncode == 0, done.stderr
    assert "server" in done.stderr
    assert running_below(kept.out) == []
    again = crossplant(tmp_path, "poc", "down", kept.out)
    assert again.returncode == 1
    assert again.stderr.startswith("CP-104")


def test_up_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    done = crossplant(tmp_path, "poc", "up", "--out", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("CP-103")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
