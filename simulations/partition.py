"""How natural sites become the plants of a simulated federation.

A strategy is one function, registered by name. Joined and cut sites keep track of where recordings begin, so that no
window straddles two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

import numpy as np

from client.ingest.base import check_name, find, known, natural_key
from shared.errors import InvalidConfig, SchemaMismatch, TooFewRows, TooFewSites, UnknownName
from shared.schema import difference
from shared.series import BoolArray, Repair, SiteData

Sites = tuple[SiteData, ...]
Strategy = Callable[[Sites, int | None], Sites]

TIME_BLOCKS = 8
T = TypeVar("T")

_strategies: dict[str, Strategy] = {}


def strategy(name: str) -> Callable[[Strategy], Strategy]:
    """Register a function as the partition of that name."""

    def keep(function: Strategy) -> Strategy:
        _strategies[name] = function
        return function

    return keep


def partitions() -> list[str]:
    """Names of all partitions.

    Example:
        >>> partitions()
        ['by-channel', 'by-subsystem', 'by-time']
    """
    return sorted(_strategies)


def default_partition(dataset: str) -> str:
    """The partition that suits a data set; each site for itself where the data is made of plants already.

    Example:
        >>> default_partition("msl"), default_partition("batadal"), default_partition("generated")
        ('by-channel', 'by-time', 'by-channel')
    """
    return find(dataset).natural_partition if dataset in known() else "by-channel"


def partition(sites: Sequence[SiteData], how: str, count: int | None) -> Sites:
    """Cut or join natural sites into the plants of a federation.

    Args:
        sites: natural sites, as loaders give them.
        how: one of `partitions()`.
        count: how many plants (`--sites`). None: all there are; for `by-time` 8 blocks of every site.

    Raises:
        UnknownName: no such partition.
        InvalidConfig: more plants are asked for than there are, or the sites belong to no subsystem.
        SchemaMismatch: sites that would be joined have different tags or sampling.
        TooFewRows: the blocks would be empty.
        TooFewSites: fewer than two plants come out.
    """
    if how not in _strategies:
        raise UnknownName("partition", how, partitions())
    if count is not None and count < 1:
        raise InvalidConfig(f"{count} sites are asked for.", "Give --sites 2 or more.")
    ordered = tuple(sorted(sites, key=lambda site: natural_key(site.name)))
    plants = _strategies[how](ordered, count)
    if len(plants) < 2:
        raise TooFewSites(f"the partition {how} gives {len(plants)} site where a federation needs two or more.")
    names = [check_name(plant.name) for plant in plants]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidConfig(f"two sites are called {twice!r}.", "Give each site a name of its own.")
    return plants


@strategy("by-channel")
def by_channel(sites: Sites, count: int | None) -> Sites:
    """Each natural site is a plant; the first `count` in natural order."""
    return _first(sites, count, "by-channel")


@strategy("by-subsystem")
def by_subsystem(sites: Sites, count: int | None) -> Sites:
    """The natural sites of one group, laid end to end, are a plant."""
    loose = [site.name for site in sites if not site.group]
    if loose:
        raise InvalidConfig(f"no subsystem is known of {_few(loose)}.", "Choose --partition by-channel or by-time.")
    groups = sorted({site.group for site in sites}, key=natural_key)
    chosen = _first(groups, count, "by-subsystem")
    return tuple(join(group, [site for site in sites if site.group == group]) for group in chosen)


@strategy("by-time")
def by_time(sites: Sites, count: int | None) -> Sites:
    """Consecutive equal blocks of time are plants.

    Without `count` every natural site gives 8. With it the natural sites are laid end to end first, and the whole gives
    `count`, so that `--sites N` always means N plants.
    """
    if count is None:
        return tuple(block for site in sites for block in cut(site, TIME_BLOCKS))
    if not sites:
        return ()
    whole = sites[0] if len(sites) == 1 else join("joined", sites)
    return tuple(cut(whole, count))


def _first(things: Sequence[T], count: int | None, how: str) -> tuple[T, ...]:
    if count is not None and count > len(things):
        cause = f"{count} sites are asked for, but the partition {how} gives {len(things)}."
        raise InvalidConfig(cause, f"Give --sites {len(things)} or fewer, or leave it out.")
    return tuple(things[:count])


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
    return SiteData(
        name=name,
        schema=sites[0].schema,
        train_TD=np.concatenate([site.train_TD for site in sites]),
        test_TD=np.concatenate([site.test_TD for site in sites]),
        labels_T=labels_T,
        train_starts=_join_starts([(site.train_starts, len(site.train_TD)) for site in sites]),
        test_starts=_join_starts([(site.test_starts, len(site.test_TD)) for site in sites]),
        group=sites[0].group if len({site.group for site in sites}) == 1 else "",
        source=f"{_few([site.name for site in sites])} end to end; {sites[0].source}",
        repairs=(*(note for site in sites for note in site.repairs), *unlabelled),
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
    note = Repair(name, f"no labels for {_few(lost)}: labels of the joined site are not used", sum(map(len, labels)))
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
            source=f"{site.source}, block {block + 1} of {count}",
        )


def _cut_starts(starts: tuple[int, ...], first: int, end: int) -> tuple[int, ...]:
    return (0, *(at - first for at in starts if first < at < end))


def _few(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
