"""Twins on disk: official files that the loader reads back unchanged, all of them or none."""

import csv
import errno
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.random import default_rng
from xlsxwriter.exceptions import FileCreateError

from client.ingest.base import load
from shared.errors import FileTrouble, InvalidConfig, RunDirectoryInUse, UnknownName
from simulations.twin import base
from simulations.twin import make as making
from simulations.twin.make import EVENTS, as_site, design_ranges, make, simulate
from simulations.twin.recording import Layout, Recording, labels
from simulations.twin.script import Event
from simulations.twin.swat import TWIN, files
from simulations.twin.swat.plant import REFERENCE

DAYS = 0.06


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make(2, DAYS, "swat", 7, tmp_path_factory.mktemp("made") / "out")


def recording(begin: datetime, seconds: int, *events: Event) -> Recording:
    run = TWIN.run(REFERENCE, begin, seconds, events, default_rng(3))
    return replace(run, labels_T=labels(seconds, events))


def test_files_read_back_unchanged(made: list[Path]) -> None:
    assert [folder.name for folder in made] == ["plant-1", "plant-2"]
    for number, folder in enumerate(made, 1):
        normal, attack = simulate(number, DAYS, "swat", 7)
        (site,) = load("swat", folder)
        assert site.train_TD.tobytes() == normal.values_TD.tobytes()
        assert site.test_TD.tobytes() == attack.values_TD.tobytes()
        assert site.labels_T is not None
        assert np.array_equal(site.labels_T, attack.labels_T)
        assert site.schema == as_site("x", normal, attack).schema
        assert (site.train_starts, site.test_starts) == ((0,), (0,))


def test_sheets_read_back_unchanged(tmp_path: Path) -> None:
    normal = recording(TWIN.attack_begins - timedelta(seconds=400), 400)
    attack = recording(TWIN.attack_begins, 300, Event("spoof", "LIT101", 100, 200, 700.0))
    TWIN.write(tmp_path, normal, attack, xlsx=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{files.ATTACK}.xlsx", f"{files.NORMAL}.xlsx"]
    (site,) = load("swat", tmp_path)
    assert site.train_TD.tobytes() == normal.values_TD.tobytes()
    assert site.test_TD.tobytes() == attack.values_TD.tobytes()
    assert site.labels_T is not None
    assert np.array_equal(site.labels_T, attack.labels_T)


def test_the_files_look_as_issued(made: list[Path]) -> None:
    normal = (made[0] / "SWaT_Dataset_Normal_v1.csv").read_text(encoding="ascii").splitlines()
    attack = (made[0] / "SWaT_Dataset_Attack_v0.csv").read_text(encoding="ascii").splitlines()
    stages, names = normal[0].split(","), normal[1].split(",")
    assert [cell for cell in stages if cell] == ["P1", "P2", "P3", "P4", "P5", "P6"]
    assert (stages[0], stages[1]) == ("", "P1")
    blanked = [name for name in names if name.startswith(" ")]
    assert blanked == [" Timestamp", " MV101", " AIT201", " MV201", " P201", " P202", " P204", " MV303"]
    assert (len(names), names[-1]) == (53, "Normal/Attack")
    assert normal[-1].startswith(" 28/12/2015 9:59:59 AM,")
    assert attack[2].startswith(" 28/12/2015 10:00:00 AM,")
    assert {row.rsplit(",", 1)[1] for row in normal[2:]} == {"Normal"}
    assert {row.rsplit(",", 1)[1] for row in attack[2:]} == {"Normal", "Attack"}
    assert len(normal) - 2 == round(DAYS * 86_400)
    assert len(attack) - 2 == 43_200


def test_events_are_listed_as_labelled(made: list[Path]) -> None:
    _, attack = simulate(1, DAYS, "swat", 7)
    with (made[0] / EVENTS).open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(attack.events) >= 4
    for row, event in zip(rows, attack.events, strict=True):
        assert (row["target"], row["kind"]) == (event.target, event.kind)
        begin = datetime.fromisoformat(row["start"]) - TWIN.attack_begins
        end = datetime.fromisoformat(row["end"]) - TWIN.attack_begins
        assert (begin.total_seconds(), end.total_seconds()) == (event.first_s, event.end_s)
        assert (int(row["first_row"]), int(row["end_row"])) == (event.first_s, event.end_s)
    assert np.array_equal(labels(43_200, attack.events), attack.labels_T)


def test_seeds_and_numbers_give_plants_of_their_own(made: list[Path]) -> None:
    one, two = (simulate(number, DAYS, "swat", 7)[0].values_TD for number in (1, 2))
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, simulate(1, DAYS, "swat", 8)[0].values_TD)
    assert np.array_equal(one, simulate(1, DAYS, "swat", 7)[0].values_TD)


