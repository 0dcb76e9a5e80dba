"""Whether the normal data behind a bundle can carry the false alarm rates that its thresholds are for.

docs/edge/thresholds.md says what follows from it: a person is told, or the scorer refuses to start, as the edge.toml
has it; and no model that lacks the data takes the place of one that has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from client.edge.budget import least_budget
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
            `refuse` does not start. None: `refuse` where `[alarms] budget_a_day` asks for a rate, else `warn`.
    """

    int8: bool = False
    uncalibrated: Literal["warn", "refuse"] | None = None


def in_force(bundle: EdgeBundle) -> Threshold:
    """The federated model's threshold as it goes live: at half of the rate beside a local guard."""
    return bundle.threshold if bundle.guard is None else halved(bundle)


def unsupported(bundle: EdgeBundle, budget: float | None = None) -> tuple[RateNotSupported, ...]:
    """One error for each threshold whose rate the plant's normal data cannot carry; none when all is well.

    A rule that cannot be asked for a rate promises none, and breaks none.

    Args:
        bundle: as it goes live, `client.edge.budget.budgeted`.
        budget: false alarms a day that set its thresholds, to be named; None: they are as published.

    Raises:
        BundleInvalid: the guard cannot be read.
    """
    found = tuple(error for error in _checked(bundle) if error is not None)
    return found if budget is None else tuple(_in_alarms(error, bundle, budget) for error in found)


def lacking(bundle: EdgeBundle) -> str:
    """Why a bundle is not known to keep its false alarm rates, for a person; empty when it is.

    Raises:
        BundleInvalid: the guard cannot be read.
    """
    return " ".join(error.cause for error in unsupported(bundle))


def refuse_unsupported(bundle: EdgeBundle, budget: float | None = None) -> None:
    """Refuse a bundle whose data cannot carry its rates. Args as in `unsupported`.

    Raises:
        RateNotSupported: they cannot; the message says what is lacking.
        BundleInvalid: the guard cannot be read.
    """
    for error in unsupported(bundle, budget):
        raise error


def _in_alarms(error: RateNotSupported, bundle: EdgeBundle, budget: float) -> RateNotSupported:
    """The same, in alarms a day: what the person gave, and what they may give."""
    least = least_budget(bundle)
    cause = f"{error.cause} That rate is what the alarm budget of {budget:g} a day means."
    other = "leave budget_a_day out" if least is None else f"set [alarms] budget_a_day to {least:g} or more"
    hold = error.cure.partition(", or ")[0]
    return RateNotSupported(cause, f'{hold}, or {other}; with [model] uncalibrated = "warn" it scores all the same.')


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
