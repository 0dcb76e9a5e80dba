"""The report of a study: whole without a network, with every picture, and with hostile names as text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from shared.series import SiteData
from simulations.study import cells
from simulations.study.curves import Laid, confusion, laid, operating, precision_recall, projected
from simulations.study.effective import Asked
from simulations.study.judge import run
from simulations.study.measure import end_to_end, labels_of, measured
from simulations.study.page import write_page
from simulations.study.plan import Cell, StudyPlan
from simulations.study.run import About, Results
from tests.support.study import Witness, sites

HOSTILE = "<script>alert(1)</script>"


def made(folder: Path, given: tuple[SiteData, ...], dataset: str) -> Results:
    """A study of two detectors in two modes, on the disk and in hand."""
    detectors, modes = ("crossplant", "crossplant:no-entropy", "paper"), ("local", "federated")
    plan = StudyPlan.of(Asked((dataset,), detectors, modes, 1, with_robustness=True))
    results = Results(plan, labels={(dataset, 0, kind): labels_of(given) for kind in ("whole", "cut")})
    results.tags[dataset] = given[0].schema.tags
    about = {"site": HOSTILE, "tags": 3, "period_s": 1.0, "train_rows": 5, "test_rows": 5, "anomalous_rows": None}
    results.about.append(About(dataset, "historian", (about, about), (HOSTILE,)))
    for cell in plan.cells()[0]:
        judged, left = run(Witness(), given, cell.mode, 0, folder, ("noise 20 dB", "drift 1.0 sd"))
        portrait = {
            "latents_NZ": np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32),
            "modes_N": np.arange(40) % 3,
            "ends_N": np.arange(40),
            "errors_ND": np.random.default_rng(1).random((40, 3), np.float32),
        }
        judged = [replace(one, portrait=portrait) for one in judged]
        outcome = cells.Outcome(cell, "0", "code", tuple(judged), tuple(left), 50.0, 1.0)
        cells.write(cells.place(folder, plan.digest, cell), outcome)
        results.rows += measured(outcome, labels_of(given))
        if (whole := end_to_end(outcome, labels_of(given))) is not None:
            results.pooled[cell] = whole
    return results


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("study")
    write_page(folder, made(folder, sites(), "msl"), f"crossplant study {HOSTILE}")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_report_is_whole_without_a_network(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags.found}
    for _, attributes in tags.found:
        for name in ("href", "src", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png")), value
    assert "img-src data:" in page


def test_hostile_names_are_text(page: str) -> None:
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;") >= 3


@pytest.mark.parametrize(
    "words",
    [
        "Precision-recall and ROC curves",
        "Histograms of scores",
        "coloured by cluster and by label",
        "Reconstruction error by sensor",
        "under disturbed test rows",
        "Rows at each site&#39;s own threshold",
        "Where sharing does not help",
        "The default recipe with one thing changed",
        "Claims of the literature",
        "0.917",
        "Friedman",
        "95 % interval",
        "Scoring a row",
    ],
)
def test_the_report_has(words: str, page: str) -> None:
    assert words in page


def test_figures_in_the_report_are_those_of_the_rows(tmp_path: Path) -> None:
    results = made(tmp_path, sites(), "msl")
    write_page(tmp_path, results, "command")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    table = page[page.index("Means over seeds") :]
    first = re.findall(r"<bdi>([^<]*)</bdi>", table[: table.index("</table>")])[:4]
    mean = np.mean([row.found.auprc for row in results.rows if row.found and row.cell.mode == "local"])
    assert first == ["crossplant", "local", "2", f"{mean:.3f} *"]


def test_a_study_that_measured_nothing_says_so(tmp_path: Path) -> None:
    from simulations.study.measure import Measured

    results = Results(StudyPlan.of(Asked(("mill",), ("lag",), ("local",), 1)))
    results.rows = [Measured(Cell("mill", "lag", "local", 0), None, error="there is no folder")]
    write_page(tmp_path, results, "command")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "nothing was measured" in page
    assert "there is no folder" in page


# ---- curves ----------------------------------------------------------------------------------------------------------


def test_the_areas_under_the_curves_are_the_figures(tmp_path: Path) -> None:
    from shared.metrics.pointwise import auroc, average_precision

    rng = np.random.default_rng(0)
    labels_M = rng.random(300) < 0.2
    rows = Laid(rng.normal(size=300).round(1) + labels_M, labels_M)
    recall_P, precision_P = precision_recall(rows)
    assert np.sum(np.diff(recall_P, prepend=0) * precision_P) == pytest.approx(
        average_precision(rows.excess_M, labels_M)
    )
    false_P, hits_P = operating(rows)
    assert np.trapezoid(hits_P, false_P) == pytest.approx(auroc(rows.excess_M, labels_M))


def test_confusion_counts_every_scored_row_once(tmp_path: Path) -> None:
    given = sites()
    judged, _ = run(Witness(), given, "local", 0, tmp_path)
    labelled = [replace(one, labels_T=site.labels_T) for one, site in zip(judged, given, strict=True)]
    labelled[0].scores_T[:5] = np.nan
    rows = laid(labelled)
    assert rows is not None
    found = confusion(rows)
    assert (found.hits + found.missed, found.false + found.quiet) == (20, 135)
    assert laid(judged) is None


def test_the_projection_keeps_distances_in_a_plane() -> None:
    plane = (
        np.random.default_rng(0).normal(size=(20, 2)) @ np.linalg.qr(np.random.default_rng(1).normal(size=(5, 2)))[0].T
    )
    found = projected(plane.astype(np.float32))
    assert np.allclose(
        np.linalg.norm(found[:, None] - found[None], axis=2),
        np.linalg.norm(plane[:, None] - plane[None], axis=2),
        atol=1e-5,
    )
    assert projected(np.ones((4, 1), np.float32)).shape == (4, 2)
