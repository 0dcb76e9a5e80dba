"""`by-time`: consecutive blocks."""

from __future__ import annotations

from simulations.partition.pieces import cut, join
from simulations.partition.registry import Asked, Sites, strategy

TIME_BLOCKS = 8


@strategy("by-time")
def by_time(sites: Sites, asked: Asked) -> Sites:
    """Consecutive equal blocks of time are plants.

    Without `count` every natural site gives 8. With it the natural sites are laid end to end first, and the whole gives
    `count`, so that `--sites N` always means N plants.
    """
    if asked.count is None:
        return tuple(block for site in sites for block in cut(site, TIME_BLOCKS))
    if not sites:
        return ()
    whole = sites[0] if len(sites) == 1 else join("joined", sites)
    return tuple(cut(whole, asked.count))
