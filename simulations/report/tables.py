"""The report's tables as values; one macro of the template draws them all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from server.report.table import Cell, Column, Table
from server.rounds import PlantReport, RoundRecord, Status
from shared.config import RunConfig, flatten
from shared.metrics.summary import Evaluation, macro
from shared.thresholds import Threshold
from simulations.evaluate import SiteResult
from simulations.report.material import SHOWN, Material
from simulations.report.summary import excessive
from simulations.report.words import DASH, clipped, count, duration, number, percent, significant, size

_REASONS, _REASON_LENGTH = 5, 240


# ---- sites -----------------------------------------------------------------------------------------------------------

_SITE_COLUMNS = (
    Column("Site", "short"),
    Column("Anomalous rows", group="Ranking"),
    Column("AUPRC", group="Ranking"),
    Column("95 % interval", group="Ranking"),
    Column("AUROC", group="Ranking"),
    Column("VUS-PR (random)", group="Ranking"),
    Column("Own threshold", group="F1, row by row"),
    Column("Best possible", group="F1, row by row"),
    Column("Alarm all", group="F1, row by row"),
    Column("Number", group="Events"),
    Column("Noticed", group="Events"),
    Column("Median delay", group="Events"),
    Column("Still to come", group="Events"),
    Column("A day", group="False alarms"),
    Column("Normal rows", group="False alarms"),
    Column("PA-F1 (random)"),
    Column("Threshold", "short"),
)


def site_table(material: Material) -> Table:
    """One line a site, the mean over the sites, and all sites as one."""
    mean = macro(evaluation for _, evaluation in material.measured)
    foot = (Cell("Mean over sites"), *_figures(mean, events=DASH), Cell(f"{len(material.weak)} weak"))
    rows = tuple(_site_row(i, result) for i, result in enumerate(material.results))
    title = "Each site's test data under its own threshold"
    if material.pooled is None:
        return Table(title, _SITE_COLUMNS, rows)
    return Table(title, _SITE_COLUMNS, rows, foot, _pooled_row(material.pooled))


def _pooled_row(found: Evaluation) -> tuple[Cell, ...]:
    return (Cell("All sites as one"), *_figures(asdict(found), f"{found.events:,}"), Cell(DASH))


def _site_row(index: int, result: SiteResult) -> tuple[Cell, ...]:
    threshold, evaluation = result.bundle.threshold, result.evaluation
    name = Cell(result.site, link=f"site-{index}" if index < SHOWN else "")
    rule = Cell(f"{threshold.rule}, {threshold.status}", tone="weak" if threshold.status == "weak" else "")
    if evaluation is None:
        return (name, *(Cell(DASH, "quiet") for _ in _SITE_COLUMNS[2:]), rule)
    return (name, *_figures(asdict(evaluation), f"{evaluation.events:,}", excessive(result, evaluation)), rule)


def _figures(figures: Mapping[str, float], events: str, loud: bool = False) -> tuple[Cell, ...]:
    at_chance = figures["auprc"] <= figures["anomaly_share"]
    adjusted = f"{number(figures['point_adjusted_f1'])} ({number(figures['point_adjusted_f1_random'])})"
    volume = f"{number(figures['vus_pr'])} ({number(figures['vus_pr_random'])})"
    return (
        Cell(percent(figures["anomaly_share"])),
        Cell(number(figures["auprc"]), tone="bad" if at_chance else ""),
        Cell(_span(figures["auprc_low"], figures["auprc_high"])),
        Cell(number(figures["auroc"])),
        Cell(volume, tone="bad" if figures["vus_pr"] <= figures["vus_pr_random"] else ""),
        *(Cell(number(figures[name])) for name in ("f1_at_threshold", "f1_best", "f1_all_ones")),
        Cell(events),
        Cell(percent(figures["event_recall"])),
        Cell(duration(figures["delay_s"])),
        Cell(percent(figures["early_detection"])),
        Cell(number(figures["false_alarms_per_day"], 1)),
        Cell(percent(figures["false_alarm_share"]), tone="bad" if loud else ""),
        Cell(adjusted, tone="quiet"),
    )


def _span(low: float, high: float) -> str:
    return DASH if math.isnan(low) else f"{number(low)} to {number(high)}"


_THRESHOLD_COLUMNS = (
    Column("Site", "short"),
    Column("Rule", "short"),
    Column("Value"),
    Column("Fitted on", "short"),
    Column("Windows", group="Calibration data"),
    Column("Worth", group="Calibration data"),
    Column("Asked", group="Share of normal alarmed"),
    Column("Supported", group="Share of normal alarmed"),
    Column("Measured in the test", group="Share of normal alarmed"),
    Column("Status", "short"),
    Column("Why", "long"),
)


def threshold_table(results: Sequence[SiteResult]) -> Table:
    """What each threshold rests on."""
    rows = tuple(_threshold_row(result, result.bundle.threshold) for result in results)
    return Table("What each threshold rests on", _THRESHOLD_COLUMNS, rows)


def _threshold_row(result: SiteResult, threshold: Threshold) -> tuple[Cell, ...]:
    evaluation = result.evaluation
    loud = evaluation is not None and excessive(result, evaluation)
    return (
        Cell(result.site),
        Cell(threshold.rule),
        Cell(significant(threshold.value, 4)),
        Cell(threshold.fitted_on),
        Cell(f"{threshold.calibration_size:,}"),
        Cell(number(threshold.effective_size, 0)),
        Cell(percent(threshold.false_alarm_rate)),
        Cell(percent(threshold.supported_rate)),
        Cell(percent(evaluation.false_alarm_share if evaluation else None), tone="bad" if loud else ""),
        Cell(threshold.status, tone="weak" if threshold.status == "weak" else ""),
        Cell(threshold.note or DASH),
    )


# ---- rounds ----------------------------------------------------------------------------------------------------------

_ROUND_COLUMNS = (
    Column("Round"),
    Column("Phase", "short"),
    Column("Step", "short"),
    Column("Status", "short"),
    Column("Counted", group="Plants"),
    Column("Asked", group="Plants"),
    Column("Train", group="Loss"),
    Column("Held-out", group="Loss"),
    Column("Cluster", group="Loss"),
    Column("Payload"),
    Column("Time"),
    Column("Why not", "long"),
)
_TONES = {Status.COMMITTED: "", Status.SKIPPED: "weak", Status.FAILED: "bad"}


def round_table(records: Sequence[RoundRecord]) -> Table:
    """One line a round."""
    return Table("Every finished round", _ROUND_COLUMNS, tuple(_round_row(record) for record in records))


def _round_row(record: RoundRecord) -> tuple[Cell, ...]:
    losses = (record.metrics.get(name) for name in ("train_loss", "holdout_loss", "cluster_loss"))
    return (
        Cell(str(record.number)),
        Cell(record.phase.value),
        Cell(record.label),
        Cell(record.status.value, tone=_TONES[record.status]),
        Cell(f"{len(record.accepted):,}"),
        Cell(f"{len(record.plants):,}"),
        *(Cell(significant(loss)) for loss in losses),
        Cell(size(record.bytes_total)),
        Cell(duration(record.seconds)),
        Cell("\n".join(_reasons(record.reason, record.rejected))),
    )


def _reasons(reason: str | None, rejected: Sequence[PlantReport]) -> Iterable[str]:
    if reason:
        yield clipped(reason, _REASON_LENGTH)
    for report in rejected[:_REASONS]:
        yield f"{clipped(report.plant, 60)}: {clipped(report.reason or DASH, _REASON_LENGTH)}"
    if len(rejected) > _REASONS:
        yield f"and {count(len(rejected) - _REASONS, 'more plant')}: see `crossplant rounds show`"


# ---- settings --------------------------------------------------------------------------------------------------------


def setting_tables(config: RunConfig, origin: Mapping[str, str]) -> tuple[Table, Table]:
    """The settings that something set, and those left at their default."""
    defaults = dict(flatten(RunConfig().model_dump(mode="json")))
    values = list(flatten(config.model_dump(mode="json")))
    given = [(n, v) for n, v in values if origin.get(n, "default") != "default" or v != defaults.get(n)]
    left = [(n, v) for n, v in values if (n, v) not in given]
    columns = tuple(Column(title, "short") for title in ("Setting", "Value", "Default", "Set by"))
    rows = tuple(
        (Cell(n), Cell(_value(v)), Cell(_value(defaults.get(n)), "quiet"), Cell(origin.get(n, DASH))) for n, v in given
    )
    plain = tuple((Cell(n), Cell(_value(v))) for n, v in left)
    return Table("Settings that were set", columns, rows), Table("Settings at their default", columns[:2], plain)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
