"""The report's tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from server.report.table import Cell, Column, Table
from shared.metrics.summary import Evaluation
from simulations.report.words import DASH, clipped, duration, number, percent, significant, size
from simulations.study.claims import CLAIMS
from simulations.study.contestant import CENTRAL, FEDERATED, LOCAL, PRIVATE
from simulations.study.curves import Confusion
from simulations.study.measure import Measured
from simulations.study.overlays import BASE
from simulations.study.run import Results
from simulations.study.statistics import NOISE, Comparison, Ranks, Sites, Summary, by_site

_MEANS = (
    Column("Detector", "short"),
    Column("Mode", "short"),
    Column("Sites"),
    Column("AUPRC", group="Ranking, mean over sites"),
    Column("95 % interval", group="Ranking, mean over sites"),
    Column("AUROC", group="Ranking, mean over sites"),
    Column("VUS-PR", group="Ranking, mean over sites"),
    Column("Own threshold", group="F1, row by row"),
    Column("Best possible", group="F1, row by row"),
    Column("Found", group="Events"),
    Column("Median delay", group="Events"),
    Column("A day", group="False alarms"),
    Column("Normal rows", group="False alarms"),
    Column("AUPRC", group="All sites as one"),
    Column("F1", group="All sites as one"),
    Column("False alarms", group="All sites as one"),
)


def means_table(found: Sequence[Summary], pooled: Mapping[tuple[str, str], Mapping[str, float] | None]) -> Table:
    """One data set: a line a detector and mode."""
    best = max((one.means["auprc"] for one in found if not math.isnan(one.means["auprc"])), default=math.nan)
    rows = tuple(_means_row(one, pooled.get((one.detector, one.mode)), best) for one in found)
    chance = next((one for one in found if one.sites), None)
    foot = () if chance is None else _chance_row(chance)
    return Table("Means over seeds, then over sites; the best AUPRC is marked", _MEANS, rows, foot)


def _means_row(one: Summary, whole: Mapping[str, float] | None, best: float) -> tuple[Cell, ...]:
    means = one.means
    if not one.sites:
        return (Cell(one.detector), Cell(one.mode), *(Cell(DASH, "quiet") for _ in _MEANS[2:]))
    mark = " *" if means["auprc"] == best else ""
    return (
        Cell(one.detector),
        Cell(one.mode),
        Cell(f"{one.sites}"),
        Cell(number(means["auprc"]) + mark, tone="bad" if means["auprc"] <= means["anomaly_share"] else ""),
        Cell(span(one.low, one.high)),
        *(Cell(number(means[name])) for name in ("auroc", "vus_pr", "f1_at_threshold", "f1_best")),
        Cell(percent(means["event_recall"])),
        Cell(duration(means["delay_s"])),
        Cell(number(means["false_alarms_per_day"], 1)),
        Cell(percent(means["false_alarm_share"])),
        *_whole(whole),
    )


def _whole(whole: Mapping[str, float] | None) -> tuple[Cell, ...]:
    if whole is None:
        return tuple(Cell(DASH, "quiet") for _ in range(3))
    return (
        Cell(number(whole["auprc"])),
        Cell(number(whole["f1_at_threshold"])),
        Cell(percent(whole["false_alarm_share"])),
    )


def _chance_row(one: Summary) -> tuple[Cell, ...]:
    known = {3: number(one.means["anomaly_share"]), 5: "0.500", 7: number(one.means["f1_all_ones"])}
    cells = [Cell(known.get(at, DASH), "quiet") for at in range(2, len(_MEANS))]
    return (Cell("by chance, or alarming every row"), Cell(""), *cells)


def span(low: float, high: float) -> str:
    """Both ends of an interval; a dash where there is none."""
    return DASH if math.isnan(low) else f"{number(low)} to {number(high)}"


def ranks_table(found: Sequence[Ranks]) -> Table:
    """Average ranks, a line a detector, a column a mode."""
    detectors = list(dict.fromkeys(name for one in found for name in one.ranks))
    columns = (Column("Detector", "short"), *(Column(f"{one.mode} ({len(one.datasets)} sets)") for one in found))
    rows = tuple((Cell(name), *(Cell(number(one.ranks.get(name), 2)) for one in found)) for name in detectors)
    foot = (Cell("all alike? p (Friedman)"), *(Cell(significant(one.p, 2)) for one in found))
    return Table(
        "Average rank by AUPRC over the data sets that all of a column were measured on; 1 is best", columns, rows, foot
    )


def comparison_table(found: Sequence[Comparison]) -> Table:
    """Pairs of ways, site by site."""
    columns = (
        *(Column(title, "short") for title in ("One", "Other", "Data set")),
        *(
            Column(title)
            for title in ("Sites", "Gain in AUPRC", "95 % interval", "Better at", "Worse at", "p (Wilcoxon)")
        ),
    )
    rows = tuple(
        (
            Cell(one.one),
            Cell(one.other),
            Cell(one.dataset or "all"),
            Cell(f"{one.sites}"),
            Cell(f"{one.gain:+.3f}", tone="bad" if one.gain < -NOISE else ""),
            Cell(span(one.low, one.high)),
            Cell(f"{one.better}"),
            Cell(f"{one.worse}"),
            Cell(significant(one.p, 2), tone="" if one.p < 0.05 else "quiet"),
        )
        for one in found
    )
    return Table(f"Pairs, site by site, mean over seeds; better and worse: by more than {NOISE:g}", columns, rows)


def sharing_table(results: Results, detector: str, dataset: str) -> Table | None:
    """AUPRC of each site alone, federated and on pooled data; None where a detector has one of these only."""
    modes = [mode for mode in (LOCAL, FEDERATED, PRIVATE, CENTRAL) if mode in results.plan.modes]
    found = {mode: _of(by_site(results.rows, detector, mode), dataset) for mode in modes}
    found = {mode: values for mode, values in found.items() if values}
    if len(found) < 2:
        return None
    columns = (Column("Site", "short"), *(Column(mode) for mode in found), Column("Federated less alone"))
    sites = list(dict.fromkeys(site for values in found.values() for site in values))
    rows = tuple(_sharing_row(site, found) for site in sites)
    return Table(f"{detector}: AUPRC of each site by how it was trained", columns, rows)


def _of(values: Sites, dataset: str) -> dict[str, float]:
    return {site: one.auprc for (name, site), one in values.items() if name == dataset}


def _sharing_row(site: str, found: Mapping[str, Mapping[str, float]]) -> tuple[Cell, ...]:
    gain = found.get(FEDERATED, {}).get(site, math.nan) - found.get(LOCAL, {}).get(site, math.nan)
    told = DASH if math.isnan(gain) else f"{gain:+.3f}"
    helped = Cell(told, tone="bad" if gain < -NOISE else "")
    return (Cell(site), *(Cell(number(values.get(site))) for values in found.values()), helped)


def not_helped(results: Results) -> list[str]:
    """Sites at which sharing costs more than noise, in words, a line a detector and data set."""
    lines = []
    for detector in results.plan.detectors:
        alone, shared = (by_site(results.rows, detector, mode) for mode in (LOCAL, FEDERATED))
        for dataset in results.plan.datasets:
            worse = [
                at[1]
                for at in shared
                if at[0] == dataset and at in alone and shared[at].auprc < alone[at].auprc - NOISE
            ]
            both = [at for at in shared if at[0] == dataset and at in alone]
            if both:
                names = f": {clipped(', '.join(worse), 300)}" if worse else ""
                told = f"sharing costs more than {NOISE:g} at {len(worse)} of {len(both)} sites{names}"
                lines.append(f"{dataset}, {detector}: {told}.")
    return lines


def claims_table(found: Sequence[Summary]) -> Table | None:
    """Printed figures beside ours under the same protocol, and a random score's."""
    columns = (
        *(Column(title, "short") for title in ("System", "Printed on")),
        Column("Claimed F1"),
        *(Column(title, "short") for title in ("Measured on", "Contestant")),
        Column("Ours", group="Best F1, point-adjusted"),
        Column("A random score", group="Best F1, point-adjusted"),
        Column("Own threshold", group="F1, row by row"),
        Column("Best possible", group="F1, row by row"),
        Column("Protocol of the claim", "long"),
    )
    rows = tuple(
        (
            Cell(f"{claim.system}, {claim.source}"),
            Cell(claim.printed_on),
            Cell(number(claim.value)),
            Cell(one.dataset),
            Cell(f"{one.detector} {one.mode}"),
            Cell(number(one.means["point_adjusted_f1_best"])),
            Cell(number(one.means["point_adjusted_f1_random"])),
            Cell(number(one.means["f1_at_threshold"])),
            Cell(number(one.means["f1_best"])),
            Cell(claim.protocol),
        )
        for claim in CLAIMS
        for one in found
        if one.sites and one.dataset in claim.datasets and one.detector in claim.contestants
    )
    return Table("Claims of the literature beside what is measured here", columns, rows) if rows else None


