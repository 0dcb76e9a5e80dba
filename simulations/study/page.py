"""The report of a study: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server.report.canvas import Drawing, house_style
from server.report.table import Table
from shared.disk import replace_file
from simulations.report.words import count, duration, number
from simulations.report.write import environment
from simulations.study import pictures, tables
from simulations.study.cells import place, read
from simulations.study.contestant import CENTRAL, FEDERATED, LOCAL, PRIVATE, Judged
from simulations.study.curves import confusion, laid
from simulations.study.measure import labelled
from simulations.study.plan import Cell
from simulations.study.results import all_ranks, comparisons, provenance
from simulations.study.run import Results
from simulations.study.statistics import Summary, summaries

FILE = "report.html"
_SHOWN_MODES = (FEDERATED, LOCAL, CENTRAL, PRIVATE)  # the first that there is gives the pictures
_PORTRAITS = 3  # detectors whose latents are drawn, a data set


@dataclass(frozen=True)
class _Section:
    """One data set."""

    anchor: str
    name: str
    words: tuple[str, ...]
    means: Table
    sharing: tuple[Table, ...]
    confusion: Table | None
    drawings: tuple[Drawing, ...]


def write_page(folder: Path, results: Results, command: str) -> None:
    """Write report.html, atomically.

    Args:
        folder: of the study.
        results: what was found; pictures are made from the outcomes on the disk.
        command: that the study was begun with.

    Raises:
        OSError: the file cannot be written.
    """
    with house_style():
        page = _page(folder, results, command)
    html = environment(Path(__file__).parent).get_template("study.html.j2").render(page)
    replace_file(folder / FILE, html.encode("utf-8", "replace"))


def _page(folder: Path, results: Results, command: str) -> dict[str, Any]:
    found = summaries(results.rows)
    ranked, compared = all_ranks(found), comparisons(results)
    return {
        "facts": tuple(_facts(results, command)),
        "digest": results.plan.digest,
        "sentences": tuple(_sentences(results, found)),
        "sections": tuple(_sections(folder, results, found)),
        "ranks": tables.ranks_table(ranked) if ranked else None,
        "comparisons": tables.comparison_table(compared) if compared else None,
        "not_helped": tables.not_helped(results),
        "claims": tables.claims_table(found),
        "costs": tables.cost_table(found),
        "ablations": tables.ablation_table(found),
        "robustness": tuple(_robustness(results, found)),
        "errors": tables.errors_table(results.rows),
        "skipped": tuple(f"{one.detector}, {one.mode}: {one.why}" for one in results.skipped),
        "datasets": tables.datasets_table(results),
        "notes": tuple(f"{one.dataset}: {note}" for one in results.about for note in one.notes),
    }


def _facts(results: Results, command: str) -> Iterator[tuple[str, str]]:
    told = provenance(results, command)
    machine = told["machine"]
    yield "Data sets", ", ".join(results.plan.datasets)
    yield "Detectors", ", ".join(results.plan.detectors)
    yield "Modes", ", ".join(results.plan.modes)
    yield "Seeds", f"{results.plan.seeds}"
    yield "Command", command
    yield "Versions", ", ".join([f"Python {told['python']}", *(f"{k} {v}" for k, v in told["versions"].items() if v)])
    yield "Machine", f"{machine['processor']}, {machine['cores']} cores, load {machine['load']}, {machine['system']}"
    yield "This session", duration(results.seconds)
    yield "Written", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _sentences(results: Results, found: Sequence[Summary]) -> Iterator[str]:
    for dataset in results.plan.datasets:
        known = [one for one in found if one.dataset == dataset and one.means["auprc"] == one.means["auprc"]]
        if known:
            best = max(known, key=lambda one: one.means["auprc"])
            yield (
                f"{dataset}: the best ranking is that of {best.detector}, {best.mode}, with a mean AUPRC of "
                f"{number(best.means['auprc'])} ({tables.span(best.low, best.high)}); by chance "
                f"{number(best.means['anomaly_share'])}. The best of many is flattered: see the intervals."
            )
        else:
            yield f"{dataset}: nothing was measured; there are no labels, or no cell succeeded."
    if len(results.codes) > 1:
        yield f"Cells were measured by {len(results.codes)} different states of the code: start anew to compare them."
    cells, failed = ({row.cell for row in rows} for rows in (results.rows, [r for r in results.rows if r.error]))
    if failed:
        yield f"Of {count(len(cells), 'cell')} {len(failed)} lack a site or all of them: see the gaps below."


# ---- data sets -------------------------------------------------------------------------------------------------------


def _sections(folder: Path, results: Results, found: Sequence[Summary]) -> Iterator[_Section]:
    for at, dataset in enumerate(results.plan.datasets):
        own = [one for one in found if one.dataset == dataset]
        shown = _outcomes(folder, results, dataset)
        rows = {name: one for name, judged in shown.items() if (one := laid(judged)) is not None}
        sharing = (tables.sharing_table(results, name, dataset) for name in results.plan.detectors)
        yield _Section(
            anchor=f"data-{at}",
            name=dataset,
            words=tuple(_words(results, dataset)),
            means=tables.means_table(own, tables.pooled_of(results, dataset)),
            sharing=tuple(table for table in sharing if table is not None),
            confusion=tables.confusion_table({name: confusion(one) for name, one in rows.items()}) if rows else None,
            drawings=tuple(_drawings(dataset, at, shown, rows, results)),
        )


def _words(results: Results, dataset: str) -> Iterator[str]:
    about = next((one for one in results.about if one.dataset == dataset), None)
    if about is None:
        return
    yield f"{count(len(about.sites), 'site')}, read by {about.loader!r}."
    if len(about.sites) == 1 and set(results.plan.modes) - {LOCAL}:
        yield (
            "One plant: in every mode but local its training rows are cut into blocks of time, each a site that "
            "calibrates for itself and is tested on the whole test recording. Local is the whole plant: beside it the "
            "other modes also pay for the cut. Federated and central have the same blocks."
        )


def _outcomes(folder: Path, results: Results, dataset: str) -> dict[str, tuple[Judged, ...]]:
    """What pictures are made from: each detector at seed 0 in the first mode that it was measured in, with labels."""
    found: dict[str, tuple[Judged, ...]] = {}
    for name in results.plan.detectors:
        for mode in _SHOWN_MODES:
            cell = Cell(dataset, name, mode, 0)
            outcome = read(place(folder, results.plan.digest, cell), cell)
            if mode in results.plan.modes and outcome is not None:
                labels = results.labels_for(cell)
                found[f"{name}, {mode}"] = tuple(labelled(one, labels) for one in outcome.judged)
                break
    return found


def _drawings(
    dataset: str, at: int, shown: Mapping[str, Sequence[Judged]], rows: Mapping[str, Any], results: Results
) -> Iterator[Drawing]:
    if rows:
        yield pictures.curves(rows, f"curves-{at}", dataset)
        yield pictures.histograms(rows, f"histograms-{at}", dataset)
    drawn = [(name, judged) for name, judged in shown.items() if any(one.portrait for one in judged)][:_PORTRAITS]
    tags = results.tags.get(dataset, ())
    for k, (name, judged) in enumerate(drawn):
        one = max((one for one in judged if one.portrait), key=_anomalous)
        told = f"{dataset}, {one.site}, {name}"
        for drawing in (
            pictures.latents(one, f"latents-{at}-{k}", told),
            pictures.error_map(one, tags, f"errors-{at}-{k}", told),
        ):
            if drawing is not None:
                yield drawing


def _anomalous(one: Judged) -> int:
    return 0 if one.labels_T is None else int(one.labels_T.sum())


def _robustness(results: Results, found: Sequence[Summary]) -> Iterator[Drawing]:
    """A drawing a data set, of the means over sites and seeds."""
    for at, dataset in enumerate(results.plan.datasets):
        curves: dict[str, dict[str, list[float]]] = {}
        for row in results.rows:
            for name, value in (row.variants or {}).items():
                if row.cell.dataset == dataset and value == value:
                    curves.setdefault(f"{row.cell.detector}, {row.cell.mode}", {}).setdefault(name, []).append(value)
        means = {way: {name: sum(all_) / len(all_) for name, all_ in words.items()} for way, words in curves.items()}
        clean = {f"{one.detector}, {one.mode}": one.means["auprc"] for one in found if one.dataset == dataset}
        if means:
            yield pictures.robustness(means, clean, f"robustness-{at}", dataset)
