"""What releases cost together: epsilon at a delta, from what was released and not from what was meant to be.

min(PRV, RDP), both upper bounds; PRV after Gopi et al. 2021 (arXiv 2106.02848), RDP after Mironov et al. 2019 (arXiv
1908.10530), both by Opacus. The central-limit accountant ("GDP") reports too little and is not used. Imported inside
functions: Opacus imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Equal releases, composed.

    Attributes:
        multiplier: noise over sensitivity, of all parts of one release together.
        sampling: chance of a record to be in one release; 1 when all are.
        count: how many.
    """

    multiplier: float
    sampling: float
    count: int


def together(*multipliers: float) -> float:
    """The multiplier of several parts released at once: precisions add, 1 / sqrt(sum z^-2); parts with 0 are absent.

    Example:
        >>> round(together(1.0, 1.0), 4), together(2.0, 0.0)
        (0.7071, 2.0)
    """
    raise NotImplementedError


def epsilon(events: Sequence[Event], delta: float) -> float:
    """Epsilon of all events together; 0 for none, infinite where a multiplier is 0."""
    raise NotImplementedError


def upper(events: Sequence[Event], delta: float) -> float:
    """A quick upper bound on `epsilon` (RDP alone), for a ledger that is asked before every release."""
    raise NotImplementedError


def multiplier_for(target: float, delta: float, sampling: float, count: int, others: Sequence[Event] = ()) -> float:
    """The least multiplier at which `count` releases beside `others` stay within `target`, to 0.1 % above.

    Raises:
        BudgetTooSmall: `others` alone spend it.
    """
    raise NotImplementedError
