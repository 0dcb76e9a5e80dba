"""What the library baselines detect, and what they cost: the table of docs/baselines.md.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.baselines     # data under CROSSPLANT_DATA, else ../shared/data

Each site by itself, all of its training rows, prepared by the default settings; one seed, nothing chosen per data set.
AUPRC: mean over sites of all test rows that have a score. SKAB: the 16 files of `valve1`.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.processes import ROOT
from client.ingest.base import load
from shared.config import PreprocessConfig
from shared.metrics.pointwise import auroc, average_precision
from shared.preprocess import fit_preprocessor
from shared.series import SiteData
from simulations.baselines import find, known

FOLDERS = {"batadal": "batadal", "skab": "skab"}
HEAD = ("baseline", "data", "AUPRC", "AUROC", "fit s", "score us a row")


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baselines", description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("CROSSPLANT_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--only", choices=known(), action="append")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| " + " | ".join(HEAD) + " |\n|" + " --- |" * len(HEAD))
    for data, folder in FOLDERS.items():
        sites = [site for site in load(data, Path(given.data) / folder) if site.labels_T is not None]
        for name in given.only or known():
            rows = np.array([measured(name, site) for site in sites])
            auprc, roc, fit_s, score_us = rows.mean(axis=0)
            print(f"| {name} | {data} | {auprc:.3f} | {roc:.3f} | {fit_s:.1f} | {score_us:.0f} |", flush=True)


def measured(name: str, site: SiteData, seed: int = 0) -> tuple[float, float, float, float]:
    """AUPRC, AUROC, seconds to fit, microseconds a row to score."""
    fitted, train = fit_preprocessor(np.asarray(site.train_TD, np.float32), site.train_starts, PreprocessConfig())
    prepared = fitted.training(np.asarray(site.train_TD, np.float32), site.train_starts)
    test = fitted.live(np.asarray(site.test_TD, np.float32), site.test_starts)
    begin = time.perf_counter()
    learnt = find(name).fit(prepared.values_TD, train.starts, seed)
    middle = time.perf_counter()
    scores_T = learnt.scores(test.values_TD, test.starts)
    end = time.perf_counter()
    judged_T = ~np.isnan(scores_T)
    assert site.labels_T is not None
    labels_T = np.asarray(site.labels_T)[judged_T]
    figures = average_precision(scores_T[judged_T], labels_T), auroc(scores_T[judged_T], labels_T)
    return *figures, middle - begin, (end - middle) / max(1, len(scores_T)) * 1e6


if __name__ == "__main__":
    main()
