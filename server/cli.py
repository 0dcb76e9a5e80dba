"""`crossplant rounds`: look into a round store, compare its rounds, take a model out.

Data goes to stdout; every error is a `CrossplantError`, which the front door reports. Heavy imports wait for a command.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from server.rounds import RoundRecord
    from server.store.rows import RunInfo
    from server.store.store import RoundStore

Store = Annotated[str, typer.Option("--store", metavar="DIR|URL", help="A run folder, or a database URL.")]
Run = Annotated[str | None, typer.Option("--run", metavar="NAME", help="Which run; default: the newest.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Number = Annotated[int, typer.Argument(metavar="N", min=1, help="Round number, from 1.")]
_MOVERS = 10

rounds_app = typer.Typer(
    name="rounds", help="Inspect, compare and export rounds.", no_args_is_help=True, add_completion=False
)


@rounds_app.command("list")
def list_rounds(store: Store, run: Run = None, as_json: AsJson = False) -> None:
    """One line a round."""
    from server.store import views

    opened, name = _open(store, run)
    records, info = opened.rounds(name), opened.run(name)
    if as_json:
        return _print_json({"run": views.run_entry(info), "rounds": [views.list_entry(record) for record in records]})
    _print_list(info, records)
    return _print_lines(_waiting(store, name))


@rounds_app.command("show")
def show_round(number: Number, store: Store, run: Run = None, as_json: AsJson = False) -> None:
    """One round: its plants, what each reported, why one did not count, and the clusters."""
    from server.store import views

    opened, name = _open(store, run)
    record, info = opened.round(name, number), opened.run(name)
    if as_json:
        return _print_json(views.show_entry(record) | {"of": views.run_entry(info)})
    _print_round(record)
    return _print_lines(views.ending(info))


@rounds_app.command("compare")
def compare_two(
    a: Annotated[int, typer.Argument(metavar="A", min=1, help="Round number, from 1.")],
    b: Annotated[int, typer.Argument(metavar="B", min=1, help="Another one.")],
    store: Store,
    run: Run = None,
    as_json: AsJson = False,
) -> None:
    """Two rounds: metrics, plants, and how far their models are apart."""
    from server.store.compare import compare_models, compare_rounds

    opened, name = _open(store, run)
    record_a, record_b = opened.round(name, a), opened.round(name, b)
    result = compare_rounds(record_a, record_b) | {"weights": None, "tensors": [], "unmatched": [], "centroids": None}
    if record_a.model and record_b.model:
        result |= compare_models(opened.model(name, a), opened.model(name, b))
    return _print_json(result) if as_json else _print_comparison(result)


@rounds_app.command("export")
def export_model(
    number: Number,
    store: Store,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A folder; made when it is missing.")],
    run: Run = None,
    as_json: AsJson = False,
) -> None:
    """Write a round's global model to a folder, with a card that says what it is."""
    from server.store.export import CARD, WEIGHTS, export_round

    opened, name = _open(store, run)
    card = export_round(opened, name, number, to)
    weights = to.absolute() / WEIGHTS
    if as_json:
        return _print_json({"files": [str(weights), str(weights.with_name(CARD))], **card})
    lines = [
        f"Round {number} of run {name}: {card['parameters']} values, {len(card['tensors'])} tensors.",
        f"  {weights}",
        f"  {weights.with_name(CARD)}",
        "Load it with:",
        "  from pathlib import Path",
        "  from shared.model import read_model",
        f"  model = read_model(Path({str(weights)!r}), {card['digest']!r})",
    ]
    return _print_lines(lines)


def _open(location: str, run: str | None) -> tuple[RoundStore, str]:
    from server.store.store import RoundStore

    store = RoundStore.open(location, look=True)
    return store, run if run is not None else store.newest_run()


def _waiting(location: str, run: str) -> list[str]:
    """For whom a round of a run waits just now, where the store is a federation's folder."""
    import time

    from server.notice import read_waits
    from server.run.place import ServerPlace

    waits = None if "://" in location else read_waits(ServerPlace(Path(location)).waits, time.time())
    return [] if waits is None or waits.run != run else [f"{waits.words(time.time())}."]


# ---- printing ----


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def _print_lines(lines: Iterable[str]) -> None:
    from server.store.views import plain

    for line in lines:
        typer.echo(plain(line))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
    """A table whose first `left` columns are words, the others figures. Cells are text, never markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(markup=False, emoji=False, highlight=False).print(table)


def _print_list(info: RunInfo, records: Sequence[RoundRecord]) -> None:
    from server.store import views

    if not records:
        return _print_lines([f"Run {info.name} has no rounds yet.", *views.ending(info)])
    _print_lines([f"Run {info.name}, {len(records)} rounds{views.standing(info)}"])
    _print_table(views.LIST_COLUMNS, views.list_rows(records), left=4)
    return _print_lines([*views.interruptions(records), *views.ending(info)])


def _print_round(record: RoundRecord) -> None:
    from server.store import views

    _print_lines(views.heading(record))
    if record.plants:
        _print_table(views.PLANT_COLUMNS, views.plant_rows(record), left=2)
    _print_lines(views.rejections(record))
    if details := views.detail_rows(record):
        _print_table(views.DETAIL_COLUMNS, details, left=3)
    if record.clusters is not None:
        _print_lines([f"{views.figure(record.clusters.effective)} effective clusters of {len(record.clusters.mass)}"])
        _print_table(views.CLUSTER_COLUMNS, views.cluster_rows(record.clusters), left=1)
        _print_lines(views.alone(record.clusters))


def _print_comparison(result: dict[str, Any]) -> None:
    from server.store import views

    sides = (f"{key} = round {result[key]['number']} ({result[key]['label']})" for key in ("a", "b"))
    _print_lines([f"Run {result['run']}: {', '.join(sides)}"])
    _print_table(views.METRIC_COLUMNS, views.metric_rows(result), left=2)
    if result["weights"] is None:
        return _print_lines(["One of the two rounds has no model."])
    _print_lines([f"Largest movers of {len(result['tensors'])} tensors (L2, relative to a):"])
    _print_table(views.TENSOR_COLUMNS, views.tensor_rows(result, _MOVERS), left=1)
    if result["centroids"] is not None:
        moved = ", ".join(views.figure(value) for value in result["centroids"]["displacement"])
        _print_lines([f"Centroids moved by {moved} radii."])
    return None
