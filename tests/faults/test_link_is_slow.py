"""A plant behind a slow line: within the grace period it counts in every round, beyond it it is late, by name.

512 kbit/s with a round trip of 0.3 s is what a radio link gives; 16 kbit/s with 1 s is worse than any plan allows for.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import netns
from tests.support.federation import Federation, federation

pytestmark = pytest.mark.network

PLANTS = ("plant-1", "plant-2", "plant-3")
GRACE_S = 12.0


def test_it_counts_within_the_grace_period_and_is_late_beyond_it(tmp_path: Path) -> None:
    with netns.star(PLANTS) as net, federation(tmp_path, PLANTS, net) as there:
        there.serve()
        there.join(*PLANTS)
        there.start_run("rounds.pretrain = 100", f"rounds.grace_s = {GRACE_S}", "rounds.deadline_s = 60.0")
        there.wait_for_round(2)
        line = net.lines["plant-3"]
        line.shape(0.15, 64_000)
        slow = next_rounds(there, 2)
        line.shape(0.5, 2_000)
        slower = next_rounds(there, 2)
        line.shape()
        mended = next_rounds(there, 2)
        records = there.records()
    assert {record.status.value for record in records} == {"committed"}
    # The round in progress when the line changes is left out: it may be of either kind.
    counted = records[slow[-1] - 1]
    assert counted.accepted == PLANTS
    took = {report.plant: report.seconds for report in counted.plants}
    assert took["plant-3"] > max(took["plant-1"], took["plant-2"]) + 1.0, "the line was not slow"
    late = records[slower[-1] - 1]
    assert late.accepted == ("plant-1", "plant-2")
    assert [(report.plant, (report.reason or "")[:14]) for report in late.rejected] == [("plant-3", "late: no reply")]
    assert late.seconds < GRACE_S + 15.0, "the round waited for longer than its grace period"
    assert records[mended[-1] - 1].accepted == PLANTS


def next_rounds(there: Federation, count: int) -> list[int]:
    """Numbers of the next rounds, once they are over."""
    done = len(there.records())
    there.wait_for_round(done + count, 100)
    return list(range(done + 1, done + count + 1))
