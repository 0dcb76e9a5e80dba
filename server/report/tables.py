"""The report's tables: plants, refusals, rounds that did not count, orders, audit, settings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from server.console.advice import advise
from server.console.figures import DASH, cut, digest, number, percent, signed, size, when
from server.report.changes import Change, changes
from server.report.material import Material
from server.report.table import Cell, Column, Table
from server.store.auditlog import Entry
from server.store.reading import Attempt, PlantLine, RoundLine
from server.store.registry import Order
from shared.config import RunConfig, flatten

_LONGEST = 300
_TONES = {"better": "", "worse": "bad", "alike": "quiet"}


def plant_table(material: Material) -> Table:
    """One line a plant."""
    columns = (
        Column("Plant", "short"), Column("Asked", group="Rounds"), Column("Counted", group="Rounds"),
        Column("Share", group="Rounds"), Column("First", group="Loss on its own normal data"),
        Column("Newest", group="Loss on its own normal data"), Column("Change", group="Loss on its own normal data"),
        Column("Scores by model of round"), Column("Last counted", "short"), Column("Sent and received"),
    )  # fmt: skip
    found = changes(material.losses)
    rows = tuple(_plant(line, found.get(line.plant)) for line in material.plants)
    return Table("The plants of the run", columns, rows)


def _plant(line: PlantLine, change: Change | None) -> tuple[Cell, ...]:
    share = line.accepted / line.rounds if line.rounds else None
    moved = Cell(DASH) if change is None else Cell(f"{signed(100 * change.share)} %", _TONES[change.verdict])
    return (
        Cell(cut(line.plant, 80)),
        Cell(f"{line.rounds:,}"),
        Cell(f"{line.accepted:,}", "" if line.accepted else "bad"),
        Cell(percent(share)),
        Cell(number(None if change is None else change.first)),
        Cell(number(None if change is None else change.last)),
        moved,
        Cell(DASH if line.live_round is None else f"{line.live_round:,}"),
        Cell(when(line.seen) if line.seen else "never"),
        Cell(size(line.bytes_down + line.bytes_up)),
    )


def refusal_table(material: Material) -> Table:
    """One line a plant and kind of reason, of the newest replies that did not count."""
    columns = (
        Column("Plant", "short"), Column("Why", "short"), Column("Rounds"), Column("Newest"),
        Column("What was said", "long"), Column("What it means", "long"), Column("What to do", "long"),
    )  # fmt: skip
    rows = tuple(row for plant, found in material.refusals.items() for row in _refusals(plant, found))
    return Table("Replies that did not count, the newest of each plant", columns, rows)


def _refusals(plant: str, found: tuple[Attempt, ...]) -> list[tuple[Cell, ...]]:
    kinds = Counter(advise(attempt.reason).kind for attempt in found)
    rows = []
    for kind, count in kinds.most_common():
        newest = next(attempt for attempt in found if advise(attempt.reason).kind == kind)
        about = advise(newest.reason)
        words = (cut(newest.reason, _LONGEST), about.meaning, about.cure)
        tone = "bad" if about.tone == "bad" else "weak" if about.tone == "warn" else "quiet"
        head = (Cell(cut(plant, 80)), Cell(kind, tone), Cell(f"{count:,}"), Cell(f"{newest.number:,}"))
        rows.append((*head, *map(Cell, words)))
    return rows


def halted_table(material: Material) -> Table:
    """Rounds that did not commit."""
    columns = (Column("Round"), Column("Phase", "short"), Column("Began", "short"), Column("Ended", "short"),
               Column("Asked"), Column("Counted"), Column("Why", "long"))  # fmt: skip
    return Table("Rounds that did not count", columns, tuple(map(_halted, material.halted)))


def _halted(line: RoundLine) -> tuple[Cell, ...]:
    counts = (Cell(f"{line.asked:,}"), Cell(f"{line.accepted:,}"))
    head = (Cell(f"{line.number:,}"), Cell(line.phase), Cell(when(line.started)), Cell(line.status, "weak"))
    return (*head, *counts, Cell(cut(line.reason, _LONGEST) or DASH))


def result_table(material: Material) -> Table | None:
    """What a simulation measured on labelled data; None without."""
    if material.results is None or not material.results.sites:
        return None
    columns = (Column("Site", "short"), Column("AUPRC"), Column("VUS-PR"), Column("Events noticed"),
               Column("Median delay"), Column("False alarms a day"), Column("Threshold", "short"))  # fmt: skip
    rows = [_result(site.name, site.figures, site.threshold) for site in material.results.sites]
    return Table(
        "On labelled test data", columns, tuple(rows), _result("Mean over the sites", material.results.mean, "")
    )


def _result(name: str, found: Mapping[str, float | None], threshold: str) -> tuple[Cell, ...]:
    delay = found.get("delay_s")
    return (
        Cell(cut(name, 80)),
        Cell(number(found.get("auprc"))),
        Cell(number(found.get("vus_pr"))),
        Cell(percent(found.get("event_recall"))),
        Cell(DASH if delay is None else f"{number(delay)} s"),
        Cell(number(found.get("false_alarms_per_day"))),
        Cell(cut(threshold, 20) or DASH, "weak" if threshold == "weak" else ""),
    )


def order_table(material: Material) -> Table:
    """What operators wanted plants to score by."""
    columns = (Column("When", "short"), Column("Who", "short"), Column("What", "short"), Column("State", "short"),
               Column("Carried out in round"), Column("Model", "short"), Column("Why", "long"))  # fmt: skip
    return Table("Promotions and rollbacks", columns, tuple(map(_order, material.orders)))


def _order(order: Order) -> tuple[Cell, ...]:
    return (
        Cell(when(order.made)),
        Cell(cut(order.who, 80)),
        Cell(order.label),
        Cell(order.state.value, "weak" if order.state.value in ("open", "failed") else ""),
        Cell(DASH if order.round is None else f"{order.round:,}"),
        Cell(digest(order.model)),
        Cell(cut(order.why, _LONGEST)),
    )


def audit_table(material: Material) -> Table:
    """The newest changes to the run."""
    columns = (Column("Entry"), Column("When", "short"), Column("Who", "short"), Column("What", "short"),
               Column("On what", "short"), Column("Detail", "long"), Column("Digest", "short"))  # fmt: skip
    return Table("From the audit log", columns, tuple(map(_entry, material.audit)))


def _entry(entry: Entry) -> tuple[Cell, ...]:
    detail = json.dumps(dict(entry.detail), sort_keys=True, ensure_ascii=False)
    words = (
        when(entry.at),
        f"{cut(entry.who, 80)} ({cut(entry.role, 20)})",
        cut(entry.action, 80),
        cut(entry.target, 120),
    )
    return (Cell(f"{entry.seq:,}"), *map(Cell, words), Cell(cut(detail, _LONGEST)), Cell(digest(entry.digest)))


def setting_table(config: RunConfig) -> Table:
    """Settings that are not at their default."""
    default = dict(flatten(RunConfig().model_dump(mode="json")))
    changed = {name: value for name, value in flatten(config.model_dump(mode="json")) if default.get(name) != value}
    rows = tuple((Cell(name), Cell(cut(str(value), _LONGEST))) for name, value in sorted(changed.items()))
    return Table("Settings that are not at their default", (Column("Setting", "short"), Column("Value", "long")), rows)
