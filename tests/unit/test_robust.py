from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from server import robust
from server.aggregate import RunningMean
from server.robust import Extremes, Krum, Medians, RobustFold, Rule, Spool, fold_for, remember
from server.rounds import Member, RunState
from shared.clustering import Statistic
from shared.config import TRUSTED, RoundConfig, RunConfig, build
from shared.errors import InvalidConfig
from shared.model import GlobalModel
from shared.wire.gate import Accepted
from simulations.settings import load_preset

BASE = {"a": np.full((2, 3), 5.0, np.float32), "b": np.zeros(4, np.float32)}


def reply(plant: str, change: float | np.ndarray, **fields: object) -> Accepted:
    change_P = np.broadcast_to(np.asarray(change, np.float64), 10)
    weights = {"a": (BASE["a"] + change_P[:6].reshape(2, 3)).astype(np.float32), "b": change_P[6:].astype(np.float32)}
    norm = float(np.sqrt(sum(((weights[n] - BASE[n]).astype(np.float64) ** 2).sum() for n in BASE)))
    return replace(Accepted(plant, 10, weights, update_norm=norm), **fields)


def folded(changes: list[float | np.ndarray], rule: Rule, **settings: object) -> tuple[np.ndarray, RobustFold]:
    fold = RobustFold(BASE, rule, **{"clipped": False, **settings})
    for number, change in enumerate(changes):
        fold.add(reply(f"p{number}", change), 1.0)
    return np.concatenate([(fold.result().weights[n] - BASE[n]).ravel() for n in BASE]), fold


# ---- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [([1.0, 2.0, 30.0], 2.0), ([1.0, 2.0, 3.0, 40.0], 2.5), ([-9.0, 1.0, 2.0, 3.0, 50.0], 2.0)],
)
def test_the_extremes_of_every_coordinate_are_left_out(changes: list[float], expected: float) -> None:
    """For 3 and 4 replies that is the median."""
    moved, _ = folded(changes, Extremes())
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


@pytest.mark.parametrize("count", [3, 4])
def test_of_three_and_four_the_trimmed_mean_is_the_median(count: int) -> None:
    rng = np.random.default_rng(count)
    changes = [rng.normal(size=10) for _ in range(count)]
    trimmed, _ = folded(list(changes), Extremes())
    np.testing.assert_allclose(trimmed, np.median(changes, axis=0), atol=1e-6)


def test_equal_values_lose_two_plants_not_one() -> None:
    moved, _ = folded([1.0, 1.0, 1.0, 7.0, 1.0], Extremes())
    np.testing.assert_allclose(moved, 1.0)
    moved, _ = folded([3.0, 3.0, 3.0], Extremes())
    np.testing.assert_allclose(moved, 3.0)


def test_weights_count_among_those_that_are_left() -> None:
    rule = Extremes()
    for change, weight in ((0.0, 100.0), (1.0, 1.0), (2.0, 3.0), (9.0, 100.0)):
        rule.add(np.full(4, change, np.float32), weight, "p")
    np.testing.assert_allclose(rule.result()[0], (1 * 1 + 2 * 3) / 4)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("rule", [Extremes, Medians])
def test_of_two_the_mean_is_taken_and_says_so(count: int, rule: type[Rule]) -> None:
    moved, fold = folded([1.0, 3.0][:count], rule())
    np.testing.assert_allclose(moved, [1.0, 2.0][count - 1])
    assert fold.result().notes == (robust.few(count),)


def test_the_median() -> None:
    moved, _ = folded([1.0, 2.0, 3.0, 4.0, 1000.0], Medians())
    np.testing.assert_allclose(moved, 3.0)


def test_krum_takes_one_plant_and_says_what_that_costs() -> None:
    fold = RobustFold(BASE, Krum(), clipped=False)
    for number, change in enumerate([0.0, 1.0, 1.1, 1.2, 50.0]):
        fold.add(reply(f"p{number}", change), 1.0)
    result = fold.result()
    np.testing.assert_allclose(result.weights["b"], 1.1, rtol=1e-6)
    assert result.notes == ("aggregation: krum took p2 alone; it destroys modes that few plants have",)


