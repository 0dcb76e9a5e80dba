"""What happens live where the plant's normal data cannot carry the false alarm rates that were asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from client.edge.assembly import assemble
from client.edge.examine import examined
from client.edge.promise import ModelSettings, in_force, refuse_unsupported, unsupported
from client.edge.settings import Settings, parse_settings
from shared.bundle.edge import EdgeBundle
from shared.errors import InvalidConfig, RateNotSupported
from shared.local_guard import from_bytes, to_bytes
from shared.thresholds import Threshold
from tests.support.edge import Made, trained

REFUSE = Settings(model=ModelSettings(uncalibrated="refuse"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return trained(tmp_path_factory.mktemp("promise") / "bundles")


def enough(threshold: Threshold) -> Threshold:
    return structs.replace(threshold, calibration_size=100_000, effective_size=5000.0)


def calibrated(bundle: EdgeBundle) -> EdgeBundle:
    """The same with as much normal data as its rates want."""
    assert bundle.guard is not None
    assert bundle.calibration.beside_guard is not None
    guard = from_bytes(bundle.guard)
    beside = enough(bundle.calibration.beside_guard)
    return replace(
        bundle,
        threshold=enough(bundle.threshold),
        calibration=structs.replace(bundle.calibration, beside_guard=beside),
        guard=to_bytes(replace(guard, threshold=enough(guard.threshold))),
    )


def test_by_default_it_scores_and_says_what_is_lacking(made: Made) -> None:
    whole = assemble(made.folder)
    told = whole.start()[0].text
    assert told.count("UNCALIBRATED") == 2
    assert "the local guard of" in told
    assert "Hold out about" in told
    whole.close()


@pytest.mark.parametrize("state", [False, True])
def test_a_plant_may_want_calibrated_thresholds_only(made: Made, tmp_path: Path, state: bool) -> None:
    with pytest.raises(RateNotSupported, match="too few for a false alarm rate") as caught:
        assemble(made.folder, REFUSE, tmp_path / "state" if state else None)
    assert caught.value.code == "CP-207"


def test_with_enough_data_nothing_is_said(made: Made) -> None:
    bundle = calibrated(made.read())
    assert unsupported(bundle) == ()
    refuse_unsupported(bundle)
    bundle = replace(bundle, setup=structs.replace(bundle.setup, false_alarm_rate=0.01))
    short = structs.replace(enough(bundle.threshold), effective_size=150.0, false_alarm_rate=0.01)
    assert unsupported(replace(bundle, guard=None, threshold=short)) == ()
    halved = structs.replace(bundle.calibration, beside_guard=structs.replace(short, false_alarm_rate=0.005))
    assert len(unsupported(replace(bundle, threshold=short, calibration=halved))) == 1  # half of the rate wants more


def test_the_guards_own_data_count_too(made: Made) -> None:
    bundle = replace(calibrated(made.read()), guard=made.read().guard)
    (error,) = unsupported(bundle)
    assert "the local guard of" in error.cause


def test_a_rule_that_promises_nothing_breaks_nothing_and_training_data_support_nothing(made: Made) -> None:
    bundle = replace(made.read(), guard=None)
    assert unsupported(replace(bundle, threshold=structs.replace(bundle.threshold, false_alarm_rate=None))) == ()
    (error,) = unsupported(replace(bundle, threshold=structs.replace(enough(bundle.threshold), fitted_on="train")))
    assert "trained on" in error.cause


def test_the_threshold_in_force_has_half_of_the_rate_beside_a_guard(made: Made) -> None:
    bundle = made.read()
    assert in_force(bundle).false_alarm_rate == bundle.setup.false_alarm_rate / 2
    assert in_force(replace(bundle, guard=None)) == bundle.threshold


def test_a_model_without_the_data_does_not_follow_one_that_has_it(made: Made) -> None:
    bundle = made.read()
    both = examined(calibrated(bundle), bundle)
    assert (both.now.carried, both.new.carried) == (True, False)
    assert examined(bundle, bundle).now.carried is False


def test_the_edge_toml_says_which(tmp_path: Path) -> None:
    found = parse_settings(b'[model]\nint8 = true\nuncalibrated = "refuse"\n', tmp_path / "edge.toml")
    assert found.model == ModelSettings(int8=True, uncalibrated="refuse")
    for text in (b'[model]\nuncalibrated = "ignore"\n', b"[model]\nint8 = 1\n", b"[model]\nweak = true\n"):
        with pytest.raises(InvalidConfig):
            parse_settings(text, tmp_path / "edge.toml")


def test_scores_carry_the_guards_own_p_value(made: Made) -> None:
    whole, scores = assemble(made.folder), []
    from tests.support.edge import samples

    for sample in samples(made.site.train_TD[-60:]):
        scores += [one.as_json() for one in whole.engine.feed(sample) if one.as_json()["type"] == "score"]
    guard = from_bytes(made.read().guard or b"")
    assert scores
    for one in scores:
        assert one["guard_p"] == guard.calibration.p_value(one["guard"])
    assert np.median([one["guard_p"] for one in scores]) > 0.02
    whole.close()
