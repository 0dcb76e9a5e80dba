"""A plant's data, as its `plant.toml` names it. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from client.agent.config import Plant
from client.ingest.base import load
from client.ingest.folder import read_site
from client.ingest.ranges import RANGES, with_ranges
from shared.errors import DataNotFound
from shared.series import SiteData


def load_site(plant: Plant) -> SiteData:
    """The plant's data, under the plant's own name.

    Raises:
        DataError: missing, unreadable, or several sites of which none is chosen.
    """
    source = plant.config.data
    path = plant.folder / source.path
    if source.dataset is None and not (path / "site.json").is_file():
        raise _no_site(path)
    site = read_site(path) if source.dataset is None else _chosen(load(source.dataset, path), source.site)
    file = plant.folder / (source.ranges or RANGES)
    if source.ranges is not None or file.is_file():
        site = with_ranges(site, file)
    return replace(site, name=plant.config.name)


def _no_site(path: Path) -> DataNotFound:
    if not path.exists():
        return DataNotFound(f"data.path: there is no {path}.", "Set data.path in plant.toml to where the data lies.")
    mend = f"Set data.dataset in plant.toml, such as 'historian'; `crossplant data check {path}` says which it is."
    return DataNotFound(f"data.path: {path} holds no site.json, and plant.toml names no data.dataset.", mend)


def _chosen(sites: tuple[SiteData, ...], name: str | None) -> SiteData:
    names = [site.name for site in sites]
    if name is None and len(sites) == 1:
        return sites[0]
    if name not in names:
        cause = f"data.site = {name!r}: the data set holds {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}."
        raise DataNotFound(cause, "Set data.site in plant.toml to one of them.")
    return sites[names.index(name)]
