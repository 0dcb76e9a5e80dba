"""Runs on the network: submitted, resubmitted, made final; keys kept equal to the operator's books."""

from __future__ import annotations

import errno
import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from server.run.control import Node, Standing
from server.run.place import Endpoint, ServerPlace
from server.run.roster import Site, read_node_key, read_sites, reconcile
from server.run.runs import MOST_ATTEMPTS, Reaper, Submission, ask_for, tell_store, told_store, whole_location
from server.run.superlink import executor
from server.store.auditlog import Actor
from server.store.registry import Registry
from server.store.rows import RunStatus
from server.store.store import RoundStore
from shared.alone import alone
from shared.config import RunConfig
from shared.errors import FileTrouble, InvalidConfig
from shared.service_errors import NotRunning, ServerRefused
from tests.support import stores
from tests.support.command import crossplant_here
from tests.support.pki import digests


@dataclass
class FakeControl:
    """A SuperLink that remembers."""

    known: dict[int, Node] = field(default_factory=dict)
    standings: dict[int, Standing] = field(default_factory=dict)
    started: list[dict[str, str]] = field(default_factory=list)

    def nodes(self) -> tuple[Node, ...]:
        return tuple(self.known.values())

    def register(self, name: str, key: bytes) -> int:
        node = max(self.known, default=0) + 1
        self.known[node] = Node(node, name, key, "registered")
        return node

    def unregister(self, node: int) -> None:
        del self.known[node]

    def start(self, bundle: bytes, settings: dict[str, str]) -> int:
        self.started.append(settings)
        self.standings[len(self.started)] = Standing("running", "", "")
        return len(self.started)

    def stop(self, run: int) -> None:
        self.standings[run] = Standing("finished", "stopped", "")

    def standing(self, run: int) -> Standing | None:
        return self.standings.get(run)


@pytest.fixture
def place(tmp_path: Path) -> ServerPlace:
    return ServerPlace.of(tmp_path)


class Desk:
    """A place with one run, a reaper and what it said."""

    def __init__(self, place: ServerPlace) -> None:
        self.place, self.store = place, str(place.root / "store")
        ask_for(place, self.store, "r", RunConfig(), ("north", "south"))
        self.control = FakeControl()
        self.said: list[str] = []
        self.reaper = Reaper(place, self.store, b"fab", self.said.append)

    def look(self) -> None:
        self.reaper.look(self.control)  # type: ignore[arg-type]

    def status(self) -> RunStatus:
        with RoundStore.open(self.store) as store:
            return store.runs()[0].status

    def left(self) -> list[str]:
        return [path.name for path in self.place.runs.glob("*.json")]


def test_a_run_is_submitted_once_and_no_plant_reads_in_its_settings_who_the_others_are(place: ServerPlace) -> None:
    """Flower hands the settings of a run to every node that asks."""
    desk = Desk(place)
    desk.look()
    desk.look()
    assert desk.control.started == [{"run": "r"}]


def test_a_carrier_that_failed_is_followed_by_another(place: ServerPlace) -> None:
    desk = Desk(place)
    desk.look()
    desk.control.standings[1] = Standing("finished", "failed", "No heartbeat received from the task.")
    desk.look()
    assert len(desk.control.started) == 2
    assert "it goes on at round 1" in desk.said[-1]
    assert desk.status() is RunStatus.RUNNING


def test_a_carrier_that_the_superlink_lost_is_followed_by_another(place: ServerPlace) -> None:
    desk = Desk(place)
    desk.look()
    desk.control.standings.clear()
    desk.look()
    assert len(desk.control.started) == 2


def test_a_dead_process_is_noticed_before_flower_does(place: ServerPlace) -> None:
    desk = Desk(place)
    desk.look()
    place.carrier.write_text("1 4194303")  # no process has this id: it is Linux's largest
    desk.look()
    desk.look()
    assert len(desk.control.started) == 2
    assert desk.control.standings[1].outcome == "stopped"


def test_a_process_that_ended_and_was_not_reaped_is_dead(place: ServerPlace) -> None:
    desk = Desk(place)
    desk.look()
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    place.carrier.write_text(f"1 {zombie.pid}")
    desk.look()
    zombie.wait()
    assert desk.control.standings[1].outcome == "stopped"


