"""Plants by operating mode: found, dealt out as unlike as asked, and no event cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from shared.errors import SchemaMismatch, TooFewRows
from shared.metrics.events import spans
from shared.schema import SensorSchema
from shared.series import SiteData
from simulations.partition import Asked, partition
from simulations.partition.by_mode import deal, mixes
from simulations.partition.segments import cut_segments
from simulations.unlike import unlikeness

MODES, SEGMENT = 4, 60


def moody(seed: int = 0, segments: int = 160, tests: int = 48, name: str = "plant") -> SiteData:
    """A plant that changes its mode every 60 rows; the first tag tells the mode, the second its noise does."""
    rng = np.random.default_rng(seed)
    mode = np.repeat(rng.integers(MODES, size=segments + tests), SEGMENT)
    values = np.stack([5.0 * mode + rng.normal(size=len(mode)), rng.normal(size=len(mode)) * (1 + mode)], axis=1)
    labels = np.zeros(tests * SEGMENT, bool)
    for first in range(130, len(labels) - 100, 400):
        labels[first : first + 70] = True
    cut = segments * SEGMENT
    values = values.astype(np.float32)
    return SiteData(name, SensorSchema(tags=("level", "noise"), period_s=1), values[:cut], values[cut:], labels)


def mode_shares(values_TD: np.ndarray) -> np.ndarray:
    """What share of the rows is in each mode, read off the first tag."""
    modes = np.clip(np.round(values_TD[:, 0] / 5), 0, MODES - 1).astype(int)
    return np.bincount(modes, minlength=MODES) / len(values_TD)


def asked(concentration: float, seed: int = 0) -> Asked:
    return Asked(concentration=concentration, modes=MODES, segment=SEGMENT, seed=seed)


def test_a_small_concentration_gives_each_plant_few_modes_and_a_large_one_all() -> None:
    few = [mode_shares(plant.train_TD).max() for plant in partition((moody(),), "by-mode", 4, asked(0.01))]
    even = [mode_shares(plant.train_TD).max() for plant in partition((moody(),), "by-mode", 4, asked(1000))]
    assert np.mean(few) > 0.75
    assert max(even) < 0.4


def test_unlikeness_falls_with_the_concentration() -> None:
    steps = (0.01, 0.3, 3, 30, 1000)
    means = [
        np.mean([unlikeness(partition((moody(seed),), "by-mode", 5, asked(step, seed))).overall for seed in range(4)])
        for step in steps
    ]
    print(*zip(steps, np.round(means, 3), strict=True))
    assert all(a > b for a, b in pairwise(means))
    assert means[0] > 5 * means[-1]


def test_test_data_follows_the_modes_of_training() -> None:
    whole = replace(moody(), labels_T=None)
    plants = partition((whole,), "by-mode", 3, asked(0.05))
    apart = [np.abs(mode_shares(a.train_TD) - mode_shares(b.test_TD)).sum() for a in plants for b in plants]
    own, others = apart[::4], [value for at, value in enumerate(apart) if at % 4]
    assert max(own) < 0.4
    assert min(others) > 0.8


def test_plants_have_about_the_same_number_of_rows() -> None:
    for concentration in (0.01, 1, 1000):
        for seed in range(5):
            plants = partition((moody(seed),), "by-mode", 8, asked(concentration, seed))
            sizes = [len(plant.train_TD) for plant in plants]
            assert min(sizes) >= 0.5 * sum(sizes) / 8
            assert all(len(plant.test_TD) for plant in plants)


def test_every_event_stays_whole_and_at_one_plant() -> None:
    whole = moody()
    assert whole.labels_T is not None
    plants = partition((whole,), "by-mode", 6, asked(0.3))
    lengths = [
        b - a for plant in plants if plant.labels_T is not None for a, b in spans(plant.labels_T, plant.test_starts)
    ]
    assert lengths == [70] * len(spans(whole.labels_T))


def test_names_count_and_default() -> None:
    assert [plant.name for plant in partition((moody(),), "by-mode", None, asked(1))] == [
        f"plant-m{at}" for at in range(1, 9)
    ]
    two = partition((moody(0, name="a"), moody(1, name="b")), "by-mode", 2, asked(1))
    assert [plant.name for plant in two] == ["joined-m1", "joined-m2"]
    assert "plant 1 of 2 by operating mode" in two[0].source


def test_another_seed_deals_otherwise() -> None:
    one, other = (partition((moody(),), "by-mode", 3, asked(0.5, seed)) for seed in (0, 1))
    assert any(not np.array_equal(a.train_TD, b.train_TD) for a, b in zip(one, other, strict=True))


def test_too_few_segments_and_sites_that_cannot_be_joined() -> None:
    with pytest.raises(TooFewRows, match="is 5 segments of about 60 rows, too few for 8 plants"):
        partition((moody(segments=5),), "by-mode", None, asked(1))
    other = replace(moody(name="b"), schema=SensorSchema(tags=("level", "x"), period_s=1))
    with pytest.raises(SchemaMismatch, match="cannot be joined"):
        partition((moody(name="a"), other), "by-mode", 2, asked(1))


@pytest.mark.parametrize("fill", [1.0, np.nan])
def test_data_without_modes_is_dealt_out_all_the_same(fill: float) -> None:
    flat = replace(moody(), train_TD=np.full((600, 2), fill, np.float32))
    plants = partition((flat,), "by-mode", 4, asked(0.5))
    assert sum(len(plant.train_TD) for plant in plants) == 600
    assert min(len(plant.train_TD) for plant in plants) >= 60


def test_wild_and_missing_readings_do_not_make_modes_of_their_own() -> None:
    whole = moody()
    train = whole.train_TD.copy()
    train[5, 0], train[100:105, 1], train[200] = 1e30, np.nan, np.inf
    plants = partition((replace(whole, train_TD=train),), "by-mode", 4, asked(0.01))
    assert sum(len(plant.train_TD) for plant in plants) == len(train)


def test_segments_of_a_labelled_recording() -> None:
    labels = np.zeros(20, bool)
    labels[3:9], labels[16:] = True, True
    assert cut_segments(20, (0, 12), 4, labels) == [(0, 9), (9, 12), (12, 16), (16, 20)]
    assert cut_segments(20, (0, 12), 4) == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20)]
    assert cut_segments(0, (0,), 4) == []
    assert cut_segments(6, (0,), 4) == [(0, 6)]
    assert cut_segments(20, (0,), 5, np.ones(20, bool)) == [(0, 20)]


@pytest.mark.parametrize("concentration", [0.001, 0.5, 1e6])
def test_mixes_use_everything_up_in_equal_parts(concentration: float) -> None:
    rows = np.array([100.0, 300.0, 600.0])
    table = mixes(rows, 5, concentration, np.random.default_rng(0))
    assert np.allclose(table.sum(axis=0), rows / 1000)
    assert np.allclose(table.sum(axis=1), 0.2)
    assert (table >= 0).all()


def test_dealing_meets_the_shares_to_within_a_segment() -> None:
    share = np.array([[0.5, 0.1], [0.3, 0.1], [0.2, 0.8]])
    modes = np.repeat([0, 1], 50)
    owner = deal(share, modes, [(at, at + 1) for at in range(100)], 0.0, np.random.default_rng(0))
    counts = np.array([[int(((owner == plant) & (modes == mode)).sum()) for mode in (0, 1)] for plant in range(3)])
    assert np.array_equal(counts, [[25, 5], [15, 5], [10, 40]])
