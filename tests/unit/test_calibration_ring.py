"""Rows that a person confirmed as normal set the next thresholds, are never trained on, and do no harm when broken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.agent.service import PlantAgent
from client.edge.alarm_files import place_order
from client.edge.alarm_values import Confirm
from client.edge.assembly import assemble
from client.edge.confirmed import FOLDER, Remembered
from client.edge.records import Notice, Record, Sample
from client.edge.settings import Settings
from server.coordinator import Coordinator
from server.rounds import RunState
from shared import ring
from shared.bundle.edge import EdgeBundle, read_edge_bundle
from shared.schema import SensorSchema
from shared.series import FloatArray, SiteData
from simulations.generate import generate
from tests.support.edge import Made, samples, trained
from tests.support.plants import Loopback, Memory, settings

SCHEMA = SensorSchema(tags=("LIT101", "FIT101"), period_s=1.0)
FOR_EVER = 1e12


def rows(count: int = 50, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32)


def head(first: float = 0.0, starts: tuple[int, ...] = (0,)) -> ring.Stretch:
    return ring.Stretch(columns=SCHEMA, first=first, last=first + 49, starts=starts, by="ann")


def remembered(folder: Path | None, most: int = 2**20) -> Remembered:
    return Remembered(SCHEMA, folder, most)


def fed(stage: Remembered, rows_TD: FloatArray, first: float = 0.0) -> None:
    for at, row_D in enumerate(rows_TD):
        stage.feed(Sample(first + at, row_D, at), None)


def confirm(stage: Remembered, first: float, last: float, alarmed: bool = False) -> tuple[Record, ...]:
    return stage.confirm(Confirm(first, last, "ann", "checked"), FOR_EVER, lambda _first, _last: alarmed)


# ---- the folder ------------------------------------------------------------------------------------------------------


def test_what_is_put_in_comes_out_oldest_first_and_has_a_name_of_its_own(tmp_path: Path) -> None:
    later, earlier = rows(seed=1), rows(seed=2)
    earlier[3, 1] = np.nan
    ring.add(tmp_path, head(1000.0, (0, 20)), later)
    alone = ring.read(tmp_path, SCHEMA)
    ring.add(tmp_path, head(10.0), earlier)
    found = ring.read(tmp_path, SCHEMA)
    np.testing.assert_array_equal(found.rows_TD, np.concatenate([earlier, later]))
    assert (found.starts, found.troubles) == ((0, 50, 70), ())
    assert len(found.id) == 64
    assert found.id != alone.id


def test_an_empty_ring_is_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        found = ring.read(folder, SCHEMA)
        assert (found.id, found.starts, found.rows_TD.shape) == ("", (), (0, 2))


def test_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = ring.add(tmp_path, head(), rows()).stat().st_size
    monkeypatch.setattr(ring, "MOST_BYTES", 3 * size + 50)
    for number in range(1, 6):
        ring.add(tmp_path, head(100.0 * number), rows(seed=number))
    np.testing.assert_array_equal(
        ring.read(tmp_path, SCHEMA).rows_TD, np.concatenate([rows(seed=number) for number in (3, 4, 5)])
    )


@pytest.mark.parametrize("keep", [0, 5, 40, 200, -1])
def test_a_file_that_was_cut_is_left_out_and_told(tmp_path: Path, keep: int) -> None:
    ring.add(tmp_path, head(0.0), rows())
    path = ring.add(tmp_path, head(500.0), rows(seed=1))
    path.write_bytes(path.read_bytes()[:keep])
    found = ring.read(tmp_path, SCHEMA)
    np.testing.assert_array_equal(found.rows_TD, rows())
    assert len(found.troubles) == 1
    assert path.name in found.troubles[0]


@pytest.mark.parametrize(
    "change",
    [{"starts": [5]}, {"starts": [0, 50]}, {"starts": [0, 9, 9]}, {"starts": []}, {"first": "x"}, {"more": 1}],
)
def test_a_head_that_does_not_fit_is_left_out_and_told(tmp_path: Path, change: dict[str, object]) -> None:
    path = ring.add(tmp_path, head(), rows())
    magic, text, numbers = path.read_bytes().split(b"\n", 2)
    path.write_bytes(b"\n".join([magic, json.dumps({**json.loads(text), **change}).encode(), numbers]))
    found = ring.read(tmp_path, SCHEMA)
    assert (len(found.rows_TD), len(found.troubles)) == (0, 1)


def test_changed_rows_and_those_of_another_plant_are_left_out(tmp_path: Path) -> None:
    path = ring.add(tmp_path, head(), rows())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "changed" in ring.read(tmp_path, SCHEMA).troubles[0]
    path.unlink()
    ring.add(tmp_path, head(), rows())
    assert "other columns" in ring.read(tmp_path, SensorSchema(tags=("A", "B"), period_s=1.0)).troubles[0]
    (tmp_path / "0-x.rows").mkdir()
    assert len(ring.read(tmp_path, SCHEMA).troubles) == 1


@pytest.mark.parametrize("shape", [(0, 2), (5, 3), (5,)])
def test_rows_that_are_no_stretch_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no stretch"):
        ring.add(tmp_path / "ring", head(), np.zeros(shape, np.float32))
    assert not (tmp_path / "ring").exists()


def test_a_recording_that_the_training_data_hold_is_left_out(tmp_path: Path) -> None:
    ring.add(tmp_path, head(0.0), rows(seed=1))
    ring.add(tmp_path, head(500.0), rows(seed=2))
    whole = ring.read(tmp_path, SCHEMA)
    assert ring.never_trained(whole, rows(200, seed=3)) is whole
    left = ring.never_trained(whole, np.concatenate([rows(200, seed=3), rows(seed=1)]))
    np.testing.assert_array_equal(left.rows_TD, rows(seed=2))
    assert left.starts == (0,)
    assert "is trained on 50 of them" in left.troubles[0]
    assert left.id not in ("", whole.id)


# ---- the edge --------------------------------------------------------------------------------------------------------


def test_confirmed_rows_enter_the_ring_and_others_do_not(tmp_path: Path) -> None:
    stage = remembered(tmp_path)
    fed(stage, rows(30))
    stage.heard(Notice(30.0, "gap", ""))
    fed(stage, rows(30, seed=1), first=100.0)
    (told,) = confirm(stage, 10.0, 109.0)
    assert isinstance(told, Notice)
    assert told.kind == "ring"
    assert told.text.startswith("30 rows that ann confirmed as normal")
    found = ring.read(tmp_path, SCHEMA)
    np.testing.assert_array_equal(found.rows_TD, np.concatenate([rows(30)[10:], rows(30, seed=1)[:10]]))
    assert found.starts == (0, 20)


def test_a_time_with_an_alarm_in_it_does_not_enter(tmp_path: Path) -> None:
    stage = remembered(tmp_path)
    fed(stage, rows())
    assert confirm(stage, 0.0, 49.0, alarmed=True) == ()
    assert stage.confirm(Confirm(0.0, 49.0, "ann"), 40.0, lambda _a, _b: False) == ()  # it is not over
    assert list(tmp_path.iterdir()) == []


def test_so_many_rows_are_remembered_and_no_more(tmp_path: Path) -> None:
    stage = remembered(tmp_path, most=8 * 20)
    fed(stage, rows(50))
    confirm(stage, 0.0, 100.0)
    np.testing.assert_array_equal(ring.read(tmp_path, SCHEMA).rows_TD, rows(50)[30:])
    (told,) = confirm(stage, 0.0, 5.0)
    assert isinstance(told, Notice)
    assert "none of the confirmed rows is remembered" in told.text


def test_a_clock_that_goes_back_makes_a_new_beginning(tmp_path: Path) -> None:
    stage = remembered(tmp_path)
    fed(stage, rows(20))
    fed(stage, rows(10, seed=1), first=5.0)
    confirm(stage, 0.0, 100.0)
    np.testing.assert_array_equal(ring.read(tmp_path, SCHEMA).rows_TD, rows(10, seed=1))


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    stage = remembered(tmp_path / "file" / "ring")
    fed(stage, rows())
    (told,) = confirm(stage, 0.0, 49.0)
    assert isinstance(told, Notice)
    assert told.kind == "trouble"


def test_without_a_state_folder_nothing_is_remembered() -> None:
    stage = remembered(None)
    fed(stage, rows())
    assert confirm(stage, 0.0, 49.0) == ()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return trained(tmp_path_factory.mktemp("ring") / "bundles")


def test_an_order_at_the_plant_fills_the_ring_of_a_running_scorer(made: Made, tmp_path: Path) -> None:
    whole = assemble(made.folder, Settings(), tmp_path)
    fed_samples = samples(made.site.train_TD[-60:])
    for sample in fed_samples:
        whole.engine.feed(sample)
    first, last = fed_samples[10].time, fed_samples[49].time
    place_order(tmp_path, Confirm(first, last, "ann", "walked through"))
    told = [one.text for one in whole.turn(fed_samples[-1].time) if isinstance(one, Notice) and one.kind == "ring"]
    whole.close()
    assert len(told) == 1
    found = ring.read(tmp_path / FOLDER, made.site.schema)
    np.testing.assert_array_equal(found.rows_TD, made.site.train_TD[-60:][10:50].astype(np.float32))


# ---- the agent -------------------------------------------------------------------------------------------------------


def published(site: SiteData, other: SiteData, home: Path) -> EdgeBundle:
    """A bundle after a round of training and calibration."""
    config = settings()
    agents = [PlantAgent(site, home), PlantAgent(other)]
    Coordinator(config, Loopback(agents), Memory()).run(RunState("test", config.digest))
    return read_edge_bundle(home / f"{site.name}.bundle")


def test_the_ring_sets_the_threshold_and_trains_nothing(tmp_path: Path) -> None:
    """Confirmed rows from a louder time: the threshold rises, the model's and the guard's bytes stay the same."""
    site, other = generate(2, 600, 0)
    louder_TD = (site.train_TD[-100:] + np.random.default_rng(0).normal(size=(100, site.schema.dim))).astype(np.float32)
    stretch = ring.Stretch(columns=site.schema, first=0.0, last=99.0, starts=(0, 50), by="ann")
    ring.add(tmp_path / "with" / f"{site.name}.ring", stretch, louder_TD)
    without, within = (published(site, other, tmp_path / name) for name in ("without", "with"))
    expected = ring.read(tmp_path / "with" / f"{site.name}.ring", site.schema).id

    assert within.graph == without.graph
    assert within.guard == without.guard
    assert within.preprocessor == without.preprocessor
    assert within.provenance.model == without.provenance.model
    assert within.provenance.holdout_loss == without.provenance.holdout_loss
    assert (without.threshold.ring, without.threshold.ring_size) == ("", 0)
    added = 2 * (50 - within.setup.window + 1)  # no window reaches from one recording to the next
    assert (within.threshold.ring, within.threshold.ring_size) == (expected, added)
    assert within.threshold.calibration_size == without.threshold.calibration_size + added
    assert within.threshold.value > without.threshold.value
    beside = within.calibration.beside_guard
    assert beside is not None
    assert beside.ring == expected
    assert within.calibration.distribution.size == within.threshold.calibration_size


def test_confirmed_rows_that_are_trained_on_set_nothing(tmp_path: Path) -> None:
    """Somebody exported the confirmed time together with the training data."""
    site, other = generate(2, 600, 0)
    stretch = ring.Stretch(columns=site.schema, first=0.0, last=99.0, starts=(0,), by="ann")
    ring.add(tmp_path / f"{site.name}.ring", stretch, np.asarray(site.train_TD[100:200], np.float32))
    assert published(site, other, tmp_path).threshold.ring == ""


def test_a_broken_ring_stops_no_calibration(tmp_path: Path) -> None:
    site, other = generate(2, 600, 0)
    folder = tmp_path / f"{site.name}.ring"
    folder.mkdir()
    (folder / "0-x.rows").write_bytes(b"nonsense")
    stretch = ring.Stretch(columns=site.schema, first=0.0, last=1.0, starts=(0,), by="ann")
    short = replace(site).train_TD[:3].astype(np.float32) + 1  # shorter than a window
    ring.add(folder, stretch, short)
    assert published(site, other, tmp_path).threshold.ring == ""
