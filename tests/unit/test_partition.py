"""Partitions: nothing is lost, moved or mixed."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.ingest.base import known, load
from shared.errors import InvalidConfig, SchemaMismatch, TooFewRows, TooFewSites, UnknownName
from shared.windows import window_starts
from simulations.partition import default_partition, partition, partitions
from tests.conftest import real, site
from tests.support.command import crossplant_here

FIVE = (
    site("M-10", group="M"),
    site("M-2", group="M", train=7, test=5),
    site("C-1", group="C"),
    site("P-1", group="P"),
    site("P-3", group="P", train=4),
)


def test_by_channel_keeps_each_site_in_natural_order() -> None:
    assert [plant.name for plant in partition(FIVE, "by-channel", None)] == ["C-1", "M-2", "M-10", "P-1", "P-3"]
    assert [plant.name for plant in partition(FIVE, "by-channel", 3)] == ["C-1", "M-2", "M-10"]


def test_by_subsystem_lays_sites_end_to_end() -> None:
    plants = {plant.name: plant for plant in partition(FIVE, "by-subsystem", None)}
    assert list(plants) == ["C", "M", "P"]
    m = plants["M"]
    assert (m.train_starts, m.test_starts, m.group) == ((0, 7), (0, 5), "M")
    assert np.array_equal(m.train_TD, np.concatenate([FIVE[1].train_TD, FIVE[0].train_TD]))
    assert FIVE[0].labels_T is not None
    assert FIVE[1].labels_T is not None
    assert m.labels_T is not None
    assert np.array_equal(m.labels_T, np.concatenate([FIVE[1].labels_T, FIVE[0].labels_T]))
    assert "M-2, M-10 end to end" in m.source
    assert [plant.name for plant in partition(FIVE, "by-subsystem", 2)] == ["C", "M"]


def test_no_window_of_a_joined_site_straddles_two() -> None:
    m = partition(FIVE, "by-subsystem", None)[1]
    starts = window_starts(len(m.train_TD), 5, 1, m.train_starts)
    assert all(start + 5 <= 7 or start >= 7 for start in starts)


def test_inner_recordings_survive_joining_and_cutting() -> None:
    pair = (replace(site("a"), train_starts=(0, 6), group="g"), replace(site("b"), train_starts=(0, 3), group="g"))
    joined = partition((*pair, site("c", group="h")), "by-subsystem", None)[0]
    assert joined.train_starts == (0, 6, 20, 23)
    halves = partition((joined,), "by-time", 2)
    assert [half.train_starts for half in halves] == [(0, 6), (0, 3)]


def test_sites_without_test_rows_add_no_recording() -> None:
    joined = partition((site("a", test=0, group="g"), site("b", group="g"), site("c", group="h")), "by-subsystem", None)
    assert joined[0].test_starts == (0,)
    assert joined[0].labels_T is not None
    assert len(joined[0].labels_T) == 12


def test_half_labelled_sites_lose_their_labels_and_say_so() -> None:
    sites = (site("a", group="g"), site("b", group="g", labelled=False), site("c", group="h"))
    joined = partition(sites, "by-subsystem", None)[0]
    assert joined.labels_T is None
    assert [(note.where, note.count) for note in joined.repairs] == [("g", 12)]


@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_by_time_cuts_into_equal_blocks_and_loses_nothing(count: int) -> None:
    whole = site("c-town")
    blocks = partition((whole,), "by-time", count)
    assert [block.name for block in blocks] == [f"c-town-t{at}" for at in range(1, count + 1)]
    assert np.array_equal(np.concatenate([block.train_TD for block in blocks]), whole.train_TD)
    assert np.array_equal(np.concatenate([block.test_TD for block in blocks]), whole.test_TD)
    assert whole.labels_T is not None
    assert np.array_equal(np.concatenate([b.labels_T for b in blocks if b.labels_T is not None]), whole.labels_T)
    assert {len(block.train_TD) for block in blocks} <= {20 // count, 20 // count + 1}


def test_by_time_gives_eight_blocks_a_site_or_as_many_as_asked_in_all() -> None:
    assert len(partition((site("c-town"),), "by-time", None)) == 8
    assert len(partition((site("a"), site("b")), "by-time", None)) == 16
    assert [plant.name for plant in partition((site("a"), site("b")), "by-time", 3)] == [
        "joined-t1",
        "joined-t2",
        "joined-t3",
    ]


def test_too_few_and_too_many() -> None:
    with pytest.raises(TooFewSites, match="gives 1 site"):
        partition((site("a"),), "by-channel", None)
    with pytest.raises(TooFewSites):
        partition((), "by-time", 4)
    with pytest.raises(TooFewSites):
        partition(FIVE, "by-channel", 1)
    with pytest.raises(InvalidConfig, match="6 sites are asked for, but the partition by-channel gives 5"):
        partition(FIVE, "by-channel", 6)
    with pytest.raises(InvalidConfig, match="by-subsystem gives 3"):
        partition(FIVE, "by-subsystem", 4)
    with pytest.raises(InvalidConfig, match="-1 sites"):
        partition(FIVE, "by-channel", -1)
    with pytest.raises(TooFewRows, match="20 training rows, too few for 21 blocks"):
        partition((site("a"),), "by-time", 21)


def test_sites_that_cannot_be_joined_are_named() -> None:
    other = site("M-3", group="M", tags=("a", "c"))
    with pytest.raises(SchemaMismatch, match=r"M-2 and M-3 cannot be joined: M-3 missing b; unknown c"):
        partition((*FIVE, other), "by-subsystem", None)
    with pytest.raises(SchemaMismatch, match="cannot be joined"):
        partition((*FIVE, other), "by-time", 4)
    assert len(partition((*FIVE, other), "by-channel", None)) == 6


def test_faults_of_asking() -> None:
    assert partitions() == ["by-channel", "by-machine", "by-mode", "by-stage", "by-subsystem", "by-time"]
    with pytest.raises(UnknownName, match="no partition called 'by-luck'"):
        partition(FIVE, "by-luck", None)
    with pytest.raises(InvalidConfig, match="no subsystem is known of a"):
        partition((site("a"), site("b", group="g")), "by-subsystem", None)
    with pytest.raises(InvalidConfig, match="two sites are called 'a'"):
        partition((site("a"), site("a")), "by-channel", None)
    with pytest.raises(InvalidConfig, match="cannot be a site's name"):
        partition((site("a/b"), site("c")), "by-channel", None)


def test_every_data_set_names_a_partition_that_there_is() -> None:
    assert {default_partition(name, 2) for name in known()} <= set(partitions())


def test_the_help_of_simulate_names_every_partition_and_data_set() -> None:
    told = " ".join(crossplant_here("simulate", "--help").stdout.replace("│", " ").split())
    for name in (*partitions(), *known()):
        assert re.search(rf"[ ,.(]{name}[ ,.)]", told), name


def test_defaults() -> None:
    assert {name: default_partition(name, 5) for name in ("msl", "smap", "skab", "swat", "generated", "twin-swat")} == {
        "msl": "by-channel",
        "smap": "by-channel",
        "skab": "by-channel",
        "swat": "by-channel",
        "generated": "by-channel",
        "twin-swat": "by-channel",
    }
    assert {default_partition(name, 1) for name in ("swat", "batadal", "historian")} == {"by-time"}


def test_real_msl_by_subsystem(data_root: Path) -> None:
    plants = partition(load("msl", real(data_root, "telemanom")), "by-subsystem", None)
    assert [plant.name for plant in plants] == list("CDFMPST")
    assert sum(len(plant.train_TD) for plant in plants) == 58_317
    assert sum(len(plant.train_starts) for plant in plants) == 27
    assert sum(int(plant.labels_T.sum()) for plant in plants if plant.labels_T is not None) == 7_766
