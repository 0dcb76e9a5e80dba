"""`wadi`: the Water Distribution testbed, one plant, 1 Hz, 127 tags, four of them empty.

Source: Ahmed et al. 2017, doi 10.1145/3055366.3055375, issued by iTrust (SUTD) on request. Two releases, never mixed:
WADI.A1 of 9 Oct 2017 (tags behind a path of 46 characters, no labels: they are made from the published ranges by each
row's time) and WADI.A2 of 19 Nov 2019 (short tags, rows of the normal run taken out, labels 1 and -1). The copy of A1
with a column `attack` of 0 and 1 is read, too. Names of files mean nothing: a file is known by its tags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from client.ingest import fleet, sheet
from client.ingest.attacks import Interval, label, segments
from client.ingest.base import Figure, FoundFile, Recognition, register
from client.ingest.clock import Form, Seconds, form_of, local, mend, parse, read_times, said
from client.ingest.layout import Layout, find_layout
from client.ingest.peek import files_below, peek
from client.ingest.scan import Block, Table, read
from client.ingest.stretches import Run, as_site
from shared import catalogue
from shared.errors import DataNotFound, DataUnreadable
from shared.series import BoolArray, Repair, SiteData

TAGS = tuple(tag.name for tag in catalogue.tags("wadi"))
A1, A2 = "WADI.A1 9 Oct 2017", "WADI.A2 19 Nov 2019"
_DAY = r"\d{1,2}/\d{1,2}/"
_TIMES = ((r"\d{1,2}:\d{2}:\d{2}(\.\d+)? *[AP]M", "%I:%M:%S%.f %p"), (r"\d{1,2}:\d{2}:\d{2}(\.\d+)?", "%H:%M:%S%.f"))
FORMS = tuple(
    Form(f"{_DAY}{digits} {looks}", f"%m/%d/{year} {layout}")
    for digits, year in ((r"\d{4}", "%Y"), (r"\d{2}", "%y"))
    for looks, layout in _TIMES
)
HOURLESS = Form(r"\d{1,2}:\d{2}\.\d+", "%M:%S%.f")
"""A time that Excel showed as minutes and seconds and then saved so: its hour is lost."""
ATTACK_S = local(catalogue.ATTACK_BEGINS["wadi"])
ATTACK_ROWS = 172_801
NORMAL_ROWS = {A1: 1_209_601, A2: 784_571}
LABELLED_ROWS = {A1: 9_902, A2: 9_977}
"""A1: seconds in the published ranges."""
RANGES = tuple(Interval((each.name,), local(each.begin), local(each.end)) for each in catalogue.attacks("wadi"))


@dataclass(frozen=True)
class Candidate:
    """A file that is WADI's by its tags.

    Attributes:
        layout: how it is laid out.
        release: None where the header tells nothing: short tags without labels.
        label: the label column; empty when there is none.
        first_s: time of the first row; None where it cannot be told.
    """

    layout: Layout
    release: str | None
    label: str
    first_s: int | None

    @property
    def is_attack(self) -> bool:
        """Whether it is of the attack run: it has labels or begins when that run does, or later."""
        return bool(self.label) or (self.first_s is not None and self.first_s >= ATTACK_S)

    @property
    def role(self) -> str:
        """What it is in the data set."""
        return ("attack, labelled" if self.label else "attack") if self.is_attack else "normal"


class Wadi:
    """The testbed."""

    name = "wadi"
    natural_partition = "by-time"

    def recognise(self, path: Path) -> Recognition | None:
        """By the tags in a file's header; see `Loader.recognise`."""
        return fleet.marked(self._recognise(path), path)

    def _recognise(self, path: Path) -> Recognition | None:
        found = _candidates(path)
        if not found:
            return None
        releases = sorted({each.release for each in found if each.release})
        lacking = [
            run
            for run, there in (
                ("normal run", any(not each.is_attack for each in found)),
                ("attack run", any(each.is_attack for each in found)),
            )
            if not there
        ]
        files = tuple(FoundFile(each.layout.path, each.role) for each in found)
        return Recognition(self.name, " and ".join(releases) or f"{A1} or {A2}", files, tuple(lacking))

    def figures(self, found: Recognition, sites: Sequence[SiteData]) -> tuple[Figure, ...]:
        """Rows, labelled rows and labelled stretches; see `Loader.figures`."""
        if not sites or fleet.was_made(found):
            return ()
        plant, releases = sites[0], [each for each in NORMAL_ROWS if each in found.version]
        figures = [Figure("rows of the normal run", len(plant.train_TD), tuple(NORMAL_ROWS[each] for each in releases))]
        if len(plant.test_TD):
            figures.append(Figure("rows of the attack run", len(plant.test_TD), (ATTACK_ROWS,)))
        if plant.labels_T is not None:
            labelled = tuple(LABELLED_ROWS[each] for each in releases)
            figures.append(Figure("rows labelled as attacks", int(plant.labels_T.sum()), labelled))
            if releases == [A1]:
                figures.append(Figure("labelled stretches", len(segments(plant.labels_T)), (len(RANGES),)))
        return tuple(figures)

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read the one plant, or every made one; see `Loader.load`."""
        return fleet.load_each(path, self._load)

    def _load(self, path: Path) -> tuple[SiteData, ...]:
        found = _candidates(path)
        if not found:
            raise DataNotFound(f"{path} holds no table with WADI's tags (1_AIT_001_PV, 1_AIT_002_PV, ...).")
        _refuse_mixture(path, found)
        normal, attack, notes = _chosen(path, found)
        notes.extend(_descriptions(path))
        train = test = _nothing()
        labelled = True
        if attack:
            test, labelled = _read(attack, notes)
        if normal:
            train, _ = _read(normal, notes)
            _refuse_other_release(normal, attack, len(train.seconds_T))
        source = f"WADI {', '.join(str(each.layout.path) for each in (normal, attack) if each)}"
        return (as_site("wadi", TAGS, train, test, source, notes, labelled),)


def _candidates(path: Path) -> list[Candidate]:
    layouts = (find_layout(file, _is_header, _clean) for file in files_below(path))
    return sorted(
        (_candidate(layout) for layout in layouts if layout), key=lambda each: (each.is_attack, each.layout.path.name)
    )


def _is_header(names: Sequence[str]) -> bool:
    return len(set(names).intersection(TAGS)) >= len(TAGS) // 2


def _clean(names: list[str]) -> list[str]:
    """Tags without the path before them, and a label's name whole that an unquoted comma has cut in two."""
    short = [name.rpartition("\\")[2].strip() for name in names]
    if len(short) > 1 and short[-2].lower().startswith("attack la") and short[-1].startswith("-1"):
        short[-2:] = [f"{short[-2]}, {short[-1]}"]
    return short


