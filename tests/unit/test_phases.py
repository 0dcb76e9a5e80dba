from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from server import phases
from server.phases import Action, Step
from server.rounds import Phase, RunState
from shared.config import RunConfig, build
from shared.lag.pooled import LagSum
from shared.model import Clusters, GlobalModel
from shared.wire.inventory import Kind
from tests.support.puppets import MANIFEST


def config(pretrain: int = 1, joint: int = 2, **groups: object) -> RunConfig:
    return build({"a": {"rounds": {"pretrain": pretrain, "joint": joint}}, "b": groups})[0]


def clustering(**fields: object) -> dict[str, object]:
    return {"recipe": {"clustering": fields}}


def names(settings: RunConfig) -> list[str]:
    return [f"{step.phase.value}: {step.label}" for step in phases.plan(settings)]


SEEDING = [
    "cluster: centre",
    "cluster: radius",
    *(f"cluster: seed {i}/4" for i in (1, 2, 3, 4)),
    *(f"cluster: refine {i}/3" for i in (1, 2, 3)),
]
LAST = ["calibrate: moments", "calibrate: calibrate"]
FINAL = [f"joint: refresh {i}/3" for i in (1, 2, 3)]


def test_the_plan_of_a_whole_run() -> None:
    assert names(config()) == [
        "describe: describe",
        "pretrain: train 1/1",
        *SEEDING,
        "joint: train 1/2",
        "joint: refresh 1/1",
        "joint: train 2/2",
        *FINAL,
        *LAST,
    ]


@pytest.mark.parametrize(
    ("every", "joint", "after"), [(0, 6, []), (1, 4, [1, 2, 3]), (2, 6, [2, 4]), (4, 6, [4]), (6, 6, []), (9, 6, [])]
)
def test_plants_publish_while_a_run_goes_on_if_it_is_asked_for(every: int, joint: int, after: list[int]) -> None:
    settings = build({"a": {"rounds": {"pretrain": 1, "joint": joint, "calibrate_every": every}}})[0]
    steps = phases.plan(settings)
    asked = [step for step in steps if step.action is Action.CALIBRATE]
    assert [step.label for step in asked] == [*(f"calibrate {i}" for i in after), "calibrate"]
    assert [step.phase for step in asked] == [Phase.JOINT] * len(after) + [Phase.CALIBRATE]
    for step in asked:
        refresh, moments = steps[steps.index(step) - 2 : steps.index(step)]
        assert refresh.action is Action.REFRESH  # of the clusters, under the weights that are published
        assert (moments.action, moments.phase, moments.index) == (Action.MOMENTS, step.phase, step.index)


@pytest.mark.parametrize(
    "recipe",
    [
        {"lag": {"on": False}},
        {"sharing": {"share": "trunk"}},
        {"privacy": {"mode": "central", "epsilon": 1.0}, "clustering": {"clip": "cloud"}},
    ],
    ids=["off", "plants with other tags", "differential privacy"],
)
def test_nobody_is_asked_for_moments_where_they_mean_nothing_or_tell_too_much(recipe: dict[str, object]) -> None:
    settings = config(1, 4, recipe=recipe, rounds={"calibrate_every": 1, "weighting": "uniform"})
    actions = [step.action for step in phases.plan(settings)]
    assert Action.MOMENTS not in actions
    assert actions.count(Action.CALIBRATE) == 4


def test_moments_need_no_model_and_only_plants_that_calibrate_get_the_sum() -> None:
    total = LagSum(np.ones(3), {"0" * 16: 1.0, "1" * 16: 0.5})
    state = replace(STATE, moments=total)
    asked = phases.request(step_of(Action.MOMENTS, config()), state, config())
    assert (asked.kind, asked.round, asked.model, asked.digest, asked.lag) == (Kind.MOMENTS, 5, None, "", None)
    for action in (Action.TRAIN, Action.REFRESH, Action.CALIBRATE):
        told = phases.request(step_of(action, config()), state, config()).lag
        assert told is (total if action is Action.CALIBRATE else None)


