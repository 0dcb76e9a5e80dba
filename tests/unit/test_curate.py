"""KNN imputation, the z-score filter, and labelled faults on their way from the data to a critic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.impute import KNNImputer

from client.ingest.base import load
from client.ingest.folder import read_site, write_site
from client.training.workspace import prepare
from shared.config import Recipe
from shared.detectors import Ewad, build
from shared.detectors.ewad_faults import Faults
from shared.preprocess import filled_from_alike, unusual_rows
from shared.schema import SensorSchema
from shared.series import SiteData
from simulations.partition.pieces import cut, join, take
from tests.unit.test_secom import write


def gappy(rows: int = 60, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 6))
    values = ((values - values.mean(0)) / values.std(0)).astype(np.float32)
    values[rng.random(values.shape) < 0.15] = np.nan
    return values


@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_the_imputation_is_that_of_scikit_learn(neighbours: int) -> None:
    """Whose distances are in raw units: here the columns' known values are brought to mean 0 and spread 1 first."""
    values = gappy()
    values = ((values - np.nanmean(values, 0)) / np.nanstd(values, 0)).astype(np.float32)
    due = KNNImputer(n_neighbors=neighbours).fit_transform(values)
    found = filled_from_alike(values, neighbours)
    np.testing.assert_allclose(found, due, rtol=1e-5, atol=1e-6)


def test_units_do_not_matter_and_what_is_known_stays() -> None:
    values, units = gappy(), np.float32([1, 1e3, 1e-3, 5, 70, 0.2])
    found = filled_from_alike(values)
    np.testing.assert_allclose(filled_from_alike(values * units), found * units, rtol=1e-4)
    known = np.isfinite(values)
    np.testing.assert_array_equal(found[known], values[known])
    assert np.isfinite(found).all()
    assert not np.isfinite(values[~known]).any()


def test_a_column_that_nobody_has_and_a_row_without_anything_stay_missing() -> None:
    values = gappy()
    values[:, 2], values[7] = np.nan, np.inf
    found = filled_from_alike(values)
    assert np.isnan(found[:, 2]).all()
    assert np.isnan(found[7]).all()
    assert np.isfinite(np.delete(np.delete(found, 7, 0), 2, 1)).all()


def test_rows_like_no_other_are_told_apart() -> None:
    values = np.random.default_rng(0).normal(size=(500, 20)).astype(np.float32)
    values[33] *= 4
    assert np.flatnonzero(unusual_rows(values, 6.0)).tolist() == [33]
    assert not unusual_rows(np.ones((5, 2), np.float32), 1.0).any()


# ---- in a plant's workspace ------------------------------------------------------------------------------------------


def site(faults: int = 0) -> SiteData:
    rng = np.random.default_rng(1)
    level = rng.integers(0, 2, (300, 1)) * 10.0
    train = (level + rng.normal(size=(300, 3))).astype(np.float32)
    known = train[:faults] + 50 if faults else None
    return SiteData("a", SensorSchema(tags=("x", "y", "z"), period_s=1), train, train[:0], None, faults_TD=known)


def recipe(**preprocess: object) -> Recipe:
    detector = {"name": "ewad", "window": 2, "hidden": 4, "latent": 2}
    return Recipe.model_validate({"detector": detector, "preprocess": preprocess})


def test_gaps_of_training_rows_are_filled_from_rows_alike_and_the_note_says_so() -> None:
    given = site()
    whole = prepare(given, recipe()).train.rows_TD.copy()
    given.train_TD[40:200:7, 0] = np.nan
    made = {how: prepare(given, recipe(impute=how)) for how in ("carry", "knn")}
    gaps = np.arange(40, 200, 7)
    off = {how: np.abs(made[how].train.rows_TD[gaps, 0] - whole[gaps, 0]).mean() for how in made}
    assert off["knn"] < 0.4 < off["carry"]
    assert any("taken from the rows most alike" in str(note) for note in made["knn"].repairs)
    assert any("last value carried forward" in str(note) for note in made["carry"].repairs)


def test_windows_with_unusual_rows_are_left_out_of_training_only() -> None:
    given = site()
    given.train_TD[100] += 500
    plain, filtered = prepare(given, recipe()), prepare(given, recipe(max_z=5.0))
    assert sorted(set(plain.train.starts_N) - set(filtered.train.starts_N)) == [99, 100]
    np.testing.assert_array_equal(plain.holdout.starts_N, filtered.holdout.starts_N)
    assert any("more than 5.0 deviations out (2)" in str(note) for note in filtered.repairs)


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_secom_s_fails_of_the_first_half_are_faults_and_those_of_the_second_are_not(tmp_path: Path) -> None:
    (line,) = load("secom", write(tmp_path, lots=40, fails=(2, 7, 25, 39)))
    assert line.faults_TD is not None
    assert (len(line.train_TD), len(line.faults_TD), len(line.test_TD)) == (18, 2, 20)
    assert line.labels_T is not None
    assert line.labels_T.sum() == 2