def cost_table(found: Sequence[Summary]) -> Table:
    """What each way costs."""
    columns = (
        *(Column(title, "short") for title in ("Data set", "Detector", "Mode")),
        *(Column(title) for title in ("Training", "Peak memory", "On the wire", "Scoring a row")),
    )
    rows = tuple(
        (
            *(Cell(name) for name in (one.dataset, one.detector, one.mode)),
            Cell(duration(one.means["train_s"])),
            Cell(f"{number(one.means['peak_mb'], 0)} MB"),
            Cell(size(round(one.means["wire_bytes"])) if one.means["wire_bytes"] else DASH),
            Cell(f"{significant(one.means['score_us'])} us"),
        )
        for one in found
        if one.sites
    )
    return Table(
        "Training: of a site alone, else of the whole run; memory: of the cell's process; wire: all sites, both ways",
        columns,
        rows,
    )


def ablation_table(found: Sequence[Summary]) -> Table | None:
    """What each switch of the default recipe costs or gains; None where none was measured."""
    default = {(one.dataset, one.mode): one.means for one in found if one.detector == BASE and one.sites}
    variants = [one for one in found if one.detector.startswith(f"{BASE}:") and (one.dataset, one.mode) in default]
    if not variants:
        return None
    columns = (
        *(Column(title, "short") for title in ("Switch", "Data set", "Mode")),
        *(Column(title) for title in ("AUPRC", "against the default", "F1 at own threshold", "against the default ")),
    )
    rows = tuple(
        (
            Cell(one.detector.partition(":")[2]),
            Cell(one.dataset),
            Cell(one.mode),
            *_against(one.means["auprc"], default[one.dataset, one.mode]["auprc"]),
            *_against(one.means["f1_at_threshold"], default[one.dataset, one.mode]["f1_at_threshold"]),
        )
        for one in variants
    )
    return Table("The default recipe with one thing changed", columns, rows)


