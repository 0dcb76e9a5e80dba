"""`crossplant rounds list, runs, show, compare, export`: what there is in a store."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.rounds_cli.options import AsJson, Number, Run, Store, opened
from server.rounds_cli.printing import print_json, print_lines, print_table

if TYPE_CHECKING:
    from server.rounds import RoundRecord
    from server.store.glance import Page

_SHOWN = 50
_MOVERS = 10


class Ended(StrEnum):
    """How a round ended."""

    COMMITTED = "committed"
    SKIPPED = "skipped"
    FAILED = "failed"


def list_rounds(
    store: Store,
    run: Run = None,
    last: Annotated[int | None, typer.Option("--last", metavar="N", min=1, help="The newest so many.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All rounds, however many.")] = False,
    status: Annotated[Ended | None, typer.Option("--status", help="Only rounds that ended so.")] = None,
    before: Annotated[int | None, typer.Option("--before", metavar="N", min=1, help="Only rounds before N.")] = None,
    as_json: AsJson = False,
) -> None:
    """One line a round: the newest 50, and with --json the newest 500."""
    from server.store import lines
    from server.store.glance import MOST, Wanted, look

    most = None if everything else last or (MOST if as_json else _SHOWN)
    limits = {} if before is None else {"before": before}
    page = look(store, run, Wanted(most, status=None if status is None else status.value, **limits))
    if as_json:
        older = page.lines[0].number if page.older else None
        told = {"run": lines.run_entry(page.run), "rounds": [lines.round_entry(line) for line in page.lines]}
        return print_json(told | {"of": page.run.rounds, "before": older})
    _print_list(page)
    return print_lines(_waiting(store, page.run.name))


def list_runs(
    store: Store,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, help="The newest so many.")] = _SHOWN,
    as_json: AsJson = False,
) -> None:
    """One line a run, the newest last."""
    from server.store import lines
    from server.store.glance import runs

    found = runs(store, last)[::-1]
    if as_json:
        return print_json({"runs": [lines.run_entry(run) | {"rounds": run.rounds} for run in found]})
    if not found:
        return print_lines(["There is no run yet."])
    return print_table(lines.RUN_COLUMNS, [lines.run_row(run) for run in found], left=2)


def show_round(number: Number, store: Store, run: Run = None, as_json: AsJson = False) -> None:
    """One round: its plants, what each reported, why one did not count, and the clusters."""
    from server.store import views
    from server.store.retention import pruned_on

    there, name = opened(store, run)
    record, info, pruned = there.round(name, number), there.run(name), pruned_on(there, name, number)
    if as_json:
        told = views.show_entry(record) | {"of": views.run_entry(info)}
        return print_json(told if pruned is None else told | {"pruned": pruned})
    _print_round(record)
    lines = [] if pruned is None else [f"Its state was pruned on {pruned}; what the table tells is kept."]
    return print_lines([*lines, *views.ending(info)])


def compare_two(
    a: Annotated[int, typer.Argument(metavar="A", min=1, help="Round number, from 1.")],
    b: Annotated[int, typer.Argument(metavar="B", min=1, help="Another one.")],
    store: Store,
    run: Run = None,
    as_json: AsJson = False,
) -> None:
    """Two rounds: metrics, plants, and how far their models are apart."""
    from server.store.compare import compare_models, compare_rounds
    from shared.errors import RoundNotFound

    there, name = opened(store, run)
    record_a, record_b = there.round(name, a), there.round(name, b)
    result = compare_rounds(record_a, record_b) | {"weights": None, "tensors": [], "unmatched": [], "centroids": None}
    why = "One of the two rounds has no model."
    if record_a.model and record_b.model:
        try:
            result |= compare_models(there.model(name, a), there.model(name, b))
        except RoundNotFound as error:  # pruned: what was measured can still be compared
            why = f"Their models cannot be compared: {error.cause}"
    return print_json(result) if as_json else _print_comparison(result, why)


def export_model(
    number: Number,
    store: Store,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A folder; made when it is missing.")],
    run: Run = None,
    as_json: AsJson = False,
) -> None:
    """Write a round's global model to a folder, with a card that says what it is."""
    from server.store.export import CARD, WEIGHTS, export_round

    there, name = opened(store, run)
    card = export_round(there, name, number, to)
    weights = to.absolute() / WEIGHTS
    if as_json:
        return print_json({"files": [str(weights), str(weights.with_name(CARD))], **card})
    lines = [
        f"Round {number} of run {name}: {card['parameters']} values, {len(card['tensors'])} tensors.",
        f"  {weights}",
        f"  {weights.with_name(CARD)}",
        "Load it with:",
        "  from pathlib import Path",
        "  from shared.model import read_model",
        f"  model = read_model(Path({str(weights)!r}), {card['digest']!r})",
    ]
    return print_lines(lines)


def _waiting(location: str, run: str) -> list[str]:
    """For whom a round of a run waits just now, where the store is a federation's folder."""
    import time

    from server.notice import read_waits
    from server.run.place import ServerPlace

    waits = None if "://" in location else read_waits(ServerPlace(Path(location)).waits, time.time())
    return [] if waits is None or waits.run != run else [f"{waits.words(time.time())}."]


# ---- printing ----


def _print_list(page: Page) -> None:
    from server.store import lines

    run, shown = page.run, page.lines
    if not run.rounds:
        return print_lines([f"Run {run.name} has no rounds yet.", *lines.ending(run)])
    print_lines([f"Run {run.name}, {run.rounds} rounds{lines.standing(run)}"])
    if not shown:
        return print_lines(["None of its rounds is such a one.", *lines.ending(run)])
    print_table(lines.COLUMNS, [lines.row(line) for line in shown], left=4)
    older = [f"Older ones: --before {shown[0].number}, or --all."] if page.older else []
    return print_lines([*older, *lines.interruptions(shown), *lines.ending(run)])


def _print_round(record: RoundRecord) -> None:
    from server.store import views

    print_lines(views.heading(record))
    if record.plants:
        print_table(views.PLANT_COLUMNS, views.plant_rows(record), left=2)
    print_lines(views.rejections(record))
    print_lines(views.details(record))
    if record.clusters is not None:
        print_lines([f"{views.figure(record.clusters.effective)} effective clusters of {len(record.clusters.mass)}"])
        print_table(views.CLUSTER_COLUMNS, views.cluster_rows(record.clusters), left=1)
        print_lines(views.alone(record.clusters))


def _print_comparison(result: Mapping[str, Any], why: str) -> None:
    from server.store import views

    sides = (f"{key} = round {result[key]['number']} ({result[key]['label']})" for key in ("a", "b"))
    print_lines([f"Run {result['run']}: {', '.join(sides)}"])
    if rows := views.metric_rows(result):
        print_table(views.METRIC_COLUMNS, rows, left=2)
    if result["weights"] is None:
        return print_lines([why])
    print_lines([f"Largest movers of {len(result['tensors'])} tensors (L2, relative to a):"])
    print_table(views.TENSOR_COLUMNS, views.tensor_rows(result, _MOVERS), left=1)
    if result["centroids"] is not None:
        moved = ", ".join(views.figure(value) for value in result["centroids"]["displacement"])
        print_lines([f"Centroids moved by {moved} radii."])
    return None
