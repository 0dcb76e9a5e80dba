"""Which columns of an export hold readings, and what stands in the cells where readings are missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from client.ingest.historian.settings import HistorianSettings
from client.ingest.historian.source import Source
from shared.errors import DataUnreadable
from shared.series import BoolArray, FloatArray, Repair

_QUALITY = """
inp outrange | input out of range | out of range | outrange | over range | overrange | under range | underrange |
bad | bad input | bad quality | bad value | no data | nodata | no sample | no value | no good data |
i/o timeout | io timeout | timeout | scan timeout | scan off | off scan | configure | not configured |
pt created | point created | shutdown | intf shut | interface shutdown | calc failed | calc off | calc overflow |
not connect | not connected | disconnected | arc off-line | arc offline | off-line | offline | comm fail |
comm fault | comm error | no result | error | err | fault | faulted | failed | fail | equip fail | sensor fail |
sensor failure | device failure | unit down | dcs failed | access denied | no access | trace | doubtful |
uncertain | questionable | substituted | stale | invalid | invalid data | invalid float | set to bad | getting |
unknown | missing | n/a | na | n.a. | null | none | nil | nan | ? | - | -- | --- | . | * | #n/a | #value! |
#ref! | #div/0! | #num! | #name? | #null!
"""
QUALITY = frozenset(word.strip() for word in _QUALITY.split("|"))
"""What historians and spreadsheets write where there is no reading, in small letters."""
MOSTLY = 0.5
SHOWN, KEPT = 3, 50
_LABEL = re.compile(r"(?i)(is[_ ])?(alarm|label|attack|anomal\w*|outlier|fault|st(ö|oe)rung)s?([_ ]?flag)?")
"""Names that columns of labels have."""


@dataclass(frozen=True)
class Column:
    """What a column's cells hold, over all files of a plant.

    Attributes:
        rows: rows that have the column.
        filled: cells that are not empty.
        numbers: cells that are numbers.
        texts: the other cells, the commonest of them by their text.
    """

    rows: int = 0
    filled: int = 0
    numbers: int = 0
    texts: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Column) -> Column:
        texts = self.texts + other.texts
        return Column(self.rows + other.rows, self.filled + other.filled, self.numbers + other.numbers, texts)


def measure(source: Source, columns: Sequence[str], settings: HistorianSettings) -> dict[str, Column]:
    """Count what the cells of each column hold: one pass over the file, and one more over columns with other cells."""
    schema = source.frame.collect_schema()
    text = {name: _text(name) for name in columns}
    number = {name: _number(source, name, schema[name], settings) for name in columns}
    counts = [
        kind[name].count().alias(f"{at} {key}")
        for key, kind in (("text", text), ("number", number))
        for at, name in enumerate(columns)
    ]
    found = source.read(pl.len().alias("rows"), *counts).row(0, named=True)
    made = {name: Column(found["rows"], found[f"{at} text"], found[f"{at} number"]) for at, name in enumerate(columns)}
    mixed = [name for name, column in made.items() if column.filled > column.numbers]
    others = [text[name].filter(text[name].is_not_null() & number[name].is_null()).alias("text") for name in mixed]
    if others:
        plans = [other.value_counts(sort=True).head(KEPT).implode().alias(str(at)) for at, other in enumerate(others)]
        lists = source.read(plans).row(0)
        for name, entries in zip(mixed, lists, strict=True):
            texts = Counter({entry["text"]: entry["count"] for entry in entries})
            made[name] = replace(made[name], texts=texts)
    return made


def _text(name: str) -> pl.Expr:
    text = pl.col(name).cast(pl.String, strict=False).str.strip_chars()
    return pl.when(text != "").then(text)


def _number(source: Source, name: str, dtype: pl.DataType, settings: HistorianSettings) -> pl.Expr:
    """A cell as a number, null where it is none, or too large for float32."""
    number = _any_number(source, name, dtype, settings)
    return pl.when(~number.is_infinite()).then(number)


def _any_number(source: Source, name: str, dtype: pl.DataType, settings: HistorianSettings) -> pl.Expr:
    if dtype.is_numeric() or dtype == pl.Boolean:
        return pl.col(name).cast(pl.Float64, strict=False).cast(pl.Float32)
    text = plain = _text(name)
    if source.decimal == ",":
        point = text.str.contains(".", literal=True) & ~text.str.contains(",", literal=True)
        turned = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        plain = pl.when(~point).then(turned)  # 1.234 may be a thousand or a fraction: nobody can tell
    number = plain.cast(pl.Float64, strict=False).cast(pl.Float32)
    words = {**settings.states.get("*", {}), **settings.states.get(name, {})}
    if not words:
        return number
    return pl.coalesce(text.replace_strict(words, default=None, return_dtype=pl.Float32), number)


def choose(columns: Mapping[str, Column], settings: HistorianSettings) -> tuple[tuple[str, ...], tuple[Repair, ...]]:
    """The columns that are tags, and a note on every one that is not or that has cells without a reading."""
    words = QUALITY | {word.strip().lower() for word in settings.quality}
    chosen, notes = [], []
    for name, column in columns.items():
        other = Counter({text: count for text, count in column.texts.items() if text.lower() not in words})
        missing = column.filled - column.numbers
        unknown = missing - (sum(column.texts.values()) - sum(other.values()))
        if unknown > MOSTLY * column.filled:
            what = f"mostly text, such as {_few(other)}: left out; states in historian.toml make numbers of words"
            notes.append(Repair(name, what, unknown))
        elif not column.numbers:
            held = f"nothing but {_few(column.texts)}" if column.filled else "nothing at all"
            notes.append(Repair(name, f"holds {held}: left out", column.rows))
        else:
            chosen.append(name)
            if _LABEL.fullmatch(name):
                what = "looks like a label: taken for a tag; say `label` or `leave_out` in historian.toml"
                notes.append(Repair(name, what, column.rows))
            if missing:
                notes.append(Repair(name, f"no reading but {_few(column.texts)}: missing", missing))
    return tuple(chosen), tuple(notes)


def _few(texts: Counter[str]) -> str:
    shown = ", ".join(f"{text[:30]!r}" for text, _ in texts.most_common(SHOWN))
    return shown + (" and others" if len(texts) > SHOWN else "")


def read_values(source: Source, tags: Sequence[str], settings: HistorianSettings) -> FloatArray:
    """The readings of some tags as float32 (T, D), NaN where there is none; tags that the file lacks are all NaN."""
    schema = source.frame.collect_schema()
    plans = [
        _number(source, tag, schema[tag], settings).alias(tag)
        if tag in schema
        else pl.lit(None, dtype=pl.Float32).alias(tag)
        for tag in tags
    ]
    row = pl.int_range(pl.len()).alias("")  # holds the number of rows where none of the tags is in the file
    table = source.read(row, *plans)
    values_TD = np.empty((len(table), len(tags)), dtype=np.float32)
    for at, tag in enumerate(tags):
        values_TD[:, at] = table[tag].fill_null(float("nan")).to_numpy()
    return values_TD


def read_labels(source: Source, settings: HistorianSettings) -> BoolArray | None:
    """The label column as bool (T,), True where the row is an attack; None when no label column is named.

    Raises:
        DataUnreadable: the column is missing, or a cell is neither one of `normal` nor one of `attack`.
    """
    name = settings.label
    if name is None:
        return None
    if name not in source.columns:
        raise DataUnreadable(f"{source.path} has no column {name!r}, which historian.toml names as the label.")
    text = source.read(_text(name).str.to_lowercase().alias("label")).to_series()
    attack = text.is_in(list(settings.attack)).fill_null(value=False).to_numpy()
    wrong = ~(attack | text.is_in(list(settings.normal)).fill_null(value=False).to_numpy())
    if wrong.any():
        row = int(wrong.argmax())
        shown = "an empty cell" if text[row] is None else repr(text[row][:40])
        cause = f"{source.path}, line {source.first_line + row}, column {name}: {shown} is neither normal nor attack."
        raise DataUnreadable(
            cause, f"normal is {_values(settings.normal)}, attack {_values(settings.attack)}: see historian.toml."
        )
    return attack


def _values(words: Iterable[str]) -> str:
    return " or ".join(repr(word) for word in words)
