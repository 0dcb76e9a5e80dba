"""What the federated lag model detects, and what it costs: the tables of docs/lag.md.

    .venv/bin/python -m benchmarks.lag                # data under CROSSPLANT_DATA, else ../shared/data
    .venv/bin/python -m benchmarks.lag --cost         # seconds and memory at 123 tags
    .venv/bin/python -m benchmarks.lag --noise        # under differential privacy, a day of BATADAL being a record

Each site learns from the first 80 % of its training recordings (60 % where it has a tenth of them: held-out rows must
suffice for a scale) and sets its scale and its trailing mean on the rest. `alone`: own moments. `federated`: the sum of
all sites. `prior`: own moments and n0 rows of the others', n0 chosen on the site's own rows. `prior 5P`: always five
times the columns. `lesser`: the lower of the scores of `alone` and `prior`. Others always have all of their data. Rules
know no label; nothing was chosen per data set.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.processes import ROOT
from client.ingest.base import load
from shared.config import PreprocessConfig
from shared.lag.calibrate import calibrated
from shared.lag.learn import fit_mahalanobis, fit_var
from shared.lag.prior import USUAL, chosen_rows, pieces, with_prior
from shared.lag.private import private_moments
from shared.lag.score import LagScorer
from shared.lag.sums import Moments, moments, vector_size
from shared.metrics.pointwise import auroc, average_precision
from shared.preprocess import Rows, fit_preprocessor
from shared.privacy.mechanisms import Randomness
from shared.series import FloatArray, SiteData
from simulations.twin.make import as_site, simulate

LAGS = 5
FOLDERS = {"batadal": "batadal", "skab": "skab", "msl": "telemanom"}
EVERY = {"twin": 30}
HEAD = ("data", "sites", "own", "model", "AUPRC", "mean AUPRC", "AUROC", "least over alone", "n0 / P", "trail", "s")
MODES = ("alone", "federated", "prior", "prior 5P", "lesser")


Scores = tuple[np.ndarray, np.ndarray]
"""Of a site's test rows that have one, with their labels."""


@dataclass(frozen=True)
class Plant:
    """One site, prepared: what it learns from, what it holds out, what it is tested on."""

    site: SiteData
    learn: Rows
    held: Rows
    test: Rows


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lag", description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("CROSSPLANT_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--only", choices=[*FOLDERS, "twin"], action="append")
    parser.add_argument("--cost", action="store_true", help="seconds and memory only")
    parser.add_argument("--noise", action="store_true", help="under differential privacy only")
    parser.add_argument("--lags", type=int, default=LAGS)
    parser.add_argument("--share", type=float, help="shrink by this, and not by the rule")
    given = parser.parse_args()
    if given.cost:
        cost(123, given.lags)
        return
    if given.noise:
        noised(_sites("batadal", Path(given.data))[0], 24)
        return
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    for name in given.only or [*FOLDERS, "twin"]:
        sites = _sites(name, Path(given.data))
        for share in (1.0,) if len(sites) == 1 else (1.0, 0.1):
            _compare(name, sites, share, given.lags, given.share)


def _sites(name: str, root: Path) -> list[SiteData]:
    if name == "twin":
        return [as_site(f"plant-{k}", *simulate(k, 2.0, "swat", 0)) for k in range(1, 5)]
    return [site for site in load(name, root / FOLDERS[name]) if site.labels_T is not None]


def _compare(name: str, sites: Sequence[SiteData], share: float, lags: int, shrink: float | None) -> None:
    config = PreprocessConfig(every=EVERY.get(name, 1), clip_quantile=None)
    full = [_prepared(site, 1.0, config) for site in sites]
    sums = [moments(plant.learn.values_TD, plant.learn.starts, lags) for plant in full]
    whole = sum(sums[1:], sums[0])
    plants = full if share == 1.0 else [_prepared(site, share, config) for site in sites]
    scores: dict[str, list[Scores]] = {}
    for mode in MODES if len(sites) > 1 else MODES[:1]:
        begun = time.perf_counter()
        fitted = [_fitted(mode, plant, whole - own, shrink) for plant, own in zip(plants, sums, strict=True)]
        spent_s = time.perf_counter() - begun
        scores[mode] = [_scores(scorer, plant) for (scorer, _), plant in zip(fitted, plants, strict=True)]
        if mode == "lesser":
            pairs = zip(scores["alone"], scores["prior"], strict=True)
            scores[mode] = [(np.minimum(alone_T, prior_T), labels_T) for (alone_T, labels_T), (prior_T, _) in pairs]
        cells = [name, f"{len(sites)}", f"{share:.0%}", mode, *_detected(scores[mode], scores["alone"])]
        print("| " + " | ".join([*cells, *_chosen(fitted), f"{spent_s:.1f}"]) + " |", flush=True)


def _detected(scores: Sequence[Scores], alone: Sequence[Scores]) -> list[str]:
    """Of all rows laid end to end, the mean over sites, and what the site fares worst by against its own model."""
    each, before = ([average_precision(*one) if one[1].any() else np.nan for one in some] for some in (scores, alone))
    pooled = [np.concatenate(side) for side in zip(*scores, strict=True)]
    least = np.nanmin(np.subtract(each, before))
    return [f"{average_precision(*pooled):.3f}", f"{np.nanmean(each):.3f}", f"{auroc(*pooled):.3f}", f"{least:+.3f}"]


def _chosen(fitted: Sequence[tuple[LagScorer, float]]) -> list[str]:
    worths, trails = [worth for _, worth in fitted], [scorer.trail for scorer, _ in fitted]
    return [f"{min(worths):g} to {max(worths):g}", f"{min(trails)} to {max(trails)}"]


