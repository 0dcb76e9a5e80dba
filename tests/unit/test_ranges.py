"""Operating ranges: public, never read off the data, kept with a site, and an operator's own before published ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.agent.config import read_plant
from client.agent.site import load_site
from client.ingest.base import load
from client.ingest.folder import read_site, write_site
from client.ingest.ranges import read_ranges, with_ranges
from shared import catalogue
from shared.errors import DataNotFound, DataUnreadable
from shared.schema import SensorSchema
from shared.series import Ranges, SiteData
from simulations.generate import RANGES, TAGS, generate
from simulations.partition.pieces import cut, join
from simulations.twin import make as twin

SCHEMA = SensorSchema(tags=("a", "b", "c"), period_s=1.0)


def site(ranges: Ranges | None = ((0.0, 1.0), None, (-2.5, 4.0))) -> SiteData:
    values_TD = np.arange(30, dtype=np.float32).reshape(10, 3)
    return SiteData("north", SCHEMA, values_TD, values_TD[:0], None, ranges=ranges)


def written(folder: Path, text: str) -> Path:
    path = folder / "ranges.csv"
    path.write_text(text, encoding="utf-8")
    return path


# ---- in a site's folder ----------------------------------------------------------------------------------------------


def test_ranges_are_kept_with_a_site(tmp_path: Path) -> None:
    write_site(tmp_path / "north", site())
    assert read_site(tmp_path / "north").ranges == ((0.0, 1.0), None, (-2.5, 4.0))


def test_a_site_without_ranges_is_written_as_it_always_was(tmp_path: Path) -> None:
    write_site(tmp_path / "north", site(None))
    assert "ranges" not in json.loads((tmp_path / "north" / "site.json").read_text())
    assert read_site(tmp_path / "north").ranges is None


@pytest.mark.parametrize(
    "broken", [[[0, 1]], [[1, 1], None, None], [[2, 1], None, None], ["x", None, None], [[0], None, None]]
)
def test_ranges_in_a_site_that_are_none_are_refused(tmp_path: Path, broken: object) -> None:
    write_site(tmp_path / "north", site())
    path = tmp_path / "north" / "site.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ranges": broken}))
    with pytest.raises(DataUnreadable):
        read_site(tmp_path / "north")


# ---- an operator's file ----------------------------------------------------------------------------------------------


def test_an_operators_ranges_go_before_published_ones(tmp_path: Path) -> None:
    path = written(tmp_path, "tag,low,high\nb, 5 ,7.5\na,-1,2\n")
    assert read_ranges(path, SCHEMA) == ((-1.0, 2.0), (5.0, 7.5), None)
    assert with_ranges(site(), path).ranges == ((-1.0, 2.0), (5.0, 7.5), (-2.5, 4.0))
    assert with_ranges(site(None), path).ranges == ((-1.0, 2.0), (5.0, 7.5), None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tag,low,high\nd,0,1\n", "line 2: the data has no tag 'd'"),
        ("tag,low,high\na,0,1\na,0,2\n", "line 3: the tag 'a' occurs twice"),
        ("tag,low,high\na,1,1\n", "line 2: the range of a goes from 1 to 1"),
        ("tag,low,high\na,2,1\n", "line 2: the range of a goes from 2 to 1"),
        ("tag,low,high\na,,1\n", "line 2: '' is not a number"),
        ("tag,low,high\na,0,inf\n", "line 2: 'inf' is no bound"),
        ("tag,low,high\na,zero,1\n", "is not a number"),
        ("tag,low,high\na,nan,1\n", "is no bound"),
        ("tag,low,high,unit\na,0,1,m\n", "due are tag, low, high"),
        ("tag,low,high\na,0\n", "line 2: 2 fields"),
        ("tag,low\na,0\n", "columns are 'tag,low', due are tag, low, high"),
        ("tag,low,high\n", "no rows"),
        ("tag,low,high\n,0,1\n", "line 2: the data has no tag ''"),
    ],
)
def test_a_file_that_is_not_clear_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataUnreadable, match=told):
        read_ranges(written(tmp_path, text), SCHEMA)


def plant_toml(folder: Path, extra: str = "") -> Path:
    write_site(folder / "site", site())
    config = folder / "plant.toml"
    config.write_text(f'name = "north"\n[data]\npath = "site"\n{extra}', encoding="utf-8")
    return config


def test_the_file_beside_plant_toml_is_read_without_being_named(tmp_path: Path) -> None:
    config = plant_toml(tmp_path)
    assert load_site(read_plant(config)).ranges == site().ranges
    written(tmp_path, "tag,low,high\nb,5,7\n")
    assert load_site(read_plant(config)).ranges == ((0.0, 1.0), (5.0, 7.0), (-2.5, 4.0))


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    config = plant_toml(tmp_path, 'ranges = "own.csv"\n')
    with pytest.raises(DataNotFound, match=r"own\.csv"):
        load_site(read_plant(config))
    (tmp_path / "own.csv").write_text("tag,low,high\nc,1,2\n", encoding="utf-8")
    assert load_site(read_plant(config)).ranges == ((0.0, 1.0), None, (1.0, 2.0))


def test_a_file_in_a_data_sets_folder_is_read_too(tmp_path: Path) -> None:
    twin.make(1, 0.05, "swat", 0, tmp_path / "twins")
    before = load("swat", tmp_path / "twins")[0].ranges
    written(tmp_path / "twins", "tag,low,high\nLIT101,1,2\n")
    after = load("swat", tmp_path / "twins")[0].ranges
    assert before is not None
    assert after is not None
    assert (before[1], after[1]) == ((492.9, 814.3), (1.0, 2.0))
    assert before[2:] == after[2:]


# ---- published ones --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", ["swat", "wadi"])
def test_every_tag_of_a_published_plant_has_a_range(plant: catalogue.Plant) -> None:
    tags = catalogue.tags(plant)
    found = catalogue.operating_ranges([tag.name for tag in tags])
    assert found is not None
    assert len(found) == len(tags)
    for tag, span in zip(tags, found, strict=True):
        assert span is not None
        assert span[0] < span[1]
        assert not tag.median < span[0]
        assert not tag.median > span[1]


def test_few_tags_of_the_same_name_make_no_published_plant() -> None:
    assert catalogue.operating_ranges(["LIT101", "x", "y"]) is None
    assert catalogue.operating_ranges(["LIT101", "FIT101", "y"]) == ((492.9, 814.3), (0.0, 2.669), None)


def test_generated_plants_have_the_generators_ranges_whatever_was_drawn() -> None:
    one, two = generate(2, 2_000, 3)
    assert one.ranges == two.ranges == RANGES
    assert len(RANGES) == len(TAGS)


def test_normal_readings_lie_in_the_generators_ranges_and_fill_them() -> None:
    """Wide enough for every plant, and not so wide that nothing would show."""
    low_D, high_D = np.array(RANGES).T
    readings = np.concatenate([plant.train_TD for plant in generate(12, 1_500, 5)])
    width_D = high_D - low_D
    outside = (readings < low_D - 0.15 * width_D) | (readings > high_D + 0.15 * width_D)
    assert outside.mean() < 0.001
    spread_D = np.diff(np.quantile(readings, [0.02, 0.98], axis=0), axis=0)[0] / width_D
    assert (spread_D > 0.4).all()


def test_sites_that_are_cut_or_joined_keep_what_they_agree_on() -> None:
    assert all(part.ranges == site().ranges for part in cut(site(), 2))
    assert join("all", [site(), site()]).ranges == site().ranges
    assert join("all", [site(), replace(site(), ranges=None)]).ranges is None
