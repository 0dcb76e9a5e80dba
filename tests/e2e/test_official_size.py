"""SWaT at its official size: the twin lives the published days, with the published attacks and the lost seconds."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from numpy.random import default_rng

from client.ingest.doctor import Report, examine
from shared import catalogue
from simulations.twin.script import Event
from simulations.twin.swat import TWIN
from simulations.twin.swat.plant import REFERENCE

BEGIN, ATTACKS, END = datetime(2015, 12, 22, 16, 30), datetime(2015, 12, 28, 10), datetime(2016, 1, 2, 15)
LOST_FROM, LOST_S = 300_000, 81  # seconds after the attack run begins: between two attacks


def _published() -> tuple[Event, ...]:
    """The published attacks, here as levels that are stuck: only their times matter."""
    listed = catalogue.attacks("swat")
    spans = [(each.begin - ATTACKS, each.end - ATTACKS) for each in listed]
    seconds = [(int(first.total_seconds()), int(end.total_seconds())) for first, end in spans]
    assert not any(first < LOST_FROM + LOST_S and end > LOST_FROM for first, end in seconds)
    return tuple(Event("stuck", "LIT101", first, end) for first, end in seconds)


def _lose_seconds(path: Path) -> None:
    """Take the rows out that the official file lacks."""
    moments = (ATTACKS + timedelta(seconds=LOST_FROM + at) for at in range(LOST_S))
    lost = {f"{moment:%d/%m/%Y} {moment:%I}".replace(" 0", " ") + f"{moment:%M:%S %p}" for moment in moments}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if _bare(line) not in lost]
    assert len(lines) - len(kept) == LOST_S
    path.write_text("".join(kept), encoding="utf-8")


def _bare(line: str) -> str:
    """A row's time with one blank where there may be several, without the colon after the hour."""
    day, _, clock = line.split(",", 1)[0].strip().partition(" ")
    hour, _, rest = clock.strip().partition(":")
    return f"{day} {hour.lstrip('0')}{rest}"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("official")
    normal = TWIN.run(REFERENCE, BEGIN, int((ATTACKS - BEGIN).total_seconds()), (), default_rng(0))
    attack = TWIN.run(REFERENCE, ATTACKS, int((END - ATTACKS).total_seconds()), _published(), default_rng(1))
    TWIN.write(folder, normal, attack, xlsx=False)
    _lose_seconds(next(folder.glob("*Attack*.csv")))
    found = examine(folder)
    for file in folder.iterdir():
        file.unlink()  # 230 MB
    return found


def test_rows_are_as_published(report: Report) -> None:
    (section,) = report.sections
    agree = {figure.what: (figure.found, figure.agrees) for figure in section.figures}
    assert agree["rows of the normal run"] == (495_000, True)
    assert agree["rows of the attack run"] == (449_919, True)
    assert agree["labelled stretches"][1]


def test_the_lost_seconds_begin_a_new_recording(report: Report) -> None:
    (site,) = report.sections[0].sites
    assert (site.train_recordings, site.test_recordings) == (1, 2)
    assert any("81" in finding.what for finding in report.sections[0].findings)


def test_labels_stand_at_the_published_times(report: Report) -> None:
    told = " ".join(finding.what for finding in report.sections[0].findings)
    assert report.usable
    assert "published attacks" not in told
