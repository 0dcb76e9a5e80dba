"""What every answer carries, errors and files included; and what an error of ours becomes.

The content policy lets a page load scripts, styles and data from this server and nothing else: no inline script, no
inline style, no eval, no frame around it, no form to elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.console.problems import problem

_LOG = logging.getLogger(__name__)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
ALWAYS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # not `no-referrer`: browsers then send `Origin: null` with our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Robots-Tag": "noindex",
}
_TLS = {"Strict-Transport-Security": "max-age=31536000"}


class Outermost:
    """Sets the headers, answers HEAD by what GET would answer, and turns an error nobody foresaw into a plain 500.

    Args:
        app: what is inside.
        secure: the console is reached through TLS.
    """

    def __init__(self, app: ASGIApp, secure: bool) -> None:
        self._app = app
        self._headers = {**ALWAYS, **(_TLS if secure else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        answering = _Answering(send, self._headers, scope["method"] == "HEAD")
        try:
            await self._app({**scope, "method": "GET"} if answering.head else scope, receive, answering.send)
        except Exception as error:
            if answering.ended:  # a HEAD that was answered
                return None
            request = Request(scope)
            _LOG.exception("%s %s failed", request.method, ascii(request.url.path), exc_info=error)
            if not answering.started:
                said = problem(500, "CP-000", "The console met an error that it does not know.", "Its log says which.")
                await said(scope, receive, answering.send)
        return None


class _HeadAnswered(OSError):
    """What is left of the answer is not wanted."""


class _Answering:
    """One answer on its way out."""

    def __init__(self, send: Send, headers: Mapping[str, str], head: bool) -> None:
        self._send, self._headers, self.head = send, headers, head
        self.started = self.ended = False

    async def send(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            return await self._send(message)
        headers = MutableHeaders(scope=message)
        for name, value in self._headers.items():
            headers[name] = value
        headers.setdefault("Cache-Control", "no-store")
        self.started = True
        await self._send(message)
        if self.head:  # an answer without an end, such as events, has none to wait for
            self.ended = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            raise _HeadAnswered
        return None
