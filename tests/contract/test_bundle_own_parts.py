"""What a plant learns alone reaches its edge boxes unchanged, whatever the federation does: guard and sensor limits."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from client.agent.own import OwnParts
from client.agent.service import PlantAgent
from client.edge.guard import halved
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.bundle.edge import read_edge_bundle
from shared.bundle.folder import versions
from shared.config import Recipe
from shared.detectors import build
from shared.local_guard import fit, from_bytes, to_bytes
from shared.model import GlobalModel
from shared.schema import SensorSchema
from shared.sensor_limits import NEVER
from shared.sensor_limits import fit as fit_limits
from shared.series import SiteData
from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request
from simulations.faults import Attack, Attacker
from simulations.generate import generate
from tests.support import agents
from tests.support.plants import Loopback, Memory, settings


@cache
def sites() -> tuple[SiteData, ...]:
    return tuple(generate(2, 800, 5))


@cache
def expected() -> bytes:
    site = sites()[0]
    return to_bytes(fit(site.train_TD, site.schema, site.train_starts))


def calibrate(recipe: Recipe, dim: int, round_: int = 1, factor: float = 1.0) -> Request:
    weights = build(recipe.detector, dim).weights()
    model = GlobalModel({name: (value * factor).astype(np.float32) for name, value in weights.items()})
    return Request(Kind.CALIBRATE, "run", round_, recipe, model.digest, model)


def publish(agent: PlantAgent, round_: int = 1, factor: float = 1.0, recipe: Recipe | None = None) -> None:
    agent.answer(encode_request(calibrate(recipe or settings().recipe, sites()[0].schema.dim, round_, factor)))


def guards(home: Path) -> list[bytes | None]:
    folder = home / f"{sites()[0].name}.bundle"
    return [read_edge_bundle(folder / digest).guard for digest in versions(folder)]


# ---- the same bytes --------------------------------------------------------------------------------------------------


def test_every_round_and_every_agent_publishes_the_same_guard_and_limits(tmp_path: Path) -> None:
    site = sites()[0]
    for round_ in range(1, 4):  # A new process each time.
        publish(PlantAgent(site, tmp_path), round_)
    assert guards(tmp_path) == [expected()] * 3
    bundle = read_edge_bundle(tmp_path / f"{site.name}.bundle")
    assert bundle.limits == fit_limits(site.train_TD, site.schema, site.train_starts)
    assert (tmp_path / f"{site.name}.guard.bin").read_bytes() == expected()


def test_the_guard_is_fitted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(PlantAgent(sites()[0], tmp_path), 1)
    monkeypatch.setattr("client.agent.own.fit", lambda *_: pytest.fail("fitted again"))
    publish(PlantAgent(sites()[0], tmp_path), 2)
    assert guards(tmp_path) == [expected()] * 2


@pytest.mark.parametrize("attack", [Attack.SCALING, Attack.NOISE, Attack.SIGN_FLIP])
def test_a_poisoned_federation_does_not_change_the_guard(tmp_path: Path, attack: Attack) -> None:
    victim, other = (PlantAgent(site, tmp_path) for site in sites())
    poisoned = settings(rounds={"pretrain": 2, "joint": 3, "aggregation": "mean", "calibrate_every": 1})
    Coordinator(poisoned, Loopback([victim, Attacker(other, attack)]), Memory()).run(RunState("r", poisoned.digest))
    found = guards(tmp_path)
    assert len(found) > 1
    assert set(found) == {expected()}


def test_neither_weights_nor_recipe_nor_round_reach_the_guard(tmp_path: Path) -> None:
    """A server that prepares rows so that nothing is seen, and asks for a threshold that nothing passes."""
    recipe = settings().recipe
    blind = recipe.model_copy(
        update={
            "preprocess": recipe.preprocess.model_copy(update={"every": 5, "clip_live": True, "guard": 0.01}),
            "threshold": recipe.threshold.model_copy(update={"false_alarm_rate": 1e-6, "rule": "mean-sigma"}),
        }
    )
    agent = PlantAgent(sites()[0], tmp_path)
    publish(agent, 1, factor=50.0)
    publish(agent, 2, recipe=blind)
    publish(PlantAgent(sites()[0], tmp_path), 10**6, factor=0.0)
    assert set(guards(tmp_path)) == {expected()}


# ---- fitted again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["rows", "tags", "recordings"])
def test_other_data_make_another_guard_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    site, path = sites()[0], tmp_path / "guard.bin"
    before = OwnParts(site, path).guard
    other = {
        "rows": lambda: replace(site, train_TD=site.train_TD + np.float32(1)),
        "tags": lambda: replace(
            site, schema=SensorSchema(tags=tuple(reversed(site.schema.tags)), period_s=site.schema.period_s)
        ),
        "recordings": lambda: replace(site, train_starts=(0, 400)),
    }[change]()
    with caplog.at_level(logging.WARNING):
        after = OwnParts(other, path).guard
    assert before != after == path.read_bytes()
    assert "the plant's data have changed" in caplog.text


@pytest.mark.parametrize("damage", ["guard", "index", "no index", "foreign"])
def test_a_damaged_guard_is_fitted_again(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    path = tmp_path / "guard.bin"
    assert OwnParts(sites()[0], path).guard == expected()
    index = path.with_suffix(".json")
    {
        "guard": lambda: path.write_bytes(expected()[:-8]),
        "index": lambda: index.write_text("{"),
        "no index": index.unlink,
        "foreign": lambda: path.write_bytes(to_bytes(fit(sites()[1].train_TD, sites()[1].schema))),
    }[damage]()
    assert OwnParts(sites()[0], path).guard == expected() == path.read_bytes()
    assert "is fitted again" in caplog.text


def test_a_home_that_cannot_be_written_still_gives_a_guard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert OwnParts(sites()[0], tmp_path / "file" / "guard.bin").guard == expected()
    assert "cannot be kept" in caplog.text


# ---- without ---------------------------------------------------------------------------------------------------------


def test_a_plant_may_leave_the_guard_out(tmp_path: Path) -> None:
    publish(PlantAgent(sites()[0], tmp_path, guard=False))
    assert guards(tmp_path) == [None]
    assert not list(tmp_path.glob("*.guard.*"))


def test_a_plant_that_nothing_can_be_learnt_from_has_neither(caplog: pytest.LogCaptureFixture) -> None:
    schema = SensorSchema(tags=("a", "b"), period_s=1)
    still = SiteData("still", schema, np.ones((100, 2), np.float32), np.ones((0, 2), np.float32), None)
    own = OwnParts(still, None)
    assert own.guard is None
    assert own.limits.high == (NEVER, NEVER)
    assert "has no local guard" in caplog.text
    assert "sensors will not be judged" in caplog.text


def test_a_plant_of_thousands_of_tags_has_no_guard(caplog: pytest.LogCaptureFixture) -> None:
    schema = SensorSchema(tags=tuple(f"t{n}" for n in range(2000)), period_s=1)
    wide = SiteData("wide", schema, np.zeros((10, 2000), np.float32), np.zeros((0, 2000), np.float32), None)
    assert OwnParts(wide, None).guard is None
    assert "too many for a local guard" in caplog.text


# ---- thresholds beside it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["conformal", "context", "ewma", "mean-sigma"])
def test_beside_the_guard_the_recipes_own_rule_has_half_of_the_rate(tmp_path: Path, rule: str) -> None:
    recipe = settings().recipe
    asked = recipe.threshold.model_copy(update={"rule": rule, "false_alarm_rate": 0.1})
    publish(PlantAgent(sites()[0], tmp_path), recipe=recipe.model_copy(update={"threshold": asked}))
    bundle = read_edge_bundle(tmp_path / f"{sites()[0].name}.bundle")
    found = halved(bundle)
    assert (found.rule, found.false_alarm_rate) == (rule, 0.05)
    assert found.value >= bundle.threshold.value
    if rule != "mean-sigma":  # It cannot be asked: what it gives is moved up.
        assert found == bundle.calibration.beside_guard
    above = sum(score > found.value for score in bundle.calibration.distribution.scores)
    assert above <= 0.05 * (bundle.calibration.distribution.size + 1)


def test_a_guard_knows_how_rare_its_scores_are() -> None:
    guard = from_bytes(expected())
    normal, threshold = guard.calibration, guard.threshold
    assert normal.size == threshold.calibration_size
    assert normal.p_value(threshold.value * 1.0001) <= threshold.supported_rate < normal.p_value(normal.quantile(0.9))
    assert normal.p_value(float("inf")) == 1 / (normal.size + 1)


# ---- the agent's process ---------------------------------------------------------------------------------------------


def test_the_agents_process_keeps_the_guard_at_home_and_publishes_it(tmp_path: Path) -> None:
    config = agents.make_plant(tmp_path)
    for round_ in (1, 2):
        with agents.running(config) as agent:
            reply = agent.ask(encode_request(calibrate(agents.RECIPE, 2, round_, 100.0**round_)))
            assert "refused" not in reply.texts
            log = agent.end()[1]
        assert ("fitted on" in log) == (round_ == 1)
    kept = (tmp_path / "home" / "guard.bin").read_bytes()
    folder = tmp_path / "home" / "bundles" / "north.bundle"
    assert [read_edge_bundle(folder / digest).guard for digest in versions(folder)] == [kept, kept]


def test_plant_toml_may_leave_the_guard_out(tmp_path: Path) -> None:
    config = agents.make_plant(tmp_path, extra="[agent]\nguard = false\n")
    with agents.running(config) as agent:
        agent.ask(encode_request(calibrate(agents.RECIPE, 2)))
    assert read_edge_bundle(tmp_path / "home" / "bundles" / "north.bundle").guard is None
    assert not (tmp_path / "home" / "guard.bin").exists()
