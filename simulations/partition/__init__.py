"""How natural sites become the plants of a simulated federation: one strategy a file, found by its name.

A new strategy is one file `by_<what>.py` beside this one: a function with `@strategy("by-<what>")` on it. Joined and
cut sites keep track of where recordings begin, so that no window straddles two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from client.ingest.base import check_name, find, known, natural_key, suiting
from shared.errors import InvalidConfig, TooFewSites, UnknownName
from shared.series import SiteData
from simulations.partition.pieces import cut, join
from simulations.partition.registry import Asked, Sites, Strategy, found, strategy

__all__ = ["Asked", "Sites", "Strategy", "cut", "default_partition", "join", "partition", "partitions", "strategy"]


def partitions() -> list[str]:
    """Names of all partitions.

    Example:
        >>> partitions()
        ['by-channel', 'by-machine', 'by-mode', 'by-stage', 'by-subsystem', 'by-time']
    """
    return sorted(found())


def default_partition(dataset: str, sites: int) -> str:
    """The partition that suits a data set of so many natural sites; plants that were made are plants already.

    Example:
        >>> default_partition("msl", 27), default_partition("batadal", 1), default_partition("generated", 1)
        ('by-channel', 'by-time', 'by-channel')
    """
    return suiting(find(dataset).natural_partition, sites) if dataset in known() else "by-channel"


def partition(sites: Sequence[SiteData], how: str, count: int | None = None, asked: Asked | None = None) -> Sites:
    """Cut or join natural sites into the plants of a federation.

    Args:
        sites: natural sites, as loaders give them.
        how: one of `partitions()`.
        count: how many plants (`--sites`). None: all there are; for `by-time` 8 blocks of every site, for `by-mode` 8.
        asked: what only some strategies need; its `count` gives way to the argument.

    Raises:
        UnknownName: no such partition.
        InvalidConfig: more plants are asked for than there are, or the sites are not of the kind that it cuts.
        SchemaMismatch: sites that would be joined have different tags or sampling.
        TooFewRows: plants would be empty.
        TooFewSites: fewer than two plants come out.
    """
    if how not in found():
        raise UnknownName("partition", how, partitions())
    if count is not None and count < 1:
        raise InvalidConfig(f"{count} sites are asked for.", "Give --sites 2 or more.")
    ordered = tuple(sorted(sites, key=lambda site: natural_key(site.name)))
    plants = found()[how](ordered, replace(asked or Asked(), count=count))
    if len(plants) < 2:
        raise TooFewSites(f"the partition {how} gives {len(plants)} site where a federation needs two or more.")
    names = [check_name(plant.name) for plant in plants]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidConfig(f"two sites are called {twice!r}.", "Give each site a name of its own.")
    return plants
