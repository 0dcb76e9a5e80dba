"""A plant's line is cut in mid-run, for 25 s: the others go on without it, and it counts again soon after.

Each party is in a network namespace of its own. The line fails in both of the ways that lines do: packets vanish and
nobody is told, or the interface goes down.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from server.rounds import RoundRecord
from tests.support import netns
from tests.support.federation import federation

pytestmark = pytest.mark.network

PLANTS = ("plant-1", "plant-2", "plant-3")
CUT_S = 25.0


@pytest.mark.parametrize("how", ["packets vanish", "interface down"])
def test_the_others_go_on_and_the_plant_takes_part_again(how: str, tmp_path: Path) -> None:
    with netns.star(PLANTS) as net, federation(tmp_path, PLANTS, net) as there:
        there.serve()
        there.join(*PLANTS)
        there.start_run("rounds.pretrain = 100", "rounds.grace_s = 3.0", "rounds.deadline_s = 60.0")
        there.wait_for_round(3)
        before = there.records()
        if how == "packets vanish":
            net.lines["plant-3"].cut = True
        else:
            net.unplug("plant-3")
        time.sleep(CUT_S)
        meanwhile = there.records()
        net.lines["plant-3"].cut = False
        net.plug("plant-3")
        there.wait(lambda: took_part(there.records()[len(meanwhile) :]), 45, "round with plant-3")
        after = there.records()
    assert before == meanwhile[: len(before)]
    assert meanwhile == after[: len(meanwhile)]
    assert {record.status.value for record in after} == {"committed"}
    without = [record for record in meanwhile[len(before) :] if "plant-3" not in record.accepted]
    assert len(without) >= 2, "the others waited for a plant that could not answer"
    assert all(record.accepted == ("plant-1", "plant-2") for record in without)
    reasons = [report.reason or "" for record in without for report in record.rejected]
    assert all(reason.startswith(("late: no reply", "absent")) for reason in reasons), reasons


def took_part(records: list[RoundRecord]) -> bool:
    return any("plant-3" in record.accepted for record in records)
