"""Logging in through OpenID Connect: the authorization code flow with PKCE (RFC 6749, 7636; OpenID Connect Core 1.0).

    [oidc]                                               of console.toml
    issuer = "https://id.example.org/realms/plants"
    client_id = "crossplant"
    client_secret_file = "/etc/crossplant/oidc.secret"   none: a public client
    role_claim = "groups"                                dots lead into it: "realm_access.roles"

    [oidc.roles]                                         whoever has none of them is not let in
    admin = ["plant-admins"]
    viewer = ["plant-staff"]

The ID token's signature, issuer, audience, times and nonce are checked; a role is read from it at every login.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import threading
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.console.problems import Denied
from server.console.roles import Role
from shared.errors import FileTrouble, InvalidConfig

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Signatures that are believed: none with a shared secret, and not `none`."""
_TIMEOUT_S, _MOST_BYTES, _KEYS_S, _LEEWAY_S = 10.0, 2**20, 60.0, 60
_CURE = "Check [oidc] of the console.toml, and the issuer's own log."
Names = tuple[Annotated[str, Field(min_length=1)], ...]


@dataclass(frozen=True)
class Person:
    """Somebody whom the issuer vouches for.

    Attributes:
        subject: `issuer sub`: who it is, whatever the name.
        name: for an account that is made.
        role: by the issuer's claims.
    """

    subject: str
    name: str
    role: Role


@dataclass(frozen=True)
class Challenge:
    """What binds one login to the browser that began it; all of it is random."""

    state: str
    nonce: str
    verifier: str


class IdentityProvider(Protocol):
    """Vouches for people."""

    def address(self, callback: str, challenge: Challenge) -> str:
        """Where to send the browser.

        Raises:
            Denied: 502: the issuer cannot be asked.
        """
        ...

    def person(self, callback: str, code: str, challenge: Challenge) -> Person:
        """Who came back with a code.

        Raises:
            Denied: 401: what the issuer says does not hold; 403: no role for that person; 502.
        """
        ...


class _Roles(BaseModel):
    model_config = ConfigDict(extra="forbid")

    admin: Names = ()
    operator: Names = ()
    viewer: Names = ()


class Settings(BaseModel):
    """`[oidc]` of a console.toml."""

    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    issuer: str = Field(min_length=1, max_length=400)
    client_id: str = Field(min_length=1)
    client_secret_file: Path | None = None
    scopes: str = "openid profile"
    name_claim: str = "preferred_username"
    role_claim: str = "groups"
    roles: _Roles


