"""An agent that cannot log, or gets too large a request, reads nothing of it: the server still hears which it was."""

from __future__ import annotations

from client.agent.wire import refusal
from client.app import _named
from shared.wire.envelope import Packet
from tests.support.relay_message import packet


def test_the_relay_says_which_request_was_refused() -> None:
    asked = packet()
    told = _named(asked, refusal(Packet(), "north", "CP-605 AuditBroken"))
    assert told.texts["refused"] == "CP-605 AuditBroken"
    assert told.texts["plant"] == "north"
    assert (told.texts["run"], told.numbers["round"]) == (asked.texts["run"], asked.numbers["round"])


def test_an_answer_is_left_as_it_is() -> None:
    asked = packet()
    for answer in (Packet({}, {}, {"plant": "north"}), refusal(asked, "north", "CP-603 hours")):
        assert _named(asked, answer) is answer
