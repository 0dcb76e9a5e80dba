"""What a person sees while a simulation runs: bars over the run and the round, a line a round, a table at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from server.phases import Step
from server.rounds import RoundRecord, Status
from shared.metrics.summary import macro
from simulations.evaluate import SiteResult, evaluations, pooled_evaluation


class RichObserver:
    """Progress bars on a terminal; one line a round elsewhere.

    Args:
        console: where to.
        done: steps of the plan that are behind the run.
        plan: of the run.
    """

    def __init__(self, console: Console, done: int, plan: Sequence[Step]) -> None:
        self._console, self._done, self._plan = console, done, plan
        self._progress = Progress(
            TextColumn("{task.description}", style="bold"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._run = self._progress.add_task("rounds", total=len(plan), completed=done, note="")
        self._plants = self._progress.add_task("plants", total=None, note="", visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def round_started(self, number: int, step: Step, plants: int) -> None:
        note = f"{step.phase.value}: {step.label}"
        self._progress.reset(self._plants, total=plants, description=f"round {number}", note=note, visible=True)

    def round_waits(self, number: int, plants: Sequence[str], waited_s: float, left_s: float) -> None:
        note = f"waits for {', '.join(plants[:3])}{', ...' if len(plants) > 3 else ''}"
        self._progress.update(self._plants, note=escape(note))

    def reply_received(self, plant: str) -> None:
        self._progress.advance(self._plants)

    def round_finished(self, record: RoundRecord) -> None:
        if record.status is Status.COMMITTED:
            self._done = done_after(record, self._done, self._plan)
            self._progress.update(self._run, completed=self._done)
        self._console.print(round_line(record), highlight=False, soft_wrap=True)


def done_after(record: RoundRecord, done: int, plan: Sequence[Step]) -> int:
    """Steps of a plan that are behind a run after a round that counted: steps that an early stop left out are, too."""
    same = (i for i, step in enumerate(plan) if i >= done and (step.phase, step.label) == (record.phase, record.label))
    return 1 + next(same, done)


def round_line(record: RoundRecord) -> str:
    """One round in one line, with every plant that did not count named."""
    losses = " ".join(
        f"{name.removesuffix('_loss')} {record.metrics[name]:.4f}"
        for name in ("train_loss", "holdout_loss")
        if name in record.metrics
    )
    head = f"round {record.number:>3}  {record.phase.value:<9} {record.label:<13} {record.status.value:<9}"
    line = f"{head} {len(record.accepted)}/{len(record.plants)} plants  {record.seconds:6.1f} s  {losses}"
    if record.reason:
        line += f"  [yellow]{escape(record.reason)}[/]"
    for report in record.rejected:
        line += f"\n           [yellow]{escape(report.plant)}: {escape(report.reason or 'not counted')}[/]"
    return line


def site_table(results: Sequence[SiteResult]) -> Table:
    """The closing table: one line a site, then their mean. Point-adjusted F1 stands beside that of a random score."""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title="Per site, row by row, threshold fitted on the site's own normal data",
        title_justify="left",
    )
    table.add_column("site", overflow="fold")  # a long name breaks; figures never do
    for name in ("AUPRC", "VUS-PR", "F1", "best", "recall", "delay s", "FA/day", "PA-F1", "random"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        e = result.evaluation
        weak = "" if result.bundle.threshold.status == "ok" else " *"
        table.add_row(escape(result.site) + weak, *_figures(asdict(e) if e else {}))
    measured = evaluations(tuple(results))
    if measured:
        table.add_section()
        table.add_row("mean", *_figures(macro(measured)))
    together = pooled_evaluation(results) if len(measured) > 1 else None
    if together:
        table.add_row("as one", *_figures(asdict(together)))
    table.caption = (
        "F1 at the site's own threshold; best: at the threshold that the labels would choose; FA: false alarms.\n"
        "As one: all sites laid end to end, scores as their excess over the site's own threshold.\n"
    )
    table.caption += "PA-F1, point-adjusted, means nothing by itself: a random score reaches the figure beside it."
    if any(result.bundle.threshold.status == "weak" for result in results):
        table.caption += (
            "\n* weak threshold: too little independent calibration data for the false-alarm rate asked for"
        )
    table.caption_justify = "left"
    return table


_SHOWN = (
    "auprc",
    "vus_pr",
    "f1_at_threshold",
    "f1_best",
    "event_recall",
    "delay_s",
    "false_alarms_per_day",
    "point_adjusted_f1",
    "point_adjusted_f1_random",
)


def _figures(figures: Mapping[str, float]) -> list[str]:
    return [_cell(figures.get(name, math.nan)) for name in _SHOWN]


def _cell(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 or value == 0 else f"{value:.2f}"
