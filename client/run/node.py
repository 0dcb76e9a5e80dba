"""Flower's SuperNode with shorter pauses and the plant's certificate: `python -m client.run.node`.

Flower 1.41 asks the coordinator every 3 s and looks for its own app's answer every 0.5 s; neither can be set. In a
round of a small model these pauses are most of the time. After an answer the next request is near: for two seconds this
asks four times a second, then once a second as when nothing goes on. Its options are those of `flower-supernode`, and

    --client-certificate FILE --client-key FILE    what the plant shows to a gateway that asks for it
    --note FILE                                    how the connection stands, for `crossplant client status`
"""

from __future__ import annotations

import argparse
import os
import ssl
import sys
import time
import traceback
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.version import package_version
from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode

from client.run.link import Line, join, say
from client.run.note import begin_note, write_note
from shared.errors import CrossplantError, MissingExtra
from shared.preflight import network
from shared.service_errors import ServerRefused

PAUSES_S: dict[float, float] = {3: 1.0, 0.5: 0.1}
"""Flower's pause to ours."""
EAGER_S, EAGER_TIMES = 0.25, 8
"""After a request was answered: how long the first pauses before the next question are, and how many."""

_QUESTION_S = 3


def quicken() -> None:
    """Shorten the pauses of the SuperNode's loop, and of nothing else.

    Raises:
        MissingExtra: the installed Flower is built otherwise.
    """
    if getattr(start_client_internal, "time", None) not in (time, _quick):
        cause = f"flwr {package_version} has no start_client_internal.time as 1.41 has it."
        raise MissingExtra(cause, "pip install 'flwr==1.41.*'")
    start_client_internal.time = _quick  # type: ignore[attr-defined,assignment]
    _pauses.eager = 0
    # A question that falls into the server's sending gets a message that is not whole: Flower would wait 1 s, 2, 4, ...
    sooner = partial(pull_objects, initial_backoff=0.05, backoff_cap=1.0, max_tries_per_object=None)
    start_client_internal.pull_objects = partial(_pauses.came, sooner)  # type: ignore[attr-defined]


@dataclass
class _Pauses:
    """How long the SuperNode's loop, which does one thing after the other, pauses.

    Attributes:
        eager: short pauses left before a question.
    """

    eager: int = 0

    def came(self, pull: Callable[..., dict[str, bytes]], *args: Any, **kwargs: Any) -> dict[str, bytes]:
        """A message is there: its pieces are fetched. The loop's next question follows its answer."""
        self.eager = EAGER_TIMES
        return pull(*args, **kwargs)

    def sleep(self, seconds: float) -> None:
        """In the place of `time.sleep`."""
        if seconds == _QUESTION_S and self.eager:
            self.eager -= 1
            return time.sleep(EAGER_S)
        return time.sleep(PAUSES_S.get(seconds, seconds))


_pauses = _Pauses()
_quick = types.SimpleNamespace(sleep=_pauses.sleep)


def main(arguments: Sequence[str] | None = None) -> int:
    """Be a SuperNode until a signal, or the coordinator, ends it."""
    mine, flowers = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        quicken()
        peer = _peer(mine)
        context: ssl.SSLContext | None = None if mine.root_certificates is None else network.client_context(peer)
        line = Line(peer, mine.note, say)
        join(line, context)
    except CrossplantError as error:
        if mine.note is not None:
            write_note(mine.note, "not started", error.cause, error.cure)
        say(str(error))
        return 1
    if mine.note is not None:
        begin_note(mine.note, mine.superlink)
    return _serve(line, flowers)


def _serve(line: Line, flowers: list[str]) -> int:
    """Flower's own command. What it leaves running when it gives up would keep this process for ever."""
    sys.argv = ["flower-supernode", *flowers]
    code = 1
    try:
        flower_supernode()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:  # a fault in Flower: its text is all that there is to go by
        traceback.print_exc()
    finally:
        if line.refused is not None:
            code = 1
            say(str(ServerRefused(line.refused.says, line.refused.mend)))
        sys.stdout.flush()
        os._exit(code)


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="python -m client.run.node", add_help=False, allow_abbrev=False)
    parser.add_argument("--superlink", required=True)
    for name in ("--root-certificates", "--client-certificate", "--client-key", "--note"):
        parser.add_argument(name, type=Path)
    mine, rest = parser.parse_known_args(arguments)
    roots = [] if mine.root_certificates is None else ["--root-certificates", str(mine.root_certificates)]
    return mine, ["--superlink", mine.superlink, *roots, *rest]


def _peer(mine: argparse.Namespace) -> network.Peer:
    host, port = network.parse_address(mine.superlink)
    return network.Peer(host, port, mine.root_certificates, mine.client_certificate, mine.client_key)


if __name__ == "__main__":
    sys.exit(main())
