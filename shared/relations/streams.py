"""What the residuals of a tag say, for an impulse, for what lasts a minute or three, and for an offset.

    e = |z|                   z: residual of the change, in units of its mode
    m6, m18 = |mean of c(z)|  over 6, 18 blocks, c: clipped; 0 unless the newest third agrees in sign, and at most 3
                              times its mean: they end soon after their cause
    v6 = |mean of c(z')|      over 6 blocks, z': residual of the level, of tags that follow others tightly;
                              at most twice the newest: ends with its cause

Clipped means are Huber's (1964, "Robust estimation of a location parameter", Ann. Math. Stat. 35(1)). Shapes: n blocks,
C tags.
"""

from __future__ import annotations

import numpy as np

from shared.scoring import Float64Array
from shared.series import BoolArray

NAMES = ("e", "m6", "m18", "v6")
LEAST = (4.0, 1.7, 1.0, 3.0)
"""What normal operation is granted at least, in units of z."""
_LONG, _MID, _SHORT = 18, 6, 3
_CLIP, _CLIP_LEVEL = 8.0, 20.0


class Trails:
    """Residuals of one recording, a chunk of blocks at a time.

    Args:
        tight_C: tags whose level counts.
    """

    def __init__(self, tight_C: BoolArray) -> None:
        self._tight_C = tight_C
        self._past_HO = np.zeros((_LONG - 1, 2 * len(tight_C)))

    def take(self, z_nO: Float64Array) -> Float64Array:
        """The streams, float64 (n, 4, C), from residuals of changes and levels side by side."""
        tags, count = len(self._tight_C), len(z_nO)
        all_MO = np.concatenate([self._past_HO, z_nO])
        self._past_HO = all_MO[len(all_MO) - (_LONG - 1) :]
        clipped_MC = np.clip(all_MO[:, :tags], -_CLIP, _CLIP)
        m3_nC, m6_nC, m18_nC = (_mean(clipped_MC, width, count) for width in (_SHORT, _MID, _LONG))
        level_MC = np.where(self._tight_C, np.clip(all_MO[:, tags:], -_CLIP_LEVEL, _CLIP_LEVEL), 0.0)
        newest_nC = np.where(self._tight_C, np.abs(z_nO[:, tags:]), 0.0)
        v6_nC = np.minimum(np.abs(_mean(level_MC, _MID, count)), 2 * newest_nC)
        return np.stack([np.abs(z_nO[:, :tags]), _agreeing(m6_nC, m3_nC), _agreeing(m18_nC, m6_nC), v6_nC], axis=1)


def _mean(values_MC: Float64Array, width: int, count: int) -> Float64Array:
    """Trailing means of the last `count` rows. Summed one by one: a chunk and a single row give the same bits."""
    last = len(values_MC)
    total_nC = np.zeros((count, values_MC.shape[1]))
    for back in range(width):
        total_nC += values_MC[last - count - back : last - back]
    return total_nC / width


def _agreeing(long_nC: Float64Array, short_nC: Float64Array) -> Float64Array:
    """|mean|, where the newest part has its sign, and at most 3 times that."""
    return np.where(long_nC * short_nC > 0, np.minimum(np.abs(long_nC), 3 * np.abs(short_nC)), 0.0)
