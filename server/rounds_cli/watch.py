"""`crossplant rounds watch`: rounds as they end, and for whom the present one waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.rounds_cli.options import AsJson, Run, Store, opened
from server.rounds_cli.printing import print_json_line, print_lines, table, width

if TYPE_CHECKING:
    from server.notice import Waits
    from server.store.glance import Page
    from server.store.lines import Line
    from server.store.reading import Reader

_EVERY_S = 1.0
_BEFORE = 5  # rounds that are shown of those that ended already


def watch(
    store: Store,
    run: Run = None,
    until: Annotated[
        int | None, typer.Option("--until-round", metavar="N", min=1, help="End when round N has ended.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rounds as they end, and the plants being waited for, until the run is over. With --json one value a line."""
    for change in _changes(store, run, until):
        if as_json:
            for value in _entries(change):
                print_json_line(value)
        else:
            print_lines(_words(change))


Change = Mapping[str, Any]


def _changes(location: str, run: str | None, until: int | None) -> Iterator[Change]:
    """What happens: a page of new rounds, a round that waits, and how it ended."""
    from server.store.reading import Reader

    there, name = opened(location, run)
    reader, known, told = Reader(there), "", None
    page = _page(location, name, None)
    yield {"page": page, "first": True}
    while page.run.status == "running" and not _reached(page, until):
        time.sleep(_EVERY_S)
        waits = _waits(location, name)
        if waits is not None and (key := (waits.round, waits.plants, waits.more)) != told:
            told = key
            yield {"waits": waits}
        if (news := _news(reader, location, name, known, page)) is not None:
            seen, (known, page) = page, news
            if page.run.rounds != seen.run.rounds:
                yield {"page": page, "first": False}
    yield {"over": page.run}


def _news(reader: Reader, location: str, run: str, known: str, seen: Page) -> tuple[str, Page] | None:
    """What has changed, and a word for it; a database that is locked just now is asked again in a second."""
    from shared.errors import StoreBusy

    with suppress(StoreBusy):
        if (version := reader.version(run)) != known:
            return version, _page(location, run, seen)
    return None


def _page(location: str, run: str, seen: Page | None) -> Page:
    from server.store.glance import Wanted, look

    if seen is None:
        return look(location, run, Wanted(_BEFORE))
    return look(location, run, Wanted(None, after=seen.run.rounds))


def _reached(page: Page, until: int | None) -> bool:
    return until is not None and page.run.rounds >= until


def _waits(location: str, run: str) -> Waits | None:
    from server.notice import read_waits
    from server.run.place import ServerPlace

    waits = None if "://" in location else read_waits(ServerPlace(Path(location)).waits, time.time())
    return None if waits is None or waits.run != run else waits


# ---- printing ----


def _entries(change: Change) -> list[dict[str, Any]]:
    from server.store import lines

    if "waits" in change:
        waits: Waits = change["waits"]
        told = {"run": waits.run, "round": waits.round, "plants": list(waits.plants), "more": waits.more}
        return [{"waits": told | {"since": waits.since, "until": waits.until}}]
    if "over" in change:
        return [{"run": lines.run_entry(change["over"]) | {"rounds": change["over"].rounds}}]
    return [{"round": lines.round_entry(line)} for line in change["page"].lines]


def _words(change: Change) -> list[str]:
    from server.store import lines

    if "waits" in change:
        return [f"{change['waits'].words(time.time())}."]
    if "over" in change:
        info = change["over"]
        return [f"Run {info.name}, {info.rounds} rounds{lines.standing(info)}", *lines.ending(info)]
    page: Page = change["page"]
    head = [f"Run {page.run.name}, {page.run.rounds} rounds{lines.standing(page.run)}"] if change["first"] else []
    return [*head, *_rows(page.lines, change["first"]), *lines.interruptions(page.lines)]


_LEAST = ("1000", "calibrate", "calibrate 100", "committed", "10/10", "0.0000", "0.0000", "00000000", "1000.0")
"""How wide columns are at least: rows that come one after another stand below each other."""


def _rows(shown: tuple[Line, ...], first: bool) -> list[str]:
    from server.store import lines

    found = table(lines.COLUMNS, [_LEAST, *map(lines.row, shown)], 4, width())
    return [*(found[:1] if first else []), *found[2:]]
