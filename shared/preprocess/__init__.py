"""From raw readings to what a detector sees. Fitted on training data only, applied alike in batch and sample by sample.

The steps, in their order; each but the scaling can be switched off:

1. join: `every` consecutive rows become one (median, mean or last of what was measured);
2. fill: a missing value takes the last one seen; a long gap in *training* data is bridged by a line (it looks ahead);
3. roll: each value relative to the mean and spread of its column's last rows;
4. scale: to comparable units, clipped in training, guarded in live data;
5. mute: a column that carries nothing, or what another one carries, is 0 from here on. It keeps its place, because
   a federation needs as many columns at every site.

A fitted `Preprocessor` is a small serialisable value. `Preprocessor.live` and `Preprocessor.stream` give the same bits.
"""

from __future__ import annotations

from shared.preprocess.curate import filled_from_alike, unusual_rows
from shared.preprocess.fill import fill_live, fill_training
from shared.preprocess.filters import constant_columns, muted_columns
from shared.preprocess.pipeline import Preprocessor, Rows, fit_filled, fit_preprocessor
from shared.preprocess.resample import Join, join_labels, join_rows, joined_starts
from shared.preprocess.rolling import Rolling, roll
from shared.preprocess.scale import Scaler, Scaling, fit_scaler, ranges_scaler
from shared.preprocess.stream import Stream

__all__ = [
    "Join",
    "Preprocessor",
    "Rolling",
    "Rows",
    "Scaler",
    "Scaling",
    "Stream",
    "constant_columns",
    "fill_live",
    "fill_training",
    "filled_from_alike",
    "fit_filled",
    "fit_preprocessor",
    "fit_scaler",
    "join_labels",
    "join_rows",
    "joined_starts",
    "muted_columns",
    "ranges_scaler",
    "roll",
    "unusual_rows",
]
