"""Data sets that are made instead of loaded: the small generator and the process twins. Heavy imports wait for use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.config import RunConfig
    from shared.series import SiteData
    from simulations.twin.recording import Layout

GENERATED = "generated"
TWINS: dict[str, Layout] = {"twin-swat": "swat", "twin-wadi": "wadi"}
MADE = (GENERATED, *TWINS)
MIXED = "mixed"
"""What `data.dataset` is called where `data.datasets` names several, see `simulations.mixed`."""

DEFAULT_PLANTS = 5


def make_sites(config: RunConfig) -> tuple[SiteData, ...]:
    """The plants of `config.data.dataset`, one of `MADE`; the same seed gives the same plants.

    `--sites` counts what the partition gives: as many plants are made where each is a site, else 5 that are cut anew,
    and one whose stages become sites.

    Twin plants have `data.days` of normal operation at 1 Hz and an attack run of a quarter of that, at least half a day
    (`simulations.twin.make`).

    Raises:
        InvalidConfig: a number that the maker refuses.
    """
    data, plants = config.data, _plants(config)
    if data.dataset == GENERATED:
        from simulations.generate import generate

        return tuple(generate(plants, data.rows, config.seed))
    from simulations.twin import make

    make.check(plants, data.days, config.seed)
    layout = TWINS[data.dataset]
    needed = config.recipe.privacy.on or config.recipe.preprocess.scaling == "ranges"
    sites = []
    for number in range(1, plants + 1):
        normal, attack = make.simulate(number, data.days, layout, config.seed)
        ranges = make.design_ranges(number, layout, config.seed) if needed else None
        sites.append(make.as_site(f"plant-{number}", normal, attack, ranges))
    return tuple(sites)


def _plants(config: RunConfig) -> int:
    how = config.data.partition or "by-channel"
    if how == "by-channel":
        return config.data.sites or DEFAULT_PLANTS
    return 1 if how == "by-stage" else DEFAULT_PLANTS
