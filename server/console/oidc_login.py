"""The two ends of a login through an issuer: where the browser leaves, and where it comes back."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from server.console.gate import address_of
from server.console.login import access_of, login_page, settings_of, welcome
from server.console.oidc import Challenge, IdentityProvider
from server.console.problems import Denied

router = APIRouter(include_in_schema=False)
_BEGIN, _BACK = "/login/oidc", "/login/oidc/callback"
_LASTS_S, _MOST = 600.0, 1000


@dataclass(frozen=True)
class _Begun:
    challenge: Challenge
    target: str
    until: float


class Begun:
    """Logins that have left for the issuer; the oldest is forgotten, each comes back once.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Begun] = OrderedDict()

    def begin(self, target: str) -> Challenge:
        """Begin a login that shall lead to a page."""
        made = Challenge(*(secrets.token_urlsafe(32) for _ in range(3)))
        with self._lock:
            self._known[made.state] = _Begun(made, target[:2000], self._clock() + _LASTS_S)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        return made

    def end(self, state: str) -> tuple[Challenge, str] | None:
        """What was begun under a state, and where it leads; None when it was not, or too long ago."""
        with self._lock:
            found = self._known.pop(state, None)
        return None if found is None or found.until < self._clock() else (found.challenge, found.target)


@router.get(_BEGIN)
def begin(request: Request, next: str = "/") -> Response:  # noqa: A002 - the field's name
    """Send the browser to the issuer; a cookie binds the login to it."""
    begun: Begun = request.app.state.begun
    try:
        challenge = begun.begin(next)
        answer = RedirectResponse(_provider(request).address(_callback(request), challenge), 303)
    except Denied as denied:
        return login_page(request, next, denied)
    secure = settings_of(request).secure
    answer.set_cookie(
        _cookie(request), challenge.state, int(_LASTS_S), path="/", secure=secure, httponly=True, samesite="lax"
    )
    return answer


@router.get(_BACK)
def come_back(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
    """Take the browser back, if it is the one that left."""
    target = "/"
    try:
        held = request.cookies.get(_cookie(request), "")
        if not held or not secrets.compare_digest(held.encode(), state.encode("utf-8", "replace")):
            raise Denied(401, "This login was not begun in this browser.", "Begin it again.")
        found = request.app.state.begun.end(state)
        if found is None or error or not code:
            raise Denied(401, "The issuer did not log you in, or it took too long.", "Begin it again.")
        challenge, target = found
        person = _provider(request).person(_callback(request), code, challenge)
        ticket = access_of(request).vouched(person.subject, person.name, person.role, address_of(request))
        answer = welcome(request, ticket, target)
    except Denied as denied:
        answer = login_page(request, target, denied)
    answer.delete_cookie(_cookie(request), path="/", secure=settings_of(request).secure, httponly=True, samesite="lax")
    return answer


def _provider(request: Request) -> IdentityProvider:
    provider = settings_of(request).provider
    if provider is None:
        raise Denied(404, "This console knows no issuer.", "`crossplant console --config console.toml` names one.")
    return provider


def _callback(request: Request) -> str:
    """The address of this console as the browser has it: the gate has checked its name."""
    return f"{request.url.scheme}://{request.headers['host']}{_BACK}"


def _cookie(request: Request) -> str:
    return f"{request.app.state.cookie}-oidc"
