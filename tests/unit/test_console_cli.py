"""`crossplant console`: what it refuses to serve, and its accounts in the terminal."""

from __future__ import annotations

import json
import pwd
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from server.console.serve import Listening, names_of
from server.rounds_cli.options import me
from server.store.auditlog import entries
from server.store.store import RoundStore
from shared.errors import InvalidConfig
from tests.support.command import crossplant_here, start
from tests.support.stores import filled
from tests.support.tls import authority, issue

WORD = "a long enough sentence"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    filled(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def password(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text(f"{WORD}\nsecond line\n")
    return tmp_path / "password"


def console(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return crossplant_here("console", *arguments)


def test_accounts_are_made_listed_and_changed_and_the_log_names_the_user_of_the_terminal(
    store: Path, password: Path
) -> None:
    of = ("--store", store)
    for arguments in (
        ("account", "add", "ada", "--role", "admin", "--password-file", password),
        ("account", "role", "ada", "--role", "operator"),
        ("account", "password", "ada", "--password-file", password),
        ("account", "disable", "ada"),
        ("account", "enable", "ada"),
        ("token", "add", "board"),
    ):
        done = console(*arguments, *of)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert WORD not in done.stdout
    assert re.fullmatch(r"cpt_[\w-]{43}\n", done.stdout)
    listed = json.loads(console("account", "list", "--json", *of).stdout)
    assert [(one["name"], one["role"], one["kind"], one["disabled"]) for one in listed] == [
        ("ada", "operator", "password", False),
        ("board", "viewer", "token", False),
    ]
    assert console("--store", store, "account", "list").stdout.startswith("ada  ")
    with RoundStore.open(str(store)).session() as session:
        log = entries(session)
    assert {entry.who for entry in log} == {me().name}
    assert [entry.action for entry in reversed(log)] == [
        "add account", "change role", "change password", "disable account", "enable account", "add account",
    ]  # fmt: skip
    assert {entry.role for entry in log} == {"shell"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("account", "add", "../x", "--role", "admin"), "CP-101"),
        (("account", "add", "guest", "--role", "admin"), "CP-101"),
        (("account", "role", "nobody", "--role", "admin"), "CP-102"),
        (("account", "password", "nobody", "--password-file", "/no/such"), "CP-106"),
        (("token", "add", "a b"), "CP-101"),
        (("--port", "0", "--tls-cert", "x"), "CP-101"),
        (("--port", "0", "--config", "/no/such"), "CP-106"),
        (("--port", "0", "--metrics-token-file", "/no/such"), "CP-106"),
        (("--host", "no such host", "--tls-cert", "/no/x", "--tls-key", "/no/y"), "CP-106"),
        (("--port", "0", "--federation", "/no/such"), "CP-106"),
        (("--host", "0.0.0.0"), "CP-101"),
        (("--host", "192.0.2.7", "--behind-proxy", "10.0.0.1"), "CP-804"),
        (("--behind-proxy", "proxy"), "CP-101"),
        (("--behind-proxy", "0.0.0.0/0"), "CP-101"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_what_cannot_be_done_is_one_line_with_its_code(arguments: tuple[str, ...], code: str, store: Path) -> None:
    done = console(*arguments, "--store", store)
    assert done.returncode == 1, done.stdout
    assert done.stderr.splitlines()[-1].startswith(f"{code} ")
    assert "Traceback" not in done.stderr


def test_a_store_that_is_not_there_is_told_and_none_is_made(tmp_path: Path) -> None:
    for arguments in (("--port", "0"), ("account", "list"), ("token", "add", "x")):
        done = console(*arguments, "--store", tmp_path / "none")
        assert (done.returncode, done.stderr[:6]) == (1, "CP-401")
    assert not (tmp_path / "none").exists()
    assert console("--port", "0").returncode == 2


def test_a_user_without_a_name_keeps_accounts_too(store: Path, password: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the user may have a number only."""

    def unknown(number: int) -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    done = console("account", "add", "ada", "--role", "admin", "--password-file", password, "--store", store)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_weak_password_makes_no_account(store: Path, tmp_path: Path) -> None:
    (tmp_path / "weak").write_text("password\n")
    done = console("account", "add", "ada", "--role", "admin", "--password-file", tmp_path / "weak", "--store", store)
    assert done.stderr.startswith("CP-101 ")
    assert json.loads(console("account", "list", "--json", "--store", store).stdout) == []


def test_a_password_is_read_from_stdin_and_never_an_argument(store: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "shared",
        "console",
        "account",
        "add",
        "ada",
        "--role",
        "viewer",
        "--store",
        str(store),
    ]
    done = subprocess.run(command, input=f"{WORD}\n", capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ada may log in, as viewer.\n")
    assert console("account", "add", "eve", WORD, "--role", "viewer", "--store", store).returncode == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_no_tls(host: str) -> None:
    assert not Listening(host, 0).checked().secure


def test_the_names_of_a_certificate_are_those_it_may_be_asked_for_by(tmp_path: Path) -> None:
    cert, key = map(Path, issue(authority(tmp_path / "ca"), "console"))
    assert names_of(cert) == ["localhost", "127.0.0.1"]
    listening = Listening("192.0.2.7", 0, cert, key, names=("Other.example",)).checked()
    assert listening.hosts() == {"localhost", "127.0.0.1", "[::1]", "192.0.2.7", "other.example"}
    with pytest.raises(InvalidConfig, match="no certificate with its key"):
        Listening("0.0.0.0", 0, key, cert).checked()


# ---- as a process ----


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A console that serves, and what it said."""
    process = start("console", "--port", "0", *arguments)
    assert process.stderr is not None
    said = [process.stderr.readline()]
    try:
        yield process, said
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_a_new_user_is_told_where_it_is_and_may_look_around_at_once(store: Path) -> None:
    with serving("--store", store) as (process, said):
        assert process.stderr is not None
        said += [process.stderr.readline() for _ in range(3)]
        assert said[1] == (
            f"There is no account yet. Make one: crossplant console account add NAME --role admin --store {store}\n"
        )
        with httpx.Client(follow_redirects=True) as client:
            page = client.get(said[3].strip())
            assert (page.status_code, page.url.path) == (200, "/")
            assert client.get(page.url.join("/api/v1/me")).json()["name"] == "guest"
            order = client.post(page.url.join("/api/v1/runs/a/orders"), json={"action": "follow", "why": "x"})
            assert order.status_code == 403
        port = page.url.port
        taken = console("--port", str(port), "--store", store)
        assert (taken.returncode, taken.stderr[:6]) == (1, "CP-804")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def test_it_serves_tls_and_ends_at_ctrl_c(store: Path, tmp_path: Path, password: Path) -> None:
    cert, key = issue(authority(tmp_path / "ca"), "console")
    console("account", "add", "ada", "--role", "admin", "--password-file", password, "--store", store)
    with serving("--store", store, "--tls-cert", cert, "--tls-key", key) as (process, said):
        url = said[0].rsplit(" ", 1)[1].strip()
        assert url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(tmp_path / "ca" / "ca.pem"))
        with httpx.Client(verify=trust, base_url=url) as client:
            answer = client.post("/login", data={"name": "ada", "password": WORD})
            assert answer.status_code == 303
            assert answer.headers["set-cookie"].startswith("__Host-")
            assert client.get("/api/v1/me").json()["role"] == "admin"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")


def test_a_proxy_that_ends_tls_is_believed_and_nobody_else(store: Path) -> None:
    with serving("--store", store, "--behind-proxy", "127.0.0.1", "--allow-host", "console.example.org") as (_, said):
        url = said[0].rsplit(" ", 1)[1].strip()
        told = {"Host": "console.example.org", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
        assert httpx.get(f"{url}login", headers=told).status_code == 200
        assert httpx.get(f"{url}login", headers=told | {"X-Forwarded-Proto": "http"}).status_code == 403
        assert httpx.get(f"{url}login", headers=told | {"Host": "other.example.org"}).status_code == 421
        assert httpx.get(f"{url}metrics").status_code == 401, "whoever is behind the proxy seems to be this machine"
    with serving("--store", store) as (_, said):
        url = said[0].rsplit(" ", 1)[1].strip()
        spoofed = httpx.get(f"{url}metrics", headers={"X-Forwarded-For": "203.0.113.9"})
        assert spoofed.status_code == 200, "without a proxy the header is not read"
