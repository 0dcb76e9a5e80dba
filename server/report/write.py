"""The report as files: one page that needs nothing but a browser, and its pictures beside it where they are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from server.console.figures import amount, cut, when
from server.console.templating import environment
from server.report import tables
from server.report.advised import advised
from server.report.curves import Picture, pictures
from server.report.folder import SHARED
from server.report.material import Material
from server.report.said import summary
from shared.disk import replace_file
from shared.errors import FileTrouble, RunDirectoryInUse

GENERATOR = "crossplant report"
_MARK = f'<meta name="generator" content="{GENERATOR}">'.encode()
_HEAD = 2**16  # bytes in which the mark of an earlier report stands
_NAMES = frozenset(f"{name}.png" for name in ("loss", "plants", "auprc", "false_alarms_per_day", "participation"))


def check_places(path: Path, folder: Path | None) -> None:
    """Make sure that nothing is overwritten but what an earlier report left; before anything is read.

    Args:
        path: the HTML file.
        folder: for the pictures.

    Raises:
        FileTrouble: the file is another one.
        RunDirectoryInUse: the folder holds other files.
    """
    if path.is_dir() or (path.exists() and not _ours(path)):
        raise FileTrouble(f"{path} is there already and is no report.", "Choose another --out.")
    if folder is None or not folder.exists():
        return
    if not folder.is_dir():
        raise FileTrouble(f"{folder} is no folder.", "Choose another --png.")
    others = sorted(one.name for one in folder.iterdir() if one.name not in _NAMES)
    if others:
        cure = "Choose another --png, or an empty folder."
        raise RunDirectoryInUse(f"{folder} holds other files already, such as {others[0]!r}.", cure)


def _ours(path: Path) -> bool:
    with path.open("rb") as file:
        return _MARK in file.read(_HEAD)


def write_report(path: Path, material: Material, folder: Path | None = None) -> tuple[Path, ...]:
    """Write the page, and the pictures where a folder is given; what was written.

    Args:
        path: the HTML file to make or replace.
        material: what to report. Hostile text in it is shown as text.
        folder: for the pictures; made when it is missing.

    Raises:
        OSError: a file cannot be written. The page is written last, and whole or not at all.
    """
    drawn, written = pictures(material), []
    html = page(material, drawn)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _NAMES - {f"{picture.name}.png" for picture in drawn}:
            (folder / name).unlink(missing_ok=True)  # of an earlier report
        for picture in drawn:
            replace_file(folder / f"{picture.name}.png", picture.png)
            written.append(folder / f"{picture.name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, html)
    return (path, *written)


def page(material: Material, drawn: Sequence[Picture]) -> bytes:
    """The page, UTF-8."""
    html = environment(SHARED).get_template("page.html.j2").render(_values(material, drawn))
    return html.encode("utf-8", "replace")


def _values(material: Material, drawn: Sequence[Picture]) -> dict[str, Any]:
    return {
        "generator": GENERATOR,
        "run": cut(material.run, 80),
        "facts": tuple(_facts(material)),
        "summary": summary(material),
        "advised": advised(material),
        "pictures": drawn,
        "plants": tables.plant_table(material),
        "left_out": material.left_out,
        "results": tables.result_table(material),
        "refusals": tables.refusal_table(material),
        "halted": tables.halted_table(material),
        "orders": tables.order_table(material),
        "audit": tables.audit_table(material),
        "settings": None if material.config is None else tables.setting_table(material.config),
        "origin": tuple(_origin(material)),
    }


def _facts(material: Material) -> Iterator[tuple[str, str]]:
    info = material.page.info
    yield "Stands", info.status.value
    yield "Rounds", f"{info.rounds:,}"
    yield "Plants", amount(len(material.plants) + material.left_out, "plant")
    yield "Started", when(info.created)
    if material.page.newest is not None:
        yield "Newest round", when(material.page.newest.started)
    if material.config is not None:
        yield "Detector", material.config.recipe.detector.name
    yield "Written", when(material.made)


def _origin(material: Material) -> Iterator[tuple[str, str]]:
    """Without paths of the operator's machine, and without a database's address: the page is given away."""
    yield "Command", f"crossplant report {cut(material.run, 80)} --store STORE --out FILE"
    yield "Crossplant", material.version
    yield "Configuration digest", material.page.info.config_digest
    yield "State of the run", material.state
    newest = material.page.newest
    if newest is not None and newest.model is not None:
        yield "Newest model", newest.model
    if material.page.info.note and material.page.info.status.value != "failed":
        yield "Note", cut(material.page.info.note, 300)
