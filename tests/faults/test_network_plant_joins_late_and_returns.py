"""Real processes: a plant whose SuperNode connects rounds later joins the run; told to leave, it returns and counts."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from server.rounds import RoundRecord
from tests.support.network import Network, network

pytestmark = pytest.mark.network

LATE = "plant-3"
FLAGS = ("--set", "rounds.deadline_s=20.0", "--set", "rounds.grace_s=10.0")


def test_it_is_a_member_from_the_round_after_it_came(tmp_path: Path) -> None:
    with network(tmp_path, 3, 40, *FLAGS) as there:
        node = keep_away(there)
        there.wait_for_round(3)
        assert all(LATE not in names(record) for record in there.records())
        node.resume()
        joined = wait_for(there, lambda record: LATE in record.joined, "the joining")
        counted = wait_for(there, lambda record: LATE in record.accepted, "its first round")
        assert counted.number > joined.number
        there.find("supernode", LATE).send_signal(signal.SIGTERM)
        left = wait_for(there, lambda r: r.number > counted.number and LATE not in r.accepted, "its absence")
        wait_for(there, lambda r: r.number > left.number and LATE in r.accepted, "its return")
        records = there.finish()
    assert records[joined.number - 1] == joined
    told = next(p for p in joined.plants if p.plant == LATE)
    assert told.reason == f"joined: takes part from round {joined.number + 1} on"
    assert all(LATE in names(record) for record in records[joined.number :])  # a member, whether it answered or not
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    assert {record.status.value for record in records} == {"committed"}
    reasons = [p.reason or "" for record in records for p in record.plants if p.plant == LATE and not p.accepted]
    assert all(reason.startswith(("joined", "absent", "refused", "failed", "late")) for reason in reasons), reasons


def keep_away(there: Network) -> psutil.Process:
    """Tell its SuperNode to leave before the run begins, and stop the next one before it has connected."""
    log = there.out.parent / "poc.log"
    there.wait(lambda: "plants are connected" in log.read_text(), 130, "all plants")
    first = there.find("supernode", LATE)
    first.send_signal(signal.SIGTERM)
    there.wait(lambda: not first.is_running() and there.runs("supernode", LATE), 30, "its next SuperNode")
    node = there.find("supernode", LATE)
    node.suspend()
    return node


def names(record: RoundRecord) -> set[str]:
    return {report.plant for report in record.plants}


def wait_for(there: Network, so, what: str) -> RoundRecord:  # type: ignore[no-untyped-def]
    there.wait(lambda: any(map(so, there.records())), 60, what)
    return next(record for record in there.records() if so(record))
