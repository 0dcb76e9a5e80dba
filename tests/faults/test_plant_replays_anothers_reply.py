"""A plant sends again what it, or another plant, sent before: refused, and the round's record says why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from server import judging
from server.app import GridChannel
from server.channel import Arrival
from server.replays import REMEMBERED, Replays, sent
from shared.config import RunConfig
from shared.model import Weights
from shared.wire.envelope import Packet, encode_array
from tests.support.plants import settings
from tests.support.puppets import MANIFEST, Act, Chronicle, Puppet, Stage, changed, play

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


def test_a_run_that_goes_back_to_its_best_model_gets_the_same_update_again() -> None:
    """The warm-up stops, its best model goes on, and the first joint round asks what an earlier round had asked."""
    losses: Act = lambda asked, reply: (  # noqa: E731
        changed(reply, numbers={"holdout_loss": float(asked.numbers["round"])})
        if reply.texts["kind"] == "train" and "holdout_loss" in reply.numbers
        else reply
    )
    stage = Stage([Puppet(name, step=0.01 * (i + 1), act=losses) for i, name in enumerate(NAMES)])
    journal = play(stage, config(pretrain=6, joint=2, patience=2))
    trained = [r for r in journal.records if r.label.startswith("train")]
    assert "stopped early" in (trained[2].reason or "")
    assert trained[2].model == journal.records[0].model  # that of the beginning, which the first round measured
    joint = trained[3]
    assert joint.phase.value == "joint"
    assert joint.model is not None
    weights = [s.model.weights for s in journal.states if s.model is not None]
    first, again = weights[trained[0].number - 1], weights[joint.number - 1]
    assert all(np.array_equal(first[name], again[name]) for name in first)  # the same updates, so the same mean
    assert joint.accepted == NAMES
    assert {p.reason for p in joint.plants} == {None}


def test_a_round_hashes_the_weights_that_it_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def counting(weights: Weights) -> str:
        hashed.append(len(weights))
        return sent(weights)

    monkeypatch.setattr(judging, "sent", counting)
    journal = play(Stage([Puppet(name, step=0.01 * (i + 1)) for i, name in enumerate(NAMES)]), config())
    asked = [r for r in journal.records if r.label != "describe"]
    assert 0 < len(hashed) <= len(asked)
    assert len(asked[0].plants) == len(NAMES)


@pytest.mark.parametrize(("asked", "told"), [("best", None), ("other", "north"), ("", "north")])
def test_the_same_update_counts_again_only_where_the_same_weights_were_asked(asked: str, told: str | None) -> None:
    replays, update = Replays(), Puppet("north").answer(_asked(0))
    assert replays.judge(3, "best", "north", update) is None
    assert replays.judge(4, "newer", "north", Puppet("north").answer(_asked(1))) is None
    for number, plant in ((5, "north"), (6, "west")):
        said = replays.judge(number, asked, plant, update)
        whose = "this plant" if plant == "north" else "plant 'north'"
        assert said == (told and f"replay: bit for bit the update that {whose} sent in round 3.")


def test_which_weights_were_sent_depends_on_every_name_and_value_and_on_no_order() -> None:
    one, two = np.ones(2, np.float32), np.zeros(2, np.float32)
    assert sent({}) == ""
    assert sent({"a": one, "b": two}) == sent({"b": two, "a": one})
    assert len({sent(w) for w in ({"a": one, "b": two}, {"a": two, "b": one}, {"a": one, "c": two}, {"a": one})}) == 4


def test_memory_is_bounded_and_the_oldest_are_forgotten() -> None:
    replays = Replays()
    first = Puppet("north").answer(_asked(0))
    assert replays.judge(1, "first", "north", first) is None
    for i in range(REMEMBERED):
        replays._known[i.to_bytes(32, "big")] = ("south", 1, "")
    assert replays.judge(2, "second", "north", replace(first, arrays={})) is None
    assert replays.judge(2, "second", "west", first) is None  # the first of all is forgotten
    assert len(replays._known) <= REMEMBERED + 1


def _asked(value: int) -> Packet:
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
