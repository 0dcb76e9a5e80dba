"""What a run came to, in a few tiles and sentences; no figure without the one that puts it in its place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from shared.metrics.summary import Evaluation, macro
from simulations.evaluate import SiteResult
from simulations.report.material import Material
from simulations.report.movement import SETTLED, last_move
from simulations.report.words import DASH, count, duration, number, percent

EXCESS = 10  # times the asked rate of false alarms: from here on a site is named
_NAMED = 12


@dataclass(frozen=True)
class Tile:
    """One headline figure and its context."""

    title: str
    value: str
    context: str


def tiles(material: Material) -> tuple[Tile, ...]:
    """The headline: ranking, events, delay, false alarms. Means over the sites, each weighing the same."""
    mean = macro(evaluation for _, evaluation in material.measured)
    share = percent(mean["false_alarm_share"])
    return (
        Tile(
            "AUPRC", number(mean["auprc"]), f"a random score: {number(mean['anomaly_share'])}; {_span(mean, 'auprc')}"
        ),
        Tile("VUS-PR", number(mean["vus_pr"]), f"a random score: {number(mean['vus_pr_random'])}"),
        Tile("Events noticed", percent(mean["event_recall"]), f"{_events(material)} labelled events"),
        Tile("Delay", duration(mean["delay_s"]), "mean of the sites' medians, noticed events only"),
        Tile("False alarms a day", number(mean["false_alarms_per_day"], 1), f"{share} of the normal rows alarmed"),
    )


def sentences(material: Material) -> tuple[str, ...]:
    """The summary in words."""
    if not material.measured:
        return ("No site has labelled test data: nothing was measured, and nothing is claimed.",)
    evaluations = [evaluation for _, evaluation in material.measured]
    mean = macro(evaluations)
    together = _pooled(material, material.pooled) if material.pooled and len(evaluations) > 1 else ()
    return (_scope(material), _ranking(evaluations, mean), _alarms(mean), *together, _f1(mean), _adjusted(mean))


def warnings(material: Material) -> tuple[str, ...]:
    """What a reader must know before trusting the figures."""
    return tuple(_warnings(material))


def _warnings(material: Material) -> Iterator[str]:
    for record in material.halted[-1:]:
        if record.status.value == "failed":
            yield f"The run failed in round {record.number}: {record.reason}."
    if material.refused:
        yield f"{_sites(len(material.refused))} refused in the describe round; see the first row of the rounds."
    if material.weak:
        yield (
            f"{len(material.weak)} of {count(len(material.results), 'threshold')} are weak: the calibration data "
            "cannot carry the promised rate of false alarms. The thresholds table says why."
        )
    yield from _loud(material)
    moved = last_move(material.records)
    if moved > SETTLED and material.spent is None:  # noise moves them, too
        yield f"The clusters have not settled: the last refresh still moved one by {number(moved)} radii."


def _loud(material: Material) -> Iterator[str]:
    loud = [result.site for result, evaluation in material.measured if excessive(result, evaluation)]
    if not loud:
        return
    named = ", ".join(loud[:_NAMED]) + (f" and {len(loud) - _NAMED} more" if len(loud) > _NAMED else "")
    rest = macro(evaluation for result, evaluation in material.measured if not excessive(result, evaluation))
    yield (
        f"{_sites(len(loud))} alarming at least {EXCESS} times the share of normal rows that was asked for: {named}. "
        "Their test data is unlike their training data, or their threshold is too low; alarms at all times notice "
        f"every event. Without them, {percent(rest['event_recall'])} of the events are noticed."
    )


def excessive(result: SiteResult, evaluation: Evaluation) -> bool:
    """Whether a site alarms far more normal rows than its threshold was asked to."""
    asked = result.bundle.threshold.false_alarm_rate
    return asked is not None and evaluation.false_alarm_share >= EXCESS * asked


def _sites(amount: int) -> str:
    return f"{count(amount, 'site')} {'is' if amount == 1 else 'are'}"


def _events(material: Material) -> str:
    return f"{sum(evaluation.events for _, evaluation in material.measured):,}"


def _scope(material: Material) -> str:
    measured, every = len(material.measured), len(material.results)
    rest = "" if measured == every else f" The other {every - measured} trained, but have no labelled test data."
    return (
        f"All means are over {count(measured, 'site')} with labelled test data, {_events(material)} events in all; "
        f"each site weighs the same, and a figure counts where it is defined.{rest}"
    )


def _ranking(evaluations: list[Evaluation], mean: dict[str, float]) -> str:
    defined = [e for e in evaluations if not math.isnan(e.auprc)]
    better = sum(e.auprc > e.anomaly_share for e in defined)
    return (
        f"Ranking rows by score reaches an AUPRC of {number(mean['auprc'])} ({_span(mean, 'auprc')}), where a random "
        f"score reaches the share of anomalous rows, {number(mean['anomaly_share'])}; {better} of "
        f"{count(len(defined), 'site')} are above their own share. VUS-PR, which forgives labels that are up to 50 "
        f"rows off, is {number(mean['vus_pr'])}, where a random score reaches {number(mean['vus_pr_random'])}. AUROC "
        f"{number(mean['auroc'])}, where a random score reaches 0.5."
    )


def _alarms(mean: dict[str, float]) -> str:
    return (
        f"At the sites' own thresholds, which were fitted on normal data alone, {percent(mean['event_recall'])} of the "
        f"events are noticed, {duration(mean['delay_s'])} after they begin (mean of the sites' medians), with "
        f"{percent(mean['early_detection'])} of an event still to come (none of a missed one); the price is "
        f"{number(mean['false_alarms_per_day'], 1)} false alarms a day, with {percent(mean['false_alarm_share'])} of "
        "the normal rows alarmed."
    )


def _pooled(material: Material, found: Evaluation) -> tuple[str]:
    raw = "" if material.config.recipe.scoring.standardise else " Scores are raw here: their ranking cannot be pooled."
    return (
        "Laid end to end, with scores as their excess over the site's own threshold, all sites together have an AUPRC "
        f"of {number(found.auprc)} ({_span(asdict(found), 'auprc')}; a random score {number(found.anomaly_share)}) and "
        f"a VUS-PR of {number(found.vus_pr)} (random {number(found.vus_pr_random)}); {percent(found.event_recall)} of "
        f"all events are noticed, half of these within {duration(found.delay_s)}, at "
        f"{number(found.false_alarms_per_day, 1)} false alarms a day and site. Means favour sites with few events, "
        f"pooling those with many rows.{raw}",
    )


def _span(figures: Mapping[str, float], name: str) -> str:
    """A confidence interval in words."""
    low, high = figures[f"{name}_low"], figures[f"{name}_high"]
    return "no interval: too few events" if math.isnan(low) else f"95 % interval {number(low)} to {number(high)}"


def _f1(mean: dict[str, float]) -> str:
    own, ones = mean["f1_at_threshold"], mean["f1_all_ones"]
    verdict = DASH if math.isnan(own - ones) else "better" if own > ones else "no better"
    return (
        f"Row by row, F1 at the own threshold is {number(own)}: {verdict} than alarming every row, {number(ones)}. "
        f"The threshold that the labels would choose reaches {number(mean['f1_best'])}."
    )


def _adjusted(mean: dict[str, float]) -> str:
    return (
        f"Point-adjusted F1 is {number(mean['point_adjusted_f1'])} ({number(mean['point_adjusted_f1_best'])} at its "
        f"best threshold); that of a random score is {number(mean['point_adjusted_f1_random'])}. Point adjustment "
        "counts a whole event as found once a single row of it is alarmed, so that long events reward any score that "
        "fires now and then: the figure means nothing without its random control. It is here because papers quote it. "
        f"PA%K, averaged over K, is {number(mean['percent_adjusted_area_best'])} at its best thresholds, and "
        f"{number(mean['percent_adjusted_area_random'])} for a random score."
    )
