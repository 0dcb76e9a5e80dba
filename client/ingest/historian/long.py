"""Long exports, as PI writes them: one row a reading (time, tag, value), turned into one column a tag."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from client.ingest.historian.clock import Clock
from client.ingest.historian.settings import HistorianSettings
from client.ingest.historian.source import Source
from shared.errors import DataUnreadable
from shared.series import Repair

TAG_WORDS = frozenset(("tag", "tagname", "tag name", "tag_name", "point", "pointname", "sensor", "variable", "signal"))
VALUE_WORDS = frozenset(("value", "val", "reading", "pv"))
MOST_TAGS = 10_000


def long_columns(source: Source, settings: HistorianSettings) -> tuple[str, str] | None:
    """The columns of tag names and of values when a file has one row a reading, else None.

    Raises:
        DataUnreadable: a column that the settings name is not there.
    """
    if settings.tag_column and settings.value_column:
        for name in (settings.tag_column, settings.value_column):
            if name not in source.columns:
                raise DataUnreadable(f"{source.path} has no column {name!r}, which historian.toml names.")
        return settings.tag_column, settings.value_column
    tags = [name for name in source.columns if name.lower() in TAG_WORDS]
    values = [name for name in source.columns if name.lower() in VALUE_WORDS]
    return (tags[0], values[0]) if len(tags) == len(values) == 1 else None


def widen(source: Source, clock: Clock, columns: tuple[str, str]) -> tuple[Source, Clock]:
    """One column a tag, one row a moment, in order of time; the last of several readings of a moment counts.

    Raises:
        DataUnreadable: there are too many tags to be tags.
    """
    tag, value = columns
    text = pl.col(tag).cast(pl.String).str.strip_chars().alias("tag")
    readings = source.read(text, pl.col(value).alias("value"))
    stamped = readings.with_columns(at=pl.Series(clock.stamps_T)).filter(
        pl.Series(clock.known_T) & pl.col("tag").is_not_null() & (pl.col("tag").str.len_chars() > 0)
    )
    names = stamped["tag"].unique(maintain_order=True).to_list()
    if len(names) > MOST_TAGS or any(len(name) > 128 or name == "at" for name in names):
        cause = (
            f"{source.path}: the column {tag!r} holds {len(names)} names, of up to {max(map(len, names))} characters."
        )
        raise DataUnreadable(cause, "Name the right one as tag_column in historian.toml.")
    wide = stamped.pivot(on="tag", index="at", values="value", aggregate_function="last", sort_columns=False).sort("at")
    again = len(stamped) - len(stamped.unique(["at", "tag"]))
    notes = [Repair(source.path.name, f"one row a reading: turned into {len(names)} columns", len(readings))]
    if again:
        notes.append(Repair(source.path.name, "readings of a tag at the time of another: the last one counts", again))
    known = wide["at"].to_numpy()
    turned = replace(source, frame=wide.drop("at").lazy(), columns=tuple(name for name in wide.columns if name != "at"))
    times = replace(clock, columns=(), stamps_T=known, known_T=known == known, notes=(*clock.notes, *notes))
    return turned, times
