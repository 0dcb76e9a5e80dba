"""kill -9 before every single system call of a piece of work, by ptrace: a process of its own, started by a test.

python -m tests.support.killed_anywhere FOLDER      prints one JSON object a stop: {"stop", "said", "ended"}
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

TRACE_ME, SYSCALL = 0, 24
UNTRACED = 77
_libc = ctypes.CDLL(None, use_errno=True)


def killed_at(stop: int, work: Callable[[Callable[[], None]], None]) -> tuple[int, bool]:
    """Fork, run `work`, and kill it at its system call stop number `stop` (enter and leave are two).

    Args:
        stop: from 0.
        work: gets what it calls after each part that it has done for good.

    Returns:
        how many parts it had said to be done, and whether it came to its end first.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be_traced(work, writer)
    os.close(writer)
    os.waitpid(child, 0)
    ended = False
    for _ in range(stop):
        _libc.ptrace(SYSCALL, child, None, None)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            ended = True
            assert os.WIFEXITED(status), status
            assert os.WEXITSTATUS(status) == 0, status
            break
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    said = len(os.read(reader, 1000))
    os.close(reader)
    return said, ended


def _be_traced(work: Callable[[Callable[[], None]], None], writer: int) -> None:
    try:
        if _libc.ptrace(TRACE_ME, 0, None, None) != 0:
            os._exit(UNTRACED)
        os.kill(os.getpid(), signal.SIGSTOP)
        work(lambda: _say(writer))
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _say(writer: int) -> None:
    os.write(writer, b".")


def main(folder: Path) -> None:
    from shared.privacy.accounting import Event
    from shared.privacy.ledger import PrivacyLedger, Release

    def work(home: Path, done: Callable[[], None]) -> None:
        opened = PrivacyLedger(home)
        for number in range(3):
            event = Event(20.0 - 5 * number, 1.0, 1)
            opened.charge(Release("run", number, "weights", f"{number}", event, 1e-5, "segment", ""), 9.0)
            done()

    work(folder / "warm" / "north", lambda: None)  # so that no import stands among the system calls
    stop, ended = 0, False
    while not ended:
        home = folder / f"{stop}" / "north"
        said, ended = killed_at(stop, lambda done, home=home: work(home, done))  # type: ignore[misc]
        sys.stdout.write(json.dumps({"stop": stop, "said": said, "ended": ended}) + "\n")
        stop += 2  # the entry of the next call: between two calls it makes no difference when


if __name__ == "__main__":
    main(Path(sys.argv[1]))
