"""Rounds as JSON values and as table rows; pure functions of records.

Names and reasons come from plants and are hostile: rows go through `plain`, and whoever prints them must not read
markup in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from server.rounds import ClusterReport, PlantReport, RoundRecord, Status
from server.store.compare import finite
from server.store.rows import RunInfo, RunStatus

Row = tuple[str, ...]

LIST_COLUMNS = ("#", "phase", "step", "status", "plants", "holdout", "train", "model", "s")
PLANT_COLUMNS = ("plant", "counted", "examples", "holdout", "train", "down", "up", "s")
DETAIL_COLUMNS = ("plant", "metrics", "timings in s")
CLUSTER_COLUMNS = ("cluster", "mass", "displacement", "active", "plants")
METRIC_COLUMNS = ("plant", "metric", "a", "b", "b - a")
TENSOR_COLUMNS = ("tensor", "relative", "distance", "cosine")
_SHORT = 8
_MISSED = 10  # plants that `rounds list` names in one round


# ---- JSON ----


def run_entry(info: RunInfo) -> dict[str, Any]:
    """A run as `rounds list --json` and `rounds show --json` print it beside rounds."""
    return {"name": info.name, "created": info.created, "status": info.status.value, "note": info.note}


def list_entry(record: RoundRecord) -> dict[str, Any]:
    """A round as `rounds list --json` prints it."""
    return {
        "run": record.run,
        "number": record.number,
        "phase": record.phase.value,
        "label": record.label,
        "status": record.status.value,
        "reason": record.reason,
        "plants": list(record.accepted),
        "rejected": [{"plant": p.plant, "reason": p.reason} for p in record.rejected],
        "joined": list(record.joined),
        "metrics": _numbers(record.metrics),
        "model": record.model,
        "started": record.started,
        "seconds": finite(record.seconds),
        "bytes": record.bytes_total,
    }


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


def plain(text: str) -> str:
    """Text that cannot steer a terminal: what is not printable becomes a visible escape.

    Example:
        >>> len(plain(chr(27) + "[2J"))
        7
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def figure(value: float | None) -> str:
    """A number in a cell; `-` where there is none.

    Example:
        >>> figure(0.0123456), figure(float("nan"))
        ('0.01235', '-')
    """
    known = finite(value)
    return "-" if known is None else f"{known:.4g}"


def size(count: int) -> str:
    """Bytes in a cell.

    Example:
        >>> size(900), size(879_616)
        ('900 B', '859 KiB')
    """
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.0f} KiB" if count < 10 * 1024**2 else f"{count / 1024**2:.0f} MiB"


def _pairs(values: Mapping[str, float]) -> str:
    return plain(", ".join(f"{name} {figure(value)}" for name, value in values.items())) or "-"


def _times(values: Mapping[str, float]) -> str:
    shown = {name: "<0.001" if 0 <= value < 0.001 else figure(value) for name, value in values.items()}
    return plain(", ".join(f"{name} {value}" for name, value in shown.items())) or "-"


def list_rows(records: Iterable[RoundRecord]) -> list[Row]:
    """The rows of `rounds list`, under `LIST_COLUMNS`."""
    return [_list_row(record) for record in records]


def _list_row(r: RoundRecord) -> Row:
    counted = f"{len(r.accepted)}/{len(r.plants) - len(r.joined)}"
    losses = (figure(r.metrics.get("holdout_loss")), figure(r.metrics.get("train_loss")))
    model = "-" if r.model is None else r.model[:_SHORT]
    return (str(r.number), r.phase.value, plain(r.label), r.status.value, counted, *losses, model, f"{r.seconds:.1f}")


def standing(info: RunInfo) -> str:
    """How a run stands, after its name; nothing while it is under way, or was killed and looks as if it were."""
    return "" if info.status is RunStatus.RUNNING else f", {info.status.value}"


def ending(info: RunInfo) -> list[str]:
    """Why a run failed; nothing when it did not."""
    if info.status is not RunStatus.FAILED:
        return []
    return [plain(f"Run {info.name} failed: {info.note or 'its rounds say why'}")]


def interruptions(records: Iterable[RoundRecord]) -> list[str]:
    """What `rounds list` says below its table: of a round that did not commit, also why each plant did not count.

    Rounds one after another that committed with the same words share a line.
    """
    lines: list[str] = []
    told = [record for record in records if record.reason is not None]
    for (status, reason, _), same in groupby(told, lambda r: (r.status, r.reason, _own(r))):
        rounds = list(same)
        r = rounds[0]
        lines.append(f"Round{'s' * (len(rounds) > 1)} {_spans(one.number for one in rounds)} {status.value}: {reason}")
        missed = r.rejected if r.status is not Status.COMMITTED else ()
        lines += [f"  {p.plant}: {p.reason}" for p in missed[:_MISSED]]
        lines += (
            [f"  and {len(missed) - _MISSED} more: `crossplant rounds show {r.number}`"] if missed[_MISSED:] else []
        )
    return [plain(line) for line in lines]


def _spans(numbers: Iterable[int]) -> str:
    """Numbers for people.

    Example:
        >>> _spans([2, 5, 6, 7])
        '2, 5 to 7'
    """
    spans: list[tuple[int, int]] = []
    for number in numbers:
        known = spans.pop() if spans and spans[-1][1] == number - 1 else (number, number)
        spans.append((known[0], number))
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in spans)


def _own(record: RoundRecord) -> int:
    """What sets a round apart that must have lines of its own."""
    return 0 if record.status is Status.COMMITTED else record.number


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


def detail_rows(record: RoundRecord) -> list[Row]:
    """All metrics and timings of each plant, under `DETAIL_COLUMNS`."""
    return [(plain(p.plant), _pairs(p.metrics), _times(p.timings)) for p in record.plants if p.metrics or p.timings]


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
