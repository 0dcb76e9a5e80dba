"""The plant's Flower adapter: the only file of `client/` that imports Flower.

`client.app:app` is the ClientApp of the manifest: a thin relay between Flower and the plant agent, which owns the data.
"""

from __future__ import annotations

import os
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from client.agent.local import local_agent
from shared.wire.envelope import Packet
from shared.wire.records import ARRAYS, NUMBERS, TEXTS, packet_from_records

app = ClientApp()


@app.train()
@app.query("describe")
@app.query("cluster")
@app.query("calibrate")
def relay(message: Message, context: Context) -> Message:
    """Hand a request to this node's agent and its answer back."""
    number = int(context.node_config["partition-id"])
    agent = local_agent(Path(_setting(context, "plants")), number, _optional(context, "device") or "auto")
    return Message(_records(agent.handle(packet_from_records(message.content))), reply_to=message)


def _optional(context: Context, name: str) -> str | None:
    # Flower's Python simulation entry point leaves the run configuration empty (docs/decisions/0003).
    value = context.run_config.get(name) or os.environ.get(f"CROSSPLANT_{name.upper()}")
    return str(value) if value else None


def _setting(context: Context, name: str) -> str:
    value = _optional(context, name)
    if value is None:
        raise RuntimeError(f"the client app was started without {name!r}")
    return value


def _records(packet: Packet) -> RecordDict:
    arrays = {name: Array(raw.dtype, raw.shape, "numpy.ndarray", raw.data) for name, raw in packet.arrays.items()}
    return RecordDict(
        {
            ARRAYS: ArrayRecord(arrays),
            NUMBERS: MetricRecord(dict(packet.numbers)),
            TEXTS: ConfigRecord(dict(packet.texts)),
        }
    )
