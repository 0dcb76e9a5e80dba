"""Rounds as JSON values and as table rows; pure functions of records.

Names and reasons come from plants and are hostile: rows go through `plain`, and whoever prints them must not read
markup in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from server.rounds import ClusterReport, PlantReport, RoundRecord
from server.store.lines import Line, Refusal, round_entry
from server.store.lines import ending as ending
from server.store.lines import interruptions as interruptions
from server.store.lines import run_entry as run_entry
from server.store.words import figure as figure
from server.store.words import finite as finite
from server.store.words import plain as plain
from server.store.words import size as size

Row = tuple[str, ...]

PLANT_COLUMNS = ("plant", "counted", "examples", "holdout", "train", "down", "up", "s")
CLUSTER_COLUMNS = ("cluster", "mass", "displacement", "active", "plants")
METRIC_COLUMNS = ("plant", "metric", "a", "b", "b - a")
TENSOR_COLUMNS = ("tensor", "relative", "distance", "cosine")


# ---- JSON ----


def list_entry(record: RoundRecord) -> dict[str, Any]:
    """A round as `rounds list --json` prints it."""
    return round_entry(line_of(record))


def line_of(record: RoundRecord) -> Line:
    """A round as it stands in a list."""
    refused = tuple(Refusal(p.plant, p.reason) for p in record.rejected)
    return Line(
        record.run, record.number, record.phase.value, record.label, record.status.value, record.reason,
        record.started, record.seconds, record.model, record.metrics, record.accepted, refused, record.joined,
        record.bytes_total,
    )  # fmt: skip


def show_entry(record: RoundRecord) -> dict[str, Any]:
    """A round with all that is known of it, as `rounds show --json` prints it."""
    return list_entry(record) | {
        "cohort": [p.plant for p in record.plants],
        "updates": [_update(p) for p in record.plants],
        "clusters": None if record.clusters is None else _clusters(record.clusters),
        "timings": _numbers(record.timings),
        "config": record.config,
    }


def _update(report: PlantReport) -> dict[str, Any]:
    return {
        "plant": report.plant,
        "accepted": report.accepted,
        "reason": report.reason,
        "examples": report.examples,
        "metrics": _numbers(report.metrics),
        "timings": _numbers(report.timings),
        "bytes_down": report.bytes_down,
        "bytes_up": report.bytes_up,
        "seconds": finite(report.seconds),
    }


def _clusters(report: ClusterReport) -> dict[str, Any]:
    return {
        "mass": [finite(value) for value in report.mass],
        "displacement": [finite(value) for value in report.displacement],
        "active": list(report.active),
        "effective": finite(report.effective),
        "plants": list(report.plants),
    }


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: finite(value) for name, value in values.items()}


# ---- text ----


def _pairs(values: Mapping[str, float]) -> str:
    return plain(", ".join(f"{name} {figure(value)}" for name, value in values.items())) or "-"


def _times(values: Mapping[str, float]) -> str:
    shown = {name: "<0.001" if 0 <= value < 0.001 else figure(value) for name, value in values.items()}
    return plain(", ".join(f"{name} {value}" for name, value in shown.items())) or "-"


def plant_rows(record: RoundRecord) -> list[Row]:
    """One row a plant, under `PLANT_COLUMNS`."""
    return [_plant_row(plant) for plant in record.plants]


def _plant_row(p: PlantReport) -> Row:
    counted, examples = (
        "yes" if p.accepted else "joins" if p.joined else "no",
        "-" if p.examples is None else str(p.examples),
    )
    losses = (figure(p.metrics.get("holdout_loss")), figure(p.metrics.get("train_loss")))
    return (plain(p.plant), counted, examples, *losses, size(p.bytes_down), size(p.bytes_up), f"{p.seconds:.2f}")


def details(record: RoundRecord) -> list[str]:
    """All metrics and timings of each plant, in lines."""
    told = [f"{p.plant}: {_pairs(p.metrics)}; seconds: {_times(p.timings)}" for p in record.plants if _tells(p)]
    return [line for text in told for line in wrap(plain(text), 80, subsequent_indent="  ", break_on_hyphens=False)]


def _tells(report: PlantReport) -> bool:
    return bool(report.metrics or report.timings)


def cluster_rows(report: ClusterReport) -> list[Row]:
    """One row a cluster, under `CLUSTER_COLUMNS`; how many plants populate it is `-` where that was not counted."""
    plants = [str(count) for count in report.plants] or ["-"] * len(report.mass)
    parts = zip(report.mass, report.displacement, report.active, plants, strict=True)
    return [(str(k), figure(m), figure(d), "yes" if active else "no", p) for k, (m, d, active, p) in enumerate(parts)]


def alone(report: ClusterReport) -> list[str]:
    """One line on the clusters that a single plant populates: a low score there is nothing that others should trust."""
    single = [str(k) for k, count in enumerate(report.plants) if count == 1 and report.active[k]]
    return [f"populated by one plant only: cluster {', '.join(single)}"] if single else []


def heading(record: RoundRecord) -> list[str]:
    """The lines above the tables of `rounds show`."""
    title = f"Round {record.number} of run {record.run}: {record.phase.value}, {record.label}, {record.status.value}"
    lines = [title if record.reason is None else f"{title}: {record.reason}"]
    lines.append(
        f"started {record.started}, {record.seconds:.1f} s ({_times(record.timings)}), {size(record.bytes_total)}"
    )
    lines += [f"model {record.model or '-'}", f"config {record.config}"]
    if record.metrics:
        lines.append(f"over all plants: {_pairs(record.metrics)}")
    return [plain(line) for line in lines]


def rejections(record: RoundRecord) -> list[str]:
    """One line for each plant that did not count, or joined."""
    lines = [f"{p.plant} did not count: {p.reason or 'no reason given'}" for p in record.rejected]
    return [plain(line) for line in [*lines, *(f"{p.plant} {p.reason}" for p in record.plants if p.joined)]]


def metric_rows(comparison: Mapping[str, Any]) -> list[Row]:
    """The metrics of `compare_rounds`, all plants first, under `METRIC_COLUMNS`."""
    groups = [("all", comparison["metrics"]), *comparison["plants"].items()]
    return [
        (plain(plant), plain(name), figure(m["a"]), figure(m["b"]), figure(m["difference"]))
        for plant, metrics in groups
        for name, m in metrics.items()
    ]


def tensor_rows(comparison: Mapping[str, Any], shown: int) -> list[Row]:
    """The tensors of `compare_models` that moved most, under `TENSOR_COLUMNS`; the first row is all of them."""
    tensors: Sequence[Mapping[str, Any]] = [{"name": "all", **comparison["weights"]}, *comparison["tensors"][:shown]]
    return [
        (
            plain(t["name"]),
            figure(t["relative"]),
            figure(t["distance"]),
            "-" if t["cosine"] is None else f"{t['cosine']:.6f}",
        )
        for t in tensors
    ]
