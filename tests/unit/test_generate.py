"""Generated plants: reproducible, physical, and neither trivial nor hopeless."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from shared.errors import InvalidConfig
from shared.series import SiteData
from simulations.generate import KINDS, STEP_H, TAGS, Fault, draw_plant, generate, run

AT = {tag: column for column, tag in enumerate(TAGS)}


@pytest.fixture(scope="module")
def plants() -> tuple[SiteData, ...]:
    return generate(plants=5, rows=4_000, seed=0)


def labels(plant: SiteData) -> NDArray[np.bool_]:
    assert plant.labels_T is not None
    return plant.labels_T


def test_shape_and_share_of_faults(plants: tuple[SiteData, ...]) -> None:
    assert [plant.name for plant in plants] == [f"plant-{k}" for k in range(1, 6)]
    for plant in plants:
        assert (plant.train_TD.shape, plant.test_TD.shape) == ((4_000, len(TAGS)), (2_000, len(TAGS)))
        assert plant.train_TD.dtype == np.float32
        assert np.isfinite(plant.train_TD).all()
        assert np.isfinite(plant.test_TD).all()
        assert 0.05 <= labels(plant).mean() <= 0.12
        assert 6 <= (np.diff(np.concatenate([[0], labels(plant).astype(int)])) == 1).sum() <= 10
        assert plant.schema == plants[0].schema


def test_the_same_seed_gives_the_same_data_and_more_plants_change_none(plants: tuple[SiteData, ...]) -> None:
    again = generate(plants=2, rows=4_000, seed=0)
    for one, other in zip(plants[:2], again, strict=True):
        assert np.array_equal(one.train_TD, other.train_TD)
        assert np.array_equal(one.test_TD, other.test_TD)
        assert np.array_equal(labels(one), labels(other))
    assert not np.array_equal(generate(1, 4_000, 1)[0].train_TD, plants[0].train_TD)
    assert not np.array_equal(plants[0].train_TD, plants[1].train_TD)


def test_every_tag_moves_in_training(plants: tuple[SiteData, ...]) -> None:
    assert all((plant.train_TD.std(axis=0) > 0).all() for plant in plants)


def test_water_is_conserved_in_training(plants: tuple[SiteData, ...]) -> None:
    """A tank's level rises by what flows in less what flows out, within the meters' noise."""
    train = plants[0].train_TD.astype(float)
    net = train[:, AT["FIT101"]] - train[:, AT["FIT201"]]
    rise = np.diff(train[:, AT["LIT101"]])
    slope, _ = np.polyfit(net[:-1] * STEP_H, rise, 1)
    residual = rise - slope * net[:-1] * STEP_H
    assert slope > 0
    assert residual.std() < 0.25 * rise.std()


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_moves_what_it_should(kind: str) -> None:
    """The same plant in the same weather with and without one fault: nothing differs before it, much within it."""
    plant, rows, first, end = draw_plant(default_rng(3)), 900, 800, 840
    fault = Fault(kind, 1, 1.0, first, end)  # type: ignore[arg-type]
    calm = run(plant, default_rng(4), rows, ())
    hurt = run(plant, default_rng(4), rows, (fault,))
    assert np.array_equal(calm[:first], hurt[:first])
    moved = {tag for tag in TAGS if not np.allclose(calm[first:end, AT[tag]], hurt[first:end, AT[tag]])}
    expected = {
        "stuck": {"LIT301", "PIT301"},
        "spoof": {"LIT301"},
        "bias": {"LIT301", "P201", "FIT201"},
        "drift": {"FIT201"},
        "override": {"P201", "FIT201", "PIT201", "LIT301", "PIT301"},
        "masked": {"FIT201", "PIT201", "LIT301", "PIT301"},
        "leak": {"LIT301", "PIT301", "P201"},
    }[kind]
    assert expected <= moved
    if kind == "drift":
        assert moved == {"FIT201"}


def test_a_masked_pump_contradicts_its_signal() -> None:
    plant = draw_plant(default_rng(3))
    hurt = run(plant, default_rng(4), 900, (Fault("masked", 1, 1.0, 800, 801),))
    on, flow = hurt[800, AT["P201"]] == 1, hurt[800, AT["FIT201"]] > 0
    assert on != flow


def test_faults_are_neither_trivial_nor_hopeless(plants: tuple[SiteData, ...]) -> None:
    outside, unlike = zip(*((_precision(plant, _outside), _precision(plant, _unlike)) for plant in plants), strict=True)
    assert max(outside) < 0.9
    assert np.mean(outside) < 0.6
    assert np.mean(unlike) > 0.5
    assert np.mean(unlike) > np.mean(outside)


def _precision(plant: SiteData, score: object) -> float:
    assert callable(score)
    mean, spread = plant.train_TD.mean(axis=0), plant.train_TD.std(axis=0)
    train, test = (((part - mean) / spread).astype(float) for part in (plant.train_TD, plant.test_TD))
    return float(average_precision_score(labels(plant), score(train, test)))


def _outside(train: NDArray[np.float64], test: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = train.min(axis=0), train.max(axis=0)
    return np.maximum(np.maximum(low - test, test - high), 0).max(axis=1)


def _unlike(train: NDArray[np.float64], test: NDArray[np.float64], lags: int = 5) -> NDArray[np.float64]:
    """Mahalanobis distance of the last five rows taken together."""
    fit, seen = (
        np.lib.stride_tricks.sliding_window_view(p, lags, axis=0).reshape(-1, lags * 11) for p in (train, test)
    )
    inverse = np.linalg.inv(np.cov(fit.T) + 1e-3 * np.eye(fit.shape[1]))
    centred = seen - fit.mean(axis=0)
    return np.concatenate([np.zeros(lags - 1), np.einsum("ij,jk,ik->i", centred, inverse, centred)])


PLAUSIBLE = {
    **dict.fromkeys(("MV101", "P201"), (0, 1)),
    **dict.fromkeys(("FIT101", "FIT201", "FIT301"), (-1, 120)),
    **dict.fromkeys(("LIT101", "LIT301"), (-3, 8)),
    **dict.fromkeys(("PIT101", "PIT301"), (-0.1, 1)),
    "PIT201": (0, 15),
    "TIT301": (0, 30),
}


@pytest.mark.parametrize(("plants_", "rows", "seeds"), [(5, 4_000, range(6)), (5, 20_000, (0, 1)), (2, 200_000, (0,))])
@pytest.mark.filterwarnings("error")
def test_every_reading_is_plausible_however_long_a_fault_lasts(plants_: int, rows: int, seeds: Sequence[int]) -> None:
    for plant in (plant for seed in seeds for plant in generate(plants_, rows, seed)):
        for part in (plant.train_TD, plant.test_TD):
            assert np.isfinite(part).all()
            for tag, (low, high) in PLAUSIBLE.items():
                seen = part[:, AT[tag]]
                assert low <= seen.min(), (plant.source, tag)
                assert seen.max() <= high, (plant.source, tag)


@pytest.mark.parametrize("rows", [100, 101, 250])
def test_short_recordings_have_at_least_one_fault(rows: int) -> None:
    plant = generate(plants=1, rows=rows, seed=5)[0]
    assert len(plant.test_TD) == rows // 2
    assert 1 <= labels(plant).sum() <= 0.15 * len(plant.test_TD) + 1


@pytest.mark.parametrize(("plants_", "rows", "seed"), [(0, 200, 0), (2, 99, 0), (2, 200, -1)])
def test_impossible_wishes_are_refused(plants_: int, rows: int, seed: int) -> None:
    with pytest.raises(InvalidConfig, match="generated plants need"):
        generate(plants_, rows, seed)


def test_plants_differ_in_what_the_federation_must_cope_with() -> None:
    one, two = draw_plant(default_rng(1)), draw_plant(default_rng(2))
    assert replace(one, demand=two.demand) != two
    assert one.low != two.low
