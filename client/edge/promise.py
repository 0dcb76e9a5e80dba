"""Whether the normal data behind a bundle can carry the false alarm rates that its thresholds are for.

docs/edge/thresholds.md says what follows from it: a person is told, or the scorer refuses to start, as the edge.toml
has it; and no model that lacks the data takes the place of one that has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from client.edge.guard import halved
from shared.artefact import Artefact
from shared.bundle.edge import EdgeBundle
from shared.errors import RateNotSupported
from shared.local_guard.file import from_bytes
from shared.thresholds import Threshold, check_rate

_ONLY_TRAINED = "Set recipe.threshold.fit_on to holdout."


class ModelSettings(Artefact, frozen=True, kw_only=True):
    """`[model]`: how bundles are used.

    Attributes:
        int8: run graphs in 8 bits, as `--int8`.
        uncalibrated: what happens where a rate is not supported: `warn` scores and alarms and says so at the start,
            `refuse` does not start.
    """

    int8: bool = False
    uncalibrated: Literal["warn", "refuse"] = "warn"


def in_force(bundle: EdgeBundle) -> Threshold:
    """The federated model's threshold as it goes live: at half of the rate beside a local guard."""
    return bundle.threshold if bundle.guard is None else halved(bundle)


def unsupported(bundle: EdgeBundle) -> tuple[RateNotSupported, ...]:
    """One error for each threshold whose rate the plant's normal data cannot carry; none when all is well.

    A rule that cannot be asked for a rate promises none, and breaks none.

    Raises:
        BundleInvalid: the guard cannot be read.
    """
    return tuple(error for error in _checked(bundle) if error is not None)


def refuse_unsupported(bundle: EdgeBundle) -> None:
    """Refuse a bundle whose data cannot carry its rates.

    Raises:
        RateNotSupported: they cannot; the message says what is lacking.
        BundleInvalid: the guard cannot be read.
    """
    for error in unsupported(bundle):
        raise error


def _checked(bundle: EdgeBundle) -> Iterator[RateNotSupported | None]:
    site, period_s = bundle.provenance.site, bundle.schema.period_s
    yield _lacking(in_force(bundle), period_s * bundle.preprocessor.every, site)
    if bundle.guard is not None:
        guard = from_bytes(bundle.guard, f"{bundle.folder}: guard.bin")
        yield _lacking(guard.threshold, period_s * guard.preprocessor.every, f"the local guard of {site}")


def _lacking(threshold: Threshold, step_s: float, what: str) -> RateNotSupported | None:
    rate = threshold.false_alarm_rate
    if rate is None:
        return None
    if threshold.fitted_on == "train":
        return RateNotSupported(f"{what} has its threshold from the data that it was trained on.", _ONLY_TRAINED)
    try:
        check_rate(rate, threshold.calibration_size, threshold.effective_size, 3600 / step_s, what)
    except RateNotSupported as error:
        return error
    return None
