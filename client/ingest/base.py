"""How a data set becomes sites: the loader interface and the registry.

A new data set is one file beside this one. It makes a `Loader`, passes it to `register`, and its module's name stands
in `client.ingest.DATASETS`. Loaders give the finest natural sites; `simulations.partition` joins or cuts them.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Protocol

from client.ingest import DATASETS
from shared.errors import DataNotFound, DataUnreadable, InvalidConfig, UnknownName
from shared.series import SiteData

SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Loader(Protocol):
    """One data set."""

    @property
    def name(self) -> str:
        """What `--dataset` calls it."""

    @property
    def natural_partition(self) -> str:
        """The partition that suits it, a name known to `simulations.partition`."""

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read every natural site below the existing folder `path`, in natural order of their names.

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
        ['batadal', 'msl', 'skab', 'smap']
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


def load(name: str, path: Path | None) -> tuple[SiteData, ...]:
    """Read a data set as its natural sites.

    Args:
        name: one of `known()`.
        path: the folder that holds it, as its source hands it out (docs/data.md).

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
        if not path.is_dir():
            what = "is a file where a folder is needed" if path.exists() else "does not exist"
            raise DataNotFound(f"the folder {path} of the data set {name!r} {what}.")
        return loader.load(path)
    except OSError as error:
        raise DataUnreadable(f"cannot read below {path}: {error}.", "Check that the files may be read.") from error


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
