"""The plant's Flower adapter: the only file of `client/` that imports Flower.

`client.app:app` is the ClientApp of the manifest: a thin relay between Flower and the plant agent, which owns the data.
With `CROSSPLANT_AGENT` set, the agent is another process behind that Unix socket and this one imports neither torch nor
the code that reads data; without it, as in a simulation, the agent lives in this process.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from client.agent.wire import ask, refusal, refused_text
from shared.errors import InvalidConfig
from shared.wire.envelope import Packet
from shared.wire.frame import encode_frame
from shared.wire.records import ARRAYS, FRAME, NUMBERS, TEXTS, is_framed, packet_from_records

AGENT = "CROSSPLANT_AGENT"
PLANT = "CROSSPLANT_PLANT"

log = logging.getLogger(__name__)
app = ClientApp()
if os.environ.get(AGENT):  # a process of its own, whose log nobody else writes
    logging.getLogger("client").addHandler(logging.StreamHandler())


@app.train()
@app.query("describe")
@app.query("cluster")
@app.query("moments")
@app.query("calibrate")
def relay(message: Message, context: Context) -> Message:
    """Hand a request to this node's agent and its answer back. Never raises: Flower would send the error's text."""
    request, records = Packet(), _frame if is_framed(message.content) else _records
    try:
        request = packet_from_records(message.content)
        answer = records(_named(request, _answer(request, message.metadata.ttl, context)))
    except Exception as error:  # whatever it is, a code travels and the text stays here
        log.exception("the relay cannot answer")
        answer = records(refusal(request, _plant(context), refused_text(error)))
    return Message(answer, reply_to=message)


def _answer(request: Packet, ttl_s: float, context: Context) -> Packet:
    socket = os.environ.get(AGENT)
    if socket:
        return ask(Path(socket), request, ttl_s)
    from client.agent.local import local_agent

    number = int(context.node_config["partition-id"])
    agent = local_agent(Path(_setting(context, "plants")), number, _optional(context, "device") or "auto")
    return agent.handle(request)


def _named(request: Packet, answer: Packet) -> Packet:
    """A refusal says of which request it is; an agent that cannot log, or takes none so large, has not read that."""
    refused = answer.texts.get("refused")
    if refused is None or "run" in answer.texts:
        return answer
    return refusal(request, str(answer.texts.get("plant", "")), str(refused))


def _plant(context: Context) -> str:
    """What this plant is called, for a refusal without its agent: the server takes replies of the name it asked."""
    return str(context.node_config.get("site") or os.environ.get(PLANT, ""))


def _optional(context: Context, name: str) -> str | None:
    # Flower's Python simulation entry point leaves the run configuration empty (docs/decisions/0003).
    value = context.run_config.get(name) or os.environ.get(f"CROSSPLANT_{name.upper()}")
    return str(value) if value else None


def _setting(context: Context, name: str) -> str:
    value = _optional(context, name)
    if value is None:
        raise InvalidConfig(f"the client app was started without {name!r}.", "Start it with `crossplant simulate`.")
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


def _frame(packet: Packet) -> RecordDict:
    data = encode_frame(packet)
    return RecordDict({FRAME: ArrayRecord({FRAME: Array("uint8", (len(data),), "numpy.ndarray", data)})})
