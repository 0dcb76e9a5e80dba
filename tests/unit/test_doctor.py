"""The doctor on data sets made up here: what it counts, what it says, and that it never ends in a traceback."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from client.ingest import base
from client.ingest.base import Figure, FoundFile, Recognition
from client.ingest.doctor import Report, examine
from client.ingest.doctor.columns import blocks, columns
from client.ingest.doctor.command import training_command
from client.ingest.doctor.recognise import recognise
from client.ingest.doctor.render import as_json, print_text
from client.ingest.doctor.repeats import STRETCH, repeated_rows
from shared.errors import DataUnreadable
from shared.schema import SensorSchema
from shared.series import FloatArray, Repair, SiteData
from simulations.show.choose import find_site
from simulations.show.inventory import inventory
from tests.support.official import swat

MARK = "made-up 1"


class MadeUp:
    """A loader whose data set is any folder with a file `made.up`; what it loads is given."""

    natural_partition = "by-channel"

    def __init__(self, name: str, sites: Sequence[SiteData] | DataUnreadable, figures: Sequence[Figure] = ()) -> None:
        self.name, self.sites, self.told = name, sites, tuple(figures)
        self.missing: tuple[str, ...] = ()

    def recognise(self, path: Path) -> Recognition | None:
        file = path / "made.up" if path.is_dir() else path
        if not file.is_file() or not file.read_text(errors="replace").startswith(MARK):
            return None
        return Recognition(self.name, "one", (FoundFile(file, "everything"),), self.missing)

    def figures(self, found: Recognition, sites: Sequence[SiteData]) -> tuple[Figure, ...]:
        return self.told

    def load(self, path: Path) -> tuple[SiteData, ...]:
        if isinstance(self.sites, DataUnreadable):
            raise self.sites
        return tuple(self.sites)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Know the given loaders and no others."""
    loaders: dict[str, object] = {}
    monkeypatch.setattr(base, "_registry", lambda: loaders)
    monkeypatch.setattr(base, "_loaders", loaders)
    return lambda loader: loaders.update({loader.name: loader})  # type: ignore[attr-defined]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "made.up").write_text(MARK)
    return tmp_path / "set"


def a_site(name: str = "north", seed: int = 0, rows: int = 400, tags: int = 4) -> SiteData:
    rng = np.random.default_rng(seed)
    values = rng.normal(10, 1, (2 * rows, tags)).astype(np.float32)
    labels = np.zeros(rows, dtype=np.bool_)
    labels[50:60] = True
    schema = SensorSchema(tags=tuple(f"T{at}" for at in range(tags)), period_s=1)
    return SiteData(name, schema, values[:rows], values[rows:], labels, source="made up")


def changed(site: SiteData, **parts: object) -> SiteData:
    return dataclasses.replace(site, **parts)  # type: ignore[arg-type]


def findings(report: Report, kind: str) -> list[tuple[str, str, int]]:
    return [
        (one.severity, one.where, one.count)
        for section in report.sections
        for one in section.findings
        if one.kind == kind
    ]


def text(report: Report) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"), force_terminal=False)  # noqa: SIM115
    with console.file:
        print_text(report, console)
        return console.export_text()


