"""Plants that differ in tags, size and sampling, and a run in which they share a trunk."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared.config import RunConfig
from shared.schema import SensorSchema
from shared.series import SiteData
from tests.support import plants

TAGS = {
    "north": ("LIT101", "FIT101"),
    "south": ("L_T1", "F_PU1", "S_PU1"),
    "west": ("Pressure", "Temperature", "Current", "LT9"),
}
PERIODS_S = {"north": 1.0, "south": 0.5, "west": 1.0}


def site(name: str, rows: int = 240, tags: tuple[str, ...] | None = None) -> SiteData:
    """A plant of `TAGS`, with test rows whose second half is shifted and labelled."""
    tags = tags or TAGS[name]
    rng = np.random.default_rng(sorted(TAGS).index(name))
    rows = round(rows / PERIODS_S[name])
    waves = np.sin(np.arange(2 * rows)[:, None] / rng.uniform(4, 9, len(tags)))
    values = (waves + 0.2 * rng.normal(size=waves.shape)).astype(np.float32)
    labels = np.arange(rows) >= rows // 2
    values[rows:][labels] += 3.0
    schema = SensorSchema(tags=tags, period_s=PERIODS_S[name])
    return SiteData(name, schema, values[:rows], values[rows:], labels)


def sites() -> list[SiteData]:
    return [site(name) for name in TAGS]


def config(sharing: dict[str, Any] | None = None, **groups: Any) -> RunConfig:
    """Settings of a small run over `sites()`."""
    recipe = groups.pop("recipe", {})
    shared = {"share": "trunk", "adapter": 6, **(sharing or {})}
    return plants.settings(recipe={"preprocess": {"period_s": 1.0}, **recipe, "sharing": shared}, **groups)
