"""Who is let in when something changes meanwhile, and how long a memory guesses leave."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.console import accounts, passwords
from server.console.access import Access
from server.console.limits import Backoff
from server.console.problems import Denied
from server.console.roles import Role
from tests.support.console import NOBODY, PATIENT, Site, site

WORD = "a long enough sentence"
FEW = dataclasses.replace(PATIENT, tries=2)
HERE, THERE = "10.0.0.1", "10.0.0.2"


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a password costs is looked at elsewhere (`test_console_access`)."""
    monkeypatch.setattr(passwords, "matches", lambda secret, password: secret == f"secret of {password}")
    monkeypatch.setattr(passwords, "outdated", lambda secret: False)


def access_of(place: Site) -> Access:
    found: Access = place.app.state.access
    return found


def add(place: Site, name: str = "ada") -> None:
    with place.store.session(writes=True) as session:
        accounts.add(session, NOBODY, name, Role.OPERATOR, f"secret of {WORD}")


def tried(act: Callable[..., Any], *given: str) -> int:
    """200 when it is let in, else the status of the refusal."""
    try:
        act(*given)
    except Denied as denied:
        return denied.status
    return 200


@pytest.mark.parametrize("change", ["password", "disabled", "nothing"])
def test_an_account_that_changes_while_its_password_is_looked_at_lets_nobody_in(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = site(tmp_path)
    add(place)
    matches = passwords.matches

    def slowly(secret: str, password: str) -> bool:
        with place.store.session(writes=True) as session:
            if change == "password":
                accounts.set_password(session, NOBODY, "ada", "secret of another")
            elif change == "disabled":
                accounts.set_disabled(session, NOBODY, "ada", True)
        return matches(secret, password)

    monkeypatch.setattr(passwords, "matches", slowly)
    assert tried(access_of(place).log_in, "ada", WORD, HERE) == (200 if change == "nothing" else 401)
    with place.store.session() as session:
        row = accounts.get(session, "ada")
        assert row is not None
        assert (row.secret == "secret of another") is (change == "password"), "a new password is not undone"


def test_a_read_only_console_takes_nobodys_new_role_on_trust(tmp_path: Path) -> None:
    whole, looking = access_of(site(tmp_path)), access_of(site(tmp_path, read_only=True))
    whole.vouched("https://id ada", "ada", Role.VIEWER, HERE)
    assert tried(looking.vouched, "https://id ada", "ada", Role.VIEWER, HERE) == 200
    assert tried(looking.vouched, "https://id ada", "ada", Role.ADMIN, HERE) == 403
    assert tried(looking.vouched, "https://id eve", "eve", Role.VIEWER, HERE) == 403


@pytest.mark.parametrize("name", ["guest", "Guest", "GUEST"])
def test_nobody_whom_an_issuer_vouches_for_becomes_the_guest(name: str, tmp_path: Path) -> None:
    place = site(tmp_path)
    access_of(place).vouched("https://id x", name, Role.ADMIN, HERE)
    with place.store.session() as session:
        assert [account.name for account in accounts.listed(session)] == [f"{name}-2"]


def test_guesses_at_the_link_of_the_first_start_make_an_address_wait(tmp_path: Path) -> None:
    access = access_of(site(tmp_path))
    access._addresses = Backoff(2, 1.0, 1.0, 10, clock=lambda: 0.0)
    once = access.offer_look()
    assert [tried(access.look, "wrong", HERE) for _ in range(4)] == [401, 401, 401, 429]
    assert tried(access.look, once, HERE) == 429
    assert tried(access.look, once, THERE) == 200


def test_a_guest_who_logs_out_is_out(tmp_path: Path) -> None:
    access = access_of(site(tmp_path))
    ticket = access.look(access.offer_look(), HERE)
    assert access.user(ticket.token) is not None
    access.log_out(ticket.token)
    assert access.user(ticket.token) is None


def test_a_success_ends_the_wait_of_a_name_and_not_that_of_the_address(tmp_path: Path) -> None:
    place = site(tmp_path, limits=dataclasses.replace(FEW, tries=3))
    add(place)
    access = access_of(place)
    for turn in range(3):  # six wrong ones in a row would be too many for a name
        tries = [tried(access.log_in, "ada", "wrong", f"10.{turn}.{n}.1") for n in range(5)]
        assert tries == [401] * 5
        assert tried(access.log_in, "ada", WORD, f"10.{turn}.9.1") == 200


def test_who_meets_a_name_that_waits_has_not_guessed(tmp_path: Path) -> None:
    place = site(tmp_path, limits=FEW)
    add(place)
    add(place, "bob")
    access = access_of(place)
    access._names = Backoff(2, 1.0, 1.0, 10, clock=lambda: 0.0)
    for n in range(3):
        tried(access.log_in, "ada", "wrong", f"10.1.{n}.1")
    assert [tried(access.log_in, "ada", WORD, HERE) for _ in range(9)] == [429] * 9
    assert tried(access.log_in, "bob", WORD, HERE) == 200


def test_who_logged_in_where_is_remembered_of_so_many_and_no_more(tmp_path: Path) -> None:
    place = site(tmp_path, limits=dataclasses.replace(PATIENT, keys=3))
    add(place)
    access = access_of(place)
    for n in range(9):
        assert tried(access.log_in, "ada", WORD, f"10.1.{n}.1") == 200
    assert list(access._proven) == [("ada", f"10.1.{n}.1") for n in (6, 7, 8)]


def test_an_entry_tells_how_many_logins_failed_since_the_last(tmp_path: Path) -> None:
    place = site(tmp_path, limits=dataclasses.replace(PATIENT, tries=10**6))
    access = access_of(place)
    for _ in range(3):
        tried(access.log_in, "x", "wrong", HERE)
    assert [entry.detail["failed_since_last_entry"] for entry in place.log()] == [1, 1, 1]
    access._entries.wait = lambda key: 60.0  # type: ignore[method-assign]
    for _ in range(4):
        tried(access.log_in, "x", "wrong", HERE)
    del access._entries.wait
    tried(access.log_in, "x", "wrong", HERE)
    assert [entry.detail["failed_since_last_entry"] for entry in place.log()] == [5, 1, 1, 1]
