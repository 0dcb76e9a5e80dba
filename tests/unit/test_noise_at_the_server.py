"""What the coordinator makes of differential privacy: the clip that moves, floors, the noise it insists on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from server import private
from server.central import CentralFold, drowned
from server.phases import plan
from server.rounds import Member, RunState
from shared.clustering import Statistic
from shared.config import RunConfig, build
from shared.model import GlobalModel, TensorSpec
from shared.privacy.defaults import PRIVATE
from shared.privacy.mechanisms import Randomness
from shared.privacy.noise import least_norm
from shared.wire.envelope import PROTOCOL, Packet, encode_array
from shared.wire.gate import Accepted, Expectation, Rejected, parse_reply
from shared.wire.inventory import Kind
from shared.wire.messages import Request, TrainOrder

NOISE = {"weights": 1.0, "below": 10.0, "loss": 10.0, "statistic": 5.0}
MANIFEST = (TensorSpec("w", (100, 80), 0.1),)
SIZE = 1024


def settings(mode: str = "local", **privacy: object) -> RunConfig:
    layer = {"recipe": {"privacy": {"mode": mode, "epsilon": 3.0, "noise": NOISE, **privacy}}}
    return build({"private": PRIVATE, "own": layer})[0]


STATE = RunState("r", "d", model=GlobalModel({"w": np.zeros((100, 80), np.float32)}))
TRAIN = next(step for step in plan(settings()) if step.label.startswith("train"))
OTHER = next(step for step in plan(settings()) if step.label.startswith("seed"))


# ---- the clip --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("below", "grows"), [(0.9, False), (0.1, True), (50.0, False), (-50.0, True)])
def test_the_clip_follows_the_quantile(below: float, grows: bool) -> None:
    config = settings()
    after = private.next_clip(STATE, TRAIN, config, {"below": below})
    assert (after > config.recipe.privacy.clip) == grows
    assert abs(np.log(after / config.recipe.privacy.clip)) <= 0.2


def test_the_clip_settles_at_the_median_of_the_norms() -> None:
    norms, state, config = np.random.default_rng(0).lognormal(1.0, 0.5, 500), STATE, settings()
    for _ in range(200):
        clip = state.clip or config.recipe.privacy.clip
        below = {"below": float((norms <= clip).mean())}
        state = replace(state, clip=private.next_clip(state, TRAIN, config, below))
    assert state.clip == pytest.approx(np.median(norms), rel=0.05)


def test_the_clip_stays_where_nothing_moves_it() -> None:
    assert private.next_clip(STATE, OTHER, settings(), {"below": 1.0}) == 0.0
    assert private.next_clip(STATE, TRAIN, settings(clip_quantile=None), {"below": 1.0}) == 0.0
    assert private.next_clip(STATE, TRAIN, RunConfig(), {"below": 1.0}) == 0.0
    assert private.next_clip(replace(STATE, clip=0.7), TRAIN, settings(), {"below": 0.5}) == pytest.approx(0.7)


# ---- counts that are noise -------------------------------------------------------------------------------------------


def test_a_count_within_three_deviations_of_the_noise_is_nothing() -> None:
    assert private.floor(RunConfig(), 5, 1.0) == 1.0
    one, nine = private.floor(settings(), 1, 1.0), private.floor(settings(), 9, 1.0)
    assert nine == pytest.approx(3 * one)
    assert one > 3 * NOISE["statistic"]  # part of the precision goes to the sums
    assert private.floor(settings("central"), 9, 1.0) == pytest.approx(one)


# ---- the gate --------------------------------------------------------------------------------------------------------


def expectation(clusters: tuple[int, int] | None = None) -> Expectation:
    request = Request(Kind.TRAIN, "r", 3, settings().recipe, order=TrainOrder(clip=0.5, one_step=True), radius=2.0)
    due = private.due(settings(), request, Member("a", SIZE, SIZE, 1.0))
    base = {"w": np.zeros((100, 80), np.float32)}
    return Expectation(
        Kind.TRAIN, "r", 3, plant="a", segments=SIZE, manifest=MANIFEST, base=base, gradient=True, noise=due,
        clusters=clusters, radius=2.0,
    )  # fmt: skip


def reply(sd: float, **numbers: float) -> Packet:
    values = np.random.default_rng(1).normal(0, sd, (100, 80)).astype(np.float32)
    arrays = {"gradient/w": encode_array(values)}
    head = {"run": "r", "kind": "train", "plant": "a"}
    return Packet(arrays, {"protocol": PROTOCOL, "round": 3, "below": 0.4, "train_loss": -0.2, **numbers}, head)


def due_sd() -> float:
    return NOISE["weights"] * 0.5 / (settings().recipe.privacy.sampling * SIZE)


@pytest.mark.parametrize("factor", [1.0, 1.5, 20.0])
def test_an_honest_gradient_passes(factor: float) -> None:
    verdict = parse_reply(reply(factor * due_sd()), expectation())
    assert isinstance(verdict, Accepted), verdict
    assert verdict.examples is None
    assert dict(verdict.metrics) == {"train_loss": -0.2, "below": 0.4}


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9, 1 / SIZE], ids=["none", "half", "a tenth less", "over the batch"])
def test_a_gradient_with_too_little_noise_is_refused_by_name(factor: float) -> None:
    verdict = parse_reply(reply(factor * due_sd()), expectation())
    assert isinstance(verdict, Rejected)
    assert verdict.reason.startswith("noise: ")
    assert "too little noise" in verdict.reason


def test_honest_noise_is_hardly_ever_refused() -> None:
    rng = np.random.default_rng(2)
    norms = np.sqrt(rng.chisquare(8_000, 100_000))
    assert (norms >= least_norm(1.0, 8_000)).all()
    assert least_norm(1.0, 8_000) > 0.95 * np.median(norms)


@pytest.mark.parametrize("name", ["holdout_loss", "cluster_loss", "seconds_train", "examples"])
def test_what_is_not_protected_may_not_come(name: str) -> None:
    verdict = parse_reply(reply(due_sd(), **{name: 1}), expectation())
    assert isinstance(verdict, Rejected)
    assert "under differential privacy" in verdict.reason


def test_weights_are_no_gradient() -> None:
    honest = reply(due_sd())
    weights = Packet({"weights/w": honest.arrays["gradient/w"]}, honest.numbers, honest.texts)
    assert isinstance(parse_reply(weights, expectation()), Rejected)
    both = Packet({**honest.arrays, **weights.arrays}, honest.numbers, honest.texts)
    assert isinstance(parse_reply(both, expectation()), Rejected)


def with_statistic(sums: np.ndarray, counts: np.ndarray, spread: float) -> Accepted | Rejected:
    honest = reply(due_sd())
    arrays = {**honest.arrays, "cluster_sums": encode_array(sums), "cluster_counts": encode_array(counts)}
    packet = Packet(arrays, {**honest.numbers, "cluster_spread": spread}, honest.texts)
    return parse_reply(packet, expectation((4, 3)))


def test_noised_counts_may_be_negative_but_not_by_anything() -> None:
    sums = np.zeros((4, 3))
    assert isinstance(with_statistic(sums, np.array([700.0, 600.0, -20.0, 3.0]), -5.0), Accepted)
    outage = np.array([340.0, 0.0, -20.0, 3.0])  # segments without a usable reading count for nothing
    assert isinstance(with_statistic(sums, outage, -5.0), Accepted)
    for counts in ([700.0, 600.0, -200.0, 3.0], [-60.0, -60.0, -60.0, -60.0], [9_000.0, 0.0, 0.0, 0.0]):
        assert isinstance(with_statistic(sums, np.array(counts), 0.0), Rejected), counts
    whole = np.array([700.0, 600.0, -20.0, 3.0])
    assert isinstance(with_statistic(np.full((4, 3), 1e5), whole, 0.0), Rejected)
    assert isinstance(with_statistic(sums, whole, 1e9), Rejected)
    assert isinstance(with_statistic(sums, whole, -1e6), Rejected)


# ---- the plant as the unit -------------------------------------------------------------------------------------------

BASE = {"w": np.full((100, 80), 2.0, np.float32)}


def central(n: int, charged: list[tuple[str, float]], least: int = 1, multiplier: float = 1.0) -> CentralFold:
    noise = {**NOISE, "weights": multiplier}
    privacy = settings("central", noise=noise).recipe.privacy
    return CentralFold(BASE, privacy, n, least, 2.0, lambda what, z: charged.append((what, z)))


def update(plant: str, length: float, said: Statistic | None = None) -> Accepted:
    change = np.zeros((100, 80))
    change[0, 0] = length
    return Accepted(plant, weights={"w": (BASE["w"] + change).astype(np.float32)}, update_norm=length, statistic=said)


def test_one_plant_moves_the_sum_by_the_clip_at_most() -> None:
    for length in (0.1, 1.0, 1e3):
        fold = central(4, [], multiplier=0.0)
        fold.add(update("a", length), 99.0)
        found = fold.result().weights
        assert found is not None
        moved = np.abs(found["w"].astype(np.float64) - BASE["w"]).sum() * 4
        assert moved == pytest.approx(min(length, 0.3), rel=1e-2)


def test_absent_plants_count_as_no_change_and_the_noise_stays() -> None:
    charged: list[tuple[str, float]] = []
    fold = central(4, charged)
    fold.add(update("a", 0.1), 1.0)
    found = fold.result().weights
    assert found is not None
    noise = (found["w"] - BASE["w"]).ravel()[1:]
    assert noise.std() == pytest.approx(1.0 * 0.3 / 4, rel=0.05)
    assert charged == [("weights", 1.0)]


def test_two_rounds_draw_other_noise() -> None:
    found = []
    for _ in range(2):
        fold = central(2, [])
        fold.add(update("a", 0.1), 1.0)
        weights = fold.result().weights
        assert weights is not None
        found.append(weights["w"])
    assert not np.array_equal(*found)


def test_a_round_below_the_quorum_releases_and_charges_nothing() -> None:
    charged: list[tuple[str, float]] = []
    fold = central(4, charged, least=2)
    fold.add(update("a", 0.1, Statistic(np.ones((2, 3)), np.array([5.0, 5.0]), 1.0)), 1.0)
    result = fold.result()
    assert (result.weights, result.statistic, charged) == (None, None, [])


def test_a_plants_statistic_counts_as_one_plant() -> None:
    fold = central(2, [])
    fold.noise = Randomness.keyed(b"k" * 32, "test")
    for plant, scale in (("a", 1.0), ("b", 1e6)):
        fold.add(update(plant, 0.1, Statistic(np.ones((1, 3)) * scale, np.array([scale]), scale)), 1.0)
    found = fold.result().statistic
    assert found is not None
    assert abs(found.counts_K[0] - 2.0) < 6 * 12


def test_noise_that_drowns_the_signal_is_refused_with_the_ratio() -> None:
    hopeless = private.hopeless(settings("central"), MANIFEST, 3)
    assert hopeless is not None
    assert f"{drowned(1.0, 8_000, 3):.3g}" in hopeless
    assert private.hopeless(settings("central"), MANIFEST, 50) is None
    assert private.hopeless(settings(), MANIFEST, 3) is None
