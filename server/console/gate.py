"""Who gets to a route at all, settled before it runs, for every path there is or will be.

Without a login nothing answers but what `OPEN` names. A change comes from this console's own pages (Origin), carries
the session's token (CSRF), is made by an operator at least, and never by anybody while the console is read-only. A
route asks for more where it wants more (`server.console.context.needs`); it cannot ask for less.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import secrets

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.console.access import Access, too_often
from server.console.context import SAFE, Role, User
from server.console.forms import is_form, parsed
from server.console.limits import Buckets, block_of
from server.console.problems import Denied, on_error
from server.console.settings import ConsoleSettings
from shared.errors import CrossplantError

OPEN = ("/login", "/login/oidc", "/login/oidc/callback", "/healthz", "/metrics")
"""What answers without a login; files under `STATIC` besides. `/metrics` has a door of its own."""
STATIC = "/static/"
OWN = frozenset({"/login", "/logout", "/account/password"})
"""Changes that everybody may make: those of one's own login."""
TOKEN_HEADER = "x-csrf-token"  # noqa: S105 - the name of the header
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::[0-9]{1,5})?")
_STATELESS = ("/healthz", "/metrics", STATIC)  # nobody needs to know who asks


class Gate:
    """The gate of one console.

    Args:
        app: what is inside.
        access: who is let in.
        settings: of the console.
        cookie: name of the session's cookie.
    """

    def __init__(self, app: ASGIApp, access: Access, settings: ConsoleSettings, cookie: str) -> None:
        self._app, self._access, self._settings, self._cookie = app, access, settings, cookie
        limits = settings.limits
        self._sessions = Buckets(limits.rate_per_s, limits.burst, limits.keys)
        self._strangers = Buckets(limits.rate_per_s, limits.burst, limits.keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # no page has a WebSocket
            return await send({"type": "websocket.close", "code": 1008})
        scope["state"] = {**scope.get("state", {}), "user": None}
        request = Request(scope)
        try:
            receive = await self._admit(request, receive)
        except CrossplantError as error:
            return await (await on_error(request, error))(scope, receive, send)
        return await self._app(scope, receive, send)

    async def _admit(self, request: Request, receive: Receive) -> Receive:
        """Let a request in; how its body is read from here on.

        Raises:
            Denied: it is not let in.
        """
        self._check_address(request)
        path, changes = request.url.path, request.method not in SAFE
        body = await self._body(request, receive)
        token, bearer = request.cookies.get(self._cookie, ""), _bearer(request)
        user = None
        if not path.startswith(_STATELESS):
            user = await run_in_threadpool(self._identify, token, bearer)
            self._count(request, user, bearer or token)
        request.scope["state"]["user"] = user
        if user is None and not is_open(path):
            raise Denied(401, "Nobody is logged in.", "Log in at /login, or send a bearer token.")
        if changes:
            self._check_change(request, user, bool(bearer), body)
        return _replay(body, receive)

    def _check_address(self, request: Request) -> None:
        if request.url.path in ("/healthz", "/metrics"):  # asked for by address, by what knows no name
            return
        if self._settings.secure and request.scope["scheme"] != "https":
            raise Denied(403, "This console answers through TLS only.", "Use https, through its proxy if it has one.")
        if host_of(request.headers.get("host", "")) not in self._settings.hosts:
            cure = "Ask for it by a name it knows; `crossplant console --allow-host NAME` adds one."
            raise Denied(421, "This console is not known by that name.", cure)

    async def _body(self, request: Request, receive: Receive) -> bytes:
        """The whole body: small, or not read on."""
        most, size = self._settings.limits.body, request.headers.get("content-length", "0")
        if not size.isdecimal() or int(size[:18]) > most:
            raise _too_large(most)
        try:
            return await asyncio.wait_for(_read(receive, most), self._settings.limits.body_s)
        except TimeoutError as error:
            raise Denied(408, "The request took too long to arrive.", "Send it again.") from error

    def _identify(self, token: str, bearer: str) -> User | None:
        if bearer:
            return self._access.program(bearer)
        return self._access.user(token) if token else None

    def _count(self, request: Request, user: User | None, token: str) -> None:
        if user is None:
            wait = self._strangers.wait(block_of(address_of(request)))
        else:
            wait = self._sessions.wait(hashlib.sha256(token.encode("utf-8", "replace")).hexdigest())
        if wait > 0:
            raise too_often(wait, "Too many requests.")

    def _check_change(self, request: Request, user: User | None, by_bearer: bool, body: bytes) -> None:
        if not by_bearer:
            _check_origin(request)
        if user is None or request.url.path == "/login":
            return  # the open paths see to themselves; a login page may be older than the session that it replaces
        if not by_bearer:
            _check_token(request, user, body)
        if self._settings.read_only and request.url.path != "/logout":
            raise Denied(403, "This console is read-only.", "Start it without --read-only.")
        if request.url.path in OWN:
            return
        if not user.role.covers(Role.OPERATOR):
            raise Denied(403, "A viewer changes nothing.", "An admin gives roles: `crossplant console account role`.")


def is_open(path: str) -> bool:
    """Whether a path answers without a login."""
    return path in OPEN or path.startswith(STATIC)


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "unknown"


def from_here(request: Request) -> bool:
    """Whether a request comes from this machine."""
    try:
        return ipaddress.ip_address(address_of(request)).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The name in a Host header, without its port; of what is no such header all of it, which is nobody's name.

    Example:
        >>> host_of("Localhost:80"), host_of("[::1]:80"), host_of("a:80@b")
        ('localhost', '[::1]', 'a:80@b')
    """
    name = header.strip().lower()
    found = _HOST.fullmatch(name)
    return found[1] if found else name


def _check_origin(request: Request) -> None:
    """A browser says where a form comes from; what is no browser has no cookie that somebody else could use."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    foreign = site not in (None, "same-origin", "none")
    own = f"{request.scope['scheme']}://{request.headers.get('host', '')}"
    if foreign or (origin is not None and origin.lower() != own.lower()):
        raise Denied(403, "This change comes from another site's page.", "Make it on the console's own page.")


def _check_token(request: Request, user: User, body: bytes) -> None:
    given = request.headers.get(TOKEN_HEADER)
    kind = request.headers.get("content-type", "")
    if given is None:
        given = parsed(kind, body).get("csrf", "") if is_form(kind) else ""
    if not user.csrf or not secrets.compare_digest(given.encode("utf-8", "replace"), user.csrf.encode()):
        cure = "Load the page again; a program sends the `csrf` of /api/v1/me as X-CSRF-Token."
        raise Denied(403, "The change does not carry the token of this session.", cure)


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _read(receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Denied(400, "The request ended early.", "Send it again.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_large(most)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(most: int) -> Denied:
    return Denied(413, f"A request has at most {most} bytes.", "Send less.", {"Connection": "close"})


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
