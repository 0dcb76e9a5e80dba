"""What to do next: a short list, the most pressing first, each with the way to do it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from server.console.advice import advise
from server.console.figures import cut
from server.report.changes import changes
from server.report.material import Material
from server.report.said import names
from server.store.rows import RunStatus

_MOST = 12
_MISSED = 3  # rounds in a row from which a plant is named
_NEARLY = 0.8  # share of a privacy budget


class Advised(NamedTuple):
    """Something to do: what, and how."""

    what: str
    how: str


def advised(material: Material) -> tuple[Advised, ...]:
    """At most a dozen; one that says that there is nothing, if there is nothing."""
    found = [
        *_run(material), *_certificates(material), *_plants(material), *_privacy(material), *_worse(material),
        *_thresholds(material),
    ]  # fmt: skip
    return tuple(found[:_MOST]) or (Advised("Nothing needs to be done.", ""),)


def _run(material: Material) -> Iterator[Advised]:
    status = material.page.info.status
    if status is RunStatus.FAILED:
        yield Advised("Mend what made the run fail, and go on with it.", "`crossplant server resume-run` continues it.")
    if status is RunStatus.INTERRUPTED:
        yield Advised("The run was interrupted; it can go on where it stopped.", "`crossplant server resume-run`.")
    if material.live.tone == "warn" and status is RunStatus.RUNNING:
        yield Advised(f"{material.live.title}: look whether the coordinator runs.", material.live.told)
    for order in material.orders:
        if order.state.value == "open":
            yield Advised(f"{order.label.capitalize()} waits to be carried out.", "It takes a round of the run.")


def _certificates(material: Material) -> Iterator[Advised]:
    for plant, one in material.certificates.items():
        if one.told:
            yield Advised(f"{cut(plant, 60)}: its certificate.", one.told)


def _plants(material: Material) -> Iterator[Advised]:
    """Plants that are missing, or that counted in none of their last rounds, with the cure for the newest reason."""
    for line in material.plants:
        missed = line.last_round - (line.seen_round or 0)
        if line.last_reason is not None and missed >= _MISSED:
            found = advise(line.last_reason)
            yield Advised(
                f"{cut(line.plant, 60)} has not counted in the last {missed:,} rounds ({found.kind}).", found.cure
            )


def _privacy(material: Material) -> Iterator[Advised]:
    for balance in material.balances:
        if balance.budget and balance.epsilon >= _NEARLY * balance.budget:
            share = f"{100 * balance.epsilon / balance.budget:.0f} %"
            yield Advised(
                f"{cut(balance.plant, 60)} has spent {share} of its privacy budget.",
                "Plan what is left: when it is spent, the plant takes part in no private round any more.",
            )


def _worse(material: Material) -> Iterator[Advised]:
    worse = [plant for plant, change in changes(material.losses).items() if change.verdict == "worse"]
    if worse:
        yield Advised(
            f"The newest model fits {names(worse)} worse than the first one.",
            "Look at the data there. `crossplant rounds compare` shows when it began, `rounds rollback` goes back.",
        )


def _thresholds(material: Material) -> Iterator[Advised]:
    weak = [site.name for site in material.results.sites if site.threshold == "weak"] if material.results else []
    if weak:
        yield Advised(
            f"Too little normal data for the promised rate of false alarms: {names(weak)}.",
            "Keep more normal operation apart for calibration; alarms are raised meanwhile all the same.",
        )
