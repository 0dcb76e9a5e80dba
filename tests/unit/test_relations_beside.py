"""Relations beside a judge: in calibration, in a bundle, in evaluation and at the edge they are the same scores."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from client.agent.own import OwnParts
from client.edge.loading import check_probe
from client.edge.records import Sample
from client.edge.scorer import Scorer
from shared.bundle import files
from shared.bundle.edge import EdgeBundle, check_relations
from shared.bundle.whole import Bundle, read_bundle
from shared.errors import BundleInvalid
from shared.relations.beside import WEIGHT, Beside, Heard, beside, joined, mixed, weighed
from shared.schema import SensorSchema
from shared.series import SiteData
from simulations.evaluate import score_rows
from tests.support.plants import settings
from tests.unit.test_judged import published
from tests.unit.test_relations import PERIOD_S, PRESSURE, fitted, live, tank

EVERY = 10


@cache
def sites() -> tuple[SiteData, ...]:
    schema = SensorSchema(tags=("MV1", "P1", "LIT1", "FIT1", "PIT1", "ST1", "C1"), period_s=PERIOD_S)
    test_TD = live().copy()
    test_TD[900:1200, PRESSURE] += 0.4
    return tuple(SiteData(f"plant-{n}", schema, tank(20_500, n), test_TD, None) for n in (1, 2))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[EdgeBundle, Bundle]:
    folder = tmp_path_factory.mktemp("made")
    config = settings(recipe={"preprocess": {"every": EVERY}, "training": {"stride": 8}})
    bundle, _ = published(folder, sites(), config)
    return bundle, read_bundle(bundle.folder)


def test_a_bundle_has_them_and_its_threshold_is_of_both(made: tuple[EdgeBundle, Bundle]) -> None:
    bundle, whole = made
    assert bundle.relations is not None
    assert whole.relations is not None
    assert (bundle.folder / files.RELATIONS).exists()
    assert bundle.relations.frame.dim == 7
    scores_T = score_rows(sites()[0], whole, torch.device("cpu"))
    assert np.min(scores_T[92:119]) > 2 * bundle.threshold.value > np.nanmedian(scores_T[:88])


def test_an_edge_box_gives_the_scores_of_the_evaluation(made: tuple[EdgeBundle, Bundle]) -> None:
    bundle, whole = made
    due_T, scorer = score_rows(sites()[0], whole, torch.device("cpu")), Scorer(bundle)
    found = [scorer.feed(Sample(PERIOD_S * t, row_D, t)) for t, row_D in enumerate(sites()[0].test_TD)]
    told_T = np.array([np.nan if one is None else one.score for one in found[EVERY - 1 :: EVERY]])
    np.testing.assert_allclose(told_T, due_T, atol=1e-4)
    during = [one for one in found[950:1190] if one is not None]
    assert {one.parts[0].tag for one in during} & {"PIT1", "FIT1"}
    scorer.restart()
    again = [scorer.feed(Sample(PERIOD_S * t, row_D, t)) for t, row_D in enumerate(sites()[0].test_TD[:400])]
    assert [one and one.score for one in again] == [one and one.score for one in found[:400]]


def test_the_probe_is_of_both(made: tuple[EdgeBundle, Bundle]) -> None:
    bundle, _ = made
    assert np.array_equal(check_probe(bundle, Scorer(bundle)).round(3), bundle.probe.scores_M.round(3))
    without = replace(bundle, relations=None)
    with pytest.raises(BundleInvalid, match="does not score its own probe"):
        check_probe(without, Scorer(without))


def test_relations_of_another_plant_or_without_a_judge_are_refused(made: tuple[EdgeBundle, Bundle]) -> None:
    bundle, _ = made
    check_relations(bundle.folder, bundle.relations, bundle.judge, 7)
    with pytest.raises(BundleInvalid, match="not for 8 tags"):
        check_relations(bundle.folder, bundle.relations, bundle.judge, 8)
    with pytest.raises(BundleInvalid, match="without a judge"):
        check_relations(bundle.folder, bundle.relations, None, 7)


def test_a_recipe_may_do_without_and_so_does_a_plant_that_tells_too_little(tmp_path: Path) -> None:
    off = settings(recipe={"preprocess": {"every": EVERY}, "training": {"stride": 8}, "evidence": {"relations": False}})
    bundle, _ = published(tmp_path / "off", sites(), off)
    assert bundle.judge is not None
    assert bundle.relations is None
    few = [replace(site, train_TD=site.train_TD[:600]) for site in sites()]
    bundle, _ = published(tmp_path / "few", few, settings())
    assert bundle.relations is None
    assert not (bundle.folder / files.RELATIONS).exists()


def test_a_plant_keeps_its_relations_and_fits_them_again_when_its_data_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site, path = sites()[0], tmp_path / "guard.bin"
    with caplog.at_level(logging.INFO):
        first = OwnParts(site, path).relations
        assert first is not None
        assert "relations fitted" in caplog.text
        caplog.clear()
        second = OwnParts(site, path).relations
        assert second is not None
        assert "fitted" not in caplog.text
        assert np.array_equal(first.scores_T, second.scores_T, equal_nan=True)
        assert OwnParts(replace(site, train_TD=site.train_TD[1:]), path).relations is not None
        assert "fitted again" in caplog.text
        caplog.clear()
        (tmp_path / "relations.bin").write_bytes(b"broken")
        assert OwnParts(site, path).relations is not None
        assert "fitted again" in caplog.text


@pytest.mark.parametrize("every", [1, 3, 10])
def test_live_answers_are_those_of_the_batch(every: int) -> None:
    relations, hearing, found = fitted().relations, Beside(fitted().relations), []
    for t, row_D in enumerate(live()[:603]):
        hearing.take(row_D)
        if (t + 1) % every == 0:
            found.append(hearing.close().score)
    due_M = joined(relations.scores(live()[:603]), (0,), every)
    np.testing.assert_allclose(found, due_M, atol=1e-9)


def test_joined_rows_take_the_largest_and_leave_out_what_is_too_short() -> None:
    score_T = np.array([1.0, 5.0, np.nan, 2.0, np.nan, np.nan, 3.0])
    np.testing.assert_array_equal(joined(score_T, (0, 3), 2), [5.0, 2.0, 3.0])
    np.testing.assert_array_equal(joined(score_T, (0, 1), 6), [5.0])
    assert np.isnan(joined(score_T[4:6], (0,), 2)).all()


def test_both_channels_are_weighed_and_one_that_settles_is_ordinary() -> None:
    relations = replace(fitted().relations, median=-1.0, spread=0.5)
    found_M = mixed(relations, np.array([2.0, 2.0, np.nan, np.inf]), np.array([-0.5, np.nan, 0.0, 0.0]))
    np.testing.assert_allclose(found_M, [0.2 + WEIGHT * 1, 0.2, np.nan, np.inf])
    assert beside(None, found_M, live(), (0,), 1) is found_M


def test_parts_add_up_to_what_both_say_above_ordinary() -> None:
    relations = replace(fitted().relations, median=-1.0, spread=0.5)
    found = weighed(relations, Heard(1.0, np.array([3.0, 1.0, 1.6])), 2.0, np.array([0.0, 2.0, 0.0]))
    assert found.score == pytest.approx(0.1 * 2 + 0.9 * 4)
    assert found.part_D.sum() == pytest.approx(found.score)
    assert found.part_D[0] > found.part_D[2] > found.part_D[1]
    assert found.part_D[1] == pytest.approx(0.1 * 2)  # the judge's alone: its ratio is below half of the largest
