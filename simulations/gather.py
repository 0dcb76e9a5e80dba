"""The sites of a run: load or generate, partition, leave out what cannot take part, and say so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from client.ingest.base import load
from client.training.workspace import CONSTANT, prepare
from shared.config import Recipe, RunConfig
from shared.detectors.adapter import build_for
from shared.errors import (
    CrossplantError,
    InvalidConfig,
    NoiseDrowns,
    NothingToLearn,
    PrivacyError,
    SchemaMismatch,
    TooFewRows,
    TooFewSites,
)
from shared.sampling import own_recipe, told_schema
from shared.schema import difference
from shared.series import Repair, SiteData
from simulations.chosen import Chosen, fitted
from simulations.made import MADE, MIXED, make_sites
from simulations.mixed import mixed_sites, shrunk
from simulations.partition import Asked, default_partition, partition
from simulations.private import LeftOut, left_out


@dataclass(frozen=True)
class Gathered:
    """Sites that can take part, and everything that was repaired or left out.

    Attributes:
        sites: two or more, sorted by name as the loaders sort them.
        notes: repairs, in words.
        partition: how the data became sites.
        left_out: sites that the run's claim of differential privacy does not bear.
    """

    sites: tuple[SiteData, ...]
    notes: tuple[Repair, ...]
    partition: str
    left_out: tuple[LeftOut, ...] = ()


def gather(config: RunConfig) -> Gathered:
    """Load the sites that a run asks for and check each of them.

    Raises:
        DataError: data is missing or broken, or fewer than two sites are left.
        UnknownName: there is no such data set or partition.
        PrivacyError: the claim that the run makes cannot be kept, or not usefully.
    """
    return check_sites(config, *_partitioned(config))


def gather_fitted(config: RunConfig, origin: Mapping[str, str]) -> tuple[Chosen, Gathered]:
    """`gather`, with what the settings leave to the data (`simulations.chosen`) chosen first.

    Args: the settings, and where each came from.

    Raises:
        CrossplantError: as `gather`.
    """
    how, sites = _partitioned(config)
    chosen = fitted(config, sites, origin)
    gathered = check_sites(chosen.config, how, sites)
    return chosen, replace(gathered, notes=(*chosen.notes, *gathered.notes))


def check_sites(config: RunConfig, how: str, sites: Sequence[SiteData]) -> Gathered:
    """Check sites that are at hand, partitioned already. Args: the settings, how the data became sites, and these.

    Raises:
        CrossplantError: as `gather`; fewer than `rounds.fewest` sites can take part.
    """
    usable: list[SiteData] = []
    notes: list[Repair] = []
    refusals: list[CrossplantError] = []
    unprotected: list[LeftOut] = []
    for site in sites:
        try:
            repairs = _checked(site, config.recipe)
        except (TooFewRows, NothingToLearn, PrivacyError) as error:
            refusals.append(error)
            notes.append(Repair(site.name, f"left out: {error.cause}", len(site.train_TD)))
            if isinstance(error, PrivacyError):
                unprotected.append(left_out(site, config, error.cause))
            continue
        usable.append(site)
        notes += [*site.repairs, *repairs, *_test_notes(site)]
    if len(usable) < config.rounds.fewest:
        raise _too_few(len(usable), len(sites), refusals)
    _check_alike(config.recipe, usable)
    detector = build_for(config.recipe, usable[0].schema)  # refused before anything is written
    if config.recipe.privacy.mode == "local":
        from client.training.private import check_clips  # Imports cryptography.

        check_clips(detector)
    _check_central(config, usable)
    # What changed the data comes first; constant tags are many, and common.
    ordered = sorted(dict.fromkeys(notes), key=lambda note: note.what.startswith(CONSTANT))
    return Gathered(tuple(usable), tuple(ordered), how, tuple(unprotected))


def _checked(site: SiteData, recipe: Recipe) -> tuple[Repair, ...]:
    """Repairs of a site that can take part.

    Raises:
        TooFewRows, NothingToLearn: it cannot.
        PrivacyError: not under the claim that the run makes.
    """
    if recipe.privacy.mode != "local":
        return prepare(site, own_recipe(recipe, site.schema.period_s)).repairs
    from client.agent.private import PrivateDesk  # Imports cryptography.

    PrivateDesk(site, Path(), None, torch.device("cpu")).size(own_recipe(recipe, site.schema.period_s))
    return ()


def _check_alike(recipe: Recipe, sites: Sequence[SiteData]) -> None:
    """Refuse sites of other tags or sampling that are to share the whole network, before anything is written.

    Raises:
        SchemaMismatch: with the difference.
    """
    if recipe.sharing.share == "trunk":
        return
    first = told_schema(recipe, sites[0].schema)
    for site in sites[1:]:
        if told := difference(first, told_schema(recipe, site.schema)):
            cause = f"site {site.name!r} {told}, as {sites[0].name!r} has it."
            raise SchemaMismatch(cause, "Let sites that differ share a trunk: --set recipe.sharing.share=trunk.")


def _check_central(config: RunConfig, sites: Sequence[SiteData]) -> None:
    """Refuse central differential privacy that would train on noise, before anything is written.

    Raises:
        NoiseDrowns: with the ratio.
    """
    if config.recipe.privacy.mode != "central":
        return
    from server.central import WORST, drowned  # Imports cryptography.

    values = sum(spec.size for spec in build_for(config.recipe, sites[0].schema).manifest())
    ratio = drowned(config.recipe.privacy.noise.weights, values, len(sites))
    if ratio > WORST:
        raise NoiseDrowns(
            f"noise would drown the signal: z sqrt(d) / n is {ratio:,.0f} for {len(sites)} plants and {values:,} "
            f"weights, at most {WORST:g} is worth training with."
        )


def _too_few(usable: int, sites: int, refusals: Sequence[CrossplantError]) -> CrossplantError:
    shown = " ".join(error.cause for error in refusals[:5])
    more = f" And {len(refusals) - 5} more." if len(refusals) > 5 else ""
    cause = f"{usable} of {sites} sites can take part, a federation needs 2. {shown}{more}".strip()
    private = next((error for error in refusals if isinstance(error, PrivacyError)), None)
    return TooFewSites(cause) if private is None else type(private)(cause, private.cure)


def _partitioned(config: RunConfig) -> tuple[str, Sequence[SiteData]]:
    """The partition by its name, and the plants that it gives."""
    data = config.data
    if data.dataset == MIXED:
        return "by-set", shrunk(mixed_sites(config), data.shrink)
    made = data.dataset in MADE
    natural = make_sites(config) if made else load(data.dataset, Path(data.path) if data.path else None)
    how = data.partition or default_partition(data.dataset, len(natural))
    count = None if made and how == "by-channel" else data.sites
    return how, shrunk(partition(natural, how, count, _asked(config, how)), data.shrink)


def _asked(config: RunConfig, how: str) -> Asked:
    """What a partition is told; by default the hold-out of a segment that stands alone has room for two windows."""
    data, least = config.data, _least_segment(config.recipe)
    if how == "by-mode" and data.segment is not None and data.segment < least:
        cause = f"data.segment = {data.segment} rows are too few for a held-out window in a segment that stands alone."
        raise InvalidConfig(cause, f"Give {least} or more, leave it out, or choose a shorter --window.")
    return Asked(
        dataset=data.dataset,
        concentration=data.concentration,
        modes=data.modes,
        segment=data.segment or 2 * least,
        seed=config.seed,
    )


def _least_segment(recipe: Recipe) -> int:
    return math.ceil(recipe.detector.window / recipe.training.holdout) * recipe.preprocess.every


def _test_notes(site: SiteData) -> list[Repair]:
    if len(site.test_TD) == 0 or site.labels_T is None:
        return [Repair(site.name, "no labelled test data: the site trains, but is not measured", len(site.test_TD))]
    return []
