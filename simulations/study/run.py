"""A study from its plan to its results: data set by data set, cell by cell, from wherever it stands on the disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from client.ingest.folder import write_site
from shared.config import Recipe, RunConfig
from shared.errors import CrossplantError
from shared.metrics.summary import Evaluation
from shared.series import Repair, SiteData
from simulations.chosen import fitted, keep
from simulations.study import pool
from simulations.study.cells import code_digest, data_digest, place, read
from simulations.study.contestant import LOCAL, kind_of
from simulations.study.datasets import Source, is_made, load_sites
from simulations.study.entrants import entrants
from simulations.study.measure import Labels, Measured, end_to_end, labels_of, measured
from simulations.study.plan import Cell, Skipped, StudyPlan

_WORK = ".work"
WHOLE, CUT = "whole", "cut"

Say = Callable[[str], None]


@dataclass(frozen=True)
class About:
    """What a data set turned out to be.

    Attributes:
        dataset: its name.
        loader: what read or made it.
        sites: names, tags, rows, labelled share, in words.
        notes: repairs, in words.
    """

    dataset: str
    loader: str
    sites: tuple[dict[str, object], ...]
    notes: tuple[str, ...]


@dataclass
class Results:
    """Everything that a study found.

    Attributes:
        plan: what was asked.
        rows: one a site and cell.
        pooled: all sites of a cell as one, by cell.
        labels: by data set, seed of the data, and whether training time was cut.
        about: of the data sets.
        tags: of each data set's first site.
        codes: digests of the code that measured the cells; one, unless it changed between two sessions.
        skipped: combinations that are no cells.
        seconds: this session.
    """

    plan: StudyPlan
    rows: list[Measured] = field(default_factory=list)
    pooled: dict[Cell, Evaluation] = field(default_factory=dict)
    labels: dict[tuple[str, int, str], Labels] = field(default_factory=dict)
    about: list[About] = field(default_factory=list)
    tags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)
    skipped: tuple[Skipped, ...] = ()
    seconds: float = 0.0

    def labels_for(self, cell: Cell) -> Labels:
        """The labels that a cell is measured by."""
        keys = [(cell.dataset, seed, layout_of(cell)) for seed in (cell.seed, 0)]
        return next((self.labels[key] for key in keys if key in self.labels), {})


def layout_of(cell: Cell) -> str:
    """Whether a cell gets the sites whole, or one plant's training time cut."""
    return WHOLE if cell.mode == LOCAL else CUT


def conduct(folder: Path, plan: StudyPlan, sources: Sequence[Source], workers: int, say: Say) -> Results:
    """Measure every cell that has no outcome yet, then attach labels to all of them.

    Args:
        folder: of the study; the plan stands in it.
        plan: what is asked.
        sources: the data sets.
        workers: cells at once.
        say: told a line of progress at a time.

    Raises:
        KeyboardInterrupt: the user ended it; what is finished is kept.
    """
    started = time.perf_counter()
    cells, skipped = plan.cells()
    results, by_name = Results(plan, skipped=skipped), {source.name: source for source in sources}
    with _work(folder) as work:
        conductor = _Conductor(folder, work, workers, say, results)
        for (name, seed), group in groupby(cells, key=lambda cell: _data_of(cell, by_name)):
            conductor.batch(by_name[name], seed, list(group))
    results.seconds = time.perf_counter() - started
    return results


def _data_of(cell: Cell, by_name: dict[str, Source]) -> tuple[str, int]:
    """Data set and seed of the data: another seed makes other plants, and loads the same files."""
    return cell.dataset, cell.seed if is_made(by_name[cell.dataset]) else 0


@contextmanager
def _work(folder: Path) -> Iterator[Path]:
    work = folder / _WORK
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@dataclass(frozen=True)
class _Ready:
    """Sites as some modes get them, on the disk without their labels."""

    sites: tuple[SiteData, ...]
    plants: Path
    digest: str


