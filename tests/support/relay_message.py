"""A describe request, plain and as Flower would hand it to the relay; imports neither torch nor what reads data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.config import Recipe
from shared.wire.envelope import Packet
from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request

if TYPE_CHECKING:
    from flwr.app import Message


def packet() -> Packet:
    """A describe request."""
    small = Recipe.model_validate({"detector": {"window": 8}, "training": {"stride": 4}})
    return encode_request(Request(Kind.DESCRIBE, "r", 1, small))


def describe() -> Message:
    """The same in Flower's records."""
    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

    sent = packet()
    records = {
        "arrays": ArrayRecord(),
        "numbers": MetricRecord(dict(sent.numbers)),
        "texts": ConfigRecord(dict(sent.texts)),
    }
    message = Message(RecordDict(records), dst_node_id=2, message_type="query.describe", ttl=30.0)
    message.metadata.__dict__["_message_id"] = "1"
    return message
