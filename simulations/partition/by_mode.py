"""`by-mode`: plants that run in different operating modes, as unlike as a Dirichlet distribution makes them.

Label-skewed federations are drawn from classes (Hsu et al. 2019, arXiv 1909.06335, section 3: each client's class mix
is q ~ Dir(alpha p), p the mix of all the data). Sensor data has no classes, so its operating modes take their place:
time is cut into segments, a segment is described by the mean and the standard deviation of each standardised tag, and
k-means finds the modes. Small alpha: each plant runs in few modes. Large alpha: plants are alike.

Every segment goes to exactly one plant. So the plants take their equal parts one after the other, and when a mode is
used up, those that still want some of it take of the other modes in the ratios of their own mix; the last plants get
what is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.errors import TooFewRows
from shared.series import SiteData
from simulations.partition.pieces import Span, join, take
from simulations.partition.registry import Asked, Sites, strategy
from simulations.partition.segments import Double, cut_segments, describe, scale_of

PLANTS = 8
IntArray = NDArray[np.int64]

_STREAM = 0x6D6F6465  # "mode": its own random numbers, whatever else the seed is used for
_RESTARTS = 4
_NOTHING = 1e-12
_LEAST_SHARE, _LEAST_TEST_SHARE = 0.5, 0.1
"""No plant gets less than this of an equal share, as far as whole segments allow it."""


@strategy("by-mode")
def by_mode(sites: Sites, asked: Asked) -> Sites:
    """Segments of all natural sites together, dealt out by operating mode; 8 plants without a count.

    Test segments are given the mode whose centre is nearest, and go to the plants in the shares in which the plants
    train on that mode. Labels stay with their rows, and no labelled event is cut.

    Raises:
        TooFewRows: there are fewer segments than plants.
        SchemaMismatch: the sites differ in tags or sampling.
    """
    if not sites:
        return ()
    whole = sites[0] if len(sites) == 1 else join("joined", sites)
    count = asked.count or PLANTS
    train = cut_segments(len(whole.train_TD), whole.train_starts, asked.segment)
    test = cut_segments(len(whole.test_TD), whole.test_starts, asked.segment, whole.labels_T)
    if len(train) < count:
        cause = f"the training data is {len(train)} segments of about {asked.segment} rows, too few for {count} plants."
        raise TooFewRows(cause, "Choose a smaller --sites or a shorter segment with --set data.segment=ROWS.")
    trains_N, tests_N = _owners(whole, train, test, count, asked)
    return tuple(
        take(
            whole,
            f"{whole.name}-m{plant + 1}",
            [train[at] for at in np.flatnonzero(trains_N == plant)],
            [test[at] for at in np.flatnonzero(tests_N == plant)],
            f"plant {plant + 1} of {count} by operating mode",
        )
        for plant in range(count)
    )


def _owners(
    site: SiteData, train: Sequence[Span], test: Sequence[Span], count: int, asked: Asked
) -> tuple[IntArray, IntArray]:
    """The plant that gets each training and each test segment."""
    modes_train, modes_test = _modes(site, train, test, asked)
    rng = np.random.default_rng([asked.seed, _STREAM])
    mix_JK = mixes(_rows_of(modes_train, train), count, asked.concentration, rng)
    share_JK = mix_JK / mix_JK.sum(axis=0)
    trains_N = deal(share_JK, modes_train, train, _LEAST_SHARE, rng)
    return trains_N, deal(share_JK, modes_test, test, _LEAST_TEST_SHARE, rng)


def _modes(site: SiteData, train: Sequence[Span], test: Sequence[Span], asked: Asked) -> tuple[IntArray, IntArray]:
    """The mode of every training and test segment, numbered without gaps."""
    from sklearn.cluster import KMeans  # Half a second that the other partitions should not cost.

    scale = scale_of(site.train_TD)
    shapes_NF = describe(site.train_TD, train, *scale).round(6)
    count = min(asked.modes, len(np.unique(shapes_NF, axis=0)))
    model = KMeans(count, n_init=_RESTARTS, random_state=asked.seed).fit(shapes_NF)
    tested = model.predict(describe(site.test_TD, test, *scale)) if test else np.zeros(0)
    return model.labels_.astype(np.int64), tested.astype(np.int64)


def _rows_of(modes_N: IntArray, segments: Sequence[Span]) -> Double:
    """Rows that each mode has, (K,)."""
    rows_K: Double = np.bincount(modes_N, weights=[end - first for first, end in segments]).astype(np.float64)
    return rows_K


def mixes(rows_K: Double, plants: int, concentration: float, rng: np.random.Generator) -> Double:
    """Which share of all rows falls to each plant and mode.

    Args:
        rows_K: rows that each mode has.
        plants: J.
        concentration: alpha; each plant's mix is drawn from Dir(alpha p), p the modes' shares of all rows.
        rng: what is drawn from.

    Returns:
        float64 (J, K); its rows sum to 1 / J, its columns to the modes' shares.
    """
    left_K = rows_K / rows_K.sum()
    table_JK = np.zeros((plants, len(rows_K)))
    for plant, log_mix_K in enumerate(_log_dirichlet(concentration * left_K, plants, rng)):
        lacking = 1 / plants
        while lacking > _NOTHING and (left_K > _NOTHING).any():
            wish_K = np.where(left_K > _NOTHING, log_mix_K, -np.inf)
            weight_K = np.exp(wish_K - wish_K.max())
            taken_K = np.minimum(lacking * weight_K / weight_K.sum(), left_K)
            table_JK[plant] += taken_K
            left_K = left_K - taken_K
            lacking -= taken_K.sum()
    return table_JK


def _log_dirichlet(alpha_K: Double, size: int, rng: np.random.Generator) -> Double:
    """Logarithms, up to a constant, of draws from a Dirichlet distribution, float64 (size, K).

    Where alpha is small most of a draw is too small for a float, and yet its order decides who gets what is left: a
    Gamma(a) variate is a Gamma(a + 1) variate times U ** (1 / a) (Marsaglia and Tsang 2000,
    doi 10.1145/358407.358414, section 6).
    """
    uniform_JK = 1.0 - rng.random((size, len(alpha_K)))
    logs_JK: Double = np.log(rng.standard_gamma(alpha_K + 1, (size, len(alpha_K)))) + np.log(uniform_JK) / alpha_K
    return logs_JK


def deal(
    share_JK: Double, modes_N: IntArray, segments: Sequence[Span], least: float, rng: np.random.Generator
) -> IntArray:
    """Which plant gets each segment, int64 (N,): in random order, always to the plant that lacks most of its share.

    Args:
        share_JK: what share of each mode falls to each plant; columns sum to 1.
        modes_N: the mode of each segment.
        segments: their rows.
        least: no plant gets less than this part of an equal share, where moving segments can help it.
        rng: the order.
    """
    rows_N = np.array([end - first for first, end in segments], np.float64)
    owner_N = np.zeros(len(segments), np.int64)
    lacking_JK = share_JK * np.bincount(modes_N, weights=rows_N, minlength=share_JK.shape[1])
    for at in rng.permutation(len(segments)):
        owner = int(lacking_JK[:, modes_N[at]].argmax())
        lacking_JK[owner, modes_N[at]] -= rows_N[at]
        owner_N[at] = owner
    return _levelled(owner_N, rows_N, share_JK[:, modes_N], least)


def _levelled(owner_N: IntArray, rows_N: Double, wish_JN: Double, least: float) -> IntArray:
    """Move segments from the largest plants to those below the least share.

    Each move makes the sum of squared sizes smaller, so that this ends.
    """
    plants = len(wish_JN)
    floor = least * rows_N.sum() / plants
    while True:
        size_J = np.bincount(owner_N, weights=rows_N, minlength=plants)
        poor = int(size_J.argmin())
        # What a plant may give: so little that it stays larger than the poor one was.
        gives_N = (owner_N != poor) & (rows_N < size_J[owner_N] - size_J[poor])
        if size_J[poor] >= floor or not gives_N.any():
            return owner_N
        rich = max(set(owner_N[gives_N].tolist()), key=lambda plant: float(size_J[plant]))
        choice = np.flatnonzero(gives_N & (owner_N == rich))
        owner_N[choice[wish_JN[poor, choice].argmax()]] = poor
