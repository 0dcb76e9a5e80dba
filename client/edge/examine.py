"""A candidate at rest: `python -m client.edge.examine CURRENT CANDIDATE`, a process of its own.

It scores the candidate's probe, and the same rows with faults put into them, by both models. A graph that brings
onnxruntime down takes this process along and not the one that scores; its memory is given back when it ends.

Standard output: one JSON object, `{"new": Figures, "now": Figures}` or `{"refused": TEXT}`.

Shapes: R rows of the probe, D tags, W rows of a window.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from client.edge.budget import budgeted
from client.edge.gates import Figures
from client.edge.promise import unsupported
from client.edge.records import Sample
from shared.artefact import Artefact
from shared.bundle.edge import EdgeBundle, read_edge_bundle
from shared.errors import BundleInvalid, CrossplantError
from shared.series import FloatArray

LONGEST_S = 600.0
_TAGS = 30  # at most, evenly chosen, that faults are put into
_KINDS = ("offset", "stuck", "drift", "noise")
_MOST = 2**20


class Both(Artefact, frozen=True, kw_only=True):
    """Figures of the candidate and of the current model, for the same rows and faults."""

    new: Figures
    now: Figures


def examine_apart(current: Path, candidate: Path, int8: bool = False, budget: float | None = None) -> Both:
    """Examine a candidate in a child process.

    Args:
        current, candidate: folders of bundles whose signatures were checked.
        int8: run both in 8 bits.
        budget: false alarms a day that set both thresholds; None: the bundles' own.

    Raises:
        BundleInvalid: it does not score as the trainer did, or the child did not survive it.
    """
    more = [*(["int8"] * int8), *([] if budget is None else [f"budget={budget!r}"])]
    command = [sys.executable, "-I", "-m", "client.edge.examine", str(current), str(candidate), *more]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=LONGEST_S, stdin=subprocess.DEVNULL)
        found: Any = json.loads(done.stdout[:_MOST] or b"{}")
        if isinstance(found, dict) and "refused" in found:
            raise BundleInvalid(f"{found['refused']}", "The one in use goes on scoring.")
        if done.returncode:
            told = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no word"]
            raise BundleInvalid(f"{candidate}: examining it ended with {done.returncode}: {told[0]:.200}.")
        return Both.of(found)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise BundleInvalid(f"{candidate} cannot be examined: {error}.") from error


def examined(current: EdgeBundle, candidate: EdgeBundle, int8: bool = False) -> Both:
    """Score the candidate's probe and the faults put into it by both models.

    Raises:
        BundleInvalid: the candidate's graph or guard cannot be used, or its probe's scores are not the trainer's.
    """
    from client.edge.loading import make_model

    rows_RD = candidate.probe.rows_RD
    rows = candidate.setup.window * candidate.preprocessor.every
    new, now = (_figures(one, make_model(one, 1, int8).scorer, rows_RD, rows) for one in (candidate, current))
    return Both(new=new, now=now)


def faulty(rows_RD: FloatArray, rows: int) -> Iterator[FloatArray]:
    """Stretches of normal rows with one fault in the second half of each, for every tag that moves.

    Sizes follow the tag's own span over the rows: an offset of half of it, a drift up to all of it, noise of 0.3 of it,
    and a reading that stays as it was. The same rows give the same faults.

    Args:
        rows_RD: float32 (R, D), raw.
        rows: of normal operation in front of the fault, and with it: both are cut where there are too few.

    Yields:
        float32 (2 n, D), n <= rows.
    """
    n = min(rows, len(rows_RD) // 2)
    low_D, high_D = np.nanquantile(np.nan_to_num(rows_RD.astype(np.float64)), (0.01, 0.99), axis=0)
    moving = np.flatnonzero(high_D > low_D)
    chosen = moving[np.linspace(0, len(moving) - 1, min(_TAGS, len(moving))).astype(int)] if len(moving) else moving
    noise_n = np.random.default_rng(0).normal(size=n)
    for turn, d in enumerate(chosen):
        at = (turn * 7919) % (len(rows_RD) - 2 * n + 1)
        span = float(high_D[d] - low_D[d])
        for kind in _KINDS:
            part_LD = rows_RD[at : at + 2 * n].copy()
            tail_n = part_LD[n:, d].copy()
            change_n = {
                "offset": tail_n + 0.5 * span,
                "stuck": np.full(n, part_LD[n - 1, d]),
                "drift": tail_n + span * np.linspace(0, 1, n),
                "noise": tail_n + 0.3 * span * noise_n,
            }[kind]
            part_LD[n:, d] = change_n
            yield part_LD


def _figures(bundle: EdgeBundle, scorer: Any, rows_RD: FloatArray, rows: int) -> Figures:
    scorer.restart()
    times, threshold = [], bundle.threshold.value
    for number, row_D in enumerate(rows_RD):
        before = time.perf_counter()
        scored = scorer.feed(Sample(float(number), row_D, number))
        if scored is not None:
            times.append(time.perf_counter() - before)
            threshold = scored.threshold
    found = [_is_found(scorer, part_LD) for part_LD in faulty(rows_RD, rows)]
    figures, rehearsal = bundle.calibration, bundle.calibration.rehearsal
    quantile = figures.distribution.quantile
    return Figures(
        loss=figures.holdout_loss,
        prepared=hashlib.sha256(bundle.preprocessor.json).hexdigest()[:16],
        threshold=threshold,
        quantiles=(quantile(0.01), quantile(0.5), quantile(0.99)),
        alpha=bundle.setup.false_alarm_rate if rehearsal is None else rehearsal.asked or bundle.setup.false_alarm_rate,
        unseen=None if rehearsal is None else rehearsal.rate,
        unseen_worth=1.0 if rehearsal is None else rehearsal.effective_size,
        modes=None if bundle.clusters is None else sum(share >= 0.01 for share in figures.occupancy),
        guard=bundle.guard is not None,
        carried=not unsupported(bundle),
        latency_ms=1e3 * float(np.median(times)) if times else 0.0,
        faults=len(found),
        found=sum(found),
    )


def _is_found(scorer: Any, part_LD: FloatArray) -> bool:
    """Whether a window that ends within the second half is anomalous."""
    scorer.restart()
    half = len(part_LD) // 2
    found = [scorer.feed(Sample(float(i), row_D, i)) for i, row_D in enumerate(part_LD)][half:]
    return any(scored is not None and not scored.score <= scored.threshold for scored in found)


def _budget(arguments: list[str]) -> float | None:
    given = [one.partition("=")[2] for one in arguments if one.startswith("budget=")]
    return float(given[0]) if given else None


def main(arguments: list[str]) -> int:
    """The process; returns its exit code."""
    if hasattr(os, "nice"):
        os.nice(10)
    current, candidate = (Path(name) for name in arguments[:2])
    try:
        now, new = (budgeted(read_edge_bundle(one), _budget(arguments[2:])) for one in (current, candidate))
        both = examined(now, new, "int8" in arguments[2:])
    except CrossplantError as error:
        sys.stdout.write(json.dumps({"refused": error.cause}))
        return 0
    sys.stdout.write(both.json.decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
