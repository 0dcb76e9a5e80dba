"""The interface behind which every library baseline lives, and the registry that lists them.

A baseline is one file beside this one that registers what it has; the contract tests
(`tests/contract/test_baselines.py`) pick it up. Rows are *prepared* (`shared.preprocess`): filled, and in comparable
units.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import UnknownName
from shared.series import FloatArray

Float64Array = NDArray[np.float64]


class Fitted(Protocol):
    """A baseline that has learnt one site."""

    def scores(self, rows_TD: FloatArray, starts: tuple[int, ...]) -> Float64Array:
        """How anomalous each row is.

        Args:
            rows_TD: float32 (T, D), prepared; left as they are.
            starts: rows at which recordings begin, ascending from 0; no score looks across one.

        Returns:
            float64 (T,), the higher the more anomalous; in no unit that baselines share. NaN where no window ends yet,
            and where the window that ends holds a value that is not finite. No row's score depends on a later row.
        """


class Baseline(Protocol):
    """A detector out of a library, or a short one out of a paper."""

    @property
    def name(self) -> str:
        """What it is called in the registry and in reports."""

    def fit(self, train_TD: FloatArray, starts: tuple[int, ...], seed: int) -> Fitted:
        """Learn normal operation; the same rows and seed give the same scores.

        Args:
            train_TD: float32 (T, D), prepared rows of normal operation; left as they are, and no part of them is kept.
                Windows that hold a value that is not finite are not learnt from.
            starts: rows at which recordings begin.
            seed: of everything that is drawn.

        Raises:
            TooFewRows: less than two windows.
            NothingToLearn: nothing in the training rows varies.
            MissingExtra: the library that it stands on is not installed.
        """


_REGISTRY: dict[str, Baseline] = {}


def register(baseline: Baseline) -> Baseline:
    """Make a baseline known under its name."""
    _REGISTRY[baseline.name] = baseline
    return baseline


def known() -> list[str]:
    """Names of the registered baselines."""
    return sorted(_REGISTRY)


def find(name: str) -> Baseline:
    """The baseline of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in _REGISTRY:
        raise UnknownName("baseline", name, known())
    return _REGISTRY[name]
