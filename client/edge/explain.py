"""Which tags a score comes from, in words of the plant: share, direction, newest reading and what was expected.

Shapes: D tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from client.edge.records import Part
from shared.contributions import telling
from shared.preprocess import Preprocessor, Stream
from shared.scoring import Float64Array
from shared.series import FloatArray

Values = NDArray[np.floating[Any]]


class Explainer:
    """Names the tags of a score.

    Args:
        tags: names, (D,).
        preprocessor: what is undone for the expected reading.
        top: how many tags are named at most.
        high: what each tag's error does not exceed on normal data (`Calibration.tag_error_high`); with it the tags
            that tell most come first, without it those with the largest share.

    Example:
        >>> from shared.preprocess import Scaler
        >>> fitted = Preprocessor(
        ...     scaler=Scaler(kind="standard", shift=(10.0, 0.0), scale=(2.0, 1.0), centre=(10.0, 0.0))
        ... )
        >>> explain = Explainer(("LIT101", "FIT101"), fitted, top=1)
        >>> explain(np.float32([4, 0]), np.float32([14, 0]), np.float32([0, 0]), np.float32([-2, 0]), fitted.stream())
        (Part(tag='LIT101', share=1.0, direction=1, reading=14.0, expected=10.0),)
    """

    def __init__(
        self, tags: Sequence[str], preprocessor: Preprocessor, top: int, high: Sequence[float] | None = None
    ) -> None:
        self._tags, self._top = tuple(tags), min(top, len(tags))
        self._high_D = None if high is None else np.array(high, np.float64)
        self._silent = frozenset(preprocessor.silent)

    def __call__(
        self,
        error_D: Values,
        reading_D: FloatArray,
        expected_D: FloatArray,
        residual_D: FloatArray,
        stream: Stream,
    ) -> tuple[Part, ...]:
        """The parts of one window, the most telling first; `share` is of the error itself.

        Args:
            error_D: what each tag adds to the window's error, not negative.
            reading_D: newest raw readings.
            expected_D: what the model expects of the newest row, prepared.
            residual_D: expected less read, prepared.
            stream: that prepared the newest row; it knows the units.
        """
        shares_D = shares(error_D)
        order_D = shares_D if self._high_D is None else telling(error_D, self._high_D)
        raw_D = stream.raw(expected_D)
        return tuple(
            Part(
                tag=self._tags[d],
                share=float(shares_D[d]),
                direction=direction(-float(residual_D[d])),
                reading=float(reading_D[d]),
                expected=float("nan") if d in self._silent else float(raw_D[d]),
            )
            for d in largest(order_D, self._top)
        )


def shares(parts_D: Values) -> Float64Array:
    """Parts of a whole, float64 (D,), in [0, 1] and adding up to 1; what is not finite shares all of it.

    Example:
        >>> shares(np.array([3.0, 1.0])).tolist(), shares(np.array([np.inf, 1.0])).tolist()
        ([0.75, 0.25], [1.0, 0.0])
    """
    parts = parts_D.astype(np.float64)
    total = float(parts.sum())
    if not np.isfinite(total):
        parts = (~np.isfinite(parts)).astype(np.float64)
        total = float(parts.sum())
    shares_D: Float64Array = parts / total if total > 0 else np.full(len(parts), 1.0 / len(parts))
    return shares_D


def largest(shares_D: Float64Array, top: int) -> list[int]:
    """Indices of the `top` largest, largest first; of equals the first column comes first.

    Example:
        >>> largest(np.array([0.1, 0.5, 0.4, 0.0]), 2)
        [1, 2]
    """
    found: list[int] = np.argsort(-shares_D, kind="stable")[:top].tolist()
    return found


def direction(excess: float) -> Literal[-1, 0, 1]:
    """+1 where a reading is above what is expected, -1 below, 0 neither, as where nothing was read.

    Example:
        >>> direction(0.5), direction(-2.0), direction(float("nan"))
        (1, -1, 0)
    """
    return 1 if excess > 0 else -1 if excess < 0 else 0
