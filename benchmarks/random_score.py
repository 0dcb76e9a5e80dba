"""What a random score reaches on real labels, beside a detector of one line: the table of docs/metrics.md.

    .venv/bin/python -m benchmarks.random_score            # data under CROSSPLANT_DATA, else ../shared/data

`random` is uniform, mean of 20 seeds. `range` is how far a row lies outside the range of the training data, in standard
deviations, summed over the tags. Both alarm 1 % of a site's rows, for a random score has no threshold of its own. All
sites of a data set are laid end to end (shared/metrics/pooled.py).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.processes import ROOT
from client.ingest.base import load
from shared.metrics.pa_percent_k import best_percent_adjusted_f1
from shared.metrics.pooled import Scored, pooled
from shared.series import SiteData

FOLDERS = {"msl": "telemanom", "batadal": "batadal", "skab": "skab", "tep": "tep"}
SEEDS, ALARMED = 20, 0.01
FIGURES = {
    "rows": "test rows",
    "events": "events",
    "anomaly_share": "share of anomalous rows",
    "auprc": "AUPRC",
    "vus_pr": "VUS-PR",
    "auroc": "AUROC",
    "vus_roc": "VUS-ROC",
    "f1_all_ones": "F1 of alarming every row",
    "f1_best": "best F1",
    "point_adjusted_f1_best": "best point-adjusted F1",
    "pa_20": "best PA%K F1, K = 20",
    "percent_adjusted_area_best": "PA%K F1, mean over K",
    "range_f1": "range-based F1 *",
    "affiliation_precision": "affiliation precision *",
    "affiliation_recall": "affiliation recall *",
    "event_recall": "event recall *",
    "early_detection": "early detection *",
    "false_alarms_per_day": "false alarms a day *",
    "false_alarm_share": "share of normal rows alarmed *",
}


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.random_score", description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("CROSSPLANT_DATA", ROOT.parent / "shared" / "data"))
    root = Path(parser.parse_args().data)
    columns = {}
    for name, folder in FOLDERS.items():
        sites = [site for site in load(name, root / folder) if site.labels_T is not None]
        columns[f"{name.upper()} random"] = _mean(
            [_figures(sites, _random(sites, seed), [1 - ALARMED] * len(sites)) for seed in range(SEEDS)]
        )
        outside = [_outside(site) for site in sites]
        cuts = [float(np.quantile(score_T, 1 - ALARMED)) for score_T in outside]
        columns[f"{name.upper()} range"] = _figures(sites, outside, cuts)
    print("| " + " | ".join(["", *columns]) + " |")
    print("|" + "---|" * (len(columns) + 1))
    for key, title in FIGURES.items():
        print(f"| {title} | " + " | ".join(_text(key, column[key]) for column in columns.values()) + " |")


def _random(sites: Sequence[SiteData], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.random(len(site.test_TD)) for site in sites]


def _outside(site: SiteData) -> np.ndarray:
    """Sum over tags of the distance to the range of the training data, in its standard deviations."""
    low_D, high_D = np.nanmin(site.train_TD, axis=0), np.nanmax(site.train_TD, axis=0)
    spread_D = np.nanstd(site.train_TD, axis=0)
    out_TD = np.maximum(np.maximum(low_D - site.test_TD, site.test_TD - high_D), 0)
    score_T: np.ndarray = np.nansum(out_TD / np.where(spread_D > 0, spread_D, 1.0), axis=1)
    return score_T


def _figures(sites: Sequence[SiteData], scores: Sequence[np.ndarray], cuts: Sequence[float]) -> dict[str, float]:
    series = [
        Scored(score_T, np.asarray(site.labels_T), cut, site.schema.period_s, site.test_starts)
        for site, score_T, cut in zip(sites, scores, cuts, strict=True)
    ]
    found = pooled(series)
    assert found is not None
    excess_T = np.concatenate([one.excess() for one in series])
    labels_T = np.concatenate([one.labels_T for one in series])
    before = np.cumsum([0, *(len(one.labels_T) for one in series[:-1])])
    starts = [int(rows) + start for rows, one in zip(before, series, strict=True) for start in one.starts]
    return {**asdict(found), "pa_20": best_percent_adjusted_f1(excess_T, labels_T, 20, starts)}


def _mean(columns: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([column[key] for column in columns])) for key in columns[0]}


def _text(key: str, value: float) -> str:
    if key in ("rows", "events"):
        return f"{value:,.0f}"
    return f"{value:.1f}" if key == "false_alarms_per_day" else f"{value:.3f}"


if __name__ == "__main__":
    main()
