"""New bundles on a running scorer: tried in shadow, adopted between two samples, rolled back; whatever lies there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from client.edge import state as disk
from client.edge.engine import Engine, Model
from client.edge.examine import Both, examine_apart, faulty
from client.edge.fault_stage import Faults
from client.edge.gates import Figures, SwapSettings
from client.edge.keeper import Keeper
from client.edge.link import read_link
from client.edge.records import Notice, Record, Sample, Scored
from client.edge.state import State, read_state
from client.edge.swap import Candidate, Go, Offer, Swapping, SwapRecord, Trial
from client.edge.swap_cli import asked, chosen
from shared.bundle.edge import read_edge_bundle
from shared.bundle.folder import current, point, versions
from shared.bundle.keys import own_key
from shared.bundle.parts import Provenance
from shared.bundle.whole import Live, publish, read_bundle
from shared.errors import BundleInvalid, CrossplantError, FileTrouble, InvalidConfig
from shared.sensor_limits import SensorLimits
from shared.series import FloatArray
from tests.support.edge import Fixed, Made, samples, trained

FAST = SwapSettings(look_s=0.05, shadow_windows=128, effective=1, probation_windows=128, confidence=0.999)
FIGURES = Figures(loss=1.0, prepared="a", threshold=3.0, quantiles=(-1.0, 0.0, 2.9), alpha=0.01, modes=3)


def agreed(_now: Path, _new: Path, _int8: bool) -> Both:
    """An examination that finds nothing: the child process has its own tests."""
    return Both(new=FIGURES, now=FIGURES)


def held_out(made: Made) -> FloatArray:
    """Normal rows that the model was not trained on."""
    return made.site.train_TD[-100:]


def publish_again(
    made: Made,
    folder: Path | None = None,
    guard: bytes | None = b"",
    limits: SensorLimits | None = None,
    **provenance: object,
) -> str:
    """Publish the newest bundle once more, as of the next round."""
    whole, edge = read_bundle(made.folder), read_edge_bundle(made.folder)
    told = structs.replace(whole.provenance, **{"round": whole.provenance.round + 1, **provenance})
    guard = edge.guard if guard == b"" else guard
    live = Live(edge.graph, edge.calibration, edge.probe, None, guard, limits=limits or edge.limits)
    key = own_key(made.key.with_suffix(".key"))
    return publish(replace(whole, provenance=told), live, folder or made.folder, key)


@dataclass
class Bench:
    """A scorer without its process."""

    made: Made
    home: Path
    keeper: Keeper
    engine: Engine
    at: int = 0

    def run(self, count: int, turn_every: int = 16) -> list[Record]:
        """Feed normal rows, with a look of the keeper in between; every sample gives a score once windows are full."""
        rows_TD = held_out(self.made)
        records: list[Record] = []
        for _ in range(count):
            row_D = rows_TD[self.at % len(rows_TD)]
            records += self.engine.feed(Sample(1.7e9 + self.at * 60, row_D, self.at))
            self.at += 1
            if self.at % turn_every == 0:
                self.look()
        return records

    def until(self, event: str, most: int = 4000) -> list[Record]:
        """Run until something happened to the models; all records up to then."""
        records: list[Record] = []
        while event not in events(records[-50:]):
            assert len(records) < most, swaps(records)
            records += self.run(8, turn_every=8)
        return records

    def look(self) -> None:
        """A look of the keeper, at new bundles too."""
        self.keeper._looked = -1e9
        self.keeper.turn()

    @property
    def current(self) -> str:
        """What the disk names as in force."""
        state = read_state(self.home)
        assert state is not None
        return state.current


def bench(made: Made, home: Path, settings: SwapSettings = FAST) -> Bench:
    keeper = Keeper(made.folder, home, settings, made.key, examine=agreed)
    return Bench(made, home, keeper, Engine(keeper.model, (), keeper.shadow))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return trained(tmp_path / "agent")


@pytest.fixture
def running(made: Made, tmp_path: Path) -> Iterator[Bench]:
    found = bench(made, tmp_path / "state")
    yield found
    found.keeper.close()


@pytest.fixture
def doubtful(tmp_path: Path) -> Iterator[Bench]:
    """Without a judge, whose threshold rests on all normal rows, there are too few windows to promise a rate."""
    found = bench(trained(tmp_path / "doubtful", evidence=False), tmp_path / "state")
    yield found
    found.keeper.close()


def swaps(records: list[Record]) -> list[SwapRecord]:
    return [record for record in records if isinstance(record, SwapRecord)]


def events(records: list[Record]) -> list[str]:
    return [record.event for record in swaps(records)]


# ---- adoption ------------------------------------------------------------------------------------------------------


def test_new_bundle_is_tried_adopted_and_confirmed_without_losing_a_sample(running: Bench) -> None:
    old = running.current
    running.run(40)
    new = publish_again(running.made)
    records = running.until("confirmed")
    assert events(records) == ["shadow", "adopted", "confirmed"]
    scores = [record for record in records if isinstance(record, Scored)]
    assert [score.number for score in scores] == list(range(40, running.at))
    marks = [score.bundle for score in scores]
    turn = marks.index(new[:12])
    assert marks == [old[:12]] * turn + [new[:12]] * (len(marks) - turn)
    state = read_state(running.home)
    assert state is not None
    assert (state.current, state.previous, state.probation, state.shadow) == (new, old, False, "")


def test_adopted_models_first_score_is_that_of_a_scorer_that_saw_everything(running: Bench) -> None:
    running.run(40)
    publish_again(running.made)
    scores = {s.number: s.score for s in running.until("adopted") + running.run(50) if isinstance(s, Scored)}
    alone = bench(running.made, running.home.with_name("alone"))
    rows_TD = held_out(running.made)
    due = [alone.keeper.model.scorer.feed(Sample(0.0, rows_TD[i % len(rows_TD)], i)) for i in range(running.at)]
    for number, score in scores.items():
        assert score == pytest.approx(due[number].score, abs=1e-9)  # type: ignore[union-attr]


def test_shadow_ratio_stands_in_the_scores_while_it_is_tried(running: Bench) -> None:
    running.run(40)
    publish_again(running.made)
    scores = [s for s in running.run(100) if isinstance(s, Scored)]
    ratio = scores[-1].score / scores[-1].threshold
    assert scores[-1].shadow == pytest.approx(ratio, rel=0.02)  # The one in use has settled by a few scores more.


def test_gap_restarts_the_shadows_windows_too(running: Bench) -> None:
    publish_again(running.made)
    running.run(40)
    running.engine.heard(Notice(0.0, "gap", "a hole"))
    scores = [s for s in running.run(9) if isinstance(s, Scored)]
    assert [s.shadow is not None for s in scores] == [True, True]  # W = 8: windows 8 and 9, of both models


def test_candidate_that_floods_is_refused_and_never_tried_again(running: Bench) -> None:
    running.run(20)
    bad = Candidate("f" * 64, Model(Fixed([5.0] * 2000, digest="f" * 64)), 0.01, (-1.0, 1.0))
    running.keeper.shadow.orders.put(Offer(bad))
    records = running.run(200)
    assert events(records) == ["shadow", "refused"]
    assert swaps(records)[1].told
    running.look()
    state = read_state(running.home)
    assert state is not None
    assert state.is_refused("f" * 64, "")
    assert running.engine.model.scorer.digest == state.current


def test_candidate_that_raises_ends_its_trial_and_the_scores_go_on(running: Bench) -> None:
    class Broken(Fixed):
        def feed(self, sample: Sample) -> Scored | None:
            raise RuntimeError("no such operator")

    running.run(20)
    running.keeper.shadow.orders.put(Offer(Candidate("f" * 64, Model(Broken([])), 0.01, (-1.0, 1.0))))
    records = running.run(20)
    assert "no such operator" in swaps(records)[1].told
    assert sum(isinstance(record, Scored) for record in records) == 20


# ---- probation and rollback ----------------------------------------------------------------------------------------


def stage(after: int) -> tuple[Engine, Swapping]:
    """An engine whose second model floods after so many samples."""
    good = Candidate("a" * 64, Model(Fixed([0.0] * 5000, digest="a" * 64)), 0.01, (-1.0, 1.0))
    turning = Candidate("b" * 64, Model(Fixed([0.0] * after + [9.0] * 5000, digest="b" * 64)), 0.01, (-1.0, 1.0))
    swapping = Swapping(good, structs.replace(FAST, confidence=0.99))
    swapping.orders.put(Offer(turning))
    return Engine(good.model, (), swapping), swapping


def feed(engine: Engine, first: int, count: int) -> list[Record]:
    return [r for s in samples(np.zeros((count, 1), np.float32), first=first) for r in engine.feed(s)]


def test_model_that_turns_bad_on_probation_is_rolled_back_by_itself() -> None:
    engine, swapping = stage(after=200)
    feed(engine, 0, 140)
    passed = swapping.judged.get_nowait()
    assert (passed.what, passed.digest) == ("passed", "b" * 64)
    swapping.orders.put(Go("b" * 64))
    records = feed(engine, 140, 200)
    assert [r.event for r in records if isinstance(r, SwapRecord)] == ["adopted", "rolled back"]
    assert swapping.judged.get_nowait().what == "rolled back"
    assert engine.model.scorer.digest == "a" * 64
    marks = [r.bundle[0] for r in records if isinstance(r, Scored)]
    assert len(marks) == 200  # none lost
    assert "".join(marks).strip("a").strip("b") == ""  # a..ab..ba..a


def test_nothing_goes_live_before_it_is_written_down() -> None:
    engine, _ = stage(after=5000)
    feed(engine, 0, 1000)
    assert engine.model.scorer.digest == "a" * 64


def test_rollback_by_hand_goes_back_and_does_not_return(running: Bench) -> None:
    old = running.current
    running.run(40)
    new = publish_again(running.made)
    running.until("confirmed")
    assert running.current == new
    disk.ask_rollback(running.home, old)
    records = running.run(60)
    assert events(records) == ["shadow", "rolled back"]
    assert sum(isinstance(record, Scored) for record in records) == 60
    assert running.current == old == running.engine.model.scorer.digest
    assert not (running.home / disk.REQUEST).exists()
    running.run(200)  # The agent's folder still names the new one.
    assert running.current == old


def test_rollback_by_hand_during_probation_takes_the_warm_model_at_once(running: Bench) -> None:
    old = running.current
    running.run(40)
    publish_again(running.made)
    running.until("adopted")
    disk.ask_rollback(running.home, old)
    running.look()
    records = running.run(20, turn_every=1)
    assert events(records) == ["rolled back"]
    assert running.current == old


def test_newer_bundle_is_tried_after_a_rollback_by_hand(running: Bench) -> None:
    old = running.current
    publish_again(running.made)
    running.until("confirmed")
    disk.ask_rollback(running.home, old)
    running.until("rolled back")
    third = publish_again(running.made)
    running.until("adopted")
    assert running.current == third


def test_rollback_to_what_is_not_there_is_said_and_dropped(running: Bench) -> None:
    disk.ask_rollback(running.home, "e" * 64)
    running.look()
    records = running.run(1)
    assert events(records) == ["refused"]
    assert not (running.home / disk.REQUEST).exists()


@pytest.mark.parametrize("text", [b"", b"[]", b'{"to": 5}', b'{"to": "../../x"}', b"\xff" * 100])
def test_request_that_is_none_is_removed(running: Bench, text: bytes) -> None:
    (running.home / disk.REQUEST).write_bytes(text)
    running.look()
    assert not (running.home / disk.REQUEST).exists()


def test_command_finds_the_version_by_its_beginning(running: Bench) -> None:
    old = running.current
    with pytest.raises(CrossplantError, match="no bundle before"):
        chosen(running.home, "")
    new = publish_again(running.made)
    running.until("confirmed")
    assert chosen(running.home, "") == old
    assert chosen(running.home, new[:12]) == new
    with pytest.raises(CrossplantError, match="no bundle"):
        chosen(running.home, "12345678")
    asked(running.home, "")
    assert disk.asked_rollback(running.home) == old


# ---- what is refused -----------------------------------------------------------------------------------------------


def spoil(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))


def cut(folder: Path, name: str) -> None:
    os.truncate(folder / name, 100)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: spoil(folder, "graph.onnx"), "graph.onnx was changed"),
        (lambda folder: cut(folder, "model.safetensors"), "model.safetensors was changed"),
        (lambda folder: cut(folder, "bundle.json"), "bundle.json"),
        (lambda folder: (folder / "signature.json").unlink(), "signature.json"),
        (lambda folder: (folder / "probe.safetensors").unlink(), "probe.safetensors"),
        (lambda folder: shutil.rmtree(folder), "cannot be read"),
    ],
)
def test_damaged_bundle_is_refused_once_and_the_current_one_scores_on(
    running: Bench, damage: object, told: str
) -> None:
    old = running.current
    running.run(20)
    new = publish_again(running.made)
    damage(running.made.folder / new)  # type: ignore[operator]
    records = running.run(100)
    assert events(records) == ["refused"]
    assert told in swaps(records)[0].told
    assert sum(isinstance(record, Scored) for record in records) == 100
    assert running.current == old
    assert disk.copies(running.home) == (old,)


def test_bundle_that_is_mended_is_looked_at_again(running: Bench) -> None:
    new = publish_again(running.made)
    kept = (running.made.folder / new / "graph.onnx").read_bytes()
    spoil(running.made.folder / new, "graph.onnx")
    assert events(running.run(40)) == ["refused"]
    (running.made.folder / new / "graph.onnx").write_bytes(kept)
    running.until("adopted")


def test_bundle_of_another_signer_is_refused(running: Bench, tmp_path: Path) -> None:
    other = Made(running.made.folder, tmp_path / "other.pub", running.made.site, running.made.config)
    publish_again(other)
    assert "is signed by" in swaps(running.run(40))[0].told


def test_older_bundle_put_in_front_is_refused(running: Bench) -> None:
    first = running.current
    second = publish_again(running.made)
    running.until("confirmed")
    assert running.current == second
    shutil.copytree(running.home / "models" / first, running.made.folder / first, dirs_exist_ok=True)
    point(running.made.folder, first)
    told = swaps(running.run(40))[0].told
    assert "older than the one in use" in told


def test_bundle_of_an_older_round_is_refused(running: Bench) -> None:
    publish_again(running.made, round=0)
    assert "older" in swaps(running.run(40))[0].told


def test_bundle_for_other_columns_is_refused(running: Bench) -> None:
    whole, edge = read_bundle(running.made.folder), read_edge_bundle(running.made.folder)
    schema = structs.replace(whole.schema, tags=tuple(reversed(whole.schema.tags)))
    live = Live(edge.graph, edge.calibration, edge.probe, limits=structs.replace(edge.limits, tags=schema.tags))
    publish(replace(whole, schema=schema), live, running.made.folder, own_key(running.made.key.with_suffix(".key")))
    assert "another order" in swaps(running.run(40))[0].told


def test_bundle_of_an_older_format_is_refused(running: Bench) -> None:
    new = publish_again(running.made)
    path = running.made.folder / new / "bundle.json"
    path.write_text(path.read_text().replace('"format": 4', '"format": 2'))
    assert "older version wrote" in swaps(running.run(40))[0].told


@pytest.mark.parametrize("data", [b"", b"garbage\n", b"\0" * 1000, b"f" * 64 + b"\n"])
def test_damaged_pointer_is_told_once(running: Bench, data: bytes) -> None:
    (running.made.folder / "current").write_bytes(data)
    assert events(running.run(100)) == ["refused"]


def test_pipe_in_a_files_place_does_not_hold_the_keeper(running: Bench) -> None:
    new = publish_again(running.made)
    (running.made.folder / new / "graph.onnx").unlink()
    os.mkfifo(running.made.folder / new / "graph.onnx")
    assert "no file" in swaps(running.run(40))[0].told


def test_gates_at_rest_refuse_with_their_reasons(made: Made, tmp_path: Path) -> None:
    def worse(_now: Path, _new: Path, _int8: bool) -> Both:
        return Both(new=structs.replace(FIGURES, loss=2.0, latency_ms=50.0), now=FIGURES)

    keeper = Keeper(made.folder, tmp_path / "state", FAST, made.key, examine=worse)
    found = Bench(made, tmp_path / "state", keeper, Engine(keeper.model, (), keeper.shadow))
    publish_again(made)
    records = swaps(found.run(200))
    assert [record.event for record in records] == ["refused"]
    assert "held-out loss" in records[0].told
    assert "latency" in records[0].told


# ---- examined in a child process -------------------------------------------------------------------------------------


def test_child_examines_both_bundles(made: Made) -> None:
    first = made.folder / current(made.folder)
    second = made.folder / publish_again(made)
    both = examine_apart(first, second)
    assert structs.replace(both.new, latency_ms=0) == structs.replace(both.now, latency_ms=0)
    assert both.new.faults == 4 * made.site.schema.dim
    assert 0 < both.new.latency_ms < 100


def test_child_refuses_a_graph_that_scores_otherwise(made: Made) -> None:
    first = made.folder / current(made.folder)
    whole, edge = read_bundle(made.folder), read_edge_bundle(made.folder)
    probe = replace(edge.probe, scores_M=edge.probe.scores_M + 0.5)
    key = own_key(made.key.with_suffix(".key"))
    live = Live(edge.graph, edge.calibration, probe, None, edge.guard, limits=edge.limits)
    second = publish(whole, live, made.folder, key)
    with pytest.raises(BundleInvalid, match="does not score its own probe"):
        examine_apart(first, made.folder / second)


def test_child_that_dies_refuses_the_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid):
        examine_apart(tmp_path / "none", tmp_path / "nothing")


def test_faults_are_the_same_every_time_and_leave_the_probe_alone(made: Made) -> None:
    rows_RD = made.read().probe.rows_RD
    before = rows_RD.copy()
    first, second = list(faulty(rows_RD, 8)), list(faulty(rows_RD, 8))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(rows_RD, before)
    assert all(part.shape == (16, 11) for part in first)


# ---- what outlives the process -------------------------------------------------------------------------------------


def test_restart_goes_on_with_what_was_in_force(running: Bench) -> None:
    publish_again(running.made)
    running.until("confirmed")
    new = running.current
    shutil.rmtree(running.made.folder)  # The agent's folder is gone for a month.
    again = bench(running.made, running.home)
    assert again.keeper.model.scorer.digest == new
    assert len([r for r in again.run(20) if isinstance(r, Scored)]) == 13


def test_restart_during_probation_stays_on_probation(running: Bench) -> None:
    old = running.current
    publish_again(running.made)
    running.until("adopted")
    again = bench(running.made, running.home)
    assert again.keeper.state.probation
    assert events(again.until("confirmed")) == ["confirmed"]
    assert again.keeper.state.previous == old


def test_process_that_keeps_ending_on_probation_goes_back_to_the_model_before(running: Bench) -> None:
    old = running.current
    publish_again(running.made)
    running.until("adopted")
    digests = [bench(running.made, running.home).keeper.model.scorer.digest for _ in range(4)]
    assert digests[:3] == [digests[0]] * 3
    assert digests[3] == old


def test_damaged_copy_of_the_current_bundle_falls_back_to_the_one_before(running: Bench) -> None:
    old = running.current
    new = publish_again(running.made)
    running.until("confirmed")
    spoil(running.home / "models" / new, "graph.onnx")
    again = bench(running.made, running.home)
    assert again.keeper.model.scorer.digest == old
    notices = [r for r in again.run(1) if isinstance(r, Notice)]
    assert any("cannot be used any more" in notice.text for notice in notices)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format": 9}', b"\xff"])
def test_damaged_state_file_begins_with_the_agents_bundle(made: Made, tmp_path: Path, data: bytes) -> None:
    home = tmp_path / "state"
    home.mkdir()
    (home / disk.FILE).write_bytes(data)
    found = bench(made, home)
    assert found.current == current(made.folder)
    assert any(isinstance(r, Notice) and r.kind == "trouble" for r in found.run(1))


def test_state_folder_of_another_plant_is_refused(running: Bench, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    publish_again(running.made, other, site="plant-9")
    with pytest.raises(InvalidConfig, match="state folder of"):
        Keeper(other, running.home, FAST, running.made.key, examine=agreed)


def test_full_disk_delays_a_swap_and_loses_nothing(running: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise FileTrouble("no space left on device.")

    running.run(20)
    old, new = running.current, publish_again(running.made)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_state", full)
        records = running.run(700)
        assert "adopted" not in events(records)
        assert running.current == old == running.engine.model.scorer.digest
    running.until("adopted")
    assert running.current == new


def test_kill_at_any_moment_leaves_one_of_the_two(made: Made, tmp_path: Path) -> None:
    """A process that swaps is killed at several moments; what is left scores."""
    script = (  # as lean as a scorer: this module's own imports would take seconds a kill
        "import sys; from pathlib import Path\n"
        "from client.edge.engine import Engine\n"
        "from client.edge.examine import Both\n"
        "from client.edge.gates import Figures, SwapSettings\n"
        "from client.edge.keeper import Keeper\n"
        "from client.edge.records import Sample\n"
        "from shared.bundle.edge import read_edge_bundle\n"
        "from shared.bundle.trust import Trust\n"
        "folder, key, home = map(Path, sys.argv[1:])\n"
        f"agreed = lambda *_: Both(new={FIGURES!r}, now={FIGURES!r})\n"
        f"keeper = Keeper(folder, home, {FAST!r}, key, examine=agreed)\n"
        "rows = read_edge_bundle(folder, Trust(key)).probe.rows_RD\n"
        "engine = Engine(keeper.model, (), keeper.shadow)\n"
        "print('up', flush=True)\n"
        "for number in range(100000):\n"
        "    engine.feed(Sample(0.0, rows[number % len(rows)], number))\n"
        "    if number % 8 == 0:\n"
        "        keeper._looked = -1e9; keeper.turn()\n"
    )
    home, first = tmp_path / "state", current(made.folder)
    second = publish_again(made)
    point(made.folder, first)
    Keeper(made.folder, home, FAST, made.key, examine=agreed).close()
    point(made.folder, second)
    for pause in (0.02, 0.15, 0.4):
        command = [sys.executable, "-c", script, str(made.folder), str(made.key), str(home)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert child.stdout is not None
        with child.stdout:
            child.stdout.readline()
            time.sleep(pause)
            child.kill()
            child.wait()
        state = read_state(home)
        assert state is not None
        assert state.current in (first, second)
        assert read_edge_bundle(home / "models" / state.current, made.trust).digest == state.current


# ---- the line to the server ----------------------------------------------------------------------------------------


def test_lost_link_is_told_and_scoring_goes_on(running: Bench) -> None:
    path = running.home.parent / "link.json"
    running.keeper._settings = structs.replace(running.keeper._settings, link=str(path))
    note = {"state": "lost", "why": "no answer.", "mend": "", "since": "2026-11-22T10:00:00+00:00"}
    path.write_text(json.dumps(note))
    running.look()
    records = running.run(20)
    notices = [r for r in records if isinstance(r, Notice)]
    assert [n.kind for n in notices] == ["link"]
    assert "lost: no answer." in notices[0].text
    standing = disk.read_table(running.home / disk.STANDING)
    assert standing is not None
    assert standing["link"] == {"state": "lost", "since": 1795341600.0, "told": "no answer."}
    assert sum(isinstance(r, Scored) for r in records) == 13


@pytest.mark.parametrize("data", [b"", b"[]", b'{"state": 1}', b'{"state": "x", "since": "never"}'])
def test_damaged_note_is_unknown(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "link.json").write_bytes(data)
    found = read_link(tmp_path / "link.json", 0.0)
    assert found is not None
    assert found.state == "unknown"


def test_relay_that_fell_silent_does_not_count_as_connected(tmp_path: Path) -> None:
    path = tmp_path / "link.json"
    path.write_text(json.dumps({"state": "connected", "why": "", "mend": "", "since": "2026-11-22T10:00:00+00:00"}))
    touched = path.stat().st_mtime
    assert read_link(path, touched + 10).state == "connected"  # type: ignore[union-attr]
    assert read_link(path, touched + 1000).state == "silent"  # type: ignore[union-attr]


def test_provenance_is_what_the_page_shows(running: Bench) -> None:
    assert isinstance(running.keeper.bundle.provenance, Provenance)
    assert versions(running.made.folder) == (running.current,)


# ---- what it costs -------------------------------------------------------------------------------------------------


class Following(Fixed):
    """A scorer that can take a sample without scoring it."""

    followed = 0

    def follow(self, sample: Sample) -> None:
        self.followed += 1


def test_shadow_that_is_too_slow_scores_every_nth_sample_only() -> None:
    live = Candidate("a" * 64, Model(Fixed([0.0] * 500, digest="a" * 64)), 0.01, (-1.0, 1.0))
    slow = Following([0.0] * 500, digest="b" * 64)
    swapping = Swapping(live, FAST)
    swapping.orders.put(Offer(Candidate("b" * 64, Model(slow), 0.01, (-1.0, 1.0), every=4)))
    records = feed(Engine(live.model, (), swapping), 0, 401)
    shadowed = [record for record in records if isinstance(record, Scored) and record.shadow is not None]
    assert (len(shadowed), slow.followed) == (100, 300)


def test_edge_imports_nothing_heavy_for_a_swap() -> None:
    script = (
        "import sys, client.edge.keeper, client.edge.examine, client.edge.swap_cli, client.edge.page.server\n"
        "print(sorted({'torch', 'flwr', 'opacus', 'pydantic', 'river', 'cryptography', 'polars'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


# ---- limits of sensors ---------------------------------------------------------------------------------------------


def test_sensors_are_judged_by_the_limits_of_the_bundle_in_force(running: Bench) -> None:
    old = running.keeper.bundle.limits
    stage = Faults(old)
    running.engine = Engine(running.keeper.model, (stage,), running.keeper.shadow)
    running.run(40)
    publish_again(running.made, limits=structs.replace(old, low=tuple(one - 1.0 for one in old.low)))
    records = running.until("adopted")
    assert notices(records) == [("limits", swaps(records)[-1].time)], "with the swap, for the next sample"
    assert stage._limits.low == tuple(one - 1.0 for one in old.low)
    assert notices(running.run(1)) == []
    running.until("confirmed")
    disk.ask_rollback(running.home, disk_state(running).previous)
    running.until("rolled back")
    assert stage._limits.low == old.low


def notices(records: list[Record]) -> list[tuple[str, float]]:
    return [(record.kind, record.time) for record in records if isinstance(record, Notice)]


# ---- uncalibrated --------------------------------------------------------------------------------------------------


def disk_state(running: Bench) -> State:
    state = read_state(running.home)
    assert state is not None
    return state


def test_state_says_from_the_start_why_the_rate_is_not_known(running: Bench) -> None:
    assert disk_state(running).uncalibrated.startswith("plant-1 has ")
    assert "too few for a false alarm rate" in disk_state(running).uncalibrated


def test_model_adopted_on_too_little_is_called_uncalibrated_in_its_record_and_in_the_state(doubtful: Bench) -> None:
    publish_again(doubtful.made)
    records = doubtful.until("adopted")
    adopted = swaps(records)[-1]
    assert "no gate failed; on probation; UNCALIBRATED: " in adopted.told
    state = disk_state(doubtful)
    assert "held-out alarms: " in state.doubt  # `FIGURES` has none that were unseen.
    assert "alarm rate: " in state.doubt
    assert state.doubt in state.uncalibrated
    assert [check.name for check in state.events[-1].checks if check.weak] == ["alarm rate"]


def test_doubt_outlives_a_restart_and_ends_with_a_rollback(doubtful: Bench) -> None:
    publish_again(doubtful.made)
    doubtful.until("confirmed")
    doubtful.look()
    kept = disk_state(doubtful)
    assert kept.doubt.startswith("alarm rate: ")
    doubtful.keeper.close()
    again = bench(doubtful.made, doubtful.home)
    assert disk_state(again) == kept
    disk.ask_rollback(again.home, kept.previous)
    again.until("rolled back")
    assert disk_state(again).doubt == ""
    assert disk_state(again).uncalibrated.startswith("plant-1 has ")
    again.keeper.close()


def test_doubt_of_the_model_before_comes_back_with_it(doubtful: Bench) -> None:
    publish_again(doubtful.made)
    doubtful.until("confirmed")
    doubtful.look()
    doubted = disk_state(doubtful)
    publish_again(doubtful.made)
    doubtful.until("adopted")
    disk.ask_rollback(doubtful.home, doubted.current)
    doubtful.until("rolled back")
    assert disk_state(doubtful).current == doubted.current
    assert disk_state(doubtful).doubt == doubted.doubt != ""


def test_model_chosen_by_hand_from_the_agents_folder_was_asked_by_no_gate(running: Bench) -> None:
    first = running.current
    for _ in range(2):
        publish_again(running.made)
        running.until("confirmed")
        running.look()
    disk.ask_rollback(running.home, first)
    running.until("rolled back")
    assert disk_state(running).uncalibrated.endswith("it was chosen by hand, and no gate was asked")


def test_state_of_a_bundle_with_enough_data_says_nothing(
    running: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("client.edge.keeper.lacking", lambda _bundle: "")
    keeper = Keeper(running.made.folder, tmp_path / "other", FAST, running.made.key, examine=agreed)
    assert keeper.state.uncalibrated == ""
    keeper.close()


def test_probation_that_nobody_could_judge_is_not_told_as_a_success() -> None:
    engine, shadow = stage(1)
    feed(engine, 0, 20)
    shadow._trial = Trial(Candidate("2" * 64, Model(Broken([])), 0.01, (-1.0, 1.0)), "former", shadow._live)
    (record,) = swaps(feed(engine, 20, 1))
    assert record.event == "confirmed"
    assert "UNCALIBRATED: alarm rate: the former model fails" in record.told


class Broken(Fixed):
    """A model that fails at every sample."""

    def feed(self, sample: Sample) -> Scored | None:
        raise RuntimeError("no graph")
