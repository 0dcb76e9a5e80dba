"""Plants' lagged moments, added up plant by plant (docs/lag.md).

    M = sum_s c_s M_s,   c_s = min(1, cap * median(n) / n_s)

The sum over plants is the pooled rows' own. How many rows a plant claims is its own word, though: beyond `weight_cap`
times the median plant they count for less, as its weight in the mean does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from server import phases
from server.aggregate import Aggregate, RunningMean
from server.phases import Step
from server.rounds import Committed, Member, RunState
from server.transition import Conducted, pass_over
from shared.config import Recipe, RunConfig
from shared.lag.pooled import LagSum, tag
from shared.lag.sums import Moments
from shared.wire.gate import Accepted
from shared.wire.inventory import Kind
from shared.wire.lagged import MomentsDue
from shared.wire.messages import Request


def most_rows(examples: int, recipe: Recipe) -> int:
    """Rows that so many training windows can cover at most, each in a recording of its own."""
    return examples * (recipe.detector.window + recipe.training.stride - 1)


def moments_due(state: RunState, config: RunConfig, request: Request, member: Member) -> MomentsDue | None:
    """What a member's moments must be; None where none are asked for."""
    schema, recipe, lags = state.schema, config.recipe, phases.lags(state, config)
    if request.kind is not Kind.MOMENTS or schema is None or lags is None:
        return None
    return MomentsDue(schema.dim, lags, recipe.preprocess.guard, most_rows(member.examples, recipe))


def unasked(state: RunState, step: Step, now: datetime) -> Committed:
    """The round in which plants have too many tags to be asked for any moments."""
    started = now.isoformat(timespec="milliseconds")
    return pass_over(state, step, Conducted(RunningMean().result(), (), started, 0.0, {}), "moments: too many tags")


def usual_rows(members: Sequence[Member], recipe: Recipe) -> float:
    """Rows of the median plant, by the windows that each declared, were its rows in one piece."""
    windows = [(member.examples - 1) * recipe.training.stride + recipe.detector.window for member in members]
    return float(np.median(windows)) if windows else 0.0


@dataclass
class MomentsFold:
    """Adds moments up, in the order given; of one plant alone nothing is kept: every other would read it in the sum.

    Args:
        state: before the round.
        config: of the run.
    """

    state: RunState
    config: RunConfig
    _others: RunningMean = field(default_factory=RunningMean)
    _total: Moments | None = None
    _shares: dict[str, float] = field(default_factory=dict)

    def add(self, accepted: Accepted, weight: float) -> None:
        """Fold one reply in; it may be forgotten afterwards."""
        self._others.add(accepted, weight)
        found = accepted.moments
        if found is None or found.rows <= 0:
            return
        limit = self.config.rounds.weight_cap * usual_rows(self.state.members, self.config.recipe)
        share = min(1.0, limit / found.rows)
        part = found if share == 1.0 else found * share
        self._total = part if self._total is None else self._total + part
        self._shares[tag(self.state.run, accepted.plant)] = share

    def result(self) -> Aggregate:
        """The sum, and what to say about it."""
        found = self._others.result()
        if self._total is None or len(self._shares) < 2:
            return replace(found, notes=("moments: of fewer than 2 plants, so nothing is shared",))
        less = sum(share < 1.0 for share in self._shares.values())
        told = (f"moments: {less} of {len(self._shares)} plants claim more rows than count",) if less else ()
        return replace(found, moments=LagSum(self._total.vector_Q, dict(sorted(self._shares.items()))), notes=told)
