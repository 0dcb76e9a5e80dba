"""Faults of one run of two plants, one after the other: locked, full and damaged disks, and the power goes.

In the end the run has done what it would have done undisturbed, bit by bit.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from server.coordinator import Silent
from server.rounds import RoundRecord
from server.store.rows import RunStatus
from server.store.store import RoundStore
from shared.config import RunConfig
from simulations.engines import Job, carry
from simulations.poc_cli import _config as small_config
from simulations.rundir import RunFolder
from simulations.simulate import begin
from tests.support.disturbed import end_all, full, kill_all, serve_again, small_disk
from tests.support.federation import Federation, federation
from tests.support.network import SETTINGS, story

pytestmark = [pytest.mark.network, pytest.mark.timeout(400)]

PLANTS = ("plant-1", "plant-2")
ROUNDS = 12


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """All that the operator has is on a disk of its own; the plants are not."""
    tmp = tmp_path_factory.mktemp("net")
    with small_disk(tmp / "fed", 96), elsewhere(tmp, "plants", "log"), federation(tmp, PLANTS) as there:
        there.serve()
        there.join(*PLANTS)
        there.start_run(f"rounds.pretrain = {ROUNDS}", "rounds.joint = 1")
        there.wait_for_round(2)
        yield there
        end_all(there)


@contextmanager
def elsewhere(tmp: Path, *names: str) -> Iterator[None]:
    """Folders of the federation that are not on its small disk."""
    for name in names:
        (tmp / name).mkdir()
        (tmp / "fed" / name).mkdir()
        subprocess.run(["mount", "--bind", str(tmp / name), str(tmp / "fed" / name)], check=True)
    yield
    for name in names:
        subprocess.run(["umount", "--lazy", str(tmp / "fed" / name)], check=True)


@pytest.fixture(autouse=True)
def history(there: Federation) -> Iterator[None]:
    """Whatever happens, what was committed stays as it was."""
    before = there.records()
    yield
    after = there.records()
    assert after[: len(before)] == before
    assert [record.number for record in after] == list(range(1, len(after) + 1))


def server_said(there: Federation) -> str:
    return (there.out / "log" / "server.log").read_text()


@contextmanager
def locked(there: Federation) -> Iterator[None]:
    """Another program writes into the store's database, and does not end."""
    with closing(sqlite3.connect(there.out / "rounds.sqlite", isolation_level=None, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_the_stores_database_locked_for_some_seconds(there: Federation) -> None:
    before, carrier = len(there.records()), there.find("serverapp").pid
    with locked(there):
        time.sleep(6)
        assert len(there.records()) == before
    there.wait_for_round(before + 1, 60)
    assert there.find("serverapp").pid == carrier, "a lock of some seconds is waited for"


def test_the_stores_database_locked_for_long(there: Federation) -> None:
    before = len(there.records())
    with locked(there):
        there.wait(lambda: "CP-405 StoreBusy" in server_said(there), 60, "an error with a code")
        assert len(there.records()) == before
    there.wait_for_round(before + 1, 90)


def test_the_disk_of_the_coordinator_full(there: Federation) -> None:
    before = len(there.records())
    with full(there.out):
        there.wait(lambda: "CP-406 DiskFull" in server_said(there), 90, "an error with a code")
        time.sleep(10)  # nothing that is tried again meanwhile may do harm
    there.wait_for_round(before + 1, 120)


def test_the_power_goes(there: Federation) -> None:
    """The same commands are given again, and nothing else."""
    before = len(there.records())
    kill_all(there)
    serve_again(there)
    there.join(*PLANTS)
    there.wait_for_round(before + 1, 90)


def test_the_superlinks_database_damaged(there: Federation) -> None:
    """The cure that the error names works: nothing in that database is needed."""
    kill_all(there)
    before = len(there.records())
    database = there.operator / "run" / "superlink.sqlite"
    whole = database.read_bytes()
    database.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    refused = there.call("server", "run", "--federation", str(there.operator), "--store", str(there.out))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"CP-807 ServerStateDamaged: {database}: ")
    assert f"mv {database}*" in refused.stderr
    for path in database.parent.glob("superlink.sqlite*"):
        shutil.move(path, there.out / "log")
    serve_again(there)
    there.join(*PLANTS)
    there.wait_for_round(before + 1, 90)


def test_a_model_file_damaged_and_restored(there: Federation) -> None:
    """The run fails for good and says why; with the file restored it goes on where it was."""
    there.kill("serverapp")
    newest = there.records()[-1].model
    path = there.out / "models" / f"{newest}.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\xff")
    there.wait(lambda: status(there) is RunStatus.FAILED, 90, "a final state")
    listed = there.call("rounds", "list", "--store", str(there.out))
    assert f"Run trial failed: CP-404 ModelCorrupt: {path}" in listed.stdout
    shown = there.call("rounds", "show", "1", "--store", str(there.out))
    assert "Run trial failed: CP-404 ModelCorrupt" in shown.stdout
    before = len(there.records())
    path.write_bytes(whole)
    resumed = there.call("server", "resume-run", "--federation", str(there.operator), "--name", "trial")
    assert resumed.returncode == 0, resumed.stderr
    there.wait_for_round(before + 1, 90)


def status(there: Federation) -> RunStatus:
    with RoundStore.open(str(there.out)) as store:
        return store.run("trial").status


def test_the_run_ends_as_if_nothing_had_happened(there: Federation, tmp_path: Path) -> None:
    there.wait(lambda: status(there) is RunStatus.FINISHED, 200, "the end of the run")
    with RoundStore.open(str(there.out)) as store:
        config = store.config("trial")
    assert story(there.records()) == story(simulated(config, tmp_path / "same"))


def simulated(config: RunConfig, out: Path) -> list[RoundRecord]:
    """The rounds of the same run on the same data, carried in this process."""
    folder = RunFolder(out)
    index = begin(
        config.model_copy(update={"data": small_config(len(PLANTS), 1, None, list(SETTINGS)).data}), {}, folder
    )
    carry(Job(str(out), index.run, folder.plants, len(PLANTS), config.engine), Silent())
    with RoundStore.open(str(out)) as store:
        return store.rounds(index.run)
