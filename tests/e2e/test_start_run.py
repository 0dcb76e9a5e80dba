"""A federation set up by hand, as an operator and two plants do it, and the runs that it is given: signed ones only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from client.ingest.folder import write_site
from server.provision.federation import read
from server.store.rows import RunStatus
from server.store.store import RoundStore
from shared.errors import StoreError
from shared.flower_process import free_port
from shared.pki.keys import PASSPHRASE
from shared.series import SiteData
from simulations.gather import gather
from simulations.poc_cli import _config
from tests.support.command import crossplant
from tests.support.network import SETTINGS, running_below

pytestmark = pytest.mark.network

PLANTS = ("north", "south")
RUN = """
[rounds]
pretrain = 1
joint = 1
deadline_s = 120.0
[recipe.detector]
hidden = 8
latent = 4
[recipe.training]
stride = 8
[recipe.clustering]
clusters = 3
seed_steps = 1
refine_steps = 1
refresh_every = 0
"""


@dataclass
class Federation:
    """The operator's folder, and both plants' beside it."""

    folder: Path

    def plant(self, name: str) -> Path:
        return self.folder.parent / f"at-{name}"

    def start_run(self, name: str, *flags: str) -> str:
        """Start a run by command; what it said."""
        settings = self.folder.parent / "run.toml"
        settings.write_text(RUN)
        return done("server", "start-run", "--federation", self.folder, "--settings", settings, "--name", name, *flags)

    def wait(self, run: str, longest_s: float = 120.0) -> RunStatus:
        """Wait until a run is final."""
        ends = time.monotonic() + longest_s
        while (status := self.status(run)) is RunStatus.RUNNING:
            assert time.monotonic() < ends, self.said()
            time.sleep(0.2)
        return status

    def status(self, run: str) -> RunStatus:
        with RoundStore.open(str(self.folder)) as store:
            return next(info.status for info in store.runs() if info.name == run)

    def shown(self, run: str, number: int = 1) -> str:
        """What the operator reads of one of a run's rounds."""
        return done("rounds", "show", str(number), "--store", self.folder, "--run", run)

    def audit(self, plant: str, run: str) -> list[dict[str, Any]]:
        """What the plant's engineer reads of a run."""
        lines = done("client", "audit", "--config", self.plant(plant) / "plant.toml").splitlines()
        return [entry for entry in map(json.loads, lines) if entry.get("run") == run]

    def said(self) -> str:
        """What may tell why something is not so."""
        logs = sorted(self.folder.parent.rglob("*.log"))
        return "\n".join(f"== {log}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)


def done(*arguments: str | Path) -> str:
    """What a command prints that ends well."""
    result = crossplant(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def locked() -> Iterator[None]:
    """The keys that issue and sign are locked; only the operator's commands are given the passphrase."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSPHRASE, "correct horse")
        yield


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory, locked: None) -> Iterator[Federation]:
    """`provision`, `server run` and two `client run`, each command as it is typed."""
    tmp = tmp_path_factory.mktemp("fed")
    made, port = Federation(tmp / "fed"), free_port()
    done("provision", "init", made.folder, "--name", "water", "--host", "127.0.0.1", "--port", str(port))
    for name, site in zip(PLANTS, gather(_config(2, 1, None, list(SETTINGS))).sites, strict=True):
        take_in(made, name, site)
    with ExitStack() as processes:
        processes.enter_context(running(tmp, "server", "run", "--federation", made.folder, "--host", "127.0.0.1"))
        wait_for(lambda: (made.folder / "run" / "endpoint.json").exists(), 60, made)
        for name in PLANTS:
            processes.enter_context(running(tmp, "client", "run", "--config", made.plant(name) / "plant.toml"))
        yield made
    assert running_below(tmp) == []


def take_in(federation: Federation, name: str, site: SiteData) -> None:
    """A plant joins, and its data lies where its `plant.toml` says."""
    home, kit = federation.plant(name), federation.folder.parent / f"{name}.zip"
    done("provision", "site", "new", name, "--out", home)
    done("provision", "site", "approve", federation.folder, home / "request.toml")
    done("provision", "kit", federation.folder, name, "--out", kit)
    done("provision", "install", kit, home)
    write_site(home / "data", site)


@contextmanager
def running(tmp: Path, *arguments: str | Path) -> Iterator[None]:
    """A command that stays until it is asked to end."""
    with (tmp / f"{arguments[0]}-{len(list(tmp.glob('*.log')))}.log").open("w") as log:
        command = [sys.executable, "-m", "shared", *map(str, arguments)]
        without = {name: value for name, value in os.environ.items() if name != PASSPHRASE}
        process = subprocess.Popen(command, cwd=tmp, env=without, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            for orphan in children:
                with suppress(psutil.NoSuchProcess):
                    orphan.kill()
            process.kill()
            process.wait()


def wait_for(so: Callable[[], bool], longest_s: float, federation: Federation) -> None:
    ends = time.monotonic() + longest_s
    while not so():
        assert time.monotonic() < ends, federation.said()
        time.sleep(0.1)


def test_a_signed_run_goes_to_its_plants_and_finishes(federation: Federation) -> None:
    assert "given to 2 plants: north, south" in federation.start_run("good")
    assert federation.wait("good") is RunStatus.FINISHED, federation.shown("good", 2) + federation.said()
    signer = done("provision", "signer", federation.folder).strip()
    for plant in PLANTS:
        entries = federation.audit(plant, "good")
        assert {entry["signer"] for entry in entries} == {signer}
        assert {entry["verdict"] for entry in entries} == {"answered"}
        assert (federation.plant(plant) / "home" / "bundles" / f"{plant}.bundle").exists()


def refused(federation: Federation, run: str) -> list[str]:
    """Reasons in the plants' audit logs for refusing a run; at the server the refusals are readable, too."""
    assert federation.wait(run) is RunStatus.FAILED
    shown = federation.shown(run)
    for plant in PLANTS:
        assert f"{plant} did not count: refused by the plant: CP-603 signer" in shown
    listed = done("rounds", "list", "--store", federation.folder, "--run", run)
    assert "Round 1 failed:" in listed
    assert "CP-603 signer" in listed
    return [entry["reason"] for plant in PLANTS for entry in federation.audit(plant, run)]


def test_a_run_that_nobody_signed_is_refused_with_its_reason_on_both_sides(federation: Federation) -> None:
    federation.start_run("nobody", "--unsigned")
    assert refused(federation, "nobody") == ["the run is not signed."] * 2


def test_a_run_that_another_key_signed_is_refused_with_its_reason_on_both_sides(federation: Federation) -> None:
    before = read(federation.folder).signer
    done("provision", "signer", federation.folder, "--replace")
    after = read(federation.folder).signer
    assert before != after
    federation.start_run("other")
    assert refused(federation, "other") == [f"the run is signed by {after}, who is not among the signers."] * 2


def test_a_signature_stays_with_its_run(federation: Federation) -> None:
    """It is read from the store, by whichever process carries the run."""
    with RoundStore.open(str(federation.folder)) as store:
        with suppress(StoreError):
            assert store.signature("nobody") == ""
        assert store.signature("good").startswith("v1.")
        assert store.signature("good") != store.signature("other")
