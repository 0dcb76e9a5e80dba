"""HTTP(S): every record as a POST of one JSON object, out of a spool that outlives the process.

    {"id": "5f0c...-17", "record": {"type": "alarm", ...}}
    Idempotency-Key: 5f0c...-17
    X-Crossplant-Time: 1700000000
    X-Crossplant-Signature: sha256=HMAC-SHA256(secret, TIME "." BODY)      with the option `secret_file`

2xx is delivered. 400, 413, 415 and 422 mean that this record is not wanted: it is dropped, counted and told. Everything
else (another status, a redirect, no answer) is tried again, with a growing pause or the `Retry-After` of the answer.
http.client and not a larger library: it costs 6 MB with TLS.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from client.edge.options import Pause, Place, one_line, read_options, read_place, read_secret, tls_context
from client.edge.sinks.base import SinkSettings
from client.edge.sinks.spool import Delivering, GivenUp, spool_path
from shared.artefact import Artefact
from shared.errors import InvalidConfig

if TYPE_CHECKING:
    import socket
    import ssl

TYPES = frozenset({"alarm", "fault", "drift", "swap", "notice"})
_NOT_WANTED = {400, 413, 415, 422}
_MOST_ANSWER = 65_536
_LONGEST_WAIT_S = 3600.0
_WHOLE = 3.0  # timeouts that a whole attempt may take: an answer that comes byte by byte never times out

Positive = Annotated[float, Meta(gt=0)]


class WebhookOptions(Artefact, frozen=True, kw_only=True):
    """Options of a webhook.

    Attributes:
        secret_file: key of the signature.
        token_file: sent as `Authorization: Bearer ...`.
        ca: trusted certificates; empty: the system's.
        certificate, key: of this client.
        cleartext: allow http:// to another machine.
        timeout_s: for connecting, and for every part of an answer; a whole attempt may take three times as long.
        pause_s, longest_pause_s: between two attempts.
        spool_mb: most that waits on disk.
    """

    secret_file: str = ""
    token_file: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    cleartext: bool = False
    timeout_s: Positive = 10.0
    pause_s: Positive = 1.0
    longest_pause_s: Positive = 60.0
    spool_mb: Positive = 64.0


def open_webhook(settings: SinkSettings) -> Webhook:
    """The sink for `https://HOST/PATH`.

    Raises:
        InvalidConfig: an option, or http:// to another machine.
        FileTrouble: a file of the options cannot be used.
    """
    place = read_place(settings.location, {"https": 443, "http": 80})
    options = read_options(WebhookOptions, settings.options, place.scheme)
    if place.scheme == "http" and not place.loopback and not options.cleartext:
        raise InvalidConfig(
            f"records would cross the network to {place.host} in the clear.", "Use https://, or `cleartext = true`."
        )
    if place.scheme == "http" and (options.ca or options.certificate or options.key):
        raise InvalidConfig("certificates are used with https:// only.", "Use https://, or leave them out.")
    secret = read_secret(options.secret_file, "the secret file") if options.secret_file else ""
    token = read_secret(options.token_file, "the token file") if options.token_file else ""
    if not token.isascii():
        raise InvalidConfig("the token is no ASCII text.", "A header holds nothing else.")
    context = tls_context(options.ca, options.certificate, options.key) if place.scheme == "https" else None
    return Webhook(settings, place, options, context, secret, token)


class _LaterError(Exception):
    """Tried in vain; `after_s` is what the answer asks for."""

    def __init__(self, text: str, after_s: float = 0.0) -> None:
        super().__init__(text)
        self.after_s = after_s


class Webhook(Delivering):
    """See the module."""

    def __init__(self, settings: SinkSettings, place: Place, options: WebhookOptions, context: ssl.SSLContext | None,
                 secret: str, token: str) -> None:  # fmt: skip
        pause = Pause(options.pause_s, options.longest_pause_s)
        name, path = f"webhook {place.host}:{place.port}", spool_path(settings, "webhook")
        super().__init__(name, settings.types or TYPES, path, int(options.spool_mb * 2**20), pause)
        url = urlsplit(settings.location)
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._place, self._options, self._context, self._secret, self._token = place, options, context, secret, token
        self._line: http.client.HTTPConnection | None = None
        self._sock: socket.socket | None = None
        self._network = ThreadPoolExecutor(1, thread_name_prefix="webhook")

    async def _deliver(self, key: str, body: bytes) -> None:
        data = b'{"id":"%s","record":%s}' % (key.encode(), body)
        posted = asyncio.get_running_loop().run_in_executor(self._network, self._post, key, data)
        try:
            await self._within(posted)
        except _LaterError as error:
            if error.after_s:
                self._troubles["delivery"] = one_line(error)
                await asyncio.sleep(error.after_s)
            raise

    async def _within(self, posted: asyncio.Future[None]) -> None:
        """Wait for an attempt; one that takes too long is cut off."""
        longest = _WHOLE * self._options.timeout_s
        done, _ = await asyncio.wait([posted], timeout=longest)
        if not done:
            self._cut()
            with suppress(_LaterError):
                await posted
            raise _LaterError(f"{self._place.host}: its answer did not end within {longest:g} s")
        posted.result()

    def _cut(self) -> None:
        """A thread that waits for an answer wakes up."""
        if self._sock is not None:
            with suppress(OSError):
                self._sock.shutdown(2)

    async def _release(self) -> None:
        self._cut()
        self._network.submit(self._hang_up)
        self._network.shutdown(wait=False)

    def _post(self, key: str, data: bytes) -> None:
        """One attempt; a connection is kept for the next record."""
        try:
            if self._line is None:
                self._line = self._connection()
            if self._line.sock is None:
                self._line.connect()
            self._sock = self._line.sock  # The line forgets it while it reads the last answer.
            self._line.request("POST", self._target, data, self._headers(key, data))
            answer = self._line.getresponse()
            text = answer.read(_MOST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            self._hang_up()
            raise _LaterError(f"{self._place.host}: {one_line(error)}") from None
        if len(text) == _MOST_ANSWER or answer.will_close:
            self._hang_up()
        _judge(answer.status, answer.headers.get("Retry-After", ""), self._place.host)

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout = self._place.host, self._place.port, self._options.timeout_s
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=timeout)
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = self._sock = None

    def _headers(self, key: str, data: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "crossplant-edge"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._secret:
            now = str(int(time.time()))
            headers |= {"X-Crossplant-Time": now, "X-Crossplant-Signature": signature(self._secret, now, data)}
        return headers


def signature(secret: str, now: str, data: bytes) -> str:
    """What a receiver compares, with `hmac.compare_digest`; it also checks that `now` is recent.

    Example:
        >>> signature("key", "0", b"{}")[:15]
        'sha256=7314351d'
    """
    return "sha256=" + hmac.new(secret.encode(), f"{now}.".encode() + data, hashlib.sha256).hexdigest()


def _judge(status: int, retry_after: str, host: str) -> None:
    if 200 <= status < 300:
        return
    if status in _NOT_WANTED:
        raise GivenUp(f"{host} refuses a record with status {status}: it is dropped")
    after = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    raise _LaterError(f"{host} answers with status {status}", min(after, _LONGEST_WAIT_S))
