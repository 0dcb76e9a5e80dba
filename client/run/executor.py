"""The relay's executor: claims this plant's tasks from its SuperNode and answers each in a process forked for it.

It stands in the place of `flower-superexec`, and differs in three things:

- **The code that runs is the plant's own.** Flower runs whatever app bundle arrives from the server; here the bundle is
  neither written nor loaded, and every task is given to the installed `client.app`.
- **Nothing is imported for a task.** Flower starts a Python process a message, which costs about 1.5 s of a core; a
  fork of a process that has everything loaded costs some milliseconds.
- **A process that is killed is missed at once**, not after a minute: its will is carried out (`client.run.will`).

Run it as `python -m client.run.executor --runtime-api-address 127.0.0.1:PORT --secret FILE`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.proto.runtime_pb2 import (  # type: ignore[attr-defined,unused-ignore]
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullAppMessagesResponse,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime import run_clientapp as tasks

from client.app import app
from client.run.will import Will, carry_out, hand_over
from shared.supervise import end_with_parent

_POLL_S = 0.2
_LONGEST_S = 60.0  # a process that has answered may live
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.02, 1.0
_CLAIM = "/flwr.proto.Runtime/AcquireTask"


def use_own_app() -> None:
    """Make Flower's task process run the installed app, whatever bundle and manifest came with the task."""

    def keep_out(*_: object, **__: object) -> None:
        """Leave the bundle where it is."""

    def load(*_: object, **__: object) -> Callable[[str, str, str], ClientApp]:
        return lambda *_: app

    tasks.install_from_fab = keep_out  # type: ignore[attr-defined,assignment]
    tasks.get_load_client_app_fn = load  # type: ignore[attr-defined]


def look_again_soon() -> None:
    """Shorten Flower's pause before it asks for a piece of a message again that the SuperNode has not received yet.

    A task can be claimed as soon as the message's head is there. Flower's first pause of 1 s, then 2, 4, 8 and 10 s,
    was a third of a round. The message's time to live ends the wait, not the number of questions.
    """
    tasks.pull_and_inflate_object_from_tree = partial(  # type: ignore[attr-defined]
        pull_and_inflate_object_from_tree,
        initial_backoff=_FIRST_LOOK_S,
        backoff_cap=_LONGEST_LOOK_S,
        max_tries_per_object=None,
    )


def connect(address: str, secret: bytes) -> RuntimeHttpClient:
    """A connection to the SuperNode's interface on loopback, with the secret that claims tasks."""
    return RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,
        root_certificates=None,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="SuperExec"),
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=frozenset({_CLAIM})),
        ],
        retry_invoker=make_simple_http_retry_invoker(),
    )


@dataclass(frozen=True)
class _Task:
    """A claimed task that a process of ours answers.

    Attributes:
        token: proves that it is ours.
        asked: its message, fetched before there is a process that could be killed with it.
        will: what that process leaves.
        taken: when (monotonic seconds).
    """

    token: str
    asked: PullAppMessagesResponse
    will: Will
    taken: float = field(default_factory=time.monotonic)


class _Client:
    """Flower's client, which has fetched the message already."""

    def __init__(self, client: RuntimeHttpClient, asked: PullAppMessagesResponse) -> None:
        self._client, self._asked = client, asked

    def PullMessages(self, _: PullAppMessagesRequest) -> PullAppMessagesResponse:  # noqa: N802 - as Flower calls it
        return self._asked

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)


def work(address: str, secret: bytes) -> None:
    """Claim and answer tasks for ever."""
    client = connect(address, secret)
    request = AcquireTaskRequest(supported_task_types={TaskType.CLIENT_APP})
    under_way: dict[int, _Task] = {}
    while True:
        claimed = client.AcquireTask(request)
        if claimed.HasField("task") and claimed.token:
            task = _take(address, claimed.token)
            under_way[_answer_in_fork(address, task)] = task
        _reap(address, under_way)
        _hurry(under_way)
        time.sleep(_POLL_S)


def _take(address: str, token: str) -> _Task:
    with closing(_connect_task(address, token)) as client:
        return _Task(token, client.PullMessages(PullAppMessagesRequest()), Will())


def _connect_task(address: str, token: str) -> RuntimeHttpClient:
    proof = RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), RuntimeTokenHttpInterceptor(token)
    return RuntimeHttpClient.from_server_address(address, True, None, proof)


def _answer_in_fork(address: str, task: _Task) -> int:
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        return child
    code = 1
    try:
        end_with_parent(parent, signal.SIGKILL)  # some that were only asked to end never did
        _prepare(task)
        tasks.run_clientapp(address, task.token, insecure=True, parent_pid=parent, runtime_dependency_install=False)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    finally:  # whatever happened, this process must not go on as a second executor
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _prepare(task: _Task) -> None:
    """Make Flower's task process, this very one, take its message from here and leave its answer before it is sent."""
    pull = tasks.pull_task_input

    def take(client: RuntimeHttpClient) -> object:
        return pull(_Client(client, task.asked))  # type: ignore[arg-type]

    def leave_and_push(client: RuntimeHttpClient, answer: Message, _: Context) -> None:
        hand_over(client, task.will.leave(answer))
        task.will.settle()

    tasks.pull_task_input, tasks.push_message = take, leave_and_push  # type: ignore[assignment]


def _reap(address: str, under_way: dict[int, _Task]) -> None:
    """Bury processes that ended, and answer for those that did not."""
    while under_way and (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
        task = under_way.pop(ended[0], None)
        if task is None:
            continue
        if ended[1] != 0 and not task.will.settled:
            _answer_for(address, task, os.waitstatus_to_exitcode(ended[1]))
        task.will.close()


def _hurry(under_way: dict[int, _Task]) -> None:
    """Kill a process that has answered and does not end."""
    for pid, task in under_way.items():
        if time.monotonic() - task.taken > _LONGEST_S and task.will.settled:
            os.kill(pid, signal.SIGKILL)


def _answer_for(address: str, task: _Task, code: int) -> None:
    sys.stderr.write(f"a process that answered a message ended with code {code}; the server is told.\n")
    with closing(_connect_task(address, task.token)) as client:
        try:
            for asked in task.asked.messages_list:
                carry_out(client, asked, task.will)
        except httpx.HTTPError as error:
            sys.stderr.write(f"the SuperNode does not take the answer: {error}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Work until the SuperNode or the supervisor ends it."""
    parser = argparse.ArgumentParser(prog="python -m client.run.executor")
    parser.add_argument("--runtime-api-address", required=True)
    parser.add_argument("--secret", type=Path, required=True)
    given = parser.parse_args(arguments)
    use_own_app()
    look_again_soon()
    try:
        work(given.runtime_api_address, given.secret.read_bytes())
    except httpx.HTTPError as error:
        sys.stderr.write(f"the SuperNode cannot be used: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
