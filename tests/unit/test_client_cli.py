"""`crossplant client run` and the plant's data, without processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.agent.config import read_plant
from client.agent.site import load_site
from client.run import supernode
from shared.errors import DataNotFound
from tests.conftest import write_telemanom
from tests.support import agents
from tests.support.command import crossplant_here


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[supernode.Plant]:
    """What `client run` would have started."""
    found: list[supernode.Plant] = []
    monkeypatch.setattr(supernode, "run", lambda plant, until, say: found.append(plant))
    return found


SUPERLINK = 'superlink = "coordinator:9443"\n'


def test_all_of_a_plant_is_run_from_its_file(tmp_path: Path, started: list[supernode.Plant]) -> None:
    config = agents.make_plant(tmp_path, "", SUPERLINK + 'home = "state"\nnode_key = "keys/node"\n')
    assert crossplant_here("client", "run", "--config", config).returncode == 0
    (plant,) = started
    assert (plant.name, plant.home, plant.superlink) == ("north", tmp_path / "state", "coordinator:9443")
    assert (plant.root_certificates, plant.node_key) == (tmp_path / "ca.crt", tmp_path / "keys" / "node")
    assert plant.socket == tmp_path / "run" / "agent.sock"
    assert plant.agent is not None
    assert plant.agent[1:] == ("client", "agent", "--config", str(config))


def test_the_relay_alone_has_a_folder_of_its_own(tmp_path: Path, started: list[supernode.Plant]) -> None:
    config = agents.make_plant(tmp_path, "", SUPERLINK)
    crossplant_here("client", "run", "--relay-only", "--state", tmp_path / "relay", "--config", config)
    (plant,) = started
    assert (plant.agent, plant.home) == (None, tmp_path / "relay")
    assert plant.socket == tmp_path / "run" / "agent.sock"


def test_insecure_says_what_it_gives_up(tmp_path: Path, started: list[supernode.Plant]) -> None:
    done = crossplant_here("client", "run", "--insecure", "--config", agents.make_plant(tmp_path, "", SUPERLINK))
    assert "WARNING" in done.stderr
    assert (started[0].root_certificates, started[0].node_key) == (None, None)


def test_a_plant_without_a_coordinator_cannot_run(tmp_path: Path, started: list[supernode.Plant]) -> None:
    done = crossplant_here("client", "run", "--config", agents.make_plant(tmp_path))
    assert (done.returncode, "superlink is missing" in done.stderr, started) == (1, True, [])


def test_a_site_of_a_data_set_bears_the_plants_name(tmp_path: Path) -> None:
    write_telemanom(tmp_path / "msl", {"C-1": "[[3, 5]]", "M-2": "[[7, 9]]"})
    config = tmp_path / "plant.toml"
    config.write_text('name = "north"\n[data]\ndataset = "msl"\npath = "msl"\nsite = "M-2"\n', encoding="utf-8")
    site = load_site(read_plant(config))
    assert (site.name, site.train_TD.shape) == ("north", (30, 55))


@pytest.mark.parametrize("site", ["", 'site = "X-9"\n'])
def test_one_of_several_sites_must_be_chosen(site: str, tmp_path: Path) -> None:
    write_telemanom(tmp_path / "msl", {"C-1": "[[3, 5]]", "M-2": "[[7, 9]]"})
    config = tmp_path / "plant.toml"
    config.write_text(f'name = "north"\n[data]\ndataset = "msl"\npath = "msl"\n{site}', encoding="utf-8")
    with pytest.raises(DataNotFound, match="holds C-1, M-2"):
        load_site(read_plant(config))
