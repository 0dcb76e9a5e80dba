"""What follows from many cells: means with intervals, ranks, and whether a difference is more than chance."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from shared.metrics.bootstrap import FEWEST, Interval, mean_interval, percentiles
from simulations.study.contestant import Float64Array
from simulations.study.measure import METRICS, Measured

EXTENDED = (
    *METRICS,
    *("anomaly_share", "f1_all_ones", "false_alarm_share", "events"),
    *("point_adjusted_f1", "point_adjusted_f1_best", "point_adjusted_f1_random"),
    *("train_s", "peak_mb", "score_us", "wire_bytes"),
)
"""Figures that are averaged."""

Key = tuple[str, str, str]
"""Data set, detector, mode."""

_PAIRS = 6  # sites: with fewer the smallest p-value of Wilcoxon's test is above 0.03


@dataclass(frozen=True)
class Summary:
    """One contestant in one mode on one data set, over its sites and seeds.

    Attributes:
        dataset, detector, mode: which.
        sites, seeds: how many of each were measured.
        means: of each figure over seeds, then over sites, each site the same weight; NaN where it is defined nowhere.
        low, high: 95 % interval of the mean AUPRC; NaN where nothing can be resampled.
        resampled: what the interval is from: `sites`, `events`, or empty.
    """

    dataset: str
    detector: str
    mode: str
    sites: int
    seeds: int
    means: Mapping[str, float]
    low: float
    high: float
    resampled: str


def key_of(row: Measured) -> Key:
    """What a row is summed up under."""
    return row.cell.dataset, row.cell.detector, row.cell.mode


def summaries(rows: Sequence[Measured]) -> list[Summary]:
    """One a data set, detector and mode, in the order of the rows."""
    order = {key: at for at, key in enumerate(dict.fromkeys(map(key_of, rows)))}
    grouped = groupby(sorted(rows, key=lambda row: order[key_of(row)]), key=key_of)
    return [_summary(key, [row for row in group if row.found is not None]) for key, group in grouped]


def _summary(key: Key, rows: Sequence[Measured]) -> Summary:
    by_site = {name: [row for row in rows if row.site == name] for name in dict.fromkeys(row.site for row in rows)}
    means = {name: _mean(_mean(_figure(row, name) for row in some) for some in by_site.values()) for name in EXTENDED}
    low, high, resampled = _interval(list(by_site.values()))
    return Summary(*key, len(by_site), len({row.cell.seed for row in rows}), means, low, high, resampled)


def _figure(row: Measured, name: str) -> float:
    return float(getattr(row.found if hasattr(row.found, name) else row, name))


def _interval(by_site: Sequence[Sequence[Measured]]) -> tuple[float, float, str]:
    """From resampled sites where there are five; else the mean of the sites' own intervals, from resampled events."""
    if len(by_site) >= FEWEST:
        each_S = np.array([_mean(_figure(row, "auprc") for row in some) for some in by_site])
        return (*mean_interval(each_S[~np.isnan(each_S)]), "sites")
    low, high = (
        _mean(_mean(_figure(row, end) for row in some) for some in by_site) for end in ("auprc_low", "auprc_high")
    )
    return low, high, "" if math.isnan(low) else "events"


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


# ---- ranks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranks:
    """Average ranks over data sets, 1 the best.

    Attributes:
        mode: in which all were fitted.
        datasets: those on which every ranked detector has an AUPRC.
        ranks: by detector, ascending.
        p: of Friedman's test that all are alike; NaN with fewer than three data sets or detectors.
    """

    mode: str
    datasets: tuple[str, ...]
    ranks: Mapping[str, float]
    p: float


def ranks(found: Sequence[Summary], mode: str) -> Ranks | None:
    """Rank the detectors of one mode (Demsar 2006); None with fewer than two of them."""
    from scipy.stats import friedmanchisquare, rankdata

    values = {(one.dataset, one.detector): one.means["auprc"] for one in found if one.mode == mode}
    detectors = list(dict.fromkeys(detector for _, detector in values))
    datasets = [
        name
        for name in dict.fromkeys(name for name, _ in values)
        if not any(math.isnan(values.get((name, detector), math.nan)) for detector in detectors)
    ]
    if len(detectors) < 2 or not datasets:
        return None
    table_NK = np.array([[values[(name, detector)] for detector in detectors] for name in datasets])
    average_K = rankdata(-table_NK, axis=1).mean(axis=0)
    p = math.nan
    if len(datasets) >= 3 and len(detectors) >= 3 and len(np.unique(table_NK)) > 1:
        p = float(friedmanchisquare(*table_NK.T).pvalue)
    ordered = dict(sorted(zip(detectors, average_K.tolist(), strict=True), key=lambda pair: pair[1]))
    return Ranks(mode, tuple(datasets), ordered, p)


