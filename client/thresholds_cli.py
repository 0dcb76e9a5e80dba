"""`crossplant client thresholds`: which threshold rule suits this plant's own data."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import FileTrouble, InvalidConfig

if TYPE_CHECKING:
    from shared.thresholds.budget import Realised
    from shared.thresholds.compare import Compared

Bundle = Annotated[
    Path | None, typer.Option("--bundle", metavar="DIR", help="A bundle of the plant; default: its agent's newest.")
]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write FILE.png (a plot) or FILE.json.")]
Rate = Annotated[
    float | None, typer.Option("--rate", metavar="SHARE", help="False alarm rate to ask for; default: the recipe's.")
]
Budget = Annotated[
    float | None, typer.Option("--budget", metavar="N", help="False alarms a day to ask for, in place of a rate.")
]
_HEAD = ("rule", "value", "supported", "realised (90 % interval)", "alarms a day", "status")


def thresholds(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The plant's plant.toml.")] = Path(
        "plant.toml"
    ),
    bundle: Bundle = None,
    out: Out = None,
    rate: Rate = None,
    budget: Budget = None,
) -> None:
    """Compare all threshold rules on the plant's held-out normal data."""
    _check(out, rate, budget)
    from client.agent.config import read_plant
    from client.training import compare_thresholds as torch_side
    from client.training.tensors import resolve_device

    plant = read_plant(config)
    found, model = torch_side.material(plant, bundle, resolve_device(plant.config.agent.device))
    asked = torch_side.settings(model, found, rate, budget)
    rows = torch_side.compared(found, model, asked)
    lacking = torch_side.lacking(found, rows[0], asked.false_alarm_rate)
    typer.echo("\n".join(_report(rows, asked.false_alarm_rate, lacking)))
    if out is not None and out.suffix == ".json":
        _write_json(out, rows, asked.false_alarm_rate, lacking)
    elif out is not None:
        torch_side.write_plot(out, found, rows)


def _check(out: Path | None, rate: float | None, budget: float | None) -> None:
    """Refuse what cannot be meant, before anything is read."""
    if out is not None and out.suffix not in (".png", ".json"):
        raise InvalidConfig(f"--out {out} is neither a .png nor a .json file.", "Give a name that ends so.")
    if rate is not None and not 0 < rate < 1:
        raise InvalidConfig(f"--rate {rate:g} is no share of windows.", "Give a number between 0 and 1.")
    if budget is not None and not 0 < budget < math.inf:
        raise InvalidConfig(f"--budget {budget:g} is no number of alarms a day.", "Give a number above 0.")
    if rate is not None and budget is not None:
        raise InvalidConfig("--rate and --budget contradict each other.", "Give one of them.")


def _report(rows: list[Compared], rate: float, lacking: float) -> list[str]:
    first = rows[0].threshold
    body = [_cells(row) for row in rows]
    head = (*_HEAD, "LABELLED: events found", "LABELLED: false a day") if rows[0].found else _HEAD
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in body]
    title = "  ".join(cell.ljust(width) for cell, width in zip(head, widths, strict=True)).rstrip()
    return [_about(first.calibration_size, first.effective_size, rate, lacking), "", title, *lines, "", *_notes(rows)]


def _about(size: int, effective: float, rate: float, lacking: float) -> str:
    worth = f"{size:,} held-out normal windows, worth {effective:,.0f} independent ones; asked: a rate of {rate:.3g}"
    if lacking == 0:
        return f"{worth}, which they carry."
    return f"{worth}, which they do not carry: about {lacking:,.1f} hours more of normal operation are wanted."


def _cells(row: Compared) -> tuple[str, ...]:
    threshold = row.threshold
    unseen = row.moving or row.unseen
    supported = "-" if threshold.supported_rate is None else f"{threshold.supported_rate:.3g}"
    found = () if row.found is None else (_share(row.found.event_recall), f"{row.found.alarms_a_day:.1f}")
    modes = f" ({len(threshold.by_mode)} modes)" if threshold.by_mode else ""
    value = f"{threshold.value:.5g}{modes}"
    realised, alarms = ("-", "-") if unseen is None else (_realised(unseen), _alarms(unseen))
    return (threshold.rule, value, supported, realised, alarms, threshold.status, *found)


def _realised(found: Realised) -> str:
    return f"{found.rate:.3g} ({_number(found.rate_low)} to {_number(found.rate_high)})"


def _alarms(found: Realised) -> str:
    return f"{found.alarms_a_day:.1f} ({_number(found.alarms_low)} to {_number(found.alarms_high)})"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


def _number(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.3g}"


def _notes(rows: list[Compared]) -> list[str]:
    about = (
        "realised, alarms: set on the first half, counted in the second, adaptive ones in motion.",
        "LABELLED: on the plant's test data, at the value set on normal data alone." if rows[0].found else "",
    )
    weak: dict[str, list[str]] = {}
    for row in rows:
        if row.threshold.note:
            weak.setdefault(row.threshold.note, []).append(row.threshold.rule)
    return [*(line for line in about if line), *(f"{', '.join(names)}: {note}" for note, names in weak.items())]


def _write_json(path: Path, rows: list[Compared], rate: float, lacking: float) -> None:
    from shared.disk import replace_file

    content = {"asked": rate, "hours_lacking": lacking, "rules": [_row(row) for row in rows]}
    try:
        replace_file(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise FileTrouble(f"{path} cannot be written: {error.strerror or error}.") from error


def _row(row: Compared) -> dict[str, Any]:
    parts = {"unseen": row.unseen, "moving": row.moving, "found": row.found}
    return {"threshold": row.threshold.as_dict(), **{name: _plain(part) for name, part in parts.items()}}


def _plain(part: Any) -> dict[str, Any] | None:
    if part is None:
        return None
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(part).items()
    }