def _against(value: float, default: float) -> tuple[Cell, Cell]:
    gain = value - default
    return Cell(number(value)), Cell(DASH if math.isnan(gain) else f"{gain:+.3f}")


def confusion_table(found: Mapping[str, Confusion]) -> Table:
    """Rows by what they are and what was said."""
    columns = (
        Column("Detector", "short"),
        Column("alarmed", group="Anomalous rows"),
        Column("missed", group="Anomalous rows"),
        Column("alarmed", group="Normal rows"),
        Column("quiet", group="Normal rows"),
    )
    rows = tuple(
        (Cell(name), *(Cell(f"{count:,}") for count in (one.hits, one.missed, one.false, one.quiet)))
        for name, one in found.items()
    )
    return Table("Rows at each site's own threshold, all sites together, seed 0", columns, rows)


def errors_table(rows: Iterable[Measured]) -> Table | None:
    """What could not be measured, a line a cell and reason; None where all could."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.error:
            found.setdefault((str(row.cell), row.error), []).append(row.site or "every site")
    if not found:
        return None
    columns = (Column("Cell", "short"), Column("Sites", "long"), Column("Why", "long"))
    lines = tuple(
        (Cell(cell), Cell(clipped(", ".join(sites), 200)), Cell(clipped(why, 600)))
        for (cell, why), sites in found.items()
    )
    return Table("What could not be measured", columns, lines)


def datasets_table(results: Results) -> Table:
    """What was measured on."""
    columns = (
        *(Column(title, "short") for title in ("Data set", "Read by", "Site")),
        *(Column(title) for title in ("Tags", "A row is", "Training rows", "Test rows", "Anomalous")),
    )
    rows = tuple(
        (
            Cell(one.dataset),
            Cell(one.loader),
            Cell(str(site["site"])),
            Cell(str(site["tags"])),
            Cell(duration(float(str(site["period_s"])))),
            *(Cell(DASH if site[name] is None else f"{site[name]:,}") for name in ("train_rows", "test_rows")),
            Cell("no labels" if site["anomalous_rows"] is None else f"{site['anomalous_rows']:,}"),
        )
        for one in results.about
        for site in one.sites
    )
    return Table("Data sets, as loaded", columns, rows)


def pooled_of(results: Results, dataset: str) -> dict[tuple[str, str], Mapping[str, float] | None]:
    """Means over seeds of all sites as one, by detector and mode."""
    from simulations.study.results import pooled_means

    found: dict[tuple[str, str], list[Evaluation]] = {}
    for cell, one in results.pooled.items():
        if cell.dataset == dataset:
            found.setdefault((cell.detector, cell.mode), []).append(one)
    return {key: pooled_means(all_) for key, all_ in found.items()}