# ---- pairs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Two ways on the sites that both were measured on.

    Attributes:
        dataset: on which; empty: on all together.
        one, other: `detector mode`.
        sites: pairs.
        gain: mean of one's AUPRC less the other's.
        low, high: its 95 % interval; NaN where nothing can be resampled.
        resampled: what the interval is from: `sites`, `events`, or empty.
        better, worse: sites at which one is better or worse by more than `NOISE`.
        p: of Wilcoxon's signed-rank test over sites; NaN with fewer than six pairs.
    """

    dataset: str
    one: str
    other: str
    sites: int
    gain: float
    low: float
    high: float
    resampled: str
    better: int
    worse: int
    p: float


NOISE = 0.01
"""AUPRC: smaller differences count as none."""


@dataclass(frozen=True)
class AtSite:
    """One way at one site, the mean over seeds: AUPRC, and AUPRC of resampled events, (R,) or empty."""

    auprc: float
    resampled_R: Float64Array


Sites = Mapping[tuple[str, str], AtSite]
"""By data set and site."""


def by_site(rows: Sequence[Measured], detector: str, mode: str) -> dict[tuple[str, str], AtSite]:
    """One way at every site where its AUPRC is defined."""
    way = (detector, mode)
    found: dict[tuple[str, str], list[Measured]] = {}
    for row in rows:
        if (row.cell.detector, row.cell.mode) == way and row.found is not None and not math.isnan(row.found.auprc):
            found.setdefault((row.cell.dataset, row.site or ""), []).append(row)
    return {at: _at_site(some) for at, some in found.items()}


def _at_site(rows: Sequence[Measured]) -> AtSite:
    resampled = [row.resampled_R for row in rows if len(row.resampled_R)]
    whole = len(resampled) == len(rows)
    return AtSite(_mean(_figure(row, "auprc") for row in rows), np.mean(resampled, axis=0) if whole else np.empty(0))


def compare(one: Sites, other: Sites, names: tuple[str, str], dataset: str = "") -> Comparison | None:
    """Site by site; None where they have none in common."""
    matched = {at: _counterpart(at, other) for at in one if not dataset or at[0] == dataset}
    pairs = [(one[at], other[to]) for at, to in matched.items() if to]
    if not pairs:
        return None
    gains_S = np.array([a.auprc - b.auprc for a, b in pairs])
    (low, high), resampled = _gain_interval(gains_S, pairs)
    return Comparison(
        dataset=dataset,
        one=names[0],
        other=names[1],
        sites=len(pairs),
        gain=float(gains_S.mean()),
        low=low,
        high=high,
        resampled=resampled,
        better=int((gains_S > NOISE).sum()),
        worse=int((gains_S < -NOISE).sum()),
        p=_wilcoxon(gains_S),
    )


def _gain_interval(gains_S: Float64Array, pairs: Sequence[tuple[AtSite, AtSite]]) -> tuple[Interval, str]:
    """From resampled sites where there are five; else from events, the same draws for both."""
    if len(pairs) >= FEWEST:
        return mean_interval(gains_S), "sites"
    differences = [a.resampled_R - b.resampled_R for a, b in pairs if len(a.resampled_R) and len(b.resampled_R)]
    if len(differences) < len(pairs):
        return Interval(math.nan, math.nan), ""
    return percentiles(np.mean(differences, axis=0)), "events"


def _counterpart(at: tuple[str, str], other: Sites) -> tuple[str, str] | None:
    """The same site; for a block of a plant's time, where the other has none, the plant."""
    plant = (at[0], re.sub(r"-t\d+$", "", at[1]))
    return next((name for name in (at, plant) if name in other), None)


def _wilcoxon(gains_S: Float64Array) -> float:
    from scipy.stats import wilcoxon

    if len(gains_S) < _PAIRS or not gains_S.any():
        return math.nan
    return float(wilcoxon(gains_S, zero_method="zsplit", method="approx").pvalue)
