"""What the doctor says, as values. `data check --json` prints exactly these; their keys are frozen by a test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["error", "warning", "note", "ok"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note", "ok")

Kind = Literal[
    "path",  # what was given is no data set, or not readable
    "file",  # one file is damaged or not what it should be
    "load",  # the loader refused it
    "incomplete",  # files that a whole data set would hold are not there
    "figure",  # counted otherwise than published
    "repair",  # mended or noted by the loader
    "missing",  # cells without a number
    "empty",  # tags without any number
    "constant",  # tags that never change in training
    "wakes",  # tags that are constant in training and move in the test data
    "outlying",  # readings far outside what training shows
    "twin-tags",  # columns that are equal
    "twin-sites",  # sites that are equal
    "repeats",  # test rows that repeat training rows
    "labels",  # labels that cannot be right, or none
    "schema",  # sites that differ in their tags
]
KINDS_CHECKED: tuple[Kind, ...] = (
    *("figure", "missing", "empty", "constant", "wakes", "outlying", "twin-tags", "twin-sites", "repeats"),
    *("labels", "schema"),
)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Finding(_Value):
    """One thing the doctor noticed.

    Attributes:
        severity: `error`: cannot be used as it is; `warning`: results will mislead unless somebody looks; `note`:
            worth knowing; `ok`: was looked for and is in order.
        kind: what sort of thing, one of a closed list.
        where: file, site, part (`M-6/test`) or data set.
        what: what was found.
        count: rows, cells, tags or sites that it is about; 0 where there is nothing to count.
        action: what the loader or the training does about it, or what to do by hand.
    """

    severity: Severity
    kind: Kind
    where: str
    what: str
    count: int = 0
    action: str = ""


class FileEntry(_Value):
    """A file that belongs to a data set, and its size in bytes."""

    path: str
    role: str
    bytes: int


class FigureEntry(_Value):
    """A published figure beside the one counted."""

    what: str
    found: int
    published: tuple[int, ...]
    agrees: bool


class SiteEntry(_Value):
    """One site as it was loaded. `labelled_rows` and `events` are null without labels."""

    name: str
    group: str
    tags: int
    period_s: float
    train_rows: int
    test_rows: int
    train_recordings: int
    test_recordings: int
    labelled_rows: int | None
    events: int | None
    missing_cells: int
    empty_tags: tuple[str, ...]
    constant_tags: tuple[str, ...]


class Section(_Value):
    """One data set that was recognised.

    Attributes:
        next: the command that trains on it; null when it is not usable.
    """

    dataset: str
    version: str
    usable: bool
    next: str | None
    files: tuple[FileEntry, ...]
    missing: tuple[str, ...]
    figures: tuple[FigureEntry, ...]
    sites: tuple[SiteEntry, ...]
    findings: tuple[Finding, ...]


class Report(_Value):
    """The whole answer to `crossplant data check PATH`.

    Attributes:
        format: version of this object; new keys do not change it, other meanings do.
        usable: every data set that was recognised can be used, and there is one.
        verdict: one sentence.
        findings: about the path as a whole; those about a data set stand in its section.
        known: names of the data sets that were looked for.
    """

    format: Literal[1] = 1
    path: str
    usable: bool
    verdict: str
    sections: tuple[Section, ...]
    findings: tuple[Finding, ...]
    known: tuple[str, ...]


def shown(path: Path) -> str:
    """A path as text that any stream can carry: bytes that are no UTF-8 become replacement characters."""
    return os.fsencode(path).decode("utf-8", "replace")