def test_the_attack_run_follows_at_once() -> None:
    normal, attack = simulate(1, DAYS, "swat", 7)
    assert normal.begin + timedelta(seconds=len(normal.values_TD)) == attack.begin == TWIN.attack_begins
    level = np.concatenate([normal.values_TD[-30:, 1], attack.values_TD[:30, 1]])
    assert np.abs(np.diff(level)).max() < 3


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    make(2, 0.05, "swat", 0, tmp_path / "out", progress=lambda done, plants: told.append((done, plants)))
    assert told == [(1, 2), (2, 2)]


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunDirectoryInUse, match="not an empty folder"):
        make(1, DAYS, "swat", 0, tmp_path)
    with pytest.raises(RunDirectoryInUse):
        make(1, DAYS, "swat", 0, tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert make(1, 0.05, "swat", 0, out) == [out / "plant-1"]
    assert sorted(path.name for path in (out / "plant-1").iterdir()) == sorted(
        [EVENTS, f"{files.ATTACK}.csv", f"{files.NORMAL}.csv"]
    )


@pytest.mark.parametrize(
    ("cause", "words"),
    [(OSError(errno.ENOSPC, "No space left on device"), "No space left"), (KeyboardInterrupt("stopped"), "stopped")],
)
def test_nothing_is_left_of_an_attempt_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: BaseException, words: str
) -> None:
    def second_fails(
        whole: Callable[[Path, Recording, Recording, bool], None],
    ) -> Callable[[Path, Recording, Recording, bool], None]:
        def write(folder: Path, normal: Recording, attack: Recording, xlsx: bool) -> None:
            whole(folder, normal, attack, xlsx)
            if folder.name == "plant-2":
                raise cause

        return write

    monkeypatch.setattr(TWIN, "write", second_fails(TWIN.write))
    with pytest.raises((FileTrouble, KeyboardInterrupt), match=words):
        make(2, 0.05, "swat", 0, tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FileTrouble, match="cannot write the plants to"):
        make(1, 0.05, "swat", 0, tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("plants", "days", "seed", "words"),
    [
        (0, 1.0, 0, "0 plants"),
        (1001, 1.0, 0, "1001 plants"),
        (1, 0.01, 0, "0.01 days"),
        (1, 32.0, 0, "32 days"),
        (1, float("nan"), 0, "nan days"),
        (1, 1.0, -1, "negative"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, plants: int, days: float, seed: int, words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        make(plants, days, "swat", seed, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_run_longer_than_a_sheet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SHEET_ROWS", 1000)
    with pytest.raises(InvalidConfig, match="does not fit into a sheet"):
        make(1, 0.05, "swat", 0, tmp_path / "out", xlsx=True)
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_that_a_disk_does_not_hold_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise FileCreateError(OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(files, "_write_book", full)
    with pytest.raises(FileTrouble, match="No space left"):
        make(1, 0.05, "swat", 0, tmp_path / "out", xlsx=True)
    assert list(tmp_path.iterdir()) == []


def test_layouts_are_known_by_name() -> None:
    assert base.known() == ["swat", "wadi"]
    assert base.find("swat").layout == "swat"
    with pytest.raises(UnknownName, match="'bwsn'"):
        base.find("bwsn")
    assert making.LEAST_ATTACK_S == 43_200


@pytest.mark.parametrize("layout", ["swat", "wadi"])
def test_design_ranges_are_the_plants_own_and_not_read_off_its_recordings(layout: Layout) -> None:
    ranges, (normal, _) = design_ranges(2, layout, 4), simulate(2, 0.1, layout, 4)
    low_D, high_D = np.array(ranges, float).T
    assert (np.isfinite(low_D) & (low_D < high_D)).all()
    inside_TD = (normal.values_TD >= low_D) & (normal.values_TD <= high_D) | np.isnan(normal.values_TD)
    assert inside_TD.mean() > 0.95
    assert ranges == design_ranges(2, layout, 4) != design_ranges(3, layout, 4)
    recorded_D = ~np.isnan(normal.values_TD).all(axis=0)
    assert not (low_D[recorded_D] == np.nanmin(normal.values_TD[:, recorded_D], axis=0)).all()
