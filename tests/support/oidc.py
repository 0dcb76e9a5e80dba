"""A small OpenID Connect issuer on loopback: discovery, keys, codes with PKCE, ID tokens signed with RS256."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT, SECRET = "crossplant", "s3cret"


def packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Issuer:
    """What the issuer says next; a test may change all of it.

    Attributes:
        url: of the issuer.
        claims: of the person who logs in, over those that every token has.
        key, kid: that sign, and the one that is published.
        header: of the token, over its own.
        signer: key that signs in truth.
    """

    url: str = ""
    claims: dict[str, Any] = field(
        default_factory=lambda: {"sub": "u-1", "preferred_username": "ada", "groups": ["ops"]}
    )
    key: rsa.RSAPrivateKey = field(default_factory=new_key)
    kid: str = "one"
    header: dict[str, Any] = field(default_factory=dict)
    signer: rsa.RSAPrivateKey | None = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def jwks(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        n, e = (packed(v.to_bytes((v.bit_length() + 7) // 8, "big")) for v in (numbers.n, numbers.e))
        return {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": n, "e": e}]}

    def token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": nonce} | self.claims
        head = packed(json.dumps({"alg": "RS256", "kid": self.kid} | self.header).encode())
        signed = f"{head}.{packed(json.dumps({k: v for k, v in claims.items() if v is not None}).encode())}"
        signature = (self.signer or self.key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{packed(signature)}"


class _Handler(BaseHTTPRequestHandler):
    issuer: Issuer

    def log_message(self, *arguments: Any) -> None:
        pass

    def _json(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
            url = self.issuer.url
            return self._json({"issuer": url} | {name: f"{url}/{path}" for name, path in ends.items()})
        if parts.path == "/jwks":
            return self._json(self.issuer.jwks())
        asked, code = dict(parse_qsl(parts.query)), secrets.token_urlsafe(8)
        assert (asked["client_id"], asked["response_type"]) == (CLIENT, "code")
        self.issuer.codes[code] = asked
        self.send_response(302)
        self.send_header("Location", f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        asked = self.issuer.codes.pop(form.get("code", ""), None)
        challenge = packed(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        basic = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        fits = asked is not None and (
            (challenge, form["redirect_uri"], self.headers["Authorization"])
            == (asked["code_challenge"], asked["redirect_uri"], basic)
        )
        if not fits or asked is None:
            return self._json({"error": "invalid_grant"}, 400)
        return self._json({"token_type": "Bearer", "id_token": self.issuer.token(asked["nonce"])})


@contextmanager
def issuing() -> Iterator[Issuer]:
    """An issuer that answers while the block runs."""
    issuer = Issuer()
    handler = type("Handler", (_Handler,), {"issuer": issuer})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
