"""The report of a run: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from server.report.canvas import Drawing, house_style
from server.report.folder import SHARED
from shared.disk import replace_file
from shared.metrics.summary import Evaluation
from simulations.evaluate import SiteResult
from simulations.report import privacy, reproduce, tables
from simulations.report.given import given_table, given_words
from simulations.report.losses import losses
from simulations.report.material import SHOWN, Material
from simulations.report.movement import clusters
from simulations.report.sites import ranking, timeline
from simulations.report.summary import sentences, tiles, warnings
from simulations.report.words import count, duration, number, percent

_TEMPLATE = "template.html.j2"
_OPEN_SITES, _OPEN_ROUNDS = 6, 40  # up to so many are shown unfolded


@dataclass(frozen=True)
class _Site:
    """One site's timeline: its anchor, a line of figures, the drawing (None: there is no score)."""

    anchor: str
    name: str
    group: str
    figures: str
    drawing: Drawing | None


def write_report(path: Path, material: Material) -> None:
    """Write a run's report, atomically.

    Args:
        path: the HTML file to make or replace; its folder exists.
        material: what to report. Hostile text in it is shown as text.

    Raises:
        OSError: the file cannot be written.
    """
    with house_style():
        page = _page(material)
    html = environment().get_template(_TEMPLATE).render(page)
    replace_file(path, html.encode("utf-8", "replace"))


def environment(*folders: Path) -> Environment:
    """Templates of some folders, and of this one; what they are given is text and never markup."""
    return Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _page(material: Material) -> dict[str, Any]:
    given, left = tables.setting_tables(material.config, material.origin)
    return {
        "run": material.run,
        "facts": tuple(_facts(material)),
        "tiles": tiles(material) if material.measured else (),
        "summary": sentences(material),
        "warnings": warnings(material),
        "privacy": _privacy(material),
        "no_loss": _no_loss(material.config.recipe.privacy.mode),
        "shares": given_table(material.given) if material.given else None,
        "shares_words": given_words(material.given) if material.given else "",
        "sites": tables.site_table(material),
        "ranking": ranking(material),
        "timelines": tuple(_timelines(material)),
        "open_sites": len(material.results) <= _OPEN_SITES,
        "not_drawn": max(0, len(material.results) - SHOWN),
        "thresholds": tables.threshold_table(material.results),
        "losses": losses(material.records, _loss_noise(material)),
        "clusters": clusters(material.records, noised=material.config.recipe.privacy.on),
        "replies": _replies(material),
        "rounds": tables.round_table(material.records),
        "halted": tables.round_table(material.halted),
        "open_rounds": len(material.records) <= _OPEN_ROUNDS,
        "notes": tuple(material.notes),
        "given": given,
        "left": left,
        "preset": reproduce.preset(material.config),
        "versions": reproduce.versions(),
        "digest": material.config.digest,
    }


def _privacy(material: Material) -> dict[str, Any] | None:
    """The section on differential privacy; None for a run that claims none."""
    spent = material.spent
    if spent is None:
        return None
    claim = spent.claim
    return {
        "claim": claim.text if claim else "Nothing was released.",
        "whose": privacy.whose(spent),
        "terms": privacy.terms(claim) if claim else (),
        "plants": privacy.plant_table(spent),
        "course": privacy.course(spent, material.records),
        "noise": privacy.noise_table(spent),
        "left_out": privacy.left_out_table(spent.left_out),
    }


def _loss_noise(material: Material) -> float:
    return privacy.loss_noise(material.spent, material.config.recipe.privacy) if material.spent else 0.0


def _no_loss(mode: str) -> str:
    """Why there is no chart of losses."""
    if mode == "none":
        return "No round reported a loss."
    return "Under differential privacy no round told a loss: each would be a release that no budget is kept for."


def _facts(material: Material) -> Iterator[tuple[str, str]]:
    data, rounds = material.config.data, len(material.records)
    spent = sum(record.seconds for record in material.records)
    yield "Data set", f"{data.dataset}, {data.partition}" if data.partition else data.dataset
    yield "Sites", f"{len(material.results):,}, {len(material.measured):,} of them measured"
    yield "Rounds", f"{rounds:,} finished" + (f", {len(material.halted)} not committed" if material.halted else "")
    resumed = ", this session" if spent > material.seconds else ""
    yield "Duration", f"{duration(material.seconds)}{resumed}; rounds {duration(spent)}"
    yield "Detector", f"{material.config.recipe.detector.name}, seed {material.config.seed}"
    claim = material.spent.claim if material.spent else None
    if claim is not None:
        yield "Privacy", f"epsilon {claim.epsilon:g}, delta {claim.delta:g}, for each {claim.unit.removeprefix('one ')}"
    yield "Written", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _replies(material: Material) -> str:
    asked = sum(len(record.plants) for record in material.records)
    rejected = sum(len(record.rejected) for record in material.records)
    halted = f"{count(len(material.halted), 'round')} did not commit" if material.halted else "every round committed"
    return f"{count(asked, 'reply', 'replies')} asked for, {rejected:,} missing or rejected; {halted}."


def _timelines(material: Material) -> Iterator[_Site]:
    for i, result in enumerate(material.results[:SHOWN]):
        drawing = timeline(result, i, len(material.results))
        yield _Site(f"site-{i}", result.site, result.group, _line(result, result.evaluation), drawing)


def _line(result: SiteResult, found: Evaluation | None) -> str:
    if found is None:
        return "no labelled test data" if result.test_rows else "no test data"
    return (
        f"AUPRC {number(found.auprc)} (random {number(found.anomaly_share)}), {percent(found.event_recall)} of "
        f"{count(found.events, 'event')} noticed, {number(found.false_alarms_per_day, 1)} false alarms a day, "
        f"{percent(found.false_alarm_share)} of the normal rows alarmed"
    )
