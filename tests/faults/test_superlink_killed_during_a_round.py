"""kill -9 of the SuperLink in mid-round: it is started again, its database knows everything, nobody starts anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.network import network, story, undisturbed

pytestmark = pytest.mark.network


def test_the_run_goes_on_and_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    with network(tmp_path) as there:
        there.wait_for_round(3)
        before = there.records()
        there.kill("superlink")
        there.wait(lambda: there.runs("superlink"), 30, "a new SuperLink")
        records = there.finish()
        assert "superlink ended with code -9" in there.said()
    assert records[: len(before)] == before
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    assert story(records) == story(undisturbed(tmp_path))
