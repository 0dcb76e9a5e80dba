"""What every partition keeps: each row once, with its label, beside the rows that it stood beside."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.ingest.base import SITE_NAME
from shared.schema import SensorSchema
from shared.series import SiteData
from simulations.partition import Asked, partition, partitions

ASKED = Asked(dataset="skab", concentration=0.3, modes=3, segment=9, seed=5)
ROWS = ("by-channel", "by-machine", "by-mode", "by-subsystem", "by-time")
"""Partitions that give each row to one plant; by-stage gives each column to one."""


@st.composite
def natural_sites(draw: st.DrawFn) -> tuple[SiteData, ...]:
    """Sites whose first column numbers the rows of all of them, with recordings and labelled events anywhere."""
    sites, number = [], 0
    for at in range(draw(st.integers(2, 4))):
        train, test = draw(st.integers(40, 120)), draw(st.integers(0, 90))
        numbers = np.arange(number, number + train + test, dtype=np.float32)
        number += train + test
        noise = np.random.default_rng(draw(st.integers(0, 99))).normal(size=len(numbers)).cumsum()
        values = np.stack([numbers, noise.astype(np.float32)], axis=1)
        labels = np.zeros(test, bool)
        for _ in range(draw(st.integers(0, 3))):
            first = draw(st.integers(0, max(0, test - 1)))
            labels[first : first + draw(st.integers(1, 30))] = True
        sites.append(
            SiteData(
                name=f"s-{at}",
                schema=SensorSchema(tags=("row", "value"), period_s=1),
                train_TD=values[:train],
                test_TD=values[train:],
                labels_T=labels,
                train_starts=draw(starts(train)),
                test_starts=draw(starts(test)),
                group=f"g{at % 2}",
            )
        )
    return tuple(sites)


def starts(rows: int) -> st.SearchStrategy[tuple[int, ...]]:
    if rows < 2:
        return st.just((0,))
    return st.sets(st.integers(1, rows - 1), max_size=3).map(lambda inner: (0, *sorted(inner)))


def rows_and_labels(sites: tuple[SiteData, ...]) -> tuple[list[float], list[tuple[float, bool]]]:
    train = sorted(float(row) for site in sites for row in site.train_TD[:, 0])
    assert all(site.labels_T is not None or not len(site.test_TD) for site in sites)
    test = sorted(
        (float(row), bool(label))
        for site in sites
        if site.labels_T is not None
        for row, label in zip(site.test_TD[:, 0], site.labels_T, strict=True)
    )
    return train, test


def recordings(values_TD: np.ndarray, begin: tuple[int, ...]) -> list[list[int]]:
    assert begin[0] == 0
    assert all(a < b for a, b in pairwise(begin))
    assert begin[-1] < max(1, len(values_TD))
    ends = [*begin[1:], len(values_TD)]
    return [values_TD[a:b, 0].astype(int).tolist() for a, b in zip(begin, ends, strict=True)]


@pytest.mark.parametrize("how", ROWS)
@given(sites=natural_sites(), count=st.sampled_from([None, 2]))
@settings(max_examples=40)
def test_rows_are_neither_lost_nor_doubled_nor_put_together(
    how: str, sites: tuple[SiteData, ...], count: int | None
) -> None:
    plants = partition(sites, how, count, ASKED)
    whole = sites[: len(plants)] if how == "by-channel" else sites
    assert rows_and_labels(plants) == rows_and_labels(whole)
    for part in ("train", "test"):
        natural = {
            pair
            for site in sites
            for recording in recordings(getattr(site, f"{part}_TD"), getattr(site, f"{part}_starts"))
            for pair in pairwise(recording)
        }
        for plant in plants:
            inside = recordings(getattr(plant, f"{part}_TD"), getattr(plant, f"{part}_starts"))
            assert all(pair in natural for recording in inside for pair in pairwise(recording))
    assert all(SITE_NAME.fullmatch(plant.name) for plant in plants)
    assert all(len(plant.train_TD) for plant in plants)


@pytest.mark.parametrize("how", ROWS)
def test_the_same_request_gives_the_same_plants(how: str) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(600, 2)).cumsum(axis=0).astype(np.float32)
    schema = SensorSchema(tags=("a", "b"), period_s=1)
    one = SiteData("x-1", schema, values[:400], values[400:], rng.random(200) < 0.1, group="x")
    sites = (one, replace(one, name="y-1", group="y"))
    first, again = partition(sites, how, None, ASKED), partition(sites[::-1], how, None, ASKED)
    assert [plant.name for plant in first] == [plant.name for plant in again]
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.train_TD, b.train_TD)
        assert np.array_equal(a.test_TD, b.test_TD)
        assert np.array_equal(a.labels_T, b.labels_T)
        assert (a.train_starts, a.test_starts) == (b.train_starts, b.test_starts)


def test_every_partition_is_tried_here_or_gives_columns() -> None:
    assert {*ROWS, "by-stage"} == set(partitions())
