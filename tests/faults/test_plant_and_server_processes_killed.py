"""Faults of one run of three plants that never ends: kill -9 of each process, a full disk, an error with a secret.

The others go on without the plant that was hit, the plant counts again, and no committed round ever changes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from server.rounds import RoundRecord
from tests.support.disturbed import HOOK, end_all, fork_of, full, kill_command, small_disk, traces, wait_counts
from tests.support.federation import Federation, federation

pytestmark = [pytest.mark.network, pytest.mark.timeout(400)]

PLANTS = ("north", "south", "east")
SECRET = "pump-house-combination-4711"
SETTINGS = (
    "rounds.pretrain = 1000",
    "rounds.grace_s = 15.0",
    "rounds.deadline_s = 60.0",
    "rounds.max_skips = 20",
    "recipe.training.local_epochs = 8",  # an answer takes long enough to be hit
)

seen: list[list[RoundRecord]] = []


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    tmp = tmp_path_factory.mktemp("net")
    with federation(tmp, PLANTS) as there, small_disk(there.plant("south") / "home", 16):
        there.serve()
        there.join("north", "south")
        (tmp / "hook").mkdir()
        (tmp / "hook" / "sitecustomize.py").write_text(HOOK.format(secret=SECRET, folder=str(tmp / "hook")))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(tmp / "hook"))
            there.join("east")
        there.start_run(*SETTINGS)
        there.wait_for_round(2)
        yield there
        end_all(there)


@pytest.fixture(autouse=True)
def history(there: Federation) -> Iterator[None]:
    """Whatever happens, what was committed stays as it was."""
    before = there.records()
    yield
    after = there.records()
    assert after[: len(before)] == before
    assert [record.number for record in after] == list(range(1, len(after) + 1))


def reasons(records: list[RoundRecord], plant: str) -> list[str]:
    return [report.reason or "" for record in records for report in record.rejected if report.plant == plant]


@pytest.mark.parametrize("who", ["agent", "relay"])
def test_the_text_of_an_error_stays_at_the_plant(there: Federation, who: str) -> None:
    trouble = there.out.parent / "hook" / who
    trouble.touch()
    known = len(there.records())
    try:
        there.wait(lambda: bool(reasons(there.records()[known:], "east")), 60, "a refusal")
    finally:
        trouble.unlink()
    wait_counts(there, "east", 60)
    assert set(reasons(there.records()[known:], "east")) == {"refused by the plant: CP-000 Unexpected"}
    assert traces(SECRET, there.plant("east") / "home" / "log"), "it was never raised"
    assert traces(SECRET, there.operator, there.out / "log", there.out / "models") == []
    assert [path for path in there.out.glob("rounds.sqlite*") if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3])
def test_a_clientapp_killed_while_it_answers_is_missed_at_once(there: Federation, after_s: float) -> None:
    known, fork = len(there.records()), fork_of(there, "north")
    time.sleep(after_s)
    with suppress(psutil.NoSuchProcess):
        fork.kill()
    killed = time.monotonic()
    wait_counts(there, "north", 40)
    took = time.monotonic() - killed
    told = reasons(there.records()[known:], "north")
    print(f"killed after {after_s} s: {told}, counts again after {took:.1f} s")
    assert took < 40, "Flower alone takes a minute to notice, and nothing is asked meanwhile"
    assert all(reason.endswith("(Flower error 8)") for reason in told)


def test_the_relays_executor_killed(there: Federation) -> None:
    dead = there.kill("relay", "/south/")
    there.wait(lambda: there.runs("relay", "/south/") and there.find("relay", "/south/").pid != dead, 30, "a new one")
    wait_counts(there, "south", 100)


def test_the_gateway_killed(there: Federation) -> None:
    there.kill("gateway")
    there.wait(lambda: there.runs("gateway"), 30, "a new gateway")
    for plant in PLANTS:
        wait_counts(there, plant, 60)


def test_the_servers_executor_killed(there: Federation) -> None:
    """Its ServerApp goes with it; the run goes on in another one."""
    there.kill("executor")
    there.wait(lambda: there.runs("executor"), 30, "a new executor")
    for plant in PLANTS:
        wait_counts(there, plant, 60)


def test_the_disk_of_a_plant_full(there: Federation) -> None:
    """What cannot be logged is not answered; with room it goes on, and nobody restarts anything."""
    agent, known = there.find("agent", "/south/").pid, len(there.records())
    with full(there.plant("south") / "home"):
        there.wait(lambda: bool(reasons(there.records()[known:], "south")), 60, "a refusal")
    wait_counts(there, "south", 60)
    told = set(reasons(there.records()[known:], "south"))
    assert told == {"refused by the plant: CP-605 AuditBroken"}
    assert there.find("agent", "/south/").pid == agent


def test_client_run_killed_and_started_again(there: Federation) -> None:
    old = [there.find(who, "/south/").pid for who in ("agent", "supernode", "relay")]
    kill_command(there, "south")
    there.wait(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in old), 30, "the end of what it had started")
    there.join("south")
    wait_counts(there, "south", 100)


def test_a_supernode_killed_returns_after_its_heartbeats_were_missed(there: Federation) -> None:
    there.kill("supernode", "/east/")
    killed = time.monotonic()
    records = wait_counts(there, "north", 60)
    assert records, "the others wait for nobody"
    wait_counts(there, "east", 130)
    print(f"counts again after {time.monotonic() - killed:.0f} s")
    assert "supernode ended with code -9" in Path(there.out / "log" / "east.log").read_text()
