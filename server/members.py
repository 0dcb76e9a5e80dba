"""Ensembles: each member's tensors are averaged over the plants that train it, everything else over all.

    theta_e = sum_{s in S_e} w_s theta_s / sum_{s in S_e} w_s       S_e: its plants (shared/ensemble.py)

A member whose plants are all silent stays as it was. No rule can outvote one of few plants: a robust aggregation holds
for the tensors that all plants train, members are plain means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from server.aggregate import Aggregate, Fold, RunningMean
from server.robust import fold_for
from server.rounds import RunState
from shared.config import RoundConfig
from shared.ensemble import member_of, places, trained_by
from shared.model import Weights
from shared.wire.gate import Accepted


def size_of(weights: Weights) -> int:
    """How many members there are among a model's tensors.

    Example:
        >>> size_of({"members.0.a": np.zeros(1), "members.1.a": np.zeros(1), "out": np.zeros(1)}), size_of({})
        (2, 0)
    """
    return 1 + max((number for name in weights if (number := member_of(name)) is not None), default=-1)


def places_of(state: RunState) -> str:
    """What a request to train says of places; empty where the model is no ensemble."""
    if state.model is None or not size_of(state.model.weights):
        return ""
    return places(state.run, (member.plant for member in state.members))


def fold_with_members(state: RunState, rounds: RoundConfig) -> Fold:
    """What puts the replies of the next round together; `fold_for` where the model is no ensemble."""
    if state.model is None or not (members := size_of(state.model.weights)):
        return fold_for(state, rounds)
    everybodys = {name: value for name, value in state.model.weights.items() if member_of(name) is None}
    names = sorted(member.plant for member in state.members)
    turns = {plant: trained_by(place, len(names), members) for place, plant in enumerate(names)}
    base = {name: value for name, value in state.model.weights.items() if member_of(name) is not None}
    if rounds.server_optimizer == "adam":  # gradients come
        base = {name: np.zeros_like(value) for name, value in base.items()}
    inner = fold_for(replace(state, model=replace(state.model, weights=everybodys)), rounds)
    return MemberFold(inner, turns, base, () if rounds.aggregation == "mean" else (_UNGUARDED,))


_UNGUARDED = "aggregation: members of the ensemble are plain means of their own plants, which nobody outvotes"


@dataclass
class MemberFold:
    """Takes members apart and hands the rest on.

    Attributes:
        inner: what puts everybody's tensors together, statistics and metrics.
        turns: the members that each plant trains.
        base: the members as they were sent; zeros where gradients come.
        notes: what to say of it.
    """

    inner: Fold
    turns: Mapping[str, tuple[int, ...]]
    base: Weights
    notes: tuple[str, ...] = ()
    _means: dict[int, RunningMean] = field(default_factory=dict)
    _updated: bool = False

    def add(self, accepted: Accepted, weight: float) -> None:
        """Fold one reply in; it may be forgotten afterwards."""
        said = accepted.weights or {}
        everybodys = {name: value for name, value in said.items() if member_of(name) is None}
        self.inner.add(replace(accepted, weights=everybodys or None), weight)
        self._updated |= bool(said)
        for number in self.turns.get(accepted.plant, ()) if said else ():
            own = {name: value for name, value in said.items() if member_of(name) == number}
            self._means.setdefault(number, RunningMean()).add(replace(accepted, weights=own, statistic=None), weight)

    def result(self) -> Aggregate:
        """The whole model, as far as replies carried any."""
        found = self.inner.result()
        if not self._updated:
            return found
        means = {name: value for mean in self._means.values() for name, value in (mean.result().weights or {}).items()}
        return replace(found, weights={**(found.weights or {}), **self.base, **means}, notes=found.notes + self.notes)
