"""`swat`: the Secure Water Treatment testbed, one plant, 1 Hz, 51 tags, release SWaT.A1 & A2 of December 2015.

Source: Goh et al. 2016, doi 10.1007/978-3-319-71368-7_8, issued by iTrust (SUTD) on request. Files as issued or as they
go round: `.xlsx` or text of any separator, with or without the row of stages above the header, the normal run as v0
(496,800 rows) or v1 (495,000, without the first half hour), Kaggle's `normal.csv`, `attack.csv` and `merged.csv`. Names
of files mean nothing: a file is known by its tags, and a row by its time. Rows from 28/12/2015 10:00:00 on are test
data, whatever file they stand in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.ingest import fleet, lines, sheet
from client.ingest.attacks import Interval, compare, joined, segments
from client.ingest.base import Figure, FoundFile, Recognition, register
from client.ingest.clock import Form, form_of, local, mend, parse, read_times
from client.ingest.layout import Layout, cells, find_layout
from client.ingest.peek import files_below
from client.ingest.scan import Block, read
from client.ingest.stretches import Stretch, as_site, forward, in_order
from shared import catalogue
from shared.errors import DataNotFound, DataUnreadable
from shared.series import Repair, SiteData

TAGS = tuple(tag.name for tag in catalogue.tags("swat"))
VERSION = "SWaT.A1 & A2 Dec 2015"
LATER = "SWaT.A4 2019 or later"
FORMS = (
    Form(r"\d{1,2}/\d{1,2}/\d{4} +\d{1,2}:\d{2}:\d{2} *[AP]M", "%d/%m/%Y %I:%M:%S %p"),
    Form(r"\d{1,2}/\d{1,2}/\d{4} +\d{1,2}:\d{2}:\d{2}", "%d/%m/%Y %H:%M:%S"),
    Form(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}", "%Y-%m-%d %H:%M:%S"),
)
BEGIN_S = {local(datetime(2015, 12, 22, 16)): "normal v0", local(datetime(2015, 12, 22, 16, 30)): "normal v1"}
ATTACK_S = local(catalogue.ATTACK_BEGINS["swat"])
NORMAL_ROWS, ATTACK_ROWS = (496_800, 495_000), (449_919,)
LABELLED_ROWS = (54_621,)
"""Kaggle's `attack.csv`; with the 1,387,098 rows of its `normal.csv` they make v0, v1 and the attack file."""
SEGMENTS = (34, 35)
"""36 attacks, of which 11 and 28 continue the one before; 35 as the literature counts."""


@dataclass(frozen=True)
class Candidate:
    """A file that is SWaT's by its tags.

    Attributes:
        layout: how it is laid out.
        later: whether it is of a later release.
        first_s, last_s: time of the first and the last row; None where it cannot be told at a glance.
    """

    layout: Layout
    later: bool
    first_s: int | None
    last_s: int | None

    @property
    def role(self) -> str:
        """What it is in the data set."""
        if self.first_s is None:
            return "recording"
        if self.first_s >= ATTACK_S:
            return "attack"
        if self.last_s is not None and self.last_s >= ATTACK_S:
            return "normal and attack"
        return BEGIN_S.get(self.first_s, "normal")


