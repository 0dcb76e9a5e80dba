"""Alarms on twin plants under scripted attacks name the attacked tag: federated model and local guard, as on an edge
box. `python -m benchmarks.explain RUN` measures the same on models that were trained for longer.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.explain import Found, attacked, measure, table
from client.agent.service import PlantAgent
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.bundle.edge import read_edge_bundle
from shared.catalogue import tags
from shared.schema import SensorSchema
from shared.series import SiteData
from tests.support.plants import Loopback, Memory, settings

PLANTS, DAYS, SEED = 3, 1.0, 0
ENOUGH = 0.8  # of the detected attacks
TRAINING = {"stride": 300, "batch_size": 64}


def found_in_plants(home: Path) -> list[Found]:
    base = settings().recipe.model_dump()
    recipe = {**base, "training": {**base["training"], **TRAINING}, "scoring": {**base["scoring"], "tail": 5}}
    config = settings(rounds={"pretrain": 1, "joint": 1}, recipe=recipe)
    schema = SensorSchema(tags=tuple(tag.name for tag in tags("swat")), period_s=1.0)
    runs = {f"plant-{number}": attacked(number, DAYS, SEED) for number in range(1, PLANTS + 1)}
    sites = [SiteData(name, schema, normal_TD, attack_TD[:0], None) for name, (normal_TD, attack_TD, _) in runs.items()]
    agents = [PlantAgent(site, home) for site in sites]
    Coordinator(config, Loopback(agents), Memory()).run(RunState("test", config.digest))
    return [
        found
        for name, (_, attack_TD, events) in runs.items()
        for found in measure(read_edge_bundle(home / f"{name}.bundle"), attack_TD, events)
    ]


@pytest.mark.timeout(240)
def test_the_first_three_sensors_of_an_alarm_contain_the_attacked_tag(tmp_path: Path) -> None:
    found = found_in_plants(tmp_path)
    detected = [one for one in found if one.by]
    print(table(found))
    assert len(found) == 30
    assert len(detected) >= 8, "too few attacks are detected to say anything of what alarms name"
    assert sum(one.named(3) for one in detected) >= ENOUGH * len(detected), table(found)