def test_krum_compares_changes_not_weights() -> None:
    """At weights of 9,000 the distances of float32 weights would be rounding (measured: all zero at 1,000)."""
    base = {"a": np.full(6, 9_000.0, np.float32)}
    fold = RobustFold(base, Krum(), clipped=False)
    for number, change in enumerate([0.5, 0.002, 0.001, 0.002, 0.003]):
        fold.add(Accepted(f"p{number}", 1, {"a": base["a"] + np.float32(change)}, update_norm=1.0), 1.0)
    assert "p0" not in fold.result().notes[0]


def test_krum_of_fewer_than_five_is_the_median() -> None:
    moved, _ = folded([1.0, 2.0, 3.0, 50.0], Krum())
    np.testing.assert_allclose(moved, 2.5)


@pytest.mark.parametrize("rule", [Extremes, Medians, Krum])
def test_one_plant_that_shouts_does_not_move_the_rest(rule: type[Rule]) -> None:
    rng = np.random.default_rng(0)
    honest = [rng.normal(size=10) for _ in range(6)]
    moved, _ = folded([*honest, np.full(10, 5_000.0)], rule())
    assert (moved <= np.max(honest, axis=0) + 1e-5).all()
    assert (moved >= np.min(honest, axis=0) - 1e-5).all()


@pytest.mark.parametrize("count", [robust.HELD, robust.HELD + 1, 50])
def test_many_plants_go_through_a_file(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust, "_BLOCK", 7)
    spool, rng = Spool(), np.random.default_rng(0)
    rows = rng.normal(size=(count, 23)).astype(np.float32)
    for row in rows:
        spool.add(row)
    np.testing.assert_array_equal(np.concatenate(list(spool.blocks()), axis=1), rows)
    assert len(spool._rows) == (0 if count > robust.HELD else count)
    spool.close()


# ---- the clip --------------------------------------------------------------------------------------------------------


def test_without_a_history_updates_are_clipped_to_the_median_of_the_round() -> None:
    fold = RobustFold(BASE, Extremes())
    for number, change in enumerate([1.0, 1.0, 1.0, 100.0, -100.0]):
        fold.add(reply(f"p{number}", change), 1.0)
    result = fold.result()
    assert result.bound == pytest.approx(np.sqrt(10))
    assert result.norms == pytest.approx([np.sqrt(10)] * 3 + [100 * np.sqrt(10)] * 2)
    np.testing.assert_allclose(result.weights["b"], 1.0, rtol=1e-5)


def test_with_a_history_updates_are_clipped_to_its_median() -> None:
    fold = RobustFold(BASE, Extremes(), (1.0, 2.0, 90.0))
    for number in range(3):
        fold.add(reply(f"p{number}", 50.0), 1.0)
    result = fold.result()
    assert result.bound == 2.0
    change_P = np.concatenate([(result.weights[n] - BASE[n]).ravel() for n in BASE])
    assert np.linalg.norm(change_P) == pytest.approx(2.0, rel=1e-4)


def test_the_memory_of_norms() -> None:
    norms: tuple[float, ...] = ()
    for number in range(8):
        norms = remember(norms, [number, number, 1e9])
    assert norms == (3.0, 4.0, 5.0, 6.0, 7.0)
    assert remember(norms, []) == norms


def test_the_bound_recovers_from_a_round_in_which_nothing_moved() -> None:
    norms = remember((), [0.0, 0.0, 0.0])
    for _ in range(robust.MEMORY):
        norms = remember(norms, [1.0, 1.0, 1.0])
    assert np.median(norms) == 1.0


def test_few_replies_wait_while_no_norm_is_known() -> None:
    fold = RobustFold(BASE, Extremes())
    for number in range(robust.HELD + 5):
        fold.add(reply(f"p{number}", 1.0), 1.0)
        assert len(fold._waiting) < robust.HELD
    assert fold.result().count == robust.HELD + 5


# ---- the fold --------------------------------------------------------------------------------------------------------


