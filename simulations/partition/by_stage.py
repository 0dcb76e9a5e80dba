"""`by-stage`: a water plant falls apart into its process stages, SWaT's P1 to P6 or WADI's P1 to P3.

Stages are read from the published tag tables (`shared.catalogue`), never guessed from a tag's first letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shared import catalogue
from shared.errors import InvalidConfig
from shared.series import FloatArray, Repair, SiteData
from simulations.partition.registry import Asked, Sites, few, first, strategy

PLANTS: tuple[catalogue.Plant, ...] = ("swat", "wadi")
EVERYWHERE = "plant"
"""The stage of tags that the whole plant shares, such as WADI's total demand: every stage keeps them."""
_CURE = "by-stage knows the tags of SWaT and WADI. Choose by-time or by-mode here."


@strategy("by-stage")
def by_stage(sites: Sites, asked: Asked) -> Sites:
    """Each process stage of each natural site is a plant.

    The sites of a federation must have the same columns, so a stage keeps them all; those of the other stages are NaN:
    unknown here, taken as 0 by what trains on them. Every row of a natural site goes to each of its stages.

    Raises:
        InvalidConfig: tags are in neither plant's table.
    """
    stages = [(site, stage) for site in sites for stage in _stages_of(site)]
    return tuple(_stage(site, stage) for site, stage in first(stages, asked.count, "by-stage"))


def _stages_of(site: SiteData) -> list[str]:
    return sorted(set(_stage_of_tags(site).values()) - {EVERYWHERE})


def _stage_of_tags(site: SiteData) -> Mapping[str, str]:
    """The stage of each of a site's tags."""
    tables = [{tag.name: tag.stage for tag in catalogue.tags(plant)} for plant in PLANTS]
    table = max(tables, key=lambda known: len(known.keys() & set(site.schema.tags)))
    strange = [tag for tag in site.schema.tags if tag not in table]
    if strange:
        cause = (
            f"{len(strange)} of the {site.schema.dim} tags of site {site.name!r} are in no published table of stages: "
            f"{few(strange)}."
        )
        raise InvalidConfig(cause, _CURE)
    if 2 * site.schema.dim < len(table):
        cause = (
            f"site {site.name!r} has {site.schema.dim} of the {len(table)} tags of the plant whose names they share."
        )
        raise InvalidConfig(f"{cause} That is too few to tell that it is this plant.", _CURE)
    return {tag: table[tag] for tag in site.schema.tags}


def _stage(site: SiteData, stage: str) -> SiteData:
    stages = _stage_of_tags(site)
    own_D = np.array([stages[tag] in (stage, EVERYWHERE) for tag in site.schema.tags])
    name = f"{site.name}-{stage}"
    note = f"{stage} knows {int(own_D.sum())} of {site.schema.dim} tags; those of the other stages are unknown here"
    return replace(
        site,
        name=name,
        train_TD=_only(site.train_TD, own_D),
        test_TD=_only(site.test_TD, own_D),
        group=stage,
        source=f"{site.source}, stage {stage}",
        repairs=(*site.repairs, Repair(name, note, int((~own_D).sum())), *_label_note(site, name)),
    )


def _only(values_TD: FloatArray, own_D: NDArray[np.bool_]) -> FloatArray:
    kept_TD = np.full(values_TD.shape, np.nan, np.float32)
    kept_TD[:, own_D] = values_TD[:, own_D]
    return kept_TD


def _label_note(site: SiteData, name: str) -> tuple[Repair, ...]:
    if site.labels_T is None or not site.labels_T.any():
        return ()
    what = "labels are the whole plant's: attacks on the other stages count here too, and may not show in these tags"
    return (Repair(name, what, int(site.labels_T.sum())),)
