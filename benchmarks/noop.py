"""A plant that trains nothing: it decodes a request as the real agent does and sends the same weights back.

What is left is the cost of the federation itself. The network is that of MSL: 55 sensors, 221,191 weights (221,319 with
the 8 centroids). `app` is the ClientApp; it needs no data folder, so that there may be a thousand of them.
"""

from __future__ import annotations

import os
import time
from functools import cache

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from shared.config import DetectorConfig
from shared.model import TensorSpec
from shared.schema import SensorSchema
from shared.wire.envelope import PROTOCOL, Packet, encode_array
from shared.wire.gate import encode_manifest
from shared.wire.inventory import Kind
from shared.wire.messages import WEIGHT, Request, parse_request
from shared.wire.records import ARRAYS, NUMBERS, TEXTS, packet_from_records

DIM = 55
EXAMPLES = 1_280
FIRST = "CROSSPLANT_BENCH_FIRST"  # names a file: the first request ever writes the clock into it
SLOW = "CROSSPLANT_BENCH_SLOW"  # seconds that the first plant sleeps over a TRAIN request

app = ClientApp()
_told: list[float] = []


@app.train()
@app.query("describe")
@app.query("cluster")
@app.query("calibrate")
def relay(message: Message, context: Context) -> Message:
    """What `client.app.relay` does, with the no-op in the agent's place."""
    _tell_first()
    number = int(context.node_config["partition-id"])
    packet = answer(packet_from_records(message.content), number)
    if number == 0 and packet.texts["kind"] == Kind.TRAIN:
        time.sleep(float(os.environ.get(SLOW, "0")))
    return Message(records(packet), reply_to=message)


def _tell_first() -> None:
    if _told:
        return
    _told.append(time.monotonic())
    try:
        with open(os.environ[FIRST], "x", encoding="ascii") as file:
            file.write(repr(_told[0]))
    except (KeyError, FileExistsError):
        return


def answer(packet: Packet, number: int) -> Packet:
    """The reply of plant `number` to any request."""
    request = parse_request(packet, manifest(), DetectorConfig().latent)
    head = {name: packet.texts[name] for name in ("run", "kind", "model") if name in packet.texts}
    texts = {**head, "plant": f"plant-{number:05d}"}
    numbers = {"round": request.round, "protocol": PROTOCOL}
    if request.kind is Kind.DESCRIBE:
        schema = SensorSchema(tags=tuple(f"T{i:02d}" for i in range(DIM)), period_s=1.0).json.decode()
        about = {**texts, "schema": schema, "manifest": encode_manifest(manifest())}
        return Packet({}, {**numbers, "examples": EXAMPLES, "segments": 22}, about)
    if request.kind is Kind.CALIBRATE:
        return Packet({}, {**numbers, "holdout_loss": 1.0, "calibrated": 1}, texts)
    if request.kind is Kind.CLUSTER:
        return _statistic(request, numbers, texts)
    assert request.model is not None
    arrays = {f"{WEIGHT}{name}": encode_array(value) for name, value in request.model.weights.items()}
    losses = {"examples": EXAMPLES, "holdout_loss": 1.0, "train_loss": 1.0, "cluster_loss": 0.0}
    return Packet(arrays, {**numbers, **losses, "seconds_train": 0.0, "seconds_evaluate": 0.0}, texts)


def _statistic(request: Request, numbers: dict[str, int], texts: dict[str, str]) -> Packet:
    assert request.model is not None
    assert request.model.clusters is not None
    k, z = request.model.clusters.centroids_KZ.shape
    arrays = {"cluster_sums": encode_array(np.zeros((k, z))), "cluster_counts": encode_array(np.full(k, 22.0 / k))}
    return Packet(arrays, {**numbers, "cluster_spread": 22.0}, texts)


@cache
def manifest() -> tuple[TensorSpec, ...]:
    """The tensors of the default network at D = 55."""
    from shared.detectors import build

    return build(DetectorConfig(), DIM).manifest()


def records(packet: Packet) -> RecordDict:
    """A packet as Flower's records, as both real adapters write them."""
    arrays = {name: Array(raw.dtype, raw.shape, "numpy.ndarray", raw.data) for name, raw in packet.arrays.items()}
    parts = (ArrayRecord(arrays), MetricRecord(dict(packet.numbers)), ConfigRecord(dict(packet.texts)))
    return RecordDict(dict(zip((ARRAYS, NUMBERS, TEXTS), parts, strict=True)))
