"""The front door: maps a command to the folder that owns it, lazily, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 an error the user can mend (one line on stderr that starts with its code), 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

from shared.errors import CrossplantError

INTERRUPTED = 130


class Entry(NamedTuple):
    """Where a command lives, and its line in the overview."""

    module: str
    attribute: str
    summary: str


COMMANDS: dict[str, Entry] = {
    "simulate": Entry("simulations.cli", "simulate_app", "Train across sites on this machine, measure, report."),
    "rounds": Entry("server.cli", "rounds_app", "Inspect, compare and export rounds."),
    "config": Entry("simulations.cli", "config_app", "Show the effective settings and where each came from."),
}


class FrontDoor(click.Group):
    """A command group that imports a command only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        import typer.main

        try:
            app = getattr(importlib.import_module(entry.module), entry.attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in ("client", "server", "shared", "simulations"):
                raise
            raise CrossplantError(
                f"{cmd_name!r} needs the package {error.name!r}, which is not installed.",
                "Install it with `pip install 'crossplant[simulation]'`.",
            ) from error
        return typer.main.get_command(app)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(cls=FrontDoor, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="crossplant", prog_name="crossplant")
def root() -> None:
    """Federated anomaly detection across industrial plants."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code and never raises."""
    try:
        code = root.main(args=arguments, prog_name="crossplant", standalone_mode=False)
    except click.exceptions.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CrossplantError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader went away, as `| head` does: not an error, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # The last line of defence: a user never meets a traceback.
        if os.environ.get("CROSSPLANT_DEBUG"):
            raise
        cause = f"{type(error).__name__}: {error}"
        return _fail(f"CP-000 Unexpected: {cause} Set CROSSPLANT_DEBUG=1 to see where, and please report it.")
    return code if isinstance(code, int) else 0


def _fail(line: str) -> int:
    sys.stderr.write(" ".join(line.split()) + "\n")
    return 1


def main() -> None:
    """The console command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = run()
    sys.stdout.flush()
    sys.exit(code)
