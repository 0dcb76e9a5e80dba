"""A ServerApp that cannot go on, as real processes: its run becomes final in seconds, and `rounds list` says why."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from server.store.rows import RunStatus
from server.store.store import RoundStore
from tests.support.disturbed import kill_all, serve_again
from tests.support.federation import Federation, federation

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A coordinator; no plant ever comes."""
    with federation(tmp_path_factory.mktemp("net"), ("north", "south")) as there:
        there.serve()
        yield there


def status(there: Federation, run: str) -> RunStatus:
    with RoundStore.open(str(there.out)) as store:
        return store.run(run).status


def test_no_plant_comes(there: Federation) -> None:
    there.start_run("rounds.deadline_s = 3.0", name="trial")
    asked = time.monotonic()
    there.wait(lambda: status(there, "trial") is RunStatus.FAILED, 60, "a final state")
    print(f"final after {time.monotonic() - asked:.1f} s")
    listed = there.call("rounds", "list", "--store", str(there.out))
    assert "Run trial failed: CP-301 NoCompatiblePlants: round 1 failed: " in listed.stdout
    shown = there.call("rounds", "show", "1", "--store", str(there.out))
    assert "Run trial failed: CP-301 NoCompatiblePlants: round 1 failed: " in shown.stdout
    assert "run trial: failed: CP-301" in (there.out / "log" / "server.log").read_text()


def test_a_second_server_run_on_the_same_folder_harms_nobody(there: Federation) -> None:
    second = there.call("server", "run", "--federation", str(there.operator), "--store", str(there.out))
    assert second.returncode == 1
    assert second.stderr.startswith(f"CP-805 AlreadyRunning: process {there.children.pids()['server']} serves")
    assert there.online() == set()  # the first one still answers


def test_the_superlinks_database_is_damaged_and_moved_away(there: Federation) -> None:
    """The cure that the error names works: the new SuperLink has never heard of the run, which goes on all the same."""
    there.start_run("rounds.deadline_s = 20.0", name="second")
    there.wait(lambda: there.runs("serverapp"), 60, "a ServerApp")
    kill_all(there)
    database = there.operator / "run" / "superlink.sqlite"
    whole = database.read_bytes()
    database.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    refused = there.call("server", "run", "--federation", str(there.operator), "--store", str(there.out))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"CP-807 ServerStateDamaged: {database}: ")
    for path in database.parent.glob("superlink.sqlite*"):
        path.rename(there.out / path.name)
    serve_again(there)
    there.wait(lambda: status(there, "second") is RunStatus.FAILED, 120, "a final state, for no plant came")
    assert "(the SuperLink lost it); it goes on at round 1" in (there.out / "log" / "server.log").read_text()