def _prepared(site: SiteData, share: float, config: PreprocessConfig) -> Plant:
    """The first `share` of each training recording, cut in two, and the test rows."""
    kept = _cut(site.train_TD, site.train_starts, 0.0, share)
    learnt, held = (_cut(*kept, *part) for part in ((0.0, 0.8), (0.8, 1.0)))
    if share < 1:
        learnt, held = (_cut(*kept, *part) for part in ((0.0, 0.6), (0.6, 1.0)))
    prepared, rows = fit_preprocessor(*learnt, config, site.name)
    return Plant(site, rows, prepared.live(*held), prepared.live(site.test_TD, site.test_starts))


def _cut(rows_TD: FloatArray, starts: tuple[int, ...], low: float, high: float) -> tuple[FloatArray, tuple[int, ...]]:
    found = []
    for begin, end in zip(starts, [*starts[1:], len(rows_TD)], strict=True):
        found.append(rows_TD[begin + round((end - begin) * low) : begin + round((end - begin) * high)])
    firsts = np.cumsum([0, *(len(piece) for piece in found[:-1])])
    return np.concatenate(found), tuple(int(first) for first in firsts)


def _fitted(mode: str, plant: Plant, others: Moments, shrink: float | None) -> tuple[LagScorer, float]:
    lags, worth = others.lags, 0.0
    own = moments(plant.learn.values_TD, plant.learn.starts, lags)
    columns = (lags + 1) * own.dim
    if mode == "federated":
        worth = others.rows / columns
    if mode == "prior 5P":
        worth = USUAL
    if mode in ("prior", "lesser"):
        worth = chosen_rows(pieces(plant.learn.values_TD, plant.learn.starts, lags), others) / columns
    mine = own + others if mode == "federated" else with_prior(own, others, worth * columns)
    scorer = calibrated(fit_mahalanobis(mine, shrink), fit_var(mine, shrink), plant.held.values_TD, plant.held.starts)
    return scorer, round(worth, 1)


def _scores(scorer: LagScorer, plant: Plant) -> Scores:
    labels_T = np.asarray(plant.site.labels_T)
    every = round(len(labels_T) / len(plant.test.values_TD))
    scores_T = scorer.score_rows(plant.test.values_TD, plant.test.starts)
    whole_T = np.full(len(labels_T), np.nan)
    held_T = np.repeat(scores_T, every)[: len(labels_T) - every + 1]  # a joined row's score counts from its end
    whole_T[every - 1 : every - 1 + len(held_T)] = held_T
    known_T = ~np.isnan(whole_T)
    return whole_T[known_T], labels_T[known_T]


def noised(site: SiteData, unit: int) -> None:
    """AUPRC of one plant's noised moments, and how far the noise reaches in units of a tag's variance."""
    plant = _prepared(site, 1.0, PreprocessConfig(clip_quantile=None))
    print("| lags | columns P | noise multiplier | noise reaches | AUPRC |\n|" + "---|" * 5)
    for lags, multiplier in product((0, 1, 5), (0.0, 0.1, 1.0)):
        key = Randomness.keyed(bytes(32), f"{lags} {multiplier}")
        found = private_moments(plant.learn.values_TD, plant.learn.starts, lags, unit, multiplier, key)
        exact = private_moments(plant.learn.values_TD, plant.learn.starts, lags, unit, 0.0, key)
        columns = (lags + 1) * site.schema.dim
        models = fit_mahalanobis(found), fit_var(found)
        scorer = calibrated(*models, plant.held.values_TD, plant.held.starts)
        reach = found.noise_sd * math.sqrt(2 * columns) / exact.rows
        cells = [
            str(lags),
            str(columns),
            f"{multiplier:g}",
            f"{reach:.2f}",
            f"{average_precision(*_scores(scorer, plant)):.3f}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


def peak_mb() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cost(dim: int, lags: int) -> None:
    """Seconds and memory of one plant of `dim` tags, a day at a row in ten seconds."""
    rng = np.random.default_rng(0)
    rows_TD = (rng.normal(size=(8640, 20)).cumsum(axis=0) @ rng.normal(size=(20, dim))).astype(np.float32)
    rows_TD = (rows_TD - rows_TD.mean(axis=0)) / rows_TD.std(axis=0) + rng.normal(0, 0.1, rows_TD.shape)
    before_mb, begun = peak_mb(), time.perf_counter()
    own = moments(rows_TD[:6912], (0,), lags)
    summed_s, summed_mb, begun = time.perf_counter() - begun, peak_mb() - before_mb, time.perf_counter()
    models = fit_mahalanobis(own), fit_var(own)
    fitted_s, fitted_mb, begun = time.perf_counter() - begun, peak_mb() - before_mb, time.perf_counter()
    chosen_rows(pieces(rows_TD[:6912], (0,), lags), own)
    prior_s = time.perf_counter() - begun
    scorer = replace(calibrated(*models, rows_TD[6912:]), trail=4)
    begun = time.perf_counter()
    scorer.score_rows(rows_TD)
    row_us = 1e6 * (time.perf_counter() - begun) / len(rows_TD)
    print(f"{dim} tags, {lags} lags: {(lags + 1) * dim} columns, {vector_size(dim, lags) * 8e-6:.1f} MB sent")
    print(f"moments of 6,912 rows {summed_s:.2f} s, {summed_mb:.0f} MB; fitting {fitted_s:.2f} s, {fitted_mb:.0f} MB")
    print(f"n0 {prior_s:.1f} s; scoring a row {row_us:.0f} us")


if __name__ == "__main__":
    main()
