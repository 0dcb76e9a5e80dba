"""Accounts of the console: people with a password, people that another issuer vouches for, and programs with a token.

Every change is entered in the audit log in its own transaction, and ends the sessions of the account.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.console import sessions
from server.console.roles import Role
from server.console.sessions import digest_of, stamp
from server.store.auditlog import Actor, append
from server.store.database import has_table
from server.store.tables import AccountRow
from shared.errors import InvalidConfig, UnknownName

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
GUEST = "guest"
"""Who looks around by the link of the first start; nobody's account."""
_TOKEN = "token:"  # noqa: S105 - how a program's account is told from a person's
_PREFIX = "cpt_"


class Kind(StrEnum):
    """How somebody shows that an account is theirs."""

    PASSWORD = "password"  # noqa: S105 - a kind, no secret
    ISSUER = "issuer"
    TOKEN = "token"  # noqa: S105


@dataclass(frozen=True)
class Account:
    """One account.

    Attributes:
        name: its name.
        role: what it may do.
        kind: how it logs in.
        created, changed: ISO 8601, UTC; sessions from before `changed` do not hold.
        disabled: it lets nobody in.
    """

    name: str
    role: Role
    kind: Kind
    created: str
    changed: str
    disabled: bool


def read(row: AccountRow) -> Account:
    """The account of a row. A role that is none lets nobody in."""
    known = row.role in set(Role)
    role = Role(row.role) if known else Role.VIEWER
    kind = Kind.PASSWORD if row.subject is None else Kind.TOKEN if row.subject.startswith(_TOKEN) else Kind.ISSUER
    return Account(row.name, role, kind, row.created, row.changed, row.disabled or not known)


def get(session: Session, name: str) -> AccountRow | None:
    """The row of an account; None when there is none."""
    return session.get(AccountRow, name) if NAME.fullmatch(name) else None


def kept(session: Session) -> bool:
    """Whether the store has accounts at all; an older one that is only looked at has not."""
    return has_table(session.connection(), AccountRow.__tablename__)


def listed(session: Session) -> list[Account]:
    """All accounts, by name."""
    return [read(row) for row in session.scalars(select(AccountRow).order_by(AccountRow.name))]


def any_there(session: Session) -> bool:
    """Whether there is an account for a person."""
    person = AccountRow.subject.is_(None) | AccountRow.subject.not_like(f"{_TOKEN}%")
    return kept(session) and session.scalars(select(AccountRow.name).where(person).limit(1)).first() is not None


def by_token(session: Session, token: str) -> Account | None:
    """The program that a bearer token belongs to."""
    return by_subject(session, _TOKEN + digest_of(token)) if token.startswith(_PREFIX) else None


def by_subject(session: Session, subject: str) -> Account | None:
    """The account that another issuer's word stands for."""
    row = session.scalars(select(AccountRow).where(AccountRow.subject == subject)).first() if kept(session) else None
    return None if row is None else read(row)


def add(session: Session, actor: Actor, name: str, role: Role, secret: str = "", subject: str | None = None) -> None:
    """Make an account.

    Args:
        session: of a transaction that writes.
        actor: who does.
        name: letters, digits and `._@+-`.
        role: what it may do.
        secret: encoded argon2id; empty: no password.
        subject: `issuer sub`, or of a program its token's digest.

    Raises:
        InvalidConfig: no such name can be, or it is taken.
    """
    check_new(session, name)
    now = stamp(datetime.now(UTC))
    row = AccountRow(name=name, role=role.value, secret=secret, subject=subject, created=now, changed=now)
    row.disabled = False
    session.add(row)
    append(session, actor, "add account", f"account {name}", {"role": role.value, "kind": read(row).kind.value})


def check_new(session: Session, name: str) -> None:
    """Check that an account may be made under a name.

    Raises:
        InvalidConfig: no such name can be, or it is taken.
    """
    if NAME.fullmatch(name) is None or name.casefold() == GUEST:
        cure = "Use 1 to 64 letters, digits and `._@+-`, a letter or digit first; `guest` is nobody's."
        raise InvalidConfig(f"an account cannot be called {name[:64]!r}.", cure)
    if session.get(AccountRow, name) is not None:
        raise InvalidConfig(f"there is an account {name!r} already.", "Choose another name, or change that one.")


def add_token(session: Session, actor: Actor, name: str, role: Role) -> str:
    """Make an account for a program; its bearer token, which is kept nowhere.

    Raises:
        InvalidConfig: as for `add`.
    """
    token = _PREFIX + secrets.token_urlsafe(32)
    add(session, actor, name, role, subject=_TOKEN + digest_of(token))
    return token


def set_role(session: Session, actor: Actor, name: str, role: Role) -> None:
    """Give an account another role.

    Raises:
        UnknownName: no such account.
    """
    row = _changing(session, name)
    before, row.role = row.role, role.value
    append(session, actor, "change role", f"account {name}", {"from": before, "to": role.value})


def set_password(session: Session, actor: Actor, name: str, secret: str) -> None:
    """Give an account another password.

    Raises:
        UnknownName: no such account.
        InvalidConfig: it is not one that logs in with a password.
    """
    row = _changing(session, name)
    if read(row).kind is not Kind.PASSWORD:
        raise InvalidConfig(f"the account {name!r} logs in without a password of ours.", "Make another one for it.")
    row.secret = secret
    append(session, actor, "change password", f"account {name}", {})


def set_disabled(session: Session, actor: Actor, name: str, disabled: bool) -> None:
    """Let an account in no more, or again.

    Raises:
        UnknownName: no such account.
    """
    row = _changing(session, name)
    row.disabled = disabled
    append(session, actor, "disable account" if disabled else "enable account", f"account {name}", {})


def _changing(session: Session, name: str) -> AccountRow:
    row = get(session, name)
    if row is None:
        known = [account.name for account in listed(session)]
        raise UnknownName("account", name[:64], known[:20])
    row.changed = max(stamp(datetime.now(UTC)), row.changed)
    sessions.end_all(session, name)
    return row
