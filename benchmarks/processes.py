"""Child processes that leave nothing behind: a session of their own, ended whole, in a neutral folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.threads import ENVIRONMENT

ROOT = Path(__file__).resolve().parent.parent
GRACE_S = 20.0  # for a benchmark, which ends its own children first


@contextmanager
def child(
    arguments: Sequence[str], folder: Path, extra: Mapping[str, str] | None = None, grace_s: float = GRACE_S / 4
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python ARGUMENTS` in `folder`, which holds no package named like ours; its output goes to `folder/log`.

    However the block is left, the process and every process that it started are gone afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder), **(extra or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end(process, grace_s)


def end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask, wait, then kill: the process, its descendants, and what is left of its session."""
    tree = _descendants(process)
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for member in tree:
        _quietly(member.kill)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def leave_on_term() -> None:
    """Let SIGTERM unwind this process, so that it ends its children too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
        return found
    except psutil.NoSuchProcess:
        return []


def _quietly(kill: Callable[[], None]) -> None:
    try:
        kill()
    except psutil.NoSuchProcess:
        return


def tail(folder: Path, lines: int = 12) -> str:
    """The end of what a child said."""
    return "\n".join((folder / "log").read_text(errors="replace").splitlines()[-lines:])
