"""Who is there: which node is which plant, who is asked to describe itself, who may join and who is left out.

It is what one process knows, and nothing in it is needed to go on: after a restart a roll call finds it out anew. What
must last, the members, is part of the run's state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from server.membership import change, misfit
from server.rounds import JOINED, Member, PlantReport, RunState
from shared.wire.gate import Accepted, Description, Expectation, Rejected

_SLOWEST = 4  # a node that does not fit is asked again after 1, 2, 4, ... 2**_SLOWEST rounds


@dataclass(frozen=True)
class Question:
    """What a node was asked beside a round.

    Attributes:
        expect: what its answer must match.
        asked_s: when, on the coordinator's clock.
        bytes_down: payload.
    """

    expect: Expectation
    asked_s: float
    bytes_down: int


@dataclass
class Attendance:
    """Nodes and plants as this process knows them.

    Attributes:
        plant_of: nodes that described themselves and fit.
        left_out: by member, why it is not asked.
        joining: plants that fit and are members from the next round on.
        open: nodes that were asked beside a round and have not answered.
    """

    plant_of: dict[int, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    joining: dict[str, Description] = field(default_factory=dict)
    open: dict[int, Question] = field(default_factory=dict)
    _connected: frozenset[int] = frozenset()
    _doubtful: set[int] = field(default_factory=set)
    _again: dict[int, tuple[int, int]] = field(default_factory=dict)  # node: round to ask it in, refusals so far
    _told: dict[int, PlantReport] = field(default_factory=dict)

    # ---- who is there ------------------------------------------------------------------------------------------------

    def look(self, connected: Iterable[int], members: Iterable[Member]) -> None:
        """Take in who is connected. What is known against a node that went away is forgotten: it may return mended."""
        self._connected = frozenset(connected)
        known = {member.plant for member in members} | self.joining.keys()
        self.plant_of = {node: plant for node, plant in self.plant_of.items() if plant in known}
        self._again = {node: when for node, when in self._again.items() if node in self._connected}
        self._doubtful &= self._connected
        self.open = {node: question for node, question in self.open.items() if node in self._connected}

    def know(self, names: Mapping[int, str | None], members: Iterable[Member]) -> None:
        """Take in who nodes are by their keys: a member need not say so again, every reply shows whether it fits."""
        due = {member.plant for member in members} - self.left_out.keys() - set(self.plant_of.values())
        for node in sorted(self._connected - self.plant_of.keys()):
            if (name := names.get(node)) in due and name is not None:
                self._take(node, name)

    def nodes(self, members: Iterable[Member]) -> dict[str, int]:
        """Nodes of the members that can be asked now."""
        known = {member.plant for member in members}
        here = sorted(self._connected & self.plant_of.keys())
        return {self.plant_of[node]: node for node in here if self.plant_of[node] in known}

    def may_come(self, members: Iterable[Member]) -> int:
        """How many members are not there, and not known to be left out either."""
        here = self.nodes(members)
        return sum(member.plant not in here and member.plant not in self.left_out for member in members)

    def to_describe(self, number: int) -> list[int]:
        """Nodes to ask in a round what they are: strangers, those that did not fit before, members in doubt."""
        unknown = (self._connected - self.plant_of.keys()) | self._doubtful
        due = (node for node in unknown - self.open.keys() if self._again.get(node, (0, 0))[0] <= number)
        return sorted(due)

    def asked(self, plants: Iterable[str]) -> None:
        """Members were asked: whatever kept them out is over."""
        for plant in plants:
            self.left_out.pop(plant, None)

    def absent(self, plant: str) -> str:
        """Why a member was not asked."""
        return self.left_out.get(plant, "absent: not connected")

    # ---- what they say -----------------------------------------------------------------------------------------------

    def hear(self, node: int, verdict: Accepted | Rejected, report: PlantReport, state: RunState, number: int) -> None:
        """Take in what a node says of itself in a round: a member comes back, a plant joins, or it is told why not."""
        self._doubtful.discard(node)
        said = verdict.description if isinstance(verdict, Accepted) else None
        if said is None:
            return self._not_now(node, replace(report, accepted=False), state, number)
        if (holder := self._holder(verdict.plant)) not in (None, node):
            reason = f"name: node {holder} is called {verdict.plant!r} too, and is asked instead"
            return self._refuse(node, replace(report, accepted=False, reason=reason), number)
        return self._judge(node, said, report, state, number)

    def _judge(self, node: int, said: Description, report: PlantReport, state: RunState, number: int) -> None:
        plant, member = report.plant, next((m for m in state.members if m.plant == report.plant), None)
        if member is not None:
            return self._judge_member(node, change(said, member, state), member, number)
        reason = misfit(plant, said, state.schema, state.manifest) if state.manifest else None
        if reason is not None:
            return self._refuse(node, replace(report, accepted=False, reason=reason), number)
        self._take(node, plant)
        self.joining[plant] = said
        self._told[node] = replace(report, accepted=False, reason=f"{JOINED} takes part from round {number + 1} on")
        return None

    def _judge_member(self, node: int, changed: str | None, member: Member, number: int) -> None:
        if changed is not None:
            return self.leave_out(node, member.plant, changed, number)
        if self.plant_of.get(node) != member.plant:
            self.left_out[member.plant] = f"returned: takes part from round {number + 1} on"
        return self._take(node, member.plant)

    def _not_now(self, node: int, report: PlantReport, state: RunState, number: int) -> None:
        """A node that says nothing of itself: a member that answers otherwise stays one."""
        self._put_off(node, number)
        if node in self.plant_of:
            return
        if any(member.plant == report.plant for member in state.members) and self._holder(report.plant) is None:
            self.left_out[report.plant] = report.reason or ""
        else:
            self._told[node] = report

    def _holder(self, plant: str) -> int | None:
        """The connected node that has a plant's name."""
        return next((n for n, name in self.plant_of.items() if name == plant and n in self._connected), None)

    def _take(self, node: int, plant: str) -> None:
        self.plant_of = {n: name for n, name in self.plant_of.items() if name != plant} | {node: plant}
        self._again.pop(node, None)

    def _refuse(self, node: int, report: PlantReport, number: int) -> None:
        self.plant_of.pop(node, None)
        self._put_off(node, number)
        self._told[node] = report

    def _put_off(self, node: int, number: int) -> None:
        refusals = self._again.get(node, (0, 0))[1]
        self._again[node] = (number + 2 ** min(refusals, _SLOWEST), refusals + 1)

    def leave_out(self, node: int, plant: str, reason: str, number: int) -> None:
        """Do not ask a member for the time being; it is heard again, ever more seldom, until it fits."""
        if self.plant_of.get(node) == plant or self._holder(plant) is None:
            self.left_out[plant] = reason
        self.plant_of.pop(node, None)
        self._put_off(node, number)

    def doubt(self, node: int) -> None:
        """A member's reply was refused: ask it what it is by now."""
        self._doubtful.add(node)

    def trust(self, node: int) -> None:
        """A member's reply counted."""
        self._doubtful.discard(node)
        self._again.pop(node, None)

    # ---- at the end of a round ---------------------------------------------------------------------------------------

    def founded(self, members: Iterable[Member], number: int) -> None:
        """The describe round is over: who did not fit is heard again later."""
        plants = {member.plant for member in members}
        for node in [node for node, plant in self.plant_of.items() if plant not in plants]:
            del self.plant_of[node]
            self._put_off(node, number)

    def report(self, members: Collection[Member]) -> tuple[tuple[PlantReport, ...], Mapping[str, Description]]:
        """What is to be said of nodes that are no members, and who joins; both once."""
        taken = [*(member.plant for member in members), *self.plant_of.values()]
        told, joined = distinct(self._told, self.plant_of, taken), self.joining
        self._told, self.joining = {}, {}
        return told, joined


def distinct(
    reports: Mapping[int, PlantReport], holders: Mapping[int, str], names: Iterable[str]
) -> tuple[PlantReport, ...]:
    """Reports under names of their own, sorted: whoever does not hold the name that it gave is told by its node too."""
    taken, named = set(names), []
    for node, report in sorted(reports.items()):
        name = report.plant
        while name in taken and holders.get(node) != name:
            name = f"{name} (node {node})"
        taken.add(name)
        named.append(replace(report, plant=name))
    return tuple(sorted(named, key=lambda report: report.plant))
