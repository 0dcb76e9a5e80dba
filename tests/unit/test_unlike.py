"""How unlike sites are: against SciPy, against what is known, and fast enough to be printed before every run."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from shared.schema import SensorSchema
from shared.series import SiteData
from simulations.unlike import apart, unlikeness


def of(name: str, values: np.ndarray, tags: tuple[str, ...] | None = None) -> SiteData:
    values = np.asarray(values, np.float32).reshape(len(values), -1)
    names = tags or tuple(f"t{at}" for at in range(values.shape[1]))
    return SiteData(name, SensorSchema(tags=names, period_s=1), values, values[:0], None)


@pytest.mark.parametrize("rows", [7, 300, 40_000])
def test_distance_is_that_of_scipy(rows: int) -> None:
    rng = np.random.default_rng(0)
    readings = [np.sort(rng.normal(at, 1 + at, rows)) for at in range(4)]
    for at, found in enumerate(apart(readings)):
        others = np.concatenate([values for i, values in enumerate(readings) if i != at])
        assert found == pytest.approx(wasserstein_distance(readings[at], others), rel=1e-3)


def test_two_plants_a_known_distance_apart() -> None:
    """0 and 1 half and half against 1 and 2: every reading moves by 1; the deviation over both is sqrt(1/2)."""
    low, high = np.tile([0.0, 1.0], 50), np.tile([1.0, 2.0], 50)
    found = unlikeness([of("a", low), of("b", high)])
    assert found.apart == pytest.approx((math.sqrt(2), math.sqrt(2)))
    assert found.nearest == (1, 0)
    assert found.overall == pytest.approx(math.sqrt(2))


def test_units_and_offsets_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    values = [rng.normal(at, 1, (500, 1)) for at in range(3)]
    plain = unlikeness([of(str(at), v) for at, v in enumerate(values)])
    scaled = unlikeness([of(str(at), 1000 * v - 7) for at, v in enumerate(values)])
    assert scaled.apart == pytest.approx(plain.apart, rel=1e-3)


def test_the_odd_one_out_is_the_farthest_and_like_finds_like() -> None:
    rng = np.random.default_rng(2)
    found = unlikeness([of(str(shift), rng.normal(shift, 1, (800, 2))) for shift in (0, 0.1, 5, 5.2, 20)])
    assert max(range(5), key=lambda at: found.apart[at]) == 4
    assert found.nearest == (1, 0, 3, 2, 3)


def test_the_same_distribution_everywhere_is_nearly_no_distance() -> None:
    rng = np.random.default_rng(3)
    assert unlikeness([of(str(at), rng.normal(size=(5000, 4))) for at in range(6)]).overall < 0.05


def test_tags_that_move_nowhere_do_not_dilute_it() -> None:
    a, b = np.zeros((100, 5)), np.zeros((100, 5))
    b[:, 0] = 1
    assert unlikeness([of("a", a), of("b", b)]).overall == pytest.approx(2)


def test_what_is_unknown_does_not_count() -> None:
    rng = np.random.default_rng(4)
    a, b, c = (rng.normal(size=(200, 2)) for _ in range(3))
    a[:, 1], b[::2, 0], c[3, 0] = np.nan, np.nan, np.inf
    found = unlikeness([of("a", a), of("b", b), of("c", c)])
    assert all(0 < value < 0.3 for value in found.apart)


def test_sites_without_a_common_tag_cannot_be_compared() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 100, 2))
    a[:, 0], b[:, 1] = np.nan, np.nan
    for pair in ([of("a", a), of("b", b)], [of("a", a, ("x", "y")), of("b", b, ("u", "v"))]):
        found = unlikeness(pair)
        assert all(math.isnan(value) for value in (*found.apart, found.overall))
        assert found.nearest == (None, None)


def test_sites_with_other_tags_are_compared_by_name() -> None:
    rng = np.random.default_rng(6)
    a = rng.normal(size=(300, 2))
    found = unlikeness([of("a", a, ("x", "y")), of("b", a[:, ::-1], ("y", "x"))])
    assert found.overall == pytest.approx(0)


def test_a_rhythm_at_the_beat_of_the_sample_is_no_difference() -> None:
    """20,000 rows are looked at one in ten: a plant that switches every fifth row would seem to stand still."""
    beat = (np.arange(20_000) % 10 < 5).astype(np.float32)
    noise = (np.random.default_rng(7).random(20_000) < 0.5).astype(np.float32)
    assert unlikeness([of("beat", beat), of("noise", noise)]).overall < 0.1


@pytest.mark.parametrize(("sites", "rows", "tags", "limit_s"), [(27, 2_200, 55, 1.0), (8, 500_000, 51, 2.0)])
def test_it_is_cheap(sites: int, rows: int, tags: int, limit_s: float) -> None:
    """CPU time, since other processes may hold the machine. Sites begin at other rows of one array."""
    values = np.random.default_rng(8).normal(size=(rows + sites, tags)).astype(np.float32)
    names = tuple(f"t{at}" for at in range(tags))
    schema = SensorSchema(tags=names, period_s=1)
    plants = [SiteData(str(at), schema, values[at : rows + at], values[:0], None) for at in range(sites)]
    begun = time.process_time()
    unlikeness(plants)
    spent = time.process_time() - begun
    print(f"{sites} sites, {tags} tags, {rows:,} rows: {spent:.2f} s")
    assert spent < limit_s
