"""`crossplant privacy`: what leaves a plant, what a budget buys, and what was spent."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.errors import InvalidConfig, LedgerBroken

privacy_app = typer.Typer(
    name="privacy", no_args_is_help=True, add_completion=False, help="What leaves a plant, and what was spent."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
_WIDTH = 80


@privacy_app.command("inventory")
def inventory(as_json: AsJson = False) -> None:
    """Every field of every message: what it tells, and what protects it."""
    from shared.privacy.tables import beside, inventory_rows, inventory_text

    if as_json:
        return typer.echo(json.dumps({"fields": inventory_rows(), "beside": beside()}, indent=2))
    return typer.echo(inventory_text())


@privacy_app.command("plan")
def plan(
    epsilon: Annotated[float, typer.Option(help="Budget of the whole run, for each record.")],
    delta: Annotated[float, typer.Option(help="At most a tenth of one in the number of records.")] = 1e-5,
    rounds: Annotated[int, typer.Option(min=1, max=100_000, help="Training rounds.")] = 150,
    statistics: Annotated[int, typer.Option(min=0, max=100_000, help="Cluster exchanges.")] = 23,
    segments: Annotated[int, typer.Option(min=1, help="Records of the smallest plant.")] = 6_000,
    plants: Annotated[int, typer.Option(min=1, max=10_000, help="Plants that take part.")] = 3,
    unit: Annotated[str, typer.Option(help="A record: so many samples, or a time such as 10min or 8h.")] = "60",
    period: Annotated[float, typer.Option(help="Seconds between samples.")] = 1.0,
    sampling: Annotated[float, typer.Option(help="Chance of a record to be in a training exchange.")] = 0.1,
    values: Annotated[int, typer.Option(min=1, help="Weights of the network: hidden 32, 51 tags.")] = 64_000,
    dp: Annotated[str, typer.Option("--dp", help="local: plants add noise; central: the coordinator does.")] = "local",
    as_json: AsJson = False,
) -> None:
    """What a budget buys: noise, cost and signal of each release. Nothing is spent."""
    from shared.privacy.buys import Question, answer

    asked = Question(epsilon, delta, rounds, statistics, segments, plants, unit, period, sampling, values, dp)
    found = answer(asked)
    typer.echo(json.dumps(found.as_dict(), indent=2, allow_nan=False) if as_json else found.text)


@privacy_app.command("ledger")
def ledger(
    store: Annotated[Path, typer.Option("--store", metavar="DIR", help="A run folder, or a plant's home.")],
    as_json: AsJson = False,
) -> None:
    """What every plant has spent, and the claim that follows, to be quoted. Reads only."""
    from shared.privacy.claim import claim

    balances = [_balance(folder) for folder in ledger_folders(store)]
    if as_json:
        plants = [_entry(balance) | {"claim": claim(balance).as_dict()} for balance in balances]
        return typer.echo(json.dumps({"plants": plants}, indent=2, allow_nan=False))
    return typer.echo("\n\n".join(_account(balance, claim(balance).text) for balance in balances))


def ledger_folders(store: Path) -> list[Path]:
    """Folders of the ledgers below a run folder or a plant's home, by name.

    Raises:
        LedgerBroken: there is none.
        InvalidConfig: no folder.
    """
    if not store.is_dir():
        raise InvalidConfig(f"there is no folder {store}.", "Give --store the folder of a run, or a plant's home.")
    home = store / "privacy"
    folders = sorted(path for path in home.iterdir() if path.is_dir()) if home.is_dir() else []
    if not folders:
        cause = f"{store} holds no privacy ledger: no run in it claimed differential privacy."
        raise LedgerBroken(
            cause, "Give the folder of a run with --epsilon, or the home of a plant that took part in one."
        )
    return folders


def _balance(folder: Path) -> Any:
    from shared.privacy.ledger import read_balance

    return read_balance(folder)


def _entry(balance: Any) -> dict[str, Any]:
    """A balance as JSON; plant, epsilon, delta and unit are frozen names."""
    return {
        "plant": balance.plant,
        "epsilon": balance.epsilon,
        "delta": balance.delta,
        "unit": balance.unit,
        "budget": balance.budget,
        "releases": balance.releases,
        "torn": balance.torn,
        "by_purpose": balance.by_purpose,
        "sampling": list(balance.sampling),
        "runs": balance.runs,
        "since": balance.since,
        "until": balance.until,
        "digest": balance.digest,
    }


def _account(balance: Any, text: str) -> str:
    """One plant's ledger, within 80 columns."""
    from shared.privacy.tables import printable

    if not balance.releases:
        return f"{printable(balance.plant)}: nothing was released."
    budget = "" if balance.budget is None else f" of {balance.budget:g}"
    parts = ", ".join(f"{purpose} {spent:.3f}" for purpose, spent in balance.by_purpose.items())
    torn = f", {balance.torn} torn lines counted as the costliest" if balance.torn else ""
    lines = [
        f"{printable(balance.plant)}: epsilon {balance.epsilon:.3f}{budget} at delta {balance.delta:g}, "
        f"for each {balance.unit.removeprefix('one ')}",
        f"  {balance.releases:,} releases in {balance.runs} run{'s' * (balance.runs != 1)}, "
        f"{balance.since} to {balance.until}{torn}",
        f"  alone, the releases of each kind would cost epsilon: {parts}",
        f"  newest line {balance.digest}",
    ]
    kept = [piece for line in lines for piece in textwrap.wrap(printable(line), _WIDTH, subsequent_indent="    ")]
    return "\n".join([*kept, "", *textwrap.wrap(printable(text), _WIDTH)])
