"""Sites of several data sets in one federation, and plants that begin with little data.

The sets share neither tags nor units nor sampling, so a run over them needs `recipe.sharing.share = "trunk"`, and each
plant joins its rows by its own period (`recipe.preprocess.period_s`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from client.ingest.base import check_name
from shared.config import RunConfig
from shared.errors import InvalidConfig
from shared.series import Repair, SiteData


def mixed_sites(config: RunConfig) -> tuple[SiteData, ...]:
    """The natural sites of every set that `data.datasets` names, `SET-SITE`, the set as their group.

    `data.path` is the folder that holds the sets' folders; sets that are made need none. `data.sites`: the first so
    many of each set.

    Raises:
        InvalidConfig: no set is named, or the sites are to be cut besides.
        DataError, UnknownName: a set cannot be read, or there is none of the name.
    """
    from simulations.study.datasets import choose, load_sites

    data = config.data
    if not data.datasets:
        raise InvalidConfig("a mixed federation of no data sets.", "Name them: --datasets batadal,skab,twin-swat.")
    if data.partition is not None:
        raise InvalidConfig(f"data.partition = {data.partition!r}: the sites of a mixed federation stay as they are.")
    root = Path(data.path) if data.path else None
    found = ((source.name, load_sites(source, config)) for source in choose(data.datasets, root))
    return tuple(_renamed(name, site) for name, sites in found for site in sites[: data.sites])


def _renamed(dataset: str, site: SiteData) -> SiteData:
    own = site.name.removeprefix(f"{dataset}-")
    return replace(site, name=check_name(f"{dataset}-{own}"[:64]), group=dataset)


def shrunk(sites: Sequence[SiteData], late: Sequence[str]) -> tuple[SiteData, ...]:
    """Sites of which some keep only the first share of their training rows: plants that have only just begun.

    Args:
        sites: as they were loaded and cut.
        late: `SITE:SHARE`, the share in (0, 1).

    Raises:
        InvalidConfig: there is no site of a name, or it would keep nothing.
    """
    shares = {name: float(share) for name, _, share in (one.rpartition(":") for one in late)}
    names = [site.name for site in sites]
    unknown = sorted(shares.keys() - set(names))
    if unknown:
        shown = f"{', '.join(names[:20])}{' ...' if len(names) > 20 else ''}"
        raise InvalidConfig(f"data.shrink names {unknown[0]!r}, which is no site of the run.", f"Sites are {shown}.")
    return tuple(_shrunk(site, shares.get(site.name, 1.0)) for site in sites)


def _shrunk(site: SiteData, share: float) -> SiteData:
    rows = round(len(site.train_TD) * share)
    if rows == 0:
        raise InvalidConfig(f"data.shrink leaves site {site.name!r} none of its {len(site.train_TD):,} training rows.")
    if rows == len(site.train_TD):
        return site
    note = Repair(site.name, f"training rows left out by data.shrink, {share:.0%} are kept", len(site.train_TD) - rows)
    starts = tuple(start for start in site.train_starts if start < rows) or (0,)
    return replace(site, train_TD=site.train_TD[:rows], train_starts=starts, repairs=(*site.repairs, note))
