"""The exchange of moments at its edges: who joins late, who is alone, who has too many tags, who promised privacy."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.agent.service import PlantAgent
from server import phases
from server.coordinator import Coordinator
from server.moments import most_rows, usual_rows
from server.rounds import Member, RunState
from server.store.store import RoundStore
from shared.config import Recipe, RunConfig
from shared.errors import ModelCorrupt
from shared.lag.pooled import LagSum, tag
from shared.privacy.ledger import LEDGER
from shared.schema import SensorSchema
from shared.series import SiteData
from shared.wire.envelope import Packet
from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request, parse_request
from tests.support import plants, stores
from tests.support.plants import Memory
from tests.support.puppets import MANIFEST, SCHEMA, Puppet, Stage, play, sums
from tests.support.tampering import sites

RUN = "run"


def config(**rounds: object) -> RunConfig:
    clustering = {"clusters": 3, "seed_steps": 1, "refine_steps": 1}
    given = {"pretrain": 1, "joint": 0, "deadline_s": 5.0, **rounds}
    return plants.settings(rounds=given, recipe={"clustering": clustering, "detector": {"window": 30}})


def sent(stage: Stage, kind: Kind) -> list[Packet]:
    return [packet for packet, _ in stage.sent if packet.texts["kind"] == kind]


def calibrating(stage: Stage, settings: RunConfig) -> LagSum | None:
    return parse_request(sent(stage, Kind.CALIBRATE)[-1], MANIFEST, settings.recipe.detector.latent).lag


def test_a_plant_that_joins_after_the_moments_is_in_no_sum_but_gets_it() -> None:
    settings = config(quorum=0.5)
    labels = [r.label for r in play(Stage([Puppet(name) for name in "abc"]), settings).records]
    late = labels.index("moments") + 1
    stage = Stage([Puppet("a"), Puppet("b"), Puppet("c", away=range(late))])  # it describes itself beside the moments
    journal = play(stage, settings)
    assert journal.records[late - 1].joined == ("c",)
    assert journal.records[-1].accepted == ("a", "b", "c")
    assert set(calibrating(stage, settings).shares) == {tag(RUN, "a"), tag(RUN, "b")}
    np.testing.assert_allclose(calibrating(stage, settings).vector_Q, 2 * sums(2, settings.recipe))


def test_a_plant_alone_sends_its_moments_and_gets_none() -> None:
    settings = config(fewest=1)
    stage = Stage([Puppet("a")])
    journal = play(stage, settings)
    told = "moments: of fewer than 2 plants, so nothing is shared"
    assert [r.reason for r in journal.records if r.label == "moments"] == [told]
    assert calibrating(stage, settings) is None


def test_plants_with_too_many_tags_are_not_asked() -> None:
    wide = SensorSchema(tags=tuple(f"T{i}" for i in range(1500)), period_s=1.0)
    stage = Stage([Puppet(name, schema=wide) for name in "ab"])
    journal = play(stage, config())
    [record] = [r for r in journal.records if r.label == "moments"]
    assert (record.status.value, record.plants) == ("committed", ())
    assert record.reason == "moments: too many tags; plants calibrate without the others' moments"
    assert sent(stage, Kind.MOMENTS) == []
    assert journal.records[-1].accepted == ("a", "b")


@pytest.mark.parametrize(("tags", "lags"), [(2, 5), (241, 5), (242, 4), (600, 1), (1446, 0), (1447, None)])
def test_with_many_tags_fewer_lags_are_due(tags: int, lags: int | None) -> None:
    schema = SensorSchema(tags=tuple(f"T{i}" for i in range(tags)), period_s=1.0)
    assert phases.lags(RunState(RUN, "", schema=schema), config()) == lags


def test_the_rows_that_count_follow_what_plants_declared() -> None:
    recipe = Recipe.model_validate({"training": {"stride": 4}})
    members = [Member(name, examples, 1, 1.0) for name, examples in (("a", 1), ("b", 101), ("c", 10**6))]
    assert usual_rows(members, recipe) == 100 * 4 + 30
    assert most_rows(101, recipe) == 101 * 33
    assert usual_rows([], recipe) == 0.0


@pytest.mark.parametrize(
    "recipe",
    [
        {"privacy": {"mode": "central", "epsilon": 1.0}},
        {"privacy": {"mode": "central", "epsilon": 1.0}, "lag": {"on": True}},
        {"privacy": {"mode": "local", "epsilon": 1.0}, "lag": {"on": True}},
        {"lag": {"on": False}},
    ],
    ids=["central", "central, asked for", "local, asked for", "off"],
)
def test_a_plant_keeps_its_moments_where_the_run_promises_privacy_or_wants_none(
    recipe: dict[str, object], tmp_path: Path
) -> None:
    """Whatever the coordinator's own checks say of such settings."""
    asked = Recipe.model_validate({**plants.settings().recipe.model_dump(exclude={"lag", "privacy"}), **recipe})
    agent = PlantAgent(sites()[0], privacy=tmp_path / "ledger")
    answer = agent.handle(encode_request(Request(Kind.MOMENTS, RUN, 2, asked)))
    assert (answer.texts["refused"], dict(answer.arrays)) == ("CP-603 privacy", {})
    assert not (tmp_path / "ledger").exists()


