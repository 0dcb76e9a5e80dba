"""Who is let in: logins, sessions, tokens. What is refused is counted, and what is entered in the log is bounded.

A read-only console writes nothing to the store: its sessions are in memory and end with it, and its logins are told on
stderr instead of in the audit log.
"""

from __future__ import annotations

import logging
import math
import secrets
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from server.console import accounts, passwords, sessions
from server.console.accounts import Account
from server.console.context import Role, User
from server.console.limits import Backoff, Buckets, block_of
from server.console.problems import Denied
from server.console.sessions import Held, Opens, Ticket
from server.console.settings import ConsoleSettings
from server.store.auditlog import Actor, append
from server.store.store import RoundStore
from server.store.tables import AccountRow
from shared.errors import StoreError

_LOG = logging.getLogger(__name__)
_WRONG = "The name or the password is wrong."
_NAME_LONGEST_S = 30.0
"""Whoever knows an account's name can make its owner wait that long, where they did not log in before."""
_ADDRESS_LONGEST_S = 900.0
_ENTRIES_AT_ONCE, _ENTRY_EVERY_S = 20, 180.0


class Access:
    """The door of one console.

    Args:
        store: that has the accounts.
        settings: of the console.
    """

    def __init__(self, store: RoundStore, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._store: Opens = store.session
        self._guests = sessions.in_memory()
        self._people: Opens = sessions.in_memory() if settings.read_only else store.session
        limits = settings.limits
        self._names = Backoff(2 * limits.tries, 1.0, _NAME_LONGEST_S, limits.keys)
        self._addresses = Backoff(limits.tries, 1.0, _ADDRESS_LONGEST_S, limits.keys)
        self._proven: dict[tuple[str, str], None] = {}
        self._entries = Buckets(1 / _ENTRY_EVERY_S, _ENTRIES_AT_ONCE, 1)
        self._untold = 0
        self._untouched_until = datetime.min.replace(tzinfo=UTC)
        self._once = ""

    # ---- who is asking ----

    def user(self, token: str) -> User | None:
        """Who a session's token belongs to; None when it does not hold."""
        now, idle = self._settings.now(), self._settings.idle
        with self._guests() as session:
            guest = sessions.find(session, token, now, idle)
        if guest is not None:
            self._touch(self._guests, token, guest, now)
            return User(accounts.GUEST, Role.VIEWER, guest.csrf)
        with self._people() as session:
            held = sessions.find(session, token, now, idle)
            account = None if held is None or self._settings.read_only else _account(session, held.account)
        if held is None:
            return None
        if self._settings.read_only:
            with self._store() as session:
                account = _account(session, held.account)
        if account is None or account.disabled or held.created < account.changed:
            return None
        self._touch(self._people, token, held, now)
        return User(account.name, account.role, held.csrf)

    def program(self, token: str) -> User | None:
        """Which program a bearer token belongs to."""
        with self._store() as session:
            account = accounts.by_token(session, token)
        return None if account is None or account.disabled else User(account.name, account.role, "")

    def nobody_yet(self) -> bool:
        """Whether there is no account for a person."""
        with self._store() as session:
            return not accounts.any_there(session)

    def _touch(self, opens: Opens, token: str, held: Held, now: datetime) -> None:
        if not sessions.stale(held, now) or now < self._untouched_until:
            return
        try:
            with opens(writes=True) as session:
                sessions.touch(session, token, now)
        except StoreError as error:  # a database that is locked just now, or a full disk, is no reason to show nothing
            self._untouched_until = now + sessions.TOUCH  # nor to have each page wait for it
            _LOG.warning("a session's use was not noted: %s", error)

    # ---- in and out ----

    def log_in(self, name: str, password: str, address: str) -> Ticket:
        """Begin a session of a local account.

        Raises:
            Denied: 401 for a wrong name or password; 429 when too many were wrong.
        """
        secret = self.check_password(name, password, address)
        fresh = passwords.rehashed(password) if passwords.outdated(secret) else secret
        return self._begin(name, secret, fresh, {"address": address})

    def check_password(self, name: str, password: str, address: str) -> str:
        """See that a password is the account's; the secret that it matches.

        Raises:
            Denied: as for `log_in`.
        """
        key, block = name.casefold()[:64], block_of(address)
        proven = (name, block) in self._proven
        if (wait := self._addresses.begin(block)) > 0:
            raise too_often(wait, "Too many logins failed.")
        if not proven and (wait := self._names.begin(key)) > 0:
            self._addresses.undo(block)
            raise too_often(wait, "Too many logins failed.")
        with self._store() as session:
            row = accounts.get(session, name) if accounts.kept(session) else None
            known, secret = row is not None, "" if row is None or row.disabled else row.secret
        if not passwords.matches(secret, password):
            self._note_refusal(name if known else "", address)
            raise Denied(401, _WRONG, "Try again; an admin can set a new password.")
        self._addresses.undo(block)  # whoever has an account here may still guess at others
        if not proven:
            self._names.clear(key)
            self._prove(name, block)
        return secret

    def _prove(self, name: str, block: str) -> None:
        """Guesses from elsewhere no longer make the owner wait where they logged in before."""
        self._proven[name, block] = None
        while len(self._proven) > self._settings.limits.keys:
            self._proven.pop(next(iter(self._proven)), None)

    def _begin(self, name: str, secret: str, fresh: str, detail: dict[str, str]) -> Ticket:
        if self._settings.read_only:
            with self._people(writes=True) as session:
                return self._start(session, name)
        with self._people(writes=True) as session:
            row = accounts.get(session, name)
            if row is None or row.disabled or row.secret != secret:  # changed while the password was looked at
                raise Denied(401, _WRONG, "Try again.")
            row.secret = fresh
            append(session, Actor(name, row.role), "log in", f"account {name}", detail)
            return self._start(session, name)

    def _start(self, session: Session, name: str) -> Ticket:
        return sessions.start(session, name, self._settings.now(), self._settings.longest)

    def vouched(self, subject: str, name: str, role: Role, address: str) -> Ticket:
        """Begin a session of somebody whom the provider vouches for; the account is made, or follows its role.

        Args:
            subject: `issuer sub`.
            name: that the provider tells, for an account that is new.
            role: that its claims give.
            address: where the browser is.

        Raises:
            Denied: 403: the account is disabled, or was never seen and the console is read-only.
        """
        with self._store() as session:
            account = accounts.by_subject(session, subject)
        if account is not None and account.disabled:
            raise Denied(403, f"The account {account.name} is disabled.", "An admin can enable it.")
        if self._settings.read_only:
            if account is None or account.role is not role:
                raise Denied(403, "This console is read-only and does not know you in this role.", "Log in elsewhere.")
        else:
            account = self._linked(account, subject, name, role)
        return self._begin(account.name, "", "", {"address": address, "issuer": subject.split(" ")[0]})

    def _linked(self, account: Account | None, subject: str, name: str, role: Role) -> Account:
        actor = Actor("issuer", "system")
        with self._store(writes=True) as session:
            if account is None:
                accounts.add(session, actor, _free(session, name), role, subject=subject)
            elif account.role is not role:
                accounts.set_role(session, actor, account.name, role)
            found = accounts.by_subject(session, subject)
            assert found is not None
            return found

    def log_out(self, token: str) -> None:
        """End a session."""
        with self._guests(writes=True) as session:
            if sessions.end(session, token) is not None:
                return
        with self._people() as session:  # a token that was made up takes no lock
            if sessions.find(session, token, self._settings.now(), self._settings.longest) is None:
                return
        with self._people(writes=True) as session:
            name = sessions.end(session, token)
            row = None if name is None or self._settings.read_only else accounts.get(session, name)
            if row is not None:
                append(session, Actor(row.name, row.role), "log out", f"account {row.name}", {})

    # ---- the first look ----

    def offer_look(self) -> str:
        """Make the token that lets one browser look around once."""
        self._once = secrets.token_urlsafe(24)
        return self._once

    def look(self, once: str, address: str) -> Ticket:
        """Begin a session that looks around and changes nothing; the token is spent.

        Raises:
            Denied: 401: it is not the token, or was used; 429.
        """
        if (wait := self._addresses.wait(block_of(address))) > 0:
            raise too_often(wait, "Too many logins failed.")
        offered, given = self._once.encode(), once.encode("utf-8", "replace")
        if not offered or not secrets.compare_digest(offered, given):
            self._addresses.fail(block_of(address))
            raise Denied(401, "This link was used already, or is of an earlier start.", "Start the console again.")
        self._once = ""
        if not self.nobody_yet():
            raise Denied(401, "This link held until there was an account.", "Log in with one.")
        with self._guests(writes=True) as session:
            return self._start(session, accounts.GUEST)

    # ---- the log ----

    def _note_refusal(self, name: str, address: str) -> None:
        """Enter a failed login. A name that no account has is not told: it may be a password in the wrong field."""
        _LOG.warning("a login failed, from %s", address)
        self._untold += 1
        if self._settings.read_only or self._entries.wait("") > 0:
            return
        detail = {"address": address, "failed_since_last_entry": self._untold}
        target = f"account {name}" if name else "no such account"
        try:
            with self._store(writes=True) as session:
                append(session, Actor("console", "system"), "refuse login", target, detail)
            self._untold = 0
        except StoreError as error:
            _LOG.warning("a failed login was not entered in the audit log: %s", error)


def too_often(wait_s: float, cause: str) -> Denied:
    """What somebody hears who asks too often."""
    seconds = max(1, math.ceil(wait_s))
    return Denied(429, cause, f"Try again in {seconds} s.", {"Retry-After": str(seconds)})


def _account(session: Session, name: str) -> Account | None:
    row = accounts.get(session, name)
    return None if row is None else accounts.read(row)


def _free(session: Session, name: str) -> str:
    """A name for a new account that is like the one that was told, and is free."""
    base = "".join(c if accounts.NAME.fullmatch("a" + c) else "-" for c in name)[:50].lstrip("._@+-") or "person"
    tries = [base, *(f"{base}-{n}" for n in range(2, 100)), f"{base}-{secrets.token_hex(4)}"]
    return next(one for one in tries if one.casefold() != accounts.GUEST and session.get(AccountRow, one) is None)
