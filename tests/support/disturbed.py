"""What happens to a federation under test: commands killed, disks filled, code that fails with a secret in its text."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from server.rounds import RoundRecord
from shared.errors import CrossplantError
from tests.support.federation import Federation
from tests.support.network import running_below

HOOK = """
import importlib.abc, importlib.util, os, pathlib, sys

SECRET = {secret!r}
TARGETS = {{"client.agent.service": "agent", "client.app": "relay"}}

def fail(who):
    if pathlib.Path({folder!r}, who).exists():
        raise RuntimeError("cannot open /plant/" + SECRET)

def spoil(module, who):
    if who == "relay":
        ask = module.ask
        module.ask = lambda *a, **k: (fail("relay"), ask(*a, **k))[1]
    else:
        answer = module.PlantAgent.answer
        module.PlantAgent.answer = lambda *a, **k: (fail("agent"), answer(*a, **k))[1]

class Finder(importlib.abc.MetaPathFinder):
    busy = False
    def find_spec(self, name, path=None, target=None):
        if name not in TARGETS or self.busy:
            return None
        self.busy = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.busy = False
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            spoil(module, TARGETS[name])
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""
"""A `sitecustomize` that makes agent or relay fail as long as a file of that name lies in a folder."""


def kill_command(there: Federation, *names: str) -> None:
    """kill -9 of commands that a test started, at the same moment; all else is left to them and to the kernel."""
    pids = there.children.pids()
    for name in names:
        os.kill(pids[name], signal.SIGKILL)
    there.children.end(*names)


def kill_all(there: Federation) -> None:
    """kill -9 of every process of a federation at once: what a power cut does."""
    everything = [*map(psutil.Process, there.commands()), *there.processes()]
    for process in everything:
        process.suspend()  # or the first to go would be missed by the next
    for process in everything:
        process.kill()
    there.children.end(*there.children.pids())
    psutil.wait_procs(everything, timeout=10)


def end_all(there: Federation) -> None:
    """End a federation as people do, and see that no process of it is left, whatever was killed before."""
    there.end(*there.children.pids())
    ends = time.monotonic() + 20
    while (left := running_below(there.out)) and time.monotonic() < ends:
        time.sleep(0.2)
    assert left == []


def serve_again(there: Federation) -> None:
    """`server run` in the place of one that was killed, which left its endpoint file."""
    there.serve()

    def answers() -> bool:
        with suppress(CrossplantError):
            there.online()
            return True
        return False

    there.wait(answers, 90, "a coordinator that answers")


def fork_of(there: Federation, plant: str, longest_s: float = 60.0) -> psutil.Process:
    """The process that answers a message for a plant: waits until there is one, and takes it at once."""
    executor, ends = there.find("relay", f"/{plant}/"), time.monotonic() + longest_s
    while not (forks := executor.children()):
        assert time.monotonic() < ends, f"no message for {plant} within {longest_s} s:\n{there.said()}"
        time.sleep(0.002)
    return forks[0]


def wait_counts(there: Federation, plant: str, longest_s: float) -> list[RoundRecord]:
    """Wait for a round from now on in which a plant counts; the rounds since then."""
    known = len(there.records())

    def counts() -> bool:
        return any(plant in record.accepted for record in there.records()[known:])

    there.wait(counts, longest_s, f"round with {plant}")
    return there.records()[known:]


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A disk of its own for a folder, which is made. Skips the test where this user may mount none."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may mount no disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write below a folder that `small_disk` made while the block runs, root neither."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fill the disk that a folder is on, to the last byte, while the block runs."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            _fill(file.fileno())
        yield
    finally:
        ballast.unlink()


def _fill(handle: int) -> None:
    for size in (2**20, 4096, 1):
        while True:
            try:
                os.write(handle, b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                break


def traces(secret: str, *folders: Path) -> list[Path]:
    """Files below folders that hold a text."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes():
                found.append(path)
    return found
