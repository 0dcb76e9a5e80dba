"""kill -9 of the ServerApp, the process that holds the rounds: another one goes on at the last committed round."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.network import network, story, undisturbed

pytestmark = pytest.mark.network


def test_the_run_goes_on_at_the_last_committed_round(tmp_path: Path) -> None:
    with network(tmp_path) as there:
        there.wait_for_round(3)
        before = there.records()
        dead = there.kill("serverapp")
        killed = time.monotonic()
        there.wait_for_round(len(before) + 1, 60)
        took = time.monotonic() - killed
        records = there.finish()
        assert f"process {dead} is gone" in there.said()
    assert took < 45, "Flower alone takes a minute to notice"
    assert records[: len(before)] == before
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    assert story(records) == story(undisturbed(tmp_path))
