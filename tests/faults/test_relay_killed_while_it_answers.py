"""kill -9 of the ClientApp, at some moments: its executor tells the SuperNode at once, and answers the next message.

The executor is a real process; the SuperNode is Flower's own interface and state, served in this one.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest
import uvicorn
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from shared.flower_process import LOOPBACK, environment, free_port
from tests.support.relay_message import packet

RUN, NODE = 7, 11
SECRET = b"s" * 64
LONGEST_S = 10.0
"""Flower alone takes a minute or more."""


@dataclass
class Bench:
    """An executor at work.

    Attributes:
        node: its SuperNode.
        executor: its process.
        silent: socket of an agent that takes requests and never answers.
    """

    node: SuperNode
    executor: subprocess.Popen[bytes]
    silent: socket.socket

    def end(self, number: signal.Signals) -> None:
        """End the executor."""
        self.executor.send_signal(number)
        self.executor.wait()

    def ask(self) -> str:
        """A message comes from the server; its id."""
        sent = packet()
        with pytest.MonkeyPatch.context() as server:
            for name, value in (("_task_id", 1), ("_run_id", RUN), ("_node_id", 1)):
                server.setattr(TaskIdentity, name, value)
            numbers, texts = MetricRecord(dict(sent.numbers)), ConfigRecord(dict(sent.texts))
            content = RecordDict({"arrays": ArrayRecord(), "numbers": numbers, "texts": texts})
            message = Message(content, dst_node_id=NODE, message_type="query.describe", ttl=60.0)
        name = message.metadata.__dict__["_message_id"] = message.object_id
        self.node.state.create_task(TaskType.CLIENT_APP, RUN, fab_hash=self.node.state.get_run(RUN).fab_hash)  # type: ignore[union-attr]
        self.node.state.object_store.preregister(RUN, get_object_tree(message))
        for part, found in get_all_nested_objects(message).items():
            self.node.state.object_store.put(part, found.deflate())
        self.node.state.store_message(message)
        return str(name)

    def fork(self) -> psutil.Process:
        """The process that answers."""
        ends = time.monotonic() + LONGEST_S
        while not (forks := psutil.Process(self.executor.pid).children()):
            assert time.monotonic() < ends, "nobody answers"
            time.sleep(0.001)
        return forks[0]

    def reply(self, name: str) -> Message:
        """What the SuperNode would send for a message; as Flower does, forget both afterwards."""
        ends = time.monotonic() + LONGEST_S
        while not (found := self.node.state.get_messages_legacy(is_reply=True)):
            assert time.monotonic() < ends, f"no answer within {LONGEST_S} s"
            time.sleep(0.01)
        assert [one.metadata.reply_to_message_id for one in found] == [name]
        self.node.state.delete_messages(message_ids=[name, found[0].metadata.message_id])
        return found[0]


class SuperNode:
    """Flower's SuperNode without a server: its interface for executors, and its state."""

    def __init__(self, port: int) -> None:
        factory = NodeStateFactory(ObjectStoreFactory())
        state = factory.state()
        assert isinstance(state, InMemoryNodeState)
        content = b"no bundle"
        fab, run = Fab(hashlib.sha256(content).hexdigest(), content, {}), Run.create_empty(RUN)
        run.fab_id, run.fab_version, run.fab_hash = "crossplant/crossplant", "1.0.0", fab.hash_str
        state.set_node_id(NODE)
        state.set_run_series_context(0, Context(RUN, NODE, {"site": "north"}, RecordDict(), {}))
        state.store_run(run)
        state.store_fab(fab)
        self.state, app = state, create_app(factory, SECRET)
        self._server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="error", ws="none"))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()

    def stop(self) -> None:
        """End the interface."""
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    tmp, port = tmp_path_factory.mktemp("bench"), free_port()
    (tmp / "secret").write_bytes(SECRET)
    command = [sys.executable, "-P", "-m", "client.run.executor", "--runtime-api-address", f"127.0.0.1:{port}"]
    mine = {**os.environ, **environment(tmp / "home"), "CROSSPLANT_AGENT": str(tmp / "agent.sock")}
    with socket.socket(socket.AF_UNIX) as silent, (tmp / "log").open("wb") as log:
        silent.bind(str(tmp / "agent.sock"))
        silent.listen()
        command += ["--secret", str(tmp / "secret")]
        node = SuperNode(port)
        with subprocess.Popen(command, env=mine, stdout=log, stderr=log) as executor:
            try:
                yield Bench(node, executor, silent)
            finally:
                executor.kill()
                node.stop()


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.03, 0.1, 0.5])
def test_the_server_is_told_at_once_and_the_next_message_is_answered(bench: Bench, after_s: float) -> None:
    name = bench.ask()
    fork = bench.fork()
    time.sleep(after_s)
    fork.send_signal(signal.SIGKILL)
    told = bench.reply(name)
    assert told.error.code == ErrorCode.CLIENT_APP_CRASHED
    assert told.metadata.src_node_id == NODE


def test_what_is_not_killed_is_answered_by_itself(bench: Bench) -> None:
    """Here by a refusal, for its agent is gone; the executor has nothing to add."""
    path = bench.silent.getsockname()
    os.rename(path, f"{path}.away")
    told = bench.reply(bench.ask())
    os.rename(f"{path}.away", path)
    assert not told.has_error()
    time.sleep(1.0)
    assert bench.node.state.get_messages_legacy(is_reply=True) == []


def test_what_answers_ends_with_supernode_and_executor(bench: Bench) -> None:
    """Flower's process, asked to end, would tell the SuperNode that it lives, again and again; the last test."""
    bench.ask()
    fork = bench.fork()
    time.sleep(0.5)
    bench.node.stop()
    bench.end(signal.SIGTERM)
    fork.wait(LONGEST_S)
