from __future__ import annotations

import json

import numpy as np
import pytest

from shared.config import PreprocessConfig, Recipe
from shared.errors import InvalidConfig
from shared.sampling import own_recipe, rows_joined, told_schema
from shared.schema import SensorSchema
from shared.series import SiteData
from tests.support import plants
from tests.support.plants import federate


@pytest.mark.parametrize(("own_s", "rows"), [(1.0, 60), (7.0, 9), (45.0, 1), (60.0, 1), (3600.0, 1)])
def test_a_plant_joins_as_many_rows_as_make_one_of_the_runs(own_s: float, rows: int) -> None:
    assert rows_joined(PreprocessConfig(period_s=60), own_s) == rows


def test_a_run_that_says_no_period_is_carried_out_as_it_is() -> None:
    recipe, schema = Recipe(preprocess=PreprocessConfig(every=3)), SensorSchema(tags=("a",), period_s=2)
    assert own_recipe(recipe, 2.0) is recipe
    assert told_schema(recipe, schema) is schema


def test_a_plants_own_recipe_reads_back_from_a_bundle() -> None:
    own = own_recipe(Recipe(preprocess=PreprocessConfig(period_s=60)), 10.0)
    assert (own.preprocess.every, own.preprocess.period_s) == (6, None)
    assert Recipe.model_validate_json(own.model_dump_json()) == own


def test_every_and_a_period_contradict_each_other() -> None:
    with pytest.raises(InvalidConfig, match="say the same twice"):
        plants.settings(recipe={"preprocess": {"every": 2, "period_s": 4}})


def sampled(name: str, period_s: float) -> SiteData:
    rows = round(200 / period_s)
    values = np.random.default_rng(len(name)).normal(size=(rows, 2)).astype(np.float32)
    return SiteData(name, SensorSchema(tags=("a", "b"), period_s=period_s), values, values[:0], None)


def test_plants_that_sample_at_other_rates_share_a_whole_network() -> None:
    run = plants.settings(recipe={"preprocess": {"period_s": 2.0}})
    state, journal, channel = federate([sampled("fast", 0.5), sampled("slow", 2.0)], run)
    assert journal.records[0].accepted == ("fast", "slow")
    assert len({member.examples for member in state.members}) == 1
    told = [json.loads(reply.texts["schema"])["period_s"] for reply in channel.received if "schema" in reply.texts]
    assert told == [2.0, 2.0]


def test_a_plant_too_slow_for_the_run_is_refused_with_the_difference() -> None:
    run = plants.settings(recipe={"preprocess": {"period_s": 1.0}})
    journal = federate([sampled("fast", 0.5), sampled("fine", 1.0), sampled("slow", 2.0)], run)[1]
    refused = {report.plant: report.reason for report in journal.records[0].rejected}
    assert "samples every 2 s where the federation expects 1 s" in str(refused["slow"])
