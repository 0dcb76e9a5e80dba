"""`historian.toml`: what a plant says about its own export, where the files do not say it themselves."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from client.ingest.files import first_line, read_text
from shared.errors import InvalidConfig

FILE_NAME = "historian.toml"
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class HistorianSettings(BaseModel):
    """Everything is optional; what is left out is found in the files, or refused when they do not tell.

    Attributes:
        name: the plant's name; else that of its folder or file.
        separator, decimal: of text files.
        sheet: of workbooks; else the one with most rows at its beginning.
        time: the column of times; two columns (date and time of day) are given as a list.
        time_format: as for `strptime` (chrono's letters), such as `%d/%m/%Y %H:%M:%S`.
        timezone: IANA name of the zone of times without an offset; they are read as UTC without it.
        period_s: seconds between two rows; else the median step.
        max_gap_s: a longer pause begins a new recording; else 10 periods.
        quality: strings that stand for a missing reading, beside the usual ones.
        states: numbers for words, by tag or `"*"` for every tag: `states = {MV101 = {OPEN = 2, CLOSED = 1}}`.
        leave_out: columns that are no tags.
        units: unit by tag, for the record.
        label: the column that says normal or attack, `normal` and `attack` its values.
        test_from: rows from this time on are test data, those before it training data.
        tag_column, value_column: of a long table (time, tag, value).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z")] | None = None
    separator: Literal[",", ";", "\t", "|"] | None = None
    decimal: Literal[".", ","] | None = None
    sheet: Name | None = None
    time: Annotated[tuple[Name, ...], Field(max_length=2)] = ()
    time_format: Name | None = None
    timezone: str | None = None
    period_s: Seconds | None = None
    max_gap_s: Seconds | None = None
    quality: tuple[Name, ...] = ()
    states: dict[Name, dict[Name, Annotated[float, Field(allow_inf_nan=False)]]] = Field(default_factory=dict)
    leave_out: tuple[Name, ...] = ()
    units: dict[Name, str] = Field(default_factory=dict)
    label: Name | None = None
    normal: tuple[str, ...] = ("0", "0.0", "normal", "false")
    attack: tuple[str, ...] = ("1", "1.0", "attack", "true")
    test_from: datetime | None = None
    tag_column: Name | None = None
    value_column: Name | None = None

    @field_validator("time", mode="before")
    @classmethod
    def _one_or_two(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("normal", "attack", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return tuple(str(item).strip().lower() for item in value) if isinstance(value, list | tuple) else value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        try:
            return None if value is None else ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("is no time zone such as Europe/Berlin") from error

    @model_validator(mode="after")
    def _consistent(self) -> HistorianSettings:
        if both := set(self.normal) & set(self.attack):
            raise ValueError(f"{min(both)!r} stands under both normal and attack")
        if (self.tag_column is None) != (self.value_column is None):
            raise ValueError("tag_column and value_column belong together")
        return self

    @property
    def test_from_us(self) -> int | None:
        """`test_from` in microseconds since 1970, UTC."""
        if self.test_from is None:
            return None
        zone = ZoneInfo(self.timezone) if self.timezone else UTC
        moment = self.test_from if self.test_from.tzinfo else self.test_from.replace(tzinfo=zone)
        return round(moment.timestamp() * 1_000_000)


def read_settings(*folders: Path) -> HistorianSettings:
    """The settings in the first of some folders that has them, else the defaults.

    Raises:
        InvalidConfig: the file is no TOML, or a setting is unknown or impossible.
    """
    for folder in folders:
        if (path := folder / FILE_NAME).is_file():
            return _read(path)
    return HistorianSettings()


def _read(path: Path) -> HistorianSettings:
    cure = "docs/data.md lists the settings of historian.toml."
    try:
        return HistorianSettings.model_validate(tomllib.loads(read_text(path)))
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig(f"{path} is no TOML: {first_line(error)}.", cure) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the settings"
        found = (
            "" if first["type"] == "extra_forbidden" or not first["loc"] else f", found {str(first['input'])[:60]!r}"
        )
        raise InvalidConfig(f"{path}: {place}: {first['msg']}{found}.", cure) from error
