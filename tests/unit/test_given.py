"""The table of what each site got: counted right, printed, kept and reported."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from client.ingest.base import load
from shared.config import build
from simulations.given import SHOWN, Given, Shares, print_shares, shares
from simulations.made import make_sites
from simulations.partition import partition
from simulations.report.given import given_table, given_words
from simulations.rundir import RunIndex
from tests.conftest import real, site
from tests.unit.test_report import HOSTILE, report, whole


def north() -> Given:
    train = np.zeros((200, 3), np.float32)
    train[:, 0], train[:, 2] = np.arange(200), np.nan
    plant = dataclasses.replace(
        site("north", test=100, tags=("a", "b", "c"), group="P1"),
        train_TD=train,
        labels_T=np.arange(100) // 5 % 4 == 0,
        train_starts=(0, 50),
        test_starts=(0, 2, 60),
    )
    other = dataclasses.replace(site("south", tags=("a", "b", "c")), labels_T=None)
    return shares((plant, other)).sites[0]


def test_everything_is_counted() -> None:
    row = north()
    assert (row.site, row.group, row.train_rows, row.test_rows) == ("north", "P1", 200, 100)
    assert row.hours == pytest.approx(300 / 3600)
    assert (row.train_recordings, row.test_recordings) == (2, 3)
    assert (row.labelled_share, row.events) == (0.25, 6)  # five runs, one of them broken by a new recording
    assert (row.tags, row.constant_tags, row.unknown_tags) == (3, 1, 1)
    assert row.nearest == "south"
    assert row.unlikeness is not None


def test_a_tag_that_moves_late_or_after_a_gap_is_not_constant() -> None:
    train = np.full((45_000, 4), np.nan, np.float32)
    train[44_999, 0] = 1
    train[25_000:, 1] = 2
    train[44_998:, 2] = (3, 4)
    train[:, 3] = 5
    train[100, 3] = np.inf
    plant = dataclasses.replace(site("late", tags=("a", "b", "c", "d")), train_TD=train)
    row = shares((plant, plant)).sites[0]
    assert (row.constant_tags, row.unknown_tags) == (3, 0)


def test_without_labels_or_test_rows_nothing_is_claimed() -> None:
    unlabelled, untested = site("a", labelled=False), site("b", test=0)
    for row in shares((unlabelled, untested)).sites:
        assert (row.labelled_share, row.events) == (None, None)


def printed(given: Shares) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        print_shares(console, given)
    return capture.get()


def test_the_console_shows_every_figure_and_how_to_read_it() -> None:
    text = printed(shares((site("north"), site("south", train=2_000))))
    assert "What each site got" in text
    assert [word for line in text.splitlines() if line.startswith("south") for word in line.split()][:3] == [
        "south",
        "2,000",
        "12",
    ]
    assert "Mean unlikeness of the sites: " in text


def test_sites_that_cannot_be_compared_and_many_sites() -> None:
    lonely = (site("a", tags=("x",)), site("b", tags=("y",)))
    assert "cannot be compared" in printed(shares(lonely))
    assert "cannot be compared" in given_words(shares(lonely))
    many = shares(tuple(site(f"s-{at}") for at in range(SHOWN + 3)))
    assert "3 more sites are not shown" in printed(many)
    assert len(given_table(many).rows) == SHOWN + 3


def test_shares_survive_json() -> None:
    given = shares((site("north"), site("south", tags=("x", "y"))))
    assert Shares.model_validate_json(given.model_dump_json()) == given


def test_a_row_of_the_report_has_a_cell_a_column() -> None:
    table = given_table(shares((site("north"), site("south"))))
    assert {len(row) for row in (*table.rows, table.foot)} == {len(table.columns)}
    assert [cell.text for cell in table.foot[:3]] == ["All sites", "40", "24"]


def test_real_msl_by_channel(data_root: Path) -> None:
    given = shares(partition(load("msl", real(data_root, "telemanom")), "by-channel", None))
    assert len(given.sites) == 27
    assert sum(row.train_rows for row in given.sites) == 58_317
    assert sum(row.events or 0 for row in given.sites) == 36
    nearest = {row.site: row.nearest for row in given.sites}
    assert (nearest["P-10"], nearest["P-14"]) == ("P-14", "P-10")  # the duplicate that is known


def test_the_report_shows_it_and_hostile_names_stay_text(tmp_path: Path) -> None:
    given = shares((site("north"), site("south")))
    named = given.sites[0].model_copy(update={"site": HOSTILE, "nearest": HOSTILE})
    material = dataclasses.replace(whole(), given=given.model_copy(update={"sites": (named, given.sites[1])}))
    page = report(tmp_path, material)
    assert "What each site got" in page.text
    assert "script" not in page.tags
    assert page.tags["caption"] == page.tags["table"]


def test_a_run_of_an_earlier_version_has_no_table(tmp_path: Path) -> None:
    assert "What each site got" not in report(tmp_path, whole()).text
    index = {"run": "a", "store": ".", "origin": {}, "notes": [], "data": {}}
    assert RunIndex.model_validate(index).given is None


@pytest.mark.parametrize(
    ("flags", "plants"),
    [({}, 5), ({"sites": 3}, 3), ({"partition": "by-mode", "sites": 2}, 5), ({"partition": "by-stage", "sites": 6}, 1)],
)
def test_sites_counts_what_the_partition_gives(flags: dict[str, Any], plants: int) -> None:
    config, _ = build({"test": {"data": {"rows": 200, **flags}}})
    assert len(make_sites(config)) == plants
