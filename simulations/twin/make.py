"""Plants on disk: simulate, write in the official layout, keep a list of what was done to each."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.random import SeedSequence, default_rng

from shared.catalogue import operating_ranges, tags
from shared.errors import FileTrouble, InvalidConfig, RunDirectoryInUse
from shared.schema import SensorSchema
from shared.series import Ranges, SiteData
from simulations.twin import base
from simulations.twin.recording import Layout, Recording
from simulations.twin.script import Event

DAY_S = 86_400
LEAST_DAYS, MOST_DAYS, MOST_PLANTS = 0.05, 31.0, 1000
ATTACK_SHARE, LEAST_ATTACK_S = 0.25, DAY_S // 2
EVENTS = "events.csv"
_COMMISSIONING = 9  # apart from the seeds of a plant's recordings

Progress = Callable[[int, int], None]


def make(
    plants: int,
    days: float,
    layout: Layout,
    seed: int,
    out: Path,
    xlsx: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Simulate plants and write each into a folder of its own, all of them or none.

    Args:
        plants: how many. Plant k of a seed does not depend on how many there are.
        days: of normal operation. An attack run of a quarter of that, at least half a day, follows at once.
        layout: whose tags and files.
        seed: any integer from 0; the same seed gives the same files.
        out: a new or empty folder.
        xlsx: write sheets instead of text.
        progress: told how many plants of how many are done.

    Returns:
        `out/plant-1`, ...: the official files of the layout, and `events.csv`, which lists what was done.

    Raises:
        InvalidConfig: a number outside its range, or a layout without such files.
        UnknownName: no such layout.
        RunDirectoryInUse: `out` holds something.
        FileTrouble: it cannot be written; nothing is left of the attempt.
    """
    check(plants, days, seed)
    base.find(layout)
    out = Path(os.path.abspath(out))
    _check_free(out)
    try:
        return _all_or_none(plants, days, layout, seed, out, xlsx, progress or (lambda _done, _all: None))
    except OSError as error:
        raise FileTrouble(f"cannot write the plants to {out}: {error.strerror or error}.") from error


def check(plants: int, days: float, seed: int) -> None:
    """Refuse what cannot be made.

    Raises:
        InvalidConfig: a number outside its range.
    """
    if not 1 <= plants <= MOST_PLANTS:
        raise InvalidConfig(f"cannot make {plants} plants.", f"Ask for 1 to {MOST_PLANTS}.")
    if not LEAST_DAYS <= days <= MOST_DAYS:
        raise InvalidConfig(f"cannot make {days:g} days.", f"Ask for {LEAST_DAYS:g} to {MOST_DAYS:g}.")
    if seed < 0:
        raise InvalidConfig(f"the seed {seed} is negative.", "Give an integer from 0.")


def simulate(number: int, days: float, layout: Layout, seed: int) -> tuple[Recording, Recording]:
    """Plant `number` of a seed: its normal run and the attack run that follows at once."""
    twin = base.find(layout)
    build, script, life = (default_rng(child) for child in SeedSequence([seed, number]).spawn(3))
    normal_s = round(days * DAY_S)
    attack_s = max(round(days * ATTACK_SHARE * DAY_S), LEAST_ATTACK_S)
    plant = twin.draw(build)
    planned = twin.plan(plant, attack_s, script)
    events = tuple(_moved(event, normal_s) for event in planned)
    whole = twin.run(plant, twin.attack_begins - timedelta(seconds=normal_s), normal_s + attack_s, events, life)
    normal = Recording(layout, whole.begin, whole.values_TD[:normal_s], whole.labels_T[:normal_s], ())
    attack = Recording(layout, twin.attack_begins, whole.values_TD[normal_s:], whole.labels_T[normal_s:], planned)
    return normal, attack


def design_ranges(number: int, layout: Layout, seed: int) -> Ranges:
    """Operating ranges of plant `number` as its operator knows them from commissioning: of a day nobody trains on.

    The day is the same plant's, with other demand and other noise than its recordings. Ranges published for the real
    plant are another plant's: a set-point that differs lies twenty widths outside. A tag that stood still gets a
    twentieth of its level to either side, a tag at 0 one unit.
    """
    twin = base.find(layout)
    build = default_rng(SeedSequence([seed, number]).spawn(1)[0])
    life = default_rng(SeedSequence([seed, number, _COMMISSIONING]))
    begin = twin.attack_begins - timedelta(days=MOST_DAYS + 1)
    values_TD = twin.run(twin.draw(build), begin, DAY_S, (), life).values_TD
    recorded_TD = np.where(np.isnan(values_TD).all(axis=0), 0.0, values_TD)  # a column that the plant leaves empty
    low_D, high_D = np.nanquantile(recorded_TD, (0.001, 0.999), axis=0)
    still_D = high_D - low_D <= 1e-6 * np.maximum(np.abs(low_D), 1e-9)
    around_D = np.where(still_D, np.where(low_D == 0, 1.0, np.abs(low_D) / 20), 0.0)
    return tuple((float(a), float(b)) for a, b in zip(low_D - around_D, high_D + around_D, strict=True))


def as_site(name: str, normal: Recording, attack: Recording, ranges: Ranges | None = None) -> SiteData:
    """Both runs as a site to train and test on, as the layout's loader would read them from files.

    Args:
        name: of the site.
        normal, attack: of one plant.
        ranges: public operating ranges; None: those that the layout's real plant has published.
    """
    return SiteData(
        name=name,
        schema=SensorSchema(tags=tuple(tag.name for tag in tags(normal.layout)), period_s=1.0),
        train_TD=normal.values_TD,
        test_TD=attack.values_TD,
        labels_T=attack.labels_T,
        source=f"twin, {normal.layout} layout",
        ranges=ranges or operating_ranges([tag.name for tag in tags(normal.layout)]),
    )


def _moved(event: Event, seconds: int) -> Event:
    return Event(event.kind, event.target, event.first_s + seconds, event.end_s + seconds, event.size)


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunDirectoryInUse(f"{out} is not an empty folder.", "Choose another --out.")


def _all_or_none(
    plants: int, days: float, layout: Layout, seed: int, out: Path, xlsx: bool, progress: Progress
) -> list[Path]:
    """Write into a hidden folder beside `out`, and give it its name at the end."""
    missing = [parent for parent in out.parents if not parent.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for number in range(1, plants + 1):
            folder = making / f"plant-{number}"
            folder.mkdir()
            normal, attack = simulate(number, days, layout, seed)
            base.find(layout).write(folder, normal, attack, xlsx)
            _write_events(folder / EVENTS, attack)
            progress(number, plants)
        making.chmod(0o755)
        making.replace(out)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        with suppress(OSError):  # Somebody else may have put something there.
            for parent in missing:
                parent.rmdir()
        raise
    return [out / f"plant-{number}" for number in range(1, plants + 1)]


def _write_events(path: Path, attack: Recording) -> None:
    """What was done: `id,start,end,target,kind,size,first_row,end_row`; `end` is the first second after."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "start", "end", "target", "kind", "size", "first_row", "end_row"))
        for number, event in enumerate(attack.events, 1):
            start, end = (attack.begin + timedelta(seconds=second) for second in (event.first_s, event.end_s))
            row = (event.target, event.kind, event.size, event.first_s, event.end_s)
            writer.writerow((number, start.isoformat(" "), end.isoformat(" "), *row))
