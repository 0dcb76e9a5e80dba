"""A plant's judge: which rows it is fitted on, what it changes of a bundle, and what happens where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.agent.service import PlantAgent
from client.training.judged import choice_of
from client.training.live_rows import MOST_WINDOWS, live_rows, with_more
from client.training.workspace import prepare
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.bundle import files
from shared.bundle.edge import EdgeBundle, read_edge_bundle
from shared.bundle.trust import Trust
from shared.bundle.whole import read_bundle
from shared.config import Recipe, RunConfig
from shared.errors import BundleInvalid, TooFewRows
from shared.series import SiteData
from shared.windows import window_view
from simulations.generate import generate
from tests.support.edge import trained
from tests.support.plants import Loopback, Memory, settings

SITE = generate(2, 500, 3)[0]


def recipe(**groups: object) -> Recipe:
    return settings(recipe={"detector": {"window": 8, "hidden": 4, "latent": 2}, **groups}).recipe


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("starts", [(0,), (0, 110, 290)])
def test_unseen_rows_are_those_that_calibration_holds_out(every: int, starts: tuple[int, ...]) -> None:
    """The same windows, prepared as a whole recording and as the end of one."""
    site, given = replace(SITE, train_starts=starts), recipe(preprocess={"every": every}, clustering={"unit": 5})
    workspace = prepare(site, given)
    live = live_rows(site, workspace, given)
    ends_N = np.flatnonzero(live.unseen_T)
    held_NWD = window_view(workspace.holdout.rows_TD, 8)[workspace.holdout.starts_N]
    assert len(ends_N) == len(held_NWD) > 5
    np.testing.assert_array_equal(window_view(live.rows_TD, 8)[ends_N - 7], held_NWD)
    assert live.starts == tuple(start // every for start in starts) or every > 1
    assert set(ends_N) <= set(live.ends_N)


def test_windows_that_are_mostly_missing_do_not_count() -> None:
    train_TD = SITE.train_TD.copy()
    train_TD[100:200] = np.nan
    site, given = replace(SITE, train_TD=train_TD), recipe()
    live = live_rows(site, prepare(site, given), given)
    assert not set(range(110, 200)) & set(live.ends_N.tolist())
    assert {90, 220} <= set(live.ends_N.tolist())


def test_of_very_many_rows_stretches_are_taken_evenly_and_all_that_are_held_out() -> None:
    rows = 40_000
    site, given = replace(SITE, train_TD=np.tile(SITE.train_TD, (80, 1))[:rows]), recipe()
    live = live_rows(site, prepare(site, given), given)
    seen_N = live.ends_N[~live.unseen_T[live.ends_N]]
    assert MOST_WINDOWS - 300 <= len(seen_N) <= MOST_WINDOWS
    assert len(live.ends_N) - len(seen_N) == live.unseen_T.sum() > 7000
    gaps_N = np.diff(live.ends_N)
    assert (gaps_N > 1).sum() < 100  # neighbours stay together
    assert gaps_N.max() < 1000  # and no long time is left out


def test_confirmed_rows_are_recordings_that_nothing_was_trained_on() -> None:
    given = recipe()
    workspace = prepare(SITE, given)
    live = live_rows(SITE, workspace, given)
    rows = workspace.preprocessor.live(SITE.test_TD[:40], (0, 20))
    more = with_more(live, rows, np.array([7, 8, 30]))
    count = len(live.rows_TD)
    assert more.starts == (*live.starts, count, count + 20)
    assert more.ends_N[-3:].tolist() == [count + 7, count + 8, count + 30]
    assert np.flatnonzero(more.unseen_T[count:]).tolist() == [7, 8, 30]


def test_plants_of_very_many_tags_keep_fewer_courses_and_lags() -> None:
    assert choice_of(Recipe(), 51).prototypes == 128
    few = choice_of(Recipe(), 2000)
    assert few.prototypes * 2000 * 40 * 4 < 2**25
    assert few.lags == 0


def published(folder: Path, sites: Sequence[SiteData], config: RunConfig) -> tuple[EdgeBundle, str]:
    """The first plant's bundle after a small federation, and the digest of the federation's model."""
    agents = [PlantAgent(site, folder, guard=False) for site in sites]
    state = Coordinator(config, Loopback(agents), Memory()).run(RunState("r", config.digest))
    assert state.model is not None
    return read_edge_bundle(folder / f"{sites[0].name}.bundle", Trust(folder / "bundle.pub")), state.model.digest


def test_a_judge_changes_what_is_scored_and_nothing_that_is_trained(tmp_path: Path) -> None:
    made = [
        published(tmp_path / str(on), generate(2, 500, 3), settings(recipe={"scoring": {"evidence": on}}))
        for on in (True, False)
    ]
    (judged, model), (plain, same) = made
    assert model == same
    assert (judged.judge is None, plain.judge is None) == (False, True)
    assert (judged.scale, judged.setup.evidence, plain.setup.evidence) == (plain.scale, True, False)
    assert not (plain.folder / files.JUDGE).exists()
    assert judged.threshold.calibration_size > 3 * plain.threshold.calibration_size  # all normal rows, cross-fitted
    assert judged.calibration.distribution.size == judged.threshold.calibration_size
    assert judged.alarm_scale != judged.scale
    assert plain.alarm_scale == plain.scale
    assert judged.calibration.holdout_loss == plain.calibration.holdout_loss


def test_a_plant_without_a_judge_is_scored_by_the_network_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_given: object) -> None:
        raise TooFewRows("3 normal rows cannot be cut into 4 blocks that count.")

    monkeypatch.setattr("client.training.judged.fit_judge", refused)
    bundle, _ = published(tmp_path, list(generate(2, 300, 3)), settings(recipe={"lag": {"on": False}}))
    assert bundle.judge is None
    assert "cannot be cut" in bundle.calibration.unjudged
    assert bundle.threshold.value == pytest.approx(max(bundle.calibration.distribution.scores), abs=5)


def test_a_plant_of_very_few_rows_has_a_judge(tmp_path: Path) -> None:
    few = [replace(site, train_TD=site.train_TD[:26]) for site in generate(2, 300, 3)]
    config = settings(recipe={"training": {"holdout": 0.4, "stride": 1}, "lag": {"on": False}})
    assert published(tmp_path, few, config)[0].judge is not None


def test_a_judge_of_another_plant_is_refused(tmp_path: Path) -> None:
    from shared.bundle.edge import check_judge

    made = trained(tmp_path)
    bundle, whole = made.read(), read_bundle(made.folder)
    assert whole.judge is not None
    with pytest.raises(BundleInvalid, match=r"judge\.bin is not for 12 tags"):
        check_judge(made.folder, bundle.judge, 12, bundle.clusters)
    with pytest.raises(BundleInvalid, match="0 clusters"):
        check_judge(made.folder, bundle.judge, bundle.schema.dim, None)
