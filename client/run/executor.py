"""The relay's executor: claims this plant's tasks from its SuperNode and answers each in a process forked for it.

It stands in the place of `flower-superexec`, and differs in two things:

- **The code that runs is the plant's own.** Flower runs whatever app bundle arrives from the server; here the bundle is
  neither written nor loaded, and every task is given to the installed `client.app`.
- **Nothing is imported for a task.** Flower starts a Python process a message, which costs about 1.5 s of a core; a
  fork of a process that has everything loaded costs some milliseconds.

Run it as `python -m client.run.executor --runtime-api-address 127.0.0.1:PORT --secret FILE`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import httpx
from flwr.clientapp import ClientApp
from flwr.proto.runtime_pb2 import AcquireTaskRequest  # type: ignore[attr-defined,unused-ignore]
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime import run_clientapp as tasks

from client.app import app

_POLL_S = 0.2
_CLAIM = "/flwr.proto.Runtime/AcquireTask"


def use_own_app() -> None:
    """Make Flower's task process run the installed app, whatever bundle and manifest came with the task."""

    def keep_out(*_: object, **__: object) -> None:
        """Leave the bundle where it is."""

    def load(*_: object, **__: object) -> Callable[[str, str, str], ClientApp]:
        return lambda *_: app

    tasks.install_from_fab = keep_out  # type: ignore[attr-defined,assignment]
    tasks.get_load_client_app_fn = load  # type: ignore[attr-defined]


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


def work(address: str, secret: bytes) -> None:
    """Claim and answer tasks for ever."""
    client = connect(address, secret)
    request = AcquireTaskRequest(supported_task_types={TaskType.CLIENT_APP})
    while True:
        claimed = client.AcquireTask(request)
        if claimed.HasField("task") and claimed.token:
            _answer_in_fork(address, claimed.token)
        _reap()
        time.sleep(_POLL_S)


def _answer_in_fork(address: str, token: str) -> None:
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() != 0:
        return
    code = 1
    try:
        tasks.run_clientapp(address, token, insecure=True, parent_pid=parent, runtime_dependency_install=False)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    finally:  # whatever happened, this process must not go on as a second executor
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue


def main(arguments: Sequence[str] | None = None) -> int:
    """Work until the SuperNode or the supervisor ends it."""
    parser = argparse.ArgumentParser(prog="python -m client.run.executor")
    parser.add_argument("--runtime-api-address", required=True)
    parser.add_argument("--secret", type=Path, required=True)
    given = parser.parse_args(arguments)
    use_own_app()
    try:
        work(given.runtime_api_address, given.secret.read_bytes())
    except httpx.HTTPError as error:
        sys.stderr.write(f"the SuperNode cannot be used: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