@dataclass
class _Conductor:
    """Carries the cells of one data set after the other."""

    folder: Path
    work: Path
    workers: int
    say: Say
    results: Results

    def batch(self, source: Source, seed: int, cells: Sequence[Cell]) -> None:
        """All cells on one data set."""
        self.say(f"{source.name}: reading")
        plan = self.results.plan
        protocol = plan.protocol(source.name, seed)
        try:
            sites = load_sites(source, protocol, plan.quick)
        except CrossplantError as error:
            self.say(f"{source.name}: {error}")
            self.results.rows += [Measured(cell, None, error=str(error)) for cell in cells]
            return
        chosen = fitted(_of(protocol, source), sites)
        if source.name not in self.results.tags:
            self.results.about.append(_about(source, sites, chosen.notes))
        self.results.tags.setdefault(source.name, sites[0].schema.tags if sites else ())
        plants = self.work / "data"
        keep(chosen, plants)
        ready = _laid_out(sites, chosen.config.recipe, plants)
        self.results.labels |= {
            (source.name, seed, kind): labels_of(one.sites) for kind, one in ready.items() if isinstance(one, _Ready)
        }
        errors = self._carried(cells, ready)
        for cell in cells:
            self._collect(cell, ready[layout_of(cell)], errors.get(cell, ""))
        shutil.rmtree(plants, ignore_errors=True)

    def _carried(self, cells: Sequence[Cell], ready: Mapping[str, _Ready | CrossplantError]) -> dict[Cell, str]:
        """Run the cells that have no outcome; why some could not be."""
        errors: dict[Cell, str] = {}
        tasks, code = list[pool.Task](), code_digest()
        for cell in cells:
            one = ready[layout_of(cell)]
            if isinstance(one, CrossplantError):
                errors[cell] = str(one)
            elif read(self._place(cell), cell, one.digest) is None:
                tasks.append(pool.Task(cell, one.plants, kind_of(cell.detector), code))
        if kept := len(cells) - len(tasks) - len(errors):
            self.say(f"{cells[0].dataset}: {kept} of {len(cells)} cells are there already")

        def told(done: pool.Done) -> None:
            if done.error:
                errors[done.cell] = done.error
            self.say(f"{done.cell}: {done.error or f'{done.seconds:.1f} s'}")

        pool.run(self.folder, tasks, self.workers, told)
        return errors

    def _place(self, cell: Cell) -> Path:
        return place(self.folder, self.results.plan.digest, cell)

    def _collect(self, cell: Cell, ready: _Ready | CrossplantError, error: str) -> None:
        """A cell's rows: measured, or as many empty ones with the reason."""
        if isinstance(ready, CrossplantError):
            self.results.rows.append(Measured(cell, None, error=error))
            return
        labels = labels_of(ready.sites)
        outcome = None if error else read(self._place(cell), cell, ready.digest)
        if outcome is None:
            why = error or "its outcome cannot be read back"
            self.results.rows += [Measured(cell, name, error=why) for name in labels]
            return
        self.results.codes.add(outcome.code)
        self.results.rows += measured(outcome, labels)
        shared = len(ready.sites) > 1 and ready.sites[0].test_TD is ready.sites[-1].test_TD  # blocks of one plant
        if not shared and (found := end_to_end(outcome, labels)) is not None:
            self.results.pooled[cell] = found


def _laid_out(sites: Sequence[SiteData], recipe: Recipe, work: Path) -> dict[str, _Ready | CrossplantError]:
    """The sites whole and cut, written without labels: what a cell's process reads has none."""
    found: dict[str, _Ready | CrossplantError] = {}
    for kind, mode in ((WHOLE, LOCAL), (CUT, "")):
        try:
            taking_part = entrants(sites, mode, recipe)
        except CrossplantError as error:
            found[kind] = error
            continue
        if kind == CUT and len(sites) > 1:
            found[kind] = found[WHOLE]
            continue
        for site in taking_part:
            write_site(work / kind / site.name, replace(site, labels_T=None))
        found[kind] = _Ready(taking_part, work / kind, data_digest(work / kind))
    return found


def _of(protocol: RunConfig, source: Source) -> RunConfig:
    """The protocol of a data set that is called by its name."""
    return protocol.model_copy(update={"data": protocol.data.model_copy(update={"dataset": source.loader})})


def _about(source: Source, sites: Sequence[SiteData], chosen: Sequence[Repair]) -> About:
    return About(
        source.name,
        source.loader,
        tuple(
            {
                "site": site.name,
                "tags": site.schema.dim,
                "period_s": site.schema.period_s,
                "train_rows": len(site.train_TD),
                "test_rows": len(site.test_TD),
                "anomalous_rows": None if site.labels_T is None else int(site.labels_T.sum()),
            }
            for site in sites
        ),
        tuple(dict.fromkeys(map(str, (*chosen, *(note for site in sites for note in site.repairs)))))[:50],
    )
