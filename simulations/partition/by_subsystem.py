"""`by-subsystem`: what belongs together, end to end."""

from __future__ import annotations

from client.ingest.base import natural_key
from shared.errors import InvalidConfig
from simulations.partition.pieces import join
from simulations.partition.registry import Asked, Sites, few, first, strategy


@strategy("by-subsystem")
def by_subsystem(sites: Sites, asked: Asked) -> Sites:
    """The natural sites of one group, laid end to end, are a plant."""
    loose = [site.name for site in sites if not site.group]
    if loose:
        raise InvalidConfig(f"no subsystem is known of {few(loose)}.", "Choose --partition by-channel or by-time.")
    groups = sorted({site.group for site in sites}, key=natural_key)
    chosen = first(groups, asked.count, "by-subsystem")
    return tuple(join(group, [site for site in sites if site.group == group]) for group in chosen)
