"""Every contestant of a study: labels change nothing, and each site gets finite scores and a threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simulations.study.contestant import Contestant, LeftOut, contestant, kind_of, known
from simulations.study.effective import Asked
from simulations.study.judge import run
from simulations.study.overlays import ablations
from simulations.study.plan import Cell, StudyPlan
from tests.support.baselines import brief
from tests.support.study import Witness, shuffled, sites, tiny


def made(name: str) -> Contestant:
    detector = name if kind_of(name) == "neural" and name not in ("crossplant", "paper") else "cnn-lstm"
    return contestant(name, tiny(detector))


def modes_of(name: str) -> list[str]:
    """Federated where there is such a mode (neural modes share their code), else all."""
    modes = [mode for mode in made(name).modes if mode != "private"]
    return ["federated"] if kind_of(name) == "neural" else modes


@pytest.mark.parametrize("name", known())
def test_shuffled_test_labels_change_no_score_and_no_threshold(name: str, tmp_path: Path) -> None:
    plain = sites()
    for mode in modes_of(name):
        outcomes = []
        for which, given in (("plain", plain), ("shuffled", shuffled(plain))):
            (place := tmp_path / f"{mode}-{which}").mkdir()
            with brief():
                outcomes.append(run(made(name), given, mode, 0, place))
        (one, left), (other, _) = outcomes
        assert not left
        assert [judged.site for judged in one] == ["site-1", "site-2"]
        for a, b in zip(one, other, strict=True):
            assert a.scores_T.tobytes() == b.scores_T.tobytes()
            assert a.thresholds_T.tobytes() == b.thresholds_T.tobytes()
            assert np.isfinite(a.scores_T).sum() > 50
            assert np.isfinite(a.thresholds_T[np.isfinite(a.scores_T)]).all()
            assert a.labels_T is None


def test_nothing_is_fitted_on_labels_or_test_rows(tmp_path: Path) -> None:
    witness = Witness()
    run(witness, sites(), "federated", 0, tmp_path)
    assert [(site.labels_T, site.test_TD.shape) for site in witness.given] == [(None, (0, 3))] * 2
    assert all(len(site.train_TD) == 240 for site in witness.given)


@pytest.mark.parametrize("name", ["cnn-lstm", "lag", "pca"])
@pytest.mark.parametrize("mode", ["local", "central"])
def test_each_mode_fits_every_site(name: str, mode: str, tmp_path: Path) -> None:
    found = made(name).fit(sites(3), mode, 0, tmp_path)
    assert sorted(one.site for one in found if not isinstance(one, LeftOut)) == ["site-1", "site-2", "site-3"]
    assert all(one.wire_bytes == 0 for one in found if not isinstance(one, LeftOut))


@pytest.mark.parametrize("name", ["cnn-lstm", "lag", "pca"])
@pytest.mark.parametrize("mode", ["local", "federated", "central"])
def test_a_site_that_is_too_short_is_left_out_with_its_reason(name: str, mode: str, tmp_path: Path) -> None:
    chosen = made(name)
    if mode not in chosen.modes:
        return
    short = sites(3, train=20)[2]
    found = chosen.fit([*sites(2), short], mode, 0, tmp_path)
    assert {one.site: isinstance(one, LeftOut) for one in found} == {"site-1": False, "site-2": False, "site-3": True}
    (left,) = [one for one in found if isinstance(one, LeftOut)]
    assert "too few" in left.why.lower() or "training rows" in left.why


@pytest.mark.parametrize("name", ablations())
def test_each_ablation_differs_from_the_default_recipe(name: str) -> None:
    asked = Asked(("generated",), ("crossplant", name), ("local",))
    plan = StudyPlan.of(asked)
    default, other = (plan.config(Cell("generated", which, "local", 0)) for which in ("crossplant", name))
    assert default.recipe != other.recipe
    assert default.rounds == other.rounds
