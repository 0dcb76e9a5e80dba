"""What may be said about a ledger: one paragraph that can be quoted, every figure of which stands in the ledger.

The unit, the neighbouring relation, epsilon and delta, the sampling assumption, what is covered and what is not, and
the two assumptions that no accountant checks: the plant's software, and floating point.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from shared.privacy.ledger import Balance

CENTRAL_UNIT = "one plant"
"""The unit of a coordinator's ledger: there a plant is what may be present or absent."""

_COVERED = (
    "everything that the plant sends in the runs of this ledger: gradients, counts, losses, cluster statistics, "
    "operating ranges, and all that anybody computes from them, the published models included"
)
_COVERED_CENTRAL = (
    "the models and cluster statistics that the coordinator releases in the runs of this ledger, and all that "
    "anybody computes from them"
)
_NOT_COVERED = (
    "the tags, their units and their sampling",
    "that the plant takes part, when, and how long its answers take",
    "the power of two at or below its number of records",
    "data used outside the training part, such as held-out and live data",
    "refusals, which are a code and a word",
)
_NOT_COVERED_CENTRAL = (
    "what a plant sends to the coordinator, who sees it without noise and has to be trusted",
    "which plants take part, and when",
    "losses, counts and timings in the coordinator's store and reports",
)
_STAYS = "The plant's own bundle, thresholds, alarms and local guard are fitted without noise and do not leave it."
_BUILD = "It holds if the plant runs the released client, unaltered, on data cut into records as described."
_BUILD_CENTRAL = "It holds if the coordinator runs the released server, unaltered, and keeps its noise to itself."
_FLOATS = (
    "Noise is Gaussian in floating point from a ChaCha20 stream under a secret key; attacks on rounding are made "
    "hard, not excluded by proof."
)


@dataclass(frozen=True)
class Claim:
    """A claim, part by part.

    Attributes:
        plant, unit, epsilon, delta: whose, of which record, how much; epsilon rounded up, never down.
        neighbouring: which two data sets are told apart.
        sampling: the assumption under which the accountant counts.
        against: whom it holds against.
        covered, not_covered, facts: what it says something about; `facts`: of many records.
        assumptions: what it rests on besides.
    """

    plant: str
    unit: str
    epsilon: float
    delta: float
    neighbouring: str
    sampling: str
    against: str
    covered: str
    not_covered: tuple[str, ...]
    facts: str
    assumptions: tuple[str, ...]

    @property
    def text(self) -> str:
        """The paragraph."""
        whose = "the plants together" if self.unit == CENTRAL_UNIT else f"plant {self.plant!r}"
        return " ".join(
            (
                f"Training on the data of {whose} is ({self.epsilon:g}, {self.delta:g})-differentially private for "
                f"each {self.unit.removeprefix('one ')}, against {self.against}.",
                f"Neighbouring data sets differ by {self.neighbouring}.",
                f"{self.sampling}.",
                f"Covered is {self.covered}.",
                f"Not covered: {'; '.join(self.not_covered)}.",
                self.facts,
                *self.assumptions,
            )
        )

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values, the paragraph under `text`."""
        return (
            asdict(self)
            | {"not_covered": list(self.not_covered), "assumptions": list(self.assumptions)}
            | {"text": self.text}
        )


def rounded_up(epsilon: float) -> float:
    """To three digits after the point, upwards.

    Example:
        >>> rounded_up(2.9981), rounded_up(3.0)
        (2.999, 3.0)
    """
    return math.ceil(round(epsilon * 1000, 6)) / 1000


def claim(balance: Balance) -> Claim:
    """The claim that a ledger supports: the plant's own, or the coordinator's where the unit is a plant."""
    central = balance.unit == CENTRAL_UNIT
    epsilon, delta = rounded_up(balance.epsilon), balance.delta
    return Claim(
        plant=balance.plant,
        unit=balance.unit if central else f"disjoint {balance.unit or 'segment'} of its training data",
        epsilon=epsilon,
        delta=delta,
        neighbouring="one plant, whole, present or absent" if central else "one such record, present or absent",
        sampling=_sampling(balance),
        against=_against(central),
        covered=_COVERED_CENTRAL if central else _COVERED,
        not_covered=_NOT_COVERED_CENTRAL if central else _NOT_COVERED,
        facts=_facts(epsilon, delta, central),
        assumptions=(_BUILD_CENTRAL, _FLOATS) if central else (_STAYS, _BUILD, _FLOATS),
    )


def _against(central: bool) -> str:
    if central:
        return "anyone who sees the released models, but not against the coordinator"
    return "anyone who sees all that the plant sends, the coordinator and other plants included"


def _sampling(balance: Balance) -> str:
    sampled = [f"{rate:g}" for rate in balance.sampling if rate < 1]
    if not sampled:
        who = "plant" if balance.unit == CENTRAL_UNIT else "record"
        return f"Every {who} is in every release; no gain from sampling is assumed"
    rates = sampled[0] if len(sampled) == 1 else f"{', '.join(sampled[:-1])} or {sampled[-1]}"
    return (
        f"Each training exchange takes each record independently with probability {rates}, by a secret draw; other "
        "releases take all records"
    )


def _facts(epsilon: float, delta: float, central: bool) -> str:
    """Group privacy: k epsilon, and delta (e^(k epsilon) - 1) / (e^epsilon - 1); k = 2 as the example."""
    who = "plants" if central else "records"
    both = delta * (1 + math.exp(min(epsilon, 700.0)))
    return (
        f"A fact that spans k {who} is protected k-fold less, with k times epsilon (for 2: {2 * epsilon:g} at delta "
        f"{min(both, 1.0):.1e}); a state that lasts for many {who} is not hidden."
    )
