"""Aggregation that a minority of plants cannot bend: clip, then drop or outvote the extremes of every coordinate.

Changes of the weights are put together, not the weights: distances between weights lose the small differences between
plants to rounding. With the smallest and the largest left out, the rest is the trimmed mean for n >= 5, and the
coordinate median itself for n = 3 and 4 (Yin et al. 2018, "Byzantine-robust distributed learning: towards optimal
statistical rates", ICML). Sum, smallest and largest are enough for it, so memory does not grow with the number of
plants. What was measured with few, unlike plants is in docs/decisions/0007.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from server.aggregate import Aggregate, Fold, RunningMean
from server.rounds import Member, RunState
from shared.clustering import Statistic
from shared.config import RoundConfig
from shared.model import Weights
from shared.series import FloatArray
from shared.wire.gate import Accepted

MEMORY = 5  # training rounds that the running median of norms looks back on
HELD = 20  # replies kept in memory at once, by the rules that need all of them and while no norm is known
KRUM_LEAST = 5  # n >= 2 f + 3 for one attacker

_BLOCK = 1 << 18  # coordinates at a time

Double = NDArray[np.float64]


def fold_for(state: RunState, rounds: RoundConfig) -> Fold:
    """What puts the replies of the next round together."""
    if rounds.aggregation == "mean" or state.model is None:
        return RunningMean()
    base = base_of(state.model.weights, rounds)
    rules = {"robust": Extremes, "trimmed-mean": Extremes, "median": Medians, "krum": Krum}
    clipped = rounds.aggregation == "robust"
    shares = statistic_shares(state.members, 1.0 if rounds.weighting == "uniform" else rounds.weight_cap)
    return RobustFold(base, rules[rounds.aggregation](), state.norms, clipped, shares)


def base_of(weights: Weights, rounds: RoundConfig) -> Weights:
    """What replies are changes from: the weights that were sent, or nothing at all where gradients come."""
    return weights if rounds.server_optimizer == "avg" else {name: np.zeros_like(w) for name, w in weights.items()}


def statistic_shares(members: Sequence[Member], cap: float) -> dict[str, float]:
    """How much of its cluster statistic each plant may bring in: segments beyond `cap` times the median count for less.

    How many segments a plant has is its own word: one that claims a million must not own every centroid.

    Example:
        >>> statistic_shares([Member("a", 9, 2, 1.0), Member("b", 9, 2, 1.0), Member("c", 9, 8, 1.0)], cap=1.0)
        {'a': 1.0, 'b': 1.0, 'c': 0.25}
    """
    limit = cap * float(np.median([member.segments for member in members])) if members else np.inf
    return {member.plant: min(1.0, limit / max(member.segments, 1)) for member in members}


def remember(norms: Sequence[float], round_norms: Sequence[float]) -> tuple[float, ...]:
    """The medians of update norms after one more training round; a round without updates leaves them.

    Norms are taken as they came, not as they were clipped: else the bound could only fall.
    """
    added = [float(np.median(round_norms))] if len(round_norms) else []
    return (*norms, *added)[-MEMORY:]


def clip_factor(norm: float, bound: float) -> float:
    """What shortens an update to the bound: min(1, C / ||u||).

    Example:
        >>> clip_factor(4.0, 1.0), clip_factor(0.5, 1.0), clip_factor(0.0, 0.0)
        (0.25, 1.0, 1.0)
    """
    return 1.0 if norm <= bound else bound / norm


class Rule(Protocol):
    """How changes of the weights become one."""

    def add(self, change_P: FloatArray, weight: float, plant: str) -> None:
        """Take one in."""

    def result(self) -> tuple[Double, tuple[str, ...]]:
        """The change of the model, float64 (P,), and what to say about it."""


@dataclass
class RobustFold:
    """Clips updates and hands them to a rule; statistics and metrics are put together as under the mean.

    Attributes:
        base: the weights that were sent; zeros where gradients come.
        rule: what becomes of the changes.
        norms: medians of earlier rounds; while there are none, the first replies wait for each other.
        clipped: whether norms are bounded at all.
        shares: by plant, how much of its cluster statistic counts; all of it where nothing is said.
    """

    base: Weights
    rule: Rule
    norms: tuple[float, ...] = ()
    clipped: bool = True
    shares: Mapping[str, float] = field(default_factory=dict)
    _others: RunningMean = field(default_factory=RunningMean)
    _seen: list[float] = field(default_factory=list)
    _waiting: list[tuple[Accepted, float]] = field(default_factory=list)
    _bound: float | None = None

    def __post_init__(self) -> None:
        if not self.clipped:
            self._bound = np.inf
        elif self.norms:
            self._bound = float(np.median(self.norms))

    def add(self, accepted: Accepted, weight: float) -> None:
        said, share = accepted.statistic, self.shares.get(accepted.plant, 1.0)
        if said is not None and share < 1.0:
            said = Statistic(said.sums_KZ * share, said.counts_K * share, said.spread * share)
        self._others.add(replace(accepted, weights=None, statistic=said), weight)
        if accepted.weights is None or accepted.update_norm is None:
            return
        self._seen.append(accepted.update_norm)
        self._waiting.append((accepted, weight))
        if self._bound is not None or len(self._waiting) >= HELD:
            self._take()

    def _take(self) -> None:
        if self._bound is None:
            self._bound = float(np.median(self._seen))
        for accepted, weight in self._waiting:
            factor = clip_factor(accepted.update_norm or 0.0, self._bound)
            self.rule.add(_change(accepted.weights or {}, self.base, factor), weight, accepted.plant)
        self._waiting.clear()

    def result(self) -> Aggregate:
        others = self._others.result()
        if not self._seen:
            return others
        self._take()
        change_P, notes = self.rule.result()
        weights = _moved(self.base, change_P)
        return replace(others, weights=weights, norms=tuple(self._seen), bound=self._bound or 0.0, notes=notes)


def _change(weights: Weights, base: Weights, factor: float) -> FloatArray:
    parts = [(weights[name].astype(np.float64) - base[name]).ravel() * factor for name in sorted(base)]
    return np.concatenate(parts).astype(np.float32)


def _moved(base: Weights, change_P: Double) -> Weights:
    moved, at = {}, 0
    for name in sorted(base):
        size = base[name].size
        moved[name] = (base[name] + change_P[at : at + size].reshape(base[name].shape)).astype(np.float32)
        at += size
    return moved


# ---- rules -----------------------------------------------------------------------------------------------------------


@dataclass
class Extremes:
    """Mean without the smallest and the largest value of each coordinate; of two or one, the plain mean.

    (sum_s w_s u_s - w_min u_min - w_max u_max) / (sum_s w_s - w_min - w_max), coordinate by coordinate. Of equal values
    the first counts as the smallest and the last as the largest, so they are two plants.
    """

    _weights: list[float] = field(default_factory=list)
    _sum_P: Double = field(default_factory=lambda: np.zeros(0))
    _least_P: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    _most_P: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    _least_of_P: NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, np.uint16))
    _most_of_P: NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, np.uint16))

    def add(self, change_P: FloatArray, weight: float, plant: str) -> None:
        number = len(self._weights)
        self._weights.append(weight)
        if number == 0:
            self._sum_P = weight * change_P.astype(np.float64)
            self._least_P, self._most_P = change_P.copy(), change_P.copy()
            self._least_of_P, self._most_of_P = (np.zeros(change_P.shape, np.uint16) for _ in range(2))
            return
        self._sum_P += weight * change_P.astype(np.float64)
        lower_P, upper_P = change_P < self._least_P, change_P >= self._most_P
        np.minimum(self._least_P, change_P, out=self._least_P)
        np.maximum(self._most_P, change_P, out=self._most_P)
        np.copyto(self._least_of_P, np.uint16(number), where=lower_P)
        np.copyto(self._most_of_P, np.uint16(number), where=upper_P)

    def result(self) -> tuple[Double, tuple[str, ...]]:
        weights = np.asarray(self._weights)
        if len(weights) < 3:
            return self._sum_P / weights.sum(), (few(len(weights)),)
        least_P, most_P = weights[self._least_of_P], weights[self._most_of_P]
        kept_P = self._sum_P - least_P * self._least_P.astype(np.float64) - most_P * self._most_P.astype(np.float64)
        return kept_P / (weights.sum() - least_P - most_P), ()


def few(count: int) -> str:
    """What to say when nothing can be trimmed.

    Example:
        >>> few(2)
        'aggregation: plain mean of 2 replies, with fewer than 3 none can be outvoted'
    """
    return (
        f"aggregation: plain mean of {count} repl{'y' if count == 1 else 'ies'}, with fewer than 3 none can be outvoted"
    )


class Spool:
    """Changes of all plants of a round: a few in memory, more in a file without a name; read back block by block."""

    def __init__(self) -> None:
        self._rows: list[FloatArray] = []
        self._file: IO[bytes] | None = None
        self._width = 0
        self.count = 0

    def add(self, change_P: FloatArray) -> None:
        """Keep one more."""
        self._rows.append(change_P)
        self._width, self.count = change_P.size, self.count + 1
        if self.count > HELD:
            self._file = self._file or tempfile.TemporaryFile(prefix="crossplant-")  # noqa: SIM115  closed by `close`
            for row_P in self._rows:
                self._file.write(row_P.tobytes())
            self._rows.clear()

    def blocks(self) -> Iterator[FloatArray]:
        """Coordinates of all plants, float32 (n, block), in order."""
        for first in range(0, self._width, _BLOCK):
            yield self._block(first, min(_BLOCK, self._width - first))

    def _block(self, first: int, width: int) -> FloatArray:
        if self._file is None:
            return np.stack([row_P[first : first + width] for row_P in self._rows])
        block = np.empty((self.count, width), np.float32)
        for number in range(self.count):
            self._file.seek(4 * (number * self._width + first))
            block[number] = np.frombuffer(self._file.read(4 * width), np.float32)
        self._file.seek(0, 2)
        return block

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()


class Medians:
    """The median of each coordinate; every plant counts once."""

    def __init__(self) -> None:
        self._spool = Spool()

    def add(self, change_P: FloatArray, weight: float, plant: str) -> None:
        self._spool.add(change_P)

    def result(self) -> tuple[Double, tuple[str, ...]]:
        return _median(self._spool), (few(self._spool.count),) if self._spool.count < 3 else ()


class Krum:
    """The one change nearest to its neighbours (Blanchard et al. 2017, NeurIPS); with fewer than 5 replies, the median.

    Offered for comparison. It picks one plant, so the modes of all the others are lost, attacker or none.
    """

    def __init__(self) -> None:
        self._spool = Spool()
        self._plants: list[str] = []

    def add(self, change_P: FloatArray, weight: float, plant: str) -> None:
        self._spool.add(change_P)
        self._plants.append(plant)

    def result(self) -> tuple[Double, tuple[str, ...]]:
        count = self._spool.count
        if count < KRUM_LEAST:
            told = f"aggregation: krum needs {KRUM_LEAST} replies, of {count} the median was taken"
            return _median(self._spool), (told,)
        chosen = krum_choice(_distances(self._spool))
        change_P = np.concatenate([block[chosen].astype(np.float64) for block in self._spool.blocks()])
        self._spool.close()
        told = f"aggregation: krum took {self._plants[chosen]} alone; it destroys modes that few plants have"
        return change_P, (told,)


def _median(spool: Spool) -> Double:
    median_P = np.concatenate([np.median(block.astype(np.float64), axis=0) for block in spool.blocks()])
    spool.close()
    return median_P


def _distances(spool: Spool) -> Double:
    """Squared distances between all changes, float64 (n, n)."""
    squared_NN = np.zeros((spool.count, spool.count))
    for block in spool.blocks():
        rows = block.astype(np.float64)
        for number, row in enumerate(rows):
            squared_NN[number] += ((rows - row) ** 2).sum(axis=1)
    return squared_NN


def krum_choice(squared_NN: Double, attackers: int = 1) -> int:
    """Index of the change whose n - f - 2 nearest others are nearest.

    Example:
        >>> x = np.array([0.0, 1.0, 1.1, 1.2, 9.0])
        >>> krum_choice((x[:, None] - x[None, :]) ** 2)
        2
    """
    near_NN = np.sort(squared_NN + np.diag(np.full(len(squared_NN), np.inf)), axis=1)
    return int(near_NN[:, : len(squared_NN) - attackers - 2].sum(axis=1).argmin())
