"""The in-process grid: carries messages as Flower would, holds back what the server has not taken, stops when told."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from client.app import app as client_app
from server.app import GridChannel
from server.app import app as server_app
from shared.wire.envelope import Packet, encode_array
from simulations.grid import InProcessGrid


def _contexts(count: int) -> dict[int, Context]:
    return {
        n: Context(run_id=1, node_id=n, node_config={"partition-id": n - 1}, state=RecordDict(), run_config={})
        for n in range(1, count + 1)
    }


def _echo() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(message.content, reply_to=message)

    return app


def _packet(kind: str = "train") -> Packet:
    return Packet({"weights/a": encode_array(np.arange(3, dtype=np.float32))}, {"round": 1}, {"kind": kind})


@pytest.fixture
def grids():  # type: ignore[no-untyped-def]
    made: list[InProcessGrid] = []

    def make(app: ClientApp, count: int = 3, workers: int = 2) -> InProcessGrid:
        made.append(InProcessGrid(app, _contexts(count), workers))
        return made[-1]

    yield make
    for grid in made:
        grid.close()
        assert not any(thread.is_alive() for thread in grid._threads)


def _receive_all(channel: GridChannel, count: int) -> list:  # type: ignore[type-arg]
    arrivals: list = []  # type: ignore[type-arg]
    ends = time.monotonic() + 10
    while len(arrivals) < count and time.monotonic() < ends:
        arrivals += channel.receive(0.5)
    return arrivals


def test_every_node_gets_the_packet_and_answers(grids) -> None:  # type: ignore[no-untyped-def]
    channel = GridChannel(grids(_echo()))
    assert channel.nodes() == [1, 2, 3]
    channel.send(_packet(), [1, 3], ttl_s=10, group="r/1")
    arrivals = _receive_all(channel, 2)
    assert sorted(a.node for a in arrivals) == [1, 3]
    assert all(a.packet == _packet() for a in arrivals)


def test_an_app_that_raises_is_a_failure_of_that_node_and_its_text_does_not_travel_on(grids) -> None:  # type: ignore[no-untyped-def]
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if context.node_id == 2:
            raise RuntimeError("tank level 3.14")
        return Message(message.content, reply_to=message)

    channel = GridChannel(grids(app))
    channel.send(_packet(), [1, 2], ttl_s=10, group="r/1")
    failed = {a.node: a for a in _receive_all(channel, 2)}
    assert failed[1].packet is not None
    assert failed[2].packet is None
    assert "3.14" not in failed[2].failure


def test_records_of_another_shape_are_a_failure_and_no_exception(grids) -> None:  # type: ignore[no-untyped-def]
    app = ClientApp()
    odd = {
        1: RecordDict(
            {"arrays": ArrayRecord({}), "numbers": MetricRecord({"x": [1.0, 2.0]}), "texts": ConfigRecord({})}
        ),
        2: RecordDict({"something": MetricRecord({"x": 1.0})}),
        3: RecordDict(
            {
                "arrays": ArrayRecord({"w": Array("float32", (1,), "pickle", b"\x80\x04.")}),
                "numbers": MetricRecord({}),
                "texts": ConfigRecord({"t": b"bytes"}),
            }
        ),
    }

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(odd[context.node_id], reply_to=message)

    channel = GridChannel(grids(app))
    channel.send(_packet(), [1, 2, 3], ttl_s=10, group="r/1")
    arrivals = _receive_all(channel, 3)
    assert len(arrivals) == 3
    assert all(a.packet is None and a.failure for a in arrivals)


def test_finished_replies_wait_until_earlier_ones_are_taken(grids) -> None:  # type: ignore[no-untyped-def]
    answered = threading.Semaphore(0)
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        answered.release()
        return Message(message.content, reply_to=message)

    grid = grids(app, count=50, workers=1)
    GridChannel(grid).send(_packet(), list(range(1, 51)), ttl_s=60, group="r/1")
    time.sleep(0.5)
    assert answered._value <= 3
    assert len(grid._done) <= 2


def test_replies_to_an_earlier_send_are_dropped(grids) -> None:  # type: ignore[no-untyped-def]
    gate = threading.Event()
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if message.metadata.group_id == "r/1":
            gate.wait(5)
        return Message(message.content, reply_to=message)

    channel = GridChannel(grids(app, count=2, workers=2))
    channel.send(_packet(), [1], ttl_s=60, group="r/1")
    assert channel.receive(0.05) == []
    channel.send(_packet(), [2], ttl_s=60, group="r/2")
    gate.set()
    arrivals = _receive_all(channel, 1)
    time.sleep(0.1)
    assert [a.node for a in arrivals + list(channel.receive(0.1))] == [2]


def test_a_slow_answer_beside_a_round_outlives_the_next_send(grids) -> None:  # type: ignore[no-untyped-def]
    """A plant that takes two rounds to describe itself joins all the same."""
    described, app = threading.Event(), _echo()

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        described.wait(5)
        return Message(message.content, reply_to=message)

    grid = grids(app, count=2, workers=2)
    channel = GridChannel(grid)
    channel.send_beside(_packet("describe"), [2], ttl_s=60, group="r/1")
    for number in (1, 2):
        channel.send(_packet(), [1], ttl_s=60, group=f"r/{number}")
        assert [(a.node, a.beside) for a in _receive_all(channel, 1)] == [(1, False)]
    described.set()
    assert [(a.node, a.beside) for a in _receive_all(channel, 1)] == [(2, True)]
    assert not grid._done
    assert not grid._looked_for


def test_a_message_past_its_time_is_not_run(grids) -> None:  # type: ignore[no-untyped-def]
    ran = []
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        ran.append(context.node_id)
        time.sleep(1.2)
        return Message(message.content, reply_to=message)

    grid = grids(app, count=3, workers=1)
    GridChannel(grid).send(_packet(), [1, 2, 3], ttl_s=1.0, group="r/1")
    time.sleep(1.6)
    assert ran == [1]


def test_send_and_receive_ends_at_its_timeout(grids) -> None:  # type: ignore[no-untyped-def]
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        over.wait(30)
        return Message(message.content, reply_to=message)

    over = threading.Event()
    grid = grids(app, count=1, workers=1)
    content = RecordDict({"numbers": MetricRecord({"x": 1.0})})
    message = Message(content, dst_node_id=1, message_type="train", ttl=10, group_id="g")
    began = time.monotonic()
    assert list(grid.send_and_receive([message], timeout=0.1)) == []
    took = time.monotonic() - began
    over.set()
    assert took < 10


def test_the_apps_are_plain_names_that_flower_finds() -> None:
    """Flower looks the apps up by static analysis: `app = ServerApp()`, nothing fancier."""
    from flwr.supercore.object_ref import load_app

    assert load_app("server.app:app", RuntimeError) is server_app
    assert load_app("client.app:app", RuntimeError) is client_app
