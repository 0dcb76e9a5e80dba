"""`crossplant rounds`: look into a round store, compare its rounds, take a model out, say what plants score by.

Data goes to stdout; every error is a `CrossplantError`, which the front door reports. Heavy imports wait for a command.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from server.rounds_cli import change, look, prune, watch

rounds_app = typer.Typer(
    name="rounds", help="Inspect, compare and export rounds.", no_args_is_help=True, add_completion=False
)

_COMMANDS: dict[str, Callable[..., None]] = {
    "list": look.list_rounds,
    "runs": look.list_runs,
    "show": look.show_round,
    "compare": look.compare_two,
    "watch": watch.watch,
    "promote": change.promote,
    "rollback": change.rollback,
    "follow": change.follow,
    "orders": change.orders,
    "export": look.export_model,
    "prune": prune.prune,
}
for _name, _command in _COMMANDS.items():
    rounds_app.command(_name)(_command)