def test_records_that_a_ledger_protects_send_no_exact_moments(tmp_path: Path) -> None:
    request = encode_request(Request(Kind.MOMENTS, RUN, 2, plants.settings().recipe))
    agent = PlantAgent(sites()[0], privacy=tmp_path)
    assert agent.handle(request).arrays.keys() == {"moments"}
    (tmp_path / LEDGER).touch()
    assert agent.handle(request).texts["refused"] == "CP-603 privacy"


def test_a_plant_that_cannot_fill_a_lagged_row_sends_moments_of_none() -> None:
    """A window of two rows and twenty lags: the plant counts, and brings nothing."""
    rows = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
    short = SiteData("short", SCHEMA, rows, rows[:0], None)
    recipe = {"detector": {"window": 2}, "training": {"stride": 1}, "lag": {"lags": 20}}
    settings = plants.settings(recipe=recipe, rounds={"pretrain": 1, "joint": 0})
    agents = [PlantAgent(one) for one in (short, *sites())]
    channel, journal = plants.Loopback(agents), Memory()
    state = Coordinator(settings, channel, journal, clock=channel.clock).run(RunState(RUN, settings.digest))
    [record] = [r for r in journal.records if r.label == "moments"]
    assert "short" in record.accepted
    assert tag(RUN, "short") not in state.moments.shares
    assert tag(RUN, sites()[0].name) in state.moments.shares


# ---- what is kept ----------------------------------------------------------------------------------------------------


def stored(folder: Path) -> RoundStore:
    """A run whose second round left a sum of moments."""
    store = RoundStore.create(str(folder))
    store.start_run("a", stores.CONFIG)
    for number in (1, 2):
        after = stores.state("a", number)
        total = LagSum(np.random.default_rng(number).normal(size=10), {"0f" * 8: 0.1 + 0.2, "00" * 8: 1.0})
        after = replace(after, moments=total if number == 2 else None)
        store.commit(stores.record(after), after)
    return store


def test_moments_come_back_from_the_store_bit_for_bit(tmp_path: Path) -> None:
    stored(tmp_path)
    read = RoundStore.open(str(tmp_path)).latest_state("a").moments
    assert read.vector_Q.tobytes() == np.random.default_rng(2).normal(size=10).tobytes()
    assert dict(read.shares) == {"0f" * 8: 0.1 + 0.2, "00" * 8: 1.0}


def test_moments_that_were_changed_on_the_disk_are_refused(tmp_path: Path) -> None:
    stored(tmp_path)
    [file] = (tmp_path / "models").glob("*.moments.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelCorrupt, match="was changed"):
        RoundStore.open(str(tmp_path)).latest_state("a")


def test_a_run_that_an_older_version_stored_still_loads(tmp_path: Path) -> None:
    stored(tmp_path)
    with sqlite3.connect(tmp_path / "rounds.sqlite") as database:
        for number, text in database.execute("SELECT number, state FROM rounds").fetchall():
            state = json.loads(text)
            del state["moments"]
            database.execute("UPDATE rounds SET state = ? WHERE number = ?", (json.dumps(state), number))
    database.close()
    store = RoundStore.open(str(tmp_path))
    assert store.latest_state("a").moments is None
    assert [record.number for record in store.rounds("a")] == [1, 2]