def _candidate(layout: Layout) -> Candidate:
    labels = _label_names(layout)
    label_name = labels[0] if labels else ""
    return Candidate(layout, _release(layout, label_name), label_name, _first(layout))


def _label_names(layout: Layout) -> list[str]:
    return [name for name in layout.names if name.lower().startswith(("attack", "label"))]


def _release(layout: Layout, label_name: str) -> str | None:
    if _is_signed(label_name):
        return A2
    return A1 if label_name or any("\\" in name for name in layout.raw) else None


def _is_signed(label_name: str) -> bool:
    """Whether labels are 1 for no attack and -1 for attack, as the column's name says."""
    return "-1" in label_name


def _first(layout: Layout) -> int | None:
    day, time = layout.cell("Date"), layout.cell("Time")
    if form_of(time, (HOURLESS,)):
        time = "18:00:00"  # both runs begin at this hour
    return parse(f"{day} {time}", FORMS)


def _refuse_mixture(path: Path, found: Sequence[Candidate]) -> None:
    first = {each.release: each.layout.path for each in reversed(found) if each.release}
    if len(first) > 1:
        raise DataUnreadable(
            f"{path} holds files of two releases: {first[A1]} is of {A1}, {first[A2]} of {A2}.",
            "Give the folder of one release, or put their files into folders of their own.",
        )


def _chosen(path: Path, found: Sequence[Candidate]) -> tuple[Candidate | None, Candidate | None, list[Repair]]:
    """The normal and the attack file to read, and a note for each one that is left out."""
    normal = [each for each in found if not each.is_attack]
    attack = [each for each in found if each.is_attack]
    labelled = [each for each in attack if each.label]
    notes = []
    if len(labelled) == 1:
        what = f"{labelled[0].layout.path.name} has the same run with labels and is read instead: left out"
        notes = [Repair(each.layout.path.name, what, 1) for each in attack if not each.label]
        attack = labelled
    for role, files in (("normal", normal), ("attack", attack)):
        if len(files) > 1:
            names = ", ".join(str(each.layout.path) for each in files)
            raise DataUnreadable(
                f"{path} holds several files of the {role} run: {names}.",
                "Leave one of them there; days are read month first.",
            )
    return next(iter(normal), None), next(iter(attack), None), notes


def _descriptions(path: Path) -> Iterator[Repair]:
    for file in files_below(path):
        if peek(file).form == "xlsx" and any(_describes(rows) for rows in sheet.head(file, 12)):
            what = "describes the attacks, with wrong years and broken times: not used; the published ranges are"
            yield Repair(file.name, what, 1)


def _describes(rows: sheet.Rows) -> bool:
    return any(cell.strip().startswith("S.No") for _, row in rows for cell in row[:3])


def _nothing() -> Run:
    return Run(np.empty(0, np.int64), np.empty((0, len(TAGS)), np.float32), np.empty(0, np.bool_))


@dataclass
class _Columns:
    """Turns the text columns of one file into times and labels; the first row decides on the form of times."""

    label: str
    form: Form | None = field(default=None)

    def make(self, block: Block) -> Mapping[str, NDArray[Any]]:
        day, time = block.texts["Date"], block.texts["Time"]
        made: dict[str, NDArray[Any]] = {}
        if self.form is None:
            self.form = form_of(time[0] or "", (HOURLESS,)) or form_of(f"{day[0]} {time[0]}", FORMS) or FORMS[0]
        if self.form is HOURLESS:
            made["seconds"] = _in_hour(block, time)
        else:
            made["seconds"] = read_times(block, "Date, Time", day.fill_null("") + " " + time.fill_null(""), self.form)
        if self.label:
            made["labels"] = _labels(block, self.label)
        return made


