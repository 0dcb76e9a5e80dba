"""Every detector trains under local differential privacy: each record's gradient is clipped exactly."""

from __future__ import annotations

import numpy as np
import pytest

from client.training.private import clipped_sum
from shared.detectors import ClusterTarget, known
from tests.support.records import apart, by_autograd, clipped, detector, noisy, norm, records, target


@pytest.mark.parametrize("clusters", [None, target()], ids=["plain", "clusters"])
@pytest.mark.parametrize("window", [6, 7])
@pytest.mark.parametrize("name", known())
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
