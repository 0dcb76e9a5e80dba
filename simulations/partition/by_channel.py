"""`by-channel`: natural sites as they are."""

from __future__ import annotations

from simulations.partition.registry import Asked, Sites, first, strategy


@strategy("by-channel")
def by_channel(sites: Sites, asked: Asked) -> Sites:
    """Each natural site is a plant; the first `count` in natural order."""
    return first(sites, asked.count, "by-channel")
