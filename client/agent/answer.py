"""What a plant's handlers add to the common head of a reply."""

from __future__ import annotations

from dataclasses import dataclass

from shared.wire.envelope import Number, RawArray

_MEASURED = ("holdout_loss", "train_loss", "cluster_loss", "calibrated", "own_model")


@dataclass(frozen=True)
class Answer:
    """What a handler adds to the common head of a reply."""

    arrays: dict[str, RawArray]
    numbers: dict[str, Number]
    texts: dict[str, str]


def without_measurements(answer: Answer) -> Answer:
    """Under central differential privacy the server noises weights and statistics, and nothing else is of use."""
    numbers = {name: value for name, value in answer.numbers.items() if name not in _MEASURED}
    return Answer(answer.arrays, numbers, answer.texts)
