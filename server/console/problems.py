"""What goes wrong with a request, in words: problem+json (RFC 9457) for programs, a page for people.

Never a traceback, and never more of the machine than the error's own sentence.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match

from server.store.place import parse_place
from shared.errors import (
    CrossplantError,
    DiskFull,
    InvalidConfig,
    ModelCorrupt,
    RoundNotFound,
    StoreBusy,
    StoreError,
    StoreNotFound,
    StoreUnreadable,
    UnknownName,
)
from shared.service_errors import AccessDenied

PROBLEM = "application/problem+json"
API = ("/api/", "/openapi.json", "/metrics", "/healthz", "/events/")
"""Paths that answer programs."""
_LOG = logging.getLogger(__name__)
_STATUS: Mapping[type[CrossplantError], int] = {
    RoundNotFound: 404,
    UnknownName: 404,
    InvalidConfig: 422,
    StoreBusy: 503,
    DiskFull: 503,
    StoreUnreadable: 503,
    StoreNotFound: 503,
    ModelCorrupt: 409,
    StoreError: 409,
}
"""Of the first class that an error is one of; any other is the server's own fault."""


class Denied(AccessDenied):
    """A request is not carried out.

    Args:
        status: of the answer.
        cause, cure: as for every error.
        headers: that the answer carries besides.
    """

    def __init__(self, status: int, cause: str, cure: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(cause, cure)
        self.status = status
        self.headers = dict(headers or {})


def for_program(path: str) -> bool:
    """Whether a path answers programs, with problem+json, and not people."""
    return path.startswith(API)


def problem(status: int, code: str, cause: str, cure: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that tells a program what went wrong."""
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": printable(cause)}
    told |= {"code": code, "cure": printable(cure)}
    return JSONResponse(told, status, dict(headers or {}), media_type=PROBLEM)


def printable(text: str) -> str:
    """Text that can be sent: lone surrogates of a hostile name become visible."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[:2000]


def answer(
    request: Request, status: int, code: str, cause: str, cure: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer that tells whoever asked what went wrong."""
    if for_program(request.url.path):
        return problem(status, code, cause, cure, headers)
    from server.console.templating import trouble  # it needs `context`, which needs this module

    page = trouble(request, status, code, printable(cause), printable(cure))
    page.headers.update(headers or {})
    return page


def refuse(request: Request, denied: Denied) -> Response:
    """The answer to somebody who is not let in: a page sends to the login."""
    if denied.status == 401 and not for_program(request.url.path) and request.url.path != "/login":
        return _to_login(request)
    headers = denied.headers | ({"WWW-Authenticate": "Bearer"} if denied.status == 401 else {})
    return answer(request, denied.status, denied.code, denied.cause, denied.cure, headers)


def _to_login(request: Request) -> Response:
    page = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    target = "/login?" + urlencode({"next": page if request.method in ("GET", "HEAD") else "/"}, errors="replace")
    if "hx-request" in request.headers:  # htmx follows a redirect by itself and would put the login into the page
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    return RedirectResponse(target, 303)


async def on_error(request: Request, error: Exception) -> Response:
    """The answer to an error with a code of its own."""
    assert isinstance(error, CrossplantError)
    if isinstance(error, Denied):
        return refuse(request, error)
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    if status >= 500:
        _LOG.error("%s %s: %s", request.method, ascii(request.url.path), error)
    headers = {"Retry-After": "5"} if status == 503 else None
    return answer(request, status, error.code, _without_place(request, error.cause, status), error.cure, headers)


def _without_place(request: Request, cause: str, status: int) -> str:
    """A sentence that does not say where on the machine, or on the network, the store is: that is for its log."""
    location: str = request.app.state.console.location
    known = parse_place(location)
    if known.file is None and status == 503:  # a driver names hosts, ports, sockets and users in its own words
        return "the store cannot be read or written just now; the console's log says why."
    for place in (known.shown, str(Path(location).absolute())):
        cause = cause.replace(place, "the store") if place.startswith("/") or "://" in place else cause
    return cause


async def on_invalid(request: Request, error: Exception) -> Response:
    """The answer to a value outside what it may be: 422, naming the first of them."""
    assert isinstance(error, RequestValidationError)
    first: Mapping[str, Any] = error.errors()[0]
    where = ".".join(ascii(str(part))[1:-1] for part in first["loc"])[:200]
    cause = f"{where}: {first['msg']}."
    return answer(request, 422, InvalidConfig.code, cause, "/openapi.json says what each value may be.")


async def on_http(request: Request, error: Exception) -> Response:
    """The answer to a path or a method that there is not."""
    assert isinstance(error, HTTPException)
    if error.status_code == 304:
        return Response(status_code=304, headers=error.headers)
    if error.status_code == 404:
        return answer(request, 404, UnknownName.code, "There is nothing at this address.", "Start at /.")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
    cause = f"{HTTPStatus(error.status_code).phrase}: {error.detail}."
    return answer(request, error.status_code, InvalidConfig.code, cause, "/openapi.json says what there is.", headers)


def _methods(request: Request) -> list[str]:
    """Methods that the address knows, over all of its routes."""
    found: set[str] = set()
    for route in every_route(request.app.routes):
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def every_route(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes, and those of the routers among them; no router is included under another prefix than its own."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from [route] if inner is None else every_route(inner.routes)
