"""`crossplant client alarms`: what stands, and what people do about it. All of it goes through the state folder."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.edge.alarm_values import Alarm, AlarmState, Order

StateDir = Annotated[Path, typer.Option("--state", metavar="DIR", help="The scorer's state folder.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who you are; it is kept with the alarm.")]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why.")]

_HERE = Path("edge")
_WAIT_S = 5.0  # a running scorer takes orders every second
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

alarms_app = typer.Typer(
    name="alarms",
    help="See, acknowledge and shelve the alarms of a scorer.",
    no_args_is_help=True,
    add_completion=False,
)


@alarms_app.command("list")
def list_(
    state: StateDir = _HERE, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """The alarm that stands, those that nobody has acknowledged, and what is shelved."""
    found = _state(state)
    if as_json:
        typer.echo(found.json.decode())
        return
    typer.echo(f"{found.standing}{'' if found.known else ', but no readings arrive'}")
    for alarm in found.listed:
        typer.echo(_line(alarm))
    for shelf in found.shelves:
        end = "out of service" if shelf.until is None else f"shelved until {_clock(shelf.until)}"
        typer.echo(f"{shelf.tag}  {end}, by {shelf.by}: {shelf.note}; {shelf.held} alarms held back")


@alarms_app.command("ack")
def ack(
    name: Annotated[str, typer.Argument(metavar="ID", help="Of an alarm, or of an incident: all of its alarms.")],
    by: By,
    note: Note = "",
    state: StateDir = _HERE,
) -> None:
    """Say that somebody has seen an alarm."""
    from client.edge.alarm_values import Ack
    from shared.errors import UnknownName

    listed = _state(state).listed
    known = [a.id for a in listed if a.id] + list(dict.fromkeys(a.incident for a in listed if a.incident))
    if name not in known:
        raise UnknownName("alarm", name, known or ["none, for there is no alarm"])
    _order(state, Ack(name, by, note))


@alarms_app.command("shelve")
def shelve(
    tag: Annotated[str, typer.Argument(metavar="TAG|ALL", help="A tag of the plant, or ALL.")],
    by: By,
    note: Note,
    for_: Annotated[str, typer.Option("--for", metavar="2h", help="How long: 90s, 30m, 2h, 1d.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Until when, as 2026-11-22T18:00Z.")] = "",
    state: StateDir = _HERE,
) -> None:
    """Raise no alarm because of a tag for a while; all others go on."""
    from client.edge.alarm_values import Shelve
    from shared.errors import InvalidConfig

    if bool(for_) == bool(until):
        raise InvalidConfig("a shelf needs an end.", "Give --for or --until, one of them.")
    _order(state, Shelve(tag, by, note, _seconds(for_) if for_ else None, _moment("--until", until) if until else None))


@alarms_app.command("unshelve")
def unshelve(
    tag: Annotated[str, typer.Argument(metavar="TAG|ALL", help="As it was shelved.")],
    by: By,
    note: Note = "",
    state: StateDir = _HERE,
) -> None:
    """End a shelf before its time, or put a tag back in service."""
    from client.edge.alarm_values import Unshelve

    _order(state, Unshelve(tag, by, note))


@alarms_app.command("out-of-service")
def out_of_service(
    tag: Annotated[str, typer.Argument(metavar="TAG", help="A tag of the plant.")],
    by: By,
    note: Note,
    state: StateDir = _HERE,
) -> None:
    """Raise no alarm because of a tag until `unshelve`: it is being repaired."""
    from client.edge.alarm_values import Shelve

    _order(state, Shelve(tag, by, note))


@alarms_app.command("confirm-normal")
def confirm_normal(
    by: By,
    first: Annotated[str, typer.Option("--from", metavar="TIME", help="Its begin, as 2026-11-22T08:00Z.")],
    last: Annotated[str, typer.Option("--to", metavar="TIME", help="Its end.")],
    note: Note = "",
    state: StateDir = _HERE,
) -> None:
    """Say that the plant ran normally between two times: the threshold may follow what was scored then."""
    from client.edge.alarm_values import Confirm
    from shared.errors import InvalidConfig

    begin, end = _moment("--from", first), _moment("--to", last)
    if not begin < end:
        raise InvalidConfig(f"--to {last} is not after --from {first}.", "Give the earlier time first.")
    _order(state, Confirm(begin, end, by, note))


def _state(folder: Path) -> AlarmState:
    from client.edge.alarm_files import ORDERS, STATE, read_state
    from shared.errors import FileTrouble

    if not (folder / ORDERS).is_dir():
        raise FileTrouble(f"{folder} is no state folder of a scorer.", "Give it as --state DIR.")
    try:
        return read_state(folder)
    except ValueError as error:
        cure = "The scorer writes it anew at its next alarm."
        raise FileTrouble(f"{folder / STATE} cannot be read: {error}.", cure) from error


def _order(folder: Path, order: Order) -> None:
    from client.edge.alarm_files import place_order
    from shared.errors import InvalidConfig

    try:
        path = place_order(folder, order)
    except ValueError as error:
        raise InvalidConfig(f"this is no order: {error}.", "Give --by and --note in plain text.") from error
    ends = time.monotonic() + _WAIT_S
    while path.exists() and time.monotonic() < ends:
        time.sleep(0.05)
    if path.exists():
        typer.echo("waits in the state folder: no scorer has taken it yet", err=True)
    else:
        typer.echo("taken; `crossplant client alarms list` and the scorer's notices say what came of it", err=True)


def _line(alarm: Alarm) -> str:
    """Three short lines: which alarm, what and by which model, and how far above the thresholds."""
    tags = ", ".join(f"{part.tag} {'+-'[part.direction < 0]}{part.share:.0%}" for part in alarm.sensors[:3])
    what = alarm.state if alarm.kind == "alarm" else f"{alarm.kind}, {alarm.state}"
    who = f" by {alarm.acked_by}" if alarm.acked_by else ""
    figures = f"score {_against(alarm.score, alarm.threshold)}, p {alarm.p_value:.2g}"
    guard, limit = alarm.guard, alarm.guard_threshold
    beside = "" if guard is None or limit is None else f"; guard {_against(guard, limit)}"
    head = f"{alarm.id or '-'}  {what}{who}  since {_clock(alarm.raised)}"
    return f"{head}\n    {tags}  ({', '.join(alarm.by)})\n    {figures}{beside}"


def _against(value: float, threshold: float) -> str:
    """A figure against its threshold: an alarm of one model says nothing about the other's."""
    return f"{value:.3g} {'>' if value > threshold else '<='} {threshold:.3g}"


def _clock(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{at:g}"


def _seconds(text: str) -> float:
    """Seconds of `90s`, `30m`, `2h`, `1d`.

    Raises:
        InvalidConfig: it is none of these.

    Example:
        >>> _seconds("2h")
        7200.0
    """
    from shared.errors import InvalidConfig

    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not number.replace(".", "", 1).isascii() or not number.replace(".", "", 1).isdigit():
        raise InvalidConfig(f"--for {text!r:.80} is no time.", "Write 90s, 30m, 2h or 1d.")
    seconds = float(number) * unit
    if not 0 < seconds < math.inf:  # An infinite one is `null` in JSON, and `null` is out of service for ever.
        raise InvalidConfig(f"--for {text!r:.80} never ends, or ends at once.", "Write 90s, 30m, 2h or 1d.")
    return seconds


def _moment(option: str, text: str) -> float:
    """Seconds since 1970 of an ISO time; one without a zone is of this machine's.

    Raises:
        InvalidConfig: it is none.

    Example:
        >>> _moment("--to", "1970-01-02T00:00Z")
        86400.0
    """
    from shared.errors import InvalidConfig

    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidConfig(f"{option} {text!r} is no time.", "Write it as 2026-11-22T18:00Z.") from error
