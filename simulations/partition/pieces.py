"""Sites laid end to end, cut into blocks, or put together from pieces of one; rows, labels and starts move together."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from shared.errors import SchemaMismatch, TooFewRows
from shared.schema import difference
from shared.series import BoolArray, Repair, SiteData
from simulations.partition.registry import few

Span = tuple[int, int]


def join(name: str, sites: Sequence[SiteData]) -> SiteData:
    """Lay sites of one schema end to end, in the given order; each begins a new recording.

    Labels are kept only where every site with test rows has them: half-labelled data would count unknown as normal.

    Raises:
        SchemaMismatch: two of them differ in tags or sampling.
    """
    for site in sites[1:]:
        if site.schema != sites[0].schema:
            what = difference(sites[0].schema, site.schema).replace("the federation", sites[0].name)
            cure = "Choose --partition by-channel, which joins nothing."
            raise SchemaMismatch(f"{sites[0].name} and {site.name} cannot be joined: {site.name} {what}.", cure)
    labels_T, unlabelled = _join_labels(name, sites)
    faults = [site.faults_TD for site in sites if site.faults_TD is not None]
    return SiteData(
        name=name,
        schema=sites[0].schema,
        train_TD=np.concatenate([site.train_TD for site in sites]),
        test_TD=np.concatenate([site.test_TD for site in sites]),
        labels_T=labels_T,
        train_starts=_join_starts([(site.train_starts, len(site.train_TD)) for site in sites]),
        test_starts=_join_starts([(site.test_starts, len(site.test_TD)) for site in sites]),
        group=sites[0].group if len({site.group for site in sites}) == 1 else "",
        source=f"{few([site.name for site in sites])} end to end; {sites[0].source}",
        repairs=(*(note for site in sites for note in site.repairs), *unlabelled),
        ranges=sites[0].ranges if len({site.ranges for site in sites}) == 1 else None,
        faults_TD=np.concatenate(faults) if faults else None,
    )


def _join_starts(parts: Sequence[tuple[tuple[int, ...], int]]) -> tuple[int, ...]:
    offsets = accumulate((rows for _, rows in parts), initial=0)
    moved = (at + offset for (starts, rows), offset in zip(parts, offsets, strict=False) if rows for at in starts)
    return tuple(moved) or (0,)


def _join_labels(name: str, sites: Sequence[SiteData]) -> tuple[BoolArray | None, tuple[Repair, ...]]:
    tested = [site for site in sites if len(site.test_TD)]
    labels = [site.labels_T for site in tested if site.labels_T is not None]
    if len(labels) == len(tested):
        return (np.concatenate(labels) if labels else None), ()
    lost = tuple(site.name for site in tested if site.labels_T is None)
    note = Repair(name, f"no labels for {few(lost)}: labels of the joined site are not used", sum(map(len, labels)))
    return None, (note,) if labels else ()


def cut(site: SiteData, count: int) -> Iterator[SiteData]:
    """Cut a site's training and test data into `count` consecutive blocks each, equal to within one row.

    Raises:
        TooFewRows: there are fewer training rows than blocks.
    """
    if count > len(site.train_TD):
        cause = f"site {site.name!r} has {len(site.train_TD)} training rows, too few for {count} blocks."
        raise TooFewRows(cause, "Choose a smaller --sites, or another --partition.")
    for block in range(count):
        train_a, train_b = (len(site.train_TD) * at // count for at in (block, block + 1))
        test_a, test_b = (len(site.test_TD) * at // count for at in (block, block + 1))
        yield replace(
            site,
            name=f"{site.name}-t{block + 1}",
            train_TD=site.train_TD[train_a:train_b],
            test_TD=site.test_TD[test_a:test_b],
            labels_T=None if site.labels_T is None else site.labels_T[test_a:test_b],
            train_starts=_cut_starts(site.train_starts, train_a, train_b),
            test_starts=_cut_starts(site.test_starts, test_a, test_b),
            faults_TD=None if site.faults_TD is None else np.array_split(site.faults_TD, count)[block],
            source=f"{site.source}, block {block + 1} of {count}",
        )


def _cut_starts(starts: tuple[int, ...], first: int, end: int) -> tuple[int, ...]:
    return (0, *starts_between(starts, first, end))


def starts_between(starts: Sequence[int], first: int, end: int) -> list[int]:
    """The recordings that begin inside `[first, end)`, but not with it, counted from `first`; `starts` ascend."""
    return [at - first for at in starts[bisect_right(starts, first) : bisect_left(starts, end)]]


def take(site: SiteData, name: str, train: Sequence[Span], test: Sequence[Span], how: str) -> SiteData:
    """A plant made of pieces of a site, in their order in time. Which of them known faults belong to is not known.

    Pieces that follow one another in the site stay one recording; after each gap a new one begins.

    Args:
        site: what the pieces are of.
        name: the plant's name.
        train, test: half-open row ranges that do not overlap, each ascending.
        how: said of the plant's source.
    """
    train, test = _merged(train), _merged(test)
    return replace(
        site,
        name=name,
        train_TD=np.concatenate([site.train_TD[:0], *(site.train_TD[a:b] for a, b in train)]),
        test_TD=np.concatenate([site.test_TD[:0], *(site.test_TD[a:b] for a, b in test)]),
        labels_T=None
        if site.labels_T is None
        else np.concatenate([site.labels_T[:0], *(site.labels_T[a:b] for a, b in test)]),
        train_starts=_taken_starts(site.train_starts, train),
        test_starts=_taken_starts(site.test_starts, test),
        faults_TD=None,
        source=f"{site.source}, {how}",
    )


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for first, end in spans:
        if merged and merged[-1][1] == first:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((first, end))
    return merged


def _taken_starts(starts: Sequence[int], spans: Sequence[Span]) -> tuple[int, ...]:
    offsets = accumulate((end - first for first, end in spans), initial=0)
    return tuple(
        at + offset
        for (first, end), offset in zip(spans, offsets, strict=False)
        for at in (0, *starts_between(starts, first, end))
    ) or (0,)
