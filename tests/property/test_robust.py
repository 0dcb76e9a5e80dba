"""What must hold for the robust stack, whatever plants send past the gate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from server.robust import HELD, Extremes, Krum, Medians, RobustFold, Rule
from shared.wire.compress import WIRES, Wire, compress, expand
from shared.wire.gate import Accepted
from tests.support.puppets import MANIFEST

SIZE = 6
values = st.floats(-1e4, 1e4, width=32)
changes = st.integers(1, HELD + 6).flatmap(lambda n: arrays.arrays(np.float32, (n, SIZE), elements=values))


def fold(rule: Rule, rows: np.ndarray, clipped: bool = False) -> np.ndarray:
    into = RobustFold({"w": np.zeros(SIZE, np.float32)}, rule, clipped=clipped)
    for number, row in enumerate(rows):
        norm = float(np.linalg.norm(row.astype(np.float64)))
        into.add(Accepted(f"p{number}", 1, {"w": row}, update_norm=norm), 1.0)
    return into.result().weights["w"]


def reference(rows: np.ndarray) -> np.ndarray:
    ordered = np.sort(rows.astype(np.float64), axis=0)
    return (ordered if len(rows) < 3 else ordered[1:-1]).mean(axis=0)


@given(changes)
def test_sum_and_extremes_give_the_trimmed_mean(rows: np.ndarray) -> None:
    np.testing.assert_allclose(fold(Extremes(), rows), reference(rows), rtol=1e-5, atol=1e-3)


@given(changes)
def test_the_median_is_the_median(rows: np.ndarray) -> None:
    np.testing.assert_allclose(fold(Medians(), rows), np.median(rows.astype(np.float64), axis=0), rtol=1e-6)


@given(changes, st.permutations(range(HELD + 6)))
def test_who_is_who_does_not_matter(rows: np.ndarray, order: list[int]) -> None:
    shuffled = rows[[i for i in order if i < len(rows)]]
    np.testing.assert_allclose(fold(Extremes(), shuffled), fold(Extremes(), rows), rtol=1e-5, atol=1e-3)


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(2, 24), st.just(SIZE)), elements=values),
    arrays.arrays(np.float32, (SIZE,), elements=values),
)
def test_one_plant_leaves_the_result_among_the_honest(rows: np.ndarray, hostile: np.ndarray) -> None:
    low, high = rows.min(axis=0) - 1e-2, rows.max(axis=0) + 1e-2
    for rule in (Extremes, Medians):
        moved = fold(rule(), np.concatenate([rows, hostile[None]]))
        assert ((low <= moved) & (moved <= high)).all()


@given(changes)
def test_clipped_the_model_moves_no_further_than_the_median_norm_allows(rows: np.ndarray) -> None:
    bound = np.median(np.linalg.norm(rows[:HELD].astype(np.float64), axis=1))
    moved = fold(Extremes(), rows, clipped=True)
    assert (np.abs(moved) <= bound * (1 + 1e-5) + 1e-6).all()


@given(arrays.arrays(np.float32, st.tuples(st.integers(5, 24), st.just(SIZE)), elements=values))
def test_krum_gives_what_some_plant_sent(rows: np.ndarray) -> None:
    moved = fold(Krum(), rows)
    assert any(np.array_equal(moved, row) for row in rows)


@settings(max_examples=200)
@given(
    st.sampled_from([wire for wire in WIRES if wire != "fp32"]),
    arrays.arrays(np.float32, (sum(s.size for s in MANIFEST),), elements=st.floats(-100, 100, width=32)),
)
def test_a_change_comes_back_within_its_rounding(wire: Wire, delta: np.ndarray) -> None:
    back = expand(compress(delta, MANIFEST, wire), MANIFEST, wire)
    if wire == "bf16":
        np.testing.assert_allclose(back, delta, rtol=2**-8, atol=1e-38)
        return
    at = 0
    for spec in sorted(MANIFEST, key=lambda s: s.name):
        mine, theirs = delta[at : at + spec.size], back[at : at + spec.size]
        assert np.abs(mine - theirs).max() <= 0.501 * np.abs(mine).max() / 127 + 1e-40
        at += spec.size


@pytest.mark.parametrize("rule", [Extremes, Medians, Krum])
def test_the_same_replies_give_the_same_bits(rule: type[Rule]) -> None:
    rows = np.random.default_rng(0).normal(size=(30, SIZE)).astype(np.float32)
    assert fold(rule(), rows).tobytes() == fold(rule(), rows).tobytes()