def _in_hour(block: Block, time: pl.Series) -> Seconds:
    parts = time.str.extract_groups(r"^(?<m>\d{1,2}):(?<s>\d{2})\.\d+$").struct.unnest().cast(pl.Int64, strict=False)
    seconds = parts["m"] * 60 + parts["s"]
    block.refuse("Time", seconds.is_null() | (seconds >= 3600), "is no time like 59:59.0")
    return seconds.to_numpy()


def _labels(block: Block, name: str) -> BoolArray:
    normal, attack = (1.0, -1.0) if _is_signed(name) else (0.0, 1.0)
    values = block.texts[name].cast(pl.Float64, strict=False)
    wrong = ~values.is_in([normal, attack]).fill_null(value=False)
    block.refuse(name, wrong, f"is neither {normal:g} (no attack) nor {attack:g} (attack)")
    flags: BoolArray = (values == attack).to_numpy()
    return flags


def _read(file: Candidate, notes: list[Repair]) -> tuple[Run, bool]:
    """A file's run in order of time, and whether its labels mean something; notes are added to `notes`."""
    columns, path = _Columns(file.label), file.layout.path
    if len(labels := _label_names(file.layout)) > 1:
        cause = f"{path}, line {file.layout.header_line}: several columns of labels: {', '.join(map(repr, labels))}."
        raise DataUnreadable(cause, "Each row's label must stand in one of them.")
    table = read(file.layout, TAGS, ("Date", "Time", *([file.label] if file.label else [])), columns.make, ("Row",))
    notes.extend(table.repairs)
    if columns.form is HOURLESS:
        seconds_T = _unwrapped(table.columns["seconds"], file.first_s or ATTACK_S)
        what = "times hold no hours: rows follow each other within the hour, a gap of whole hours cannot be seen"
        notes.append(Repair(path.name, what, len(seconds_T)))
    else:
        seconds_T, slips = mend(path, table.columns["seconds"], table.lines_T)
        notes.extend(slips)
        _refuse_backward(path, seconds_T, table)
        if not file.is_attack:
            _refuse_attack_run(path, seconds_T, table)
    labels_T, known = _labels_of(file, table, seconds_T, columns.form is not HOURLESS, notes)
    return Run(seconds_T, table.values_TD, labels_T), known


def _unwrapped(in_hour_T: Seconds, first_s: int) -> Seconds:
    steps = np.diff(in_hour_T) % 3600
    return first_s + np.concatenate([[0], np.cumsum(steps)])


def _refuse_backward(path: Path, seconds_T: Seconds, table: Table) -> None:
    back = np.flatnonzero(np.diff(seconds_T) < 0)
    if len(back):
        row = int(back[0]) + 1
        cause = f"{path}, line {table.lines_T[row]}: time goes back from {said(int(seconds_T[row - 1]))} to "
        raise DataUnreadable(f"{cause}{said(int(seconds_T[row]))}.", "The rows must be in order of time.")


def _refuse_attack_run(path: Path, seconds_T: Seconds, table: Table) -> None:
    """Rows of the attack run without labels are nothing to train on; the normal run ends in the second it begins."""
    late = np.flatnonzero(seconds_T > ATTACK_S)
    if len(late):
        line, moment = table.lines_T[late[0]], said(int(seconds_T[late[0]]))
        cause = f"{path}, line {line}: the file begins in the normal run and has no labels, but here it is {moment}."
        cure = "The attack run begins on 10/9/2017 at 6:00 PM, month first: put its rows into a file of their own."
        raise DataUnreadable(cause, cure)


def _labels_of(
    file: Candidate, table: Table, seconds_T: Seconds, timed: bool, notes: list[Repair]
) -> tuple[BoolArray, bool]:
    if file.label:
        return table.columns["labels"], True
    if not file.is_attack:
        return np.zeros(len(seconds_T), dtype=np.bool_), True
    name = file.layout.path.name
    if timed and seconds_T[0] >= ATTACK_S and seconds_T[-1] < ATTACK_S + ATTACK_ROWS:
        labels_T = label(seconds_T, RANGES)
        what = "the release has no labels: made from the published attack ranges by each row's time"
        notes.append(Repair(name, what, int(labels_T.sum())))
        return labels_T, True
    notes.append(Repair(name, "no labels, and its times are not those of the published attacks: no labels are used", 1))
    return np.zeros(len(seconds_T), dtype=np.bool_), False


def _refuse_other_release(normal: Candidate, attack: Candidate | None, rows: int) -> None:
    other = next((release for release, count in NORMAL_ROWS.items() if count == rows), None)
    mine = normal.release or (attack.release if attack else None)
    if attack and mine and other and other != mine:
        raise DataUnreadable(
            f"{normal.layout.path} has the {rows:,} rows of {other}, {attack.layout.path} is of {mine}.",
            "Give both files of one release.",
        )


register(Wadi())
