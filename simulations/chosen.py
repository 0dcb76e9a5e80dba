"""Settings that follow from how much data there is, without a label: the length of a joined row, and of a window.

Data sets come at one row a second or an hour, with hundreds of rows or a million. `data.fit` takes, where nobody set
them, the least `recipe.preprocess.every` that leaves the longest plant at most 25,000 training rows (training time
grows with the rows, and a pass over more takes minutes), and a `recipe.detector.window` that the shortest plant has
room for, too. Only the number of training rows of each recording is looked at: no reading, no label, no test row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from shared.config import RunConfig
from shared.series import Repair, SiteData
from simulations.made import GENERATED, MIXED

MOST_ROWS = 25_000
LENGTHS = (1, 2, 5, 10, 15, 20, 30, 60)
"""Rows that may become one: of one a second, up to a minute."""
SHORTEST = 8
"""Rows of the shortest window that is chosen."""

EVERY, WINDOW = "recipe.preprocess.every", "recipe.detector.window"
SOURCE = "chosen from the data"
_USUAL = RunConfig().recipe


_FILE = "chosen.json"


@dataclass(frozen=True)
class Chosen:
    """Settings with what was chosen.

    Attributes:
        config: the settings.
        origin: where each came from; what was chosen has a source of its own.
        notes: what was chosen and why, in words; empty where nothing was.
    """

    config: RunConfig
    origin: dict[str, str]
    notes: tuple[Repair, ...] = ()

    @property
    def settings(self) -> dict[str, int]:
        """What was chosen, by dotted name."""
        known = {EVERY: self.config.recipe.preprocess.every, WINDOW: self.config.recipe.detector.window}
        return {name: value for name, value in known.items() if self.origin.get(name) == SOURCE}


def keep(chosen: Chosen, folder: Path) -> None:
    """Write down what was chosen, for a process that reads the plants in a subfolder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_text(json.dumps(chosen.settings), encoding="utf-8")


def kept(folder: Path) -> dict[str, int]:
    """What `keep` wrote; nothing where it wrote nothing."""
    file = folder / _FILE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def fitted(config: RunConfig, sites: Sequence[SiteData], origin: Mapping[str, str] | None = None) -> Chosen:
    """The settings, fitted to the sites of a run.

    Args:
        config: as asked for.
        sites: as they were cut; only the lengths of their training recordings are looked at.
        origin: where each setting came from. What somebody set stays, also to its default; without an origin (None),
            what is not the default counts as set.
    """
    usual, given = Chosen(config, dict(origin or {})), origin or {}
    if not sites or not applies(config):
        return usual
    every = config.recipe.preprocess.every
    if _free(EVERY, every == _USUAL.preprocess.every, given):
        every = _every(sites, config)
    window = config.recipe.detector.window
    if _free(WINDOW, window == _USUAL.detector.window, given):
        window = _window(_room(sites, every, config), window)
    return _with(usual, sites, every, window)


def applies(config: RunConfig) -> bool:
    """Whether a run's settings may follow its data.

    Not those of plants that are generated, whose length is a setting itself; nor of several data sets in one run, which
    share a period; nor under differential privacy, whose record is so many rows; nor where operating modes make the
    sites, which are cut by the window.
    """
    data, recipe = config.data, config.recipe
    kind = data.dataset not in (GENERATED, MIXED) and data.partition != "by-mode"
    return data.fit and kind and recipe.preprocess.period_s is None and not recipe.privacy.on


def _free(name: str, usual: bool, origin: Mapping[str, str]) -> bool:
    return usual and origin.get(name, "default") == "default"


def _every(sites: Sequence[SiteData], config: RunConfig) -> int:
    """The least length that makes the longest plant short enough, and leaves the shortest one a window."""
    longest = max(len(site.train_TD) for site in sites)
    fitting = [n for n in LENGTHS if n == 1 or _room(sites, n, config) >= SHORTEST]
    return next((n for n in fitting if longest // n <= MOST_ROWS), fitting[-1])


def _window(room: int, usual: int) -> int:
    return usual if room >= usual or room < SHORTEST else room


def _room(sites: Sequence[SiteData], every: int, config: RunConfig) -> int:
    """The longest window that fits into both parts of the longest recording of the shortest plant, in joined rows."""
    share, stride = config.recipe.training.holdout, config.recipe.training.stride
    shortest = min(_longest_recording(site) for site in sites) // every
    kept = round(shortest * (1 - share))
    return min(shortest - kept, kept - stride)


def _longest_recording(site: SiteData) -> int:
    ends = (*site.train_starts, len(site.train_TD))
    return max(end - begin for begin, end in pairwise(ends))


def _with(usual: Chosen, sites: Sequence[SiteData], every: int, window: int) -> Chosen:
    recipe, notes, origin = usual.config.recipe, [], dict(usual.origin)
    if every != recipe.preprocess.every:
        longest = max(len(site.train_TD) for site in sites)
        recipe = recipe.model_copy(update={"preprocess": recipe.preprocess.model_copy(update={"every": every})})
        what = f"{EVERY} = {every}, {SOURCE}: so that the longest site has at most {MOST_ROWS:,} of its training rows"
        notes.append(Repair("all sites", what, longest))
        origin[EVERY] = SOURCE
    if window != recipe.detector.window:
        recipe = recipe.model_copy(update={"detector": recipe.detector.model_copy(update={"window": window})})
        what = f"{WINDOW} = {window}, {SOURCE}: so that the shortest site has windows to train on and to hold out, rows"
        notes.append(Repair("all sites", what, min(len(site.train_TD) for site in sites)))
        origin[WINDOW] = SOURCE
    config = usual.config if not notes else usual.config.model_copy(update={"recipe": recipe})
    return Chosen(config, origin, tuple(notes))
