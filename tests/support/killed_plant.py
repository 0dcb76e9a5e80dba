"""A plant's agent that is killed with -9 while it answers private requests, and asked again by who waits for it.

    python -m tests.support.killed_plant FOLDER

Fifty requests with twenty kills at random moments (`FOLDER/random`), and one request killed at each of `POINTS`.
Prints JSON. What is killed are forks of this process, so that a new agent takes no seconds of imports; torch must have
one thread (`OMP_NUM_THREADS=1`), or a fork may wait for others that it does not have.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import opacus.accountants  # noqa: F401  # the plant does with its first charge; here once for all forks

from client.agent import private
from client.agent.service import PlantAgent
from shared.privacy import ledger
from shared.wire.frame import encode_frame
from shared.wire.inventory import Kind
from tests.support import guards
from tests.support.claims import DIM, UNIT

REQUESTS, KILLS = 50, 20


def agent(folder: Path) -> PlantAgent:
    """The plant, on what the one before it left."""
    pieces = np.random.default_rng(0).normal(size=(40, UNIT, DIM))
    return guards.agent(guards.of(*pieces), folder)


def answer(found: PlantAgent, number: int) -> bytes:
    """The bytes that leave; every tenth request is for the clusters too."""
    asked = guards.request(Kind.TRAIN, number, guards.recipe(), alpha=0.5, both=number % 10 == 9)
    return encode_frame(found.answer(asked))


class Life:
    """One process of the plant."""

    def __init__(self, folder: Path, prepare: Callable[[], object] = lambda: None) -> None:
        asked, self._ask = os.pipe()
        self._answered, said = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._ask)
            os.close(self._answered)
            _serve(folder, asked, said, prepare)
        os.close(asked)
        os.close(said)

    def ask(self, number: int) -> None:
        os.write(self._ask, b"%d\n" % number)

    def answered(self, wait_s: float) -> bytes | None:
        """Its answer; None when the time is over or the plant is dead."""
        ends, found = time.monotonic() + wait_s, b""
        while select.select([self._answered], [], [], max(0.0, ends - time.monotonic()))[0]:
            part = os.read(self._answered, 1 << 20)
            found += part
            if not part or found.endswith(b"END\n"):
                return found or None
        return None

    def end(self) -> int:
        """Kill -9; how it ended."""
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._ask)
        os.close(self._answered)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _serve(folder: Path, asked: int, said: int, prepare: Callable[[], object]) -> None:
    try:
        prepare()
        found = agent(folder)
        with os.fdopen(asked) as numbers, os.fdopen(said, "wb") as out:
            for line in numbers:
                out.write(answer(found, int(line)).hex().encode() + b"END\n")
                out.flush()
    finally:
        os._exit(3)


# ---- at random -------------------------------------------------------------------------------------------------------


def disturbed(folder: Path) -> dict[str, Any]:
    """All requests in order, each until it is answered; in some the plant is killed at a random moment."""
    rng = random.Random(7)
    struck, life, kills, took_s = set(rng.sample(range(1, REQUESTS), KILLS)), Life(folder), 0, 0.05
    for number in range(REQUESTS):
        life.ask(number)
        begun = time.monotonic()
        if number in struck:
            life.answered(rng.uniform(0.0, 1.3 * took_s))
            kills += life.end() == -signal.SIGKILL
            life = Life(folder)
            life.ask(number)
            assert life.answered(60.0) is not None
            continue
        assert life.answered(60.0) is not None
        took_s = 0.7 * took_s + 0.3 * (time.monotonic() - begun)
    life.end()
    return {"kills": kills}


# ---- at a point ------------------------------------------------------------------------------------------------------


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _half_a_line() -> None:
    exact = os.write

    def torn(number: int, data: bytes) -> int:
        if b'"previous"' not in data:
            return exact(number, data)
        exact(number, data[: len(data) // 2])
        _die()
        return 0

    setattr(os, "write", torn)  # noqa: B010


def _unsynced_line() -> None:
    exact = os.write

    def written(number: int, data: bytes) -> int:
        if b'"previous"' in data:
            setattr(os, "fsync", _die)  # noqa: B010
        return exact(number, data)

    setattr(os, "write", written)  # noqa: B010


POINTS: dict[str, Callable[[], object]] = {
    "before the line is written": lambda: setattr(ledger.PrivacyLedger, "_append", _die),
    "half a line is written": _half_a_line,
    "before the line is synced": _unsynced_line,
    "before the ledger is sealed": lambda: setattr(ledger.PrivacyLedger, "_seal", _die),
    "after the charge, before the computation": lambda: setattr(private, "private_exchange", _die),
    "after the computation, before the answer": lambda: setattr(PlantAgent, "_marked", _die),
}


def struck(folder: Path, point: str) -> dict[str, bool]:
    """One request: the plant dies at the point, is asked again, and once more after another kill."""
    first = Life(folder, POINTS[point])
    first.ask(1)
    lost, code = first.answered(60.0), first.end()
    answers = []
    for _ in range(2):
        life = Life(folder)
        life.ask(1)
        answers.append(life.answered(60.0))
        life.end()
    same = answers[0] is not None and answers[0] == answers[1]
    return {"died": lost is None and code == -signal.SIGKILL, "same": same}


if __name__ == "__main__":
    where = Path(sys.argv[1])
    told = {point: struck(where / point, point) for point in POINTS}
    print(json.dumps({**told, "random": disturbed(where / "random")}))
