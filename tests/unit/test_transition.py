from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from server import phases
from server.aggregate import Aggregate
from server.phases import Action, Step
from server.rounds import Committed, Failed, Member, OptimizerState, PlantReport, RunState, Skipped, Status
from server.transition import Conducted, quorum, settle, settle_describe
from shared.clustering import Statistic
from shared.config import RunConfig
from shared.model import Clusters, GlobalModel, initial_weights
from shared.schema import SensorSchema
from shared.wire.gate import Description
from tests.support.plants import settings
from tests.support.puppets import MANIFEST, SCHEMA

CONFIG = settings()
K, Z = 3, CONFIG.recipe.detector.latent
CLUSTERS = Clusters(
    np.linspace(-0.5, 0.5, K * Z, dtype=np.float32).reshape(K, Z),
    np.full(K, 1 / K, np.float32),
    np.ones(K, bool),
    np.zeros(K, np.int64),
    0.5,
)
WEIGHTS = initial_weights(MANIFEST, 0)
STATE = RunState(
    "run",
    CONFIG.digest,
    finished=11,
    step=11,
    model=GlobalModel(WEIGHTS, CLUSTERS),
    members=tuple(Member(name, 100, 11, 100.0) for name in ("a", "b", "c")),
    schema=SCHEMA,
    manifest=MANIFEST,
)


def step_of(action: Action, index: int = 0, config: RunConfig = CONFIG) -> Step:
    return [step for step in phases.plan(config) if step.action is action][index]


def conducted(count: int, weights: object = None, statistic: Statistic | None = None) -> Conducted:
    reports = tuple(PlantReport(name, i < count, None if i < count else "late: 60 s") for i, name in enumerate("abc"))
    return Conducted(Aggregate(weights, statistic, {"train_loss": 0.5}, count), reports, "2024-05-01", 1.5, {"wait": 1})


def shifted(by: float) -> dict[str, np.ndarray]:
    return {name: value + np.float32(by) for name, value in WEIGHTS.items()}