@pytest.mark.parametrize("content", ["", "1", "1 x", "2 4194303", "1 4194303 7", "\xff"])
def test_a_carrier_note_that_says_nothing_ends_nothing(place: ServerPlace, content: str) -> None:
    desk = Desk(place)
    desk.look()
    place.carrier.write_text(content, encoding="latin-1")
    desk.look()
    assert len(desk.control.started) == 1


def test_a_living_process_is_left_alone(place: ServerPlace) -> None:
    desk = Desk(place)
    desk.look()
    place.carrier.write_text(f"1 {os.getpid()}")
    desk.look()
    assert desk.control.standings[1].status == "running"


def test_a_finished_run_is_forgotten(place: ServerPlace) -> None:
    desk = Desk(place)
    desk.look()
    with RoundStore.open(desk.store) as store:
        store.finish_run("r", RunStatus.FINISHED)
    desk.control.standings[1] = Standing("finished", "completed", "")
    desk.look()
    assert desk.left() == []
    assert desk.said == ["run r: finished."]


@pytest.mark.parametrize("code", ["CP-101", "CP-301", "CP-302", "CP-404"])
def test_what_would_fail_again_makes_the_run_final(place: ServerPlace, code: str) -> None:
    desk = Desk(place)
    desk.look()
    desk.control.standings[1] = Standing("finished", "failed", f"ServerApp failed with exception: {code} X: y.")
    desk.look()
    assert desk.status() is RunStatus.FAILED
    assert desk.left() == []
    assert len(desk.control.started) == 1


def test_a_run_that_never_commits_a_round_ends(place: ServerPlace) -> None:
    desk = Desk(place)
    desk.reaper._clock = itertools.count(0.0, 100.0).__next__  # pauses are over at once
    for _ in range(2 * MOST_ATTEMPTS + 5):
        desk.look()
        if desk.control.started:
            desk.control.standings[len(desk.control.started)] = Standing("finished", "failed", "killed")
    assert desk.status() is RunStatus.FAILED
    assert len(desk.control.started) == MOST_ATTEMPTS


def test_a_damaged_note_is_an_error_that_names_it(place: ServerPlace) -> None:
    desk = Desk(place)
    (place.runs / "r.json").write_text('{"run": 3}')
    with pytest.raises(InvalidConfig, match=r"r\.json is damaged"):
        desk.look()
    assert desk.control.started == []


def test_runs_wait_their_turn(place: ServerPlace) -> None:
    desk = Desk(place)
    ask_for(place, desk.store, "a", RunConfig(), ("north", "south"))
    desk.look()
    desk.look()
    assert [settings["run"] for settings in desk.control.started] == ["r"]
    with RoundStore.open(desk.store) as store:
        store.finish_run("r", RunStatus.FINISHED)
    desk.control.standings[1] = Standing("finished", "completed", "")
    desk.look()
    desk.look()
    assert [settings["run"] for settings in desk.control.started] == ["r", "a"]


