"""`crossplant preflight`: what it finds at a plant and at the operator, and that it always comes to its end."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.preflight import checks as plant_checks
from client.run.note import write_note
from client.run.supernode import NOTE
from server.provision.change import revoke
from server.provision.federation import opened
from shared.preflight.machine import versions
from shared.preflight.network import NAMES, Peer, judge_clock, reach
from shared.preflight.verdict import Verdict
from tests.conftest import site
from tests.support.command import crossplant_here
from tests.support.pki import (
    DAY,
    NOW,
    digests,
    failed,
    healthy_answer,
    make,
    nobody,
    said,
    served,
    server_side,
    take_in,
)
from tests.support.preflight import point_at, ready_plant, verdicts_at


def at_plant(home: Path, server: ssl.SSLContext | None, answer: Callable[[], bytes] | None = None) -> list[Verdict]:
    """A plant's verdicts while a server answers."""
    with served(server, answer or healthy_answer()) as seen:
        point_at(home, seen.port)
        return verdicts_at(home)


# ---- a plant ----


def test_a_plant_that_is_well_is_ready(fed: Path, north: Path) -> None:
    before = digests(north)
    verdicts = at_plant(north, server_side(fed))
    assert [one for one in verdicts if one.status != "ok"] == []
    assert {one.name for one in verdicts} == {
        *("settings", "policy", "version", "key file", "node key", "authority", "certificate"),
        *NAMES,
        *("disk", "socket", "data", "schema"),
    }
    point_at(north, 9443)
    assert digests(north).keys() == before.keys()


def test_a_server_that_is_not_there_is_one_failure_within_seconds(north: Path) -> None:
    point_at(north, nobody())
    started = time.monotonic()
    verdicts = verdicts_at(north)
    assert time.monotonic() - started < 5
    assert failed(verdicts) == ["route"]
    assert "refused" in said(verdicts, "route")
    assert "firewall" in said(verdicts, "route")
    assert [one.status for one in verdicts if one.name in ("tls", "server", "clock")] == ["skip"] * 3
    assert "can be read" in said(verdicts, "data", "ok")


def test_a_server_that_says_nothing_is_one_failure_within_seconds(fed: Path, north: Path) -> None:
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    plain.load_cert_chain(fed / "server/server.crt", fed / "server/server.key")
    with served(plain) as seen:
        started = time.monotonic()
        found = reach(Peer("localhost", seen.port, north / "ca.crt"), patience_s=0.3)
        assert time.monotonic() - started < 3
    assert failed(found) == ["server"]
    assert "does not answer" in said(found, "server")