def test_a_plan_without_warm_up_and_one_without_clustered_training() -> None:
    assert names(config(0, 1)) == ["describe: describe", *SEEDING, "joint: train 1/1", *FINAL, *LAST]
    assert names(config(2, 0)) == [
        "describe: describe",
        "pretrain: train 1/2",
        "pretrain: train 2/2",
        *SEEDING,
        *LAST,
    ]


def test_the_steps_of_seeding_are_settings() -> None:
    planned = names(config(1, 1, **clustering(seed_steps=2, refine_steps=1)))
    assert planned[2:7] == [
        "cluster: centre",
        "cluster: radius",
        "cluster: seed 1/2",
        "cluster: seed 2/2",
        "cluster: refine 1/1",
    ]
    assert planned[-3] == "joint: refresh 1/1"


@pytest.mark.parametrize(
    ("every", "joint", "after"),
    [(0, 5, [4]), (1, 3, [0, 1, 2]), (2, 5, [1, 3, 4]), (2, 4, [1, 3]), (3, 7, [2, 5, 6]), (10, 3, [2])],
)
def test_a_refresh_follows_every_few_rounds_and_always_the_last(every: int, joint: int, after: list[int]) -> None:
    settings = config(1, joint, **clustering(refresh_every=every, refresh_steps=2))
    steps = phases.plan(settings)
    found = [
        steps[i - 1].index
        for i, step in enumerate(steps)
        if step.action is Action.REFRESH and steps[i - 1].action is Action.TRAIN
    ]
    assert found == after
    exchanges = sum(step.action is Action.REFRESH for step in steps)
    assert exchanges == 2 * (len(after) - 1) + settings.recipe.clustering.refine_steps


def test_training_rounds_are_numbered_through() -> None:
    steps = [step for step in phases.plan(config(3, 4)) if step.action is Action.TRAIN]
    assert [step.training for step in steps] == list(range(7))
    assert [step.index for step in steps] == [0, 1, 2, 0, 1, 2, 3]


def test_the_last_seed_step_is_marked() -> None:
    steps = [step for step in phases.plan(config()) if step.action is Action.SEED]
    assert [step.last for step in steps] == [False, False, False, True]


# ---- the weight of the clustering loss -------------------------------------------------------------------------------


def alphas(settings: RunConfig) -> list[float]:
    return [phases.alpha(step, settings) for step in phases.plan(settings) if step.action is Action.TRAIN]


def test_alpha_is_annealed_from_nothing_at_the_first_joint_round() -> None:
    found = alphas(config(2, 4, **clustering(alpha_max=0.5, beta=0.05)))
    assert found == pytest.approx([0, 0, *(0.5 * (1 - math.exp(-0.05 * t)) for t in range(4))])
    assert found[2] == 0.0


def test_the_letter_of_the_paper_jumps_to_0_388() -> None:
    found = alphas(config(30, 70, **clustering(anneal_from="start")))
    assert found[:30] == [0.0] * 30
    assert found[30] == pytest.approx(0.388, abs=5e-4)
    assert found[-1] == pytest.approx(0.5 * (1 - math.exp(-0.05 * 99)))


def test_alpha_counts_epochs_not_rounds() -> None:
    many = config(1, 3, recipe={"training": {"local_epochs": 5}})
    assert alphas(many)[2] == pytest.approx(0.5 * (1 - math.exp(-0.25)))
    one_step = config(1, 3, recipe={"training": {"local_epochs": 5}}, rounds={"server_optimizer": "adam"})
    assert alphas(one_step)[2] == pytest.approx(0.5 * (1 - math.exp(-0.05)))


def test_alpha_is_zero_outside_of_training() -> None:
    settings = config()
    for step in phases.plan(settings):
        if step.phase is not Phase.JOINT:
            assert phases.alpha(step, settings) == 0.0


@pytest.mark.parametrize(
    ("recipe", "chosen"),
    [
        ({}, True),
        ({"clustering": {"choose": "fixed"}}, False),
        ({"clustering": {"clusters": 2}}, False),
        ({"clustering": {"clip": "cloud"}}, False),
        ({"privacy": {"mode": "central", "epsilon": 1.0}, "clustering": {"clip": "cloud"}}, False),
    ],
)
def test_clusters_are_counted_where_sums_are_exact_and_there_is_a_choice(
    recipe: dict[str, object], chosen: bool
) -> None:
    settings = config(recipe=recipe, rounds={"weighting": "uniform"})
    assert phases.chooses_clusters(settings) is chosen


