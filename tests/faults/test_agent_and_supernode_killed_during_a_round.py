"""kill -9 of a plant's agent, then of a SuperNode: the others go on, and the agent's plant counts again in seconds.

A SuperNode is refused (305) until its heartbeats were missed for a minute: it comes back in a longer run than this.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.network import network

pytestmark = pytest.mark.network


def test_the_run_goes_on_with_those_that_are_there(tmp_path: Path) -> None:
    with network(tmp_path, 3, 4, "--set", "rounds.grace_s=2.0", "--set", "rounds.deadline_s=40.0") as there:
        there.wait_for_round(2)
        before = there.records()
        there.kill("agent", "plant-1")
        there.wait(lambda: there.runs("agent", "plant-1"), 30, "a new agent")
        there.wait_for_round(len(before) + 3)
        there.kill("supernode", "plant-3")
        records = there.finish()
        assert "agent ended with code -9" in there.said()
        assert "supernode ended with code -9" in there.said()
    assert records[: len(before)] == before
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    assert sum(record.status.value == "committed" for record in records) == 11
    absent = [{report.plant for report in record.rejected} for record in records]
    assert any("plant-1" in plants for plants in absent)
    assert any("plant-1" not in plants for plants in absent[absent.index({"plant-1"}) :])
    reasons = [report.reason or "" for record in records for report in record.rejected]
    assert all(reason.startswith(("refused", "late", "absent", "the plant's process failed")) for reason in reasons)
