from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest

from shared.config import build
from shared.errors import InvalidConfig
from simulations.mixed import mixed_sites, shrunk
from simulations.report.reproduce import preset
from tests.conftest import site


def test_sites_bear_the_name_of_their_set_once() -> None:
    data = {"dataset": "mixed", "datasets": ["generated"], "sites": 2, "rows": 200}
    found = mixed_sites(build({"a": {"data": data}})[0])
    assert [one.name for one in found] == ["generated-plant-1", "generated-plant-2"]
    assert {one.group for one in found} == {"generated"}


def test_a_new_plant_keeps_the_beginning_of_its_training_rows_and_all_of_its_test() -> None:
    whole = replace(site("north", train=20), train_starts=(0, 8, 16))
    small, other = shrunk([whole, site("south")], ["north:0.5"])
    np.testing.assert_array_equal(small.train_TD, whole.train_TD[:10])
    assert small.train_starts == (0, 8)
    assert len(small.test_TD) == len(whole.test_TD)
    assert "50% are kept" in str(small.repairs[-1])
    assert len(other.train_TD) == 20


@pytest.mark.parametrize(("late", "told"), [("nobody:0.5", "no site of the run"), ("north:0.01", "none of its")])
def test_a_plant_that_is_not_there_or_has_nothing_is_refused(late: str, told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        shrunk([site("north")], [late])


@pytest.mark.parametrize("late", ["north", "north:2", "north:-0.1", ":0.5", "no rth:0.5", "north:nan", "north:1e-3"])
def test_a_share_that_is_none_is_refused_by_the_settings(late: str) -> None:
    with pytest.raises(InvalidConfig, match=r"data\.shrink"):
        build({"a": {"data": {"shrink": [late]}}})


def test_a_mixed_run_can_be_run_again_from_its_report() -> None:
    data = {"dataset": "mixed", "datasets": ["skab", "batadal"], "shrink": ["skab-valve1-0:0.05"]}
    config = build({"a": {"data": data, "recipe": {"sharing": {"share": "trunk"}, "preprocess": {"period_s": 2.5}}}})[0]
    assert build({"again": tomllib.loads(preset(config))})[0] == config
