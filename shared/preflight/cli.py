"""`crossplant preflight`: check whether a plant or the operator can start.

`shared` imports neither side: like the front door, this only knows where each side's checks live.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from shared.errors import MissingExtra
from shared.preflight.verdict import Verdict, as_json, ready

PLANT, OPERATOR = "client.preflight", "server.provision.preflight"
_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL", "skip": "skip"}

preflight_app = typer.Typer(name="preflight", add_completion=False)


@preflight_app.command()
def preflight(
    config: Annotated[Path | None, typer.Option(help="A plant's plant.toml.", metavar="FILE")] = None,
    federation: Annotated[Path | None, typer.Option(help="The operator's folder.", metavar="DIR")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Recognise the data, but do not read it whole.")] = False,
    to_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Check the clock, the network, certificates, keys, versions, disk and data, and say how to mend what is wrong.

    Exit code 0: it can start; 1: something must be mended.
    """
    if (config is None) == (federation is None):
        raise typer.BadParameter("give one of --config and --federation")
    if config is not None:
        verdicts = _checks(PLANT)(config, quick)
    elif federation is not None:
        verdicts = _checks(OPERATOR)(federation, quick)
    found = list(verdicts)
    typer.echo(json.dumps(as_json(found), indent=1)) if to_json else _print(found)
    if not ready(found):
        raise typer.Exit(1)


def _checks(module: str) -> Callable[[Path, bool], Iterable[Verdict]]:
    try:
        checks: Callable[[Path, bool], Iterable[Verdict]] = importlib.import_module(module).checks
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("client", "server", "shared"):
            raise
        raise MissingExtra(f"this check needs {error.name!r}, which is not installed.") from error
    return checks


def _print(verdicts: list[Verdict]) -> None:
    for one in verdicts:
        _say(f"{_MARKS[one.status]}  {one.name}: {one.says}")
        if one.mend and one.status in ("warn", "fail"):
            _say(f"      mend: {one.mend}")
    failed = sum(one.status == "fail" for one in verdicts)
    _say(f"{failed} of {len(verdicts)} checks failed." if failed else "Ready.")


def _say(line: str) -> None:
    """Without what a terminal would obey: a server's words may be among it."""
    typer.echo("".join(sign if sign.isprintable() else "?" for sign in line))