@pytest.mark.parametrize("members", range(1, 40))
def test_the_quorum_is_the_least_number_that_reaches_the_share(members: int) -> None:
    for hundredths in range(1, 101):
        exact = Fraction(hundredths, 100) * members
        assert quorum(members, hundredths / 100) == max(1, -(-exact.numerator // exact.denominator))


# ---- committed, skipped, failed --------------------------------------------------------------------------------------


def test_a_committed_train_round() -> None:
    state = replace(STATE, skips=2)
    outcome = settle(state, step_of(Action.TRAIN, 1), CONFIG, conducted(2, shifted(0.1)))
    assert isinstance(outcome, Committed)
    after, record = outcome.state, outcome.record
    assert (after.finished, after.step, after.skips) == (12, 12, 0)
    np.testing.assert_array_equal(after.model.weights["head.bias"], shifted(0.1)["head.bias"])
    assert after.model.clusters is CLUSTERS
    assert (record.number, record.status, record.reason) == (12, Status.COMMITTED, None)
    assert record.model == after.model.digest != state.model.digest
    assert (record.accepted, [p.plant for p in record.rejected]) == (("a", "b"), ["c"])
    assert (record.metrics, record.config, record.label) == ({"train_loss": 0.5}, CONFIG.digest, "train 1/2")
    assert record.clusters is None


def test_a_round_short_of_its_quorum_is_skipped_and_changes_nothing_but_the_count() -> None:
    outcome = settle(STATE, step_of(Action.TRAIN), CONFIG, conducted(1, shifted(0.1)))
    assert isinstance(outcome, Skipped)
    assert outcome.state == replace(STATE, finished=12, skips=1)
    assert outcome.record.model == STATE.model.digest
    assert outcome.record.reason == "1 of 3 plants counted, the quorum is 2"
    assert outcome.record.status is Status.SKIPPED


def test_too_many_skips_in_a_row_fail_the_run() -> None:
    state, outcomes = STATE, []
    for _ in range(3):
        outcome = settle(state, step_of(Action.TRAIN), CONFIG, conducted(1))
        outcomes.append(type(outcome))
        state = outcome.state
    assert outcomes == [Skipped, Skipped, Failed]
    assert outcome.record.reason.endswith("skipped 3 times in a row")
    assert outcome.record.status is Status.FAILED
    # A failed run can be resumed: the step it failed at comes next.
    assert (state.step, state.model) == (STATE.step, STATE.model)


def test_a_committed_round_ends_the_row_of_skips() -> None:
    skipped = settle(replace(STATE, skips=1), step_of(Action.TRAIN), CONFIG, conducted(0)).state
    assert skipped.skips == 2
    assert settle(skipped, step_of(Action.TRAIN), CONFIG, conducted(3, shifted(0))).state.skips == 0


def test_a_state_is_a_value() -> None:
    before = replace(STATE)
    digest = STATE.model.digest
    settle(STATE, step_of(Action.TRAIN), CONFIG, conducted(3, shifted(0.5)))
    assert before == STATE
    assert GlobalModel(STATE.model.weights, STATE.model.clusters).digest == digest


def test_adam_moves_the_model_against_the_mean_gradient_by_its_rate_and_keeps_its_moments() -> None:
    config = settings(rounds={"server_optimizer": "adam", "server_learning_rate": 0.01})
    outcome = settle(STATE, step_of(Action.TRAIN, 0, config), config, conducted(3, shifted(5.0)))
    moved = outcome.state.model.weights["head.bias"] - WEIGHTS["head.bias"]
    np.testing.assert_allclose(moved, -0.01, rtol=1e-4)
    assert outcome.state.optimizer.step == 1
    again = settle(outcome.state, step_of(Action.TRAIN, 0, config), config, conducted(3, shifted(5.0)))
    assert again.state.optimizer.step == 2
    assert outcome.state.optimizer.step == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", [1e5, 1e30, 1e308])
def test_a_model_that_no_plant_would_take_is_not_committed(rate: float) -> None:
    adam = settings(rounds={"server_optimizer": "adam"})  # it refuses such rates, but is not all that could go wrong
    config = adam.model_copy(update={"rounds": adam.rounds.model_copy(update={"server_learning_rate": rate})})
    outcome = settle(STATE, step_of(Action.TRAIN, 0, config), config, conducted(3, shifted(5.0)))
    assert isinstance(outcome, Skipped)
    assert outcome.state == replace(STATE, finished=12, skips=1)
    assert outcome.record.model == STATE.model.digest
    assert outcome.record.reason == (
        "model: tensor head.bias has values that are not finite or beyond 10,000 "
        f"after the server's Adam step at server_learning_rate {rate:g}"
    )
    last = settle(replace(STATE, skips=2), step_of(Action.TRAIN, 0, config), config, conducted(3, shifted(5.0)))
    assert isinstance(last, Failed)


def test_at_a_rate_that_may_be_set_a_model_at_the_edge_is_not_pushed_over_it() -> None:
    config = settings(rounds={"server_optimizer": "adam", "server_learning_rate": 10.0})
    edge = {name: np.full(value.shape, 9_995, np.float32) for name, value in WEIGHTS.items()}
    gradient = {name: -np.ones_like(value) for name, value in edge.items()}
    state = replace(STATE, model=GlobalModel(edge, CLUSTERS))
    outcome = settle(state, step_of(Action.TRAIN, 0, config), config, conducted(3, gradient))
    assert isinstance(outcome, Skipped)
    assert "Adam step at server_learning_rate 10" in outcome.record.reason


def test_nor_are_centroids_that_no_plant_would_take() -> None:
    far = replace(CLUSTERS, centroids_KZ=np.full((K, Z), 9.9e5, np.float32))
    config = settings(recipe={"detector": {"bottleneck": "linear"}})
    total = Statistic(np.full((K, Z), 1e6), np.full(K, 10.0), 1.0)
    state = replace(STATE, model=GlobalModel(WEIGHTS, far))
    outcome = settle(state, step_of(Action.REFINE, 0, config), config, conducted(3, None, total))
    assert isinstance(outcome, Skipped)
    assert outcome.record.reason == "model: centroids that are not finite or beyond 1,000,000 after aggregation"


def test_a_cluster_round_keeps_weights_and_moments() -> None:
    config = settings(rounds={"server_optimizer": "adam"})
    state = replace(STATE, optimizer=OptimizerState(3))
    total = Statistic(np.full((K, Z), 0.5), np.full(K, 10.0), 1.0)
    outcome = settle(state, step_of(Action.REFINE, 0, config), config, conducted(3, None, total))
    assert outcome.state.model.weights is WEIGHTS
    assert outcome.state.optimizer.step == 3
    np.testing.assert_allclose(outcome.state.model.clusters.centroids_KZ, CLUSTERS.centroids_KZ + 0.05, atol=1e-6)


# ---- seeding, step by step -------------------------------------------------------------------------------------------


def test_seeding_step_by_step() -> None:
    """The centre, then the radius that over-seeds, then seeds, then their merger down to K."""
    state = replace(STATE, model=GlobalModel(WEIGHTS))
    mean = np.full((1, Z), 0.1)
    state = settle(
        state, step_of(Action.CENTRE), CONFIG, conducted(3, None, Statistic(40 * mean, np.full(1, 40.0), 9.0))
    ).state
    np.testing.assert_allclose(state.model.clusters.centroids_KZ, mean, rtol=1e-6)
    outcome = settle(
        state, step_of(Action.RADIUS), CONFIG, conducted(3, None, Statistic(0 * mean, np.full(1, 40.0), 3.6))
    )
    seeds = outcome.state.model.clusters
    assert seeds.count == 4 * K
    assert seeds.radius == pytest.approx(0.3)
    assert np.linalg.norm(seeds.centroids_KZ - mean, axis=1).max() <= 1.2 * 0.3 + 1e-6
    assert outcome.record.clusters.displacement == (0.0,) * (4 * K)
    state = outcome.state
    busy = np.asarray([5.0] * 10 + [0.0] * 2)
    total = Statistic(np.zeros((12, Z)), busy, 1.0)
    first = settle(state, step_of(Action.SEED), CONFIG, conducted(3, None, total)).state.model.clusters
    np.testing.assert_array_equal(first.centroids_KZ[:10], seeds.centroids_KZ[:10])
    assert not np.array_equal(first.centroids_KZ[10:], seeds.centroids_KZ[10:])
    last = settle(state, step_of(Action.SEED, 3), CONFIG, conducted(3, None, total)).state.model.clusters
    assert last.count == K


@pytest.mark.parametrize(("choose", "count"), [("index", 2), ("fixed", 5)])
def test_seeding_ends_with_as_many_clusters_as_the_statistic_shows_unless_they_are_fixed(
    choose: str, count: int
) -> None:
    config = settings(recipe={"clustering": {"clusters": 5, "unit": 20, "choose": choose}})
    at = np.repeat(np.float32([[0.5], [-0.5]]), 10, axis=0) * np.ones((1, Z), np.float32)
    apart = Clusters(at, np.full(20, 0.05, np.float32), np.ones(20, bool), np.zeros(20, np.int64), 0.5)
    shift = 0.01 * np.random.default_rng(0).normal(size=(20, Z))
    total = Statistic(10.0 * shift, np.full(20, 10.0), 10.0 * float((shift**2).sum()) + 0.5)
    state = replace(STATE, model=GlobalModel(WEIGHTS, apart))
    after = settle(state, step_of(Action.SEED, 3, config), config, conducted(3, None, total)).state.model.clusters
    assert after.count == count
    assert np.allclose(np.abs(after.centroids_KZ), 0.5, atol=0.05)


def test_seeding_depends_on_the_run_seed_and_the_step_alone() -> None:
    total = Statistic(np.zeros((1, Z)), np.full(1, 40.0), 3.6)
    single = phases.clusters_to_send(step_of(Action.CENTRE), STATE.model, CONFIG)
    state = replace(STATE, model=GlobalModel(WEIGHTS, single))

    def seeds(at: RunState, config: RunConfig = CONFIG) -> bytes:
        outcome = settle(at, step_of(Action.RADIUS), config, conducted(3, None, total))
        return outcome.state.model.clusters.centroids_KZ.tobytes()

    assert seeds(state) == seeds(replace(state, finished=40))
    assert seeds(state) != seeds(state, settings(seed=1))


def test_the_report_tells_mass_movement_and_activity() -> None:
    total = Statistic(np.full((K, Z), 1.0), np.asarray([10.0, 10.0, 0.0]), 1.0)
    report = settle(STATE, step_of(Action.REFRESH), CONFIG, conducted(3, None, total)).record.clusters
    assert sum(report.mass) == pytest.approx(1)
    assert report.mass[2] < 0.02
    assert report.displacement[0] > 0
    assert report.displacement[2] == 0
    assert report.active == (True, True, True)
    assert 2 < report.effective < 2.3


# ---- the describe round ----------------------------------------------------------------------------------------------


def describe(**plants: Description | tuple[str, ...]) -> Committed | Failed:
    described = {
        name: d if isinstance(d, Description) else Description(SensorSchema(tags=d, period_s=1), MANIFEST, 100, 10)
        for name, d in plants.items()
    }
    reports = tuple(PlantReport(name, True) for name in sorted(described))
    said = Conducted(Aggregate(None, None, {}, len(described)), reports, "2024-05-01", 1.0, {})
    return settle_describe(RunState("run", CONFIG.digest), phases.plan(CONFIG)[0], CONFIG, said, described)


AB, ABC = ("a", "b"), ("a", "b", "c")


def reasons(outcome: Committed | Failed) -> dict[str, str]:
    return {p.plant: p.reason for p in outcome.record.rejected}


def test_the_schema_that_most_plants_have_is_the_federations() -> None:
    outcome = describe(north=ABC, south=AB, west=AB, east=AB)
    assert isinstance(outcome, Committed)
    assert outcome.state.schema.tags == AB
    assert [m.plant for m in outcome.state.members] == ["east", "south", "west"]
    assert list(reasons(outcome)) == ["north"]
    assert "CP-203 SchemaMismatch: plant 'north'" in reasons(outcome)["north"]
    assert "unknown c" in reasons(outcome)["north"]


def test_members_keep_what_they_declared() -> None:
    state = describe(b=AB, a=Description(SensorSchema(tags=AB, period_s=1), MANIFEST, 100, 7)).state
    assert state.members == (Member("a", 100, 7, 100.0), Member("b", 100, 10, 100.0))


def test_a_missing_tag_is_named() -> None:
    reason = reasons(describe(north=ABC, south=("a", "c"), west=ABC))["south"]
    assert reason.startswith("schema: CP-203 SchemaMismatch: plant 'south' sends 2 tags where the federation expects 3")
    assert "missing b; its schema is " in reason


def test_a_tie_goes_to_the_first_by_name() -> None:
    assert describe(d=AB, c=AB, b=ABC, a=ABC).state.schema.tags == ABC
    assert describe(a=AB, b=AB, c=ABC, d=ABC).state.schema.tags == AB


def test_another_network_from_the_same_recipe_is_refused() -> None:
    other = Description(SensorSchema(tags=AB, period_s=1), MANIFEST[:1], 100, 10)
    outcome = describe(a=AB, b=other, c=AB)
    assert [m.plant for m in outcome.state.members] == ["a", "c"]
    assert reasons(outcome)["b"].startswith("detector: plant 'b' builds another network")
    assert outcome.state.manifest == MANIFEST


@pytest.mark.parametrize("plants", [{}, {"a": AB}, {"a": AB, "b": ABC}])
def test_fewer_than_two_that_fit_are_no_federation(plants: dict[str, tuple[str, ...]]) -> None:
    outcome = describe(**plants)
    assert isinstance(outcome, Failed)
    assert outcome.state.step == 0
    assert outcome.record.reason.endswith("plants are compatible, a federation needs 2")


def test_every_run_starts_from_the_public_seed() -> None:
    model = describe(a=AB, b=AB).state.model
    assert model.digest == GlobalModel(initial_weights(MANIFEST, CONFIG.seed)).digest
