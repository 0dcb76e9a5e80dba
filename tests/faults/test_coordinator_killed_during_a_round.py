"""kill -9 of `crossplant server run` itself: all that it started ends with it; the next one carries the run on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.network import network, story, undisturbed

pytestmark = pytest.mark.network


def test_the_next_coordinator_carries_the_run_on(tmp_path: Path) -> None:
    with network(tmp_path, 2, 2) as there:
        there.wait_for_round(3)
        before = there.records()
        old = [there.find(who).pid for who in ("superlink", "gateway", "executor", "serverapp")]
        there.kill("server")
        there.wait(lambda: not any(map(alive, old)), 30, "the end of what the coordinator had started")
        records = there.finish()
    assert records[: len(before)] == before
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    assert story(records) == story(undisturbed(tmp_path, 2, 2))


def alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
