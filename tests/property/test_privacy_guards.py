"""What a claim of differential privacy rests on, measured on what really leaves an agent."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import guards
from tests.support.claims import DIM, UNIT


def test_noise_is_gaussian_and_as_large_as_the_claim_says(tmp_path: Path) -> None:
    guards.noise_is_gaussian_and_whole(tmp_path / "ledger")


def test_two_requests_and_two_plants_have_noise_of_their_own(tmp_path: Path) -> None:
    guards.noise_differs(tmp_path)


def test_the_same_request_brings_the_same_bytes_from_another_agent_too(tmp_path: Path) -> None:
    guards.retry_brings_the_same_bytes(tmp_path / "ledger")


def test_a_hostile_record_moves_no_part_of_an_answer_by_more_than_its_sensitivity(tmp_path: Path) -> None:
    guards.one_record_moves_what_it_may(tmp_path)


def test_these_records_come_close_to_what_is_allowed(tmp_path: Path) -> None:
    """Else the test above could not fail: each part is moved by all that it may be, by one of them at least."""
    seen = [guards.moved(pieces, tmp_path / str(n)) for n, pieces in enumerate(guards.hostile_records().values())]
    for part in guards.multipliers(guards.recipe()):
        assert max(moved[part] for moved in seen) > 0.95, part


_VALUES = st.one_of(
    st.floats(-5, 5),
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e30, -3e38, 1e-40, 4.0, -4.0]),
    st.floats(width=32),
)


@settings(max_examples=15)
@given(
    st.lists(_VALUES, min_size=UNIT * DIM, max_size=UNIT * DIM), st.integers(1, 12), st.booleans(), st.integers(0, 99)
)
def test_no_record_moves_any_part_by_more_than_its_sensitivity(
    values: list[float], records: int, alike: bool, seed: int
) -> None:
    """Alone or among others, whatever it reads, also where all others are its copies."""
    pieces = np.random.default_rng(seed).normal(size=(records, UNIT, DIM))
    with np.errstate(over="ignore"):
        pieces[0] = np.array(values).reshape(UNIT, DIM).astype(np.float32)
    pieces = np.tile(pieces[0], (records, 1, 1)) if alike else pieces
    with TemporaryDirectory() as folder:
        found = guards.moved(pieces, Path(folder) / "ledger", alpha=0.5 * (seed % 3))
    assert all(share <= 1 + 1e-4 for share in found.values()), found


def test_records_are_drawn_one_by_one_with_the_probability_that_is_charged(tmp_path: Path) -> None:
    guards.records_are_drawn_as_the_ledger_says(tmp_path / "ledger")


def test_the_ledger_says_what_was_used(tmp_path: Path) -> None:
    guards.the_ledger_says_what_was_used(tmp_path / "ledger")


def test_nothing_leaves_that_is_dropped_under_a_claim(tmp_path: Path) -> None:
    guards.nothing_else_leaves(tmp_path / "ledger")