def read_provider(file: Path) -> OpenIdConnect:
    """The provider that a console.toml names.

    Raises:
        FileTrouble: it cannot be read.
        InvalidConfig: it does not say what it must.
    """
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
        settings = Settings.model_validate(told.get("oidc", {}))
    except OSError as error:
        raise FileTrouble(f"{file}: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("oidc", *first["loc"])))
        raise InvalidConfig(f"{file}: {where}: {first['msg']}.", "docs/console-access.md has an example.") from error
    except ValueError as error:
        raise InvalidConfig(f"{file} is no TOML: {error}.", "docs/console-access.md has an example.") from error
    if odd := sorted(told.keys() - {"oidc"}):
        raise InvalidConfig(f"{file}: {odd[0]!r} is no part of it.", "It has one table, [oidc].")
    _check_issuer(settings.issuer, file)
    return OpenIdConnect(settings, _secret(settings.client_secret_file))


def _check_issuer(issuer: str, file: Path) -> None:
    parts = urlsplit(issuer)
    if not parts.hostname or parts.query or parts.fragment or not _safe(issuer):
        cause = f"{file}: oidc.issuer {issuer[:80]!r} is no https address."
        raise InvalidConfig(cause, "Give it as the issuer's discovery document has it.")


def _safe(url: str) -> bool:
    """Whether a token may be sent there: by TLS, or on this machine."""
    parts = urlsplit(url)
    try:
        local = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        local = False
    return parts.scheme == "https" or (parts.scheme == "http" and local)


def _secret(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FileTrouble(f"the client's secret cannot be read from {file}.") from error
    if not found:
        raise InvalidConfig(f"{file} is empty.", "Write the client's secret into it, or leave client_secret_file out.")
    return found


class OpenIdConnect:
    """One issuer; what it publishes is asked for when it is needed first.

    Args:
        settings: of it.
        secret: of this client; empty: a public one.
    """

    def __init__(self, settings: Settings, secret: str) -> None:
        self._settings, self._secret = settings, secret
        self._lock = threading.Lock()
        self._about: Mapping[str, Any] = {}
        self._keys, self._asked = KeySet([]), -_KEYS_S

    def address(self, callback: str, challenge: Challenge) -> str:
        digest = hashlib.sha256(challenge.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": callback,
            "scope": self._settings.scopes,
            "state": challenge.state,
            "nonce": challenge.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        where = self._endpoint("authorization_endpoint")
        return f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}"

    def person(self, callback: str, code: str, challenge: Challenge) -> Person:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": callback}
        form |= {"code_verifier": challenge.verifier, "client_id": self._settings.client_id}
        told = _ask(self._endpoint("token_endpoint"), form, self._authorization())
        claims = self._claims(told.get("id_token"), challenge.nonce)
        subject, name = claims["sub"], claims.get(self._settings.name_claim)
        role = self._role(claims)
        if role is None:
            raise Denied(403, "The issuer gives you none of the roles that this console knows.", "Ask for one there.")
        return Person(f"{self._settings.issuer} {subject}", name if isinstance(name, str) else "person", role)

    def _authorization(self) -> str:
        pair = f"{self._settings.client_id}:{self._secret}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}" if self._secret else ""

    def _claims(self, token: object, nonce: str) -> Mapping[str, Any]:
        """What an ID token says, once it is sure who says it, to whom, when, and about which login."""
        if not isinstance(token, str):
            raise _untrue("no ID token came with it")
        must = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": self._settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
            sub={"essential": True},
        )
        try:
            claims = self._signed(token).claims
            must.validate(claims)
        except (JoseError, ValueError) as error:
            raise _untrue(str(error)[:200]) from error
        if claims.get("azp", self._settings.client_id) != self._settings.client_id:
            raise _untrue("it was made for another client")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 100 or not claims["sub"].isprintable():
            raise _untrue("its subject is none")
        return claims

    def _signed(self, token: str) -> jwt.Token:
        try:
            return jwt.decode(token, self._key_set(again=False), list(ALGORITHMS))
        except (JoseError, ValueError):  # its keys may be new ones
            return jwt.decode(token, self._key_set(again=True), list(ALGORITHMS))

    def _key_set(self, again: bool) -> KeySet:
        """The issuer's keys; asked for once more when they do not fit, once a minute at most."""
        with self._lock:
            due = time.monotonic() - self._asked >= _KEYS_S
        if due and (again or not self._keys.keys):
            found = _ask(self._endpoint("jwks_uri"))
            try:
                keys = KeySet.import_key_set(found)  # type: ignore[arg-type]
            except (JoseError, ValueError, KeyError, TypeError) as error:
                raise _unreachable("its keys cannot be read") from error
            with self._lock:
                self._keys, self._asked = keys, time.monotonic()
        return self._keys

    def _endpoint(self, name: str) -> str:
        if not self._about:
            about = _ask(f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
            if about.get("issuer") != self._settings.issuer:
                raise _unreachable(f"it calls itself {str(about.get('issuer'))[:80]!r}")
            self._about = about
        where = self._about.get(name)
        if not isinstance(where, str) or not _safe(where):
            raise _unreachable(f"its {name} is no https address")
        return where

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        """The highest role that the claims give."""
        value: Any = claims
        for part in self._settings.role_claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        held = (
            {value} if isinstance(value, str) else {v for v in value if isinstance(v, str)} if _many(value) else set()
        )
        for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER):
            if held & set(getattr(self._settings.roles, role.value)):
                return role
        return None


def _many(value: object) -> bool:
    return isinstance(value, list)


def _untrue(why: str) -> Denied:
    return Denied(401, f"What the issuer says does not hold: {why}.", "Log in again; if that lasts, ask an admin.")


def _unreachable(why: str) -> Denied:
    return Denied(502, f"The issuer cannot be asked: {why}.", _CURE)


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        """A code or a secret goes where it was meant to go, or nowhere."""


_OPENER = build_opener(_NoRedirect)


def _ask(url: str, form: Mapping[str, str] | None = None, authorization: str = "") -> Mapping[str, Any]:
    """A JSON object from the issuer; with a form, by POST."""
    body = None if form is None else urlencode(form).encode()
    request = Request(url, body, {"Accept": "application/json"})  # noqa: S310 - `_safe` says where
    if authorization:
        request.add_header("Authorization", authorization)
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
            told = json.loads(answer.read(_MOST_BYTES))
    except HTTPError as error:
        with error:
            if form is not None and error.code in (400, 401):
                raise _untrue(f"it refuses the code ({error.code})") from error
            raise _unreachable(f"{urlsplit(url).hostname} answers {error.code}") from error
    except (OSError, ValueError) as error:
        raise _unreachable(f"{urlsplit(url).hostname} does not answer as it should") from error
    if not isinstance(told, dict):
        raise _unreachable(f"{urlsplit(url).hostname} answers no JSON object")
    return told
