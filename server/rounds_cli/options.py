"""Options that several commands of `crossplant rounds`, `store` and `audit` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from server.store.auditlog import Actor
    from server.store.store import RoundStore

Store = Annotated[str, typer.Option("--store", metavar="DIR|URL", help="A run folder, or a database URL.")]
Run = Annotated[str | None, typer.Option("--run", metavar="NAME", help="Which run; default: the newest.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Number = Annotated[int, typer.Argument(metavar="N", min=1, help="Round number, from 1.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for those who read the audit log.")]


def opened(location: str, run: str | None) -> tuple[RoundStore, str]:
    """A store to look into, and the run that is meant.

    Raises:
        StoreNotFound, StoreUnreadable: there is none, or it cannot be read.
        RoundNotFound: it holds no run yet.
    """
    from server.store.store import RoundStore

    store = RoundStore.open(location, look=True)
    return store, run if run is not None else store.newest_run()


def opened_to_change(location: str, run: str | None) -> tuple[RoundStore, str]:
    """A store to change, with the tables that it may lack, and the run that is meant.

    Raises:
        StoreNotFound, StoreUnreadable: there is none, or it cannot be read.
        RoundNotFound: it holds no such run, or none yet.
    """
    from server.store.store import RoundStore

    there = RoundStore.open(location)
    info = there.run(there.newest_run() if run is None else run)
    return RoundStore.create(location, info.models_dir if "://" in location else None), info.name


def me() -> Actor:
    """Who is at the keyboard, as the audit log names them."""
    import os
    import pwd

    from server.store.auditlog import Actor

    try:
        name = pwd.getpwuid(os.getuid()).pw_name  # not LOGNAME or USER, which anybody may set
    except KeyError:  # no such user in this container
        name = str(os.getuid())
    return Actor(f"os:{name}", "shell")
