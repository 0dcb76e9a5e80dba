"""What a simulation plans to release under differential privacy, and which sites it had to leave out of the claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from shared.config import RunConfig
from shared.series import SiteData

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHOWN = 60
"""Sites that the console shows."""

_FACTS = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LeftOut(BaseModel):
    """A site that the claim of a run does not bear.

    Attributes:
        site: its name.
        records: segments of its training data.
        epsilon: the least that so many records could honestly offer; None: none up to 8.
        why: in words.
    """

    model_config = _FACTS

    site: str
    records: int
    epsilon: float | None
    why: str


class PrivateSite(BaseModel):
    """A site under the claim.

    Attributes:
        site: its name.
        records: segments of its training data; a plant keeps this number to itself.
        declared: the power of two at or below it, N': all that leaves the plant.
        sampled: records that an exchange takes on average, of those declared: q N'.
    """

    model_config = _FACTS

    site: str
    records: int
    declared: int
    sampled: float


class PrivatePlan(BaseModel):
    """What a run would release of each record, and what that costs.

    Attributes:
        mode: `local` or `central`.
        epsilon: of all releases of the plan; a few exchanges more than it has, for rounds that are repeated.
        budget, delta, unit: what is claimed.
        sampling: chance of a record to be in a training exchange.
        training, statistic, ranges: releases.
        noise: multipliers, standard deviation over sensitivity, by release.
        sites: under the claim.
        left_out: not.
    """

    model_config = _FACTS

    mode: str
    epsilon: float
    budget: float
    delta: float
    unit: str
    sampling: float
    training: int
    statistic: int
    ranges: int
    noise: dict[str, float]
    sites: tuple[PrivateSite, ...]
    left_out: tuple[LeftOut, ...]


def left_out(site: SiteData, config: RunConfig, why: str) -> LeftOut:
    """A site that was refused under local differential privacy."""
    from client.training.segments import count_records
    from shared.privacy.planning import least_epsilon

    records = count_records(site, config.recipe)
    return LeftOut(site=site.name, records=records, epsilon=least_epsilon(records), why=why)


def private_sites(sites: Sequence[SiteData], config: RunConfig) -> tuple[PrivateSite, ...]:
    """What the sites of a run under local differential privacy have and say; none under another."""
    privacy = config.recipe.privacy
    if privacy.mode != "local":
        return ()
    from client.training.segments import count_records
    from shared.privacy.planning import public_size

    counts = [(site.name, count_records(site, config.recipe)) for site in sites]
    return tuple(
        PrivateSite(site=name, records=n, declared=public_size(n), sampled=privacy.sampling * public_size(n))
        for name, n in counts
    )


def private_plan(config: RunConfig, sites: Sequence[SiteData], refused: Sequence[LeftOut]) -> PrivatePlan | None:
    """The plan of a run whose noise is filled in; None where it claims nothing.

    Args:
        config: the settings.
        sites: that take part.
        refused: that do not.
    """
    privacy = config.recipe.privacy
    if not privacy.on or privacy.epsilon is None:
        return None
    from server.private import releases
    from shared.privacy.accounting import epsilon
    from shared.privacy.planning import planned_events, sampling_of

    planned = releases(config)
    return PrivatePlan(
        mode=privacy.mode,
        epsilon=epsilon(planned_events(privacy, planned), privacy.delta),
        budget=privacy.epsilon,
        delta=privacy.delta,
        unit=unit_words(config, sites),
        sampling=sampling_of(privacy),
        training=planned.training,
        statistic=planned.statistic,
        ranges=planned.ranges,
        noise={name: value for name, value in privacy.noise.model_dump().items() if value},
        sites=private_sites(sites, config),
        left_out=tuple(refused),
    )


def unit_words(config: RunConfig, sites: Sequence[SiteData]) -> str:
    """The record in words, of the first site where sites sample at different rates."""
    if config.recipe.privacy.mode == "central":
        return "one plant"
    from client.agent.claim import unit_text

    return unit_text(config.recipe, sites[0].schema.period_s)


def print_plan(console: Console, plan: PrivatePlan) -> None:
    """Print a plan, as `crossplant simulate --plan --epsilon E` does below the table of shares."""
    for line in plan_lines(plan):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if plan.sites:
        console.print(_table(plan))
    if len(plan.sites) > SHOWN:
        console.print(f"{len(plan.sites) - SHOWN} more sites are not shown.", highlight=False)


def plan_lines(plan: PrivatePlan) -> list[str]:
    """A plan in words."""
    names = {"weights": "gradient", "below": "count below the clip", "loss": "loss"}
    parts = ", ".join(f"{names[name]} {value:.3g}" for name, value in plan.noise.items() if name in names)
    whose = "each site adds its own noise" if plan.mode == "local" else "the server adds the noise"
    chance = "all records" if plan.sampling == 1 else f"each record with a chance of {plan.sampling:g}"
    lines = [
        f"Differential privacy, {plan.mode}: {whose}.",
        f"Protected: every {plan.unit.removeprefix('one ')}.",
        f"The plan spends epsilon {plan.epsilon:.3f} of {plan.budget:g} at delta {plan.delta:g}, spare rounds and all:",
        f"  {plan.training} training exchanges, {chance}",
        f"    noise multipliers: {parts}",
        f"  {plan.statistic} cluster statistics, all records",
        f"    noise multiplier: {plan.noise.get('statistic', 0.0):.3g}",
    ]
    if plan.ranges:
        lines.append(f"  noised operating ranges\n    noise multiplier: {plan.noise.get('ranges', 0.0):.3g}")
    return [*lines, *(f"  left out: {one.why}" for one in plan.left_out), ""]


def _table(plan: PrivatePlan) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("site", overflow="fold")
    for name in ("records", "declared", "an exchange"):
        table.add_column(name, justify="right", no_wrap=True)
    for site in plan.sites[:SHOWN]:
        table.add_row(escape(site.site), f"{site.records:,}", f"{site.declared:,}", f"{site.sampled:,.0f}")
    return table
