"""Says when a federation's processes reach the stations of a round: for `benchmarks.network` only.

Python runs this file at the start of every process that has this folder on PYTHONPATH. With CROSSPLANT_BENCH_STAMPS set
to a folder, a few functions are wrapped when their module is loaded; each writes a line `[seconds, place, station]`,
where seconds are of the machine's monotonic clock, which all processes share, and place is the working folder, which
tells plants apart. With CROSSPLANT_BENCH_ROUND_TRIP_S every request of a SuperNode takes that much longer, as if the
coordinator were far away. Nothing of the product knows of this.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

FOLDER = "CROSSPLANT_BENCH_STAMPS"
ROUND_TRIP = "CROSSPLANT_BENCH_ROUND_TRIP_S"
_NODE_SAYS = {
    "Receiving": "node got",
    "Received": "node stored",
    "Sending": "node found",
    "Sent": "node sent",
}


def stamp(station: str) -> None:
    """One line in this process's file, in one write."""
    line = json.dumps([time.monotonic(), os.getcwd(), station]) + "\n"
    handle = os.open(os.path.join(os.environ[FOLDER], f"{os.getpid()}.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def around(owner: Any, name: str, begin: str = "", end: str = "", if_any: bool = False) -> None:
    """Stamp the begin and the end of a call; with `if_any` the end only if something came back."""
    call: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(call)
    def stamped(*positional: Any, **named: Any) -> Any:
        if begin:
            stamp(begin)
        result = call(*positional, **named)
        if end and (result or not if_any):
            stamp(end)
        return result

    setattr(owner, name, stamped)


def _node(module: ModuleType) -> None:
    log = module.log

    def stamped(level: int, text: str, *values: Any, **named: Any) -> None:
        if station := _NODE_SAYS.get(text.split(" ")[0].rstrip(":")):
            stamp(station)
        log(level, text, *values, **named)

    module.log = stamped  # type: ignore[attr-defined]


def _task(module: ModuleType) -> None:
    around(module, "run_clientapp", begin="task started")
    around(module, "pull_task_input", end="task read")
    around(module, "push_message", begin="task answered", end="task written")


def _wire(module: ModuleType) -> None:
    around(module, "ask", "agent asked", "agent heard")


def _guard(module: ModuleType) -> None:
    around(module.Guard, "handle", "agent began", "agent ended")


def _httpx(module: ModuleType) -> None:
    if "client.run.node" not in sys.orig_argv:
        return
    send, round_trip_s = module.Client.send, float(os.environ.get(ROUND_TRIP, "0"))

    @functools.wraps(send)
    def far_away(*positional: Any, **named: Any) -> Any:
        stamp("node request")
        time.sleep(round_trip_s)
        return send(*positional, **named)

    module.Client.send = far_away


def _server(module: ModuleType) -> None:
    around(module.GridChannel, "send", "server began", "server sent")
    around(module.GridChannel, "receive", end="server heard", if_any=True)


_WRAPPERS: dict[str, Callable[[ModuleType], None]] = {
    "flwr.supernode.start_client_internal": _node,
    "flwr.supernode.runtime.run_clientapp": _task,
    "client.agent.wire": _wire,
    "client.agent.guard": _guard,
    "server.app": _server,
    "httpx": _httpx,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Lets a module be found as ever, and wraps what is in it once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        wrap = _WRAPPERS.pop(fullname, None)  # so that the next line does not come back here
        found = None if wrap is None else importlib.util.find_spec(fullname)
        if wrap is None or found is None or found.loader is None:
            return None
        load = found.loader.exec_module

        def loaded(module: ModuleType) -> None:
            load(module)
            wrap(module)

        found.loader.exec_module = loaded  # type: ignore[method-assign]
        return found


if os.environ.get(FOLDER):
    sys.meta_path.insert(0, _Finder())
