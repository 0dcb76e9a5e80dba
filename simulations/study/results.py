"""results.json: rows with frozen fields, errors beside them, what follows from them, and where they come from."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any

from shared.metrics.summary import Evaluation
from simulations.rundir import write_json
from simulations.study.contestant import CENTRAL, FEDERATED, LOCAL, MODES
from simulations.study.measure import FIELDS
from simulations.study.overlays import BASE
from simulations.study.run import Results
from simulations.study.statistics import Comparison, Ranks, Summary, by_site, compare, ranks, summaries

_PACKAGES = ("crossplant", "flwr", "torch", "numpy", "scipy", "scikit-learn", "onnxruntime")


def content(results: Results, command: str) -> dict[str, Any]:
    """The file, as plain JSON values."""
    summed = summaries(results.rows)
    return {
        "format": 1,
        "fields": list(FIELDS),
        "rows": [row.row() for row in results.rows],
        "error": [{**asdict(row.cell), "site": row.site, "error": row.error} for row in results.rows if row.error],
        "not_applicable": [asdict(one) for one in results.skipped],
        "summary": [_summary(one, results) for one in summed],
        "ranks": [_plain(asdict(one)) for one in all_ranks(summed)],
        "comparisons": [_plain(asdict(one)) for one in comparisons(results)],
        "datasets": [asdict(one) for one in results.about],
        "robustness": _robustness(results),
        "provenance": provenance(results, command),
    }


def write(path: Path, results: Results, command: str) -> None:
    """Write results.json, atomically.

    Raises:
        OSError: the disk refuses.
    """
    write_json(path, content(results, command))


def provenance(results: Results, command: str) -> dict[str, Any]:
    """What the figures were made with."""
    return {
        "digest": results.plan.digest,
        "code": sorted(results.codes),
        "command": command,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "machine": machine(),
        "seconds": round(results.seconds, 1),
    }


def machine() -> dict[str, Any]:
    """What the figures were made on; no name of it."""
    return {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count(), "load": _load()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# ---- what follows ----------------------------------------------------------------------------------------------------


def _summary(one: Summary, results: Results) -> dict[str, Any]:
    found = {**asdict(one), **one.means}
    del found["means"]
    evaluations = [
        evaluation
        for cell, evaluation in results.pooled.items()
        if (cell.dataset, cell.detector, cell.mode) == (one.dataset, one.detector, one.mode)
    ]
    return {name: _plain(value) for name, value in {**found, "pooled": pooled_means(evaluations)}.items()}


POOLED = ("auprc", "f1_at_threshold", "f1_best", "false_alarm_share", "event_recall")


def pooled_means(evaluations: list[Evaluation]) -> dict[str, float] | None:
    """Means over seeds of all sites laid end to end; None where they were not."""
    if not evaluations:
        return None
    return {name: sum(getattr(one, name) for one in evaluations) / len(evaluations) for name in POOLED}


def all_ranks(summed: list[Summary]) -> list[Ranks]:
    """Of every mode that has two detectors."""
    return [found for mode in MODES if (found := ranks(summed, mode)) is not None]


def comparisons(results: Results) -> list[Comparison]:
    """Modes of each detector against each other, and the default (else the first detector) against each other one."""
    plan = results.plan
    ways = [
        ((detector, one), (detector, other))
        for detector in plan.detectors
        for one, other in combinations([mode for mode in (FEDERATED, CENTRAL, LOCAL) if mode in plan.modes], 2)
    ]
    reference = BASE if BASE in plan.detectors else plan.detectors[0]
    ways += [
        ((reference, mode), (detector, mode))
        for mode in plan.modes
        for detector in plan.detectors
        if detector != reference
    ]
    found = []
    for one, other in ways:
        values = [by_site(results.rows, *way) for way in (one, other)]
        names = (" ".join(one), " ".join(other))
        scopes = (*plan.datasets, "") if len(plan.datasets) > 1 else plan.datasets
        found += [compare(values[0], values[1], names, dataset) for dataset in scopes]
    return [one for one in found if one is not None]


def _robustness(results: Results) -> list[dict[str, Any]]:
    """Mean AUPRC under each disturbance, over sites and seeds."""
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for row in results.rows:
        for name, value in (row.variants or {}).items():
            if not math.isnan(value):
                key = (row.cell.dataset, row.cell.detector, row.cell.mode, name)
                found.setdefault(key, []).append(value)
    names = ("dataset", "detector", "mode", "disturbance")
    return [{**dict(zip(names, key, strict=True)), "auprc": sum(all_) / len(all_)} for key, all_ in found.items()]


def _plain(tree: Any) -> Any:
    """NaN and infinities become null."""
    if isinstance(tree, Mapping):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
