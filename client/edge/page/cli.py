"""`crossplant client page`."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer


def page(
    state: Annotated[Path, typer.Option("--state", metavar="DIR", help="The scorer's state folder.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="On 127.0.0.1; 0 takes a free one.")] = 8787,
    history: Annotated[
        Path | None, typer.Option("--history", metavar="FILE", help="The scorer's SQLite history; else in DIR.")
    ] = None,
) -> None:
    """Show live scores, alarms and models in a browser on this machine, until SIGTERM or SIGINT. Needs no internet."""
    from client.edge.page.history import History
    from client.edge.page.server import Page, parent_folder_ok
    from client.edge.page.view import View
    from shared.errors import FileTrouble

    if not parent_folder_ok(state):
        raise FileTrouble(f"{state} is no folder that can be read.", "Give --state as the scorer has it.")
    server = Page(View(state, History(history or state / "history.sqlite")), port)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=server.serve_forever, name="page", daemon=True).start()
    typer.echo(f"open {server.address}", err=True)
    stop.wait()
    server.shutdown()
    server.server_close()
