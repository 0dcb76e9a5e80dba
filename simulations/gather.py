"""The sites of a run: load or generate, partition, leave out what cannot take part, and say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.ingest.base import load
from client.training.workspace import CONSTANT, Workspace, prepare
from shared.config import RunConfig
from shared.errors import NothingToLearn, TooFewRows, TooFewSites
from shared.series import Repair, SiteData
from simulations.generate import generate
from simulations.partition import default_partition, partition

GENERATED = "generated"
_DEFAULT_PLANTS = 5


@dataclass(frozen=True)
class Gathered:
    """Sites that can take part, and everything that was repaired or left out.

    Attributes:
        sites: two or more, sorted by name as the loaders sort them.
        notes: repairs, in words.
    """

    sites: tuple[SiteData, ...]
    notes: tuple[Repair, ...]


def gather(config: RunConfig) -> Gathered:
    """Load the sites that a run asks for and check each of them.

    Raises:
        DataError: data is missing or broken, or fewer than two sites are left.
        UnknownName: there is no such data set or partition.
    """
    sites = _partitioned(config)
    usable: list[SiteData] = []
    notes: list[Repair] = []
    refusals: list[str] = []
    for site in sites:
        try:
            workspace = prepare(site, config.recipe)
        except (TooFewRows, NothingToLearn) as error:
            refusals.append(error.cause)
            notes.append(Repair(site.name, f"left out: {error.cause}", len(site.train_TD)))
            continue
        usable.append(site)
        notes += [*site.repairs, *workspace.repairs, *_test_notes(site, workspace)]
    if len(usable) < 2:
        shown = " ".join(refusals[:3])
        raise TooFewSites(f"{len(usable)} of {len(sites)} sites can take part, a federation needs 2. {shown}".strip())
    # What changed the data comes first; constant tags are many, and common.
    ordered = sorted(dict.fromkeys(notes), key=lambda note: note.what.startswith(CONSTANT))
    return Gathered(tuple(usable), tuple(ordered))


def _partitioned(config: RunConfig) -> Sequence[SiteData]:
    data = config.data
    how = data.partition or default_partition(data.dataset)
    if data.dataset == GENERATED:
        plants = generate(data.sites or _DEFAULT_PLANTS, data.rows, config.seed)
        return partition(plants, how, None if how == "by-channel" else data.sites)
    return partition(load(data.dataset, Path(data.path) if data.path else None), how, data.sites)


def _test_notes(site: SiteData, workspace: Workspace) -> list[Repair]:
    if len(site.test_TD) == 0 or site.labels_T is None:
        return [Repair(site.name, "no labelled test data: the site trains, but is not measured", len(site.test_TD))]
    return []
