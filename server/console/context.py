"""What every page and every call of the console stands on: the store that it shows, and who is asking.

Who asks is settled before a route runs (`server.console.gate`): without a login nothing but the login page is reached,
and a change without its token never arrives. What is here are the routes' own words for it.

    @router.get("/runs/{run}")
    def show(request: Request, run: str, user: Annotated[User, Depends(user_of)]) -> Response: ...

    @router.post("/runs/{run}/prune")
    def prune(request: Request, run: str, user: Annotated[User, Depends(needs(Role.ADMIN))]) -> Response: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import HTTPConnection, Request

from server.console.problems import Denied
from server.console.roles import Role
from server.store.auditlog import Actor
from server.store.reading import Reader
from server.store.registry import Registry
from server.store.store import RoundStore
from shared.errors import CrossplantError

__all__ = ["SAFE", "Console", "Role", "User", "console_of", "federation_of", "needs", "user_of", "user_or_none"]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


@dataclass(frozen=True)
class User:
    """Who is logged in.

    Attributes:
        name: of the account.
        role: what it may do.
        csrf: token that every change by a browser carries; empty for a program with a bearer token, which needs none.
    """

    name: str
    role: Role
    csrf: str

    @property
    def actor(self) -> Actor:
        """The user as the audit log names it."""
        return Actor(self.name, self.role.value)


@dataclass(frozen=True)
class Console:
    """What the console shows.

    Attributes:
        location: of the store, as it was given.
        store: the store.
        reader: its lean queries.
        registry: its orders.
        read_only: nothing is changed by anybody, and nothing at all is written to the store.
        federation: the federation's folder (`--federation`, or the store's own when it has federation.toml); else None.
    """

    location: str
    store: RoundStore
    reader: Reader
    registry: Registry
    read_only: bool
    federation: Path | None


def federation_of(store: RoundStore) -> Path | None:
    """The folder of a store, where it is a federation's; else None."""
    try:
        folder = store.folder
    except CrossplantError:  # a database without a run has no folder yet
        return None
    return folder if (folder / "federation.toml").is_file() else None


def console_of(request: HTTPConnection) -> Console:
    """What the console shows, in a route."""
    console: Console = request.app.state.console
    return console


def user_or_none(request: HTTPConnection) -> User | None:
    """Who is logged in; None on the few pages that need no login."""
    found: User | None = request.scope.get("state", {}).get("user")
    return found


def user_of(request: Request) -> User:
    """Who is logged in; a dependency.

    Raises:
        Denied: 401, nobody is: a page sends to the login, the API answers with a problem.
    """
    user = user_or_none(request)
    if user is None:
        raise Denied(401, "Nobody is logged in.", "Log in, or send a bearer token.")
    return user


def needs(role: Role) -> Callable[[Request], User]:
    """A dependency that lets a role, and those above it, in.

    Args:
        role: the least that is needed.

    Raises:
        Denied: 401 when nobody is logged in; 403 for a lesser role, and for any change while the console is read-only.
    """

    def check(request: Request) -> User:
        user = user_of(request)
        if not user.role.covers(role):
            raise Denied(403, f"This needs the role {role.value}; {user.name} is {user.role.value}.", _ROLE_CURE)
        if request.method not in SAFE and console_of(request).read_only:
            raise Denied(403, "This console is read-only.", "Start it without --read-only.")
        return user

    return check


_ROLE_CURE = "An admin gives roles: `crossplant console account role NAME --role ROLE`."
