from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.config import RunConfig
from shared.schema import SensorSchema
from shared.series import SiteData
from simulations.chosen import EVERY, LENGTHS, MOST_ROWS, SHORTEST, SOURCE, WINDOW, Chosen, fitted, keep, kept
from simulations.gather import check_sites, gather_fitted
from simulations.settings import layered, presets

SCHEMA = SensorSchema(tags=("a", "b"), period_s=1)


def site(rows: int, name: str = "north", starts: tuple[int, ...] = (0,)) -> SiteData:
    values_TD = np.zeros((rows, 2), np.float32)
    return SiteData(name, SCHEMA, values_TD, values_TD[:0], None, train_starts=starts)


def fit(*sites: SiteData, flags: dict[str, object] | None = None, settings: tuple[str, ...] = ()) -> Chosen:
    config, origin = layered(None, {"data.dataset": "msl", **(flags or {})}, None, settings)
    return fitted(config, sites, origin)


def shape(chosen: Chosen) -> tuple[int, int]:
    return chosen.config.recipe.preprocess.every, chosen.config.recipe.detector.window


# ---- the length of a row ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "every"),
    [
        (400, 1), (25_000, 1), (25_001, 2), (50_001, 2), (50_002, 5), (172_800, 10), (496_800, 20),
        (784_537, 60), (10**7, 60),
    ],
)  # fmt: skip
def test_a_row_is_as_short_as_leaves_the_longest_plant_25000_of_them(rows: int, every: int) -> None:
    assert every in LENGTHS
    assert shape(fit(site(400, "south"), site(rows)))[0] == min(every, 10)
    assert shape(fit(site(rows), site(rows, "south")))[0] == every


@pytest.mark.parametrize(("rows", "every"), [(40, 1), (39, 1), (75, 1), (80, 2), (400, 10), (2_400, 60)])
def test_a_row_is_never_so_long_that_the_shortest_plant_has_no_window(rows: int, every: int) -> None:
    chosen = fit(site(5_000_000), site(rows, "south"))
    assert shape(chosen)[0] == every


# ---- the length of a window ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "window"), [(1_000, 30), (150, 30), (149, 30), (145, 29), (100, 20), (40, 8), (30, 30)]
)
def test_a_window_fits_into_the_hold_out_of_the_shortest_plant(rows: int, window: int) -> None:
    assert shape(fit(site(1_000), site(rows, "south"))) == (1, window)
    assert window >= SHORTEST


def test_the_training_part_has_room_for_a_window_and_a_stride() -> None:
    south = site(100, "south")  # 80 rows to train on, 20 held out
    assert shape(fit(site(1_000), south, settings=("recipe.training.stride=60",))) == (1, 20)
    assert shape(fit(site(1_000), south, settings=("recipe.training.stride=65",))) == (1, 15)


def test_of_a_plant_with_many_recordings_the_longest_must_have_room() -> None:
    assert shape(fit(site(1_000, starts=(0, 10, 20, 880)))) == (1, 30)
    assert shape(fit(site(200, starts=(0, 100)))) == (1, 20)


def test_with_the_window_that_is_chosen_the_shortest_plant_takes_part() -> None:
    values_TD = np.random.default_rng(0).normal(size=(145, 2)).astype(np.float32)
    for rows in range(40, 146, 3):
        sites = [replace(site(rows, name), train_TD=values_TD[:rows]) for name in ("north", "south")]
        chosen = fit(*sites, settings=("recipe.clustering.unit=12",))
        assert len(check_sites(chosen.config, "by-channel", sites).sites) == 2


# ---- what is left as it is -------------------------------------------------------------------------------------------


def test_what_somebody_set_stays_also_to_its_default() -> None:
    long, short = site(500_000), site(60, "south")
    assert shape(fit(long, settings=("recipe.preprocess.every=1",))) == (1, 30)
    assert shape(fit(long, settings=("recipe.preprocess.every=7",))) == (7, 30)
    assert shape(fit(short, flags={"recipe.detector.window": 30})) == (1, 30)
    assert shape(fit(long, flags={"recipe.detector.window": 12})) == (20, 12)


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        ({"data.dataset": "generated"}, ()),
        ({"data.dataset": "mixed", "recipe.sharing.share": "trunk"}, ()),
        ({"data.partition": "by-mode"}, ()),
        ({"recipe.privacy.epsilon": 8.0}, ()),
        ({}, ("data.fit=false",)),
        ({}, ("recipe.preprocess.period_s=1.0",)),
    ],
)
def test_where_nothing_may_follow_the_data_nothing_is_chosen(
    flags: dict[str, object], settings: tuple[str, ...]
) -> None:
    config, origin = layered(None, {"data.dataset": "msl", **flags}, None, settings)
    assert fitted(config, [site(500_000), site(60, "south")], origin) == Chosen(config, origin)


def test_the_demo_stays_as_it_is() -> None:
    assert "demo" in presets()
    config, origin = layered("demo", {"data.rows": 1000, "data.sites": 2}, None, ())
    chosen, gathered = gather_fitted(config, origin)
    assert (chosen.config, chosen.origin, chosen.notes) == (config, origin, ())
    assert not any(SOURCE in str(note) for note in gathered.notes)


# ---- what is told of it ----------------------------------------------------------------------------------------------


def test_what_was_chosen_is_told_with_its_source() -> None:
    chosen = fit(site(500_000), site(2_000, "south"))
    assert shape(chosen) == (20, 20)
    assert {name for name, source in chosen.origin.items() if source == SOURCE} == {EVERY, WINDOW}
    assert [str(note) for note in chosen.notes] == [
        "all sites: recipe.preprocess.every = 20, chosen from the data: so that the longest site has at most "
        f"{MOST_ROWS:,} of its training rows (500000)",
        "all sites: recipe.detector.window = 20, chosen from the data: so that the shortest site has windows to train "
        "on and to hold out, rows (2000)",
    ]
    assert chosen.config.digest != RunConfig().digest


def test_it_does_not_look_at_a_reading_a_label_or_a_test_row() -> None:
    plain = site(60_000)
    other = replace(
        plain,
        train_TD=np.full((60_000, 2), 7.0, np.float32),
        test_TD=np.ones((900_000, 2), np.float32),
        labels_T=np.ones(900_000, bool),
    )
    assert fit(plain) == fit(other)


def test_without_an_origin_what_is_not_the_default_was_set() -> None:
    config, _ = layered(None, {"data.dataset": "msl"}, None, ("recipe.preprocess.every=3",))
    assert shape(fitted(config, [site(500_000)])) == (3, 30)
    assert shape(fitted(config.model_copy(update={"recipe": RunConfig().recipe}), [site(500_000)])) == (20, 30)


def test_what_was_chosen_reaches_another_process(tmp_path: Path) -> None:
    keep(fit(site(500_000), site(2_000, "south")), tmp_path / "data")
    assert kept(tmp_path / "data") == {EVERY: 20, WINDOW: 20}
    keep(fit(site(1_000)), tmp_path / "data")
    assert kept(tmp_path / "data") == kept(tmp_path) == {}