def test_statistics_and_metrics_are_those_of_the_mean() -> None:
    mean, fold = RunningMean(), RobustFold(BASE, Extremes())
    for number in range(4):
        said = Statistic(np.full((3, 2), number), np.asarray([5.0 * (number == 0), 0.5, 2.0]), 1.0)
        accepted = reply(f"p{number}", 1.0, statistic=said, metrics={"train_loss": float(number)})
        for into in (mean, fold):
            into.add(accepted, 1.0 + number)
    theirs, mine = mean.result(), fold.result()
    assert mine.metrics == theirs.metrics
    assert mine.count == theirs.count == 4
    assert mine.plants_K == theirs.plants_K == (1, 0, 4)
    np.testing.assert_array_equal(mine.statistic.sums_KZ, theirs.statistic.sums_KZ)


def test_a_round_without_updates_has_no_weights_norms_or_notes() -> None:
    fold = RobustFold(BASE, Extremes())
    fold.add(Accepted("p", statistic=Statistic(np.ones((1, 1)), np.ones(1), 0.5)), 1.0)
    result = fold.result()
    assert (result.weights, result.norms, result.notes, result.count) == (None, (), (), 1)


def test_updates_that_change_nothing_leave_the_model() -> None:
    moved, _ = folded([0.0] * 5, Extremes(), clipped=True)
    np.testing.assert_array_equal(moved, 0)


@pytest.mark.parametrize(
    ("name", "rule", "clipped"),
    [
        ("robust", Extremes, True),
        ("trimmed-mean", Extremes, False),
        ("median", Medians, False),
        ("krum", Krum, False),
    ],
)
def test_the_setting_chooses(name: str, rule: type, clipped: bool) -> None:
    state = RunState("r", "d", model=GlobalModel(BASE), norms=(2.0,))
    fold = fold_for(state, RoundConfig(aggregation=name))
    assert isinstance(fold, RobustFold)
    assert isinstance(fold.rule, rule)
    assert fold._bound == (2.0 if clipped else np.inf)


def test_plain_averaging_stays_the_default_of_a_simulation() -> None:
    assert isinstance(fold_for(RunState("r", "d", model=GlobalModel(BASE)), RunConfig().rounds), RunningMean)
    assert (RunConfig().rounds.aggregation, RunConfig().rounds.weighting) == ("mean", "examples")
    assert RunConfig().rounds.vote_every == 0


def test_a_plant_that_claims_a_million_segments_owns_no_centroid() -> None:
    members = tuple(Member(f"p{i}", 10**7, 10**6 if i == 4 else 100, 1.0) for i in range(5))
    fold = fold_for(RunState("r", "d", model=GlobalModel(BASE), members=members), RoundConfig(aggregation="robust"))
    for i, member in enumerate(members):
        said = Statistic(np.full((1, 2), member.segments * (9.0 if i == 4 else 1.0)), np.full(1, member.segments), 2.0)
        fold.add(reply(member.plant, 1.0, statistic=said), 1.0)
    total = fold.result().statistic
    np.testing.assert_allclose(total.counts_K, 500)
    np.testing.assert_allclose(total.sums_KZ, 400 + 900)


def test_with_weights_by_size_a_plant_brings_in_up_to_the_cap() -> None:
    members = tuple(Member(f"p{i}", 10**7, 10**6 if i == 4 else 100, 1.0) for i in range(5))
    rounds = RoundConfig(aggregation="robust", weighting="examples", weight_cap=10)
    fold = fold_for(RunState("r", "d", model=GlobalModel(BASE), members=members), rounds)
    assert isinstance(fold, RobustFold)
    assert fold.shares["p4"] == 10 * 100 / 10**6


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", ["robust", "median", "trimmed-mean", "krum"])
def test_every_plant_counts_once_unless_it_is_asked_otherwise(aggregation: str) -> None:
    assert RoundConfig(aggregation=aggregation).weighting == "uniform"


def test_weights_that_a_rule_would_ignore_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="must be uniform with"):
        build({"a": {"rounds": {"aggregation": "krum", "weighting": "examples"}}})
    assert build({"a": {"rounds": {"aggregation": "robust", "weighting": "examples"}}})[0].rounds.weight_cap == 10


def test_the_preset_for_networks_is_what_the_code_lays_under() -> None:
    assert load_preset("network") == TRUSTED
    assert build({"trusted": TRUSTED})[0].rounds.aggregation == "robust"
