"""Replies folded in the order of the roster, of which a few wait in memory and the others in a file."""

from __future__ import annotations

import errno
import itertools
import tempfile
from dataclasses import dataclass, field

import numpy as np
import pytest

from server.aggregate import Aggregate, RunningMean
from server.ordered import OrderedFold
from shared.clustering import Statistic
from shared.errors import DiskFull
from shared.wire.gate import Accepted, Rejected

NAMES = [f"p{i}" for i in range(5)]


def update(name: str) -> Accepted:
    rng = np.random.default_rng(int(name[1:]))
    weights = {"b": rng.normal(size=3).astype(np.float32), "a": rng.normal(size=(2, 4)).astype(np.float32)}
    weights["scalar"] = np.asarray(rng.normal(), np.float32)
    statistic = Statistic(rng.normal(size=(2, 3)), np.ones(2), 0.5)
    return Accepted(name, 10, weights, statistic, None, {"train_loss": float(rng.uniform(1e-9, 1e9))}, {}, 1.0)


@dataclass
class Watched:
    """A fold that says in which order it was given what."""

    into: RunningMean = field(default_factory=RunningMean)
    seen: list[Accepted] = field(default_factory=list)

    def add(self, accepted: Accepted, weight: float) -> None:
        self.seen.append(accepted)
        self.into.add(accepted, weight)

    def result(self) -> Aggregate:
        return self.into.result()


def fold(order: tuple[str, ...], held: int, lost: frozenset[str] = frozenset()) -> tuple[Watched, OrderedFold, bytes]:
    into = Watched()
    ordered = OrderedFold(NAMES, {name: 1.0 + i for i, name in enumerate(NAMES)}, into, held)
    for name in order:
        if name not in lost:
            ordered.take(name, update(name))
    made = ordered.finish()
    bits = b"".join(made.weights[name].tobytes() for name in sorted(made.weights))
    return into, ordered, bits + made.statistic.sums_KZ.tobytes() + repr(sorted(made.metrics.items())).encode()


@pytest.mark.parametrize("held", [0, 1, 2, 20])
def test_no_order_of_arrival_and_no_file_changes_a_bit(held: int) -> None:
    reference = fold(tuple(NAMES), 20)[2]
    for order in itertools.permutations(NAMES):
        into, _, bits = fold(order, held)
        assert bits == reference
        assert [one.plant for one in into.seen] == NAMES


def test_what_comes_back_from_the_file_is_what_went_in() -> None:
    into, ordered, _ = fold(tuple(reversed(NAMES)), held=1)
    assert ordered._shelf._file is not None
    for one in into.seen:
        due = update(one.plant)
        assert {name: value.tobytes() for name, value in one.weights.items()} == {
            name: value.tobytes() for name, value in due.weights.items()
        }
        assert {n: v.shape for n, v in one.weights.items()} == {n: v.shape for n, v in due.weights.items()}
        assert list(one.weights) == list(due.weights)


def test_in_order_nothing_waits() -> None:
    _, ordered, _ = fold(tuple(NAMES), held=0)
    assert ordered._shelf._file is None


def test_beyond_the_bound_weights_leave_memory() -> None:
    ordered = OrderedFold(NAMES, dict.fromkeys(NAMES, 1.0), RunningMean(), held=2)
    for name in NAMES[1:]:
        ordered.take(name, update(name))
    kept = [isinstance(v, Accepted) and v.weights is not None for v in ordered._waiting.values()]
    assert (sum(kept), ordered._shelf.written) == (2, 2)
    ordered.close()


def test_plants_that_are_lost_or_rejected_are_passed_over() -> None:
    into, _, _ = fold(tuple(reversed(NAMES)), 1, frozenset({"p0", "p3"}))
    assert [one.plant for one in into.seen] == ["p1", "p2", "p4"]
    ordered = OrderedFold(NAMES, dict.fromkeys(NAMES, 1.0), RunningMean())
    ordered.take("p1", Rejected("p1", "late"))
    ordered.take("p0", update("p0"))
    assert (ordered.accepted, ordered.finish().count) == (1, 1)


def test_a_full_disk_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def seek(self, *_: int) -> int:
            return 0

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    ordered = OrderedFold(NAMES, dict.fromkeys(NAMES, 1.0), RunningMean(), held=0)
    with pytest.raises(DiskFull, match="wait for a slower plant"):
        ordered.take("p4", update("p4"))