def test_a_port_that_takes_connections_and_no_more_is_one_failure(north: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = reach(Peer("localhost", listening.getsockname()[1], north / "ca.crt"), patience_s=0.3)
    assert len(failed(found)) == 1


def test_a_name_look_up_that_hangs_is_given_up(north: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        over.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    found = reach(Peer("fl.example.org", 9443, north / "ca.crt"), patience_s=0.2)
    over.set()
    assert time.monotonic() - started < 10
    assert failed(found) == ["name"]
    assert "took longer than 0.2 s" in said(found, "name")


def test_a_name_without_an_address_says_so(north: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = reach(Peer("no.such.host.invalid", 9443, north / "ca.crt"))
    assert failed(found) == ["name"]
    assert "has no address: Name or service not known" in said(found, "name")


def test_a_server_of_another_authority_says_so(tmp_path: Path, north: Path) -> None:
    verdicts = at_plant(north, server_side(make(tmp_path, NOW, "other")))
    assert failed(verdicts) == ["tls"]
    assert "of another authority" in said(verdicts, "tls")
    assert "kit" in said(verdicts, "tls")


def test_a_server_with_a_lapsed_certificate_says_so(tmp_path: Path) -> None:
    fed = make(tmp_path, NOW - 400 * DAY)
    verdicts = at_plant(ready_plant(fed, NOW - 400 * DAY), server_side(fed))
    assert set(failed(verdicts)) == {"certificate", "tls"}
    assert "the server's certificate has lapsed" in said(verdicts, "tls")
    assert "client.crt lapsed on" in said(verdicts, "certificate")
    assert "Ask the operator for a new kit" in said(verdicts, "certificate", "fail")


def test_a_server_under_another_name_says_so(fed: Path, north: Path) -> None:
    with served(server_side(fed), healthy_answer()) as seen:
        found = reach(Peer("127.0.0.1", seen.port, north / "ca.crt", name="elsewhere.org"))
    assert failed(found) == ["tls"]
    assert "for another name" in said(found, "tls")


def test_a_revoked_plant_is_told_so(fed: Path, north: Path) -> None:
    with opened(fed) as federation:
        revoke(federation, "north", NOW)
    verdicts = at_plant(north, server_side(fed))
    assert failed(verdicts) == ["server"]
    assert "this plant's certificate is revoked" in said(verdicts, "server")


def test_a_plant_that_shows_no_certificate_is_told_so(fed: Path, north: Path) -> None:
    path = north / "plant.toml"
    path.write_text("\n".join(one for one in path.read_text().splitlines() if not one.startswith("client_")))
    verdicts = at_plant(north, server_side(fed))
    assert failed(verdicts) == ["server"]
    assert "asks for this plant's certificate" in said(verdicts, "server")
    assert "client_certificate" in said(verdicts, "certificate", "skip")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (healthy_answer(status="404 Not Found"), "answered by 404"),
        (healthy_answer(status="503 Busy"), "the coordinator behind it does not"),
        (lambda: b"SSH-2.0-OpenSSH_9.6\r\n", "is no HTTP"),
        (lambda: b"", "hung up"),
        (lambda: b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n", "is no HTTP"),
    ],
)
def test_an_answer_that_is_not_the_coordinators_says_so(
    fed: Path, north: Path, answer: Callable[[], bytes], says: str
) -> None:
    verdicts = at_plant(north, server_side(fed), answer)
    assert failed(verdicts) == ["server"]
    assert says in said(verdicts, "server")


def test_a_server_without_tls_says_so(north: Path) -> None:
    verdicts = at_plant(north, None)
    assert failed(verdicts) == ["tls"]
    assert "Is there a TLS server" in said(verdicts, "tls")


@pytest.mark.parametrize(
    ("ahead_s", "status", "words"),
    [(0, "ok", "agrees"), (-3.5, "warn", "ahead of"), (3.5, "warn", "behind"), (-20, "fail", "20 s ahead of"),
     (250, "warn", "behind"), (400, "fail", "400 s behind"), (-1e6, "fail", "ahead of")],
)  # fmt: skip
def test_the_clock_is_compared_with_the_servers(
    fed: Path, north: Path, ahead_s: float, status: str, words: str
) -> None:
    """The server is so many seconds ahead; Flower takes 5 s ahead and 300 s behind."""
    verdicts = at_plant(north, server_side(fed), healthy_answer(ahead_s))
    (clock,) = (one for one in verdicts if one.name == "clock")
    assert clock.status == status
    assert words in clock.says


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT", "1" * 400, "Thu, 01 Jan 99999999"]
)
def test_a_server_that_tells_no_time_is_no_failure(date: str | None) -> None:
    assert judge_clock(date, time.time()).status == "skip"


def test_a_clock_before_the_certificates_says_so(north: Path) -> None:
    point_at(north, nobody())
    verdicts = list(plant_checks(north / "plant.toml", now=NOW - 2 * DAY))
    assert "this machine's clock says" in said(verdicts, "certificate", "fail")
    assert "this machine's clock says" in said(verdicts, "authority", "fail")


def test_a_certificate_that_lapses_soon_is_a_warning(north: Path) -> None:
    point_at(north, nobody())
    verdicts = list(plant_checks(north / "plant.toml", now=NOW + 340 * DAY))
    assert failed(verdicts) == ["route"]
    assert "lapses in 25 days" in said(verdicts, "certificate", "warn")


def test_loose_rights_and_swapped_keys_say_so(fed: Path, north: Path) -> None:
    south = take_in(fed, "south", NOW)
    point_at(north, nobody())
    (north / "node").chmod(0o644)
    (north / "client.key").write_bytes((south / "client.key").read_bytes())
    (north / "node.pub").write_bytes((south / "node.pub").read_bytes())
    verdicts = verdicts_at(north)
    assert "chmod 600" in said(verdicts, "key file", "fail")
    assert "is not for the key" in said(verdicts, "certificate", "fail")
    assert "is not the public half" in said(verdicts, "node key", "fail")


def test_the_schema_is_compared_with_the_federations(fed: Path, north: Path) -> None:
    point_at(north, nobody())
    mine = site("north").schema.fingerprint
    card = json.loads((north / "kit.json").read_text())
    for expected, status in ((mine, "ok"), ("0" * 16, "fail")):
        (north / "kit.json").write_text(json.dumps(card | {"tags": expected}))
        (schema,) = (one for one in plant_checks(north / "plant.toml") if one.name == "schema")
        assert (schema.status, mine in schema.says, expected in schema.says or status == "ok") == (status, True, True)


def test_another_version_than_the_operators_says_so(north: Path) -> None:
    point_at(north, nobody())
    card = json.loads((north / "kit.json").read_text())
    (north / "kit.json").write_text(json.dumps(card | {"crossplant": "9.9.9", "flower": "1.41.99"}))
    verdicts = verdicts_at(north)
    assert "9.9.9 at the operator" in said(verdicts, "version", "fail")
    assert "1.41.99 at the operator" in said(verdicts, "version", "warn")
    assert failed([*versions({"crossplant": "0", "flwr": "1.42.0"})]) == ["version", "version"]


def test_quick_recognises_without_reading(north: Path, tmp_path: Path) -> None:
    point_at(north, nobody())
    path = north / "plant.toml"
    path.write_text(path.read_text().replace('path = "data"', f'path = "{tmp_path}"\ndataset = "swat"'))
    verdicts = list(plant_checks(path, quick=True))
    assert "is not recognised as swat" in said(verdicts, "data", "fail")
    assert [one.status for one in verdicts if one.name == "schema"] == ["skip"]


def test_a_plant_that_was_refused_when_it_last_dialled_is_told(north: Path) -> None:
    point_at(north, nobody())
    assert not [one for one in plant_checks(north / "plant.toml", quick=True) if one.name == "coordinator"]
    (north / "home").mkdir(exist_ok=True)
    write_note(north / "home" / NOTE, "refused", "the coordinator does not take this plant's key.")
    verdicts = list(plant_checks(north / "plant.toml", quick=True))
    assert "does not take this plant's key" in said(verdicts, "coordinator", "warn")


def test_data_that_is_missing_or_damaged_says_so(north: Path) -> None:
    point_at(north, nobody())
    (north / "data/train.npy").write_bytes(b"rubbish")
    assert "train.npy" in said(plant_checks(north / "plant.toml"), "data", "fail")
    path = north / "plant.toml"
    path.write_text(path.read_text().replace('path = "data"', 'path = "nowhere"'))
    assert "data.path: there is no " in said(plant_checks(path), "data", "fail")
    path.write_text(path.read_text().replace('path = "nowhere"', 'path = "."'))
    assert "plant.toml names no data.dataset" in said(plant_checks(path), "data", "fail")


PLANT_FILES = [
    "plant.toml",
    "policy.toml",
    "ca.crt",
    "client.crt",
    "client.key",
    "node",
    "node.pub",
    "kit.json",
    "data/site.json",
]


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(PLANT_FILES), data=st.binary(max_size=300), keep=st.integers(0, 2000))
def test_no_damage_at_the_plant_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes, keep: int
) -> None:
    home = _plant(tmp_path_factory)
    path = home / name
    before = path.read_bytes()
    path.write_bytes(before[:keep] + data + before[keep + len(data) :])
    try:
        verdicts = verdicts_at(home)
    finally:
        path.write_bytes(before)
    assert not [one for one in verdicts if "Please report" in one.mend], verdicts
    assert "route" in failed(verdicts) or "settings" in failed(verdicts) or name in ("ca.crt", "plant.toml")


