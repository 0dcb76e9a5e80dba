"""One site's data as a value: what it was trained on, what it is tested on, and where both came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared.schema import SensorSchema

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Ranges = tuple[tuple[float, float] | None, ...]
"""Low and high of each tag in normal operation as its makers or operators publish them; None: not known."""


@dataclass(frozen=True)
class Repair:
    """Something a loader changed, in words a plant engineer can check.

    Attributes:
        where: file, channel or tag.
        what: what was found and what was done about it.
        count: how many rows or cells.
    """

    where: str
    what: str
    count: int

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.count})"


@dataclass(frozen=True)
class SiteData:
    """One site's series.

    Attributes:
        name: site name, unique within a federation; used in file names, so letters, digits, `-`, `_` and `.` only.
        schema: columns and sampling period.
        train_TD: float32 (T, D), normal operation; may hold NaN where a reading is missing.
        test_TD: float32 (S, D), or (0, D) when the site has no test data.
        labels_T: bool (S,), True where the test data is anomalous; None when there are no labels.
        train_starts, test_starts: row indices at which recordings begin; windows never straddle them.
        group: the subsystem, stage or machine that the site belongs to, if any.
        source: where the data came from, for the report.
        repairs: what the loader changed.
        ranges: public operating ranges, one a tag, never read off this data; None: none are known.
        faults_TD: float32 (F, D), rows of the training period that are labelled as faulty, and so no part of
            `train_TD`; None: none are known. No threshold and no figure sees them.
    """

    name: str
    schema: SensorSchema
    train_TD: FloatArray
    test_TD: FloatArray
    labels_T: BoolArray | None
    train_starts: tuple[int, ...] = (0,)
    test_starts: tuple[int, ...] = (0,)
    group: str = ""
    source: str = ""
    repairs: tuple[Repair, ...] = field(default_factory=tuple)
    ranges: Ranges | None = None
    faults_TD: FloatArray | None = None
