"""Made plants in one folder: a site each, never held against published figures, and told apart from issued files."""

from pathlib import Path

import numpy as np
import pytest

from client.ingest.base import find, load
from client.ingest.doctor import command, examine
from client.ingest.fleet import is_made, made_plants
from simulations.twin.make import make, simulate
from tests.support import official


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two plants of half a day and a bit."""
    folder = tmp_path_factory.mktemp("made") / "fleet"
    make(2, 0.05, "swat", 5, folder)
    return folder


def test_each_plant_is_a_site_with_the_values_that_were_made(fleet: Path) -> None:
    sites = load("swat", fleet)
    assert [site.name for site in sites] == ["plant-1", "plant-2"]
    for number, site in enumerate(sites, 1):
        normal, attack = simulate(number, 0.05, "swat", 5)
        np.testing.assert_array_equal(site.train_TD, normal.values_TD)
        np.testing.assert_array_equal(site.test_TD, attack.values_TD)
        np.testing.assert_array_equal(site.labels_T, attack.labels_T)
        assert not any(note.where.startswith("swat") for note in site.repairs)


def test_published_figures_are_not_asked_of_made_plants(fleet: Path) -> None:
    for path, sites in ((fleet, 2), (fleet / "plant-1", 1)):
        report = examine(path)
        (section,) = report.sections
        assert report.usable
        assert section.figures == ()
        assert len(section.sites) == sites
        assert "made by the twin" in section.version
        assert not any("published" in finding.what for finding in section.findings if finding.severity == "warning")


def test_issued_files_are_no_made_plants(tmp_path: Path) -> None:
    official.swat(tmp_path / "issued")
    found = find("swat").recognise(tmp_path / "issued")
    assert found is not None
    assert "twin" not in found.version
    assert made_plants(tmp_path) == ()
    assert not is_made(tmp_path / "issued")
    (tmp_path / "issued" / "events.csv").write_text("my own list\n", encoding="utf-8")
    assert not is_made(tmp_path / "issued")


def test_many_rows_of_a_second_are_joined_in_the_next_command(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command.JOINED not in str(examine(fleet).sections[0].next)
    monkeypatch.setattr(command, "MANY", 5_000)
    assert command.JOINED in str(examine(fleet).sections[0].next)
