"""Baselines that fit for a moment: for tests of what does not depend on how long they do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from simulations.baselines import anomaly_transformer, dagmm


@contextmanager
def brief() -> Iterator[None]:
    """The two that take seconds make fewer steps; all else of theirs stays as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dagmm, "_STEPS", 50)
        patch.setitem(anomaly_transformer._SIZES, "epochs", 1)
        yield
