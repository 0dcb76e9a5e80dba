"""Fault: Ctrl-C comes while SQLAlchemy closes a connection. The transaction ends, then the interrupt is raised."""

from __future__ import annotations

import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.rounds import RunState
from server.store import database
from server.store.interrupts import InterruptsHeld
from server.store.store import RoundStore
from shared.errors import StoreError
from tests.support.command import crossplant_here, simulate_here
from tests.support.stores import filled, record, state


class Pressed:
    """When Ctrl-C is pressed: how many connections are closed before, and how often then."""

    def __init__(self) -> None:
        self.before, self.times, self.closed = 0, 0, 0


@pytest.fixture
def pressed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pressed]:
    plan = Pressed()

    class Interrupted(sqlite3.Connection):
        def close(self) -> None:
            plan.before -= 1
            for _ in range(plan.times if plan.before < 0 else 0):
                plan.times -= 1
                signal.raise_signal(signal.SIGINT)
            super().close()
            plan.closed += 1

    opened = database._opened
    monkeypatch.setattr(database, "_opened", lambda file, mode: opened(file, mode, Interrupted))
    yield plan
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _next(store: RoundStore) -> RunState:
    return state("a", len(store.rounds("a")) + 1)


def test_the_round_is_kept_and_the_interrupt_is_raised_once_and_not_logged(
    tmp_path: Path, pressed: Pressed, caplog: pytest.LogCaptureFixture
) -> None:
    store = filled(tmp_path)
    after = _next(store)
    pressed.before, pressed.times, pressed.closed = 1, 1, 0  # the connection that wrote, not the one that looked
    with pytest.raises(KeyboardInterrupt):
        store.commit(record(after), after)
    assert pressed.closed == 2
    assert caplog.records == []
    assert store.rounds("a")[-1].number == after.finished


def test_a_second_press_does_not_wait_and_is_not_logged_either(
    tmp_path: Path, pressed: Pressed, caplog: pytest.LogCaptureFixture
) -> None:
    store = filled(tmp_path)
    pressed.before, pressed.times, pressed.closed = 0, 2, 0
    with pytest.raises(KeyboardInterrupt):
        store.rounds("a")
    assert pressed.closed == 0
    assert caplog.records == []


def test_a_failure_to_close_is_still_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = filled(tmp_path)

    class Broken(sqlite3.Connection):
        def close(self) -> None:
            super().close()
            raise sqlite3.OperationalError("disk I/O error")

    opened = database._opened
    monkeypatch.setattr(database, "_opened", lambda file, mode: opened(file, mode, Broken))
    store.rounds("a")
    assert "Exception closing connection" in caplog.text


def test_the_interrupt_goes_before_an_error_of_the_same_call(tmp_path: Path, pressed: Pressed) -> None:
    store = filled(tmp_path)
    pressed.before, pressed.times = 0, 1
    with pytest.raises(KeyboardInterrupt) as raised:
        store.round("a", 99)
    assert isinstance(raised.value.__context__, StoreError)


def test_an_inner_block_leaves_it_to_the_outer_one() -> None:
    passed: list[str] = []

    def nested() -> None:
        with InterruptsHeld():
            with InterruptsHeld():
                signal.raise_signal(signal.SIGINT)
            passed.append("the inner one")

    with pytest.raises(KeyboardInterrupt):
        nested()
    assert passed == ["the inner one"]


def test_another_handler_and_another_thread_are_left_alone() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        with InterruptsHeld():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert came == [signal.SIGINT]
    worked: list[bool] = []

    def work() -> None:
        with InterruptsHeld():
            worked.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert worked


def test_a_simulation_ends_with_130_without_a_traceback_and_resumes(
    tmp_path: Path, pressed: Pressed, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    pressed.before, pressed.times = 12, 1
    done = simulate_here(tmp_path / "run", "--sites", "2", rounds=2)
    assert pressed.times == 0
    assert done.returncode == 130, done.stderr
    assert "Interrupted. Continue with: crossplant simulate --resume" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr + caplog.text + "".join(capfd.readouterr())
    assert crossplant_here("simulate", "--resume", tmp_path / "run").returncode == 0
