"""Passwords: what one must be, and argon2id over it (RFC 9106, the second recommended: 64 MiB, three passes)."""

from __future__ import annotations

import secrets
import threading
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from shared.errors import InvalidConfig

SHORTEST, LONGEST = 12, 256
_CURE = f"Choose {SHORTEST} to {LONGEST} characters that are no common password; a sentence is best."
_COMMON = frozenset(
    """123456789012 1234567890123 123123123123 111111111111 000000000000 qwertyuiop12 qwertyuiop123 qwerty123456
    1q2w3e4r5t6y password1234 password12345 password123456 passwordpassword adminadminadmin administrator
    administrator1 letmeinletmein changeme1234 changemechangeme welcome12345 welcome123456 iloveyou1234 crossplant123
    crossplantcrossplant crossplantadmin operatoroperator""".split()  # noqa: SIM905
)
_AT_ONCE = threading.BoundedSemaphore(2)
"""Each takes 64 MiB and a core while it lasts."""
HASHER = PasswordHasher()


def hashed(password: str, name: str = "") -> str:
    """The encoded argon2id of a password that keeps the rules.

    Args:
        password: in clear.
        name: of the account, which the password must not be.

    Raises:
        InvalidConfig: it is too short, too long, or one of those that are tried first.
    """
    _check(password, name)
    with _AT_ONCE:
        return HASHER.hash(password)


def _check(password: str, name: str) -> None:
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidConfig(f"a password of {len(password)} characters is too {_word(password)}.", _CURE)
    folded = password.casefold()
    if folded in _COMMON or len(set(folded)) < 4 or folded == name.casefold() * (len(folded) // max(1, len(name))):
        raise InvalidConfig("this password is one of the first that somebody would try.", _CURE)
    if not password.isprintable():
        raise InvalidConfig("the password holds a character that cannot be printed.", _CURE)


def _word(password: str) -> str:
    return "short" if len(password) < SHORTEST else "long"


def matches(secret: str, password: str) -> bool:
    """Whether a password is the account's. Takes as long when there is no secret to match."""
    usable = secret if secret and len(password) <= LONGEST else _nobodys()
    with _AT_ONCE:
        try:
            HASHER.verify(usable, password[:LONGEST])
        except (Argon2Error, InvalidHashError):
            return False
    return usable is secret


@lru_cache(maxsize=1)
def _nobodys() -> str:
    return HASHER.hash(secrets.token_urlsafe(32))


def outdated(secret: str) -> bool:
    """Whether the secret was made with other parameters than today's."""
    return HASHER.check_needs_rehash(secret)


def rehashed(password: str) -> str:
    """The secret with today's parameters, of a password that was accepted before."""
    with _AT_ONCE:
        return HASHER.hash(password)