def test_faults_are_written_cut_and_joined_with_their_site(tmp_path: Path) -> None:
    given = site(faults=5)
    write_site(tmp_path / "a", given)
    read = read_site(tmp_path / "a").faults_TD
    np.testing.assert_array_equal(read, given.faults_TD)
    write_site(tmp_path / "b", site())
    assert read_site(tmp_path / "b").faults_TD is None
    blocks = list(cut(given, 2))
    assert [len(block.faults_TD) for block in blocks if block.faults_TD is not None] == [3, 2]
    np.testing.assert_array_equal(join("whole", blocks).faults_TD, given.faults_TD)
    assert take(given, "piece", [(0, 50)], [], "").faults_TD is None


def test_test_labels_never_become_faults() -> None:
    """Whatever the labels of the test data say, what a plant prepares is the same."""
    test = site().train_TD
    flags = np.arange(len(test)) % 3 == 0
    made = [prepare(replace(site(4), test_TD=test, labels_T=labels), recipe()) for labels in (flags, ~flags, None)]
    for one in made[1:]:
        np.testing.assert_array_equal(one.train.rows_TD, made[0].train.rows_TD)
        assert one.faults is not None
        assert made[0].faults is not None
        np.testing.assert_array_equal(one.faults.rows_TD, made[0].faults.rows_TD)


def test_faults_are_scaled_like_live_rows_and_make_windows() -> None:
    made = prepare(site(faults=4), recipe())
    assert made.faults is not None
    assert made.faults.starts_N.tolist() == [0, 1, 2]
    assert (made.faults.rows_TD > 5).all()
    assert prepare(site(faults=1), recipe()).faults is None
    assert prepare(site(), recipe()).faults is None


def test_new_faults_lie_between_a_known_one_and_one_of_its_nearest() -> None:
    known = torch.tensor([[0.0, 0.0], [1.0, 0.0], [100.0, 7.0], [101.0, 7.0]])
    drawn = Faults(known, torch.tensor([[1], [0], [3], [2]])).drawn(500, torch.Generator().manual_seed(0))
    low, high = drawn[drawn[:, 0] < 50], drawn[drawn[:, 0] > 50]
    assert len(low) + len(high) == 500
    assert min(len(low), len(high)) > 150
    for part, left, height in ((low, 0.0, 0.0), (high, 100.0, 7.0)):
        assert ((part[:, 0] >= left) & (part[:, 0] <= left + 1) & (part[:, 1] == height)).all()
        assert part[:, 0].std() > 0.2


def test_the_nearest_of_few_faults_are_all_the_others_and_of_one_itself() -> None:
    assert sorted(Faults.of(torch.randn(4, 2, 3)).near_MK[0].tolist()) == [1, 2, 3]
    alone = Faults.of(torch.ones(1, 2, 3))
    assert torch.equal(alone.drawn(3, torch.Generator().manual_seed(0)), torch.ones(3, 6))


def test_a_critic_that_is_shown_faults_ranks_them_below_normal_windows() -> None:
    """Where reconstruction has not told them apart, and the same critic without them does not either."""
    rng = torch.Generator().manual_seed(0)
    normal, faulty = torch.randn(64, 4, 2, generator=rng), torch.randn(8, 4, 2, generator=rng) + 1.5
    margins = []
    for shown in (False, True):
        made = build(recipe().detector.model_copy(update={"window": 4, "members": 1, "hidden": 16}), 2)
        assert isinstance(made, Ewad)
        torch.nn.init.zeros_(made.members[0].verdict.weight)
        if shown:
            made.contrast(faulty)
        optimizer, draws = torch.optim.Adam(made.parameters(), lr=3e-3), torch.Generator().manual_seed(1)
        for _ in range(60):
            made.before_step(lambda: normal, optimizer, draws)
        with torch.no_grad():
            critic = made.members[0].criticism
            margins.append(float(critic(normal.flatten(1)).mean() - critic(faulty.flatten(1)).mean()))
    assert margins[1] > max(0.5, 1.5 * margins[0])
