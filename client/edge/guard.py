"""The plant's local guard beside the federated model: a window is anomalous when either says so.

Each has half of the false alarms that the plant allows (docs/edge/thresholds.md): the guard's threshold was set so when
it was fitted, the federated model's is set here, from the scores of normal data that the bundle holds. The guard
prepares rows by itself; nothing that a server sends reaches it.
"""

from __future__ import annotations

import numpy as np
from msgspec import structs

from client.edge.budget import score_at
from client.edge.engine import Heard
from client.edge.explain import direction, largest, shares
from client.edge.records import Part, Sample
from shared.bundle.edge import EdgeBundle
from shared.contributions import telling
from shared.errors import BundleInvalid
from shared.local_guard.file import from_bytes
from shared.local_guard.guard import LocalGuard
from shared.schema import difference
from shared.thresholds import Threshold


class Guard:
    """A guard on a stream of samples.

    Args:
        guard: the fitted guard.
        top: tags named when it alarms.
    """

    def __init__(self, guard: LocalGuard, top: int = 5) -> None:
        self._guard, self._top = guard, top
        self._stream = guard.stream()
        self._most_D = np.array(guard.most) if guard.most else None
        self._last: Heard | None = None

    def restart(self) -> None:
        """The next sample begins a recording."""
        self._stream.restart()
        self._last = None

    def feed(self, sample: Sample) -> Heard | None:
        """Take a sample.

        Returns:
            the guard's score; while it joins rows into one, the score before stays in force; None before the first.

        Raises:
            SchemaMismatch: the sample has another number of values.
        """
        score = self._stream.step(sample.values_D)
        if score is not None:
            threshold = self._guard.threshold.value
            p_value = self._guard.calibration.p_value(score)
            self._last = Heard(score, threshold, self.named(sample) if score > threshold else (), p_value)
        return self._last

    def named(self, sample: Sample) -> tuple[Part, ...]:
        """The tags of the newest score, the most telling first; expected is what the other tags imply."""
        window_LD, tags = self._stream.window_LD, self._guard.schema.tags
        told = self._guard.explain(window_LD[None])
        shares_D, excess_D = shares(told.contribution_ND[0]), told.excess_ND[0]
        order_D = shares_D if self._most_D is None else telling(told.contribution_ND[0], self._most_D)
        expected_D = self._stream.raw(window_LD[-1] - excess_D)
        return tuple(
            Part(
                tag=tags[d],
                share=float(shares_D[d]),
                direction=direction(float(excess_D[d])),
                reading=float(sample.values_D[d]),
                expected=float(expected_D[d]),
            )
            for d in largest(order_D, min(self._top, len(tags)))
        )


def guard_of(bundle: EdgeBundle, top: int = 5) -> Guard | None:
    """The guard that a bundle holds; None when it holds none.

    Raises:
        BundleInvalid: its file is no guard, or it is for other tags.
    """
    if bundle.guard is None:
        return None
    found = from_bytes(bundle.guard, f"{bundle.folder}: guard.bin")
    told = difference(bundle.schema, found.schema)
    if told:
        cause = f"{bundle.folder}: guard.bin is for other columns than the bundle: it {told}."
        raise BundleInvalid(cause.replace("the federation expects", "the bundle has"))
    return Guard(found, top)


def halved(bundle: EdgeBundle) -> Threshold:
    """The federated model's threshold at half of its false alarm rate, never below the bundle's own.

    It is what the bundle's own rule gave for that rate at calibration. Where the rule cannot be asked for a rate, or
    gave less than for the whole one (`pot` may), it is the conformal one on the bundle's calibration scores, and those
    of single modes move up by as much. With too few calibration scores for that rate it is the highest of them, as in
    `shared.thresholds.conformal`.
    """
    normal, own = bundle.calibration.distribution, bundle.threshold
    alpha, ruled = bundle.setup.false_alarm_rate / 2, bundle.calibration.beside_guard
    if ruled is not None and ruled.false_alarm_rate == alpha and ruled.value >= own.value:
        return ruled
    value = max(own.value, score_at(normal, alpha))
    by_mode = tuple(one + value - own.value for one in own.by_mode)
    return structs.replace(own, value=value, by_mode=by_mode, false_alarm_rate=alpha)
