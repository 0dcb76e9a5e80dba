"""The command tree: maps a command to the folder that owns it, lazily. `shared.cli` runs it and reports errors."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click

from shared.errors import CrossplantError


class Entry(NamedTuple):
    """Where a command lives, and its line in the overview."""

    module: str
    attribute: str
    summary: str


COMMANDS: dict[str, Entry] = {
    "simulate": Entry("simulations.cli", "simulate_app", "Train across sites on this machine, measure, report."),
    "study": Entry("simulations.study_cli", "study_app", "Compare detectors on data sets; one report."),
    "rounds": Entry("server.cli", "rounds_app", "Inspect, watch, compare, promote, roll back, prune rounds."),
    "store": Entry("server.store_cli", "store_app", "Back up, restore, check and migrate a round store."),
    "audit": Entry("server.audit_cli", "audit_app", "Who changed what, and why; check the log's chain."),
    "console": Entry("server.console.cli", "console_app", "See rounds in a browser; promote, roll back; who may."),
    "report": Entry("server.report.cli", "report_app", "One HTML page of a run, to send to the people at a plant."),
    "server": Entry("server.run.cli", "server_app", "Run the coordinator; start runs on it."),
    "poc": Entry("simulations.poc_cli", "poc_app", "A whole federation on this machine, as real processes."),
    "client": Entry("client.cli", "client_app", "Run a plant; score its live data, see its alarms."),
    "provision": Entry("server.provision.cli", "provision_app", "Set up a federation; take plants in and out."),
    "bundle": Entry("shared.bundle.cli", "bundle_app", "Look into a bundle; check its signature and its files."),
    "preflight": Entry("shared.preflight.cli", "preflight_app", "Check whether a plant or the operator can start."),
    "data": Entry("simulations.data_cli", "data_app", "Check, show and list data sets; make plants to try things on."),
    "privacy": Entry("shared.privacy.cli", "privacy_app", "What leaves a plant, what a budget buys, what was spent."),
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
