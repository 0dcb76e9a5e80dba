"""What a budget buys, worked out and told before anything is spent: `crossplant privacy plan`."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from shared.config import PrivacyConfig
from shared.errors import InvalidConfig
from shared.privacy.accounting import Event, epsilon
from shared.privacy.planning import (
    Releases,
    Spending,
    least_epsilon,
    most_delta,
    public_size,
    sampling_of,
    spend,
    statistic_event,
    training_event,
)

CLUSTERS = 8
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LONGER = (("10 minutes", 600.0), ("hour", 3600.0), ("shift of 8 h", 28_800.0), ("day", 86_400.0))


@dataclass(frozen=True)
class Question:
    """What is asked; `unit` as it is written, 60 or 10min."""

    epsilon: float
    delta: float
    rounds: int
    statistics: int
    segments: int
    plants: int
    unit: str
    period_s: float
    sampling: float
    values: int
    mode: str


@dataclass(frozen=True)
class Longer:
    """A longer record over the same data.

    Attributes:
        name, seconds: the record.
        records: how many there are of it.
        least_epsilon: what so many could honestly offer; None: none up to 8.
        noise_to_signal: as `Bought.noise_to_signal`, at the same epsilon.
        group_epsilon: what the shorter record's claim says about it, k times its epsilon.
    """

    name: str
    seconds: float
    records: int
    least_epsilon: float | None
    noise_to_signal: float
    group_epsilon: float


@dataclass(frozen=True)
class Bought:
    """The answer.

    Attributes:
        asked: the question.
        unit_s: length of a record in seconds.
        epsilon: what the plan spends.
        noise: multipliers by release.
        costs: epsilon that each kind of release would cost alone.
        noise_to_signal: norm of the noise on the mean gradient over the clipping norm; above 1 only the average over
            many rounds carries something.
        count_noise: standard deviation of a cluster's count, summed over plants, over the count of an average cluster.
        least_epsilon: what so many records could honestly offer; None: none up to 8.
        most_delta: the largest delta that means something for so many records.
        longer: the price of longer records.
    """

    asked: Question
    unit_s: float
    epsilon: float
    noise: dict[str, float]
    costs: dict[str, float]
    noise_to_signal: float
    count_noise: float
    least_epsilon: float | None
    most_delta: float
    longer: tuple[Longer, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"longer": [asdict(one) for one in self.longer]}

    @property
    def text(self) -> str:
        """Within 80 columns."""
        asked, central = self.asked, self.asked.mode == "central"
        record = "one plant" if central else f"segment of {self.unit_s:g} s"
        lines = [
            f"Budget       epsilon {asked.epsilon:g} at delta {asked.delta:g}, for each {record}; dp {asked.mode}",
            f"Spent        epsilon {self.epsilon:.3f} by {asked.rounds:,} training rounds and {asked.statistics:,} "
            "cluster exchanges",
            f"Alone        {', '.join(f'{name} {cost:.2f}' for name, cost in self.costs.items())}",
            f"Noise        {', '.join(f'{name} {z:.3g}' for name, z in self.noise.items() if z)}",
            "             (standard deviations, in units of what one record can move)",
            f"Gradient     noise / signal {self.noise_to_signal:.1f} a round{self._averaged()}",
        ]
        if asked.statistics:
            lines.append(f"Clusters     a count is off by {self.count_noise:.1%} of an average cluster")
        if not central:
            lines += [self._offer(), self._delta(), "", *self._prices()]
        return "\n".join([*lines, "", "Nothing was spent."])

    def _averaged(self) -> str:
        return f", {self.noise_to_signal / math.sqrt(max(1, self.asked.rounds)):.2f} over all rounds"

    def _offer(self) -> str:
        offered = "no epsilon up to 8" if self.least_epsilon is None else f"epsilon {self.least_epsilon:g} or more"
        short = self.least_epsilon is None or self.asked.epsilon < self.least_epsilon
        return f"Records      {self.asked.segments:,} a plant can offer {offered}: {'too few' if short else 'enough'}"

    def _delta(self) -> str:
        fits = self.asked.delta <= self.most_delta * (1 + 1e-9)
        return (
            f"Delta        {'small enough' if fits else 'too large'}: at most {self.most_delta:.2g} for so many records"
        )

    def _prices(self) -> list[str]:
        rows = [f"{'record':<14}{'records':>9}{'least epsilon':>15}{'noise/signal':>14}{'without: k epsilon':>20}"]
        for one in self.longer:
            least = "none up to 8" if one.least_epsilon is None else f"{one.least_epsilon:g}"
            rows.append(
                f"{one.name:<14}{one.records:>9,}{least:>15}{one.noise_to_signal:>14.1f}{one.group_epsilon:>20,.0f}"
            )
        return ["Longer records of the same data, at the same epsilon:", *(f"  {row}" for row in rows)]


def answer(asked: Question) -> Bought:
    """Work a question out.

    Raises:
        InvalidConfig: a value is outside what it may be.
        BudgetTooSmall: no useful noise keeps within the budget.
    """
    unit_s = unit_seconds(asked.unit, asked.period_s)
    plan = spend(_settings(asked), Releases(asked.rounds, asked.statistics))
    privacy, size = plan.privacy, public_size(asked.segments)
    return Bought(
        asked=asked,
        unit_s=unit_s,
        epsilon=plan.epsilon,
        noise=privacy.noise.model_dump(),
        costs=_costs(plan, asked),
        noise_to_signal=_ratio(privacy, asked, size),
        count_noise=_count_noise(privacy, asked),
        least_epsilon=least_epsilon(asked.segments),
        most_delta=most_delta(asked.segments),
        longer=() if privacy.mode == "central" else _longer(privacy, asked, unit_s),
    )


def unit_seconds(text: str, period_s: float) -> float:
    """Length of a record: a number of samples, or a time.

    Example:
        >>> unit_seconds("60", 10.0), unit_seconds("8h", 10.0)
        (600.0, 28800.0)
    """
    if not 0 < period_s < math.inf:
        raise InvalidConfig(f"--period {period_s} is no number of seconds.", "Give the seconds between two samples.")
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)(s|min|h|d)?", text.strip())
    seconds = 0.0 if found is None else float(found[1]) * (_SECONDS[found[2]] if found[2] else period_s)
    if found is None or seconds <= 0 or (not found[2] and "." in found[1]):
        raise InvalidConfig(f"--unit {text[:40]!r} is no length.", "Write 60 for samples, or 90s, 10min, 8h, 1d.")
    return seconds


def _settings(asked: Question) -> PrivacyConfig:
    given = {"mode": asked.mode, "epsilon": asked.epsilon, "delta": asked.delta, "sampling": asked.sampling}
    if asked.mode == "none":
        raise InvalidConfig("--dp none claims nothing.", "Choose local or central.")
    try:
        return PrivacyConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        option = {"mode": "dp"}.get(str(first["loc"][0]), str(first["loc"][0]))
        raise InvalidConfig(f"--{option} {first['input']!r}: {first['msg']}.", "Choose another value.") from error


def _costs(plan: Spending, asked: Question) -> dict[str, float]:
    kinds = {
        "training": (training_event(plan.privacy), asked.rounds),
        "clusters": (statistic_event(plan.privacy), asked.statistics),
    }
    return {
        name: epsilon([Event(one.multiplier, one.sampling, count)], plan.privacy.delta)
        for name, (one, count) in kinds.items()
        if count
    }


def _ratio(privacy: PrivacyConfig, asked: Question, size: int) -> float:
    """Ratio z sqrt(d) / (q N' sqrt(S)), noise of the mean over plants; central: z sqrt(d) / n."""
    noise = privacy.noise.weights * math.sqrt(asked.values)
    if privacy.mode == "central":
        return noise / asked.plants
    return noise / (sampling_of(privacy) * size * math.sqrt(asked.plants))


def _count_noise(privacy: PrivacyConfig, asked: Question) -> float:
    from shared.privacy.mechanisms import StatisticNoise

    if not privacy.noise.statistic:
        return 0.0
    sd = StatisticNoise.of(privacy.noise.statistic, 1.0).counts
    if privacy.mode == "central":
        return sd / (asked.plants / CLUSTERS)
    return sd * math.sqrt(asked.plants) / (asked.plants * asked.segments / CLUSTERS)


def _longer(privacy: PrivacyConfig, asked: Question, unit_s: float) -> tuple[Longer, ...]:
    found = []
    for name, seconds in _LONGER:
        if seconds <= unit_s:
            continue
        records = int(asked.segments * unit_s / seconds)
        ratio = _ratio(privacy, asked, public_size(records))
        k = math.ceil(seconds / unit_s)
        found.append(Longer(name, seconds, records, least_epsilon(records), ratio, k * asked.epsilon))
    return tuple(found)
