"""How a data set becomes sites: the loader interface and the registry.

A new data set is one file beside this one. It makes a `Loader`, passes it to `register`, and its module's name stands
in `client.ingest.DATASETS`. Loaders give the finest natural sites; `simulations.partition` joins or cuts them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from client.ingest import DATASETS
from client.ingest.ranges import RANGES, with_ranges
from shared.errors import DataNotFound, DataUnreadable, InvalidConfig, UnknownName
from shared.series import SiteData

SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class FoundFile:
    """One file of a recognised data set.

    Attributes:
        path: where it lies.
        role: what it is in the data set, in words, such as `normal v1` or `attack`.
    """

    path: Path
    role: str


@dataclass(frozen=True)
class Recognition:
    """What a folder or a file was found to be, judged by content (headers, shapes, first rows), not by name.

    Attributes:
        dataset: the loader's name.
        version: which release, in words, such as `SWaT.A1 & A2 Dec 2015`.
        files: the files that belong to it, in the order of their roles.
        missing: what a whole data set would also hold, in words; empty when nothing is missing.
    """

    dataset: str
    version: str
    files: tuple[FoundFile, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A published figure beside the one found: rows, labelled rows, channels.

    Attributes:
        what: in words, such as `rows of the normal file`.
        found: counted here.
        published: what the source or the literature prints; several when releases differ.
    """

    what: str
    found: int
    published: tuple[int, ...]

    @property
    def agrees(self) -> bool:
        """Whether what was found has been published."""
        return self.found in self.published


class Loader(Protocol):
    """One data set."""

    @property
    def name(self) -> str:
        """What `--dataset` calls it."""

    @property
    def natural_partition(self) -> str:
        """The partition that suits it, a name known to `simulations.partition`."""

    def recognise(self, path: Path) -> Recognition | None:
        """Whether an existing folder or file is this data set, or a part of it; None when it is something else.

        Reads the beginning of files only (`client.ingest.peek`), in well under a second, and raises nothing for
        broken content. A file that is recognisably of this data set but cut short or damaged further down is still
        recognised: `load` says what is wrong with it.
        """

    def figures(self, found: Recognition, sites: Sequence[SiteData]) -> tuple[Figure, ...]:
        """Published counts beside those of the loaded sites, for the release that was recognised."""

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read every natural site below the existing folder (or in the existing file) `path`, in natural order.

        Everything that was mended or is worth knowing stands in the sites' `repairs`.

        Raises:
            DataNotFound: the files are not there.
            DataUnreadable: a file is not what its name says.
            TooFewRows: a site has no rows left to train on.
        """


_loaders: dict[str, Loader] = {}


def register(loader: Loader) -> None:
    """Make a data set known by its name."""
    _loaders[loader.name] = loader


def _registry() -> dict[str, Loader]:
    for module in DATASETS:
        import_module(f"client.ingest.{module}")
    return _loaders


def known() -> list[str]:
    """Names of all data sets.

    Example:
        >>> known()
        ['batadal', 'historian', 'msl', 'secom', 'skab', 'smap', 'smd', 'swat', 'tep', 'wadi']
    """
    return sorted(_registry())


def find(name: str) -> Loader:
    """The loader of a data set.

    Raises:
        UnknownName: there is none; the known names are listed.
    """
    if name not in _registry():
        raise UnknownName("data set", name, known())
    return _loaders[name]


def suiting(natural: str, sites: int) -> str:
    """The partition for so many natural sites: a single one is cut in time, several are plants already.

    Example:
        >>> suiting("by-time", 1), suiting("by-channel", 1), suiting("by-time", 5)
        ('by-time', 'by-time', 'by-channel')
    """
    if sites == 1:
        return "by-time"
    return "by-channel" if natural == "by-time" else natural


def load(name: str, path: Path | None) -> tuple[SiteData, ...]:
    """Read a data set as its natural sites.

    Args:
        name: one of `known()`.
        path: the folder that holds it, as its source hands it out (docs/data.md), or a single file of it.

    Raises:
        UnknownName: no such data set.
        DataNotFound: no folder was given, it is missing, or it does not hold the data set.
        DataUnreadable: a file is not what its name says.
        TooFewRows: a site has no rows left to train on.
    """
    loader = find(name)
    if path is None:
        raise DataNotFound(f"no folder was given for the data set {name!r}.", "Give it with --data PATH.")
    try:
        if not path.exists():
            raise DataNotFound(f"the folder {path} of the data set {name!r} does not exist.")
        return _ranged(loader.load(path), path)
    except OSError as error:
        raise DataUnreadable(f"cannot read below {path}: {error}.", "Check that the files may be read.") from error


def _ranged(sites: tuple[SiteData, ...], path: Path) -> tuple[SiteData, ...]:
    """With the operating ranges that an operator put beside the files, where there are any."""
    file = path / RANGES
    return tuple(with_ranges(site, file) for site in sites) if file.is_file() else sites


def check_name(name: str) -> str:
    """Return a site's name if it can be part of a file name.

    Raises:
        InvalidConfig: it cannot.

    Example:
        >>> check_name("valve1-0")
        'valve1-0'
    """
    if not SITE_NAME.fullmatch(name):
        cure = "Use 1 to 64 letters, digits, dots, dashes and underscores, and begin with a letter or digit."
        raise InvalidConfig(f"{name[:80]!r} cannot be a site's name.", cure)
    return name


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that counts: M-2 comes before M-10.

    Example:
        >>> sorted(["M-10", "M-2", "C-1"], key=natural_key)
        ['C-1', 'M-2', 'M-10']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts)
