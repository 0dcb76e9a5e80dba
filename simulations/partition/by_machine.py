"""`by-machine`: one plant a machine.

`by-channel` asks which files there are, `by-subsystem` which of them somebody put in one group, `by-machine` which
piece of equipment was recorded. The three give the same plants for one data set and different ones for the next, and
only what is published of a data set tells which:

- SMD holds 28 servers, one a file (`machine-1-1`); its groups `machine-1` to `machine-3` are kinds of servers. So
  `by-machine` gives 28 plants, as `by-channel` does, and `by-subsystem` gives 3. (Su et al. 2019,
  doi 10.1145/3292500.3330672)
- SKAB holds many short experiments on few parts of a rig (`valve1-0`, `valve1-1`, ...; `valve1`, `valve2`, `other`).
  So `by-machine` lays the experiments of one part end to end, as `by-subsystem` does, and `by-channel` gives 34.
  (Katser and Kozitsin 2020, doi 10.34740/KAGGLE/DSV/1693952)

The channels of MSL and SMAP are parts of one spacecraft each, TEP's runs and BATADAL's files come from one plant each:
there is no second machine to federate with.
"""

from __future__ import annotations

from typing import Literal

from client.ingest.base import natural_key
from shared.errors import InvalidConfig
from simulations.partition.pieces import join
from simulations.partition.registry import Asked, Sites, few, first, strategy

MACHINES: dict[str, Literal["site", "group"]] = {"skab": "group", "smd": "site"}
"""What a machine is in each data set that has several: a natural site, or the group that natural sites name."""


@strategy("by-machine")
def by_machine(sites: Sites, asked: Asked) -> Sites:
    """Everything that was recorded on one machine, end to end, is a plant.

    Raises:
        InvalidConfig: the data set is not known to hold several machines, or a site names none.
    """
    machine = MACHINES.get(asked.dataset)
    if machine is None:
        of = f"of the data set {asked.dataset!r}" if asked.dataset else "of these sites"
        cause = f"nothing is published {of} that says which machine each site belongs to."
        raise InvalidConfig(cause, f"by-machine knows {', '.join(MACHINES)}. Choose by-channel or by-subsystem here.")
    if machine == "site":
        return first(sites, asked.count, "by-machine")
    loose = [site.name for site in sites if not site.group]
    if loose:
        raise InvalidConfig(f"no machine is named by {few(loose)}.", "Choose --partition by-channel.")
    groups = first(sorted({site.group for site in sites}, key=natural_key), asked.count, "by-machine")
    return tuple(join(group, [site for site in sites if site.group == group]) for group in groups)
