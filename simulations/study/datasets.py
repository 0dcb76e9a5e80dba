"""Which data sets lie below a folder: known ones by their content, a plant's own exports by their folder's name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from client.ingest.base import Recognition, known, load, natural_key
from client.ingest.doctor.recognise import LAST, recognise_readable
from shared.config import RunConfig
from shared.errors import DataNotFound, UnknownName
from shared.series import SiteData
from simulations.made import GENERATED, MADE, TWINS, make_sites
from simulations.mixed import shrunk

ALL = "all"
QUICK_SITES = 3


@dataclass(frozen=True)
class Source:
    """A data set that can be had.

    Attributes:
        name: as `--datasets` has it.
        loader: name of the loader, or of what makes it.
        path: its folder; None: it is made.
    """

    name: str
    loader: str
    path: Path | None = None


def sources(root: Path | None) -> dict[str, Source]:
    """Everything below a folder, and what is made.

    A folder that a loader recognises has the loader's name (both names of a folder with two data sets); where two have
    the same, and where only the historian's loader can read it, the folder's name.
    """
    found = {name: Source(name, name) for name in MADE}
    for folder, recognised in _recognised(root):
        for one in recognised:
            name = folder.name if one.dataset == LAST or one.dataset in found else one.dataset
            found.setdefault(name, Source(name, one.dataset, folder))
    return found


def _recognised(root: Path | None) -> Iterator[tuple[Path, tuple[Recognition, ...]]]:
    if root is None:
        return
    if not root.is_dir():
        raise DataNotFound(f"there is no folder {root}.", "Give --data the folder that holds the data sets' folders.")
    for folder in sorted((at for at in root.iterdir() if at.is_dir()), key=lambda at: natural_key(at.name)):
        if not folder.name.startswith("."):
            yield folder, recognise_readable(folder)


def choose(names: Sequence[str], root: Path | None) -> tuple[Source, ...]:
    """The data sets that are asked for; `all`: everything below the folder, and the twin plants.

    Raises:
        DataNotFound: a known one lies nowhere below the folder.
        UnknownName: there is none of the name.
    """
    there = sources(root)
    if ALL in names:
        names = [*(name for name in names if name != ALL), *(name for name in there if name != GENERATED)]
    return tuple(_one(name, there, root) for name in dict.fromkeys(names))


def _one(name: str, there: dict[str, Source], root: Path | None) -> Source:
    if name in there:
        return there[name]
    alias = next((source for source in there.values() if source.path is not None and source.path.name == name), None)
    if alias is not None:
        return replace(alias, name=name)
    if name in known() and name != LAST:
        if root is not None and any(one.dataset == name for one in recognise_readable(root)):
            return Source(name, name, root)
        where = f"none of the folders in {root} holds it" if root else "no folder was given"
        raise DataNotFound(f"the data set {name!r} is asked for, but {where}.", "Give --data its folder's parent.")
    raise UnknownName("data set", name, sorted(there))


def load_sites(source: Source, config: RunConfig, quick: bool = False) -> tuple[SiteData, ...]:
    """The natural sites of a data set, in natural order, with labels.

    Args:
        source: which.
        config: `data.*` and the seed say what is made; of any data set, `data.shrink` which sites have less of it.
        quick: the first three alone.

    Raises:
        DataError: it cannot be read.
        InvalidConfig: `data.shrink` names a site that it does not have.
    """
    if source.path is None:
        data = config.data.model_copy(update={"dataset": source.loader})
        sites = make_sites(config.model_copy(update={"data": data}))
    else:
        sites = load(source.loader, source.path)
    ordered = tuple(sorted(sites, key=lambda site: natural_key(site.name)))
    return shrunk(ordered[:QUICK_SITES] if quick else ordered, config.data.shrink)


def is_made(source: Source) -> bool:
    """Whether another seed makes another data set."""
    return source.loader in (GENERATED, *TWINS)
