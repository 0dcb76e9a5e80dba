"""Every detector trains under local differential privacy: each record's gradient is clipped exactly."""

from __future__ import annotations

import numpy as np
import pytest

from client.training.private import clipped_sum
from shared.config import DetectorConfig
from shared.detectors import ClusterTarget, build, known
from shared.errors import PrivacyUnmet
from tests.support.records import apart, by_autograd, clipped, detector, noisy, norm, records, target

UNCLIPPED = [name for name in known() if build(DetectorConfig(name=name), 3).unclipped]
CLIPPED = [name for name in known() if name not in UNCLIPPED]


@pytest.mark.parametrize("clusters", [None, target()], ids=["plain", "clusters"])
@pytest.mark.parametrize("window", [6, 7])
@pytest.mark.parametrize("name", CLIPPED)
def test_both_engines_give_what_one_backward_a_record_gives(
    name: str, window: int, clusters: ClusterTarget | None
) -> None:
    made, found = detector(name=name, window=window), records(noisy([2, 1, 2, 0, 2], window=window), 2, window)
    gradients = by_autograd(made, found, clusters)
    clip = float(np.median([norm(gradient) for gradient in gradients if norm(gradient)]))
    expected, everyone = clipped(gradients, clip), np.arange(len(found))
    for engine in ("ghost", "opacus"):
        exact = clipped_sum(made, found, everyone, clusters, clip, engine)  # type: ignore[arg-type]
        assert apart(exact.sums, expected) <= 1e-5 * norm(expected)
        np.testing.assert_allclose(np.nan_to_num(exact.norms_B), [norm(one) for one in gradients], rtol=5e-6)


@pytest.mark.parametrize("engine", ["ghost", "opacus"])
@pytest.mark.parametrize("name", UNCLIPPED)
def test_what_no_engine_clips_exactly_is_refused_and_why(name: str, engine: str) -> None:
    made, found = detector(name=name), records(noisy([2, 1]), 2)
    with pytest.raises(PrivacyUnmet, match=f"'{name}': {made.unclipped}"):
        clipped_sum(made, found, np.arange(2), None, 1.0, engine)  # type: ignore[arg-type]


def test_only_the_detectors_that_say_so_are_refused() -> None:
    assert UNCLIPPED == ["ewad"]
