"""What to draw: the data set, the site, the rows and the tags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.ingest.base import load
from client.ingest.doctor.findings import shown
from client.ingest.doctor.recognise import recognise
from shared.errors import DataNotFound, DataUnreadable, InvalidConfig, UnknownName
from shared.series import SiteData

NAMED = 12  # names that an error lists


@dataclass(frozen=True)
class View:
    """What was asked for.

    Attributes:
        part: `both`, `train` or `test`.
        first, end: rows, half-open, counted from the first row of the part; None: to its end.
        tags: which; None: all.
    """

    part: str = "both"
    first: int = 0
    end: int | None = None
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Chosen:
    """A site, and the names of those beside it."""

    dataset: str
    site: SiteData
    others: tuple[str, ...]


def find_site(path: Path, dataset: str | None, name: str | None) -> Chosen:
    """Load the site to draw.

    Raises:
        DataNotFound: there is nothing at the path, or no data set that is known.
        InvalidConfig: the path holds several data sets and none was chosen.
        UnknownName: no such data set or site.
        DataUnreadable: a file is not what it must be.
    """
    chosen = dataset or _only(path)
    sites = load(chosen, path)
    names = [site.name for site in sites]
    if name is not None and name not in names:
        raise UnknownName("site", name, [*names[:NAMED], *(["..."] if len(names) > NAMED else [])])
    site = sites[names.index(name)] if name is not None else sites[0]
    return Chosen(chosen, site, tuple(other for other in names if other != site.name))


def _only(path: Path) -> str:
    if not path.exists():
        raise DataNotFound(f"{shown(path)} does not exist.", "Check the path.")
    try:
        found = [one.dataset for one in recognise(path)]
    except OSError as error:
        raise DataUnreadable(
            f"cannot read below {shown(path)}: {error}.", "Check that the files may be read."
        ) from error
    if not found:
        cure = "`crossplant data check PATH` says what it is instead."
        raise DataNotFound(f"{shown(path)} is no data set that Crossplant knows.", cure)
    if len(found) > 1:
        raise InvalidConfig(f"{shown(path)} holds {' and '.join(found)}.", f"Choose with --dataset {found[0]}.")
    return found[0]


@dataclass(frozen=True)
class Stretch:
    """Rows of one part, as drawn from `offset` on.

    Attributes:
        part: `train` or `test`.
        first, end: rows of the part, half-open.
        offset: the number of its first drawn row on the common axis.
    """

    part: str
    first: int
    end: int
    offset: int

    @property
    def rows(self) -> int:
        """How many are drawn."""
        return self.end - self.first


def stretches(site: SiteData, view: View) -> tuple[Stretch, ...]:
    """The rows to draw: training rows, then test rows.

    Raises:
        InvalidConfig: the rows asked for are not there.
    """
    sizes = [(part, rows) for part, rows in (("train", len(site.train_TD)), ("test", len(site.test_TD)))]
    wanted = [(part, rows) for part, rows in sizes if view.part in ("both", part)]
    total = sum(rows for _, rows in wanted)
    end = total if view.end is None else min(view.end, total)
    if view.first >= end:
        cause = f"row {view.first:,} is asked for, but {site.name!r} has {total:,} rows in the part {view.part!r}."
        raise InvalidConfig(cause, "Give a smaller --from, or another --part.")
    drawn, base = [], 0
    for part, rows in wanted:
        first, last = max(0, view.first - base), min(rows, end - base)
        if first < last:
            drawn.append(Stretch(part, first, last, base + first))
        base += rows
    return tuple(drawn)


def tag_columns(site: SiteData, tags: tuple[str, ...] | None) -> tuple[int, ...]:
    """Column numbers of the tags asked for, in that order.

    Raises:
        UnknownName: the site has no such tag.
    """
    if tags is None:
        return tuple(range(site.schema.dim))
    known = {tag: at for at, tag in enumerate(site.schema.tags)}
    for tag in tags:
        if tag not in known:
            raise UnknownName("tag", tag, [*site.schema.tags[:NAMED], *(["..."] if len(known) > NAMED else [])])
    return tuple(known[tag] for tag in dict.fromkeys(tags))
