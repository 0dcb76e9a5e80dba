"""The page's HTTP server: the standard library's, on 127.0.0.1, for one plant's people.

Why not starlette and uvicorn: an edge box has neither, and ten routes for a handful of readers need neither.

Who may: whoever knows the key in STATE/page.key (mode 600), which the address that the command prints carries once;
then a cookie does. What changes something must come from this page itself: method POST, JSON, an Origin of this server,
the page's token. Requests for another Host (DNS rebinding) are refused.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from client.edge.page.orders import Ordering, Wrong
from client.edge.page.view import View
from shared.disk import replace_file
from shared.errors import CrossplantError, FileTrouble

KEY = "page.key"
_COOKIE = "crossplant-page"
_MOST_BODY = 4096
_MOST_POINTS = 2000
_IDLE_S = 15.0
_WHOLE_S = 30.0  # of a request and its answer; one that comes byte by byte is never idle
_MOST_OPEN = 64  # requests at the same time; beyond, the oldest is cut off
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_FILES = {"/page.js": "text/javascript", "/page.css": "text/css", "/icon.svg": "image/svg+xml"}


class Page(ThreadingHTTPServer):
    """The server of one state folder.

    Args:
        view: what is shown.
        port: 0 takes a free one.

    Attributes:
        key: opens the page.
        token: of this process, for what changes something.

    Raises:
        FileTrouble: the port is taken, or the key cannot be kept.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, view: View, port: int = 0) -> None:
        self.view, self.ordering = view, Ordering(view.folder)
        self.key, self.token = kept_key(view.folder / KEY), secrets.token_urlsafe(24)
        self._open: dict[Any, float] = {}  # sockets, oldest first, and since when
        self._mutex = threading.Lock()
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            told = getattr(error, "strerror", None) or error
            raise FileTrouble(f"port {port} of 127.0.0.1 cannot be used: {told}.", "Choose another --port.") from error

    @property
    def address(self) -> str:
        """What a browser opens the first time."""
        return f"http://127.0.0.1:{self.server_port}/?key={self.key}"

    @property
    def hosts(self) -> frozenset[str]:
        """Names under which this server may be asked."""
        return frozenset(f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost"))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Of socketserver: a request in a thread of its own."""
        with self._mutex:
            self._open[request] = time.monotonic()
            oldest = list(self._open)[: max(0, len(self._open) - _MOST_OPEN)]
        self._cut(oldest)
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Of socketserver, twice a second: cut off what takes too long."""
        with self._mutex:
            late = [one for one, began in self._open.items() if time.monotonic() - began > _WHOLE_S]
        self._cut(late)

    def shutdown_request(self, request: Any) -> None:
        """Of socketserver: a request is done."""
        with self._mutex:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def _cut(self, requests: Iterable[Any]) -> None:
        for request in requests:
            with self._mutex:
                self._open.pop(request, None)
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)  # Its thread wakes up and ends.

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is nothing to write home about."""


def kept_key(path: Path) -> str:
    """The key in a file that only its owner reads; made at first use.

    Raises:
        FileTrouble: it cannot be read or written.
    """
    try:
        if path.exists():
            path.chmod(0o600)
            found = path.read_text("ascii").strip()
            if len(found) >= 20:
                return found
        made = secrets.token_urlsafe(24)
        replace_file(path, f"{made}\n".encode(), 0o600)
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise FileTrouble(f"{path}: {told}.", "Give --state as the scorer has it: its state folder.") from error
    return made


class Handler(BaseHTTPRequestHandler):
    """One request. Nothing of it is trusted: every failure is a short JSON answer."""

    server: Page
    timeout = _IDLE_S
    server_version, sys_version = "crossplant", ""

    def do_GET(self) -> None:
        """Pages and figures."""
        self._guarded(self._get)

    def do_POST(self) -> None:
        """Orders."""
        self._guarded(self._post)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (the base class's name)
        """Silent: an address may carry the key."""

    def _guarded(self, answer: Callable[[], None]) -> None:
        try:
            self._check_host()
            answer()
        except Wrong as error:
            self._json({"error": error.told}, error.status)
        except CrossplantError as error:
            self._json({"error": f"{error.cause} {error.cure}"}, HTTPStatus.CONFLICT)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as error:  # The page must stay up; what went wrong is the answer.
            self._json({"error": f"{type(error).__name__}: {error}"[:200]}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _get(self) -> None:
        try:
            url = urlsplit(self.path)
            asked = {name: values[-1] for name, values in parse_qs(url.query, max_num_fields=8).items()}
        except ValueError as error:
            raise Wrong("this is no address of a page") from error
        if url.path == "/" and "key" in asked:
            self._enter(asked["key"])
            return
        if url.path in _FILES:
            self._send(_file(url.path[1:]), _FILES[url.path])
            return
        self._check_cookie()
        if url.path == "/":
            self._send(_file("page.html").replace(b"{token}", self.server.token.encode()), "text/html; charset=utf-8")
        elif url.path == "/api/state":
            self._json(self.server.view.summary())
        elif url.path == "/api/scores":
            self._json(self.server.view.scores(_number(asked, "since", 0.0), int(_number(asked, "most", 600))))
        else:
            raise Wrong("there is nothing here", HTTPStatus.NOT_FOUND)

    def _post(self) -> None:
        self._check_cookie()
        self._check_origin()
        body = self._body()
        self._json({"done": self.server.ordering.obey(urlsplit(self.path).path, body)})

    def _enter(self, key: str) -> None:
        if not hmac.compare_digest(key.encode(), self.server.key.encode()):
            raise Wrong("this key does not open the page", HTTPStatus.FORBIDDEN)
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")
        self.send_header(
            "Set-Cookie", f"{_COOKIE}-{self.server.server_port}={self.server.key}; HttpOnly; SameSite=Strict; Path=/"
        )
        self._end(b"")

    def _check_host(self) -> None:
        if self.headers.get("Host", "") not in self.server.hosts:
            raise Wrong("this server answers for 127.0.0.1 only", HTTPStatus.MISDIRECTED_REQUEST)

    def _check_cookie(self) -> None:
        wanted = f"{_COOKIE}-{self.server.server_port}={self.server.key}".encode()
        given = [part.strip().encode() for part in self.headers.get("Cookie", "").split(";")]
        if not any(hmac.compare_digest(one, wanted) for one in given):
            told = "open the address that `crossplant client page` printed, with its key"
            raise Wrong(told, HTTPStatus.FORBIDDEN)

    def _check_origin(self) -> None:
        own = {f"http://{host}" for host in self.server.hosts}
        token = self.headers.get("X-Token", "")
        if (
            self.headers.get("Origin", "") not in own
            or self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
        ):
            raise Wrong("orders come from this page only", HTTPStatus.FORBIDDEN)
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise Wrong("this page is from before a restart: load it again", HTTPStatus.FORBIDDEN)

    def _body(self) -> dict[str, Any]:
        if self.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise Wrong("orders are JSON", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length) > _MOST_BODY:
            raise Wrong(f"an order has at most {_MOST_BODY} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            found = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise Wrong("this is no JSON") from error
        if not isinstance(found, dict):
            raise Wrong("an order is a JSON object")
        return found

    def _json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value, allow_nan=False).encode(), "application/json", status)

    def _send(self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self._end(data)

    def _end(self, data: bytes) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _file(name: str) -> bytes:
    return (files("client.edge.page") / "static" / name).read_bytes()


def _number(asked: dict[str, str], name: str, default: float) -> float:
    try:
        found = float(asked.get(name, default))
    except ValueError as error:
        raise Wrong(f"{name} is no number") from error
    if not -1e12 < found < 1e12:
        raise Wrong(f"{name} is out of bounds")
    return min(found, _MOST_POINTS) if name == "most" else found


def parent_folder_ok(path: Path) -> bool:
    """Whether a state folder is there and may be read.

    Example:
        >>> parent_folder_ok(Path("/no/such/folder"))
        False
    """
    return path.is_dir() and os.access(path, os.R_OK | os.X_OK)
