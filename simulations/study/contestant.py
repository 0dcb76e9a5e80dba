"""What a study compares: something that is fitted on normal data of sites, and then scores rows it has not seen.

A contestant never meets a label: the sites that it is given have none, and no test rows either. Scores and thresholds
are on disk before the study attaches labels (`simulations.study.measure`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.config import RunConfig
from shared.errors import UnknownName
from shared.series import BoolArray, FloatArray, SiteData

LOCAL, FEDERATED, CENTRAL, PRIVATE = "local", "federated", "central", "private"
MODES = (LOCAL, FEDERATED, PRIVATE, CENTRAL)

Float64Array = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Scored:
    """Scores of test rows as a contestant gives them.

    Attributes:
        scores_S: float64 (S,), one a joined row, higher is more anomalous; NaN where no full window ends.
        thresholds_S: float64 (S,); a row is alarmed when its score is greater.
        every: rows that became one.
    """

    scores_S: Float64Array
    thresholds_S: Float64Array
    every: int = 1


class Fitted(Protocol):
    """One site's fitted detector with its threshold."""

    @property
    def site(self) -> str:
        """The site's name."""

    @property
    def train_s(self) -> float:
        """Seconds of fitting; of the whole run where sites were fitted together."""

    @property
    def wire_bytes(self) -> int:
        """Bytes that all sites sent and received for it together; 0 where nothing travels."""

    def score(self, test_TD: FloatArray, starts: tuple[int, ...]) -> Scored:
        """Scores and thresholds of raw rows, float32 (T, D); none knows a later row."""

    def portrait(self, test_TD: FloatArray, starts: tuple[int, ...]) -> Arrays:
        """What pictures need, by name: `latents_NZ`, `modes_N`, `ends_N`, `errors_BD`; empty where there is nothing."""


@dataclass(frozen=True)
class LeftOut:
    """A site that could not be fitted, and why, in words."""

    site: str
    why: str


class Contestant(Protocol):
    """One way to find anomalies.

    Attributes:
        name: as `--detectors` has it.
        modes: those that it can be fitted in, of `MODES`.
    """

    @property
    def name(self) -> str: ...
    @property
    def modes(self) -> tuple[str, ...]: ...

    def fit(self, sites: Sequence[SiteData], mode: str, seed: int, scratch: Path) -> Sequence[Fitted | LeftOut]:
        """Fit on the training rows of sites that have neither labels nor test rows.

        Args:
            sites: all that take part.
            mode: of `modes`.
            seed: of everything that is drawn.
            scratch: an empty folder, removed afterwards.

        Returns:
            one a site, whether it could be fitted or not.

        Raises:
            CrossplantError: it cannot be fitted on these sites in this mode.
        """


@dataclass(frozen=True)
class Judged:
    """One site's test rows with scores and thresholds, at the rows of the recording whatever a contestant joined.

    Attributes:
        site: name.
        scores_T, thresholds_T: float64 (T,); NaN scores where there is none.
        starts: rows at which test recordings begin.
        period_s: seconds a row.
        train_s: seconds of fitting.
        score_us: microseconds of scoring a row.
        wire_bytes: what travelled.
        labels_T: bool (T,), attached by the study after all the rest is fixed; None before, and without labels.
        peak_mb: of the process that did all this; NaN where it was not a process of its own.
        variants: scores and thresholds of the same rows, disturbed, by the name of the disturbance.
        portrait: for pictures.
    """

    site: str
    scores_T: Float64Array
    thresholds_T: Float64Array
    starts: tuple[int, ...]
    period_s: float
    train_s: float
    score_us: float = float("nan")
    wire_bytes: int = 0
    labels_T: BoolArray | None = None
    peak_mb: float = float("nan")
    variants: Mapping[str, tuple[Float64Array, Float64Array]] = field(default_factory=dict)
    portrait: Arrays = field(default_factory=dict)


def spread(values_S: Float64Array, every: int, starts: tuple[int, ...], rows: int, before: float) -> Float64Array:
    """Values of joined rows at the rows they were joined from: each holds from its block's last row until the next.

    Args:
        values_S: (S,), as `shared.preprocess.join_rows` counts them.
        every: rows that became one.
        starts: rows at which recordings begin.
        rows: T.
        before: what stands before the first block of a recording is complete.

    Returns:
        float64 (T,).

    Example:
        >>> spread(np.array([1.0, 2.0]), 2, (0,), 5, np.nan).tolist()
        [nan, 1.0, 1.0, 2.0, 2.0]
    """
    whole_T, taken = np.full(rows, before), 0
    for begin, end in zip(starts, [*starts[1:], rows], strict=True):
        block_t = (np.arange(end - begin) + 1) // every - 1
        known_t = block_t >= 0
        whole_T[begin:end][known_t] = values_S[taken + block_t[known_t]]
        taken += (end - begin) // every
    return whole_T


def contestant(name: str, config: RunConfig, kind: str | None = None) -> Contestant:
    """The contestant of a name with its frozen settings.

    Args:
        name: which.
        config: its settings.
        kind: as `kind_of` says, where that was asked already: to ask imports every detector.

    Raises:
        UnknownName: there is none.
    """
    kind = kind or kind_of(name)
    if kind == "lag":
        from simulations.study.lagged import LagContestant

        return LagContestant(config)
    if kind == "library":
        from simulations.study.library import LibraryContestant

        return LibraryContestant(name, config)
    from simulations.study.neural import NeuralContestant

    return NeuralContestant(name, config)


def kind_of(name: str) -> str:
    """`neural`, `lag` or `library`.

    Raises:
        UnknownName: there is no such contestant.
    """
    from simulations.study.overlays import ABLATIONS, BASE

    if name == "lag":
        return "lag"
    if name in neural_names() or (name.startswith(f"{BASE}:") and name.partition(":")[2] in ABLATIONS):
        return "neural"
    if name in library_names():
        return "library"
    raise UnknownName("detector", name, known())


def known() -> list[str]:
    """Every contestant but the ablations, in the order of `all`.

    Example:
        >>> "lag" in known() and "crossplant" in known()
        True
    """
    return [*neural_names(), "lag", *library_names()]


def neural_names() -> list[str]:
    """The presets, and the registered detectors."""
    from shared import detectors

    return ["crossplant", "paper", *detectors.known()]


def library_names() -> list[str]:
    """The baselines through libraries."""
    from simulations import baselines

    return list(baselines.known())
