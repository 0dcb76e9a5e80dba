"""`crossplant client thresholds`: which threshold rule suits this plant's own data."""

from __future__ import annotations

import json
import math
import textwrap
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
COLUMNS = 80
_HEAD = ("rule", "value", "promised", "alarmed", "alarms a day")  # `*`: weak
_FOUND_HEAD = ("rule", "LABELLED: events found", "LABELLED: false a day")
_ALONE = (
    "scores: by a judge of this plant's rows alone. The bundle's was lent other plants' moments, which are not kept: "
    "its threshold is another one than that of the same rule here."
)
_LABELLED = "LABELLED: on the plant's test data, at the value set on normal data alone; no rule looks at labels."


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
    typer.echo("\n".join(_report(rows, asked.false_alarm_rate, lacking, found.alone)))
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


def _report(rows: list[Compared], rate: float, lacking: float, alone: bool) -> list[str]:
    """Lines of at most 80 columns."""
    first = rows[0].threshold
    about = _about(first.calibration_size, first.effective_size, rate, lacking)
    body = [_cells(row) for row in rows]
    labelled = ["", *_wrapped(_LABELLED), "", *_table(_FOUND_HEAD, [_found(row) for row in rows])]
    return [
        *_wrapped(about),
        "",
        *_table(_HEAD, body),
        "",
        *(line for note in (*_notes(rows), *([_ALONE] if alone else [])) for line in _wrapped(note)),
        *(labelled if rows[0].found else ()),
    ]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    aligned = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in (head, *body))
    return ["  ".join(line).rstrip() for line in aligned]


def _about(size: int, effective: float, rate: float, lacking: float) -> str:
    worth = f"{size:,} normal windows, worth {effective:,.0f} independent ones; asked: a rate of {rate:.3g}"
    if lacking == 0:
        return f"{worth}, which they carry."
    return f"{worth}, which they do not carry: about {lacking:,.1f} hours more of normal operation are wanted."


def _cells(row: Compared) -> tuple[str, ...]:
    threshold = row.threshold
    unseen = row.moving or row.unseen
    promised = "-" if threshold.supported_rate is None else f"{threshold.supported_rate:.2g}"
    realised, alarms = ("-", "-") if unseen is None else (_realised(unseen), _alarms(unseen))
    return (_name(row), f"{threshold.value:.4g}", promised, realised, alarms)


def _name(row: Compared) -> str:
    return f"{row.threshold.rule}{' *' if row.threshold.status == 'weak' else ''}"


def _found(row: Compared) -> tuple[str, ...]:
    found = row.found
    events, alarms = ("-", "-") if found is None else (_share(found.event_recall), f"{found.alarms_a_day:.1f}")
    return (_name(row), events, alarms)


def _realised(found: Realised) -> str:
    return f"{found.rate:.2g} ({_number(found.rate_low)} to {_number(found.rate_high)})"


def _alarms(found: Realised) -> str:
    return f"{found.alarms_a_day:.1f} ({_number(found.alarms_low)} to {_number(found.alarms_high)})"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


def _number(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.2g}"


def _notes(rows: list[Compared]) -> list[str]:
    modes = [f"{row.threshold.rule} ({len(row.threshold.by_mode)})" for row in rows if row.threshold.by_mode]
    weak: dict[str, list[str]] = {}
    for row in rows:
        if row.threshold.note:
            weak.setdefault(row.threshold.note, []).append(row.threshold.rule)
    return [
        "promised: the share of new normal windows that the value alarms at most, if they are as the old ones.",
        "alarmed, alarms a day: of normal windows; set on the first half, counted in the second, adaptive ones in "
        "motion, with their 90 % intervals.",
        *(
            [f"one value for each operating mode, of which the common one is shown: {', '.join(modes)}."]
            if modes
            else []
        ),
        *(f"* {', '.join(names)}: {note}" for note, names in weak.items()),
    ]


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