class Swat:
    """The testbed."""

    name = "swat"
    natural_partition = "by-time"

    def recognise(self, path: Path) -> Recognition | None:
        """By the tags in a file's header; see `Loader.recognise`."""
        return fleet.marked(self._recognise(path), path)

    def _recognise(self, path: Path) -> Recognition | None:
        found = _candidates(path)
        files = [each for each in found if not each.later] or found
        if not files:
            return None
        if files[0].later:
            return Recognition(self.name, LATER, tuple(FoundFile(each.layout.path, "later release") for each in files))
        roles = {each.role for each in files}
        lacking = [
            what
            for what, there in (
                ("normal run", any("normal" in role for role in roles)),
                ("attack run", any("attack" in role for role in roles)),
            )
            if not there
        ]
        return Recognition(
            self.name, VERSION, tuple(FoundFile(each.layout.path, each.role) for each in files), tuple(lacking)
        )

    def figures(self, found: Recognition, sites: Sequence[SiteData]) -> tuple[Figure, ...]:
        """Rows, labelled rows and labelled stretches; see `Loader.figures`."""
        if not sites or fleet.was_made(found):
            return ()
        plant = sites[0]
        normal = Figure("rows of the normal run", len(plant.train_TD), NORMAL_ROWS)
        if plant.labels_T is None:
            return (normal,)
        return (
            normal,
            Figure("rows of the attack run", len(plant.test_TD), ATTACK_ROWS),
            Figure("rows labelled as attacks", int(plant.labels_T.sum()), LABELLED_ROWS),
            Figure("labelled stretches", len(segments(plant.labels_T)), SEGMENTS),
        )

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read the one plant, or every made one; see `Loader.load`."""
        return fleet.load_each(path, self._load)

    def _load(self, path: Path) -> tuple[SiteData, ...]:
        found, cut = _candidates(path), [file for file in files_below(path) if sheet.is_cut(file)]
        if cut and not found:
            raise DataUnreadable(f"{cut[0]} is a workbook without its end.")
        if not found:
            raise DataNotFound(f"{path} holds no table with SWaT's tags (FIT101, LIT101, MV101, ...).")
        files, notes = _chosen(found)
        notes.extend(
            Repair(file.name, "is a workbook without its end, as a half-copied one: left out", 1) for file in cut
        )
        normal, attack = [], []
        for each in files:
            stretches, repairs = _read(each.layout)
            notes.extend(repairs)
            for stretch in stretches:
                before, after = stretch.cut(ATTACK_S)
                normal.append(_all_normal(before))
                attack.append(after)
        train, test = in_order("swat/train", normal, len(TAGS)), in_order("swat/test", attack, len(TAGS))
        source = f"SWaT {', '.join(str(each.layout.path) for each in files)}"
        if len(test.labels_T) and not fleet.is_made(path):
            notes.extend(compare("swat/test", test.seconds_T, test.labels_T, published()))
        return (as_site("swat", TAGS, train, test, source, notes),)


def published() -> tuple[Interval, ...]:
    """The 36 published attacks, those without a pause between them joined."""
    listed = catalogue.attacks("swat")
    return joined([Interval((each.name,), local(each.begin), local(each.end)) for each in listed])


def _candidates(path: Path) -> list[Candidate]:
    found = []
    for file in files_below(path):
        if layout := find_layout(file, lambda names: _hits(names) >= len(TAGS) // 2, _spelt):
            found.append(Candidate(layout, False, _time(layout.cell(_time_name(layout))), _last(layout)))
        elif layout := find_layout(file, lambda names: _hits([_plain(name) for name in names]) >= len(TAGS) // 3):
            found.append(Candidate(layout, True, None, None))
    return sorted(found, key=lambda each: (each.first_s is None, each.first_s, each.layout.path.name))


def _spelt(names: list[str]) -> list[str]:
    """Tags in capital letters, as issued; copies write them small."""
    return [name.upper() if name.upper() in TAGS else name for name in names]


def _hits(names: Sequence[str]) -> int:
    return len(set(names).intersection(TAGS))


def _plain(name: str) -> str:
    """A tag of a later release (`LIT 101.Pv`, `FIT 101`) without blank and suffix."""
    return re.sub(r"\s+", "", name.partition(".")[0]).upper()


def _time_name(layout: Layout) -> str:
    return next((name for name in layout.names if name.lower() == "timestamp"), "Timestamp")


def _time(text: str) -> int | None:
    if re.fullmatch(r"\d{5}(\.\d+)?", text):  # Excel counts days from the end of 1899
        return round((float(text) - 25_569) * 86_400)
    return parse(text, FORMS)


def _last(layout: Layout) -> int | None:
    if layout.form != "text":
        return None
    row, name = cells(lines.tail(layout.path), layout.separator), _time_name(layout)
    return _time(row[layout.names.index(name)]) if len(row) == len(layout.names) and name in layout.names else None


def _chosen(found: Sequence[Candidate]) -> tuple[list[Candidate], list[Repair]]:
    """The files to read, with a note for each one that is left out."""
    files = [each for each in found if not each.later]
    if not files:
        raise DataUnreadable(
            f"{found[0].layout.path} is of {LATER}, whose tags and sampling differ.",
            f"Only {VERSION} is supported: its header holds FIT101, LIT101, MV101, ...; any other table: historian.",
        )
    notes = [Repair(each.layout.path.name, f"is of {LATER}: left out", 1) for each in found if each.later]
    text_s = {each.first_s for each in files if each.layout.form == "text"}
    roles = {each.role for each in files}
    kept = []
    for each in files:
        if each.layout.form == "xlsx" and each.first_s in text_s:
            notes.append(
                Repair(
                    each.layout.path.name, "begins as a text file beside it does, which is read instead: left out", 1
                )
            )
        elif each.role == "normal v0" and "normal v1" in roles:
            notes.append(
                Repair(each.layout.path.name, "normal v0 lies beside v1, which lacks its first half hour: left out", 1)
            )
        else:
            kept.append(each)
    return kept, notes


@dataclass
class _Columns:
    """Turns the text columns of one file into times and labels; the first row decides on the form of times."""

    time: str
    label: str
    form: Form | None = field(default=None)

    def make(self, block: Block) -> Mapping[str, NDArray[Any]]:
        times = block.texts[self.time]
        self.form = self.form or form_of(times[0] or "", FORMS) or FORMS[0]
        labels = block.texts[self.label].str.replace_all(r"\s+", "").str.to_lowercase()
        block.refuse(
            self.label, ~labels.is_in(["normal", "attack"]).fill_null(value=False), "is neither Normal nor Attack"
        )
        return {"seconds": read_times(block, self.time, times, self.form), "labels": (labels == "attack").to_numpy()}


def _read(layout: Layout) -> tuple[list[Stretch], Iterator[Repair]]:
    path = layout.path
    columns = _Columns(_time_name(layout), _label_name(layout))
    table = read(layout, TAGS, (columns.time, columns.label), columns.make)
    seconds_T, slips = mend(path, table.columns["seconds"], table.lines_T)
    labels_T: NDArray[np.bool_] = table.columns["labels"]
    stretches = list(forward(Stretch(path, table.lines_T, seconds_T, table.values_TD, labels_T)))
    back = (
        [
            Repair(
                path.name,
                f"time goes back, first in line {stretches[1].lines_T[0]}: rows are put in order",
                len(stretches) - 1,
            )
        ]
        if len(stretches) > 1
        else []
    )
    return stretches, iter((*table.repairs, *slips, *back))


def _label_name(layout: Layout) -> str:
    known = [name for name in layout.names if re.sub(r"\s+", "", name).lower() in ("normal/attack", "normal", "attack")]
    if len(known) != 1:
        found = "several columns" if known else "no column"
        raise DataUnreadable(
            f"{layout.path}, line {layout.header_line}: {found} called Normal/Attack, Normal or Attack.",
            "Each row's label must stand in one of them.",
        )
    return known[0]


def _all_normal(stretch: Stretch) -> Stretch:
    if stretch.labels_T.any():
        row = int(np.flatnonzero(stretch.labels_T)[0])
        cause = f"{stretch.path}, line {stretch.lines_T[row]}: the row is labelled Attack but lies in the normal run."
        raise DataUnreadable(
            cause, "The attack run begins on 28/12/2015 at 10:00:00; copy the file again from its source."
        )
    return stretch


register(Swat())
