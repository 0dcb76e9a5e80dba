"""`crossplant console` is told to end while pages follow a run: it does, at once and with exit code 0."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.support.console_runs import Visitor, console, rich


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_console_ends_at_once_although_pages_follow_a_run(tmp_path: Path, sign: signal.Signals) -> None:
    folder = tmp_path / "store"
    rich(folder, 3)
    visitor = Visitor(console(folder)).log_in()
    command = [str(Path(sys.executable).with_name("crossplant")), "console", "--store", str(folder), "--port", "0"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    try:
        assert child.stdout is not None
        line = ""
        while "http://" not in line:
            line = child.stdout.readline()
            assert line, child.wait()
        address = line.split()[-1].rstrip("/")
        with (
            httpx.Client(cookies=visitor.cookies, timeout=20) as client,
            client.stream("GET", f"{address}/events/a") as open_,
        ):
            lines = open_.iter_lines()
            while not next(lines).startswith("event: changed"):
                pass
            began = time.monotonic()
            child.send_signal(sign)
            for _ in lines:  # ends as it should, not broken off
                pass
            assert child.wait(15) == 0
            assert time.monotonic() - began < 10
        assert "Traceback" not in child.stdout.read()
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
