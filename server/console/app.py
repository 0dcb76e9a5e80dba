"""The console: one ASGI application over one round store. It only reads, apart from accounts, sessions and orders.

outermost   headers on every answer, HEAD, the last resort     server.console.headers
gate        who is let in, what a change must carry            server.console.gate
routes      API, login, accounts, pages, metrics, files
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from server.console import account_pages, api, api_models, login, metrics, oidc_login, pages
from server.console.access import Access
from server.console.context import Console, console_of, federation_of
from server.console.gate import STATIC, Gate, from_here
from server.console.headers import Outermost
from server.console.login import settings_of
from server.console.opening import opened
from server.console.problems import Denied, on_error, on_http, on_invalid
from server.console.settings import ConsoleSettings
from server.console.templating import STATIC as FILES
from server.console.templating import version_of
from server.store.reading import Reader
from server.store.registry import Registry
from shared.errors import CrossplantError

_ABOUT = (
    "Rounds of a federation: who took part and who did not, whether it got better and for whom, which model plants "
    "score by. Names of runs and plants are text of any kind."
)
_own = APIRouter(include_in_schema=False)


def create_app(location: str, settings: ConsoleSettings) -> FastAPI:
    """The console of a store.

    Args:
        location: folder or URL, as `--store` takes it.
        settings: what it lets in.

    Raises:
        StoreError: there is no such store, or it cannot be read; or written, where it is not read-only.
    """
    store = opened(location, settings.read_only)
    cookie = _cookie(location, settings.secure)
    access = Access(store, settings)
    outside = [Middleware(Outermost, settings.secure), Middleware(Gate, access, settings, cookie)]
    app = FastAPI(title="Crossplant console", docs_url=None, redoc_url=None, openapi_url=None, middleware=outside)
    folder = settings.federation or federation_of(store)
    app.state.console = Console(location, store, Reader(store), Registry(store), settings.read_only, folder)
    app.state.access, app.state.settings, app.state.cookie = access, settings, cookie
    app.state.begun = oidc_login.Begun()
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.include_router(metrics.router, dependencies=[Depends(_scraper)])
    for router in (_own, api.router, login.router, oidc_login.router, account_pages.router, pages.router):
        app.include_router(router)
    app.mount(STATIC.rstrip("/"), _Files(directory=FILES), name="static")
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]
    return app


class _Files(StaticFiles):
    """Files of the pages; one that is asked for by its digest never changes."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        if answer.status_code in (200, 304) and scope["query_string"] == version_of(FILES / path).encode():
            answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return answer


_HANDLERS: dict[type[Exception], Any] = {
    CrossplantError: on_error,
    RequestValidationError: on_invalid,
    HTTPException: on_http,
}


def _cookie(location: str, secure: bool) -> str:
    """Browsers keep cookies by host, whatever the port: two consoles of one machine would end each other's sessions."""
    name = f"crossplant-{hashlib.sha256(location.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
    return f"__Host-{name}" if secure else name


@_own.get("/healthz")
def healthz(request: Request) -> Response:
    """Whether the console answers and its store can be read; needs no login."""
    with console_of(request).store.session() as session:
        session.connection().exec_driver_sql("SELECT 1 FROM runs LIMIT 1")
    return JSONResponse({"status": "ok"})


@_own.get("/openapi.json")
def openapi(request: Request) -> Response:
    """The description of the API; needs a login, as all that it describes does."""
    return JSONResponse(request.app.openapi())


def _scraper(request: Request) -> None:
    """The door of `/metrics`: this machine, or whoever has the token."""
    settings = settings_of(request)
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    wanted = settings.metrics_token.encode()
    if wanted and scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), wanted):
        return
    if wanted or settings.proxied or not from_here(request):
        cure = "Give the console --metrics-token-file, and the scraper the token in it."
        raise Denied(401, "Metrics are for this machine, or for a scraper with the token.", cure)


def _description(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        told = get_openapi(title=app.title, version="1", description=_ABOUT, routes=app.routes)
        parts = told.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = api_models.Problem.model_json_schema()
        parts["securitySchemes"] = {
            "session": {"type": "apiKey", "in": "cookie", "name": app.state.cookie},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        told["security"] = [{"session": []}, {"bearer": []}]
        app.openapi_schema = told
    return app.openapi_schema