# ---- what is asked ---------------------------------------------------------------------------------------------------

CLUSTERS = Clusters(
    np.zeros((3, 16), np.float32), np.full(3, 1 / 3, np.float32), np.ones(3, bool), np.zeros(3, np.int64), 0.5
)
WEIGHTS = {spec.name: np.zeros(spec.shape, np.float32) for spec in MANIFEST}
STATE = RunState("run", "digest", finished=4, step=5, model=GlobalModel(WEIGHTS, CLUSTERS))


def step_of(action: Action, settings: RunConfig, index: int = 0) -> Step:
    return [step for step in phases.plan(settings) if step.action is action][index]


def test_the_describe_request_carries_no_model() -> None:
    asked = phases.request(phases.plan(config())[0], RunState("run", "digest"), config())
    assert (asked.kind, asked.run, asked.round, asked.model, asked.digest) == (Kind.DESCRIBE, "run", 1, None, "")


def test_a_train_request() -> None:
    settings = config(1, 3)
    asked = phases.request(step_of(Action.TRAIN, settings, 2), STATE, settings)
    assert (asked.kind, asked.round, asked.digest) == (Kind.TRAIN, 5, STATE.model.digest)
    assert asked.order.step == 2
    assert asked.order.alpha == pytest.approx(0.5 * (1 - math.exp(-0.05)))
    assert (asked.order.one_step, asked.order.with_statistic) == (False, False)
    adam = config(1, 3, rounds={"server_optimizer": "adam"})
    assert phases.request(step_of(Action.TRAIN, adam), STATE, adam).order.one_step


def test_the_centre_is_taken_about_the_origin() -> None:
    settings = config()
    asked = phases.request(step_of(Action.CENTRE, settings), STATE, settings)
    np.testing.assert_array_equal(asked.model.clusters.centroids_KZ, np.zeros((1, 16)))
    assert asked.model.clusters.radius == 4.0  # sqrt(16) behind a tanh
    assert asked.digest == asked.model.digest != STATE.model.digest
    assert asked.radius == 8.0


@pytest.mark.parametrize("action", [Action.RADIUS, Action.SEED, Action.REFINE, Action.REFRESH])
def test_other_cluster_requests_carry_the_clusters_of_the_model(action: Action) -> None:
    asked = phases.request(step_of(action, config()), STATE, config())
    assert (asked.kind, asked.model.clusters) == (Kind.CLUSTER, CLUSTERS)


@pytest.mark.parametrize(
    ("action", "public", "cloud"),
    [(Action.SEED, 8.0, 0.75), (Action.REFINE, 8.0, 0.5), (Action.REFRESH, 8.0, 0.5), (Action.TRAIN, 8.0, 0.5)],
)
def test_the_clipping_radius(action: Action, public: float, cloud: float) -> None:
    for clip, radius in (("public", public), ("cloud", cloud)):
        settings = config(1, 2, **clustering(clip=clip))
        assert phases.clip_radius(step_of(action, settings), CLUSTERS, settings) == radius


def test_nothing_bounds_a_linear_bottleneck() -> None:
    settings = config(1, 2, recipe={"detector": {"bottleneck": "linear"}})
    assert phases.latent_box(settings) == phases.public_radius(settings) == math.inf
    assert phases.clip_radius(step_of(Action.SEED, settings), CLUSTERS, settings) == math.inf


def test_before_there_are_clusters_there_is_no_radius() -> None:
    settings = config()
    asked = phases.request(step_of(Action.TRAIN, settings), replace(STATE, model=GlobalModel(WEIGHTS)), settings)
    assert (asked.radius, asked.model.clusters) == (math.inf, None)


def test_a_statistic_comes_with_every_cluster_round_and_joint_rounds_that_no_refresh_follows() -> None:
    settings = config(1, 4, **clustering(refresh_every=2))
    wanted = [f"{s.phase.value}: {s.label}" for s in phases.plan(settings) if phases.wants_statistic(s, settings)]
    assert wanted == [
        *SEEDING,
        "joint: train 1/4",
        "joint: refresh 1/1",
        "joint: train 3/4",
        *FINAL,
    ]