_made: list[Path] = []


def _plant(factory: pytest.TempPathFactory) -> Path:
    if not _made:
        home = ready_plant(make(factory.mktemp("fuzz"), NOW))
        point_at(home, nobody())
        _made.append(home)
    return _made[0]


# ---- the command ----


def test_the_command_exits_0_or_1_and_speaks_json(fed: Path, north: Path) -> None:
    with served(server_side(fed), healthy_answer()) as seen:
        point_at(north, seen.port)
        good = crossplant_here("preflight", "--config", north / "plant.toml")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.splitlines()[-1] == "Ready."
    bad = crossplant_here("preflight", "--config", north / "plant.toml", "--json")
    assert (bad.returncode, bad.stderr) == (1, "")
    report = json.loads(bad.stdout)
    assert (set(report), report["format"], report["ready"]) == ({"format", "ready", "checks"}, 1, False)
    assert all(set(one) == {"name", "status", "says", "mend"} for one in report["checks"])
    text = crossplant_here("preflight", "--config", north / "plant.toml").stdout
    assert "FAIL  route:" in text
    assert "      mend: " in text
    assert text.splitlines()[-1].endswith("checks failed.")
    assert crossplant_here("preflight", "--federation", fed, "--quick").returncode == 0
    assert crossplant_here("preflight", "--federation", fed / "nowhere").returncode == 1
    assert crossplant_here("preflight").returncode == 2


def test_a_plants_preflight_loads_neither_torch_nor_flower(north: Path) -> None:
    """Its own start must not cost the seconds that they take, and an edge box has no torch."""
    import sys

    point_at(north, nobody())
    program = (
        "import sys\n"
        "for name in ('torch', 'opacus', 'sqlalchemy', 'sklearn', 'flwr'): sys.modules[name] = None\n"
        "from shared.cli import run\n"
        f"sys.exit(run(['preflight', '--config', {str(north / 'plant.toml')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert "1 of " in done.stdout.splitlines()[-1], done.stdout
