"""Logging in to the console: passwords, sessions, what ends them, and what the audit log says of it."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from server.console import accounts, passwords
from server.console.app import create_app
from server.console.problems import Denied
from server.console.roles import Role
from server.console.settings import ConsoleSettings, Limits
from server.store import auditlog, database
from shared.errors import InvalidConfig
from tests.support.console import NOBODY, PATIENT, Browser, Clock, Site, site
from tests.support.old_store import released

WORD = "a long enough sentence"
FEW = dataclasses.replace(PATIENT, tries=3)


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """argon2id as in earnest, with a hundredth of its cost."""
    monkeypatch.setattr(passwords, "HASHER", PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1))
    passwords._nobodys.cache_clear()


def add(place: Site, name: str = "ada", role: Role = Role.OPERATOR, password: str = WORD) -> None:
    with place.store.session(writes=True) as session:
        accounts.add(session, NOBODY, name, role, passwords.hashed(password, name))


def log_in(browser: Browser, name: str = "ada", password: str = WORD, target: str = "/") -> int:
    return browser.post("/login", data={"name": name, "password": password, "next": target}).status_code


def is_in(browser: Browser) -> bool:
    return browser.get("/api/v1/me").status_code == 200


@pytest.fixture
def place(tmp_path: Path) -> Site:
    made = site(tmp_path)
    add(made)
    return made


def test_a_login_gives_a_session_and_sends_on_to_the_page_that_was_wanted(place: Site) -> None:
    browser = place.browser()
    wanted = browser.get("/runs/a?x=1")
    assert (wanted.status_code, wanted.headers["location"]) == (303, "/login?next=%2Fruns%2Fa%3Fx%3D1")
    answer = browser.post("/login", data={"name": "ada", "password": WORD, "next": "/runs/a?x=1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/a?x=1")
    assert browser.get("/api/v1/me").json()["role"] == "operator"


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "\n//x", "evil", "/login"]
)
def test_a_login_sends_nowhere_else(target: str, place: Site) -> None:
    answer = place.browser().post("/login", data={"name": "ada", "password": WORD, "next": target})
    assert answer.headers["location"] == "/"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(place: Site, tmp_path: Path) -> None:
    plain = place.browser().post("/login", data={"name": "ada", "password": WORD}).headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(plain.split("; "))
    assert "Domain" not in plain
    behind_tls = site(tmp_path, secure=True).browser(base="https://localhost")
    kept = behind_tls.post("/login", data={"name": "ada", "password": WORD}).headers["set-cookie"]
    assert kept.startswith("__Host-crossplant-")
    assert "Secure" in kept.split("; ")


def test_the_database_holds_nothing_to_log_in_with(place: Site) -> None:
    browser = place.browser()
    log_in(browser)
    token = browser.cookies[place.app.state.cookie]
    with sqlite3.connect(place.store.folder / "rounds.sqlite") as connection:
        dump = "\n".join(connection.iterdump())
    assert token not in dump
    assert WORD not in dump
    assert "$argon2id$" in dump


def test_each_login_has_a_token_of_its_own_and_ends_the_one_before(place: Site) -> None:
    browser = place.browser()
    log_in(browser)
    first = browser.cookies[place.app.state.cookie]
    log_in(browser)
    assert browser.cookies[place.app.state.cookie] != first
    with_first = place.browser()
    with_first.cookies.set(place.app.state.cookie, first)
    assert not is_in(with_first)


def test_a_token_that_a_browser_brings_along_is_never_made_a_session(place: Site) -> None:
    browser = place.browser()
    browser.cookies.set(place.app.state.cookie, "planted", domain="localhost.local")
    assert log_in(browser) == 303
    assert "planted" not in browser.cookies[place.app.state.cookie]
    other = place.browser()
    other.cookies.set(place.app.state.cookie, "planted")
    assert not is_in(other)


def test_logging_out_ends_the_session_and_not_only_its_cookie(place: Site) -> None:
    browser = place.browser(Role.VIEWER)
    token = browser.cookies[place.app.state.cookie]
    assert browser.post("/logout").headers["location"] == "/login"
    again = place.browser()
    again.cookies.set(place.app.state.cookie, token)
    assert not is_in(again)


def test_a_session_ends_when_it_is_not_used_and_at_last_in_any_case(tmp_path: Path) -> None:
    clock = Clock()
    place = site(tmp_path, now=clock)
    place.log_in("viewer", Role.VIEWER)
    clock.now = clock.now.replace(year=2100)  # after what the account was made by, the real clock
    idle, used = place.browser(Role.VIEWER), place.browser(Role.VIEWER)
    for _ in range(3):
        clock.pass_by(hours=7)
        assert is_in(used)
    assert not is_in(idle)
    clock.pass_by(hours=2, minutes=59)
    assert is_in(used)
    clock.pass_by(minutes=2)
    assert not is_in(used)


def test_a_database_that_stays_locked_is_waited_for_once_and_not_by_every_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    place = site(tmp_path, now=clock)
    place.log_in("viewer", Role.VIEWER)
    clock.now = clock.now.replace(year=2100)  # after what the account was made by, the real clock
    browser = place.browser(Role.VIEWER)
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    with closing(sqlite3.connect(place.store.folder / "rounds.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        clock.pass_by(minutes=2)
        assert [is_in(browser) for _ in range(3)] == [True] * 3
        assert caplog.text.count("use was not noted") == 1
        other.execute("ROLLBACK")
    clock.pass_by(minutes=2)
    assert is_in(browser)
    clock.pass_by(hours=7, minutes=58)
    assert is_in(browser), "its use is noted again"


@pytest.mark.parametrize("change", ["password", "role", "disable"])
def test_a_change_of_the_account_ends_its_sessions(change: str, place: Site) -> None:
    browser = place.browser()
    log_in(browser)
    assert is_in(browser)
    with place.store.session(writes=True) as session:
        if change == "password":
            accounts.set_password(session, NOBODY, "ada", passwords.hashed("another long sentence"))
        elif change == "role":
            accounts.set_role(session, NOBODY, "ada", Role.VIEWER)
        else:
            accounts.set_disabled(session, NOBODY, "ada", True)
    assert not is_in(browser)
    assert log_in(browser) == (303 if change == "role" else 401)


def test_a_session_in_memory_ends_with_a_change_too(place: Site, tmp_path: Path) -> None:
    looking = site(tmp_path, read_only=True)
    browser = looking.browser()
    log_in(browser)
    assert is_in(browser)
    with place.store.session(writes=True) as session:
        accounts.set_role(session, NOBODY, "ada", Role.VIEWER)
    assert not is_in(browser)


def test_a_wrong_password_and_an_unknown_name_are_told_alike(place: Site) -> None:
    browser = place.browser()
    texts = []
    for name in ("ada", "nobody", "", "\x00", "x" * 5000):
        answer = browser.post("/login", data={"name": name, "password": "wrong"})
        assert answer.status_code == 401
        texts.append(answer.text.replace(f'value="{name}"', 'value=""'))
    assert texts[0] == texts[1]


def test_an_unknown_name_costs_a_hash_like_a_known_one(place: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that it takes would tell which names there are."""
    asked = []

    class Counting(PasswordHasher):
        def verify(self, secret: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
            asked.append(str(secret)[:40])
            return super().verify(secret, password)

    monkeypatch.setattr(passwords, "HASHER", Counting(time_cost=1, memory_cost=1024, parallelism=1))
    with place.store.session(writes=True) as session:
        accounts.add(session, NOBODY, "vouched", Role.VIEWER, subject="https://id x")
        accounts.add(session, NOBODY, "off", Role.VIEWER, passwords.hashed(WORD))
        accounts.set_disabled(session, NOBODY, "off", True)
    for name in ("ada", "nobody", "vouched", "off"):
        assert log_in(place.browser(), name, "wrong") == 401
    assert len(asked) == 4
    assert len({secret.split("$")[3] for secret in asked}) == 1, "the same parameters, so the same time"


def test_an_account_without_a_password_lets_nobody_in_by_one(place: Site) -> None:
    with place.store.session(writes=True) as session:
        accounts.add(session, NOBODY, "vouched", Role.ADMIN, subject="https://id x")
    assert log_in(place.browser(), "vouched", "") == 401


def test_a_secret_of_older_parameters_is_made_anew_at_the_next_login(
    place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "HASHER", PasswordHasher(time_cost=2, memory_cost=2048, parallelism=1))
    assert log_in(place.browser()) == 303
    with place.store.session() as session:
        row = accounts.get(session, "ada")
        assert row is not None
        assert "m=2048,t=2,p=1" in row.secret
    assert log_in(place.browser()) == 303


@pytest.mark.parametrize(
    "password",
    [
        "",
        "short",
        "x" * 11,
        "passwordpassword",
        "Administrator",
        "aaaaaaaaaaaaaaaa",
        "abcabcabcabc",
        "adaadaadaada",
        "x7" + "abcd" * 64,
        "a sentence\x00 and more",
    ],
)
def test_a_password_that_is_tried_first_is_none(password: str) -> None:
    with pytest.raises(InvalidConfig):
        passwords.hashed(password, "ada")


@pytest.mark.parametrize("password", ["twelve chars", "ein sehr langer Satz mit ß und 漢字", "abcd" * 64])
def test_a_long_password_of_any_script_is_one(password: str) -> None:
    assert passwords.matches(passwords.hashed(password), password)
    assert not passwords.matches(passwords.hashed(password), password + "x")
    assert not passwords.matches(passwords.hashed(password), password[:-1])


def test_failed_logins_make_the_name_and_the_address_wait(tmp_path: Path) -> None:
    place = site(tmp_path, limits=FEW)
    add(place)
    browser = place.browser()
    assert [log_in(browser, "ada", "wrong") for _ in range(4)] == [401] * 4
    answer = browser.post("/login", data={"name": "ada", "password": WORD})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert log_in(browser, "another") == 429, "the address waits, whatever the name"
    elsewhere = place.browser(address="10.0.0.7")
    assert log_in(elsewhere) == 303, "from elsewhere the owner gets in"


def test_a_name_that_is_tried_from_everywhere_waits_too(tmp_path: Path) -> None:
    place = site(tmp_path, limits=FEW)
    add(place)
    tries = [log_in(place.browser(address=f"10.0.{n}.1"), "ada", "wrong") for n in range(7)]
    assert tries == [401] * 7
    assert log_in(place.browser(address="10.1.0.1")) == 429


def test_guesses_at_the_same_time_are_counted_before_they_are_looked_at(tmp_path: Path) -> None:
    place = site(tmp_path, limits=FEW)
    add(place)
    access, together, told = place.app.state.access, threading.Barrier(12), []

    def guess() -> None:
        together.wait()
        with pytest.raises(Denied) as denied:
            access.log_in("ada", "wrong", "10.0.0.1")
        told.append(denied.value.status)

    guessers = [threading.Thread(target=guess) for _ in range(12)]
    for guesser in guessers:
        guesser.start()
    for guesser in guessers:
        guesser.join()
    assert sorted(told) == [401] * 4 + [429] * 8


def test_an_account_of_ones_own_does_not_make_an_address_free_again(tmp_path: Path) -> None:
    place = site(tmp_path, limits=FEW)
    add(place)
    add(place, "mallory")
    browser = place.browser()
    tries = [log_in(browser, name, WORD if name == "mallory" else "wrong") for name in ("x", "y", "mallory", "z", "w")]
    assert tries == [401, 401, 303, 401, 401]
    assert log_in(browser, "v", "wrong") == 429


def test_who_guesses_at_a_name_from_everywhere_does_not_keep_its_owner_out(tmp_path: Path) -> None:
    place = site(tmp_path, limits=FEW)
    add(place)
    owner = place.browser(address="10.9.9.9")
    assert log_in(owner) == 303
    for n in range(9):
        log_in(place.browser(address=f"10.0.{n}.1"), "ada", "wrong")
    assert log_in(place.browser(address="10.1.0.1")) == 429
    assert log_in(owner) == 303


def test_every_login_and_change_is_in_the_log_and_the_chain_holds(place: Site) -> None:
    browser = place.browser(address="10.1.2.3")
    log_in(browser, password="wrong")
    log_in(browser, "no-such", "wrong")
    log_in(browser)
    browser.headers["X-CSRF-Token"] = browser.get("/api/v1/me").json()["csrf"]
    browser.post("/logout")
    log = [(entry.action, entry.who, entry.target) for entry in reversed(place.log())]
    assert log == [
        ("add account", "os:test", "account ada"),
        ("refuse login", "console", "account ada"),
        ("refuse login", "console", "no such account"),
        ("log in", "ada", "account ada"),
        ("log out", "ada", "account ada"),
    ]
    assert place.log()[1].detail == {"address": "10.1.2.3"}
    with place.store.session() as session:
        assert auditlog.verify(session).broken is None


def test_a_name_that_is_no_account_is_not_written_down_for_it_may_be_a_password(place: Site) -> None:
    log_in(place.browser(), "my secret sentence", "")
    assert "my secret sentence" not in str(place.log())


def test_failed_logins_do_not_fill_the_log(tmp_path: Path) -> None:
    place = site(tmp_path, limits=dataclasses.replace(PATIENT, tries=10**6))
    for _ in range(40):
        log_in(place.browser(), "x", "wrong")
    assert len(place.log()) == 20


def test_a_read_only_console_writes_nothing_at_all(place: Site, tmp_path: Path) -> None:
    before = place.log()
    looking = site(tmp_path, read_only=True)
    with sqlite3.connect(place.store.folder / "rounds.sqlite") as connection:
        was = "\n".join(connection.iterdump())
        browser = looking.browser()
        log_in(browser, password="wrong")
        assert log_in(browser) == 303
        assert is_in(browser)
        browser.headers["X-CSRF-Token"] = browser.get("/api/v1/me").json()["csrf"]
        order = browser.post("/api/v1/runs/a/orders", json={"action": "follow", "why": "x"})
        assert (order.status_code, order.json()["detail"]) == (403, "This console is read-only.")
        assert browser.post("/logout").status_code == 303
        assert not is_in(browser)
        assert "\n".join(connection.iterdump()) == was
    assert place.log() == before


def test_the_link_of_the_first_start_lets_one_browser_look_once(tmp_path: Path) -> None:
    place = site(tmp_path)
    assert place.app.state.access.nobody_yet()
    once = place.app.state.access.offer_look()
    first, second = place.browser(), place.browser()
    assert second.get("/login?once=wrong").status_code == 401
    assert first.get(f"/login?once={once}&next=/runs/a").headers["location"] == "/runs/a"
    assert first.get("/api/v1/me").json() | {"csrf": ""} == {
        "name": "guest", "role": "viewer", "csrf": "", "read_only": False,
    }  # fmt: skip
    assert second.get(f"/login?once={once}").status_code == 401
    assert not is_in(second)
    assert place.log() == []


def test_the_link_of_the_first_start_is_void_once_there_is_an_account(tmp_path: Path) -> None:
    """It stays in the terminal's scrollback, or in a journal that others read."""
    place = site(tmp_path)
    once = place.app.state.access.offer_look()
    add(place)
    late = place.browser()
    answer = late.get(f"/login?once={once}")
    assert (answer.status_code, is_in(late)) == (401, False)
    assert log_in(late) == 303


def test_a_store_that_is_older_than_accounts_can_be_looked_at(tmp_path: Path) -> None:
    """Read-only, which makes no tables: what a medium that cannot be written needs."""
    released(tmp_path / "old")
    settings = ConsoleSettings(read_only=True, limits=PATIENT)
    app = create_app(str(tmp_path / "old"), settings)
    assert app.state.access.nobody_yet()
    browser, program = Browser(app), Browser(app)
    program.headers["Authorization"] = "Bearer cpt_x"
    assert (log_in(browser, "ada", "wrong"), is_in(program)) == (401, False)
    assert browser.get(f"/login?once={app.state.access.offer_look()}").status_code == 303
    (run,) = (one["name"] for one in browser.get("/api/v1/runs").json()["items"])
    pages = ("/", f"/runs/{run}", f"/runs/{run}/registry", f"/runs/{run}/matrix", f"/runs/{run}/rounds/3")
    for page in (*pages, f"/runs/{run}/plants", "/audit", "/metrics", "/healthz", "/api/v1/audit"):
        assert browser.get(page).status_code == 200, page


def test_the_link_of_an_earlier_start_or_none_opens_nothing(tmp_path: Path) -> None:
    place = site(tmp_path)
    assert place.browser().get("/login?once=").status_code == 200
    assert not is_in(place.browser())
    old = place.app.state.access.offer_look()
    place.app.state.access.offer_look()
    assert place.browser().get(f"/login?once={old}").status_code == 401


def test_a_program_needs_its_bearer_token_and_no_other(place: Site) -> None:
    with place.store.session(writes=True) as session:
        token = accounts.add_token(session, NOBODY, "board", Role.OPERATOR)
    program = place.browser()
    program.headers["Authorization"] = f"Bearer {token}"
    assert program.get("/api/v1/me").json() | {"role": ""} == {
        "name": "board",
        "role": "",
        "csrf": "",
        "read_only": False,
    }
    made = program.post("/api/v1/runs/a/orders", json={"action": "promote", "number": 3, "why": "better"})
    assert made.status_code == 201, made.text
    for wrong in (token[:-1], token.upper(), "", "cpt_", "x" * 9999):
        program.headers["Authorization"] = f"Bearer {wrong}"
        assert not is_in(program)
    program.headers["Authorization"] = f"Bearer {token}"
    with place.store.session(writes=True) as session:
        accounts.set_disabled(session, NOBODY, "board", True)
    assert not is_in(program)


def test_one_changes_ones_own_password_and_stays_in(place: Site) -> None:
    browser, other = place.browser(), place.browser()
    log_in(browser)
    log_in(other)
    browser.headers["X-CSRF-Token"] = browser.get("/api/v1/me").json()["csrf"]
    new = {"new": "quite another sentence", "again": "quite another sentence"}
    assert browser.post("/account/password", data={"password": "wrong", **new}).status_code == 401
    assert (
        browser.post("/account/password", data={"password": WORD, "new": "short", "again": "short"}).status_code == 422
    )
    assert browser.post("/account/password", data={"password": WORD, **new | {"again": "x"}}).status_code == 422
    assert browser.post("/account/password", data={"password": WORD, **new}).status_code == 303
    assert is_in(browser)
    assert not is_in(other)
    assert log_in(place.browser(), password=WORD) == 401
    assert log_in(place.browser(), password=new["new"]) == 303


def test_an_admin_keeps_the_accounts_and_cannot_lock_themself_out(place: Site) -> None:
    admin = place.browser(Role.ADMIN)
    assert admin.get("/accounts").status_code == 200

    def change(what: str, **fields: str) -> int:
        return admin.post(f"/accounts/{what}", data=fields).status_code

    assert change("add", name="bob", role="viewer", password="bob has a sentence") == 303
    assert log_in(place.browser(), "bob", "bob has a sentence") == 303
    assert change("role", name="bob", role="operator") == 303
    assert change("password", name="bob", password="bob has another one") == 303
    assert log_in(place.browser(), "bob", "bob has another one") == 303
    assert change("disable", name="bob") == 303
    assert log_in(place.browser(), "bob", "bob has another one") == 401
    assert change("enable", name="bob") == 303
    assert "cpt_" in admin.post("/accounts/token", data={"name": "board", "role": "viewer"}).text
    for what, fields in (
        ("add", {"name": "bob", "role": "viewer", "password": WORD}),
        ("add", {"name": "<b>", "role": "viewer", "password": WORD}),
        ("add", {"name": "guest", "role": "viewer", "password": WORD}),
        ("add", {"name": "eve", "role": "root", "password": WORD}),
        ("add", {"name": "eve", "role": "viewer", "password": "short"}),
        ("role", {"name": "nobody", "role": "viewer"}),
        ("role", {"name": "admin", "role": "viewer"}),
        ("disable", {"name": "admin"}),
        ("password", {"name": "board", "password": WORD}),
        ("drop", {"name": "bob"}),
    ):
        assert change(what, **fields) == 422, (what, fields)


def test_the_limits_of_one_visitor_are_told_with_a_time(tmp_path: Path) -> None:
    place = site(tmp_path, limits=Limits(rate_per_s=0.001, burst=3))
    browser, stranger = place.browser(Role.VIEWER), place.browser()
    assert [browser.get("/api/v1/me").status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = browser.get("/api/v1/me")
    assert int(answer.headers["retry-after"]) > 60
    assert answer.headers["content-type"] == "application/problem+json"
    assert [stranger.get("/login").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert place.browser(Role.VIEWER, name="another").get("/api/v1/me").status_code == 200
    assert place.browser(address="10.0.0.2").get("/login").status_code == 200