def test_a_sound_site_is_usable_and_says_what_was_looked_for(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    only(MadeUp("fine", [a_site("north", 0), a_site("south", 1)], [Figure("rows", 800, (800, 801))]))
    report = examine(folder)
    (section,) = report.sections
    assert report.usable
    assert section.usable
    assert section.next == f"crossplant simulate --dataset fine --data {folder} --out DIR"
    assert {one.severity for one in section.findings} == {"ok"}
    assert [(s.name, s.train_rows, s.test_rows, s.labelled_rows, s.events) for s in section.sites] == [
        ("north", 400, 400, 10, 1),
        ("south", 400, 400, 10, 1),
    ]
    assert section.figures[0].agrees
    assert "usable: yes" in text(report)


def test_faults_of_columns_are_counted_and_named(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    site = a_site(tags=6)
    train_TD, test_TD = site.train_TD.copy(), site.test_TD.copy()
    train_TD[:, 1] = 7
    train_TD[:, 2] = np.nan
    train_TD[10:15, 0] = np.nan
    test_TD[20, 0] = np.inf
    test_TD[:, 1] = 7
    test_TD[5, 1] = 8
    test_TD[100:186, 3] = 258.11
    train_TD[:, 5], test_TD[:, 5] = train_TD[:, 4], test_TD[:, 4]
    only(MadeUp("sick", [changed(site, train_TD=train_TD, test_TD=test_TD), a_site("other", 1, tags=6)]))
    report = examine(folder)
    assert findings(report, "missing") == [("note", "north", 6)]
    assert findings(report, "empty") == [("warning", "north", 1)]
    assert findings(report, "constant") == [("note", "north", 1)]
    assert findings(report, "wakes") == [("note", "north", 1)]
    assert findings(report, "outlying") == [("warning", "north/test", 86)]
    assert findings(report, "twin-tags") == [("note", "north", 1)]
    assert report.sections[0].sites[0].empty_tags == ("T2",)
    assert report.sections[0].sites[0].constant_tags == ("T1",)
    assert report.sections[0].sites[0].missing_cells == 6 + 400
    told = " ".join(text(report).split())
    assert "T5 = T4" in told
    assert "T3 86 (as far as 258.11" in told


def test_a_rare_mode_that_training_has_seen_is_nothing_to_wonder_about_in_test(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    """FIT601: zero but for the back-wash, in less than 1 % of the rows."""
    site = a_site()
    train_TD, test_TD = site.train_TD.copy(), site.test_TD.copy()
    train_TD[:, 0], test_TD[:, 0] = np.arange(len(train_TD)) % 2 / 100, 0
    train_TD[7, 0], test_TD[50:60, 0], test_TD[70, 0] = 2, 1.9, 2.1
    only(MadeUp("wash", [changed(site, train_TD=train_TD, test_TD=test_TD)]))
    assert ("warning", "north/test", 1) in findings(examine(folder), "outlying")


def test_an_outlying_reading_does_not_hide_behind_a_constant_training_column(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    """M-6: the telemetry is -1 throughout training and jumps to 258.11 for 186 test rows."""
    site = a_site()
    train_TD, test_TD = site.train_TD.copy(), site.test_TD.copy()
    train_TD[:, 0], test_TD[:, 0] = -1, -1
    test_TD[200:386, 0] = 258.11
    note = Repair("north/test", "telemetry scaled to -1..1 jumps to 258.11: kept", 186)
    only(MadeUp("m6", [changed(site, train_TD=train_TD, test_TD=test_TD, repairs=(note,))]))
    report = examine(folder)
    assert findings(report, "outlying") == [("warning", "north/test", 186)]
    assert findings(report, "repair") == []  # said once, in the loader's words
    assert "jumps to 258.11 (186) -> kept" in " ".join(text(report).split())


@pytest.mark.parametrize(("alive", "severity"), [(True, "warning"), (False, "note")])
def test_an_empty_tag_is_a_warning_when_the_test_data_has_it(only, folder: Path, alive: bool, severity: str) -> None:  # type: ignore[no-untyped-def]
    site = a_site()
    train_TD, test_TD = site.train_TD.copy(), site.test_TD.copy()
    train_TD[:, 2] = np.nan
    if not alive:
        test_TD[:, 2] = np.nan
    only(MadeUp("void", [changed(site, train_TD=train_TD, test_TD=test_TD)]))
    assert findings(examine(folder), "empty") == [(severity, "north", 1)]


def test_equal_sites_and_repeated_rows_are_found(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    north = a_site("north")
    twin = changed(north, name="twin", train_TD=a_site(seed=5).train_TD)
    leak = a_site("leak", 2)
    test_TD = leak.test_TD.copy()
    test_TD[30:200] = leak.train_TD[100:270]
    only(MadeUp("twins", [north, twin, changed(leak, test_TD=test_TD)]))
    report = examine(folder)
    assert findings(report, "twin-sites") == [("warning", "twin/test", 400)]
    assert findings(report, "repeats") == [("warning", "leak", 170)]


def test_a_plant_that_stands_still_is_no_repetition() -> None:
    still = np.ones((4 * STRETCH, 2), np.float32)
    still[::STRETCH, 0] = 2
    site = a_site(tags=2)
    assert repeated_rows(changed(site, train_TD=still, test_TD=still.copy())) == 0
    assert repeated_rows(changed(site, test_TD=site.train_TD[: STRETCH - 1])) == 0
    assert repeated_rows(changed(site, test_TD=site.train_TD[7 : STRETCH + 7])) == STRETCH


@pytest.mark.parametrize(
    ("labels", "severity", "told"),
    [
        (None, "warning", "no labels"),
        (np.zeros(400, np.bool_), "warning", "no row is labelled"),
        (np.arange(400) > 20, "warning", "95% of the rows"),
    ],
)
def test_labels_that_cannot_be_right(only, folder: Path, labels, severity: str, told: str) -> None:  # type: ignore[no-untyped-def]
    only(MadeUp("labels", [changed(a_site(), labels_T=labels)]))
    report = examine(folder)
    assert [one[0] for one in findings(report, "labels")] == [severity]
    assert told in " ".join(text(report).split())
    assert report.usable


def test_no_test_data_is_worth_a_note(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    only(MadeUp("trainonly", [changed(a_site(), test_TD=np.empty((0, 4), np.float32), labels_T=None)]))
    assert findings(examine(folder), "labels") == [("note", "north/test", 0)]


def test_a_count_unlike_the_published_one_is_a_warning_unless_files_are_missing(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    loader = MadeUp("figures", [a_site()], [Figure("rows", 400, (401, 402)), Figure("tags", 4, (4,))])
    only(loader)
    assert findings(examine(folder), "figure") == [("warning", "figures", 400)]
    loader.missing = ("the second half",)
    report = examine(folder)
    assert findings(report, "figure") == [("note", "figures", 400)]
    assert findings(report, "incomplete") == [("note", "figures", 0)]


def test_what_the_loader_refuses_is_a_finding_with_cause_and_cure(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    only(MadeUp("broken", DataUnreadable("made.up, line 7: 'x' is not a number.", "Mend line 7.")))
    report = examine(folder)
    assert not report.usable
    assert report.sections[0].next is None
    assert findings(report, "load") == [("error", "broken", 0)]
    (error,) = report.sections[0].findings
    assert error.what == "CP-202 DataUnreadable: made.up, line 7: 'x' is not a number."
    assert error.action == "Mend line 7."
    assert "usable: no" in text(report)


def test_one_broken_data_set_of_two_makes_the_path_unusable_but_not_the_other(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    only(MadeUp("bad", DataUnreadable("cut.")))
    only(MadeUp("good", [a_site()]))
    report = examine(folder)
    assert [(s.dataset, s.usable) for s in report.sections] == [("bad", False), ("good", True)]
    assert not report.usable
    assert report.verdict == "bad cannot be used as it is; good can."


def test_nothing_to_learn_is_an_error(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    only(MadeUp("dead", [changed(a_site(), train_TD=np.ones((400, 4), np.float32))]))
    report = examine(folder)
    assert not report.usable
    assert ("error", "dead", 1) in findings(report, "constant")


def test_the_historian_counts_only_where_nothing_else_is_recognised(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    only(MadeUp("historian", [a_site()]))
    assert [one.dataset for one in recognise(folder)] == ["historian"]
    only(MadeUp("fine", [a_site()]))
    assert [one.dataset for one in recognise(folder)] == ["fine"]


def test_a_loader_that_fails_while_recognising_recognises_nothing(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    class Sloppy(MadeUp):
        def recognise(self, path: Path) -> Recognition | None:
            raise ZeroDivisionError("a bug")

    only(Sloppy("sloppy", []))
    assert recognise(folder) == ()


def test_one_folder_too_high_or_too_low_is_told(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    only(MadeUp("fine", [a_site()]))
    high = examine(folder.parent)
    assert [one.where for one in high.findings] == [str(folder.parent), str(folder)]
    assert high.findings[1].action == f"crossplant data check {folder}"

    class Deep(MadeUp):
        def recognise(self, path: Path) -> Recognition | None:
            inner = path / "train" / "a.npy"
            return Recognition(self.name, "one", (FoundFile(inner, "train"),)) if inner.is_file() else None

    only(Deep("deep", [a_site()]))
    (folder / "train").mkdir()
    (folder / "train" / "a.npy").write_bytes(b"x")
    (folder / "made.up").unlink()
    low = examine(folder / "train")
    assert [one.where for one in low.findings] == [str(folder / "train"), str(folder)]


def test_terminal_controls_and_markup_in_names_stay_text(only, folder: Path) -> None:  # type: ignore[no-untyped-def]
    name = "[bold red]T\x1b[2J"
    site = changed(
        a_site(tags=1),
        schema=SensorSchema(tags=(name,), period_s=1),
        train_TD=np.full((400, 1), 3, np.float32),
        repairs=(Repair(f"\x1b]0;x\x07{name}", "found [/]: kept", 1),),
    )
    only(MadeUp("hostile", [site, a_site("fine", 1)]))
    told = text(examine(folder))
    assert "\x1b" not in told
    assert "[bold red]T\\x1b[2J" in told


def test_nothing_but_blocks_of_columns_is_copied(only, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """A recording of 40 MB is examined within a few blocks of 2 MB."""
    monkeypatch.setattr("client.ingest.doctor.columns.BLOCK_CELLS", 500_000)
    site = a_site(rows=100_000, tags=50)
    tracemalloc.start()
    found = columns(site)
    repeated_rows(site)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 50
    assert peak < 14e6


def test_blocks_cover_every_column_once() -> None:
    values: FloatArray = np.arange(14, dtype=np.float32).reshape(2, 7)
    assert np.array_equal(np.concatenate(list(blocks(values, 3))), values.T)


@pytest.mark.parametrize(
    ("partition", "rows", "flags"),
    [
        ("by-channel", [400, 300], ""),
        ("by-channel", [400, 60], "--window 11 "),
        ("by-time", [8_761], ""),
        ("by-time", [180], "--sites 2 --window 17 "),
        ("by-channel", [5, 5], ""),
    ],
)
def test_the_next_command_suits_the_size(partition: str, rows: list[int], flags: str) -> None:
    told = training_command("x", Path("my data"), partition, rows)
    assert told == f"crossplant simulate --dataset x --data 'my data' {flags}--out DIR"


def test_json_of_a_path_that_is_no_utf8(tmp_path: Path) -> None:
    report = examine(tmp_path / "no\udcffwhere")
    assert as_json(report).isascii()
    assert not report.usable


def test_a_file_that_cannot_be_read_is_named_and_hides_no_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SWaT's loader in the dark, the historian would take its files and train on the attacks."""
    pair = swat(tmp_path)
    locked = tmp_path / "other.bin"
    locked.write_bytes(b"x")
    real_open = Path.open

    def refusing(self: Path, *given: Any, **more: Any) -> Any:
        if self == locked:
            raise PermissionError(13, "Permission denied", str(self))
        return real_open(self, *given, **more)

    monkeypatch.setattr(Path, "open", refusing)
    report = examine(pair.folder)
    assert (report.usable, report.sections, report.verdict) == (False, (), "The path cannot be read.")
    assert [(one.where, one.what) for one in report.findings] == [(str(locked), "cannot be read: Permission denied")]
    with pytest.raises(DataUnreadable, match="Permission denied"):
        find_site(pair.folder, None, None)
    assert all(entry["path"] is None for entry in inventory(tmp_path))
