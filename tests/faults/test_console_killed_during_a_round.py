"""The console is killed and started again while a run commits its rounds: neither the run notices, nor who looks."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from server.store.auditlog import verify
from server.store.store import RoundStore
from tests.support.command import crossplant_here, start
from tests.support.stores import filled

ROUNDS = 60
RUN = f"""
import sys, time
from server.store.store import RoundStore
from tests.support.stores import record, state
store = RoundStore.open(sys.argv[1])
longest = 0.0
with store.lock():
    for number in range(3, {ROUNDS} + 1):
        after = state("a", number)
        began = time.monotonic()
        store.commit(record(after), after)
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.1)
print(longest)
"""


def begin(store: Path) -> tuple[subprocess.Popen[str], str]:
    """A console; its process and its address."""
    process = start("console", "--store", store, "--port", "0")
    assert process.stderr is not None
    return process, process.stderr.readline().rsplit(" ", 1)[1].strip().rstrip("/")


def newest(client: httpx.Client, url: str) -> int:
    answer = client.get(f"{url}/api/v1/runs/a/rounds?limit=500")
    assert answer.status_code == 200, answer.text
    numbers = [row["number"] for row in answer.json()["items"]]
    assert numbers == list(range(numbers[0], 0, -1)), "a round that was half written would be missing here"
    return int(numbers[0])


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=20)


def test_console_killed_during_a_round(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    filled(folder, rounds=2)
    (tmp_path / "password").write_text("a long enough sentence\n")
    made = ("account", "add", "ada", "--role", "operator", "--password-file", tmp_path / "password")
    assert crossplant_here("console", *made, "--store", folder).returncode == 0
    console, url = begin(folder)
    run = subprocess.Popen([sys.executable, "-c", RUN, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        with httpx.Client() as client:
            form = {"name": "ada", "password": "a long enough sentence"}
            assert client.post(f"{url}/login", data=form).status_code == 303, "it writes its session beside the run"
            seen = [newest(client, url)]
            kill(console)
            assert run.poll() is None, "the run goes on"
            console, url = begin(folder)
            while run.poll() is None:
                seen.append(newest(client, url))
                time.sleep(0.05)
            seen.append(newest(client, url))
            token = client.get(f"{url}/api/v1/me").json()["csrf"]
            order = {"action": "promote", "number": ROUNDS, "why": "the last one"}
            answer = client.post(f"{url}/api/v1/runs/a/orders", json=order, headers={"X-CSRF-Token": token})
            assert answer.status_code == 201, answer.text
        out, _ = run.communicate(timeout=20)
        assert run.returncode == 0
        assert float(out) < 5.0, "no commit waited for the console"
        assert seen == sorted(seen)
        assert seen[-1] == ROUNDS
    finally:
        for process in (console, run):
            kill(process)
    with RoundStore.open(str(folder)).session() as session:
        assert verify(session).broken is None


@pytest.mark.parametrize("flags", [(), ("--read-only",)], ids=["writes its tables", "read-only"])
def test_console_is_told_to_end_while_pages_are_live(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """A page that listens for events holds its line for ever; the console does not wait for it."""
    filled(tmp_path / "store")
    process = start("console", "--store", tmp_path / "store", "--port", "0", *flags)
    assert process.stderr is not None
    try:
        said = [process.stderr.readline() for _ in range(4)]
        with httpx.Client(follow_redirects=True, timeout=10) as client:
            page = client.get(said[3].strip())
            with client.stream("GET", page.url.join("/events/a")) as events:
                assert events.status_code == 200
                process.terminate()
                began = time.monotonic()
                process.wait(timeout=20)
                assert time.monotonic() - began < 6
        assert (process.returncode, process.stderr.read()) == (0, "")
    finally:
        kill(process)
