"""From the files of a plant to its site: every file read, its rows put in order, on a grid, and split."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from client.ingest.base import Figure, FoundFile, Recognition, natural_key, register
from client.ingest.historian.clock import Clock, read_clock
from client.ingest.historian.long import long_columns, widen
from client.ingest.historian.settings import FILE_NAME, HistorianSettings, read_settings
from client.ingest.historian.source import Source, open_source
from client.ingest.historian.tags import Column, choose, measure, read_labels, read_values
from client.ingest.historian.timeline import (
    GAP_PERIODS,
    SECOND,
    Rows,
    each_once,
    in_order,
    moment,
    on_grid,
    split,
    usual_step,
    without_attacks,
)
from shared.errors import CrossplantError, DataNotFound, DataUnreadable, InvalidConfig, TooFewRows
from shared.schema import SensorSchema
from shared.series import Repair, SiteData

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".xlsx", ".xlsm")
MOST_TAGS = 10_000
LOOKED_AT = 12
"""Files that are opened to recognise a folder; the others are taken to be like them."""


@dataclass(frozen=True)
class Plant:
    """The files of one plant, in natural order of their names, and what it says about them."""

    name: str
    files: tuple[Path, ...]
    settings: HistorianSettings


@dataclass(frozen=True)
class _File:
    source: Source
    clock: Clock
    columns: tuple[str, ...]


class Historian:
    """Plants that bring their own exports."""

    name = "historian"
    natural_partition = "by-channel"

    def recognise(self, path: Path) -> Recognition | None:
        """Any file with a column of times and at least one of numbers; see `Loader.recognise`. To be asked last."""
        try:
            plants = _plants(path)
        except CrossplantError:
            return None
        files = [(plant, file) for plant in plants for file in plant.files]
        right = [(plant, file) for plant, file in files[:LOOKED_AT] if _is_export(file, plant.settings)]
        found = tuple(FoundFile(file, f"export of {plant.name}") for plant, file in (*right, *files[LOOKED_AT:]))
        return (
            Recognition(
                self.name, "a plant's own export" if len(plants) == 1 else f"{len(plants)} plants' own exports", found
            )
            if right
            else None
        )

    def figures(self, found: Recognition, sites: Sequence[SiteData]) -> tuple[Figure, ...]:
        """Nothing is published of a plant's own data."""
        return ()

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read every plant; see `Loader.load`."""
        plants = _plants(path)
        names = [plant.name for plant in plants]
        for name in names:
            if names.count(name) > 1:
                raise InvalidConfig(f"{path}: two plants are called {name!r}.", f"Give each a name in its {FILE_NAME}.")
        return tuple(read_plant(plant) for plant in plants)


def _plants(path: Path) -> list[Plant]:
    """A file is a plant, the files of a folder are one, and so are those of each folder in it."""
    if path.is_file():
        settings = read_settings(path.parent)
        return [Plant(_name(settings, path.stem), (path,), settings)]
    folders = [path, *sorted((at for at in path.iterdir() if at.is_dir()), key=lambda at: natural_key(at.name))]
    plants = []
    for folder in folders:
        files = sorted((at for at in folder.iterdir() if _is_table(at)), key=lambda at: natural_key(at.name))
        if files and not folder.name.startswith("."):
            settings = read_settings(folder, path)
            plants.append(Plant(_name(settings, folder.resolve().name), tuple(files), settings))
    if not plants:
        cause = f"{path} holds no files that end in {', '.join(SUFFIXES)}."
        raise DataNotFound(cause, "Give the folder of one plant's exports, or one that holds a folder for each plant.")
    return plants


def _is_table(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() in SUFFIXES and not file.name.startswith((".", "~"))


def _name(settings: HistorianSettings, text: str) -> str:
    return settings.name or re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-")[:64].rstrip("._-") or "plant"


def _is_export(file: Path, settings: HistorianSettings) -> bool:
    try:
        return refusal(file, settings) is None
    except OSError:
        return False


def refusal(file: Path, settings: HistorianSettings | None = None) -> CrossplantError | None:
    """Why a file is no export, judged by its beginning; None when it is one.

    Args:
        file: an existing file.
        settings: the plant's; None: those beside the file.

    Raises:
        OSError: it cannot be read.
    """
    try:
        settings = settings or read_settings(file.parent)
        opened = _open(file, settings, beginning=True)
        counted = measure(opened.source, opened.columns, settings)
    except CrossplantError as error:
        return error
    held = any(column.numbers for column in counted.values())
    return None if held else DataUnreadable(f"{file}: no column beside the times holds numbers.")


def _open(path: Path, settings: HistorianSettings, beginning: bool = False) -> _File:
    source = open_source(path, settings, beginning)
    clock = read_clock(source, settings)
    _check_header(source, clock)
    if not beginning and not clock.known_T.all():
        _check_other_headers(source, clock)
    if pair := long_columns(source, settings):
        source, clock = widen(source, clock, pair)
    aside = {*clock.columns, *settings.leave_out, *((settings.label,) if settings.label else ())}
    return _File(source, clock, tuple(name for name in source.columns if name not in aside))


def _check_header(source: Source, clock: Clock) -> None:
    """Refuse a file whose first row is taken for its names: names of times do not look like times."""
    if clock.columns and re.search(r"\d{1,4}[-/.]\d\d?[-/.]\d{2,4}|^\d{9,}", clock.columns[0]):
        cause = (
            f"{source.path}, line {source.first_line - 1}: {clock.columns[0]!r} is a time where a header is expected."
        )
        raise DataUnreadable(cause, "Export it with a first line that names the columns.")


def _check_other_headers(source: Source, clock: Clock) -> None:
    """Refuse a file of several tables laid end to end when their columns differ: readings would change places."""
    time = clock.columns[0]
    again = pl.col(time).cast(pl.String).str.strip_chars() == time
    found = source.read(
        pl.int_range(pl.len()).filter(again).alias(""), *(pl.col(n).filter(again) for n in source.columns)
    )
    for row, *cells in found.iter_rows():
        for name, cell in zip(source.columns, cells, strict=True):
            if (said := " ".join(str(cell or "").split())) and name != said and not name.startswith(f"{said}."):
                place = f"{source.path}, line {source.first_line + row}"
                cause = f"{place}: another header, with {said[:60]!r} under {name[:60]!r}."
                raise DataUnreadable(cause, "Put each table into a file of its own.")


def read_plant(plant: Plant) -> SiteData:
    """Read all files of one plant.

    Raises:
        DataUnreadable: a file is no table, has no times, or no column of numbers.
        InvalidConfig: `historian.toml` contradicts the files.
        TooFewRows: nothing is left to train on.
    """
    files, notes = _open_all(plant)
    tags, more = _tags(plant, files)
    notes += more
    parts = [_rows(file, tags, plant.settings) for file in files]
    notes += [note for file in files for note in (*file.source.notes, *file.clock.notes)]
    rows, mended = _join(plant, files, [rows for rows, _ in parts])
    notes += [*(note for _, said in parts for note in said), *mended]
    settings = plant.settings
    period = round(settings.period_s * SECOND) if settings.period_s else usual_step(rows.stamps_T)
    gap = round(settings.max_gap_s * SECOND) if settings.max_gap_s else GAP_PERIODS * period
    grid, gridded = on_grid(rows, max(period, 1), max(gap, period), plant.name)
    return _site(plant, tags, period, grid, [*notes, *gridded])


def _open_all(plant: Plant) -> tuple[list[_File], list[Repair]]:
    """Every file of a plant; text files that are no tables may lie beside them."""
    files: list[_File] = []
    notes: list[Repair] = []
    for path in plant.files:
        try:
            files.append(_open(path, plant.settings))
        except DataUnreadable:
            if path.suffix.lower() != ".txt" or len(plant.files) == 1:
                raise
            notes.append(Repair(path.name, "is no export: left out", 1))
    if not files:
        raise DataUnreadable(f"{plant.files[0].parent}: none of its {len(plant.files)} text files is an export.")
    return files, notes


def _tags(plant: Plant, files: Sequence[_File]) -> tuple[tuple[str, ...], list[Repair]]:
    """The tags of all files, in order of appearance."""
    total: dict[str, Column] = {}
    for file in files:
        for name, column in measure(file.source, file.columns, plant.settings).items():
            total[name] = total.get(name, Column()) + column
    tags, notes = choose(total, plant.settings)
    if not tags:
        cause = f"{plant.files[0]}: none of its {len(total)} columns beside the times holds numbers."
        shown = "; ".join(f"{note.where} {note.what}" for note in notes[:2])
        raise DataUnreadable(cause, f"{shown or 'There is no other column'}.")
    if len(tags) > MOST_TAGS:
        raise DataUnreadable(f"{plant.files[0]} has {len(tags)} columns of numbers; {MOST_TAGS} are the most.")
    unknown = sorted({*plant.settings.units, *plant.settings.states} - {*total, "*"})
    if unknown:
        raise InvalidConfig(
            f"{FILE_NAME} of {plant.name} speaks of {unknown[0]!r}, which is no column.", "Mend its name."
        )
    return tags, [*notes, *_lacking(files, tags)]


def _lacking(files: Sequence[_File], tags: Sequence[str]) -> Iterator[Repair]:
    for file in files:
        lost = [tag for tag in tags if tag not in file.columns]
        if lost:
            shown = ", ".join(lost[:3]) + (" ..." if len(lost) > 3 else "")
            yield Repair(
                file.source.path.name, f"lacks {len(lost)} tags ({shown}): missing there", len(file.clock.known_T)
            )


def _rows(file: _File, tags: Sequence[str], settings: HistorianSettings) -> tuple[Rows, tuple[Repair, ...]]:
    known_T = file.clock.known_T
    values_TD, attacks_T = read_values(file.source, tags, settings), read_labels(file.source, settings)
    if len(values_TD) != len(known_T):
        path = file.source.path
        raise DataUnreadable(f"{path} changed while it was read.", "Wait until it is written to its end.")
    rows = Rows(file.clock.stamps_T, values_TD, attacks_T)
    kept = rows if known_T.all() else rows.take(known_T)
    line = file.source.first_line if known_T.all() else None
    return in_order(kept, file.source.path.name, line, file.clock.naive)


def _join(plant: Plant, files: Sequence[_File], parts: Sequence[Rows]) -> tuple[Rows, list[Repair]]:
    """Lay files in order of their first times, then each moment once."""
    if len({file.clock.naive for file in files}) > 1:
        cause = f"some files of {plant.name} have times with an offset from UTC, and others without."
        raise InvalidConfig(cause, f"Set timezone in {FILE_NAME}: it is that of the times without one.")
    filled = sorted((part for part in parts if len(part.stamps_T)), key=lambda part: int(part.stamps_T[0]))
    if not filled:
        raise TooFewRows(f"{plant.files[0]} holds no rows with a time.")
    if len(filled) == 1:
        return _unique(filled[0], plant.name)
    joined = Rows(
        np.concatenate([part.stamps_T for part in filled]),
        np.concatenate([part.values_TD for part in filled]),
        None
        if filled[0].attacks_T is None
        else np.concatenate([p.attacks_T for p in filled if p.attacks_T is not None]),
    )
    ordered, notes = in_order(joined, f"{plant.name}, files that overlap", None, naive=False)
    rows, more = _unique(ordered, plant.name)
    return rows, [*notes, *more]


def _unique(rows: Rows, where: str) -> tuple[Rows, list[Repair]]:
    kept, notes = each_once(rows, where)
    return kept, list(notes)


def _site(plant: Plant, tags: tuple[str, ...], period: int, grid: Rows, notes: list[Repair]) -> SiteData:
    settings = plant.settings
    first, last = (moment(grid.stamps_T[at]) for at in (0, -1))
    train, test = split(grid, settings.test_from_us)
    if settings.test_from is None and grid.attacks_T is not None and grid.attacks_T.any():
        cause = f"{plant.name} has {int(grid.attacks_T.sum())} rows labelled as attacks, but test data begins nowhere."
        raise InvalidConfig(cause, f"Set test_from in {FILE_NAME}, such as test_from = {first.replace(' ', 'T')}.")
    train, lost = without_attacks(train)
    if lost:
        notes.append(Repair(plant.name, "rows before test_from that are labelled as attacks: left out", lost))
    if not len(train.stamps_T):
        cause = f"{plant.name} has no rows to train on: its data runs from {first} to {last}, UTC."
        raise TooFewRows(cause, f"Set a later test_from in {FILE_NAME}.")
    units = ", ".join(f"{tag} in {unit}" for tag, unit in settings.units.items())
    return SiteData(
        name=plant.name,
        schema=SensorSchema(tags=tags, period_s=period / SECOND),
        train_TD=train.values_TD,
        test_TD=test.values_TD,
        labels_T=test.attacks_T if len(test.stamps_T) else None,
        train_starts=train.starts,
        test_starts=test.starts,
        source=f"{len(plant.files)} files of {plant.files[0].parent}, {first} to {last}"
        + (f"; {units}" if units else ""),
        repairs=tuple(notes),
    )


register(Historian())
