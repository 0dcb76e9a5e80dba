"""A plant sends again what it, or another plant, sent before: refused, and the round's record says why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from server.app import GridChannel
from server.channel import Arrival
from server.replays import REMEMBERED, Replays
from shared.config import RunConfig
from shared.model import GlobalModel
from shared.wire.envelope import Packet
from shared.wire.inventory import Kind
from shared.wire.messages import Request, TrainOrder
from tests.support.plants import settings
from tests.support.puppets import Act, Chronicle, Puppet, Stage, changed, play

NAMES = ("north", "south", "west")


def config(**rounds: object) -> RunConfig:
    return settings(rounds={"pretrain": 4, "joint": 1, "deadline_s": 60.0, **rounds})


@dataclass
class Eavesdropper:
    """West sends, from round 3 on, what another plant had sent in round 2, with some of the head brought up to date."""

    fields: tuple[str, ...] = ()
    owner: str = "north"
    kept: dict[str, Packet] = field(default_factory=dict)

    def listen(self, asked: Packet, reply: Packet) -> Packet:
        if asked.numbers["round"] == 2:
            self.kept["reply"] = reply
        return reply

    def send(self, asked: Packet, reply: Packet) -> Packet:
        if asked.texts["kind"] != "train" or asked.numbers["round"] != 3:
            return reply
        texts = {name: reply.texts[name] for name in self.fields if name in reply.texts}
        numbers = {name: reply.numbers[name] for name in self.fields if name in reply.numbers}
        return changed(self.kept["reply"], texts=texts, numbers=numbers)

    def cast(self) -> Stage:
        puppets = [Puppet(name, step=0.01 * (i + 1)) for i, name in enumerate(NAMES)]
        puppets[NAMES.index(self.owner)].act = self.listen
        puppets[2].act = self.send if self.owner != "west" else self.both
        return Stage(puppets)

    def both(self, asked: Packet, reply: Packet) -> Packet:
        return self.send(asked, self.listen(asked, reply))


def reason(journal: Chronicle, number: int = 3, plant: str = "west") -> str | None:
    return next(p for p in journal.records[number - 1].plants if p.plant == plant).reason


@pytest.mark.parametrize(
    ("fields", "telling"),
    [
        ((), "plant 'north', expected 'west'."),
        (("plant",), "round 2, expected 3: a stale reply."),
        (("plant", "round"), "computed from another global model than was sent: a stale reply."),
        (("plant", "round", "model"), "replay: bit for bit the update that plant 'north' sent in round 2."),
    ],
)
def test_it_is_refused_however_much_of_the_head_is_forged(fields: tuple[str, ...], telling: str) -> None:
    journal = play(Eavesdropper(fields).cast(), config())
    assert reason(journal) == telling
    assert journal.records[2].status.value == "committed"
    assert journal.records[2].accepted == ("north", "south")
    assert journal.records[3].accepted == NAMES


def test_the_round_is_as_if_it_had_been_silent() -> None:
    quiet: Act = lambda asked, reply: None if asked.numbers["round"] == 3 else reply  # noqa: E731
    stage = Eavesdropper().cast()
    stage.puppets[2].act = quiet
    replayed = play(Eavesdropper(("plant", "round", "model")).cast(), config())
    assert [r.model for r in replayed.records] == [r.model for r in play(stage, config()).records]


def test_its_own_update_of_an_earlier_round_is_refused_too() -> None:
    journal = play(Eavesdropper(("round", "model"), owner="west").cast(), config())
    assert reason(journal) == "replay: bit for bit the update that this plant sent in round 2."


def test_on_a_network_the_key_tells_who_sends() -> None:
    channel = GridChannel(object(), frozenset(NAMES))  # type: ignore[arg-type]
    channel._name_of = {7: "west"}
    stolen = Packet({}, {}, {"plant": "north"})
    told = channel._named(Arrival(7, stolen))
    assert told.packet is None
    assert told.failure == "name: the plant registered as 'west' answers as 'north'"
    assert channel._named(Arrival(7, Packet({}, {}, {"plant": "west"}))).failure == ""


def test_a_step_tried_again_gets_the_same_update_again() -> None:
    """Replies are pure functions of the request: after a skipped round everybody sends what it sent before."""
    lost: Act = lambda asked, reply: None if asked.numbers["round"] == 3 else reply  # noqa: E731
    stage = Stage([Puppet("north", step=0.01), Puppet("south", step=0.02, act=lost), Puppet("west", act=lost)])
    journal = play(stage, config())
    assert [r.status.value for r in journal.records[2:4]] == ["skipped", "committed"]
    assert journal.records[3].accepted == NAMES


def test_an_update_of_nothing_is_no_replay() -> None:
    """A plant whose training moves no weight sends back what it got, which after a round of zeros is the same."""
    journal = play(Stage([Puppet(name, step=0.0) for name in NAMES]), config())
    assert all(r.accepted == NAMES for r in journal.records)


def test_equal_updates_in_one_round_are_told_and_counted() -> None:
    """Which of the two is the copy cannot be seen: refusing the later would let a thief keep the owner out."""
    puppets = [Puppet("north", step=0.02), Puppet("south", step=0.01), Puppet("west", step=0.02)]
    journal = play(Stage(puppets), config())
    assert journal.records[1].accepted == NAMES
    assert journal.records[1].reason == "copies: north, west sent the same update bit for bit"
    assert journal.records[0].reason is None


def request(number: int, step: int = 0) -> Request:
    recipe = settings().recipe
    return Request(Kind.TRAIN, "run", number, recipe, f"digest {number}", GlobalModel({}), order=TrainOrder(step=step))


def test_memory_is_bounded_and_the_oldest_are_forgotten() -> None:
    replays = Replays()
    first = Puppet("north").answer(_asked(0))
    assert replays.judge(request(1), "north", first) is None
    for i in range(REMEMBERED):
        replays._known[i.to_bytes(32, "big")] = ("south", 1, "")
    assert replays.judge(request(2), "north", replace(first, arrays={})) is None
    assert replays.judge(request(2), "west", first) is None  # the first of all is forgotten
    assert len(replays._known) <= REMEMBERED + 1


def _asked(value: int) -> Packet:
    import numpy as np

    from shared.wire.envelope import encode_array
    from tests.support.puppets import MANIFEST

    arrays = {f"weights/{s.name}": encode_array(np.full(s.shape, value, np.float32)) for s in MANIFEST}
    return Packet(arrays, {"round": 1}, {"kind": "train", "run": "run", "model": ""})


# ---- duplicates and strays -------------------------------------------------------------------------------------------


class Twice(Stage):
    """West answers twice while another plant is still waited for; a node that nobody asked answers too."""

    def receive(self, wait_s: float) -> list[Arrival]:
        due = list(super().receive(wait_s))
        return [*due, *(replace(a, node=node) for a in due if a.node == 2 and not a.beside for node in (2, 99))]


def test_a_second_reply_and_a_strangers_are_dropped_and_told() -> None:
    puppets = [Puppet("north", step=0.01, delay_s=3.0), Puppet("south", step=0.02), Puppet("west", step=0.03)]
    journal, quiet = play(Twice(puppets), config()), play(Stage(puppets), config())
    assert [r.model for r in journal.records] == [r.model for r in quiet.records]
    assert journal.records[1].accepted == NAMES
    assert journal.records[1].reason == (
        "stray: node 99 was not asked; duplicate: west sent more than one reply, the first counts"
    )


def test_a_description_that_nobody_asked_for_is_dropped() -> None:
    class Pushy(Stage):
        def receive(self, wait_s: float) -> list[Arrival]:
            due = list(super().receive(wait_s))
            told = Puppet("east").answer(Packet({}, {"round": 2}, {"kind": "describe", "run": "run"}))
            return [*due, Arrival(99, told, beside=True)]

    journal = play(Pushy([Puppet(name) for name in NAMES]), config())
    assert [m.plant for m in journal.states[-1].members] == list(NAMES)