def test_without_keys_there_is_no_roster(place: ServerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    from server.app import _roster

    ask_for(place, str(place.root / "store"), "r", RunConfig(), ("north", "south"))
    for root, due in ((None, None), (place.ca, {"north", "south"})):
        spec = executor(place, Endpoint("127.0.0.1:1", root, 2, 3), "store")
        monkeypatch.setattr(os, "environ", spec.environment)
        assert _roster("r") == due
    (place.runs / "r.json").unlink()
    with pytest.raises(InvalidConfig, match="is damaged"):  # and never: then it goes to all
        _roster("r")


def test_a_run_needs_two_plants(place: ServerPlace) -> None:
    with pytest.raises(InvalidConfig, match="needs two plants"):
        ask_for(place, str(place.root / "store"), "r", RunConfig(), ("north",))


@pytest.mark.parametrize("name", ["", "../r", "a/b", ".r", "r\n", "x" * 65])
def test_a_name_that_could_be_no_files_names_no_run(place: ServerPlace, name: str) -> None:
    with pytest.raises(InvalidConfig, match="cannot name a run"):
        ask_for(place, str(place.root / "store"), name, RunConfig(), ("north", "south"))
    assert not (place.root / "store").exists()


def test_a_run_whose_note_cannot_be_written_is_final(place: ServerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("server.run.runs.replace_file", full)
    with pytest.raises(FileTrouble, match="No space left"):
        ask_for(place, str(place.root / "store"), "r", RunConfig(), ("north", "south"))
    with RoundStore.open(str(place.root / "store")) as store:
        assert store.runs()[0].status is RunStatus.FAILED


def test_the_server_tells_where_its_rounds_are(place: ServerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told_store(place) == str(place.root)
    monkeypatch.chdir(place.root)
    place.prepare()
    for given, whole in (
        ("elsewhere", str(place.root / "elsewhere")),
        ("postgresql://u:secret@h/d", "postgresql://u:secret@h/d"),
        (None, str(place.root)),
    ):
        tell_store(place, whole_location(place, given))
        assert told_store(place) == whole
    assert (place.run / "store").stat().st_mode & 0o777 == 0o600


def test_a_second_server_that_is_refused_changes_nothing(fed: Path) -> None:
    place = ServerPlace.of(fed)
    place.prepare()
    tell_store(place, str(fed / "first"))
    with alone(place.lock, "the federation"):
        before = digests(fed)
        done = crossplant_here("server", "run", "--federation", fed, "--port", "0", "--store", fed / "second")
        assert (done.returncode, done.stderr.split()[0]) == (1, "CP-805")
        assert digests(fed) == before
    assert told_store(place) == str(fed / "first")


def test_a_store_behind_a_url_keeps_its_models_at_the_federation(place: ServerPlace) -> None:
    ask_for(place, f"sqlite:///{place.root}/db/x.sqlite", "r", RunConfig(), ("north", "south"))
    with RoundStore.open(f"sqlite:///{place.root}/db/x.sqlite") as store:
        assert store.runs()[0].models_dir == place.root / "models"


def test_a_submission_survives_its_file(place: ServerPlace) -> None:
    place.prepare()
    given = Submission("r", ("a", "b"), 7, 2, 3)
    given.write(place.runs)
    assert Submission.read(place.runs / "r.json") == given
    assert (place.runs / "r.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "changed",
    [
        {"run": "../../elsewhere"},
        {"run": "another"},
        {"roster": "north"},
        {"roster": []},
        {"roster": ["north", 7]},
        {"carrier": 1e400},
        {"carrier": True},
        {"carrier": -1},
        {"attempts": "2"},
        {"rounds": 2.5},
        {"rounds": None},
    ],
    ids=str,
)
def test_a_note_that_says_what_no_run_would_is_damaged(place: ServerPlace, changed: dict[str, object]) -> None:
    place.prepare()
    note = {"run": "r", "roster": ["north", "south"], "carrier": 1, "attempts": 1, "rounds": 0}
    (place.runs / "r.json").write_text(json.dumps(note | changed))
    with pytest.raises(InvalidConfig, match="is damaged"):
        Submission.read(place.runs / "r.json")


def test_a_damaged_note_does_not_keep_other_runs_waiting(place: ServerPlace) -> None:
    desk = Desk(place)
    ask_for(place, desk.store, "s", RunConfig(), ("north", "south"))
    (place.runs / "r.json").write_text("{" * 10_000)
    with pytest.raises(InvalidConfig, match="is damaged"):
        desk.look()
    assert [settings["run"] for settings in desk.control.started] == ["s"]


# ---- the roster ----


def test_approved_keys_are_let_in_and_all_others_shut_out() -> None:
    control = FakeControl()
    control.register("stranger", b"s")
    sites = (Site("north", "approved", b"n"), Site("south", "revoked", b"o"), Site("west", "requested", None))
    said = reconcile(control, sites)  # type: ignore[arg-type]
    assert [(node.name, node.key) for node in control.nodes()] == [("north", b"n")]
    assert said == ["plant 'stranger' is shut out.", "plant 'north' may connect."]
    assert reconcile(control, sites) == []  # type: ignore[arg-type]


def test_a_revoked_plant_is_shut_out_and_a_new_key_takes_the_place_of_the_old() -> None:
    control = FakeControl()
    reconcile(control, (Site("north", "approved", b"1"), Site("south", "approved", b"2")))  # type: ignore[arg-type]
    reconcile(control, (Site("north", "approved", b"new"), Site("south", "revoked", b"2")))  # type: ignore[arg-type]
    assert [(node.name, node.key) for node in control.nodes()] == [("north", b"new")]


def test_a_key_that_flower_never_takes_again_keeps_no_other_plant_out(monkeypatch: pytest.MonkeyPatch) -> None:
    control = FakeControl()

    def register(name: str, key: bytes) -> int:
        if key == b"1":
            raise ServerRefused("the SuperLink refused (HTTP 409: public key already in use).")
        return FakeControl.register(control, name, key)

    monkeypatch.setattr(control, "register", register)
    said = reconcile(control, (Site("north", "approved", b"1"), Site("south", "approved", b"2")))  # type: ignore[arg-type]
    assert [node.name for node in control.nodes()] == ["south"]
    assert "plant 'north' cannot be let in" in said[0]
    assert said[1:] == ["plant 'south' may connect."]


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    path.write_bytes(key.public_key().public_bytes(*openssh))


def test_sites_are_read_from_the_operators_folder(tmp_path: Path) -> None:
    for name, status in (("b", "approved"), ("a", "revoked")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "site.toml").write_text(f'status = "{status}"\n')
    write_key(tmp_path / "b" / "node.pub", ec.generate_private_key(ec.SECP384R1()))
    a, b = read_sites(tmp_path)
    assert (a.name, a.status, a.key) == ("a", "revoked", None)
    assert b.key is not None
    assert b.key.startswith(b"-----BEGIN PUBLIC KEY-----")
    assert read_sites(tmp_path / "none") == ()


@pytest.mark.parametrize("content", [b"", b"ssh-rsa x", b"\xff\x00"])
def test_a_key_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k").write_bytes(content)
    with pytest.raises(InvalidConfig, match="is no public key"):
        read_node_key(tmp_path / "k")


def test_a_key_on_another_curve_is_refused(tmp_path: Path) -> None:
    write_key(tmp_path / "k", ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(InvalidConfig, match="NIST"):
        read_node_key(tmp_path / "k")


def test_a_site_without_a_status_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "site.toml").write_text("x = 1")
    with pytest.raises(InvalidConfig, match="says no status"):
        read_sites(tmp_path)


# ---- the place ----


def test_the_endpoint_is_told_and_found(place: ServerPlace) -> None:
    place.prepare()
    with pytest.raises(NotRunning, match="no server runs"):
        place.read_endpoint()
    told = Endpoint("127.0.0.1:1", place.loopback_certificate, 2, 3)
    with alone(place.lock, "the federation"):
        with pytest.raises(NotRunning, match="not up yet"):
            place.read_endpoint()
        place.write_endpoint(told)
        assert place.read_endpoint() == told
        gone = {"address": "127.0.0.1:1", "root": None, "gateway": float("inf"), "pid": 1}
        for damaged in (json.dumps({"address": 1}), json.dumps(gone), "[" * 100_000):
            (place.run / "endpoint.json").write_text(damaged)
            with pytest.raises(NotRunning, match="not up yet"):
                place.read_endpoint()


def test_the_endpoint_of_a_server_that_was_killed_is_stale(place: ServerPlace) -> None:
    place.prepare()
    with alone(place.lock, "the federation"):
        place.write_endpoint(Endpoint("127.0.0.1:1", None, 2, os.getpid()))
    with pytest.raises(NotRunning, match="no server runs"):  # its process id may be anybody's by now
        place.read_endpoint()


def test_a_federation_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble, match="is no folder"):
        ServerPlace.of(tmp_path / "none")


class Ordered(Desk):
    """A desk whose run is over, and has an order."""

    def __init__(self, place: ServerPlace, status: RunStatus = RunStatus.FINISHED) -> None:
        super().__init__(place)
        self.look()
        with RoundStore.open(self.store) as store:
            for number in range(1, 3):
                after = stores.state("r", number)
                store.commit(stores.record(after), after)
            store.finish_run("r", status, "why it stands so")
        outcome = "completed" if status is RunStatus.FINISHED else "failed"
        self.control.standings[1] = Standing("finished", outcome, "CP-301 RunFailed")
        self.look()
        with RoundStore.open(self.store) as store:
            self.order = Registry(store).promote("r", 2, Actor("anna", "operator"), "try")

    def stands(self) -> tuple[RunStatus, str, str]:
        with RoundStore.open(self.store) as store:
            info = store.run("r")
            return info.status, info.note, Registry(store).orders("r")[0].state.value

    def note(self) -> Submission:
        return Submission.read(self.place.runs / "r.json")


@pytest.mark.parametrize("status", [RunStatus.FINISHED, RunStatus.FAILED])
def test_a_run_that_is_over_is_taken_up_for_an_order_alone(place: ServerPlace, status: RunStatus) -> None:
    desk = Ordered(place, status)
    assert desk.left() == []
    desk.look()
    assert (desk.note().stood, desk.note().roster, desk.note().carrier) == (status, ("north", "south"), 2)
    with RoundStore.open(desk.store) as store:  # what the ServerApp does
        after = stores.state("r", 3)
        store.commit(stores.record(after), after, desk.order.id)
        store.finish_run("r", status)
    desk.control.standings[2] = Standing("finished", "completed", "")
    desk.look()
    desk.look()
    assert desk.left() == []
    assert len(desk.control.started) == 2
    assert desk.stands()[0] is status
    assert desk.stands()[2] == "done"


def test_an_order_whose_process_can_never_succeed_is_given_up_and_the_run_stands_as_it_stood(
    place: ServerPlace,
) -> None:
    desk = Ordered(place)
    desk.look()
    desk.control.standings[2] = Standing("finished", "failed", "CP-101 InvalidConfig")
    desk.look()
    desk.look()
    assert desk.stands() == (RunStatus.FINISHED, "why it stands so", "failed")
    assert (desk.left(), len(desk.control.started)) == ([], 2)
    assert "CP-101" in desk.said[-1]


def test_a_process_that_died_before_it_carried_an_order_out_is_followed_by_another(place: ServerPlace) -> None:
    desk = Ordered(place)
    desk.look()
    desk.control.standings[2] = Standing("finished", "failed", "No heartbeat received from the task.")
    desk.look()
    assert (desk.note().stood, len(desk.control.started)) == (RunStatus.FINISHED, 3)


def test_an_order_waits_while_another_run_is_under_way(place: ServerPlace) -> None:
    desk = Ordered(place)
    ask_for(place, desk.store, "other", RunConfig(), ("north", "south"))
    desk.look()
    assert [started["run"] for started in desk.control.started] == ["r", "other"]
    assert desk.left() == ["other.json"]


def test_a_run_that_ends_while_it_is_looked_at_stands_as_it_stood(place: ServerPlace) -> None:
    desk = Ordered(place, RunStatus.FAILED)
    desk.look()
    with RoundStore.open(desk.store) as store:
        after = stores.state("r", 3)
        store.commit(stores.record(after), after, desk.order.id)  # it counts as running from here on

    def standing(carrier: int) -> Standing:
        with RoundStore.open(desk.store) as store:
            store.finish_run("r", RunStatus.FAILED)
        return Standing("finished", "completed", "")

    desk.control.standing = standing  # type: ignore[method-assign]
    desk.look()
    assert (place.runs / "r.failed").is_file()
    assert not (place.runs / "r.done").exists()
    assert desk.said[-1] == "run r: failed."


def test_a_damaged_note_does_not_keep_other_runs_orders_waiting(place: ServerPlace) -> None:
    desk = Ordered(place)
    ask_for(place, desk.store, "other", RunConfig(), ("north", "south"))
    with RoundStore.open(desk.store) as store:
        for number in range(1, 3):
            after = stores.state("other", number)
            store.commit(stores.record(after), after)
        store.finish_run("other", RunStatus.FINISHED)
        Registry(store).promote("other", 2, Actor("anna", "operator"), "try")
    (place.runs / "other.json").replace(place.runs / "other.done")
    (place.runs / "r.done").write_text("{")
    desk.look()
    assert desk.left() == ["other.json"]
