"""The report's section on differential privacy: the claim, what it rests on, and what each plant spent of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from server.report.canvas import BLUE, INK, ORANGE, PURPLE, Drawing, finish, panels, plain_ticks
from server.report.table import Cell, Column, Table
from server.rounds import RoundRecord
from shared.config import PrivacyConfig
from shared.privacy.claim import Claim, rounded_up
from simulations.private import LeftOut, PrivateSite
from simulations.report.roundaxis import dress, marker
from simulations.report.words import DASH, number, significant
from simulations.spent import PlantSpent, Spent

_DRAWN = 8  # plants with a line of their own
_RELEASES = {
    "weights": "gradient of a training exchange",
    "below": "count of records below the clip",
    "loss": "training loss",
    "statistic": "cluster statistic (sums, counts, spread)",
    "ranges": "histograms for operating ranges",
}

Terms = tuple[tuple[str, str], ...]


def terms(claim: Claim) -> Terms:
    """What the claim says, point by point: whoever quotes epsilon has to quote these with it."""
    return (
        ("Unit (record)", claim.unit),
        ("Neighbouring", f"data sets that differ by {claim.neighbouring}"),
        ("Delta", f"{claim.delta:g}"),
        ("Sampling", claim.sampling),
        ("Against", claim.against),
        ("Covered", claim.covered),
        ("Not covered", "; ".join((*claim.not_covered, _REPORT))),
        ("Several records", claim.facts),
        ("Rests on", " ".join(claim.assumptions)),
    )


def whose(spent: Spent) -> str:
    """Of which ledger the paragraph is."""
    if spent.mode == "central" or len(spent.plants) < 2 or spent.worst is None:
        return ""
    return f"This is said of {spent.worst.plant}, whose ledger spent the most; of the others, their own figures hold."


_REPORT = "this report, whose figures, scores and thresholds come from the plants' data without noise: it is no release"

_COLUMNS = (
    Column("Plant", "short"),
    Column("Records"),
    Column("Declared"),
    Column("Sampled an exchange"),
    Column("Epsilon"),
    Column("Budget"),
    Column("Training", group="Epsilon alone"),
    Column("Clusters", group="Epsilon alone"),
    Column("Ranges", group="Epsilon alone"),
    Column("Releases"),
    Column("Torn lines"),
)


def plant_table(spent: Spent) -> Table:
    """What each ledger says. Records, exactly, stay at a plant: they are here since a simulation has all plants."""
    known = {site.site: site for site in spent.sites}
    rows = []
    for plant in spent.plants:
        balance, site = plant.balance, known.get(plant.balance.plant)
        parts = (balance.by_purpose.get(name) for name in ("weights", "centroids", "ranges"))
        budget = balance.budget if balance.budget is not None else spent.budget
        rows.append(
            (
                Cell(balance.plant),
                *map(Cell, _size(site)),
                Cell(number(rounded_up(balance.epsilon)), tone="bad" if balance.epsilon > budget * (1 + 1e-9) else ""),
                Cell(f"{budget:g}"),
                *(Cell(number(part)) for part in parts),
                Cell(f"{balance.releases:,}"),
                Cell(f"{balance.torn:,}", tone="weak" if balance.torn else ""),
            )
        )
    return Table("What each plant's ledger has spent", _COLUMNS, tuple(rows))


def _size(site: PrivateSite | None) -> tuple[str, str, str]:
    return (DASH,) * 3 if site is None else (f"{site.records:,}", f"{site.declared:,}", f"{site.sampled:,.0f}")


def noise_table(spent: Spent) -> Table:
    """Noise multipliers by release."""
    columns = (Column("Release", "short"), Column("Noise multiplier"))
    rows = tuple((Cell(_RELEASES.get(name, name)), Cell(significant(value, 4))) for name, value in spent.noise.items())
    return Table("Standard deviation of the noise, in sensitivities of the release", columns, rows)


def left_out_table(left_out: Sequence[LeftOut]) -> Table | None:
    """Sites that the claim does not bear, and what they could honestly offer; None where there are none."""
    if not left_out:
        return None
    columns = (Column("Site", "short"), Column("Records"), Column("Could offer epsilon"), Column("Why", "long"))
    rows = tuple(
        (Cell(one.site), Cell(f"{one.records:,}"), Cell(_offer(one.epsilon), tone="weak"), Cell(one.why))
        for one in left_out
    )
    return Table("Sites left out of the run", columns, rows)


def _offer(epsilon: float | None) -> str:
    return "none up to 8" if epsilon is None else f"{epsilon:g} or more"


def course(spent: Spent, records: Sequence[RoundRecord]) -> Drawing | None:
    """Epsilon and the clip by round; None before the first release."""
    plants = [plant for plant in spent.plants if any(number for number, _ in plant.course)]
    if not plants or not records:
        return None
    figure, axes = panels(4.4 if spent.clip else 3.0, (1.6, 1.0) if spent.clip else (1.0,))
    _epsilons(axes[0], plants, spent.budget)
    if spent.clip:
        axes[1].plot(*zip(*spent.clip, strict=True), color=PURPLE, linewidth=1.6, marker=marker(len(spent.clip)), ms=3)
        axes[1].set_ylabel("clip C")
        if max(c for _, c in spent.clip) > 10 * min(c for _, c in spent.clip):
            axes[1].set_yscale("log")
            plain_ticks(axes[1])
        else:
            axes[1].set_ylim(bottom=0)
    dress(axes, records)
    return finish(figure, "privacy", _alt(spent, plants), _CAPTION + (_CLIP if spent.clip else ""))


_CAPTION = (
    "Epsilon of the plant's ledger after each round, at the claim's delta; it grows with every release and is never "
    "won back. Cluster rounds take all records and cost more than a training exchange. Dashed: the budget."
)
_CLIP = (
    " C: the norm that each record's gradient is cut to. It follows the plants' noised counts of the norms below it "
    "(Andrew et al. 2021), towards their median."
)


def _epsilons(ax: Axes, plants: Sequence[PlantSpent], budget: float) -> None:
    courses: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for plant in plants:
        courses.setdefault(plant.course, []).append(plant.balance.plant)
    for i, points in enumerate(list(courses)[:_DRAWN]):
        shown = [(number, epsilon) for number, epsilon in points if math.isfinite(epsilon)]
        ax.plot(*zip(*shown, strict=True), color=(BLUE, ORANGE, PURPLE)[i % 3], linewidth=1.6, marker="o", markersize=3)
    ax.axhline(budget, color=INK, linestyle="--", linewidth=1)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("epsilon spent")


def _alt(spent: Spent, plants: Sequence[PlantSpent]) -> str:
    last = max(plant.balance.epsilon for plant in plants)
    clip = spent.clip
    moved = f" The clip went from {significant(clip[0][1])} to {significant(clip[-1][1])}." if clip else ""
    return f"Line chart of epsilon by round: {number(last)} of {spent.budget:g} are spent.{moved}"


def loss_noise(spent: Spent, privacy: PrivacyConfig) -> float:
    """Standard deviation of the noise on a round's mean training loss: z cap / (q N'), over the plants.

    Returns:
        0 where nothing is noised.
    """
    terms = [(privacy.noise.loss * privacy.loss_cap / site.sampled) ** 2 for site in spent.sites if site.sampled]
    return math.sqrt(sum(terms)) / len(terms) if terms else 0.0
