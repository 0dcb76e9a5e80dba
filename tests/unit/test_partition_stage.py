"""Plants by process stage and by machine: what is published decides, nothing is guessed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client.training.workspace import prepare
from shared import catalogue
from shared.config import DetectorConfig, Recipe
from shared.errors import InvalidConfig, TooFewSites
from shared.schema import SensorSchema
from shared.series import SiteData
from simulations.partition import Asked, partition
from tests.conftest import site


def plant(which: catalogue.Plant, name: str = "plant", rows: int = 400) -> SiteData:
    """Random readings of a water plant's tags, every one of them different."""
    tags = tuple(tag.name for tag in catalogue.tags(which))
    values = np.random.default_rng(1).normal(size=(rows, len(tags))).astype(np.float32)
    labels = np.zeros(rows // 4, bool)
    labels[10:30] = True
    cut = rows - len(labels)
    return SiteData(name, SensorSchema(tags=tags, period_s=1), values[:cut], values[cut:], labels, source="made up")


def test_swat_falls_into_its_six_stages() -> None:
    whole = plant("swat", "swat")
    stages = partition((whole,), "by-stage", None)
    assert [stage.name for stage in stages] == [f"swat-P{at}" for at in range(1, 7)]
    assert [int(np.isfinite(stage.train_TD).all(axis=0).sum()) for stage in stages] == [5, 11, 9, 9, 13, 4]
    assert {stage.schema for stage in stages} == {whole.schema}
    first = stages[0]
    known = [tag for tag, on in zip(first.schema.tags, np.isfinite(first.train_TD[0]), strict=True) if on]
    assert known == ["FIT101", "LIT101", "MV101", "P101", "P102"]


@pytest.mark.parametrize("which", catalogue.Plant.__args__)  # type: ignore[attr-defined]
def test_stages_laid_over_each_other_are_the_plant_again(which: catalogue.Plant) -> None:
    whole = plant(which)
    stages = partition((whole,), "by-stage", None)
    for part in ("train_TD", "test_TD"):
        values_STD = np.stack([getattr(stage, part) for stage in stages])
        assert np.array_equal(np.nanmax(values_STD, axis=0), getattr(whole, part))
        assert np.array_equal(np.nanmin(values_STD, axis=0), getattr(whole, part))
    assert all(np.array_equal(stage.labels_T, whole.labels_T) for stage in stages)


def test_tags_of_the_whole_wadi_plant_stay_at_every_stage() -> None:
    whole = plant("wadi")
    stages = partition((whole,), "by-stage", None)
    assert [stage.group for stage in stages] == ["P1", "P2", "P3"]
    demand = whole.schema.tags.index("TOTAL_CONS_REQUIRED_FLOW")
    assert all(np.isfinite(stage.train_TD[:, demand]).all() for stage in stages)
    assert [int(np.isfinite(stage.train_TD[0]).sum()) for stage in stages] == [19 + 3, 90 + 3, 15 + 3]


def test_a_stage_says_what_it_does_not_know() -> None:
    notes = [str(note) for note in partition((plant("swat"),), "by-stage", None)[5].repairs]
    assert notes == [
        "plant-P6: P6 knows 4 of 51 tags; those of the other stages are unknown here (47)",
        "plant-P6: labels are the whole plant's: attacks on the other stages count here too, and may not show in these "
        "tags (20)",
    ]


def test_a_stage_trains() -> None:
    recipe = Recipe(detector=DetectorConfig(window=8))
    for stage in partition((plant("swat"),), "by-stage", None):
        workspace = prepare(stage, recipe)
        assert np.isfinite(workspace.train.rows_TD).all()
        assert np.isfinite(workspace.holdout.rows_TD).all()
        assert any("tags without any training value" in note.what for note in workspace.repairs)


def test_several_plants_give_their_stages_each() -> None:
    two = (plant("swat", "north"), plant("swat", "south"))
    names = [stage.name for stage in partition(two, "by-stage", None)]
    assert names[:2] == ["north-P1", "north-P2"]
    assert len(names) == 12
    assert [stage.name for stage in partition(two, "by-stage", 3)] == ["north-P1", "north-P2", "north-P3"]
    with pytest.raises(InvalidConfig, match="13 sites are asked for, but the partition by-stage gives 12"):
        partition(two, "by-stage", 13)


def test_stages_of_other_plants_are_not_guessed() -> None:
    with pytest.raises(
        InvalidConfig, match=r"2 of the 2 tags of site 'a' are in no published table of stages: P1-X, b"
    ):
        partition((site("a", tags=("P1-X", "b")),), "by-stage", None)
    with pytest.raises(InvalidConfig, match=r"site 'a' has 2 of the 51 tags .* too few to tell"):
        partition((site("a", tags=("LIT101", "FIT201")),), "by-stage", None)
    whole = plant("swat")
    odd = replace(whole, schema=SensorSchema(tags=("LIT999", *whole.schema.tags[1:]), period_s=1))
    with pytest.raises(InvalidConfig, match=r"1 of the 51 tags of site 'plant' are in no published table .* LIT999"):
        partition((odd,), "by-stage", None)


def test_a_server_is_a_machine_and_its_group_is_not() -> None:
    sites = tuple(site(f"machine-{a}-{b}", group=f"machine-{a}") for a in (1, 2) for b in (1, 2, 10))
    smd = Asked(dataset="smd")
    assert [plant.name for plant in partition(sites, "by-machine", None, smd)] == [
        *("machine-1-1", "machine-1-2", "machine-1-10"),
        *("machine-2-1", "machine-2-2", "machine-2-10"),
    ]
    assert [plant.name for plant in partition(sites, "by-subsystem", None, smd)] == ["machine-1", "machine-2"]
    assert len(partition(sites, "by-machine", 2, smd)) == 2


def test_experiments_of_one_rig_part_are_one_machine() -> None:
    names = (("valve1-0", "valve1"), ("valve1-1", "valve1"), ("valve2-0", "valve2"), ("other-1", "other"))
    sites = tuple(site(name, group=group) for name, group in names)
    plants = {plant.name: plant for plant in partition(sites, "by-machine", None, Asked(dataset="skab"))}
    assert list(plants) == ["other", "valve1", "valve2"]
    assert plants["valve1"].train_starts == (0, 20)
    with pytest.raises(InvalidConfig, match="no machine is named by b"):
        partition((*sites, site("b")), "by-machine", None, Asked(dataset="skab"))
    with pytest.raises(TooFewSites, match="by-machine gives 1 site"):
        partition(sites[:2], "by-machine", None, Asked(dataset="skab"))


@pytest.mark.parametrize(("dataset", "told"), [("msl", "of the data set 'msl'"), ("", "of these sites")])
def test_machines_of_other_data_are_not_guessed(dataset: str, told: str) -> None:
    with pytest.raises(InvalidConfig, match=f"nothing is published {told}") as caught:
        partition((site("M-1", group="M"), site("P-1", group="P")), "by-machine", None, Asked(dataset=dataset))
    assert "by-machine knows skab, smd." in str(caught.value)
