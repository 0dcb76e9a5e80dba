"""Thresholds for live alarms: what the data cannot carry is refused, and not merely called weak."""

from __future__ import annotations

from shared.errors import RateNotSupported
from shared.thresholds.base import Scores, Settings, Threshold, fit
from shared.thresholds.worth import check_rate
from shared.windows import IntArray


def fit_live(
    rule_name: str,
    scores_N: Scores,
    config: Settings,
    windows_an_hour: float,
    modes_N: IntArray | None = None,
    what: str = "the plant",
) -> Threshold:
    """`fit`, for a threshold that people will be called out by.

    Args:
        rule_name, scores_N, config, modes_N: as for `shared.thresholds.fit`.
        windows_an_hour: 3600 / seconds between two windows: to say how many hours of data are lacking.
        what: whose data, for the message.

    Returns:
        a threshold that `supports` the rate asked for. A rule that cannot be asked for one promises none.

    Raises:
        RateNotSupported: the normal data cannot carry the rate, or it was trained on.
        UnknownName, TooFewRows, NothingToLearn: as for `fit`.

    Example:
        >>> from shared.config import ThresholdConfig
        >>> import numpy as np
        >>> scores = np.random.default_rng(0).normal(size=5000)
        >>> fit_live("conformal", scores, ThresholdConfig(), windows_an_hour=3600).supports(0.01)
        True
    """
    found = fit(rule_name, scores_N, config, modes_N, 24 * windows_an_hour)
    if found.false_alarm_rate is None:
        return found
    if found.fitted_on == "train":
        raise RateNotSupported(
            f"the threshold of {what} was set on the data that the model was trained on, which supports no rate.",
            "Set recipe.threshold.fit_on to holdout.",
        )
    check_rate(found.false_alarm_rate, found.calibration_size, found.effective_size, windows_an_hour, what)
    return found
